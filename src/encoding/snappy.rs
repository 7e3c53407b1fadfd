//! Snappy block format: pieces that can be concatenated, and pieces whose bytes can be overwritten afterwards.
//!
//! A block is a length header and a run of elements: literals, and copies of earlier output named by their distance.
//! A *piece* is such a run without the header. Distances are relative, so pieces that refer only into themselves may
//! be joined in any order behind one header. A *patchable* piece keeps more: a byte of the class [`VALUE`] is always a
//! literal and never copied from, and a byte of any other class is only ever copied from a byte of the same class.
//! Whoever overwrites every literal of a class with one new byte thus changes every occurrence of that class.

use super::protobuf::{put_varint, varint_len};

/// Class of bytes that never change.
pub const FIXED: u32 = 0;
/// Class of bytes that differ at every occurrence: always literal, never a source.
pub const VALUE: u32 = u32::MAX;
/// In a list of positions: this byte is produced by a copy.
pub const COPIED: u32 = u32::MAX;
/// Largest message for [`compress_patchable`]: what one literal element of four length-and-tag bytes can hold.
pub const PATCHABLE_BYTES_MAX: usize = 1 << 24;

const SEED_BYTES: usize = 4;
const COPY_BYTES_MAX: usize = 64;
const DISTANCE_MAX: usize = 65_535;
/// Repeats nearer than this can be two bytes.
const NEAR: usize = 2048;
/// Earlier occurrences looked at for each position.
const CANDIDATES_MAX: usize = 24;
const TABLE_BITS_MAX: u32 = 14;

/// Appends the header of a block whose elements expand to `raw_bytes`.
pub fn put_header(out: &mut Vec<u8>, raw_bytes: usize) {
    put_varint(out, raw_bytes as u64);
}

/// Ordinary compression with buffers that are kept between calls.
pub struct Compressor {
    encoder: snap::raw::Encoder,
    scratch: Vec<u8>,
}

impl Default for Compressor {
    fn default() -> Self {
        Self { encoder: snap::raw::Encoder::new(), scratch: Vec::new() }
    }
}

impl Compressor {
    /// Appends `raw` as one piece.
    ///
    /// # Panics
    /// When `raw` reaches 4 GiB, which the format cannot express.
    pub fn append(&mut self, raw: &[u8], out: &mut Vec<u8>) {
        if raw.is_empty() {
            return;
        }
        let most = snap::raw::max_compress_len(raw.len());
        assert!(most > 0, "a piece of 4 GiB");
        if self.scratch.len() < most {
            self.scratch.resize(most, 0);
        }
        let n = self.encoder.compress(raw, &mut self.scratch).expect("the buffer has the length asked for");
        out.extend_from_slice(&self.scratch[varint_len(raw.len() as u64)..n]);
    }
}

impl std::fmt::Debug for Compressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compressor({} B)", self.scratch.len())
    }
}

/// Compresses `message` to a patchable piece. `classes` holds one class per byte. Returns the piece and, for each byte
/// of the message, its offset in the piece, or [`COPIED`]. Bytes of one class that follow each other in the message
/// and are literal follow each other in the piece. A piece is made once and sent many times, so the search for the
/// longest repeats may take its time: about 100 ns a byte.
///
/// # Panics
/// When the lengths differ or the message exceeds [`PATCHABLE_BYTES_MAX`].
#[must_use]
pub fn compress_patchable(message: &[u8], classes: &[u32]) -> (Vec<u8>, Vec<u32>) {
    assert_eq!(message.len(), classes.len());
    assert!(message.len() <= PATCHABLE_BYTES_MAX);
    let mut seeds = Seeds::new(message, classes);
    let mut piece = Piece { message, out: Vec::with_capacity(message.len() / 4), placed: vec![COPIED; message.len()] };
    let (mut at, mut literal_from) = (0, 0);
    while at + SEED_BYTES <= message.len() {
        let Some(found) = seeds.longest(at) else {
            at += 1;
            continue;
        };
        // A longer repeat one byte further is worth a literal more.
        if seeds.longest(at + 1).is_some_and(|next| next.len > found.len + 1) {
            at += 1;
            continue;
        }
        piece.literal(literal_from, at);
        piece.copy(found.distance, found.len);
        at += found.len;
        literal_from = at;
    }
    piece.literal(literal_from, message.len());
    (piece.out, piece.placed)
}

