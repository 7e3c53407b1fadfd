//! What the entries of a group became: eight bytes an entry and two bits, since nearly all became targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::scrape::TargetHash;
use crate::scrape::target::TargetError;

/// What an entry became.
#[derive(Clone, Debug)]
pub(super) enum Outcome {
    Active(TargetHash),
    Dropped,
    Failed(Arc<TargetError>),
}

/// Outcomes by position.
#[derive(Debug, Default)]
pub(super) struct Outcomes {
    /// Of those that became targets; others have a place too.
    hashes: Vec<TargetHash>,
    /// A bit for each entry that became none, from the first such on.
    others: Vec<u64>,
    failed: BTreeMap<u32, Arc<TargetError>>,
}

impl Outcomes {
    /// With room for so many.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { hashes: Vec::with_capacity(count), ..Self::default() }
    }

    /// Adds the next one.
    pub(super) fn push(&mut self, outcome: Outcome) {
        let at = self.hashes.len();
        let hash = match outcome {
            Outcome::Active(hash) => return self.hashes.push(hash),
            Outcome::Dropped => TargetHash(0),
            Outcome::Failed(error) => {
                self.failed.insert(at as u32, error);
                TargetHash(0)
            }
        };
        self.hashes.push(hash);
        self.others.resize(at / 64 + 1, 0);
        self.others[at / 64] |= 1 << (at % 64);
    }

    /// One of them.
    pub(super) fn get(&self, at: usize) -> Option<Outcome> {
        let hash = *self.hashes.get(at)?;
        let is_other = self.others.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1);
        if !is_other {
            return Some(Outcome::Active(hash));
        }
        Some(match self.failed.get(&(at as u32)) {
            None => Outcome::Dropped,
            Some(error) => Outcome::Failed(Arc::clone(error)),
        })
    }

    /// All in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Outcome> {
        (0..self.hashes.len()).filter_map(|at| self.get(at))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive twin is a list.
        #[test]
        fn outcomes_come_back(kinds in prop::collection::vec(0..9u64, 0..300)) {
            let outcome = |(i, kind): (usize, &u64)| match kind {
                0 => Outcome::Dropped,
                1 => Outcome::Failed(Arc::new(TargetError::AddressInvalid(i.to_string()))),
                _ => Outcome::Active(TargetHash(i as u64 * kind)),
            };
            let mut outcomes = Outcomes::with_capacity(kinds.len());
            kinds.iter().enumerate().map(outcome).for_each(|o| outcomes.push(o));
            let text = |o: Outcome| format!("{o:?}");
            prop_assert_eq!(
                outcomes.iter().map(text).collect::<Vec<_>>(),
                kinds.iter().enumerate().map(outcome).map(text).collect::<Vec<_>>()
            );
            prop_assert!(outcomes.get(kinds.len()).is_none());
        }
    }
}
