//! What a crash left behind: cut at the first bad batch, sealed, or set aside. Never stops a start.

use super::directory;
use super::ended::{Ended, end_name};
use super::files::{Files, SystemFiles};
use super::format::{self, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES, Header};
use crate::base::file;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What recovery found in all shard directories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Segments that were not sealed and are now.
    pub segments: u64,
    /// Bytes kept in those.
    pub kept_bytes: u64,
    /// Bytes cut off (torn or damaged batches at their ends; unused reserved space does not count).
    pub cut_bytes: u64,
    /// Segments set aside as `.damaged`.
    pub damaged: u64,
    /// Segments that another process is writing: left alone.
    pub live: u64,
    /// One line for each thing an operator wants to know.
    pub messages: Vec<String>,
}

/// Goes through the segments of every shard directory under `journal`, newest first, until three are sealed.
/// Reads only the ends of what is sealed, so a start after a clean stop costs next to nothing.
#[must_use]
pub fn recover(journal: &Path) -> Recovered {
    let mut all = Recovered::default();
    match directory::shards(journal) {
        Ok(shards) => shards.iter().for_each(|(_, dir)| recover_dir(dir, &mut all)),
        Err(e) => all.messages.push(format!("cannot list journal {}: {e}", journal.display())),
    }
    all
}

fn recover_dir(dir: &Path, all: &mut Recovered) {
    let segments = match directory::segments(dir) {
        Ok(segments) => segments,
        Err(e) => return all.messages.push(format!("cannot list journal {}: {e}", dir.display())),
    };
    // Segments of processes that ran side by side interleave, so one sealed segment is not yet the end of the unsealed.
    let mut sealed = 0;
    let newest = segments.last().copied().unwrap_or(0);
    for &sequence in segments.iter().rev() {
        // Complete, and its file is not to be trusted with another write.
        if matches!(Ended::load(dir, sequence), Ok(Some(_))) {
            continue;
        }
        let path = dir.join(directory::segment_name(sequence));
        match recover_segment(&path, all) {
            Ok(Outcome::Sealed) => sealed += 1,
            Ok(Outcome::Changed) => {}
            Ok(Outcome::Empty) => pass_over(dir, sequence, sequence < newest, all),
            Ok(Outcome::NoHeader) => set_aside(&path, "it has no valid segment header", all),
            Err(e) => all.messages.push(format!("cannot recover journal segment {}: {e}", path.display())),
        }
        if sealed == 3 {
            return;
        }
    }
}

enum Outcome {
    Sealed,
    Changed,
    NoHeader,
    /// Not a byte of it was durable.
    Empty,
}

/// An empty file is removed; where another segment follows, a record says that it holds nothing, since a gap in the numbers
/// would look like a loss.
fn pass_over(dir: &Path, sequence: u64, is_followed: bool, all: &mut Recovered) {
    let path = dir.join(directory::segment_name(sequence));
    let r = if is_followed {
        let (version, version_oldest) = (format::VERSION, format::VERSION_OLDEST);
        let header = Header { version, version_oldest, shard: 0, boot: 0, ordinal: 0, sequence, created_ms: 0 };
        let ended = Ended { header, end_bytes: HEADER_BYTES as u64, heir: 0, moved: Vec::new() };
        SystemFiles.replace(&dir.join(end_name(sequence)), &ended.encode())
    } else {
        std::fs::remove_file(&path)
    };
    if let Err(e) = r {
        all.messages.push(format!("cannot pass over empty journal segment {}: {e}", path.display()));
    }
}

fn set_aside(path: &Path, why: &str, all: &mut Recovered) {
    let aside = path.with_extension("seg.damaged");
    all.damaged += 1;
    all.messages.push(match std::fs::rename(path, &aside) {
        Ok(()) => format!("journal segment {} is set aside as {}: {why}", path.display(), aside.display()),
        Err(e) => format!("journal segment {} cannot be read ({why}) nor set aside: {e}", path.display()),
    });
}

fn recover_segment(path: &Path, all: &mut Recovered) -> io::Result<Outcome> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut head = [0u8; HEADER_BYTES];
    if length >= HEADER_BYTES as u64 {
        file.read_exact_at(&mut head, 0)?;
    }
    let header = Header::decode(&head);
    if header.is_some_and(|h| is_sealed(&file, h.seed(), length).unwrap_or(false)) {
        return Ok(Outcome::Sealed);
    }
    // A file system without locks: better to recover than to leave a tail that nobody ever seals.
    if !file::try_lock(&file).unwrap_or(true) {
        all.live += 1;
        return Ok(Outcome::Changed);
    }
    let Some(header) = header else {
        if length == 0 {
            return Ok(Outcome::Empty);
        }
        return Ok(Outcome::NoHeader);
    };
    let (end, tail_bytes) = intact_end(&file, header.seed(), length)?;
    file.write_all_at(&format::seal(header.seed(), end), end)?;
    file.set_len(end + BATCH_HEADER_BYTES as u64)?;
    file.sync_data()?;
    all.segments += 1;
    all.kept_bytes += end;
    all.cut_bytes += tail_bytes;
    if tail_bytes > 0 {
        all.messages.push(format!(
            "journal segment {} ended in a torn batch: {end} bytes recovered, {tail_bytes} bytes cut",
            path.display()
        ));
    }
    Ok(Outcome::Changed)
}

/// Whether the last bytes of the file seal it.
///
/// # Errors
/// The file system's.
pub fn is_sealed(file: &File, seed: u32, length: u64) -> io::Result<bool> {
    if length < (HEADER_BYTES + BATCH_HEADER_BYTES) as u64 {
        return Ok(false);
    }
    let at = length - BATCH_HEADER_BYTES as u64;
    let mut last = [0u8; BATCH_HEADER_BYTES];
    file.read_exact_at(&mut last, at)?;
    Ok(BatchHeader::decode(&last).is_some_and(|h| h.is_seal()) && format::is_intact(&last, seed, at))
}

/// Where the intact batches end, and how many bytes that are not zero follow.
fn intact_end(file: &File, seed: u32, length: u64) -> io::Result<(u64, u64)> {
    let mut at = HEADER_BYTES as u64;
    let mut batch = Vec::new();
    loop {
        let mut head = [0u8; BATCH_HEADER_BYTES];
        if at + BATCH_HEADER_BYTES as u64 > length {
            break;
        }
        file.read_exact_at(&mut head, at)?;
        let Some(header) = BatchHeader::decode(&head) else { break };
        let bytes = BATCH_HEADER_BYTES + header.payload_bytes as usize;
        if header.is_seal() || bytes > BATCH_BYTES_MAX || at + bytes as u64 > length {
            break;
        }
        batch.resize(bytes, 0);
        file.read_exact_at(&mut batch, at)?;
        if !format::is_intact(&batch, seed, at) {
            break;
        }
        at += bytes as u64;
    }
    Ok((at, used_bytes(file, at, length)?))
}

/// Bytes from `at` to the last one that is not zero.
fn used_bytes(file: &File, at: u64, length: u64) -> io::Result<u64> {
    let mut used = 0;
    let mut piece = vec![0u8; 64 << 10];
    let mut offset = at;
    while offset < length {
        let n = usize::try_from(length - offset).unwrap_or(usize::MAX).min(piece.len());
        file.read_exact_at(&mut piece[..n], offset)?;
        if let Some(last) = piece[..n].iter().rposition(|&b| b != 0) {
            used = offset + last as u64 + 1 - at;
        }
        offset += n as u64;
    }
    Ok(used)
}
