//! Raw deflate of pieces whose length is known on both sides: fast, in memory, only ever read by us.

use std::cell::RefCell;

use libdeflater::{CompressionLvl, Compressor, Decompressor};

thread_local! {
    static DECOMPRESSOR: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Compresses pieces one after the other; holds about 100 KB while it lives.
pub struct Deflater {
    compressor: Compressor,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for Deflater {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deflater")
    }
}

impl Default for Deflater {
    fn default() -> Self {
        // The library's "fastest" is 0: stored as it is.
        Self::with_level(1)
    }
}

impl Deflater {
    /// For pieces that are kept long: a seventh less, in three times the time.
    #[must_use]
    pub fn thorough() -> Self {
        Self::with_level(6)
    }

    fn with_level(level: i32) -> Self {
        let level = CompressionLvl::new(level).expect("a level of deflate");
        Self { compressor: Compressor::new(level), scratch: Vec::new() }
    }

    /// The piece compressed.
    pub fn deflate(&mut self, plain: &[u8]) -> Box<[u8]> {
        let bound = self.compressor.deflate_compress_bound(plain.len());
        self.scratch.resize(bound, 0);
        let n = self.compressor.deflate_compress(plain, &mut self.scratch).expect("the bound is room enough");
        self.scratch[..n].into()
    }
}

/// The piece of `plain_bytes` that [`Deflater::deflate`] made these of.
#[must_use]
pub fn inflate(packed: &[u8], plain_bytes: usize) -> Vec<u8> {
    let mut plain = vec![0; plain_bytes];
    let read = DECOMPRESSOR.with_borrow_mut(|d| d.deflate_decompress(packed, &mut plain));
    let n = read.expect("our own bytes, in memory");
    assert_eq!(n, plain_bytes, "a piece has one length");
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_come_back(pieces in prop::collection::vec(prop::collection::vec(0u8..4, 0..2000), 1..4)) {
            let mut deflater = Deflater::default();
            for piece in &pieces {
                prop_assert_eq!(&inflate(&deflater.deflate(piece), piece.len()), piece);
            }
        }
    }
}
