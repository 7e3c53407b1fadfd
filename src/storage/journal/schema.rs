//! Label sets as a reader keeps them: front coded and compressed, about 30 bytes a series, walked in slot order.
//!
//! A series in plain form is `label count, (name length, name, kind, ...)*` with kind 0 and a text, or kind
//! variable number + 1. The plain form of a schema is also what its fingerprint is taken of. In memory as in the file
//! each series is `bytes shared with the one before, bytes that follow, these`; in memory the series of a schema are
//! compressed together, unless they are few: what is read at every scrape is kept in other forms, where there is room.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use md5::{Digest, Md5};

use super::format::{Walk, put_text, put_varint};
use crate::model::LabelValue;

/// Fewer bytes are not compressed.
const PACKED_FROM: usize = 256;

/// Label sets of a run of series, in slot order.
pub struct ReadSchema {
    fingerprint: u128,
    count: usize,
    coded: Coded,
    /// Shapes with it that some target has now.
    shapes: AtomicU32,
}

/// Series one after the other. Snappy packs them less than deflate would, but is opened at each scrape in a tenth of the time.
#[derive(PartialEq, Eq)]
struct Coded {
    bytes: Box<[u8]>,
    is_packed: bool,
}

impl Coded {
    fn new(plain: &[u8]) -> Self {
        if plain.len() >= PACKED_FROM {
            // Compression only fails above 4 GiB.
            let bytes = snap::raw::Encoder::new().compress_vec(plain).unwrap_or_default();
            if !bytes.is_empty() && bytes.len() < plain.len() * 7 / 8 {
                return Self { bytes: bytes.into(), is_packed: true };
            }
        }
        Self { bytes: plain.into(), is_packed: false }
    }

    fn open(&self) -> Cow<'_, [u8]> {
        if !self.is_packed {
            return Cow::Borrowed(&self.bytes);
        }
        Cow::Owned(snap::raw::Decoder::new().decompress_vec(&self.bytes).expect("our own bytes, in memory"))
    }
}

impl PartialEq for ReadSchema {
    fn eq(&self, other: &Self) -> bool {
        (self.fingerprint, self.count, &self.coded) == (other.fingerprint, other.count, &other.coded)
    }
}

impl Eq for ReadSchema {}

impl std::fmt::Debug for ReadSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadSchema({:032x}, {} series)", self.fingerprint, self.count)
    }
}

impl ReadSchema {
    /// A schema of these label sets, each sorted by name.
    #[must_use]
    pub fn new<'l>(series: impl IntoIterator<Item = &'l [(&'l str, LabelValue<'l>)]>) -> Self {
        let mut coder = Coder::default();
        let mut coded = Vec::new();
        let mut digest = Digester::default();
        let mut count = 0;
        for labels in series {
            coder.add(labels, &mut coded);
            digest.add(coder.last());
            count += 1;
        }
        Self { fingerprint: digest.finish(), count, coded: Coded::new(&coded), shapes: AtomicU32::new(0) }
    }

    /// Reads `count` coded series; `previous` is the plain form of the series before the first.
    pub(super) fn take(count: usize, w: &mut Walk<'_>, previous: &mut Vec<u8>) -> Option<Self> {
        let mut digest = Digester::default();
        let mut coded = Vec::new();
        for slot in 0..count {
            let rest = take_plain(w, previous)?;
            if !is_plain(previous) {
                return None;
            }
            digest.add(previous);
            // A schema is kept alone, so its first series is not coded against another schema's last one.
            let (shared, rest) = if slot == 0 { (0, &previous[..]) } else { (previous.len() - rest.len(), rest) };
            put_coded(&mut coded, shared, rest);
        }
        Some(Self { fingerprint: digest.finish(), count, coded: Coded::new(&coded), shapes: AtomicU32::new(0) })
    }

    /// Of the content: equal for equal content across segments, shards and processes.
    #[must_use]
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }

    /// Number of series.
    #[must_use]
    pub fn series_count(&self) -> usize {
        self.count
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.coded.bytes.len()
    }

    /// Whether targets of several shapes have it: what is made for it serves all of them.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shapes.load(Ordering::Relaxed) > 1
    }

    /// Calls `each` with slot and labels; `scratch` holds one series at a time.
    pub fn for_each(&self, scratch: &mut Vec<u8>, mut each: impl FnMut(usize, ReadLabels<'_>)) {
        scratch.clear();
        let coded = self.coded.open();
        let mut w = Walk::new(&coded, 0);
        for slot in 0..self.count {
            take_plain(&mut w, scratch).expect("read before");
            each(slot, ReadLabels { plain: scratch });
        }
    }
}

/// Labels of one series, sorted by name.
#[derive(Clone, Copy, Debug)]
pub struct ReadLabels<'p> {
    plain: &'p [u8],
}

impl<'p> ReadLabels<'p> {
    /// Name and value of each label.
    pub fn iter(self) -> impl Iterator<Item = (&'p str, LabelValue<'p>)> {
        let text = |bytes| std::str::from_utf8(bytes).expect("read before");
        self.bytes().map(move |(name, value)| match value {
            ByteValue::Text(value) => (text(name), LabelValue::Text(text(value))),
            ByteValue::Var(n) => (text(name), LabelValue::Var(n)),
        })
    }

