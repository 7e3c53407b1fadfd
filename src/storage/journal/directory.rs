//! Names: `<data>/journal/<shard>/NNNNNN.seg`, and what is in a directory.

use std::io;
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
