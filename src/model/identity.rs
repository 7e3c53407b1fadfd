//! 128-bit fingerprints of label sets, additive per label.
//!
//! The fingerprint of a set is the wrapping sum of its labels' hashes. Hence a slot's share (labels that come from
//! the body) and a target's share (labels that all its series carry) are computed apart and added, in any order.
//! The hash is seeded per process, so a target cannot aim at a collision.

use std::ops::{Add, AddAssign, Sub};

/// Fingerprint of a label set, or of a part of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity(pub u128);

impl Add for Identity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.wrapping_add(other.0))
    }
}

impl AddAssign for Identity {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Identity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.wrapping_sub(other.0))
    }
}

/// The seeded hash. A value, so that tests and the simulator are deterministic.
#[derive(Clone, Copy, Debug)]
pub struct IdentityHasher {
    low: u64,
    high: u64,
}

impl IdentityHasher {
    /// Two independent seeds.
    #[must_use]
    pub fn new(low: u64, high: u64) -> Self {
        Self { low, high: high | 1 }
    }

    /// Seeds from the operating system's randomness (by way of the standard hasher's keys).
    #[must_use]
    pub fn random() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self::new(RandomState::new().hash_one(1u8), RandomState::new().hash_one(2u8))
    }

    /// Hash of any bytes.
    #[must_use]
    pub fn bytes(&self, bytes: &[u8]) -> Identity {
        use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
        let low = rapidhash_v3_seeded(bytes, &RapidSecrets::seed_cpp(self.low));
        let high = rapidhash_v3_seeded(bytes, &RapidSecrets::seed_cpp(self.high));
        Identity(u128::from(high) << 64 | u128::from(low))
    }

    /// Half of [`Self::bytes`], at half the cost.
    #[must_use]
    pub fn short(&self, bytes: &[u8]) -> u64 {
        use rapidhash::v3::{RapidSecrets, rapidhash_v3_seeded};
        rapidhash_v3_seeded(bytes, &RapidSecrets::seed_cpp(self.low))
    }

    /// Share of one label.
    #[must_use]
    pub fn label(&self, name: &str, value: &str) -> Identity {
        let n = self.bytes(name.as_bytes()).0;
        let v = self.bytes(value.as_bytes()).0;
        // Name and value are mixed unevenly so that swapping them, or pairing them otherwise, changes the sum.
        let x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835).rotate_left(29) ^ v;
        let x = (x ^ (x >> 67)).wrapping_mul(0xD6E8_FEB8_6659_FD93_A3B1_9535_4A39_B70D);
        Identity(x ^ (x >> 61))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairing_matters_and_order_does_not() {
        let h = IdentityHasher::new(1, 2);
        assert_eq!(h.label("a", "1") + h.label("b", "2"), h.label("b", "2") + h.label("a", "1"));
        assert_ne!(h.label("a", "1") + h.label("b", "2"), h.label("a", "2") + h.label("b", "1"));
        assert_ne!(h.label("a", "b"), h.label("b", "a"));
        assert_ne!(h.label("a", "b"), IdentityHasher::new(3, 4).label("a", "b"));
    }
}
