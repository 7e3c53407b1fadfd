//! A new layout from what a parse saw: runs of known lines and fresh ones, cut into chunks by content.

use std::rc::Rc;

use super::bound::NO_ORIGIN;
use super::chunk::{Chunk, Hole, Layout, Slot};
use super::parse::{Fresh, Run};
use super::pattern::Pattern;
use super::store::Store;
use crate::base::limits::CHUNK_SERIES_MAX;
use crate::exposition::text::Kind;

/// Builds the layout of the lines in `script`, reusing whole chunks where a run covers them.
///
/// Cuts depend on content and on the distance to the previous cut alone, so a body has one layout, however it was
/// reached, and a changed line changes its own chunk. Also gives, for each chunk, the slots of `old` that its lines are
/// ([`NO_ORIGIN`] for fresh ones; nothing for chunks taken over whole).
pub(super) fn assemble(
    store: &mut Store,
    old: Option<&Rc<Layout>>,
    script: &[Run],
    fresh: &Fresh,
    pattern: &Pattern<'_>,
    trailer: &[u8],
) -> (Rc<Layout>, Vec<Vec<u32>>) {
    let mut builder = Assembler {
        store,
        chunks: Vec::new(),
        origins: Vec::new(),
        text: Vec::new(),
        slots: Vec::new(),
        holes: Vec::new(),
        came_from: Vec::new(),
        taken_from: 0,
    };
    for run in script {
        match old {
            Some(layout) if !run.fresh && (layout.owner == 0 || layout.owner == pattern.owner()) => {
                builder.known(layout, run.from as usize, run.count as usize);
            }
            _ => {
                for line in run.from as usize..(run.from + run.count) as usize {
                    // Holes of other rules are filled again.
                    let (lead, slot) = match old {
                        Some(layout) if !run.fresh => {
                            let (chunk, slot) = layout.locate(line);
                            layout.chunks[chunk].line(slot, pattern.old())
                        }
                        _ => {
                            let (lead, slot) = fresh.line(line);
                            (lead.into(), slot)
                        }
                    };
                    let line = pattern.punch(&lead, slot);
                    builder.line(&line.lead, line.slot, &line.holes, NO_ORIGIN);
                }
            }
        }
    }
    builder.flush();
    let Assembler { chunks, store, origins, .. } = builder;
    (store.layout(chunks, trailer, pattern.owner()), origins)
}

struct Assembler<'s> {
    store: &'s mut Store,
    chunks: Vec<Rc<Chunk>>,
    /// By chunk: old slots of its lines.
    origins: Vec<Vec<u32>>,
    /// The chunk being built.
    text: Vec<u8>,
    slots: Vec<Slot>,
    holes: Vec<Hole>,
    came_from: Vec<u32>,
    /// First old slot of the chunk taken over last: only that one is ever reopened.
    taken_from: u32,
}

impl Assembler<'_> {
    fn known(&mut self, layout: &Layout, from: usize, count: usize) {
        let (mut chunk, mut slot) = layout.locate(from);
        let mut left = count;
        while left > 0 {
            let c = &layout.chunks[chunk];
            if slot == 0 && left >= c.slots.len() && self.whole(c) {
                self.taken_from = layout.starts[chunk];
                left -= c.slots.len();
            } else {
                let take = left.min(c.slots.len() - slot);
                for i in slot..slot + take {
                    let start = c.start(i) as u32;
                    let s = c.slots[i];
                    let relative =
                        Slot { end: s.end - start, series: s.series - start, series_end: s.series_end - start, ..s };
                    let holes: Vec<Hole> = c.holes_of(i).iter().map(|h| Hole { at: h.at - start, ..*h }).collect();
                    self.line(c.lead(i), relative, &holes, layout.starts[chunk] + i as u32);
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
        self.origins.push(Vec::new());
        true
    }

    /// Adds a line; the offsets in `slot` and `holes` are relative to its lead.
    fn line(&mut self, lead: &[u8], slot: Slot, holes: &[Hole], origin: u32) {
        self.cut_before(lead);
        let start = self.text.len() as u32;
        self.text.extend_from_slice(lead);
        self.came_from.push(origin);
        self.holes.extend(holes.iter().map(|h| Hole { at: start + h.at, ..*h }));
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
            self.holes.extend_from_slice(&last.holes);
            self.origins.pop();
            self.came_from.extend(self.taken_from..self.taken_from + last.slots.len() as u32);
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
        let chunk = self.store.chunk(self.kind(), &self.text, &self.slots, &self.holes);
        self.chunks.push(chunk);
        self.origins.push(std::mem::take(&mut self.came_from));
        self.text.clear();
        self.slots.clear();
        self.holes.clear();
    }
}
