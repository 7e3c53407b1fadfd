//! Metadata of a layout's families, gathered a few chunks at a time.

use std::collections::HashMap;
use std::rc::Rc;

use super::chunk::Layout;
use crate::exposition::labels;
use crate::exposition::text::{Entry, Rest, step};

/// Metadata of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// Family name.
    pub family: String,
    /// As in the API: `unknown` without a TYPE line.
    pub kind: &'static str,
    /// Escapes resolved; empty without a HELP line.
    pub help: String,
}

/// Families with their type and help, in body order; a family named again updates its first entry. Resumable, because a
/// body may have a million lines.
#[derive(Debug)]
pub struct Families {
    layout: Rc<Layout>,
    /// Next chunk to read; the trailer counts as one more.
    chunk: usize,
    /// Only this one, if given.
    wanted: Option<Rc<str>>,
    list: Vec<Metadata>,
    places: HashMap<Box<[u8]>, usize>,
}

impl Families {
    /// All families of a layout, or only that one.
    pub(super) fn new(layout: Rc<Layout>, wanted: Option<Rc<str>>) -> Self {
        Self { layout, chunk: 0, wanted, list: Vec::new(), places: HashMap::new() }
    }

    /// Which layout: equal for targets that have the same families.
    #[must_use]
    pub fn key(&self) -> u64 {
        self.layout.id
    }

    /// Reads on, at most so many chunks. Gives how many; fewer than asked for at the end.
    pub fn advance(&mut self, chunks: usize) -> usize {
        let layout = Rc::clone(&self.layout);
        let end = (self.chunk + chunks).min(layout.chunks.len() + 1);
        for at in self.chunk..end {
            match layout.chunks.get(at) {
                Some(c) if c.packed.as_ref().is_some_and(|p| !p.has_metadata) => {}
                Some(c) => {
                    let c = c.open();
                    (0..c.slots.len()).for_each(|i| self.block(&c.text[c.start(i)..c.slots[i].series as usize]));
                }
                None => self.block(&layout.trailer),
            }
        }
        end - std::mem::replace(&mut self.chunk, end)
    }

    /// Whether everything was read.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.chunk > self.layout.chunks.len()
    }

    /// What was found.
    #[must_use]
    pub fn list(self) -> Vec<Metadata> {
        self.list
    }

    fn block(&mut self, block: &[u8]) {
        let mut at = 0;
        while at < block.len() {
            let Ok((entry, next)) = step(block, at, Rest::Nothing) else { break };
            at = next;
            let name = match &entry {
                Entry::Type(name, _) | Entry::Help(name, _) => &block[name.clone()],
                Entry::Other => continue,
                Entry::Sample(_) | Entry::End => break,
            };
            if self.wanted.as_ref().is_some_and(|w| w.as_bytes() != name) {
                continue;
            }
            let place = match self.places.get(name) {
                Some(&place) => place,
                None => {
                    let family = String::from_utf8_lossy(name).into_owned();
                    self.list.push(Metadata { family, kind: "unknown", help: String::new() });
                    self.places.insert(name.into(), self.list.len() - 1);
                    self.list.len() - 1
                }
            };
            match entry {
                Entry::Type(_, kind) => self.list[place].kind = kind.name(),
                Entry::Help(_, text) => self.list[place].help = labels::help(&block[text]),
                _ => {}
            }
        }
    }
}
