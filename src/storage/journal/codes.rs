//! Columns of values as bytes: a 4-bit code a slot, then what the codes call for; and how a column changes shape.
//!
//! ```text
//! +--------------------------+---------------------------------------------+
//! | codes, slot 0 in the low | payload of slot 0 | payload of slot 1 | ... |
//! | half of the first byte   | (0 to 8 bytes each, little-endian)          |
//! +--------------------------+---------------------------------------------+
//! code 0      same bits as before
//! code 1-7    both integral: zig-zag of the difference in that many bytes
//! code 8-15   exclusive or of the bits, without its trailing zero bytes: code - 7 bytes
//! ```
//! Every bit pattern survives: a value goes the integral way only when it and its predecessor are exactly
//! representable as integers below 2^53 (so -0.0, NaNs and the absent marker never do).

/// Bytes that follow the last payload byte in a buffer given to [`decode`], so that it may read eight bytes anywhere.
pub const PADDING_BYTES: usize = 8;

/// Room that [`encode`] needs for `slots` values.
#[must_use]
pub fn room(slots: usize) -> usize {
    slots.div_ceil(2) + slots * 8 + 8
}

/// The value as an integer when it is one, below 2^53 in magnitude, and not the negative zero.
#[inline(always)]
fn integral(v: f64) -> Option<i64> {
    let i = v as i64;
    ((i as f64).to_bits() == v.to_bits() && i.unsigned_abs() < 1 << 53).then_some(i)
}

/// Code and payload (in the low bytes) of one changed value.
#[inline(always)]
fn code_of(before: f64, now: f64) -> (u8, u64) {
    if let (Some(a), Some(b)) = (integral(before), integral(now)) {
        let d = b - a;
        let z = ((d << 1) ^ (d >> 63)) as u64;
        return ((71 - z.leading_zeros() as u8) / 8, z);
    }
    let x = before.to_bits() ^ now.to_bits();
    let zero = x.trailing_zeros() / 8;
    (15 - zero as u8, x >> (8 * zero))
}

/// Writes the codes and payload of `now` against `before`, and leaves `now` in `before`. Returns the bytes written to
/// the front of `out`, which has at least [`room`] for them.
pub fn encode(before: &mut [f64], now: &[f64], out: &mut [u8]) -> usize {
    assert_eq!(before.len(), now.len());
    let codes_bytes = now.len().div_ceil(2);
    assert!(out.len() >= room(now.len()));
    let (codes, payload) = out.split_at_mut(codes_bytes);
    let mut at = 0;
    let pairs = before.chunks_mut(2).zip(now.chunks(2));
    for ((b, n), code) in pairs.zip(codes.iter_mut()) {
        let mut both = 0u8;
        for (i, (b, &n)) in b.iter_mut().zip(n).enumerate() {
            if b.to_bits() != n.to_bits() {
                let (c, bytes) = code_of(*b, n);
                payload[at..at + 8].copy_from_slice(&bytes.to_le_bytes());
                at += usize::from(if c < 8 { c } else { c - 7 });
                both |= c << (4 * i);
                *b = n;
            }
        }
        *code = both;
    }
    codes_bytes + at
}

/// Reads a column over `values`, which holds the target's previous one. Returns the bytes consumed, or `None` when the
/// bytes do not suffice (values are then unspecified). `bytes` ends with [`PADDING_BYTES`] bytes that are not consumed.
pub fn decode(values: &mut [f64], bytes: &[u8]) -> Option<usize> {
    let codes_bytes = values.len().div_ceil(2);
    let codes = bytes.get(..codes_bytes)?;
    let payload = &bytes[codes_bytes..];
    let mut at = 0;
    for (pair, &both) in values.chunks_mut(2).zip(codes) {
        if both == 0 {
            continue;
        }
        for (i, v) in pair.iter_mut().enumerate() {
            let code = u32::from(both >> (4 * i)) & 15;
            if code == 0 {
                continue;
            }
            let word = u64::from_le_bytes(payload.get(at..at + 8)?.try_into().ok()?);
            if code < 8 {
                let z = word & (u64::MAX >> (64 - 8 * code));
                let d = (z >> 1) as i64 ^ -((z & 1) as i64);
                *v = (*v as i64).wrapping_add(d) as f64;
                at += code as usize;
            } else {
                let n = code - 7;
                *v = f64::from_bits(v.to_bits() ^ (word << (64 - 8 * n)));
                at += n as usize;
            }
        }
    }
    (at + PADDING_BYTES <= payload.len()).then_some(codes_bytes + at)
}

/// A schema as far as columns care: its id in the segment and how many slots it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Id in the segment.
    pub schema: u32,
    /// Slots.
    pub slots: u32,
}