    /// The same as bytes of UTF-8.
    pub fn bytes(self) -> impl Iterator<Item = (&'p [u8], ByteValue<'p>)> {
        let mut w = Walk::new(self.plain, 0);
        let count = w.varint().unwrap_or(0);
        (0..count).map_while(move |_| {
            let name = take_bytes(&mut w)?;
            Some((name, take_value(&mut w)?))
        })
    }
}

/// A [`LabelValue`] as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteValue<'p> {
    /// Fixed text.
    Text(&'p [u8]),
    /// The target's n-th variable.
    Var(u16),
}

/// What one column of values means: schemas side by side.
#[derive(Debug)]
pub struct ReadShape {
    /// Unique in this reader; equal lists of schemas have equal keys, also across segments.
    pub key: u64,
    /// The parts, in column order.
    pub schemas: Vec<Arc<ReadSchema>>,
    /// Series in all parts together.
    pub series_count: usize,
    targets: AtomicU32,
}

impl ReadShape {
    /// A shape that no target has shown yet.
    #[must_use]
    pub fn new(key: u64, schemas: Vec<Arc<ReadSchema>>) -> Self {
        let series_count = schemas.iter().map(|s| s.series_count()).sum();
        Self { key, schemas, series_count, targets: AtomicU32::new(0) }
    }

    /// Calls `each` with slot and labels of every series.
    pub fn for_each(&self, mut each: impl FnMut(usize, ReadLabels<'_>)) {
        let (mut first, mut scratch) = (0, Vec::new());
        for schema in &self.schemas {
            schema.for_each(&mut scratch, |slot, labels| each(first + slot, labels));
            first += schema.series_count();
        }
    }

    /// One more target of the segment shows it.
    pub fn join(&self) {
        if self.targets.fetch_add(1, Ordering::Relaxed) == 0 {
            for schema in &self.schemas {
                schema.shapes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A target that has joined shows another one, or ends.
    pub fn leave(&self) {
        if self.targets.fetch_sub(1, Ordering::Relaxed) == 1 {
            for schema in &self.schemas {
                schema.shapes.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Whether several targets show it: what is made for it serves all of them.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.targets.load(Ordering::Relaxed) > 1
    }
}

/// Codes series one against the other.
#[derive(Debug, Default)]
pub(super) struct Coder {
    last: Vec<u8>,
    next: Vec<u8>,
}

impl Coder {
    /// Appends a series.
    pub fn add(&mut self, labels: &[(&str, LabelValue<'_>)], out: &mut Vec<u8>) {
        self.next.clear();
        put_plain(&mut self.next, labels);
        let shared = self.last.iter().zip(&self.next).take_while(|(a, b)| a == b).count();
        put_coded(out, shared, &self.next[shared..]);
        std::mem::swap(&mut self.last, &mut self.next);
    }

    /// The next series is coded alone.
    pub fn restart(&mut self) {
        self.last.clear();
    }

    fn last(&self) -> &[u8] {
        &self.last
    }
}

#[derive(Default)]
struct Digester(Md5);

impl Digester {
    fn add(&mut self, plain: &[u8]) {
        self.0.update((plain.len() as u64).to_le_bytes());
        self.0.update(plain);
    }

    fn finish(self) -> u128 {
        u128::from_le_bytes(self.0.finalize().into())
    }
}

fn put_coded(out: &mut Vec<u8>, shared: usize, rest: &[u8]) {
    put_varint(out, shared as u64);
    put_varint(out, rest.len() as u64);
    out.extend_from_slice(rest);
}

/// Turns `previous` into the next series; gives what it does not share.
fn take_plain<'w>(w: &mut Walk<'w>, previous: &mut Vec<u8>) -> Option<&'w [u8]> {
    let shared = usize::try_from(w.varint()?).ok()?;
    let rest_bytes = w.count()?;
    if shared > previous.len() {
        return None;
    }
    previous.truncate(shared);
    let rest = w.take(rest_bytes)?;
    previous.extend_from_slice(rest);
    Some(rest)
}

fn put_plain(out: &mut Vec<u8>, labels: &[(&str, LabelValue<'_>)]) {
    put_varint(out, labels.len() as u64);
    for (name, value) in labels {
        put_text(out, name);
        match value {
            LabelValue::Text(text) => {
                out.push(0);
                put_text(out, text);
            }
            LabelValue::Var(n) => put_varint(out, u64::from(*n) + 1),
        }
    }
}

fn take_bytes<'w>(w: &mut Walk<'w>) -> Option<&'w [u8]> {
    let n = w.count()?;
    w.take(n)
}

fn take_value<'w>(w: &mut Walk<'w>) -> Option<ByteValue<'w>> {
    match w.varint()? {
        0 => take_bytes(w).map(ByteValue::Text),
        n => u16::try_from(n - 1).ok().map(ByteValue::Var),
    }
}

/// Whether the bytes are a series in plain form and nothing else, its texts UTF-8.
fn is_plain(plain: &[u8]) -> bool {
    let mut w = Walk::new(plain, 0);
    let Some(count) = w.count() else { return false };
    let is_text = |bytes| std::str::from_utf8(bytes).is_ok();
    let all = (0..count).all(|_| {
        take_bytes(&mut w).is_some_and(is_text)
            && match take_value(&mut w) {
                Some(ByteValue::Text(value)) => is_text(value),
                Some(ByteValue::Var(_)) => true,
                None => false,
            }
    });
    all && w.rest() == 0
}
