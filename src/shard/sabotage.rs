//! Seams where the simulator plants bugs, to prove that its oracle can find them; absent from every other build.

use crate::scrape::TargetHash;
use crate::scrape::schedule::{Due, Skipped};
use crate::series::{PassedOn, Scraped};

/// One bug on purpose. Every seam does nothing unless the bug sits there.
pub trait Sabotage {
    /// What is about to start.
    fn due(&mut self, due: &mut Vec<Due>, skipped: Skipped) {
        let _ = (due, skipped);
    }

    /// What a scrape showed, report included, right before it is written, and its time in milliseconds.
    fn scraped(&mut self, target: TargetHash, scraped: &mut Scraped, time_ms: &mut i64) {
        let _ = (target, scraped, time_ms);
    }

    /// Whose live series get no end-of-run markers.
    fn successors(&mut self, passed_on: &mut PassedOn) {
        let _ = passed_on;
    }
}
