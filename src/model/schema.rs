//! What a column of values means: schemas (label sets of a run of series) and shapes (lists of schemas).
//!
//! A schema is shared by every target whose series differ only in *variables*: target labels, labels computed from
//! them, and values that a body repeats per target. A target's label set for a series is the schema's, with each
//! variable replaced by that target's text. Shapes and schemas carry keys that are unique in the process and never
//! reused, so "is it the same?" is one integer compare, and a reader's map needs no deep equality.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One label value in a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LabelValue<'a> {
    /// Fixed text.
    Text(&'a str),
    /// The target's n-th variable.
    Var(u16),
}

/// The final label sets of a run of series, in slot order.
pub trait Schema: fmt::Debug {
    /// Unique in the process; never reused.
    fn key(&self) -> u64;
    /// Number of series.
    fn series_count(&self) -> usize;
    /// Calls `each` once per series with its labels, sorted by name, `__name__` included, no empty text.
    /// Rebuilt on demand: meant for the first use in a journal segment, not for the sample path.
    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)]));
}

/// An ordered list of schemas: what one target's column of values consists of.
#[derive(Debug)]
pub struct Shape {
    /// Unique in the process; never reused.
    pub key: u64,
    /// The parts, in column order.
    pub schemas: Vec<Rc<dyn Schema>>,
    /// Series in all parts together.
    pub series_count: usize,
}

impl Shape {
    /// A shape of these parts.
    #[must_use]
    pub fn new(schemas: Vec<Rc<dyn Schema>>) -> Self {
        let series_count = schemas.iter().map(|s| s.series_count()).sum();
        Self { key: next_key(), schemas, series_count }
    }
}

/// A fresh key for a schema or a shape. Keys only ever compare equal or not, so their order carries no meaning.
#[must_use]
pub fn next_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
