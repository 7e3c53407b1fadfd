//! What a reader of the journal yields.

use std::sync::Arc;

/// A label value in a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadValue {
    /// Fixed text.
    Text(Box<str>),
    /// The target's n-th variable.
    Var(u16),
}

/// Label sets of a run of series.
#[derive(Debug)]
pub struct ReadSchema {
    /// Of its content, equal across segments and shards.
    pub fingerprint: u128,
    /// Labels of each series, sorted by name.
    pub series: Vec<Box<[(Box<str>, ReadValue)]>>,
}

/// An ordered list of schemas.
#[derive(Debug)]
pub struct ReadShape {
    /// Unique in this reader.
    pub key: u64,
    /// In column order.
    pub schemas: Vec<Arc<ReadSchema>>,
    /// Of all schemas together.
    pub series_count: usize,
}

/// A target's texts.
#[derive(Debug)]
pub struct ReadTarget {
    /// Unique in this reader, stable for a target within a segment.
    pub key: u64,
    /// Texts of the variables.
    pub variables: Vec<Box<str>>,
    /// Of the variables: stable across segments.
    pub fingerprint: u64,
}

/// One scrape of one target, or the end of some of its series.
#[derive(Debug)]
pub struct Event<'r> {
    /// Whose.
    pub target: &'r Arc<ReadTarget>,
    /// What the slots mean.
    pub shape: &'r Arc<ReadShape>,
    /// Milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// The samples.
    pub samples: Samples<'r>,
}

/// Samples of an event.
#[derive(Debug)]
pub enum Samples<'r> {
    /// A scrape.
    Values {
        /// One per slot of the shape, `model::ABSENT` where there is none.
        values: &'r [f64],
        /// Slot and explicit milliseconds, ascending slots.
        times: &'r [(u32, i64)],
    },
    /// Series that ended.
    Stale {
        /// Ascending; each gets `model::STALE_NAN` at the event's time.
        slots: &'r [u32],
    },
}

/// A position in the journal of one shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// Segment number.
    pub segment: u64,
    /// Byte offset of the batch.
    pub batch: u64,
    /// Events of that batch already consumed.
    pub frame: u32,
}
