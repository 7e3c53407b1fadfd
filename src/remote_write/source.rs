//! The journal as senders need it: a seam, so that tests can script what is read and when.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::storage::journal::{self, Cursor, Cursors, Disk, Event, Position, ReadError, Reader, SystemFiles};

/// Positions by shard.
pub type Positions = BTreeMap<u32, Cursor>;

/// Reads one shard's events in order.
pub trait Tail {
    /// The next event; `None` when everything written so far was read.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn next(&mut self) -> Result<Option<Event<'_>>, ReadError>;
    /// When the batch was begun that the next event is in, milliseconds; `None` when everything written so far was read.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn batch_ms(&mut self) -> Result<Option<i64>, ReadError>;
    /// Behind the last event returned.
    fn cursor(&self) -> Cursor;
}

/// All shards' directories, and where each destination was left.
pub trait Spool: Clone + Send + Sync + 'static {
    /// Reader of one shard.
    type Tail: Tail;
    /// The shards whose directories exist now.
    fn shards(&self) -> Vec<u32>;
    /// Number of the newest segment, if there is one.
    fn newest_segment(&self, shard: u32) -> Option<u64>;
    /// Bytes written behind a position.
    fn bytes_behind(&self, shard: u32, cursor: Cursor) -> u64;
    /// Continues reading at a position.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self, shard: u32, from: Cursor) -> io::Result<Self::Tail>;
    /// Acknowledged positions of a destination; empty for a new one.
    fn saved(&self, destination: &str) -> Positions;
    /// Where a destination that is new begins. It counts from the next [`Spool::keep`] on.
    fn begin(&self, destination: &str, positions: &Positions);
    /// Everything before these positions is acknowledged; nothing for a destination that does not exist any more, which would
    /// hold what nobody reads. Must not wait for a disk.
    fn save(&self, destination: &str, positions: &Positions);
    /// Whether an earlier life, or this one, has had this destination.
    fn is_known(&self, destination: &str) -> bool;
    /// The destinations that exist from now on, durable on return as far as the disk lets us; positions of others are
    /// forgotten. A process killed right afterwards must not take a destination for a new one: it would skip samples.
    fn keep(&self, destinations: &[&str]);
}

/// The journal of this process. Positions go to the journal's [`Cursors`], which its disk thread saves.
#[derive(Clone, Debug)]
pub struct JournalSpool {
    journal: PathBuf,
    cursors: Arc<Cursors>,
    positions: Arc<[Arc<Position>]>,
}

impl JournalSpool {
    /// `journal` is `<data>/journal`, kept by `disk`.
    #[must_use]
    pub fn new(journal: &Path, disk: &Disk) -> Self {
        let positions = (0..).map_while(|shard| disk.position(shard)).collect();
        Self { journal: journal.to_owned(), cursors: Arc::clone(disk.cursors()), positions }
    }

    fn directory(&self, shard: u32) -> PathBuf {
        self.journal.join(shard.to_string())
    }
}

impl Spool for JournalSpool {
    type Tail = Reader;

    fn shards(&self) -> Vec<u32> {
        let found = journal::shard_directories(&self.journal).unwrap_or_else(|error| {
            tracing::warn!(%error, journal = %self.journal.display(), "cannot list the journal; will try again");
            Vec::new()
        });
        found.into_iter().map(|(shard, _)| shard).collect()
    }

    fn newest_segment(&self, shard: u32) -> Option<u64> {
        journal::segments(&self.directory(shard)).ok()?.last().copied()
    }

    fn bytes_behind(&self, shard: u32, cursor: Cursor) -> u64 {
        let directory = self.directory(shard);
        let written = self.positions.get(shard as usize).map(|p| p.extent()).unwrap_or_default();
        let bytes = |segment: u64| {
            let all = if segment == written.segment {
                written.written_bytes
            } else {
                std::fs::metadata(directory.join(journal::segment_name(segment))).map_or(0, |m| m.len())
            };
            all.saturating_sub(if segment == cursor.segment { cursor.batch } else { 0 })
        };
        let segments = journal::segments(&directory).unwrap_or_default();
        segments.into_iter().filter(|s| *s >= cursor.segment).map(bytes).sum()
    }

    fn open(&self, shard: u32, from: Cursor) -> io::Result<Reader> {
        let reader = Reader::open(&self.directory(shard), from)?;
        Ok(match self.positions.get(shard as usize) {
            Some(position) => reader.following(Arc::clone(position)),
            None => reader,
        })
    }

    fn saved(&self, destination: &str) -> Positions {
        self.cursors.all().remove(destination).unwrap_or_default()
    }

    fn begin(&self, destination: &str, positions: &Positions) {
        for (shard, cursor) in positions {
            self.cursors.set(destination, *shard, *cursor);
        }
    }

    fn save(&self, destination: &str, positions: &Positions) {
        self.cursors.advance(destination, positions);
    }

    fn is_known(&self, destination: &str) -> bool {
        self.cursors.knows(destination)
    }

    fn keep(&self, destinations: &[&str]) {
        self.cursors.keep(destinations);
        if let Err(error) = self.cursors.save(&self.journal, &SystemFiles) {
            tracing::error!(%error, journal = %self.journal.display(), "cannot save the list of destinations; will try again");
        }
    }
}

impl Tail for Reader {
    fn next(&mut self) -> Result<Option<Event<'_>>, ReadError> {
        Self::next(self)
    }

    fn batch_ms(&mut self) -> Result<Option<i64>, ReadError> {
        Self::batch_ms(self)
    }

    fn cursor(&self) -> Cursor {
        Self::cursor(self)
    }
}
