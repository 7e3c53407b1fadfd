//! Packed chunks: what becomes of bodies that are too large, or come too late, to be kept as they are.
//!
//! Text and slots of a chunk are compressed together; uncompressed stay the types that its labels are read under, by
//! runs. Nothing is predicted along packed chunks: their bodies are tokenised each time, and a chunk whose lines came
//! again is found by its fingerprint. Only its own target looks for it, so that a fingerprint, other than bytes, may
//! decide: a target can fool nobody but itself.

use super::bits::Bits;
use super::bound::Bound;
use super::chunk::{Chunk, Layout, LeadHasher, Slot};
use super::fingerprint::FingerprintMap;
use super::meter::{Meter, Thing};
use super::plain::{put_chunk, take_chunk};
use super::pool::Terms;
use crate::encoding::deflate::{Deflater, inflate};
use crate::exposition::labels::effective_kind;
use crate::exposition::text::Kind;
use crate::model::{Identity, IdentityHasher, next_key};
use std::rc::Rc;

/// How large packed chunks are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cut {
    /// A chunk ends before one line in so many, by content.
    pub series_mean: u64,
    /// Most lines.
    pub series_max: usize,
    /// A chunk with this much text ends.
    pub text_bytes: usize,
}

impl Default for Cut {
    fn default() -> Self {
        Self { series_mean: 256, series_max: 1024, text_bytes: 256 << 10 }
    }
}

/// What a chunk has in place of text and slots.
#[derive(Clone, Debug)]
pub(super) struct Packed {
    /// Of the lines as they were read.
    fingerprint: Identity,
    count: u32,
    /// First slot of each run of one type in force.
    kinds: Box<[(u32, Kind)]>,
    /// First slot of each run of one type under which labels are read.
    spelled: Box<[(u32, Kind)]>,
    /// Slots whose labels read differently under some type; `None`: none.
    touched: Option<Bits>,
    /// Whether HELP or TYPE lines stand between the series.
    pub has_metadata: bool,
    bytes: Box<[u8]>,
    plain_bytes: u32,
}

fn kind_at(runs: &[(u32, Kind)], slot: usize) -> Kind {
    runs[runs.partition_point(|&(first, _)| first as usize <= slot) - 1].1
}

fn runs(kinds: impl Iterator<Item = Kind>) -> Box<[(u32, Kind)]> {
    let mut runs: Vec<(u32, Kind)> = Vec::new();
    for (slot, kind) in kinds.enumerate() {
        if runs.last().is_none_or(|l| l.1 != kind) {
            runs.push((slot as u32, kind));
        }
    }
    runs.into()
}

impl Packed {
    /// Number of lines.
    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// The type in force at a slot.
    pub fn kind(&self, slot: usize) -> Kind {
        kind_at(&self.kinds, slot)
    }

    /// The type under which a slot's labels are read.
    pub fn spelled(&self, slot: usize) -> Kind {
        kind_at(&self.spelled, slot)
    }

    /// Slots whose labels read differently under some type.
    pub fn touched(&self) -> impl Iterator<Item = usize> {
        self.touched.iter().flat_map(|bits| (0..self.count()).filter(|&slot| bits.has(slot)))
    }

    /// Text and slots.
    pub fn open(&self) -> (Box<[u8]>, Box<[Slot]>) {
        let plain = inflate(&self.bytes, self.plain_bytes as usize);
        let (_, slots, text) = take_chunk(&plain, &mut 0, self.count(), |slot, _| self.spelled(slot));
        (text.into(), slots)
    }

    /// Bytes of text and slots as they were.
    pub fn plain_bytes(&self) -> usize {
        self.plain_bytes as usize
    }

    fn into_chunk(self, entry: Kind, meter: &Meter) -> Rc<Chunk> {
        let runs = size_of_val(&*self.kinds) + size_of_val(&*self.spelled);
        let touched = self.touched.as_ref().map_or(0, |_| self.count() / 8);
        let bytes = size_of::<Chunk>() + self.bytes.len() + runs + touched;
        Rc::new(Chunk {
            id: next_key(),
            entry,
            text: [].into(),
            slots: [].into(),
            holes: [].into(),
            packed: Some(self),
            _charge: Some(meter.charge(Thing::Chunk, bytes)),
        })
    }
}

/// What packing needs to know of the store and the target.
#[derive(Clone, Debug)]
pub(super) struct Means {
    pub hasher: IdentityHasher,
    pub leads: LeadHasher,
    pub cut: Cut,
    /// Of what is packed.
    pub meter: Meter,
    /// No more is packed when the meter is past this.
    pub bytes_max: usize,
    pub terms: Rc<Terms>,
}

