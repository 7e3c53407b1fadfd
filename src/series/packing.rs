//! A body on its way into packed chunks, slice by slice.

use std::rc::Rc;

use super::chunk::{Layout, Slot};
use super::packed::Packer;
use super::parse::{Fresh, Run};

/// Lines that a slice packs beyond twice its own.
const PACK_MORE: usize = 256;

/// How far a body is packed that gets no layout of its own. Lines wait in [`Fresh`] until the end of a slice, and longer
/// where many had come before it was known: then each slice packs more than it brings.
#[derive(Debug)]
pub(super) struct Packing {
    pub packer: Packer,
    /// What known lines of the script are lines of.
    layout: Option<Rc<Layout>>,
    /// Texts in its holes.
    texts: Vec<Box<str>>,
    /// The next line to pack: run of the script, and line within it.
    run: usize,
    line: usize,
    /// Lines that had come when the last slice ended.
    seen: usize,
}

impl Packing {
    /// From the start of the script; `seen` lines have come.
    pub fn new(packer: Packer, (layout, texts): (Option<Rc<Layout>>, Vec<Box<str>>), seen: usize) -> Self {
        Self { packer, layout, texts, run: 0, line: 0, seen }
    }

    /// At the end of a slice, when `seen` lines have come in all. Returns whether none waits: what comes then is a script
    /// of its own.
    pub fn follow(&mut self, script: &[Run], fresh: &Fresh, seen: usize) -> bool {
        let came = seen - std::mem::replace(&mut self.seen, seen);
        self.take(script, fresh, came * 2 + PACK_MORE);
        let is_done = self.run == script.len();
        if is_done {
            (self.run, self.line, self.layout) = (0, 0, None);
        }
        is_done
    }

    /// Packs so many of the lines that wait.
    pub fn take(&mut self, script: &[Run], fresh: &Fresh, mut lines: usize) {
        while let Some(run) = script.get(self.run) {
            let (first, last) = (run.from as usize + self.line, (run.from + run.count) as usize);
            let end = last.min(first.saturating_add(lines));
            for line in first..end {
                match &self.layout {
                    Some(layout) if !run.fresh => {
                        let (chunk, slot) = layout.locate(line);
                        let (lead, slot) = layout.chunks[chunk].line(slot, &self.texts);
                        self.packer.line(&lead, Slot { spelled: slot.kind, ..slot });
                    }
                    _ => {
                        let (lead, slot) = fresh.line(line);
                        self.packer.line(lead, slot);
                    }
                }
            }
            lines -= end - first;
            self.line += end - first;
            if end < last {
                return;
            }
            // The last run may grow.
            (self.run, self.line) = (self.run + 1, 0);
        }
    }
}
