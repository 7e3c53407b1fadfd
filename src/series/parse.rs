//! One body being parsed: prediction along a layout, the tokenizer where that fails.
//!
//! The outcome is in body order: a value per sample line, and a script that says which lines they are: runs of known
//! lines and fresh ones. Nothing is interned here; that waits until the body is complete.

use std::rc::Rc;

use super::chunk::{Chunk, Layout, LeadHasher, Slot};
use super::error::{SeriesError, cut};
use super::foretold::{Followed, Foretold, Lines};
use super::holed::{HoledLead, Variable, match_lead};
use super::packed::{Means, Packer};
use super::packing::Packing;
use super::resting::Resting;
use crate::base::limits::LINE_BYTES_MAX;
use crate::exposition::text::{Entry, Halt, Kind, Rest, Sample, TextError, is_name, step, tail};
use crate::exposition::value;

/// Slots after the expected one that are tried before the index is asked.
const LOOK_AHEAD: usize = 4;
/// Buffers for lines that wait to be packed are not kept when they are larger, bytes.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// What waits for the rest of its group of foretold lines is read line by line when it is more, bytes.
const GROUP_BYTES_MAX: usize = 64 << 10;
/// Least bytes appended to an unfinished line before it is tried again.
const PENDING_STEP: usize = 1024;

/// What [`Parse::feed`] asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// The next slice, or the end.
    More,
    /// Nothing further is needed: the body is in error, or says that it ends here.
    Stop,
}

/// A run of consecutive lines, all known or all fresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// First slot of the layout, or first fresh line.
    pub from: u32,
    pub count: u32,
    pub fresh: bool,
}

/// Lines that the layout does not have, and the lead being read.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    /// Leads, one after the other, then the metadata lines of the lead being read.
    pub text: Vec<u8>,
    pub slots: Vec<Slot>,
}

impl Fresh {
    /// Lead of a line, and its slot with offsets relative to the lead.
    pub fn line(&self, line: usize) -> (&[u8], Slot) {
        let start = if line == 0 { 0 } else { self.slots[line - 1].end };
        let s = self.slots[line];
        let slot = Slot { end: s.end - start, series: s.series - start, series_end: s.series_end - start, ..s };
        (&self.text[start as usize..s.end as usize], slot)
    }

    /// Metadata lines read since the last sample line.
    pub fn lead(&self) -> &[u8] {
        &self.text[self.lead_start()..]
    }

    fn lead_start(&self) -> usize {
        self.slots.last().map_or(0, |s| s.end as usize)
    }

    /// Leaves only the lead being read.
    fn clear_lines(&mut self) {
        if self.text.capacity() > KEPT_BYTES_MAX {
            *self = Self { text: self.lead().to_vec(), slots: Vec::new() };
            return;
        }
        self.text.drain(..self.lead_start());
        self.slots.clear();
    }
}

/// A body being parsed. Owns handles and buffers; borrows nothing.
#[derive(Debug)]
pub struct Parse {
    pub(super) layout: Option<Rc<Layout>>,
    /// Of the layout.
    variables: Vec<Variable>,
    leads: LeadHasher,
    /// By sample line.
    pub(super) values: Vec<f64>,
    /// Explicit timestamps: sample line and milliseconds.
    pub(super) times: Vec<(u32, i64)>,
    pub(super) script: Vec<Run>,
    pub(super) fresh: Fresh,
    pub(super) error: Option<SeriesError>,
    /// Bytes fed.
    pub(super) bytes: u64,
    /// What packing needs.
    means: Means,
    /// New text after which the body is packed.
    fresh_bytes_max: usize,
    /// The target's last layout, where that is packed.
    old: Option<Rc<Layout>>,
    /// From then on.
    pub(super) packing: Option<Box<Packing>>,
    /// What rests, in place of a layout.
    foretold: Option<Foretold>,
    /// The next expected slot: chunk, and slot within it.
    chunk: usize,
    slot: usize,
    /// The type in force.
    kind: Kind,
    ended: bool,
    /// The unfinished entry at the end of what was fed.
    pending: Vec<u8>,
    /// Length of `pending` from which another try is worth while: tries cost in all a small multiple of the bytes.
    retry_at: usize,
}

