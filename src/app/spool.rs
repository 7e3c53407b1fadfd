//! The journal as remote write sees it: shard directories to read, and acknowledgements that free segments.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::remote_write::{Positions, Spool, Tail};
use crate::storage::journal::{Cursor, Cursors, Disk, Event, Position, ReadError, Reader, segments};

/// The data directory's journal, seen from a sender. Cheap to clone.
#[derive(Clone, Debug)]
pub struct JournalSpool {
    journal: PathBuf,
    positions: Arc<Vec<Arc<Position>>>,
    cursors: Arc<Cursors>,
}

impl JournalSpool {
    /// A spool over what `disk` writes with so many shards.
    #[must_use]
    pub fn new(disk: &Disk, journal: PathBuf, shards: u32) -> Self {
        let positions = (0..shards).filter_map(|s| disk.position(s)).collect();
        Self { journal, positions: Arc::new(positions), cursors: Arc::clone(disk.cursors()) }
    }
}

impl Tail for Reader {
    fn next(&mut self) -> Result<Option<Event<'_>>, ReadError> {
        Reader::next(self)
    }

    fn cursor(&self) -> Cursor {
        Reader::cursor(self)
    }
}

impl Spool for JournalSpool {
    type Tail = Reader;

    fn shards(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.journal).into_iter().flatten().flatten();
        let mut numbers: Vec<u32> = entries.filter_map(|e| e.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        numbers.iter().map(u32::to_string).collect()
    }

    fn newest_segment(&self, shard: &str) -> Option<u64> {
        segments(&self.journal.join(shard)).ok()?.last().copied()
    }

    fn bytes_behind(&self, shard: &str, cursor: Cursor) -> u64 {
        let dir = self.journal.join(shard);
        let extent = shard.parse().ok().and_then(|n: usize| self.positions.get(n)).map(|p| p.extent());
        let written = |number: u64| match extent {
            Some(e) if e.segment == number => e.written_bytes,
            _ => std::fs::metadata(dir.join(crate::storage::journal::segment_name(number))).map_or(0, |m| m.len()),
        };
        let behind = |&number: &u64| match number.cmp(&cursor.segment) {
            std::cmp::Ordering::Less => 0,
            std::cmp::Ordering::Equal => written(number).saturating_sub(cursor.batch),
            std::cmp::Ordering::Greater => written(number),
        };
        segments(&dir).unwrap_or_default().iter().map(behind).sum()
    }

    fn open(&self, shard: &str, from: Cursor) -> io::Result<Reader> {
        let reader = Reader::open(&self.journal.join(shard), from)?;
        let position = shard.parse().ok().and_then(|n: usize| self.positions.get(n));
        Ok(match position {
            Some(p) => reader.following(Arc::clone(p)),
            None => reader,
        })
    }

    fn acknowledged(&self, destination: &str, positions: &Positions) {
        for (shard, cursor) in positions {
            if let Ok(number) = shard.parse() {
                self.cursors.set(destination, number, *cursor);
            }
        }
    }

    fn destinations(&self, all: &[&str]) {
        self.cursors.keep(all);
    }
}