/// A repeat of earlier bytes.
#[derive(Clone, Copy)]
struct Repeat {
    distance: usize,
    len: usize,
}

/// Where each seed of the message was seen, newest first.
struct Seeds<'m> {
    message: &'m [u8],
    classes: &'m [u32],
    bits: u32,
    newest: Vec<u32>,
    /// By position: the one before with the same hash.
    before: Vec<u32>,
    /// Positions below this are in the lists.
    listed: usize,
}

impl<'m> Seeds<'m> {
    fn new(message: &'m [u8], classes: &'m [u32]) -> Self {
        let bits = (message.len().next_power_of_two().ilog2()).clamp(4, TABLE_BITS_MAX);
        let (newest, before) = (vec![u32::MAX; 1 << bits], vec![u32::MAX; message.len()]);
        Self { message, classes, bits, newest, before, listed: 0 }
    }

    /// The longest repeat at this position that is shorter as a copy than as literals.
    fn longest(&mut self, at: usize) -> Option<Repeat> {
        self.list_up_to(at);
        let mut candidate = self.newest[self.hash(at)?];
        let mut best: Option<Repeat> = None;
        for _ in 0..CANDIDATES_MAX {
            let from = candidate as usize;
            if candidate == u32::MAX || at - from > DISTANCE_MAX {
                break;
            }
            let (distance, len) = (at - from, self.match_len(from, at));
            let least = if distance < NEAR { SEED_BYTES } else { SEED_BYTES + 1 };
            if len >= least && best.is_none_or(|b| len > b.len) {
                best = Some(Repeat { distance, len });
            }
            candidate = self.before[from];
        }
        best
    }

    fn list_up_to(&mut self, at: usize) {
        for position in self.listed..at {
            if let Some(hash) = self.hash(position) {
                self.before[position] = std::mem::replace(&mut self.newest[hash], position as u32);
            }
        }
        self.listed = self.listed.max(at);
    }

    /// Of the seed at this position; `None` where it holds a value or the message ends. Same bytes in another class
    /// are another seed: else a label text would hide the variable that equals it.
    fn hash(&self, at: usize) -> Option<usize> {
        let seed = self.classes.get(at..at + SEED_BYTES)?;
        if seed.contains(&VALUE) {
            return None;
        }
        let bytes: [u8; SEED_BYTES] = self.message[at..at + SEED_BYTES].try_into().expect("as long as its classes");
        let mixed = u64::from(u32::from_le_bytes(bytes)) << 32 | u64::from(seed[0]);
        Some((mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - self.bits)) as usize)
    }

    /// How many bytes from `at` on may be copied from `from`.
    fn match_len(&self, from: usize, at: usize) -> usize {
        let (message, classes) = (self.message, self.classes);
        (at..message.len())
            .zip(from..)
            .take_while(|&(to, from)| {
                message[to] == message[from] && classes[to] == classes[from] && classes[to] != VALUE
            })
            .count()
    }
}

struct Piece<'m> {
    message: &'m [u8],
    out: Vec<u8>,
    placed: Vec<u32>,
}

