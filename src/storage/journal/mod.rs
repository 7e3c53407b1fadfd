//! The journal: every sample, durable, one append-only sequence of segments per shard.
//!
//! Look for [`Writer`] (a shard's scrapes become batches; no I/O), [`Ledger`] (what it remembers of a target), [`Disk`] (the one thread that touches files) and
//! [`Reader`] (events from a cursor on, live or offline). In between: [`Feed`] carries batches from a shard to the
//! disk thread and never blocks; [`Cursors`] keep how far each destination is; [`Retention`] says what is deleted.
//!
//! ```text
//! <data>/journal/cursors.json          how far each destination is (format of its own)
//! <data>/journal/cursors.last          the same a second ago, not durable (see cursors.rs)
//! <data>/journal/<shard>/NNNNNN.seg    numbers only grow; gaps are deleted segments
//! <data>/journal/<shard>/NNNNNN.seg.damaged      set aside by recovery
//! <data>/journal/<shard>/NNNNNN.end    where a segment ends that could not be written on (see ended.rs)
//!
//! segment, format version 1; integers little-endian
//! +--------+---------+---------+-------+------+----------+---------+---------+------+-----+
//! | magic  | version | oldest  | shard | boot | sequence | created | ordinal | zero | CRC |  64 bytes
//! | 8      | 2       | reader 2| 4     | 16   | 8        | ms 8    | 4       | 8    | 4   |
//! +--------+---------+---------+-------+------+----------+---------+---------+------+-----+
//! | batch | batch | ... | seal: a batch of no frames | (zeros: reserved, not yet written)  |
//! +----------------------------------------------------------------------------------------+
//!
//! batch                                                  CRC32C over offset, header and payload,
//! +---------------+-----+--------+----------------+      started from (boot, shard, ordinal):
//! | payload bytes | CRC | frames | begun at, ms    |      bytes of another place or segment never fit
//! | 4             | 4   | 4      | 8              |
//! +---------------+-----+--------+----------------+
//! | frame | frame | ...                           |
//! +-----------------------------------------------+
//!
//! frame: first byte = kind (low 3 bits) and flags; v = varint, z = zig-zag varint
//!   1 schemas  v first id, v count, v bytes, body (snappy if flag 8): per schema v series, per series
//!              v bytes shared with the series before, v rest, rest of: v labels, (text name, v kind, [text])*
//!              kind 0 = text follows, n = the target's variable n - 1
//!   2 target   v id, v count, [8: v how many of them are its labels], variable texts
//!   3 shape    v id, v count, z schema id minus (previous schema id + 1) each
//!   4 scrape   z target minus (previous target of the batch + 1), z time minus begun at, v distance to the target's
//!              previous frame (0: none), [8: v shape id], [16: v count, (v slot gap, z ms minus time)*],
//!              column of values (see codes.rs) against the target's previous one
//!   5 stale    target, time, distance as above, v shape id, [16: all] or [32: bitmap] or v count, v slot gaps
//!   6, 7       v bytes, to be stepped over: room for later releases
//! ```
//!
//! Invariants
//! - A segment stands alone: schemas, shapes and targets are written at first use in each, columns start from zero.
//! - A frame of a shape unlike the target's previous one is coded against that one's values at equal schemas at the
//!   front and back, and zero elsewhere. Markers for all of a target's shape empty its column.
//! - A frame has at most 32,768 series, or one schema: a larger scrape is several frames of one time, under as many
//!   journal targets of equal variables.
//! - A segment that is not sealed is live exactly while somebody holds its lock.
//! - What a shard handed over stays in memory until a sync covers it. A write or a sync that fails ends its segment at the
//!   last durable byte: nothing is written to that file again, and what it has beyond counts for nobody. What stood there goes
//!   to a new segment, its dictionary and values encoded anew; the record beside the old one says so once the new one is durable.
//! - Readers read what is written, durable or not. One that was in a tail that moved passes over in the new segment what it has
//!   had: each event is given once, also across a restart. Only between the new segment's sync and the record can a crash let a
//!   reader that begins anew meet the same events twice, with the same content.
//! - A batch says when it was begun, by the clock of its writer. What a target that goes to another shard writes there is in a
//!   batch that was begun after it came, so whoever reads several shards by these times has each target's events in order.
//! - Waiting bytes are bounded, those of tails encoded anew included: at the bound the newest scrapes are dropped and counted.
//!   Encoding anew needs the memory of a reader until the shard has left the segment, and the durable beginning of the segment:
//!   when that cannot be read back for about 12 s the tail is lost and counted.
//!
//! Absent on purpose: an index (readers go forward), compression of batches (deltas are 2 bytes a sample), checks of
//! sample order (the scrape's), reading on a shard.

mod codes;
mod column;
mod cursors;
mod dictionary;
mod directory;
mod disk;
mod ended;
mod event;
mod feed;
mod files;
mod format;
mod frames;
mod lane;
mod ledger;
mod metrics;
mod open;
mod position;
mod reader;
mod recovery;
mod relay;
mod retention;
mod schema;
mod writer;

pub use column::Column;
pub use cursors::Cursors;
pub use directory::{SegmentState, segment_name, segment_states, segments, shards as shard_directories};
pub use disk::{Alarm, Disk, Hand, Options, boot_id};
pub use event::{Cursor, Event, ReadError, ReadTarget, Samples};
pub use feed::Feed;
pub use files::{Files, SegmentFile, SystemFiles};
pub use frames::Frames;
pub use lane::SyncMode;
pub use ledger::{Ledger, Progress};
pub use metrics::Stats;
pub use position::{Extent, Position, Wake};
pub use reader::{ReadTally, Reader};
pub use recovery::Recovered;
pub use retention::Retention;
pub use schema::{ByteValue, ReadLabels, ReadSchema, ReadShape};
pub use writer::{Batch, Row, Slots, Tally, Writer};

#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod journal_tests;
#[cfg(test)]
mod retention_tests;
#[cfg(test)]
mod spoilt_tests;
#[cfg(test)]
pub mod testing;
