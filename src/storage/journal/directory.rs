//! Names: `<data>/journal/<shard>/NNNNNN.seg`, and what is in a directory.

use super::ended::Ended;
use super::format::{HEADER_BYTES, Header};
use super::recovery::is_sealed;
use crate::base::file::is_locked;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Name of segment `sequence`.
#[must_use]
pub fn segment_name(sequence: u64) -> String {
    format!("{sequence:06}.seg")
}

/// The number in a segment's name; `None` for any other file.
#[must_use]
pub fn segment_number(name: &str) -> Option<u64> {
    digits(name.strip_suffix(".seg")?)
}

/// The number in the name of a segment that was set aside.
fn damaged_number(name: &str) -> Option<u64> {
    digits(name.strip_suffix(".seg.damaged")?)
}

fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Numbers of the segments in a shard's directory, ascending. No directory is no segment.
///
/// # Errors
/// The file system's.
pub fn segments(dir: &Path) -> io::Result<Vec<u64>> {
    numbers(dir, segment_number)
}

/// Largest number that is or was taken, segments that were set aside included.
///
/// # Errors
/// The file system's.
pub fn newest_number(dir: &Path) -> io::Result<u64> {
    let all = numbers(dir, |n| segment_number(n).or_else(|| damaged_number(n)))?;
    Ok(all.last().copied().unwrap_or(0))
}

/// Shard directories under `<data>/journal`, ascending: `(shard, path)`. No directory is no shard.
///
/// # Errors
/// The file system's.
pub fn shards(journal: &Path) -> io::Result<Vec<(u32, PathBuf)>> {
    let all = numbers(journal, |n| digits(n).filter(|&n| u32::try_from(n).is_ok()))?;
    Ok(all.into_iter().map(|n| (n as u32, journal.join(n.to_string()))).filter(|(_, p)| p.is_dir()).collect())
}

fn numbers(dir: &Path, number: impl Fn(&str) -> Option<u64>) -> io::Result<Vec<u64>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut all = Vec::new();
    for entry in entries {
        all.extend(entry?.file_name().to_str().and_then(&number));
    }
    all.sort_unstable();
    Ok(all)
}

/// How a segment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentState {
    /// Complete.
    Sealed,
    /// Complete, and shorter than its file may be: a write or sync of it failed, and the rest stands in another one.
    Ended,
    /// A process is writing it.
    Live,
    /// Its process died; the next start cuts and seals it.
    Unsealed,
}

impl SegmentState {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Ended => "ended",
            Self::Live => "live",
            Self::Unsealed => "unsealed",
        }
    }
}

/// Number, size and state of each segment in a shard's directory; no state for a file without a valid header.
///
/// # Errors
/// The file system's.
pub fn segment_states(dir: &Path) -> io::Result<Vec<(u64, u64, Option<SegmentState>)>> {
    let mut all = Vec::new();
    for number in segments(dir)? {
        // Deleted since it was listed.
        let Ok(file) = File::open(dir.join(segment_name(number))) else { continue };
        let bytes = file.metadata()?.len();
        let mut head = [0u8; HEADER_BYTES];
        let header = file.read_exact_at(&mut head, 0).ok().and_then(|()| Header::decode(&head));
        let state = match header {
            _ if Ended::load(dir, number)?.is_some() => Some(SegmentState::Ended),
            None => None,
            Some(h) if is_sealed(&file, h.seed(), bytes)? => Some(SegmentState::Sealed),
            Some(_) if is_locked(&file).unwrap_or(false) => Some(SegmentState::Live),
            Some(_) => Some(SegmentState::Unsealed),
        };
        all.push((number, bytes, state));
    }
    Ok(all)
}
