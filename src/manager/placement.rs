//! Which shard a target is on: by its public labels, unless its cost has moved it; and which targets are to move.
//!
//! Placement by labels puts a target's successor, which may have another URL, on the same shard; so a move is of the labels,
//! and lasts until nobody has them any more. Decisions here are numbers in, names out; `balance.rs` carries them out.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use crate::shard::{Candidate, Weights};

/// Least difference between the busiest and the idlest shard that is worth a move, cores.
const GAP_CORES_MIN: f64 = 0.1;
/// The busiest shard needs so many times what the mean one does.
const ABOVE_MEAN: f64 = 1.2;
/// A target with less than this share of what is to move is not worth a new connection.
const SHARE_MIN: f64 = 1.0 / 64.0;
/// Moved labels that are remembered; from then on nothing moves until some are gone.
pub(super) const MOVED_MAX: usize = 65_536;

/// Where targets are. Shared by the pools; only the balancer changes it.
#[derive(Debug)]
pub struct Placement {
    shards: usize,
    /// Shard by hash of the public labels, where it is not the one that the hash gives.
    moved: RwLock<HashMap<u64, u32>>,
    moved_count: AtomicUsize,
}

impl Placement {
    /// Over so many shards; nothing has moved.
    ///
    /// # Panics
    /// Without a shard.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        assert!(shards > 0, "there is at least one shard");
        Self { shards, moved: RwLock::default(), moved_count: AtomicUsize::new(0) }
    }

    /// Number of shards.
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards
    }

    /// The shard of the targets with these public labels.
    #[must_use]
    pub fn shard(&self, public_hash: u64) -> usize {
        let by_hash = (public_hash % self.shards as u64) as usize;
        if self.moved_count() == 0 {
            return by_hash;
        }
        let moved = self.moved.read().unwrap_or_else(PoisonError::into_inner);
        moved.get(&public_hash).map_or(by_hash, |&shard| shard as usize)
    }

    /// Labels that are on another shard than their hash says.
    #[must_use]
    pub fn moved_count(&self) -> usize {
        self.moved_count.load(Ordering::Relaxed)
    }

    /// These labels are on this shard from now on.
    pub(super) fn set(&self, public_hash: u64, shard: usize) {
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        if shard as u64 == public_hash % self.shards as u64 {
            moved.remove(&public_hash);
        } else {
            moved.insert(public_hash, shard as u32);
        }
        self.moved_count.store(moved.len(), Ordering::Relaxed);
    }

    /// Forgets labels that nobody has.
    pub(super) fn retain(&self, is_there: impl Fn(u64) -> bool) {
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        moved.retain(|&public_hash, _| is_there(public_hash));
        self.moved_count.store(moved.len(), Ordering::Relaxed);
    }
}

/// Two shards that should need the same.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Imbalance {
    /// The busiest.
    pub from: usize,
    /// The idlest.
    pub to: usize,
    /// What the busiest needs.
    pub cores: f64,
    /// What it should give away.
    pub surplus_cores: f64,
}

/// The worst imbalance, if it is worth a move. `cores` is what each shard's thread needs.
pub(super) fn imbalance(cores: &[f64]) -> Option<Imbalance> {
    let by_need = |a: &(usize, &f64), b: &(usize, &f64)| a.1.total_cmp(b.1);
    let (from, &most) = cores.iter().enumerate().max_by(by_need)?;
    let (to, &least) = cores.iter().enumerate().min_by(by_need)?;
    let mean = cores.iter().sum::<f64>() / cores.len() as f64;
    let is_bad = most - least >= GAP_CORES_MIN && most >= ABOVE_MEAN * mean;
    is_bad.then(|| Imbalance { from, to, cores: most, surplus_cores: (most - least) / 2.0 })
}

/// Who should go, the costliest first, never so many that the other shard becomes the busier one. A shard's need is shared
/// out over its targets by weight.
pub(super) fn leavers(imbalance: &Imbalance, weights: &Weights) -> Vec<Candidate> {
    let worth = imbalance.surplus_cores * SHARE_MIN..=imbalance.surplus_cores;
    let mut candidates = weights.candidates.clone();
    candidates.sort_by(|a, b| b.weight.total_cmp(&a.weight).then(a.hash.cmp(&b.hash)));
    candidates.retain(|c| worth.contains(&cores_of(c, imbalance, weights)));
    candidates
}

/// What a candidate needs, cores.
pub(super) fn cores_of(candidate: &Candidate, imbalance: &Imbalance, weights: &Weights) -> f64 {
    imbalance.cores * candidate.weight / weights.total.max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scrape::{PoolId, TargetHash};

    fn candidate(hash: u64, weight: f64) -> Candidate {
        Candidate { pool: PoolId(1), hash: TargetHash(hash), weight }
    }

    #[test]
    fn labels_are_where_their_hash_says_unless_they_were_moved() {
        let placement = Placement::new(4);
        assert_eq!((placement.shard(7), placement.moved_count()), (3, 0));
        placement.set(7, 1);
        placement.set(9, 0);
        assert_eq!((placement.shard(7), placement.shard(9), placement.shard(11)), (1, 0, 3));
        placement.set(9, 1);
        assert_eq!((placement.shard(9), placement.moved_count()), (1, 1), "back to where the hash says");
        placement.retain(|h| h != 7);
        assert_eq!((placement.shard(7), placement.moved_count()), (3, 0));
    }

    #[test]
    fn only_a_real_imbalance_is_one() {
        assert_eq!(imbalance(&[0.5]), None);
        assert_eq!(imbalance(&[0.02, 0.11]), None, "too little to be worth it");
        assert_eq!(imbalance(&[0.90, 0.92, 0.85, 0.98]), None, "0.13 of a core, but hardly above the mean");
        let found = imbalance(&[0.2, 0.9, 0.4]).unwrap();
        assert_eq!((found.from, found.to), (1, 0));
        assert!((found.surplus_cores - 0.35).abs() < 1e-9);
    }

    #[test]
    fn nobody_leaves_who_would_only_turn_the_imbalance_round() {
        let imbalance = Imbalance { from: 0, to: 1, cores: 0.8, surplus_cores: 0.3 };
        let weights = Weights {
            total: 1_000.0,
            candidates: vec![candidate(1, 600.0), candidate(2, 5.0), candidate(3, 300.0), candidate(4, 90.0)],
        };
        let hashes: Vec<u64> = leavers(&imbalance, &weights).iter().map(|c| c.hash.0).collect();
        assert_eq!(hashes, [3, 4], "one is more than the surplus, another not worth a connection");
    }
}