impl Parse {
    /// Along a layout, with the texts its variables had last.
    pub(super) fn new(
        layout: Option<Rc<Layout>>,
        fill: &[&str],
        mut values: Vec<f64>,
        (means, fresh_bytes_max): (Means, usize),
    ) -> Self {
        let count = layout.as_ref().map_or(0, |l| l.variable_count());
        let text = |i: usize| fill.get(i).map_or_else(Vec::new, |t| t.as_bytes().to_vec());
        let variables = (0..count).map(|i| Variable { text: text(i), is_met: false }).collect();
        values.clear();
        values.reserve(layout.as_ref().map_or(0, |l| l.slot_count()));
        Self {
            layout,
            variables,
            leads: means.leads,
            values,
            times: Vec::new(),
            script: Vec::new(),
            fresh: Fresh::default(),
            error: None,
            bytes: 0,
            means,
            fresh_bytes_max,
            old: None,
            packing: None,
            foretold: None,
            chunk: 0,
            slot: 0,
            kind: Kind::None,
            ended: false,
            pending: Vec::new(),
            retry_at: 0,
        }
    }

    /// Takes the next slice of the decompressed body, cut anywhere.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Flow {
        self.bytes += bytes.len() as u64;
        while !self.pending.is_empty() && !bytes.is_empty() && !self.is_over() {
            let before = self.pending.len();
            let take = bytes.len().min(before.max(PENDING_STEP));
            self.pending.extend_from_slice(&bytes[..take]);
            let mut used = 0;
            if self.pending.len() >= self.retry_at {
                let mut pending = std::mem::take(&mut self.pending);
                used = self.run(&pending, Rest::MayFollow);
                if used <= before {
                    pending.drain(..used);
                } else {
                    pending.clear();
                }
                self.retry_at = pending.len() + pending.len() / 2;
                self.pending = pending;
            }
            bytes = &bytes[if used > before { used - before } else { take }..];
            if self.pending.len() > GROUP_BYTES_MAX && self.open_rest() {
                self.retry_at = 0;
            }
            if self.pending.len() > LINE_BYTES_MAX {
                self.error = Some(SeriesError::LineTooLong);
            }
        }
        if !bytes.is_empty() && !self.is_over() {
            let used = self.run(bytes, Rest::MayFollow);
            self.pending.extend_from_slice(&bytes[used..]);
            self.retry_at = self.pending.len() + 1;
        }
        self.pack_on();
        if self.is_over() { Flow::Stop } else { Flow::More }
    }

    /// Parses what is left, with the newline that Prometheus appends.
    pub(super) fn close(&mut self) {
        if self.is_over() || self.pending.is_empty() {
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        pending.push(b'\n');
        self.run(&pending, Rest::Nothing);
    }

    /// Follows a packed layout: packs from the start, or may.
    pub(super) fn after(mut self, old: Rc<Layout>, packs: bool) -> Self {
        if packs {
            // A sixteenth more, so that a body that grows a little does not double the buffer.
            self.values.reserve(old.slot_count() + old.slot_count() / 16);
            self.begin_packing(Some(Rc::clone(&old)));
        }
        self.old = Some(old);
        self
    }

    fn begin_packing(&mut self, old: Option<Rc<Layout>>) {
        self.open_rest();
        let texts = self.variable_texts();
        let packer = Packer::new(self.means.clone(), old);
        let layout = self.layout.take();
        self.packing = Some(Box::new(Packing::new(packer, (layout, texts), self.values.len())));
    }

    /// At the end of a slice: packs what came, if this body is packed.
    fn pack_on(&mut self) {
        if self.packing.is_none() {
            if self.fresh.text.len() <= self.fresh_bytes_max {
                return;
            }
            let old = self.old.take();
            self.begin_packing(old);
        }
        let Some(mut packing) = self.packing.take() else { return };
        if packing.follow(&self.script, &self.fresh, self.values.len()) {
            self.script.clear();
            self.fresh.clear_lines();
        }
        if packing.packer.is_full() {
            self.error.get_or_insert(SeriesError::LayoutMemory);
        }
        self.packing = Some(packing);
    }

    /// All of the body, packed.
    pub(super) fn packed(&mut self) -> Packer {
        if self.packing.is_none() {
            let old = self.old.take();
            self.begin_packing(old);
        }
        let mut packing = self.packing.take().expect("it has just begun");
        packing.take(&self.script, &self.fresh, usize::MAX);
        packing.packer.flush();
        packing.packer
    }

    /// What the layout's variables are in this body; empty where a variable did not occur.
    pub(super) fn variable_texts(&self) -> Vec<Box<str>> {
        let text = |v: &Variable| if v.is_met { String::from_utf8_lossy(&v.text).into() } else { "".into() };
        self.variables.iter().map(text).collect()
    }

    /// Bytes that wait in memory for the end of the body: values, and lines that the layout does not have.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let fresh = self.fresh.text.len() + size_of_val(&*self.fresh.slots);
        size_of_val(&*self.values) + size_of_val(&*self.times) + fresh + self.pending.len()
    }

    /// Lines parsed so far.
    #[must_use]
    pub fn sample_count(&self) -> usize {
        self.values.len()
    }

    /// Lines so far whose text the layout had.
    #[must_use]
    pub fn predicted_count(&self) -> u64 {
        self.script.iter().filter(|r| !r.fresh).map(|r| u64::from(r.count)).sum()
    }

    /// Whether every line so far is the layout's, in its order, from its start.
    pub(super) fn is_prefix(&self) -> bool {
        match *self.script {
            [] => true,
            [Run { from, fresh, .. }] => from == 0 && !fresh,
            _ => false,
        }
    }

    fn is_over(&self) -> bool {
        self.ended || self.error.is_some()
    }

    /// Reads as many whole entries as there are; gives the bytes used.
    fn run(&mut self, buf: &[u8], rest: Rest) -> usize {
        let mut at = 0;
        loop {
            if self.fresh.lead().is_empty() {
                let (next, is_part) = self.foretell(buf, at, rest);
                if is_part {
                    return next;
                }
                at = self.predict(buf, next);
            }
            if at == buf.len() {
                return at;
            }
            match step(buf, at, rest) {
                Ok((entry, next)) => {
                    match entry {
                        Entry::Sample(sample) => self.sample(buf, at, &sample, next),
                        Entry::Type(_, kind) => {
                            self.kind = kind;
                            self.metadata(&buf[at..next]);
                        }
                        Entry::Help(..) => self.metadata(&buf[at..next]),
                        Entry::Other => {}
                        Entry::End => self.ended = true,
                    }
                    if self.is_over() {
                        return buf.len();
                    }
                    at = next;
                }
                Err(Halt::Incomplete) => return at,
                Err(Halt::Error(error)) => {
                    self.refuse(error, &buf[at..]);
                    return buf.len();
                }
            }
        }
    }

    fn refuse(&mut self, error: TextError, near: &[u8]) {
        let line = near.split(|&c| c == b'\n').next().unwrap_or_default();
        let near = cut(&String::from_utf8_lossy(&line[..line.len().min(200)]));
        self.error = Some(SeriesError::Text { error, near });
    }

    /// Expects what rests.
    pub(super) fn along(mut self, resting: Rc<Resting>) -> Self {
        self.values.reserve(resting.count);
        self.foretold = Some(Foretold::new(resting));
        self
    }

    /// Follows what rests, group by group. Gives where the next one starts, and whether the buffer ends within it.
    fn foretell(&mut self, buf: &[u8], mut at: usize, rest: Rest) -> (usize, bool) {
        let Some(foretold) = self.foretold.as_mut().filter(|f| !f.is_off && !f.is_done()) else { return (at, false) };
        let first = foretold.slot;
        let mut lines = Lines { values: &mut self.values, times: &mut self.times };
        let end = loop {
            match foretold.follow(buf, at, rest, self.leads, &mut lines) {
                Followed::Group(next) => at = next,
                end => break end,
            }
        };
        let (count, last_kind) = (foretold.slot - first, foretold.resting.last_kind);
        self.record(first, count, false);
        match end {
            Followed::Other => drop(self.open_rest()),
            Followed::End => self.kind = last_kind,
            _ => {}
        }
        (at, end == Followed::Part)
    }

    /// Goes on along an opened copy of what rests, and returns whether it has just been opened.
    fn open_rest(&mut self) -> bool {
        let Some(foretold) = self.foretold.as_mut().filter(|f| !f.is_off) else { return false };
        foretold.is_off = true;
        let (layout, slot) = (foretold.resting.layout(), foretold.slot);
        if slot > 0 {
            let (chunk, last) = layout.locate(slot - 1);
            self.kind = layout.chunks[chunk].kind(last);
            (self.chunk, self.slot) = (chunk, last + 1);
        }
        self.layout = Some(layout);
        true
    }

    /// Whether the body is what rests: every line, in its order, and nothing else.
    pub(super) fn is_again(&self, resting: &Rc<Resting>) -> bool {
        self.foretold.as_ref().is_some_and(|f| f.is_done() && Rc::ptr_eq(&f.resting, resting))
            && self.error.is_none()
            && self.values.len() == resting.count
            && *self.fresh.text == *resting.trailer()
    }

    /// The layout of what rests, taken back into its place; without one, known lines are of a copy.
    pub(super) fn take_layout(&mut self, layout: Option<Rc<Layout>>) {
        if self.foretold.is_none() {
            return;
        }
        match layout {
            Some(_) => self.layout = layout,
            None => drop(self.open_rest()),
        }
    }

    /// Follows the layout as long as the bytes do: the loop that most bytes of most bodies pass through.
    fn predict(&mut self, buf: &[u8], mut at: usize) -> usize {
        let Some(layout) = self.layout.clone() else { return at };
        // The type in force belongs to the lead as much as its bytes do.
        match layout.chunks.get(self.chunk) {
            Some(chunk) if self.slot > 0 && chunk.slots[self.slot - 1].kind == self.kind => {}
            Some(chunk) if self.slot == 0 && chunk.entry == self.kind => {}
            _ => return at,
        }
        let first = self.expected(&layout);
        let (mut count, start) = (0, self.values.len());
        while let Some(chunk) = layout.chunks.get(self.chunk) {
            let (slots, next) = self.predict_chunk(chunk, buf, at);
            at = next;
            count += slots;
            self.slot += slots;
            if slots > 0 {
                self.kind = chunk.slots[self.slot - 1].kind;
            }
            if self.slot < chunk.slots.len() {
                break;
            }
            self.chunk += 1;
            self.slot = 0;
        }
        debug_assert_eq!(start + count, self.values.len());
        self.record(first, count, false);
        at
    }

    /// Gives the lines that were as expected, and where the first one that was not starts.
    fn predict_chunk(&mut self, chunk: &Chunk, buf: &[u8], mut at: usize) -> (usize, usize) {
        let first = self.slot;
        let mut start = chunk.start(first);
        let mut holes = &chunk.holes[chunk.holes.partition_point(|h| (h.at as usize) < start)..];
        for (i, slot) in chunk.slots[first..].iter().enumerate() {
            let text = &chunk.text[start..slot.end as usize];
            let own = holes.iter().take_while(|h| h.at < slot.end).count();
            let length = if own == 0 {
                buf[at..].starts_with(text).then_some(text.len())
            } else {
                let lead = HoledLead { text, offset: start, holes: &holes[..own] };
                match_lead(&lead, &buf[at..], &mut self.variables)
            };
            let Some(length) = length.filter(|_| !slot.glued) else { return (i, at) };
            let value_at = at + length;
            holes = &holes[own..];
            let Some((value, end)) = value::scan(buf, value_at).or_else(|| exact(buf, value_at)) else {
                return (i, at);
            };
            let mut next = end + 1;
            if buf[end] != b'\n' {
                let Ok((time, after)) = tail(buf, end, Rest::MayFollow) else { return (i, at) };
                next = after;
                if let Some(time) = time {
                    self.times.push((self.values.len() as u32, time));
                }
            }
            self.values.push(value);
            at = next;
            start = slot.end as usize;
        }
        (chunk.slots.len() - first, at)
    }

    fn metadata(&mut self, line: &[u8]) {
        self.fresh.text.extend_from_slice(line);
        if self.fresh.lead().len() > LINE_BYTES_MAX {
            self.error = Some(SeriesError::LineTooLong);
        }
    }

    /// Takes a tokenised sample line: finds its slot, or keeps it as fresh.
    fn sample(&mut self, buf: &[u8], at: usize, sample: &Sample, next: usize) {
        let line = self.values.len() as u32;
        self.values.push(sample.value);
        if let Some(time) = sample.time_ms {
            self.times.push((line, time));
        }
        let start = self.fresh.lead_start();
        let series = self.fresh.text.len() + (sample.series.start - at);
        self.fresh.text.extend_from_slice(&buf[at..sample.value_start]);
        let place = self.layout.clone().and_then(|layout| {
            let place = self.place(&layout, start, buf.get(next..).unwrap_or_default());
            if let Some(slot) = place {
                (self.chunk, self.slot) = layout.locate(slot);
                self.slot += 1;
            }
            place
        });
        if let Some(slot) = place {
            self.fresh.text.truncate(start);
            self.record(slot, 1, false);
            return;
        }
        let glued = is_name(buf[sample.value_start - 1]);
        self.fresh.slots.push(Slot {
            end: self.fresh.text.len() as u32,
            series: series as u32,
            series_end: (series + sample.series.len()) as u32,
            kind: self.kind,
            spelled: self.kind,
            glued,
        });
        self.record(self.fresh.slots.len() - 1, 1, true);
    }

    /// The slot of the lead that starts at `start` of the fresh text: the expected one, one just after it, or any.
    fn place(&mut self, layout: &Layout, start: usize, following: &[u8]) -> Option<usize> {
        let lead = &self.fresh.text[start..];
        let (variables, kind) = (&mut self.variables, self.kind);
        let expected = layout.starts[self.chunk] as usize + self.slot;
        let count = layout.slot_count();
        let near = expected..count.min(expected + 1 + LOOK_AHEAD);
        if let Some(slot) = near.clone().find(|&slot| {
            let (chunk, slot) = layout.locate(slot);
            let chunk = &layout.chunks[chunk];
            let is_lead = if chunk.holes_of(slot).is_empty() {
                chunk.lead(slot) == lead
            } else {
                match_lead(&HoledLead::of(chunk, slot), lead, variables) == Some(lead.len())
            };
            is_lead && chunk.slots[slot].kind == kind
        }) {
            return Some(slot);
        }
        // A line that was replaced or inserted shows in the line after it; that is not worth building an index for.
        // Of a lead with a hole only the first text is looked at: a wrong hint costs time, nothing else.
        let start_of = |slot: usize| {
            let (chunk, slot) = layout.locate(slot);
            let chunk = &layout.chunks[chunk];
            let end = chunk.holes_of(slot).first().map_or(chunk.slots[slot].end, |h| h.at);
            &chunk.text[chunk.start(slot)..end as usize]
        };
        let follows = |slot: usize| slot < count && following.starts_with(start_of(slot));
        let hint = (expected..expected + 2).rev().find(|&slot| follows(slot));
        if hint.is_some() && !layout.is_indexed() {
            (self.chunk, self.slot) = layout.locate(hint.unwrap_or(expected));
            return None;
        }
        let found = layout.find(lead, self.kind, self.leads);
        if let (None, Some(slot)) = (found, hint) {
            (self.chunk, self.slot) = layout.locate(slot);
        }
        found
    }

    /// The expected slot, counted through the layout.
    fn expected(&self, layout: &Layout) -> usize {
        layout.starts[self.chunk] as usize + self.slot
    }

    fn record(&mut self, from: usize, count: usize, fresh: bool) {
        if count == 0 {
            return;
        }
        let (from, count) = (from as u32, count as u32);
        match self.script.last_mut() {
            Some(run) if run.fresh == fresh && run.from + run.count == from => run.count += count,
            _ => self.script.push(Run { from, count, fresh }),
        }
    }
}

/// A value that is not plain: the whole token must be in the buffer.
#[cold]
pub(super) fn exact(buf: &[u8], at: usize) -> Option<(f64, usize)> {
    let length = buf.get(at..)?.iter().position(|&c| value::ends(c))?;
    value::parse(&buf[at..at + length]).map(|v| (v, at + length))
}
