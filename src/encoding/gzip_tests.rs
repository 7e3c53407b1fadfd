//! Whole and streamed inflation against each other, at any slicing, with limits, cuts and damage.

use std::io::{Read, Write};

use flate2::Compression;
use proptest::prelude::*;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::new(6));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that compress badly, so that a large body is large on the wire too.
fn noise(n: usize) -> Vec<u8> {
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    (0..n)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

/// Inflates with a given slicing of the compressed bytes.
fn inflate(inflater: &mut Inflater, compressed: &[u8], slice: usize, limit: u64) -> Result<Vec<u8>, GzipError> {
    let (mut body, mut out) = (inflater.body(limit), Vec::new());
    let mut take = |b: &[u8]| {
        assert!(!b.is_empty() && b.len() <= BODY_SLICE_BYTES);
        out.extend_from_slice(b);
        ControlFlow::Continue(())
    };
    for part in compressed.chunks(slice.max(1)) {
        assert_eq!(inflater.feed(&mut body, part, &mut take)?, Inflated::All);
    }
    while inflater.finish(&mut body, &mut take)? == Inflated::Piece {}
    inflater.discard(body);
    assert!(out.len() as u64 <= limit);
    Ok(out)
}

/// The naive twin: flate2's own multi-member reader.
fn naive(compressed: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    flate2::read::MultiGzDecoder::new(compressed).read_to_end(&mut out).ok().map(|_| out)
}

#[test]
fn bodies_of_every_size_come_back() {
    let mut inflater = Inflater::default();
    for n in [0, 1, 100, 57_000, BODY_SLICE_BYTES, BODY_SLICE_BYTES + 1, GZIP_STREAM_BYTES + 70_000] {
        let text = noise(n);
        let packed = gzip(&text);
        assert!(inflate(&mut inflater, &packed, 4096, u64::MAX).unwrap() == text, "{n}");
        assert!(inflate(&mut inflater, &packed, 1 << 20, n as u64).unwrap() == text, "{n} with an exact limit");
        if n > 0 {
            assert_eq!(inflate(&mut inflater, &packed, 1 << 16, n as u64 - 1), Err(GzipError::TooLarge), "{n}");
        }
        for cut in [1, 8, packed.len() / 2] {
            let short = &packed[..packed.len() - cut];
            assert_eq!(inflate(&mut inflater, short, 1 << 16, u64::MAX), Err(GzipError::Truncated), "{n} less {cut}");
        }
        let mut bad = packed.clone();
        let at = bad.len() - 6;
        bad[at] ^= 0x40;
        assert_eq!(inflate(&mut inflater, &bad, 1 << 16, u64::MAX), Err(GzipError::Corrupt), "{n}");
        let trailing = [packed.as_slice(), b"garbage"].concat();
        assert_eq!(
            inflate(&mut inflater, &trailing, 1 << 16, u64::MAX).map(|b| b.len()),
            Err(GzipError::Corrupt),
            "{n}"
        );
    }
    assert_eq!(inflate(&mut inflater, b"", 1, u64::MAX), Err(GzipError::Truncated));
    assert_eq!(inflate(&mut inflater, b"# HELP not gzip at all, just text\n", 9, u64::MAX), Err(GzipError::Corrupt));
}

#[test]
fn members_follow_each_other() {
    let mut inflater = Inflater::default();
    let same = [gzip(b"abc"), gzip(b"abc")].concat();
    assert_eq!(inflate(&mut inflater, &same, 7, u64::MAX).unwrap(), b"abcabc");
    let empty_end = [gzip(b"abc"), gzip(b"")].concat();
    assert_eq!(inflate(&mut inflater, &empty_end, 1000, u64::MAX).unwrap(), b"abc");
    let large = [gzip(&noise(1_200_000)), gzip(b"tail")].concat();
    assert_eq!(inflate(&mut inflater, &large, 65536, u64::MAX).unwrap().len(), 1_200_004);
    assert_eq!(inflate(&mut inflater, &same, 7, 5), Err(GzipError::TooLarge));
}

#[test]
fn a_bomb_stops_at_the_limit() {
    let bomb = gzip(&vec![0; 24 << 20]);
    assert!(bomb.len() < GZIP_STREAM_BYTES);
    let mut inflater = Inflater::default();
    assert_eq!(inflate(&mut inflater, &bomb, 65536, 10 << 20), Err(GzipError::TooLarge));
    assert!(inflater.scratch.len() <= WHOLE_BYTES_MAX);
    // A size field that lies small must not let more out either.
    let mut liar = bomb.clone();
    let at = liar.len() - 4;
    liar[at..].copy_from_slice(&100u32.to_le_bytes());
    assert_eq!(inflate(&mut inflater, &liar, 65536, 10 << 20), Err(GzipError::TooLarge));
}

#[test]
fn what_inflates_a_thousandfold_comes_in_pieces() {
    let mut inflater = Inflater::default();
    let bomb = gzip(&vec![b'#'; 50 << 20]);
    let mut body = inflater.body(u64::MAX);
    assert_eq!(inflater.feed(&mut body, &bomb, |_| unreachable!("it is held")), Ok(Inflated::All));
    let (mut pieces, mut total) = (0, 0);
    loop {
        let mut piece = 0;
        let inflated = inflater.finish(&mut body, |slice| {
            piece += slice.len();
            ControlFlow::Continue(())
        });
        assert!(piece < PIECE_BYTES + BODY_SLICE_BYTES, "{piece}");
        total += piece;
        pieces += 1;
        if inflated.unwrap() != Inflated::Piece {
            break;
        }
    }
    assert_eq!(total, 50 << 20);
    assert!(pieces >= 6, "{pieces}");
}

#[test]
fn the_receiver_may_break_off() {
    let mut inflater = Inflater::default();
    for n in [1000, GZIP_STREAM_BYTES + 70_000] {
        let packed = gzip(&noise(n));
        let mut body = inflater.body(u64::MAX);
        let mut calls = 0;
        let mut once = |_: &[u8]| {
            calls += 1;
            ControlFlow::Break(())
        };
        let fed = inflater.feed(&mut body, &packed, &mut once).unwrap();
        if fed == Inflated::All {
            assert_eq!(inflater.finish(&mut body, &mut once), Ok(Inflated::BrokenOff));
        }
        inflater.discard(body);
        assert_eq!(calls, 1);
    }
}

proptest! {
    /// Members, slicings and one damaged byte: always what the naive reader says, or an error where it has one.
    #[test]
    fn agrees_with_the_naive_reader(
        members in prop::collection::vec(prop::collection::vec(0..4u8, 0..300), 1..4),
        slice in 1..200usize,
        damage in prop::option::of((0..400usize, 1..=255u8)),
    ) {
        let mut packed: Vec<u8> = members.iter().flat_map(|m| gzip(m)).collect();
        if let Some((at, flip)) = damage {
            let at = at % packed.len();
            packed[at] ^= flip;
        }
        let got = inflate(&mut Inflater::default(), &packed, slice, u64::MAX);
        match naive(&packed) {
            Some(bytes) => prop_assert_eq!(got.unwrap(), bytes),
            None => prop_assert!(got.is_err()),
        }
    }
}
