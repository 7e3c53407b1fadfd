//! Where the time of scrapes goes: phases of waiting as the ticks saw them, stages of work as every so many were measured.

use hdrhistogram::Histogram;

use crate::base::time::Now;
use crate::net::{Dialled, Phases};
use crate::selfmetrics::{Counter, Exposition, Kind, SummaryFamily};

/// Of so many pieces of work one is measured and counted for all: two looks at the clock cost as much as twenty samples.
const MEASURED_OF: u32 = 32;
/// Longer phases count as this long, nanoseconds.
const PHASE_NS_MAX: u64 = 600_000_000_000;
const PHASE_NAMES: [&str; 4] = ["connect", "handshake", "wait", "receive"];
const STAGE_NAMES: [&str; 3] = ["parse", "settle", "write"];
const PHASES: SummaryFamily = SummaryFamily {
    name: "ringscrape_scrape_phase_seconds",
    help: "Parts of scrapes as seen by the shard's ticks: connect and handshake of new connections, wait until the first byte, receive until the last.",
};

/// Work of a shard's thread on an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// A piece of a body: decompressed, predicted or tokenised.
    Parse,
    /// The end of a scrape: layout, label sets, staleness, limits.
    Settle,
    /// Its frames.
    Write,
}

/// Time that stages took, estimated; written by the shard, read by /metrics.
#[derive(Debug, Default)]
pub struct StageTimes([Counter; STAGE_NAMES.len()]);

impl StageTimes {
    pub(super) fn collect(&self, shard: &str, out: &mut Exposition) {
        let help = "Time that the shard's thread spent on a stage of answers, estimated from one of 32.";
        for (stage, time) in STAGE_NAMES.iter().zip(&self.0) {
            let labels = [("shard", shard), ("stage", stage)];
            out.sample("ringscrape_stage_seconds_total", Kind::Counter, help, &labels, time.read() as f64 / 1e9);
        }
    }
}

/// The stopwatch of one shard.
#[derive(Debug, Default)]
pub struct Stopwatch {
    /// Pieces of work so far, by stage.
    pieces: [u32; STAGE_NAMES.len()],
}

/// A piece of work that is measured, or is not.
#[derive(Debug)]
#[must_use]
pub struct Piece(Stage, Option<u64>);

impl Stopwatch {
    /// Begins a piece.
    pub fn begin(&mut self, stage: Stage, clock: &dyn Fn() -> Now) -> Piece {
        let pieces = &mut self.pieces[stage as usize];
        *pieces = pieces.wrapping_add(1);
        Piece(stage, (*pieces % MEASURED_OF == 1).then(|| clock().mono_ns))
    }
}

impl Piece {
    /// Ends it.
    pub fn end(self, times: &StageTimes, clock: &dyn Fn() -> Now) {
        if let Self(stage, Some(began_ns)) = self {
            let took_ns = clock().mono_ns.saturating_sub(began_ns);
            times.0[stage as usize].add(took_ns * u64::from(MEASURED_OF));
        }
    }
}

/// Histograms of the phases, in nanoseconds; one digit is as fine as ticks are.
#[derive(Clone, Debug)]
pub struct PhaseTimes([Histogram<u64>; PHASE_NAMES.len()]);

impl Default for PhaseTimes {
    fn default() -> Self {
        let histogram = || Histogram::new_with_bounds(1_000, PHASE_NS_MAX, 1).expect("bounds are constants");
        Self(std::array::from_fn(|_| histogram()))
    }
}

impl PhaseTimes {
    /// Takes note of an exchange; phases that it did not have or did not end are left out.
    pub fn record(&mut self, phases: &Phases) {
        let Phases { started, connected, secured, sent, first_byte, last_byte, dialled, .. } = *phases;
        let is_new = dialled != Dialled::Before;
        let spans = [
            (is_new.then_some(started), connected),
            (is_new.then_some(connected), secured),
            (Some(sent), first_byte),
            (Some(first_byte), last_byte),
        ];
        for (times, (from, to)) in self.0.iter_mut().zip(spans) {
            if let Some(from) = from.filter(|&from| from > 0 && to >= from) {
                times.saturating_record(to - from);
            }
        }
    }

    pub(super) fn collect(&self, shard: &str, out: &mut Exposition) {
        for (phase, times) in PHASE_NAMES.iter().zip(&self.0) {
            PHASES.collect(out, &[("shard", shard), ("phase", phase)], times);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_piece_in_so_many_is_measured_and_counts_for_all() {
        let (mut watch, times) = (Stopwatch::default(), StageTimes::default());
        let time = std::cell::Cell::new(0);
        let clock = || Now { mono_ns: time.replace(time.get() + 500), wall_ns: 0 };
        for _ in 0..2 * MEASURED_OF {
            let piece = watch.begin(Stage::Settle, &clock);
            piece.end(&times, &clock);
        }
        assert_eq!(time.get(), 4 * 500, "two of the pieces looked at the clock");
        assert_eq!(times.0[Stage::Settle as usize].read(), 2 * 500 * u64::from(MEASURED_OF));
        assert_eq!(times.0[Stage::Parse as usize].read(), 0);
    }

    #[test]
    fn phases_that_did_not_happen_are_left_out() {
        let mut times = PhaseTimes::default();
        let ms = 1_000_000;
        let kept = Phases {
            started: ms,
            sent: 2 * ms,
            first_byte: 5 * ms,
            last_byte: 5 * ms,
            dialled: Dialled::Before,
            ..Phases::default()
        };
        times.record(&kept);
        times.record(&Phases { connected: 3 * ms, last_byte: 60 * ms, dialled: Dialled::Now, ..kept });
        times.record(&Phases { started: ms, last_byte: 9 * ms, ..Phases::default() });
        let counts = times.0.each_ref().map(Histogram::len);
        assert_eq!(counts, [1, 0, 2, 2]);
        assert!(times.0[2].max().abs_diff(3 * ms) < ms / 4);
    }
}
