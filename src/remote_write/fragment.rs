//! Compressed bytes of one schema, or of a whole shape, that can be overwritten with another scrape, or another target of equal lengths.

use super::prepared::{Mark, Marks, Prepared, Sample};
use crate::encoding::snappy::{COPIED, FIXED, PATCHABLE_BYTES_MAX, VALUE, compress_patchable};

/// Bytes of the timestamp in a patchable message.
pub const TIME_BYTES: usize = 6;
/// Timestamps that take six bytes: February 1971 to May 2109.
pub const TIME_MS: std::ops::Range<i64> = 1 << 35..1 << 42;

/// Classes of timestamp bytes start here; those of variables follow.
const CLASS_TIME: u32 = 1;
const CLASS_VARIABLES: u32 = CLASS_TIME + TIME_BYTES as u32;

/// A compressed piece with its patch points. Serves every target whose used variables have the lengths it was built
/// for (and, for variables that rules read, the same texts).
#[derive(Debug)]
pub struct Fragment {
    piece: Box<[u8]>,
    raw_bytes: usize,
    /// Offsets of the values, by slot; with `slots` only of those.
    values: Box<[u32]>,
    /// The slots that are sent, when the rules drop some.
    slots: Option<Box<[u32]>>,
    times: Box<[Patch]>,
    variables: Box<[(u16, Patch)]>,
    dropped: usize,
}

/// Literal bytes to overwrite: `piece[at..at + len]` is `text[from..from + len]`.
#[derive(Clone, Copy, Debug)]
struct Patch {
    at: u32,
    from: u32,
    len: u32,
}

impl Fragment {
    /// Builds the piece from prepared schemas, whose slots follow each other, and any target of the class. `None` when
    /// the message is too large to be patchable.
    #[must_use]
    pub fn new(schemas: &[&Prepared], variables: &[&str]) -> Option<Self> {
        let mut message = Vec::new();
        let mut marks = Vec::new();
        let mut first_slot = 0;
        for prepared in schemas {
            let mut marks = MarksFrom { first_slot, marks: &mut marks };
            for slot in 0..prepared.slots() as u32 {
                let sample = Sample { slot, value: 0.0, time_ms: TIME_MS.start };
                prepared.encode(sample, variables, &mut message, &mut marks);
            }
            first_slot += prepared.slots() as u32;
            if message.len() > PATCHABLE_BYTES_MAX {
                return None;
            }
        }
        let (piece, placed) = compress_patchable(&message, &classes(message.len(), &marks, variables));
        let mut made = Self {
            piece: piece.into(),
            raw_bytes: message.len(),
            values: Box::default(),
            slots: None,
            times: Box::default(),
            variables: Box::default(),
            dropped: schemas.iter().map(|p| p.dropped()).sum(),
        };
        made.place(&marks, &placed);
        Some(made)
    }

    fn place(&mut self, marks: &[(Mark, usize, usize)], placed: &[u32]) {
        let (mut values, mut slots, mut times, mut variables) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for &(mark, from, to) in marks {
            match mark {
                Mark::Value(slot) => {
                    values.push(placed[from]);
                    slots.push(slot);
                }
                Mark::Time => literal_runs(&placed[from..to], |patch| times.push(patch)),
                Mark::Variable(n) => literal_runs(&placed[from..to], |patch| variables.push((n, patch))),
            }
        }
        self.slots = (self.dropped > 0).then(|| slots.into());
        self.values = values.into();
        self.times = times.into();
        self.variables = variables.into();
    }

    /// Appends the piece with this scrape in it. `values` holds every slot, none absent.
    pub fn append(&self, values: &[f64], time: &[u8; TIME_BYTES], variables: &[&str], out: &mut Vec<u8>) {
        let base = out.len();
        out.extend_from_slice(&self.piece);
        let piece = &mut out[base..];
        match &self.slots {
            None => {
                for (at, value) in self.values.iter().zip(values) {
                    piece[*at as usize..][..8].copy_from_slice(&value.to_le_bytes());
                }
            }
            Some(slots) => {
                for (at, slot) in self.values.iter().zip(slots) {
                    piece[*at as usize..][..8].copy_from_slice(&values[*slot as usize].to_le_bytes());
                }
            }
        }
        for patch in &self.times {
            patch.write(piece, time);
        }
        for (n, patch) in &self.variables {
            patch.write(piece, variables[usize::from(*n)].as_bytes());
        }
    }

    /// Uncompressed bytes.
    #[must_use]
    pub fn raw_bytes(&self) -> usize {
        self.raw_bytes
    }

    /// Samples in it.
    #[must_use]
    pub fn samples(&self) -> usize {
        self.values.len()
    }

    /// Series that the rules drop.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.dropped
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.piece.len()
            + self.values.len() * 4
            + self.slots.as_ref().map_or(0, |s| s.len() * 4)
            + (self.times.len() + self.variables.len()) * size_of::<(u16, Patch)>()
            + size_of::<Self>()
    }
}

/// Marks of one schema of several.
struct MarksFrom<'m> {
    first_slot: u32,
    marks: &'m mut Vec<(Mark, usize, usize)>,
}

impl Marks for MarksFrom<'_> {
    fn mark(&mut self, mark: Mark, from: usize, to: usize) {
        let mark = if let Mark::Value(slot) = mark { Mark::Value(self.first_slot + slot) } else { mark };
        self.marks.push((mark, from, to));
    }
}

impl Patch {
    fn write(&self, piece: &mut [u8], text: &[u8]) {
        let (from, len) = (self.from as usize, self.len as usize);
        piece[self.at as usize..][..len].copy_from_slice(&text[from..from + len]);
    }
}

/// Byte `k` of a variable, or of the timestamp, may only be copied from byte `k` of the same.
fn classes(len: usize, marks: &[(Mark, usize, usize)], variables: &[&str]) -> Vec<u32> {
    let mut starts = Vec::with_capacity(variables.len());
    let mut next = CLASS_VARIABLES;
    for variable in variables {
        starts.push(next);
        next += variable.len() as u32;
    }
    let mut classes = vec![FIXED; len];
    for &(mark, from, to) in marks {
        let first = match mark {
            Mark::Value(_) => {
                classes[from..to].fill(VALUE);
                continue;
            }
            Mark::Time => CLASS_TIME,
            Mark::Variable(n) => starts[usize::from(n)],
        };
        for (k, class) in classes[from..to].iter_mut().enumerate() {
            *class = first + k as u32;
        }
    }
    classes
}

/// Calls `each` for every stretch that is literal and contiguous in the piece.
fn literal_runs(placed: &[u32], mut each: impl FnMut(Patch)) {
    let mut from = 0;
    while from < placed.len() {
        let at = placed[from];
        if at == COPIED {
            from += 1;
            continue;
        }
        let len = (from..placed.len()).take_while(|k| placed[*k] == at.wrapping_add((k - from) as u32)).count();
        each(Patch { at, from: from as u32, len: len as u32 });
        from += len;
    }
}
