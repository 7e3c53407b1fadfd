//! The journal: every sample, durable, one append-only sequence of segments per shard.

mod codes;
mod cursors;
mod dictionary;
mod directory;
mod disk;
mod event;
mod feed;
mod files;
mod format;
mod frames;
mod lane;
mod metrics;
mod position;
mod reader;
mod recovery;
mod retention;
mod writer;

pub use cursors::Cursors;
pub use directory::{segment_name, segments, shards};
pub use disk::{Alarm, Disk, Hand, Options, boot_id};
pub use event::{Cursor, Event, ReadError, ReadLabels, ReadSchema, ReadShape, ReadTarget, ReadValue, Samples};
pub use feed::Feed;
pub use files::{Files, SegmentFile, SystemFiles};
pub use lane::Sync;
pub use metrics::Stats;
pub use position::{Extent, Position, Wake};
pub use reader::{ReadTally, Reader};
pub use recovery::Recovered;
pub use retention::Retention;
pub use writer::{Batch, Column, Row, Slots, Tally, Writer};

#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod testing;
