//! The journal: every sample, durable, one append-only sequence of segments per shard.

mod event;

pub use event::{Cursor, Event, ReadError, ReadLabels, ReadSchema, ReadShape, ReadTarget, ReadValue, Samples};
