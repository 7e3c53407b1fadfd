//! Packed chunks: what becomes of bodies that are too large, or come too late, to be kept as they are.
//!
//! Text and slots of a chunk are compressed together; uncompressed stay, by series, the key of its text and, by runs,
//! the type its labels are read under. Nothing is predicted along packed chunks: their bodies are tokenised each time,
//! and a chunk whose lines came again is found by its fingerprint. Only its own target looks for it, so that a
//! fingerprint, other than bytes, may decide: a target can fool nobody but itself.

use super::chunk::{Chunk, LeadHasher, Slot};
use super::fingerprint::FingerprintMap;
use super::meter::{Meter, Thing};
use super::plan::TextKey;
use crate::encoding::deflate::{Deflater, inflate};
use crate::exposition::text::Kind;
use crate::model::{Identity, IdentityHasher, next_key};
use std::rc::Rc;

/// Every type, by its number in packed bytes.
const KINDS: [Kind; 6] = [Kind::None, Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary, Kind::Untyped];
/// Bit of a packed slot's first byte: the slot is glued.
const GLUED: u8 = 64;

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
#[derive(Debug)]
pub(super) struct Packed {
    /// Of the chunk's content.
    fingerprint: Identity,
    /// By slot.
    pub keys: Box<[TextKey]>,
    /// First slot of each run of one type under which labels are read.
    spelled: Box<[(u32, Kind)]>,
    bytes: Box<[u8]>,
    plain_bytes: u32,
}

impl Packed {
    /// Number of lines.
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// The type under which a slot's labels are read.
    pub fn spelled(&self, slot: usize) -> Kind {
        self.spelled[self.spelled.partition_point(|&(first, _)| first as usize <= slot) - 1].1
    }

    /// Text and slots.
    pub fn open(&self) -> (Box<[u8]>, Box<[Slot]>) {
        let plain = inflate(&self.bytes, self.plain_bytes as usize);
        let mut at = 1;
        let mut next = || {
            at += 1;
            plain[at - 1]
        };
        let mut number = || {
            (0..).step_by(7).map(|shift| (next(), shift)).try_fold(0u32, |v, (b, shift)| {
                let v = v | u32::from(b & 127) << shift;
                if b < 128 { Err(v) } else { Ok(v) }
            })
        };
        let mut number = || number().unwrap_err();
        let mut slots = Vec::with_capacity(self.count());
        let mut start = 0;
        for _ in 0..self.count() {
            let series = start + number();
            let series_end = series + number();
            let end = series_end + number();
            let kinds = number();
            let (kind, spelled) = (KINDS[kinds as usize & 7], KINDS[kinds as usize >> 3 & 7]);
            slots.push(Slot { end, series, series_end, kind, spelled, glued: kinds & u32::from(GLUED) != 0 });
            start = end;
        }
        (plain[at..].into(), slots.into())
    }

    /// Heap bytes.
    fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.keys) + size_of_val(&*self.spelled)
    }
}

/// Cuts lines into packed chunks.
#[derive(Debug)]
pub(super) struct Packer<'s> {
    hasher: IdentityHasher,
    leads: LeadHasher,
    cut: Cut,
    meter: &'s Meter,
    /// The target's packed chunks of before, by fingerprint.
    before: FingerprintMap<Identity, Rc<Chunk>>,
    deflater: Deflater,
    chunks: Vec<Rc<Chunk>>,
    /// The type in force before the chunk being built.
    entry: Kind,
    text: Vec<u8>,
    slots: Vec<Slot>,
    plain: Vec<u8>,
}

impl<'s> Packer<'s> {
    /// `before`: chunks that may come again.
    pub fn new(
        (hasher, leads): (IdentityHasher, LeadHasher),
        cut: Cut,
        meter: &'s Meter,
        before: &[Rc<Chunk>],
    ) -> Self {
        let known = |c: &Rc<Chunk>| Some((c.packed.as_ref()?.fingerprint, Rc::clone(c)));
        Self {
            hasher,
            leads,
            cut,
            meter,
            before: before.iter().filter_map(known).collect(),
            deflater: Deflater::default(),
            chunks: Vec::new(),
            entry: Kind::None,
            text: Vec::new(),
            slots: Vec::new(),
            plain: Vec::new(),
        }
    }

    /// Adds a line; the offsets in `slot` are relative to its lead.
    pub fn line(&mut self, lead: &[u8], slot: Slot) {
        let ends = || (self.leads.hash(lead) >> 32).is_multiple_of(self.cut.series_mean);
        let is_full = self.slots.len() >= self.cut.series_max || self.text.len() >= self.cut.text_bytes;
        if !self.slots.is_empty() && (is_full || ends()) {
            self.flush();
        }
        let start = self.text.len() as u32;
        self.text.extend_from_slice(lead);
        let (series, series_end) = (start + slot.series, start + slot.series_end);
        self.slots.push(Slot { end: start + slot.end, series, series_end, ..slot });
    }

    /// The chunks.
    pub fn finish(mut self) -> Vec<Rc<Chunk>> {
        self.flush();
        self.chunks
    }

    fn flush(&mut self) {
        let Some(last) = self.slots.last() else { return };
        let entry = std::mem::replace(&mut self.entry, last.kind);
        self.put_plain(entry);
        let fingerprint = self.hasher.bytes(&self.plain);
        let chunk = match self.before.get(&fingerprint) {
            Some(chunk) => Rc::clone(chunk),
            None => self.chunk(entry, fingerprint),
        };
        self.chunks.push(chunk);
        self.text.clear();
        self.slots.clear();
    }

    /// Writes down what makes the chunk.
    fn put_plain(&mut self, entry: Kind) {
        let out = &mut self.plain;
        out.clear();
        out.push(entry as u8);
        let mut start = 0;
        for s in &self.slots {
            let kinds = s.kind as u8 | (s.spelled as u8) << 3 | if s.glued { GLUED } else { 0 };
            for number in [s.series - start, s.series_end - s.series, s.end - s.series_end, u32::from(kinds)] {
                crate::encoding::protobuf::put_varint(out, u64::from(number));
            }
            start = s.end;
        }
        out.extend_from_slice(&self.text);
    }

    fn chunk(&mut self, entry: Kind, fingerprint: Identity) -> Rc<Chunk> {
        let texts = self.slots.iter().map(|s| &self.text[s.series as usize..s.series_end as usize]);
        let mut spelled: Vec<(u32, Kind)> = Vec::new();
        for (i, slot) in self.slots.iter().enumerate() {
            if spelled.last().is_none_or(|l| l.1 != slot.spelled) {
                spelled.push((i as u32, slot.spelled));
            }
        }
        let packed = Packed {
            fingerprint,
            keys: texts.map(|text| TextKey::of(text, &self.hasher)).collect(),
            spelled: spelled.into(),
            bytes: self.deflater.deflate(&self.plain),
            plain_bytes: self.plain.len() as u32,
        };
        let charge = self.meter.charge(Thing::Chunk, size_of::<Chunk>() + packed.heap_bytes());
        Rc::new(Chunk {
            id: next_key(),
            entry,
            text: [].into(),
            slots: [].into(),
            holes: [].into(),
            packed: Some(packed),
            _charge: Some(charge),
        })
    }
}
