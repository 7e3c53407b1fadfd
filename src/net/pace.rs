//! How often answers are reaped: the longer the brisk ones take, the less often, since each time wakes a thread.

use crate::base::limits::{REAP_TICK_NS, REAP_TICK_NS_MAX};

/// Ticks in which a brisk answer comes: what it is told too late by is an eighth of its time at most.
const TICKS_PER_ANSWER: u64 = 8;
/// An answer that comes later than the estimate raises it by one part in so many; one that comes earlier lowers it by three,
/// so that a quarter of them come earlier.
const STEP: u64 = 128;

/// Follows the lower quartile of the time that answers take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    brisk_ns: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { brisk_ns: TICKS_PER_ANSWER * REAP_TICK_NS }
    }
}

impl Pace {
    /// The first byte of an answer is here, so long after its request was sent.
    pub(super) fn answered(&mut self, after_ns: u64) {
        let step = self.brisk_ns / STEP;
        let brisk_ns = if after_ns < self.brisk_ns { self.brisk_ns - 3 * step } else { self.brisk_ns + step };
        self.brisk_ns = brisk_ns.clamp(TICKS_PER_ANSWER * REAP_TICK_NS, TICKS_PER_ANSWER * REAP_TICK_NS_MAX);
    }

    /// Nanoseconds.
    pub(super) fn tick_ns(self) -> u64 {
        self.brisk_ns / TICKS_PER_ANSWER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// The tick after many rounds of these answers.
    fn tick_ms(answers_ms: &[u64]) -> f64 {
        let mut pace = Pace::default();
        for _ in 0..2000 {
            answers_ms.iter().for_each(|ms| pace.answered(ms * MS));
        }
        pace.tick_ns() as f64 / MS as f64
    }

    #[test]
    fn the_tick_is_an_eighth_of_what_brisk_answers_take() {
        assert!((tick_ms(&[0]) - 1.0).abs() < 0.01);
        assert!((tick_ms(&[20]) - 2.5).abs() < 0.2, "{}", tick_ms(&[20]));
        assert!((tick_ms(&[500]) - 4.0).abs() < 0.01);
    }

    #[test]
    fn slow_targets_do_not_make_brisk_ones_imprecise() {
        assert!(tick_ms(&[1, 1, 200, 200, 200]) < 1.2, "two in five are brisk");
        assert!(tick_ms(&[1, 200, 200, 200, 200, 200, 200, 200]) > 3.5, "one in eight is");
    }
}
