//! Keys of series texts, by slot of a layout.

use std::rc::Rc;

use super::chunk::{Chunk, Layout};
use crate::model::IdentityHasher;

/// Key of a text: equal texts are one entry of Prometheus's cache. Seeded, and only counts depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct TextKey(u64);

impl TextKey {
    /// Key of a text as written.
    pub fn of(text: &[u8], hasher: &IdentityHasher) -> Self {
        Self(hasher.short(text))
    }
}

/// Reads a layout's texts. Of packed chunks the last one read stays open, so slots are best asked for in order.
#[derive(Debug)]
pub(super) struct Texts<'l> {
    layout: &'l Layout,
    /// In the holes.
    fill: &'l [Box<str>],
    hasher: IdentityHasher,
    opened: Option<(usize, Rc<Chunk>)>,
}

impl<'l> Texts<'l> {
    pub fn new(layout: &'l Layout, fill: &'l [Box<str>], hasher: &IdentityHasher) -> Self {
        Self { layout, fill, hasher: *hasher, opened: None }
    }

    /// Key of a slot's text.
    pub fn key(&mut self, slot: usize) -> TextKey {
        let (at, slot) = self.layout.locate(slot);
        let chunk = &self.layout.chunks[at];
        if chunk.packed.is_none() {
            return TextKey::of(&chunk.series(slot, self.fill), &self.hasher);
        }
        let chunk = match &mut self.opened {
            Some((open_at, open)) if *open_at == at => open,
            opened => &mut opened.insert((at, chunk.open())).1,
        };
        TextKey::of(&chunk.series(slot, self.fill), &self.hasher)
    }
}
