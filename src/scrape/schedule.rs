//! When each target is due: targets of one interval sorted by phase, with a walking cursor; no timers.
//!
//! A target is due whenever `wall_ns mod interval_ns == phase_ns`, as in Prometheus, so the schedule survives
//! restarts and needs no per-target deadline. Phases are quantised to the start grid when it divides the interval
//! (else to 1 ms), so one tick meets one run of targets and scrape times stay exact multiples.
//!
//! Stalls and clock steps: what became due in a stall of up to 5 s is started late, oldest first, once per target; a
//! longer pause is given up and counted. A wall clock that steps against the monotonic clock re-anchors the
//! cursor, so every target is simply due at its next phase: no burst, no phase lost afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::START_GRID_NS;
use crate::base::time::Now;

/// A pause longer than this is not made up for: its starts would be one burst of old scrapes, nanoseconds.
const PAUSE_NS: i64 = 5_000_000_000;
/// A difference between the clocks' advances above this is a step of the wall clock, nanoseconds.
const STEP_NS: i64 = 500_000_000;

/// One target that must start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which target.
    pub token: u32,
    /// The instant at which it was due, wall clock.
    pub due_ns: i64,
}

/// All targets of a shard by interval and phase.
#[derive(Debug, Default)]
pub struct Schedule {
    classes: BTreeMap<i64, BTreeSet<(i64, u32)>>,
    /// Everything due at or before this instant has been handed out; `None` before the first call.
    cursor: Option<Now>,
}

/// What [`Schedule::advance`] skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Starts given up because they fell into a long pause, or were a target's second in a stall.
    pub missed: u64,
    /// Steps of the wall clock seen.
    pub steps: u64,
}

/// The phase that a target with this exact offset gets, nanoseconds.
#[must_use]
pub fn phase_ns(offset_ns: i64, interval_ns: i64) -> i64 {
    let grid = if interval_ns % START_GRID_NS == 0 { START_GRID_NS } else { 1_000_000 };
    offset_ns.rem_euclid(interval_ns) / grid * grid
}

impl Schedule {
    /// Adds a target.
    pub fn add(&mut self, token: u32, interval_ns: i64, offset_ns: i64) {
        assert!(interval_ns > 0, "an interval is positive");
        self.classes.entry(interval_ns).or_default().insert((phase_ns(offset_ns, interval_ns), token));
    }

    /// Removes a target that was added with the same interval and offset.
    pub fn remove(&mut self, token: u32, interval_ns: i64, offset_ns: i64) {
        let Some(class) = self.classes.get_mut(&interval_ns) else { return };
        class.remove(&(phase_ns(offset_ns, interval_ns), token));
        if class.is_empty() {
            self.classes.remove(&interval_ns);
        }
    }

    /// Hands out what became due up to `now`, oldest first within an interval, and moves the cursor there.
    pub fn advance(&mut self, now: Now, out: &mut Vec<Due>) -> Skipped {
        let mut skipped = Skipped::default();
        let Some(last) = self.cursor.replace(now) else { return skipped };
        let wall_advance = now.wall_ns - last.wall_ns;
        let mono_advance = i64::try_from(now.mono_ns - last.mono_ns).unwrap_or(i64::MAX);
        if (wall_advance - mono_advance).abs() > STEP_NS {
            skipped.steps = 1;
            return skipped;
        }
        if wall_advance <= 0 {
            // A small step back (slewing): keep the cursor where it was, so that nothing is handed out twice.
            self.cursor = Some(Now { wall_ns: last.wall_ns, mono_ns: now.mono_ns });
            return skipped;
        }
        // Sleeping until the next start is no pause: what counts is how late the oldest start is.
        let oldest = self.classes.iter().filter_map(|(&i, class)| next_after(class, i, last.wall_ns)).min();
        let Some(lateness) = oldest.map(|due| now.wall_ns - due).filter(|&late| late >= 0) else { return skipped };
        for (&interval, class) in &self.classes {
            let made_up = if lateness > PAUSE_NS { 0 } else { wall_advance.min(interval) };
            let from = now.wall_ns - made_up;
            if from > last.wall_ns {
                skipped.missed += missed(class, interval, last.wall_ns, from);
            }
            collect(class, interval, (from, now.wall_ns), out);
        }
        skipped
    }

    /// The first instant after the cursor at which a target is due, wall clock; `None` without targets.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<i64> {
        let from = self.cursor?.wall_ns;
        self.classes.iter().filter_map(|(&i, class)| next_after(class, i, from)).min()
    }

    /// The first instant after `from_ns` at which a target of this interval and offset is due.
    #[must_use]
    pub fn due_after(from_ns: i64, interval_ns: i64, offset_ns: i64) -> i64 {
        let phase = phase_ns(offset_ns, interval_ns);
        let candidate = from_ns.div_euclid(interval_ns) * interval_ns + phase;
        if candidate > from_ns { candidate } else { candidate + interval_ns }
    }
}