impl Piece<'_> {
    /// One element: a run is never split, so a value stays in one place.
    fn literal(&mut self, from: usize, to: usize) {
        if from == to {
            return;
        }
        let n = (to - from - 1) as u32;
        match n {
            0..60 => self.out.push((n as u8) << 2),
            60..256 => self.out.extend_from_slice(&[60 << 2, n as u8]),
            256..65_536 => self.out.extend_from_slice(&[61 << 2, n as u8, (n >> 8) as u8]),
            _ => self.out.extend_from_slice(&[62 << 2, n as u8, (n >> 8) as u8, (n >> 16) as u8]),
        }
        for (k, place) in self.placed[from..to].iter_mut().enumerate() {
            *place = (self.out.len() + k) as u32;
        }
        self.out.extend_from_slice(&self.message[from..to]);
    }

    /// As many elements as the length needs.
    fn copy(&mut self, distance: usize, len: usize) {
        let mut left = len;
        while left > COPY_BYTES_MAX {
            // What remains is at least four bytes, so that it may be a short element.
            let part = COPY_BYTES_MAX.min(left - SEED_BYTES);
            self.copy_element(distance, part);
            left -= part;
        }
        self.copy_element(distance, left);
    }

    fn copy_element(&mut self, distance: usize, len: usize) {
        if (4..12).contains(&len) && distance < NEAR {
            self.out.extend_from_slice(&[(1 | (len - 4) << 2 | (distance >> 8) << 5) as u8, distance as u8]);
        } else {
            self.out.extend_from_slice(&[(2 | (len - 1) << 2) as u8, distance as u8, (distance >> 8) as u8]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expand(pieces: &[&[u8]], raw_bytes: usize) -> Vec<u8> {
        let mut block = Vec::new();
        put_header(&mut block, raw_bytes);
        pieces.iter().for_each(|p| block.extend_from_slice(p));
        snap::raw::Decoder::new().decompress_vec(&block).expect("a valid block")
    }

    /// Few distinct bytes and classes, so that copies, crossings and near misses are frequent.
    fn marked(n: usize) -> impl Strategy<Value = Vec<(u8, u32)>> {
        let byte = prop_oneof![
            6 => (0u8..3).prop_map(|b| (b, FIXED)),
            2 => (0u32..3).prop_map(|c| (b'a' + c as u8, 1 + c)),
            1 => any::<u8>().prop_map(|b| (b, VALUE)),
        ];
        prop::collection::vec((byte, 1usize..9), 0..n)
            .prop_map(|runs| runs.into_iter().flat_map(|(b, n)| std::iter::repeat_n(b, n)).collect())
    }

    proptest! {
        #[test]
        fn overwriting_the_literals_of_a_class_overwrites_the_class(marks in marked(400), fresh in any::<u64>()) {
            let message: Vec<u8> = marks.iter().map(|m| m.0).collect();
            let classes: Vec<u32> = marks.iter().map(|m| m.1).collect();
            let (mut piece, placed) = compress_patchable(&message, &classes);
            prop_assert_eq!(expand(&[&piece], message.len()), message.clone());
            let mut want = message;
            for (i, class) in classes.iter().enumerate() {
                let new = match *class {
                    FIXED => continue,
                    VALUE => (fresh.rotate_left(i as u32)) as u8,
                    class => (fresh >> (8 * class)) as u8,
                };
                want[i] = new;
                prop_assert!(*class != VALUE || placed[i] != COPIED);
                if placed[i] != COPIED {
                    piece[placed[i] as usize] = new;
                }
            }
            prop_assert_eq!(expand(&[&piece], want.len()), want);
        }

        #[test]
        fn pieces_join(parts in prop::collection::vec(prop::collection::vec(0u8..4, 0..300), 0..6)) {
            let mut compressor = Compressor::default();
            let mut pieces = Vec::new();
            for (i, part) in parts.iter().enumerate() {
                if i % 2 == 0 {
                    compressor.append(part, &mut pieces);
                } else {
                    pieces.extend(compress_patchable(part, &vec![FIXED; part.len()]).0);
                }
            }
            let want = parts.concat();
            prop_assert_eq!(expand(&[&pieces], want.len()), want);
        }
    }

    #[test]
    fn long_literals_and_far_repeats() {
        let mut seed = 1u64;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        let mut message: Vec<u8> = noise.take(200_000).collect();
        message.extend_from_within(..100);
        message.extend_from_within(message.len() - 8_000..);
        let (piece, _) = compress_patchable(&message, &vec![FIXED; message.len()]);
        assert_eq!(expand(&[&piece], message.len()), message);
        assert!(piece.len() < 203_000, "the near repeat is found: {} B", piece.len());
    }
}
