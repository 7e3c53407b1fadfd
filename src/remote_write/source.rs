//! The journal as a sender needs it: a seam, so that tests can script what is read and when.

use std::io;

use super::cursors::Positions;
use crate::storage::journal::{Cursor, Event, ReadError};

/// Reads one shard's events in order. Implemented by the journal's reader.
pub trait Tail {
    /// The next event; `None` when everything written so far was read.
    ///
    /// # Errors
    /// See [`ReadError`].
    fn next(&mut self) -> Result<Option<Event<'_>>, ReadError>;
    /// Behind the last event returned.
    fn cursor(&self) -> Cursor;
}

/// All shards' directories.
pub trait Spool: Clone + Send + 'static {
    /// Reader of one shard.
    type Tail: Tail;
    /// Names of the shard directories that exist now.
    fn shards(&self) -> Vec<String>;
    /// Number of the newest segment, if there is one.
    fn newest_segment(&self, shard: &str) -> Option<u64>;
    /// Bytes written behind a position.
    fn bytes_behind(&self, shard: &str, cursor: Cursor) -> u64;
    /// Continues reading at a position.
    ///
    /// # Errors
    /// The file system's.
    fn open(&self, shard: &str, from: Cursor) -> io::Result<Self::Tail>;
    /// A destination has everything before these positions: retention may free it. The default keeps nothing.
    fn acknowledged(&self, _destination: &str, _positions: &Positions) {}
    /// These destinations exist now, by the names that [`Spool::acknowledged`] is called with.
    fn destinations(&self, _all: &[&str]) {}
}