/// Targets of one class that are due in the half-open span `(from, to]`, which is at most one interval long.
fn collect(class: &BTreeSet<(i64, u32)>, interval: i64, (from, to): (i64, i64), out: &mut Vec<Due>) {
    let mut base = from.div_euclid(interval) * interval;
    while base <= to {
        let low = (from - base + 1).max(0);
        let high = (to - base).min(interval - 1);
        if low <= high {
            out.extend(class.range((low, 0)..=(high, u32::MAX)).map(|&(p, token)| Due { token, due_ns: base + p }));
        }
        base += interval;
    }
}

/// Starts of one class in `(from, to]`, a span of any length.
fn missed(class: &BTreeSet<(i64, u32)>, interval: i64, from: i64, to: i64) -> u64 {
    let whole = (to - from) / interval;
    let mut rest = Vec::new();
    collect(class, interval, (from + whole * interval, to), &mut rest);
    whole as u64 * class.len() as u64 + rest.len() as u64
}

fn next_after(class: &BTreeSet<(i64, u32)>, interval: i64, from: i64) -> Option<i64> {
    let base = from.div_euclid(interval) * interval;
    match class.range((from - base + 1, 0)..).next() {
        Some(&(phase, _)) => Some(base + phase),
        None => class.first().map(|&(phase, _)| base + interval + phase),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const S: i64 = 1_000 * MS;

    fn at(ms: i64) -> Now {
        Now { wall_ns: 1_000_000 * S + ms * MS, mono_ns: (5_000 * S + ms * MS) as u64 }
    }

    fn started(s: &mut Schedule, now: Now) -> Vec<(u32, i64)> {
        let mut out = Vec::new();
        s.advance(now, &mut out);
        out.iter().map(|d| (d.token, (d.due_ns - 1_000_000 * S) / MS)).collect()
    }

    #[test]
    fn each_target_is_due_once_an_interval_on_its_phase() {
        let mut s = Schedule::default();
        s.add(1, S, 200 * MS);
        s.add(2, S, 700 * MS + 3 * MS);
        assert_eq!(started(&mut s, at(0)), []);
        let mut all = Vec::new();
        for ms in 1..=2000 {
            all.extend(started(&mut s, at(ms)));
        }
        assert_eq!(all, [(1, 200), (2, 700), (1, 1200), (2, 1700)]);
    }

    #[test]
    fn next_due_is_what_advance_hands_out() {
        let mut s = Schedule::default();
        s.add(1, 15 * S, 14 * S + 995 * MS);
        s.add(2, 60 * S, 0);
        let base = Now { wall_ns: 1_000_020 * S, mono_ns: 0 };
        s.advance(base, &mut Vec::new());
        let next = s.next_due_ns().unwrap();
        let mut out = Vec::new();
        s.advance(Now { wall_ns: next, mono_ns: (next - base.wall_ns) as u64 }, &mut out);
        assert_eq!(out, [Due { token: 1, due_ns: next }]);
    }

    #[test]
    fn a_short_stall_starts_late_oldest_first_and_a_long_one_gives_up() {
        let mut s = Schedule::default();
        s.add(1, 10 * S, 100 * MS);
        s.add(2, 10 * S, 50 * MS);
        started(&mut s, at(0));
        assert_eq!(started(&mut s, at(1500)), [(2, 50), (1, 100)]);
        let mut out = Vec::new();
        let skipped = s.advance(at(301_500), &mut out);
        assert_eq!((skipped.missed, out.len()), (60, 0));
        assert_eq!(started(&mut s, at(302_000)), []);
        assert_eq!(started(&mut s, at(310_200)), [(2, 310_050), (1, 310_100)]);
    }

    #[test]
    fn a_clock_step_causes_no_burst_and_no_lost_phase() {
        for step in [3_600 * S + 7 * MS, -(3_600 * S + 7 * MS)] {
            let mut s = Schedule::default();
            for t in 0..100 {
                s.add(t, 10 * S, i64::from(t) * 100 * MS);
            }
            started(&mut s, at(0));
            let stepped = |ms: i64| Now { wall_ns: at(ms).wall_ns + step, ..at(ms) };
            let mut out = Vec::new();
            assert_eq!(s.advance(stepped(10), &mut out), Skipped { missed: 0, steps: 1 });
            assert!(out.is_empty());
            let mut seen = [0; 100];
            for ms in 11..=10_010 {
                let mut out = Vec::new();
                s.advance(stepped(ms), &mut out);
                assert!(out.len() <= 1);
                out.iter().for_each(|d| seen[d.token as usize] += 1);
            }
            assert!(seen.iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn odd_intervals_keep_exact_multiples() {
        let (interval, offset) = (333 * MS, 123_456_789);
        let phase = phase_ns(offset, interval);
        assert_eq!(phase, 123 * MS);
        let due = Schedule::due_after(1_000_000 * S, interval, offset);
        assert_eq!(due.rem_euclid(interval), phase);
    }

    #[test]
    fn removal_forgets_the_target() {
        let mut s = Schedule::default();
        s.add(1, S, 0);
        s.advance(at(0), &mut Vec::new());
        s.remove(1, S, 0);
        assert_eq!(s.next_due_ns(), None);
        assert_eq!(started(&mut s, at(1500)), []);
    }
}
