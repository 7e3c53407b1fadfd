//! Protobuf wire format, as far as a hand-written encoder needs it: variable-length integers and tags.

/// Tag byte of a length-delimited field. Field numbers above 15 need a longer tag and do not occur here.
#[must_use]
pub const fn tag_bytes(field: u8) -> u8 {
    assert!(field < 16, "a one-byte tag");
    field << 3 | 2
}

/// Tag byte of a 64-bit little-endian field.
#[must_use]
pub const fn tag_fixed64(field: u8) -> u8 {
    assert!(field < 16, "a one-byte tag");
    field << 3 | 1
}

/// Tag byte of a variable-length integer field.
#[must_use]
pub const fn tag_varint(field: u8) -> u8 {
    assert!(field < 16, "a one-byte tag");
    field << 3
}

/// Bytes that [`put_varint`] will write: 1 to 10.
#[must_use]
pub const fn varint_len(v: u64) -> usize {
    (64 - (v | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends a variable-length integer. A negative `int64` is cast to `u64` first and takes ten bytes.
pub fn put_varint(out: &mut Vec<u8>, mut v: u64) {
    while v >= 0x80 {
        out.push(v as u8 | 0x80);
        v >>= 7;
    }
    out.push(v as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_are_those_of_an_independent_encoder(shift in 0u32..64, low in any::<u64>()) {
            let v = low >> shift;
            let mut ours = Vec::new();
            put_varint(&mut ours, v);
            let mut theirs = Vec::new();
            prost::encoding::encode_varint(v, &mut theirs);
            prop_assert_eq!(&ours, &theirs);
            prop_assert_eq!(varint_len(v), ours.len());
        }
    }
}
