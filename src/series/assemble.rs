//! A new layout from what a parse saw: runs of known lines and fresh ones, cut into chunks by content.

use std::rc::Rc;

use super::chunk::{Chunk, Layout, Slot};
use super::parse::{Fresh, Run};
use super::store::Store;
use crate::base::limits::CHUNK_SERIES_MAX;
use crate::exposition::text::Kind;

/// Builds the layout of the lines in `script`, reusing whole chunks where a run covers them.
///
/// Cuts depend on content and on the distance to the previous cut alone, so a body has one layout, however it was
/// reached, and a changed line changes its own chunk.
pub(super) fn assemble(
    store: &mut Store,
    old: Option<&Rc<Layout>>,
    script: &[Run],
    fresh: &Fresh,
    trailer: &[u8],
) -> Rc<Layout> {
    let mut builder = Assembler { store, chunks: Vec::new(), text: Vec::new(), slots: Vec::new() };
    for run in script {
        match old {
            Some(layout) if !run.fresh => builder.known(layout, run.from as usize, run.count as usize),
            _ => {
                for slot in run.from..run.from + run.count {
                    let (lead, slot) = fresh.line(slot as usize);
                    builder.line(lead, slot);
                }
            }
        }
    }
    builder.flush();
    let Assembler { chunks, store, .. } = builder;
    store.layout(chunks, trailer)
}

struct Assembler<'s> {
    store: &'s mut Store,
    chunks: Vec<Rc<Chunk>>,
    /// The chunk being built.
    text: Vec<u8>,
    slots: Vec<Slot>,
}

impl Assembler<'_> {
    fn known(&mut self, layout: &Layout, from: usize, count: usize) {
        let (mut chunk, mut slot) = layout.locate(from);
        let mut left = count;
        while left > 0 {
            let c = &layout.chunks[chunk];
            if slot == 0 && left >= c.slots.len() && self.whole(c) {
                left -= c.slots.len();
            } else {
                let take = left.min(c.slots.len() - slot);
                for i in slot..slot + take {
                    let start = c.start(i) as u32;
                    let s = c.slots[i];
                    let relative =
                        Slot { end: s.end - start, series: s.series - start, series_end: s.series_end - start, ..s };
                    self.line(c.lead(i), relative);
                }
                left -= take;
            }
            chunk += 1;
            slot = 0;
        }
    }

    /// Takes over a chunk if one starts here anyway.
    fn whole(&mut self, chunk: &Rc<Chunk>) -> bool {
        self.cut_before(chunk.lead(0));
        if !self.slots.is_empty() || self.kind() != chunk.entry {
            return false;
        }
        self.chunks.push(Rc::clone(chunk));
        true
    }

    /// Adds a line; the offsets in `slot` are relative to its lead.
    fn line(&mut self, lead: &[u8], slot: Slot) {
        self.cut_before(lead);
        let start = self.text.len() as u32;
        self.text.extend_from_slice(lead);
        self.slots.push(Slot {
            end: start + slot.end,
            series: start + slot.series,
            series_end: start + slot.series_end,
            ..slot
        });
    }

    /// Ends the chunk being built if the next line starts one, or reopens a chunk taken over if it does not.
    fn cut_before(&mut self, lead: &[u8]) {
        let count = match self.chunks.last() {
            _ if !self.slots.is_empty() => self.slots.len(),
            Some(last) => last.slots.len(),
            None => return,
        };
        if count >= CHUNK_SERIES_MAX || self.store.leads.cuts(lead) {
            self.flush();
        } else if self.slots.is_empty() {
            let last = self.chunks.pop().expect("there is one");
            self.text.extend_from_slice(&last.text);
            self.slots.extend_from_slice(&last.slots);
        }
    }

    /// The type in force at the end of what is there.
    fn kind(&self) -> Kind {
        self.chunks.last().map_or(Kind::None, |c| c.slots[c.slots.len() - 1].kind)
    }

    fn flush(&mut self) {
        if self.slots.is_empty() {
            return;
        }
        let chunk = self.store.chunk(self.kind(), &self.text, &self.slots);
        self.chunks.push(chunk);
        self.text.clear();
        self.slots.clear();
    }
}
