//! Where a segment ends that a failed write or sync spoilt, and where the rest of it went: a small file beside it.

use super::event::Cursor;
use super::format::{HEADER_BYTES, Header, u32_at, u64_at};
use crc32c::crc32c;
use std::io;
use std::path::Path;

/// Bytes before the list: the segment's header, end, heir, count.
const FIXED_BYTES: usize = HEADER_BYTES + 16;
/// Bytes of an entry of the list.
const MOVED_BYTES: usize = 16;
/// A longer file is damage: a list never has more batches than may wait for the disk.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// The end of a segment whose file may hold more: `NNNNNN.end`. It counts, whatever the file has beyond it.
///
/// In the file, little-endian: the segment's header (64 bytes), end (8), ordinal of the heir (4), count (4), per batch that
/// moved its old offset (8) and its events (8), CRC32C of all of it (4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The segment's header, which may be all that is left of one whose first bytes never became durable.
    pub header: Header,
    /// Where it ends.
    pub end_bytes: u64,
    /// The writer's count of the segment, of the same process, that begins with the events that stood behind the end, in
    /// their order; 0 when there is none.
    pub heir: u32,
    /// Batches behind the end that readers may have read: offset and events, ascending.
    pub moved: Vec<(u64, u64)>,
}

/// Name of the record beside segment `sequence`.
#[must_use]
pub fn end_name(sequence: u64) -> String {
    format!("{sequence:06}.end")
}

impl Ended {
    /// Reads the record of a segment in that directory. `None` when there is none, or nothing that can be trusted.
    ///
    /// # Errors
    /// The file system's.
    pub fn load(dir: &Path, sequence: u64) -> io::Result<Option<Self>> {
        let path = dir.join(end_name(sequence));
        match std::fs::metadata(&path) {
            Ok(m) if m.len() > FILE_BYTES_MAX => return Ok(None),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        }
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Self::decode(&bytes).filter(|e| e.header.sequence == sequence)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The record's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut b = Vec::with_capacity(FIXED_BYTES + self.moved.len() * MOVED_BYTES + 4);
        b.extend_from_slice(&self.header.encode());
        b.extend_from_slice(&self.end_bytes.to_le_bytes());
        b.extend_from_slice(&self.heir.to_le_bytes());
        b.extend_from_slice(&(self.moved.len() as u32).to_le_bytes());
        for (offset, events) in &self.moved {
            b.extend_from_slice(&offset.to_le_bytes());
            b.extend_from_slice(&events.to_le_bytes());
        }
        b.extend_from_slice(&crc32c(&b).to_le_bytes());
        b
    }

    /// Reads a record; `None` when these are not the bytes of one.
    #[must_use]
    pub fn decode(b: &[u8]) -> Option<Self> {
        let (head, _) = b.split_first_chunk::<HEADER_BYTES>()?;
        let list = b.get(FIXED_BYTES..b.len().checked_sub(4)?)?;
        let whole = list.len() == (u32_at(b, FIXED_BYTES - 4) as usize).checked_mul(MOVED_BYTES)?;
        if !whole || crc32c(&b[..b.len() - 4]) != u32_at(b, b.len() - 4) {
            return None;
        }
        let moved = list.chunks_exact(MOVED_BYTES).map(|m| (u64_at(m, 0), u64_at(m, 8))).collect();
        let (end_bytes, heir) = (u64_at(b, HEADER_BYTES), u32_at(b, HEADER_BYTES + 8));
        Some(Self { header: Header::decode(head)?, end_bytes, heir, moved })
    }

    /// Events behind the end that stand before a position in the segment: a reader that had got there finds them again at
    /// the start of the heir.
    #[must_use]
    pub fn events_before(&self, cursor: Cursor) -> u64 {
        if cursor.batch < self.end_bytes {
            return 0;
        }
        let before: u64 = self.moved.iter().take_while(|m| m.0 < cursor.batch).map(|m| m.1).sum();
        before + u64::from(cursor.frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Ended {
        let header =
            Header { version: 1, version_oldest: 1, shard: 3, boot: 7, ordinal: 9, sequence: 77, created_ms: -5 };
        Ended { header, end_bytes: 500, heir: 10, moved: vec![(500, 3), (600, 2)] }
    }

    #[test]
    fn a_record_survives_and_any_flipped_bit_is_seen() {
        let all = ended().encode();
        assert_eq!(Ended::decode(&all), Some(ended()));
        for bit in 0..all.len() * 8 {
            let mut c = all.clone();
            c[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Ended::decode(&c), None, "bit {bit}");
        }
        for n in 0..all.len() {
            assert_eq!(Ended::decode(&all[..n]), None, "{n} bytes");
        }
    }

    #[test]
    fn events_behind_the_end_are_counted_up_to_a_position() {
        let at = |batch, frame| ended().events_before(Cursor { segment: 77, batch, frame });
        assert_eq!([at(0, 0), at(400, 2), at(500, 0), at(500, 2)], [0, 0, 0, 2]);
        assert_eq!([at(600, 0), at(600, 1), at(700, 0)], [3, 4, 5]);
    }

    #[test]
    fn a_missing_record_is_none_and_a_foreign_one_too() {
        let tmp = tempfile::tempdir().expect("tempdir");
        assert_eq!(Ended::load(tmp.path(), 77).expect("read"), None);
        std::fs::write(tmp.path().join(end_name(77)), ended().encode()).expect("write");
        assert_eq!(Ended::load(tmp.path(), 77).expect("read"), Some(ended()));
        std::fs::copy(tmp.path().join(end_name(77)), tmp.path().join(end_name(78))).expect("copy");
        assert_eq!(Ended::load(tmp.path(), 78).expect("read"), None);
    }
}