/// Cuts lines into packed chunks, and binds them.
#[derive(Debug)]
pub(super) struct Packer {
    means: Means,
    /// The target's last layout where that is packed: its chunks may come again.
    old: Option<Rc<Layout>>,
    /// Which of its chunks is expected.
    next: usize,
    /// Its chunks by fingerprint, once one was not the expected one.
    index: Option<FingerprintMap<Identity, usize>>,
    deflater: Deflater,
    pub chunks: Vec<Rc<Chunk>>,
    /// Which of them are not of the old layout.
    pub fresh: Vec<usize>,
    /// Of those.
    pub bounds: Vec<Rc<Bound>>,
    /// The type in force before the chunk being built.
    entry: Kind,
    text: Vec<u8>,
    slots: Vec<Slot>,
    plain: Vec<u8>,
}

impl Packer {
    /// `old`: the target's last layout.
    pub fn new(means: Means, old: Option<Rc<Layout>>) -> Self {
        Self {
            means,
            old: old.filter(|l| l.is_packed()),
            next: 0,
            index: None,
            deflater: Deflater::default(),
            chunks: Vec::new(),
            fresh: Vec::new(),
            bounds: Vec::new(),
            entry: Kind::None,
            text: Vec::new(),
            slots: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Whether there is no memory for more.
    pub fn is_full(&self) -> bool {
        !self.fresh.is_empty() && self.means.meter.bytes() > self.means.bytes_max
    }

    /// Adds a line; the offsets in `slot` are relative to its lead. Its labels are read under the type in force, until
    /// [`Self::respell`].
    pub fn line(&mut self, lead: &[u8], slot: Slot) {
        let ends = || (self.means.leads.hash(lead) >> 32).is_multiple_of(self.means.cut.series_mean);
        let cut = &self.means.cut;
        let is_full = self.slots.len() >= cut.series_max || self.text.len() >= cut.text_bytes;
        if !self.slots.is_empty() && (is_full || ends()) {
            self.flush();
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(lead);
        let (series, series_end) = (start + slot.series, start + slot.series_end);
        self.slots.push(Slot { end: start + slot.end, series, series_end, ..slot });
    }

    /// Ends the chunk being built.
    pub fn flush(&mut self) {
        let Some(last) = self.slots.last() else { return };
        let entry = std::mem::replace(&mut self.entry, last.kind);
        self.plain.clear();
        put_chunk(entry, &self.slots, &self.text, &mut self.plain);
        let fingerprint = self.means.hasher.bytes(&self.plain);
        if let Some(chunk) = self.known(fingerprint) {
            self.chunks.push(chunk);
        } else {
            let chunk = self.pack(fingerprint).into_chunk(entry, &self.means.meter);
            self.fresh.push(self.chunks.len());
            self.bind(&chunk);
            self.chunks.push(chunk);
        }
        self.text.clear();
        self.slots.clear();
    }

    /// Reads the labels of a chunk under other types.
    pub fn respell(&mut self, at: usize, kinds: impl Iterator<Item = Kind>) {
        let chunk = Rc::clone(&self.chunks[at]);
        let packed = chunk.packed.as_ref().expect("a packer's chunks are packed");
        let packed = Packed { spelled: runs(kinds), ..packed.clone() };
        let chunk = packed.into_chunk(chunk.entry, &self.means.meter);
        self.bind(&chunk);
        self.chunks[at] = chunk;
    }

    /// The chunk of the old layout with these lines.
    fn known(&mut self, fingerprint: Identity) -> Option<Rc<Chunk>> {
        let old = self.old.as_ref()?;
        let of = |c: &Chunk| c.packed.as_ref().map(|p| p.fingerprint);
        if !old.chunks.get(self.next).is_some_and(|c| of(c) == Some(fingerprint)) {
            let all = || old.chunks.iter().enumerate().rev().filter_map(|(i, c)| Some((of(c)?, i)));
            self.next = *self.index.get_or_insert_with(|| all().collect()).get(&fingerprint)?;
        }
        self.next += 1;
        Some(Rc::clone(&old.chunks[self.next - 1]))
    }

    fn bind(&mut self, chunk: &Rc<Chunk>) {
        let Means { hasher, meter, terms, .. } = &self.means;
        self.bounds.push(Rc::new(Bound::new(Rc::clone(chunk), Rc::clone(terms), None, (hasher, meter))));
    }

    fn pack(&mut self, fingerprint: Identity) -> Packed {
        let texts = || self.slots.iter().map(|s| &self.text[s.series as usize..s.series_end as usize]);
        let mut touched = Bits::none(self.slots.len());
        for (slot, text) in texts().enumerate() {
            if [Kind::Histogram, Kind::Summary].iter().any(|&k| effective_kind(text, k) != Kind::None) {
                touched.set(slot);
            }
        }
        let kinds = runs(self.slots.iter().map(|s| s.kind));
        Packed {
            fingerprint,
            count: self.slots.len() as u32,
            spelled: kinds.clone(),
            kinds,
            touched: Some(touched).filter(|t| !t.is_empty()),
            has_metadata: self.slots.iter().scan(0, |end, s| Some(std::mem::replace(end, s.end) < s.series)).any(|b| b),
            bytes: self.deflater.deflate(&self.plain),
            plain_bytes: self.plain.len() as u32,
        }
    }
}
