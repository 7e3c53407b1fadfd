//! What the journal remembers of a target, or of a piece of one, from frame to frame.

use crate::base::prefetch::prefetch;

/// What a journal remembers per target: the only per-series memory of the write side, 8 bytes a slot.
#[derive(Debug, Default)]
pub struct Column {
    /// Last values; empty when the next scrape is coded against zero.
    pub(super) values: Box<[f64]>,
    /// Offset of the target's last frame in the segment; 0 for none.
    pub(super) last: u64,
    /// Key of the shape of `values`; 0 for none.
    pub(super) shape_key: u64,
    /// Segment (the writer's ordinal) in which the ids below mean something; 0 for none.
    pub(super) epoch: u32,
    pub(super) target: u32,
    pub(super) shape: u32,
    /// Variables that are the target's labels; 0: all.
    pub(super) labels: u32,
    #[cfg(debug_assertions)]
    pub(super) variables: u64,
}

impl Column {
    /// The target's variables changed (or its labels): the next frame introduces it anew, with the variables given
    /// then. Markers for series under the old variables are to be written before this.
    pub fn renew(&mut self) {
        *self = Self::default();
    }

    /// The first so many of its variables are the target's labels: by these it is known wherever it is written, whatever
    /// else its variables are there. 0: all are.
    pub fn set_labels(&mut self, count: usize) {
        self.labels = count as u32;
    }

    /// Of the same target, with nothing written yet.
    pub(super) fn fresh(&self) -> Self {
        Self { labels: self.labels, ..Self::default() }
    }

    /// The values are needed soon.
    pub(super) fn prefetch(&self) {
        prefetch(&*self.values);
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.values)
    }
}
