//! Keys of series texts, by slot of a layout.

use std::rc::Rc;

use super::chunk::{Chunk, Layout};
use crate::model::{IdentityHasher, OpenTexts, OwnTexts};

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
    /// A target's variables, and how many of them are its labels. The others are in the holes.
    variables: (OpenTexts<'l>, usize),
    hasher: IdentityHasher,
    opened: Option<(usize, Rc<Chunk>)>,
}

impl<'l> Texts<'l> {
    /// `labels`: how many of the variables are the target's labels.
    pub fn new(layout: &'l Layout, variables: &'l OwnTexts, labels: usize, hasher: &IdentityHasher) -> Self {
        Self { layout, variables: (variables.open(), labels), hasher: *hasher, opened: None }
    }

    /// Key of a slot's text.
    pub fn key(&mut self, slot: usize) -> TextKey {
        let (at, slot) = self.layout.locate(slot);
        let chunk = &self.layout.chunks[at];
        let fill = &self.variables.0[self.variables.1..];
        if chunk.packed.is_none() {
            return TextKey::of(&chunk.series(slot, fill), &self.hasher);
        }
        let chunk = match &mut self.opened {
            Some((open_at, open)) if *open_at == at => open,
            opened => &mut opened.insert((at, chunk.open())).1,
        };
        TextKey::of(&chunk.series(slot, fill), &self.hasher)
    }
}
