//! What is in a journal: one line a segment, damage spelled out.

use crate::model::is_absent;
use crate::storage::journal::{self, Cursor, ReadError, Reader, Samples, SegmentState};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io;
use std::path::Path;

/// One segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SegmentReport {
    /// Size of the file.
    pub bytes: u64,
    /// Sealed, ended early, being written, or left by a crash; `None` when it has no header.
    pub state: Option<SegmentState>,
    /// Scrape frames.
    pub scrapes: u64,
    /// Stale frames.
    pub stales: u64,
    /// Samples, markers included.
    pub samples: u64,
    /// Targets in the dictionary.
    pub targets: u64,
    /// Series: slots of each target's last shape.
    pub series: u64,
    /// Distinct schemas in the dictionary.
    pub schemas: u64,
    /// Bytes of dictionary frames.
    pub dictionary_bytes: u64,
    /// Bytes of scrape and stale frames.
    pub sample_bytes: u64,
    /// Earliest and latest scrape time, milliseconds.
    pub times_ms: Option<(i64, i64)>,
    /// What could not be read.
    pub damage: Vec<String>,
}

impl SegmentReport {
    /// All bytes of the segment a sample.
    #[must_use]
    pub fn bytes_per_sample(&self) -> f64 {
        (self.dictionary_bytes + self.sample_bytes) as f64 / self.samples.max(1) as f64
    }
}

/// Segments by (shard directory, number).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Each segment.
    pub segments: BTreeMap<(u32, u64), SegmentReport>,
}

/// Reads every segment under `journal` (`<data>/journal`) from end to end. Works beside a running process.
///
/// # Errors
/// The file system's, when a directory cannot be listed. Damage is part of the report.
pub fn inspect(journal: &Path) -> io::Result<Report> {
    let mut report = Report::default();
    for (shard, dir) in journal::shard_directories(journal)? {
        for (number, bytes, state) in journal::segment_states(&dir)? {
            report.segments.insert((shard, number), SegmentReport { bytes, state, ..SegmentReport::default() });
        }
        inspect_dir(shard, &dir, &mut report)?;
    }
    Ok(report)
}

fn inspect_dir(shard: u32, dir: &Path, report: &mut Report) -> io::Result<()> {
    let mut reader = Reader::open(dir, Cursor::default())?;
    let mut columns: HashMap<u64, u64> = HashMap::new();
    let mut at = 0;
    let mut io_errors = 0;
    loop {
        let (target, slots, time_ms, is_stale, samples) = match reader.next() {
            Ok(None) => return Ok(()),
            Ok(Some(e)) => {
                let (is_stale, samples) = match e.samples {
                    Samples::Values { values, .. } => (false, values.iter().filter(|v| !is_absent(**v)).count()),
                    Samples::Stale { slots } => (true, slots.len()),
                };
                (e.target.key, e.shape.series_count as u64, e.time_ms, is_stale, samples as u64)
            }
            Err(e) => {
                io_errors += u32::from(!e.is_loss());
                note(shard, &e, reader.cursor(), report);
                if io_errors > 3 {
                    return Ok(());
                }
                continue;
            }
        };
        // The cursor moves on to the next segment only with its first event.
        let number = reader.cursor().segment;
        if number != at {
            columns.clear();
            at = number;
        }
        let s = report.segments.entry((shard, number)).or_default();
        if is_stale {
            s.stales += 1
        } else {
            s.scrapes += 1
        }
        s.samples += samples;
        s.series += slots;
        s.series -= columns.insert(target, slots).unwrap_or(0);
        let frames = reader.frames();
        s.targets = frames.target_count() as u64;
        s.schemas = frames.schemas().len() as u64;
        (s.dictionary_bytes, s.sample_bytes) = (frames.dictionary_bytes, frames.sample_bytes);
        let (first, last) = s.times_ms.unwrap_or((time_ms, time_ms));
        s.times_ms = Some((first.min(time_ms), last.max(time_ms)));
    }
}

/// Puts an error with its segment: the one before where the reader stands now.
fn note(shard: u32, error: &ReadError, now: Cursor, report: &mut Report) {
    let number = if error.is_loss() { now.segment.saturating_sub(1) } else { now.segment };
    report.segments.entry((shard, number)).or_default().damage.push(error.to_string());
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>5} {:>8} {:>12} {:>9} {:>9} {:>8} {:>12} {:>9} {:>10} {:>12} {:>12} {:>8}",
            "shard",
            "segment",
            "bytes",
            "state",
            "scrapes",
            "stale",
            "samples",
            "targets",
            "series",
            "dictionary",
            "sample-bytes",
            "B/sample"
        )?;
        for ((shard, number), s) in &self.segments {
            let state = s.state.map_or("bad", SegmentState::word);
            writeln!(
                f,
                "{shard:>5} {number:>8} {:>12} {state:>9} {:>9} {:>8} {:>12} {:>9} {:>10} {:>12} {:>12} {:>8.2}",
                s.bytes,
                s.scrapes,
                s.stales,
                s.samples,
                s.targets,
                s.series,
                s.dictionary_bytes,
                s.sample_bytes,
                s.bytes_per_sample()
            )?;
            for damage in &s.damage {
                writeln!(f, "      ! {damage}")?;
            }
        }
        Ok(())
    }
}
