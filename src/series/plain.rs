//! A chunk as bytes, to be compressed: the type in force before it, its slots, its text.

use super::chunk::Slot;
use crate::encoding::protobuf::put_varint;
use crate::exposition::text::Kind;

/// Every type, by its number in these bytes.
const KINDS: [Kind; 6] = [Kind::None, Kind::Counter, Kind::Gauge, Kind::Histogram, Kind::Summary, Kind::Untyped];
/// Bit beside the type: the slot is glued.
const GLUED: u32 = 64;

/// Appends a chunk. Under which types its labels are read is not written, nor how many slots there are.
pub(super) fn put_chunk(entry: Kind, slots: &[Slot], text: &[u8], out: &mut Vec<u8>) {
    out.push(entry as u8);
    let mut start = 0;
    for s in slots {
        let last = s.kind as u32 | if s.glued { GLUED } else { 0 };
        for number in [s.series - start, s.series_end - s.series, s.end - s.series_end, last] {
            put_varint(out, u64::from(number));
        }
        start = s.end;
    }
    out.extend_from_slice(text);
}

/// Reads a chunk of `count` slots that [`put_chunk`] wrote. `spelled` gives the type under which a slot's labels are read,
/// from its place and the type in force.
pub(super) fn take_chunk<'p>(
    plain: &'p [u8],
    at: &mut usize,
    count: usize,
    spelled: impl Fn(usize, Kind) -> Kind,
) -> (Kind, Box<[Slot]>, &'p [u8]) {
    let entry = KINDS[usize::from(plain[*at])];
    *at += 1;
    let mut slots = Vec::with_capacity(count);
    let mut start = 0;
    for slot in 0..count {
        let series = start + take_number(plain, at);
        let series_end = series + take_number(plain, at);
        let end = series_end + take_number(plain, at);
        let last = take_number(plain, at);
        let kind = KINDS[last as usize & 7];
        slots.push(Slot { end, series, series_end, kind, spelled: spelled(slot, kind), glued: last & GLUED != 0 });
        start = end;
    }
    let text = &plain[*at..*at + start as usize];
    *at += text.len();
    (entry, slots.into(), text)
}

/// Reads a number of ours as it was written; never of bytes from outside.
#[inline(always)]
pub(super) fn take_number(plain: &[u8], at: &mut usize) -> u32 {
    let mut number = 0;
    for shift in (0..).step_by(7) {
        let byte = plain[*at];
        *at += 1;
        number |= u32::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    number
}