/// Makes a column of shape `old` the base of one of shape `new`: values of equal schemas at the common front and the
/// common back of the two lists carry over, everything between is zero. Writer and reader both use this, so what a
/// frame is coded against is the same on either side.
pub fn reshape(values: &mut Box<[f64]>, old: &[Part], new: &[Part]) {
    let front = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let back = old[front..].iter().rev().zip(new[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    let slots = |parts: &[Part]| parts.iter().map(|p| p.slots as usize).sum::<usize>();
    let (front_slots, back_slots, new_slots) = (slots(&new[..front]), slots(&new[new.len() - back..]), slots(new));
    debug_assert_eq!(values.len(), slots(old));
    let mut out = Vec::with_capacity(new_slots);
    out.extend_from_slice(&values[..front_slots]);
    out.resize(new_slots - back_slots, 0.0);
    out.extend_from_slice(&values[values.len() - back_slots..]);
    *values = out.into();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The twin: one value at a time, straight from the drawing above.
    fn encode_plainly(before: &[f64], now: &[f64]) -> Vec<u8> {
        let mut codes = vec![];
        let mut payload = vec![];
        for (b, n) in before.iter().zip(now) {
            if b.to_bits() == n.to_bits() {
                codes.push(0u8);
            } else if let (Some(x), Some(y)) = (integral(*b), integral(*n)) {
                let d = i128::from(y) - i128::from(x);
                let z = if d < 0 { -d * 2 - 1 } else { d * 2 } as u64;
                let len = (1..=7).find(|k| z >> (8 * k) == 0).expect("differences below 2^54 fit seven bytes");
                codes.push(len as u8);
                payload.extend_from_slice(&z.to_le_bytes()[..len]);
            } else {
                let x = (b.to_bits() ^ n.to_bits()).to_le_bytes();
                let zero = x.iter().take_while(|&&b| b == 0).count();
                codes.push(15 - zero as u8);
                payload.extend_from_slice(&x[zero..]);
            }
        }
        let mut out: Vec<u8> = codes.chunks(2).map(|c| c[0] | c.get(1).unwrap_or(&0) << 4).collect();
        out.extend_from_slice(&payload);
        out
    }

    pub(crate) fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<u64>().prop_map(f64::from_bits),
            any::<i32>().prop_map(f64::from),
            (-(1i64 << 54)..(1i64 << 54)).prop_map(|i| i as f64),
            (0i64..20).prop_map(|i| i as f64),
            any::<f32>().prop_map(f64::from),
            Just(crate::model::ABSENT),
            Just(crate::model::NORMAL_NAN),
            Just(-0.0),
            Just(f64::INFINITY),
            Just(9_007_199_254_740_991.0),
            Just(9_007_199_254_740_992.0),
            Just(-9_007_199_254_740_993.0),
        ]
    }

    proptest! {
        #[test]
        fn columns_survive_and_equal_the_twin(pairs in proptest::collection::vec((value(), value(), any::<bool>()), 0..70)) {
            let before: Vec<f64> = pairs.iter().map(|p| p.0).collect();
            let now: Vec<f64> = pairs.iter().map(|p| if p.2 { p.0 } else { p.1 }).collect();
            let mut out = vec![0xAAu8; room(now.len())];
            let mut kept = before.clone();
            let n = encode(&mut kept, &now, &mut out);
            prop_assert_eq!(&out[..n], &encode_plainly(&before, &now)[..]);
            out.truncate(n);
            out.extend_from_slice(&[0xEE; PADDING_BYTES]);
            let mut back = before.clone();
            prop_assert_eq!(decode(&mut back, &out), Some(n));
            for i in 0..now.len() {
                prop_assert_eq!(back[i].to_bits(), now[i].to_bits());
                prop_assert_eq!(kept[i].to_bits(), now[i].to_bits());
            }
            for cut in 0..n {
                prop_assert_eq!(decode(&mut before.clone(), &out[..cut + PADDING_BYTES]), None);
            }
        }
    }

    #[test]
    fn a_new_shape_keeps_front_and_back() {
        let part = |schema, slots| Part { schema, slots };
        let mut v: Box<[f64]> = [1.0, 2.0, 3.0, 4.0, 5.0].into();
        reshape(&mut v, &[part(0, 2), part(1, 1), part(2, 2)], &[part(0, 2), part(3, 3), part(2, 2)]);
        assert_eq!(*v, [1.0, 2.0, 0.0, 0.0, 0.0, 4.0, 5.0]);
        // The same schema twice: front and back never overlap.
        let mut v: Box<[f64]> = [1.0, 2.0].into();
        reshape(&mut v, &[part(0, 1), part(0, 1)], &[part(0, 1), part(0, 1), part(0, 1)]);
        assert_eq!(*v, [1.0, 2.0, 0.0]);
        reshape(&mut v, &[part(0, 1), part(0, 1), part(0, 1)], &[part(0, 1)]);
        assert_eq!(*v, [1.0]);
        reshape(&mut v, &[part(0, 1)], &[]);
        reshape(&mut v, &[], &[part(9, 2)]);
        assert_eq!(*v, [0.0, 0.0]);
    }
}
