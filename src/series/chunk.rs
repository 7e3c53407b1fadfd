//! Chunks and layouts: what a body is apart from its values.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use super::meter::{Charge, Meter, Thing};
use super::packed::Packed;
use crate::base::limits::CHUNK_SERIES_MEAN;
use crate::exposition::text::Kind;

/// Seeded hash of leads. It finds candidates and cuts chunks, it never decides.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeadHasher(pub u64);

impl LeadHasher {
    pub fn hash(self, bytes: &[u8]) -> u64 {
        use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
        rapidhash_v3_seeded(bytes, &RapidSecrets::seed_cpp(self.0))
    }

    /// Whether a chunk ends before the line with this lead: one line in [`CHUNK_SERIES_MEAN`], by content.
    pub fn cuts(self, lead: &[u8]) -> bool {
        (self.hash(lead) >> 32) % CHUNK_SERIES_MEAN as u64 == 0
    }
}

/// One sample line of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Slot {
    /// Where its lead ends in the chunk's text; it starts where the previous one ends.
    pub end: u32,
    /// Where its series text starts and ends.
    pub series: u32,
    /// See `series`.
    pub series_end: u32,
    /// The type in force.
    pub kind: Kind,
    /// The type that the labels are read under: the one in force when the target's cache took the text in.
    pub spelled: Kind,
    /// Nothing stands between the name and the value, so another value could read as part of the name.
    pub glued: bool,
}

/// Where a variable stands in a chunk's text: a whole quoted label value that differs between targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Hole {
    /// Offset in the text, which does not have the variable's bytes.
    pub at: u32,
    /// Which of the body's variables.
    pub variable: u8,
}

/// A run of sample lines without their values. Interned: equal chunks of one store are one object.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Unique in the process.
    pub id: u64,
    /// The type in force before the first line.
    pub entry: Kind,
    /// Leads, one after the other: HELP and TYPE lines, series text, blanks up to the value. No plain comments.
    pub text: Box<[u8]>,
    /// In body order, never empty.
    pub slots: Box<[Slot]>,
    /// By offset; nearly always none.
    pub holes: Box<[Hole]>,
    /// In place of text, slots and holes.
    pub packed: Option<Packed>,
    /// Its bytes on the store's meter; `None` for a copy that was opened to be read.
    pub _charge: Option<Charge>,
}

impl Chunk {
    /// Number of sample lines.
    pub fn count(&self) -> usize {
        self.packed.as_ref().map_or(self.slots.len(), Packed::count)
    }

    /// The chunk with its texts at hand: itself, or an opened copy.
    pub fn open(self: &Rc<Self>) -> Rc<Self> {
        let Some(packed) = &self.packed else { return Rc::clone(self) };
        let (text, slots) = packed.open();
        Rc::new(Self { id: self.id, entry: self.entry, text, slots, holes: [].into(), packed: None, _charge: None })
    }

    /// The type in force at a slot.
    pub fn kind(&self, slot: usize) -> Kind {
        self.packed.as_ref().map_or_else(|| self.slots[slot].kind, |p| p.kind(slot))
    }

    /// The type under which a slot's labels are read.
    pub fn spelled(&self, slot: usize) -> Kind {
        self.packed.as_ref().map_or_else(|| self.slots[slot].spelled, |p| p.spelled(slot))
    }

    /// Where the lead of a slot starts.
    pub fn start(&self, slot: usize) -> usize {
        if slot == 0 { 0 } else { self.slots[slot - 1].end as usize }
    }

    /// Everything of a line before its value.
    pub fn lead(&self, slot: usize) -> &[u8] {
        &self.text[self.start(slot)..self.slots[slot].end as usize]
    }

    /// Holes of a slot; all are inside its series text.
    pub fn holes_of(&self, slot: usize) -> &[Hole] {
        if self.holes.is_empty() {
            return &[];
        }
        let (start, end) = (self.start(slot) as u32, self.slots[slot].end);
        let first = self.holes.partition_point(|h| h.at < start);
        let last = self.holes.partition_point(|h| h.at < end);
        &self.holes[first..last]
    }

    /// Name and labels as written, with these texts in the holes.
    pub fn series<T: AsRef<str>>(&self, slot: usize, fill: &[T]) -> Cow<'_, [u8]> {
        let s = &self.slots[slot];
        let text = &self.text[s.series as usize..s.series_end as usize];
        let holes = self.holes_of(slot);
        if holes.is_empty() {
            return Cow::Borrowed(text);
        }
        Cow::Owned(filled(text, s.series, holes, fill))
    }

    /// Everything of a line before its value, with these texts in the holes; and its slot, relative to the lead.
    pub fn line<T: AsRef<str>>(&self, slot: usize, fill: &[T]) -> (Cow<'_, [u8]>, Slot) {
        let start = self.start(slot) as u32;
        let s = self.slots[slot];
        let mut relative = Slot { end: s.end - start, series: s.series - start, series_end: s.series_end - start, ..s };
        let holes = self.holes_of(slot);
        if holes.is_empty() {
            return (Cow::Borrowed(self.lead(slot)), relative);
        }
        let text = filled(self.lead(slot), start, holes, fill);
        let more = text.len() as u32 - relative.end;
        relative.end += more;
        relative.series_end += more;
        (Cow::Owned(text), relative)
    }

    /// Heap bytes.
    pub fn bytes(text: &[u8], slots: &[Slot], holes: &[Hole]) -> usize {
        size_of::<Self>() + text.len() + size_of_val(slots) + size_of_val(holes)
    }
}

