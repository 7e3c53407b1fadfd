//! Bytes of the journal: segment header, batch header, frame kinds, varints.

use crc32c::{crc32c, crc32c_append};

/// First bytes of every segment.
pub const MAGIC: [u8; 8] = *b"rscrapeJ";
/// Version this release writes.
pub const VERSION: u16 = 1;
/// Oldest version whose readers can read what this release writes.
pub const VERSION_OLDEST: u16 = 1;
/// Bytes of a segment header.
pub const HEADER_BYTES: usize = 64;
/// Bytes of a batch header.
pub const BATCH_HEADER_BYTES: usize = 20;
/// Payload of one batch that a reader accepts; a longer length is damage. A writer closes batches far below it.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// Frame kinds: the low three bits of a frame's first byte. 0 is never written, so zeros are no frame.
pub const KIND_SCHEMAS: u8 = 1;
/// See [`KIND_SCHEMAS`].
pub const KIND_TARGET: u8 = 2;
/// See [`KIND_SCHEMAS`].
pub const KIND_SHAPE: u8 = 3;
/// See [`KIND_SCHEMAS`].
pub const KIND_SCRAPE: u8 = 4;
/// See [`KIND_SCHEMAS`].
pub const KIND_STALE: u8 = 5;
/// Frames that later releases add carry a length after the first byte, so that this release can step over them.
pub const KIND_LATER: u8 = 6;
/// Mask of the kind.
pub const KIND_MASK: u8 = 7;

/// Scrape and stale: a shape id follows (a scrape without it has the shape of the target's previous frame).
pub const FLAG_SHAPE: u8 = 8;
/// Scrape: explicit times follow.
pub const FLAG_TIMES: u8 = 16;
/// Stale: every slot of the shape.
pub const FLAG_ALL: u8 = 16;
/// Stale: a bitmap instead of a list of slots.
pub const FLAG_BITMAP: u8 = 32;
/// Target: how many of its variables are its labels follows the count; without it all are.
pub const FLAG_LABELS: u8 = 8;
/// Schemas: the body is compressed with snappy.
pub const FLAG_SNAPPY: u8 = 8;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Format version of the writer.
    pub version: u16,
    /// Oldest version that can read it.
    pub version_oldest: u16,
    /// Shard that wrote it.
    pub shard: u32,
    /// Random identity of the process that wrote it.
    pub boot: u128,
    /// The writer's own count of segments, which it knows before the file's number is taken.
    pub ordinal: u32,
    /// Number of the file in its directory.
    pub sequence: u64,
    /// Creation, milliseconds since the epoch.
    pub created_ms: i64,
}

impl Header {
    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut b = [0u8; HEADER_BYTES];
        b[0..8].copy_from_slice(&MAGIC);
        b[8..10].copy_from_slice(&self.version.to_le_bytes());
        b[10..12].copy_from_slice(&self.version_oldest.to_le_bytes());
        b[12..16].copy_from_slice(&self.shard.to_le_bytes());
        b[16..32].copy_from_slice(&self.boot.to_le_bytes());
        b[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        b[40..48].copy_from_slice(&self.created_ms.to_le_bytes());
        b[48..52].copy_from_slice(&self.ordinal.to_le_bytes());
        let crc = crc32c(&b[..HEADER_BYTES - 4]);
        b[HEADER_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
        b
    }

    /// Reads a header; `None` when these are not the bytes of one.
    #[must_use]
    pub fn decode(b: &[u8; HEADER_BYTES]) -> Option<Self> {
        if b[0..8] != MAGIC || crc32c(&b[..HEADER_BYTES - 4]) != u32_at(b, HEADER_BYTES - 4) {
            return None;
        }
        Some(Self {
            version: u32_at(b, 8) as u16,
            version_oldest: (u32_at(b, 8) >> 16) as u16,
            shard: u32_at(b, 12),
            boot: u128::from(u64_at(b, 24)) << 64 | u128::from(u64_at(b, 16)),
            sequence: u64_at(b, 32),
            created_ms: u64_at(b, 40) as i64,
            ordinal: u32_at(b, 48),
        })
    }

    /// Where this segment's checksums start.
    #[must_use]
    pub fn seed(&self) -> u32 {
        seed(self.boot, self.shard, self.ordinal)
    }
}

/// Where the checksums of a segment start: bytes of another segment, or of another offset, are never taken for a
/// batch of this one.
#[must_use]
pub fn seed(boot: u128, shard: u32, ordinal: u32) -> u32 {
    crc32c_append(crc32c_append(crc32c(&boot.to_le_bytes()), &shard.to_le_bytes()), &ordinal.to_le_bytes())
}

/// Header of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes that follow the header.
    pub payload_bytes: u32,
    /// See [`checksum`].
    pub crc: u32,
    /// Frames in the payload. 0 with an empty payload seals the segment: nothing follows.
    pub frames: u32,
    /// What the frames' times count from, milliseconds since the epoch.
    pub base_ms: i64,
}

impl BatchHeader {
    /// Reads a header. All zero bytes are "nothing written here yet".
    #[must_use]
    pub fn decode(b: &[u8; BATCH_HEADER_BYTES]) -> Option<Self> {
        if b.iter().all(|&x| x == 0) {
            return None;
        }
        Some(Self {
            payload_bytes: u32_at(b, 0),
            crc: u32_at(b, 4),
            frames: u32_at(b, 8),
            base_ms: u64_at(b, 12) as i64,
        })
    }

