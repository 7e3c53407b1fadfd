//! What a column of values means: schemas (label sets of a run of series) and shapes (lists of schemas).
//!
//! A schema is shared by every target whose series differ only in *variables*: target labels, labels computed from
//! them, and values that a body repeats per target. A target's label set for a series is the schema's, with each
//! variable replaced by that target's text. Shapes and schemas carry keys that are unique in the process and never
//! reused, so "is it the same?" is one integer compare, and a reader's map needs no deep equality.

use std::borrow::Cow;
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

/// Who can make a list of schemas again, with the same keys each time.
pub trait SchemaList: fmt::Debug {
    /// The list.
    fn list(self: Rc<Self>) -> Vec<Rc<dyn Schema>>;
}

/// An ordered list of schemas: what one target's column of values consists of.
#[derive(Debug)]
pub struct Shape {
    /// Unique in the process; never reused.
    pub key: u64,
    /// Series in all parts together.
    pub series_count: usize,
    parts: Parts,
}

#[derive(Debug)]
enum Parts {
    Kept(Vec<Rc<dyn Schema>>),
    /// Most scrapes ask for the key alone.
    Made(Rc<dyn SchemaList>),
}

impl Shape {
    /// A shape of these parts.
    #[must_use]
    pub fn new(schemas: Vec<Rc<dyn Schema>>) -> Self {
        Self::with_key(next_key(), schemas)
    }

    /// The same under the key that a shape of these parts had before.
    #[must_use]
    pub fn with_key(key: u64, schemas: Vec<Rc<dyn Schema>>) -> Self {
        let series_count = schemas.iter().map(|s| s.series_count()).sum();
        Self { key, series_count, parts: Parts::Kept(schemas) }
    }

    /// The same shape, whose parts are made when they are asked for.
    #[must_use]
    pub fn made_by(key: u64, series_count: usize, list: Rc<dyn SchemaList>) -> Self {
        Self { key, series_count, parts: Parts::Made(list) }
    }

    /// The parts, in column order.
    #[must_use]
    pub fn schemas(&self) -> Cow<'_, [Rc<dyn Schema>]> {
        match &self.parts {
            Parts::Kept(schemas) => Cow::Borrowed(schemas),
            Parts::Made(list) => Cow::Owned(Rc::clone(list).list()),
        }
    }
}

/// A fresh key for a schema or a shape. Keys only ever compare equal or not, so their order carries no meaning.
#[must_use]
pub fn next_key() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
