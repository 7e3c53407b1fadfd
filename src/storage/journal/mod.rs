//! The journal.

mod event;

pub use event::{Cursor, Event, ReadSchema, ReadShape, ReadTarget, ReadValue, Samples};