    /// Whether this seals the segment.
    #[must_use]
    pub fn is_seal(&self) -> bool {
        self.payload_bytes == 0 && self.frames == 0
    }
}

/// Fills in the header of a whole batch: `batch` starts with [`BATCH_HEADER_BYTES`] reserved bytes.
pub fn finish_batch(batch: &mut [u8], seed: u32, offset: u64, frames: u32, base_ms: i64) {
    let payload = u32::try_from(batch.len() - BATCH_HEADER_BYTES).expect("batches are closed far below 4 GiB");
    batch[0..4].copy_from_slice(&payload.to_le_bytes());
    batch[8..12].copy_from_slice(&frames.to_le_bytes());
    batch[12..20].copy_from_slice(&base_ms.to_le_bytes());
    let crc = checksum(batch, seed, offset);
    batch[4..8].copy_from_slice(&crc.to_le_bytes());
}

/// The batch that seals a segment at this offset.
#[must_use]
pub fn seal(seed: u32, offset: u64) -> [u8; BATCH_HEADER_BYTES] {
    let mut b = [0u8; BATCH_HEADER_BYTES];
    finish_batch(&mut b, seed, offset, 0, 0);
    b
}

/// CRC32C of a batch without the checksum itself, started from the segment's seed and the batch's offset.
#[must_use]
pub fn checksum(batch: &[u8], seed: u32, offset: u64) -> u32 {
    let crc = crc32c_append(seed, &offset.to_le_bytes());
    crc32c_append(crc32c_append(crc, &batch[0..4]), &batch[8..])
}

/// Whether a whole batch (header and payload) is what the writer wrote at this place.
#[must_use]
pub fn is_intact(batch: &[u8], seed: u32, offset: u64) -> bool {
    checksum(batch, seed, offset) == u32_at(batch, 4)
}

/// Little-endian 32 bits at `at`.
#[must_use]
pub fn u32_at(b: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| b[at + i]))
}

/// Little-endian 64 bits at `at`.
#[must_use]
pub fn u64_at(b: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| b[at + i]))
}

/// Appends an unsigned varint (LEB128).
pub fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

/// Appends a signed varint (zig-zag).
pub fn put_signed(out: &mut Vec<u8>, v: i64) {
    put_varint(out, ((v << 1) ^ (v >> 63)) as u64);
}

/// Appends a length and the text.
pub fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Walks over a payload; every step says `None` when the bytes do not suffice.
#[derive(Clone, Copy, Debug)]
pub struct Walk<'a> {
    bytes: &'a [u8],
    /// Bytes consumed.
    pub at: usize,
}

impl<'a> Walk<'a> {
    /// A walk from `at`.
    #[must_use]
    pub fn new(bytes: &'a [u8], at: usize) -> Self {
        Self { bytes, at }
    }

    /// Bytes left.
    #[must_use]
    pub fn rest(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let b = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(b)
    }

    /// `n` bytes.
    pub fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let b = self.bytes.get(self.at..self.at.checked_add(n)?)?;
        self.at += n;
        Some(b)
    }

    /// An unsigned varint.
    pub fn varint(&mut self) -> Option<u64> {
        let mut v = 0u64;
        for shift in (0..64).step_by(7) {
            let b = self.byte()?;
            v |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Some(v);
            }
        }
        None
    }

    /// A signed varint.
    pub fn signed(&mut self) -> Option<i64> {
        let v = self.varint()?;
        Some((v >> 1) as i64 ^ -((v & 1) as i64))
    }

    /// A count of things that take at least one byte each: never more than the bytes left.
    pub fn count(&mut self) -> Option<usize> {
        let n = usize::try_from(self.varint()?).ok()?;
        (n <= self.rest()).then_some(n)
    }

    /// A length and its text.
    pub fn text(&mut self) -> Option<&'a str> {
        let n = self.count()?;
        std::str::from_utf8(self.take(n)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_survives_and_any_flipped_bit_is_seen() {
        let h = Header {
            version: 1,
            version_oldest: 1,
            shard: 3,
            boot: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
            ordinal: 9,
            sequence: 77,
            created_ms: -5,
        };
        let b = h.encode();
        assert_eq!(Header::decode(&b), Some(h));
        for bit in 0..HEADER_BYTES * 8 {
            let mut c = b;
            c[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::decode(&c), None, "bit {bit}");
        }
    }

    #[test]
    fn varints_survive() {
        for v in [0, 1, -1, 63, 64, -64, -65, i64::MAX, i64::MIN, 1 << 40] {
            let mut out = vec![];
            put_signed(&mut out, v);
            put_varint(&mut out, v as u64);
            let mut w = Walk::new(&out, 0);
            assert_eq!((w.signed(), w.varint(), w.rest()), (Some(v), Some(v as u64), 0));
        }
        assert_eq!(Walk::new(&[0x80; 10], 0).varint(), None);
    }

    #[test]
    fn a_batch_belongs_to_its_offset_and_segment() {
        let mut b = vec![0u8; BATCH_HEADER_BYTES];
        b.extend_from_slice(b"payload");
        finish_batch(&mut b, 1, 64, 1, 1000);
        assert!(is_intact(&b, 1, 64));
        assert!(!is_intact(&b, 2, 64) && !is_intact(&b, 1, 65));
        assert!(BatchHeader::decode(&seal(1, 64)).is_some_and(|h| h.is_seal()));
    }
}
