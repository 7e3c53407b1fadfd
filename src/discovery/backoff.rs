//! Growing waits between sends, so that a chatty provider costs little and a lone change travels fast.

use std::time::Duration;

/// First wait, before chance.
const FIRST: Duration = Duration::from_millis(100);
/// Longest wait, before chance.
pub const LONGEST: Duration = Duration::from_secs(5);

/// Exponential waits: 100 ms, times 1.5 up to 5 s, each by chance half as long up to half as long again.
/// prometheus: discovery/manager.go, sender.
#[derive(Debug)]
pub struct Backoff {
    wait: Duration,
    chance: u64,
}

impl Backoff {
    /// `seed` decides the chances.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { wait: FIRST, chance: seed | 1 }
    }

    /// The next wait.
    pub fn next(&mut self) -> Duration {
        let wait = self.wait;
        self.wait = (wait * 3 / 2).min(LONGEST);
        // xorshift64: even spread is all that is asked of it.
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        let share = 0.5 + (self.chance >> 11) as f64 / (1u64 << 53) as f64;
        wait.mul_f64(share)
    }

    /// Begins with the shortest wait again.
    pub fn reset(&mut self) {
        self.wait = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_stay_within_half() {
        let mut b = Backoff::new(7);
        let mut plain = FIRST;
        let mut distinct = std::collections::HashSet::new();
        for _ in 0..50 {
            let wait = b.next();
            assert!(wait >= plain / 2 && wait <= plain * 3 / 2, "{wait:?} around {plain:?}");
            distinct.insert(wait.as_nanos() * 1000 / plain.as_nanos());
            plain = (plain * 3 / 2).min(LONGEST);
        }
        assert_eq!(plain, LONGEST);
        assert!(distinct.len() > 30);
        b.reset();
        assert!(b.next() <= FIRST * 3 / 2);
    }
}