/// `text`, which starts at `offset` of its chunk, with the holes filled.
fn filled<T: AsRef<str>>(text: &[u8], offset: u32, holes: &[Hole], fill: &[T]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + 32);
    let mut done = 0;
    for hole in holes {
        let at = (hole.at - offset) as usize;
        out.extend_from_slice(&text[done..at]);
        out.extend_from_slice(fill[usize::from(hole.variable)].as_ref().as_bytes());
        done = at;
    }
    out.extend_from_slice(&text[done..]);
    out
}

/// The ordered leads of a body. Interned.
#[derive(Debug)]
pub struct Layout {
    /// Unique in the process.
    pub(super) id: u64,
    /// In body order.
    pub(super) chunks: Vec<Rc<Chunk>>,
    /// Slots before each chunk, and in all.
    pub(super) starts: Vec<u32>,
    /// HELP and TYPE lines behind the last sample.
    pub(super) trailer: Box<[u8]>,
    /// The rules under which its holes are variables; 0 without holes.
    pub(super) owner: u64,
    /// Bits of the variables that occur.
    pub(super) variables: u8,
    index: OnceCell<Index>,
    charge: Charge,
}

/// Finds slots by the hash of their lead: open addressing, entries are slot + 1.
#[derive(Debug)]
struct Index(Box<[u32]>);

impl Layout {
    pub(super) fn new(id: u64, chunks: Vec<Rc<Chunk>>, trailer: Box<[u8]>, (owner, meter): (u64, &Meter)) -> Self {
        let mut starts = vec![0];
        for c in &chunks {
            starts.push(starts[starts.len() - 1] + c.count() as u32);
        }
        let variables = chunks.iter().flat_map(|c| &*c.holes).fold(0, |bits, h| bits | 1 << h.variable);
        let owner = if variables == 0 { 0 } else { owner };
        let bytes = chunks.capacity() * size_of::<Rc<Chunk>>() + starts.capacity() * size_of::<u32>() + trailer.len();
        let charge = meter.charge(Thing::Layout, size_of::<Self>() + bytes);
        Self { id, chunks, starts, trailer, owner, variables, index: OnceCell::new(), charge }
    }

    /// Number of sample lines.
    #[must_use]
    pub fn slot_count(&self) -> usize {
        self.starts[self.starts.len() - 1] as usize
    }

    /// Chunk and slot within it.
    pub(super) fn locate(&self, slot: usize) -> (usize, usize) {
        let chunk = self.starts.partition_point(|&s| s as usize <= slot) - 1;
        (chunk, slot - self.starts[chunk] as usize)
    }

    /// Lead and type of a slot.
    pub(super) fn lead(&self, slot: usize) -> (&[u8], Kind) {
        let (chunk, slot) = self.locate(slot);
        (self.chunks[chunk].lead(slot), self.chunks[chunk].slots[slot].kind)
    }

    /// The type under which a slot's labels are read.
    pub(super) fn spelled(&self, slot: usize) -> Kind {
        let (chunk, slot) = self.locate(slot);
        self.chunks[chunk].spelled(slot)
    }

    /// Whether its texts are packed: then all of its chunks are.
    pub(super) fn is_packed(&self) -> bool {
        self.chunks.first().is_some_and(|c| c.packed.is_some())
    }

    /// Bytes of its texts as they were before packing.
    pub(super) fn plain_bytes(&self) -> usize {
        self.chunks.iter().filter_map(|c| c.packed.as_ref()).map(Packed::plain_bytes).sum()
    }

    /// Whether it is no guess for other targets: packed, or labels are read under another type than the one in force,
    /// which is of one target's past.
    pub(super) fn is_odd(&self) -> bool {
        self.is_packed() || self.chunks.iter().any(|c| c.slots.iter().any(|s| s.spelled != s.kind))
    }

    /// Number of texts that filling needs.
    pub(super) fn variable_count(&self) -> usize {
        (u8::BITS - self.variables.leading_zeros()) as usize
    }

    /// The first slot without holes that has this lead under this type. The first call builds an index.
    pub(super) fn find(&self, lead: &[u8], kind: Kind, hasher: LeadHasher) -> Option<usize> {
        let index = self.index.get_or_init(|| self.build_index(hasher));
        let mask = index.0.len() - 1;
        let mut at = hasher.hash(lead) as usize & mask;
        loop {
            match index.0[at] {
                0 => return None,
                slot => {
                    if self.lead(slot as usize - 1) == (lead, kind) && !self.has_holes(slot as usize - 1) {
                        return Some(slot as usize - 1);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    /// Whether [`Self::find`] was called before.
    pub(super) fn is_indexed(&self) -> bool {
        self.index.get().is_some()
    }

    fn has_holes(&self, slot: usize) -> bool {
        let (chunk, slot) = self.locate(slot);
        !self.chunks[chunk].holes_of(slot).is_empty()
    }

    fn build_index(&self, hasher: LeadHasher) -> Index {
        let size = (self.slot_count() * 2).next_power_of_two().max(2);
        let mut table = vec![0u32; size].into_boxed_slice();
        self.charge.grow(size_of_val(&*table));
        let mut slot = 0;
        for chunk in &self.chunks {
            for i in 0..chunk.slots.len() {
                slot += 1;
                if !chunk.holes_of(i).is_empty() {
                    continue;
                }
                let mut at = hasher.hash(chunk.lead(i)) as usize & (size - 1);
                // Equal leads would make long probe runs; only the first is ever found.
                while table[at] != 0 && self.lead(table[at] as usize - 1).0 != chunk.lead(i) {
                    at = (at + 1) & (size - 1);
                }
                if table[at] == 0 {
                    table[at] = slot;
                }
            }
        }
        Index(table)
    }
}
