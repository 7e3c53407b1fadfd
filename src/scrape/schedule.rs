//! When each target is due: targets of one interval sorted by phase, with a walking cursor; no timers.
//!
//! A target is due whenever `wall_ns mod interval_ns == phase_ns`, as in Prometheus, so the schedule survives
//! restarts and needs no per-target deadline. Phases are quantised to a start grid that divides the interval (else to
//! 1 ms), so one tick meets one run of targets and scrape times stay exact multiples. The fewer scrapes a second, the
//! coarser the grid: see [`START_GRIDS_NS`]. Targets are kept by their phase on the finest grid, and the cursor walks over
//! those, so none is lost or met twice when the grid changes; its scrape times move once, by less than a tick.
//!
//! Stalls and clock steps: what became due in a stall of up to 5 s is started late, oldest first, once per target, some
//! hundreds a turn so that answers are read in between; a longer pause, or a shard that has fallen so far behind, gives all of
//! that up and counts it. A wall clock that steps against the monotonic clock re-anchors the
//! cursor, so every target is simply due at its next phase: no burst, no phase lost afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::limits::{PHASES_MIN, START_GRIDS_NS, STARTS_PER_TICK, STARTS_PER_TURN};
use crate::base::time::Now;

/// A pause longer than this is not made up for: its starts would be one burst of old scrapes, nanoseconds.
const PAUSE_NS: i64 = 5_000_000_000;
/// A difference between the clocks' advances above this is a step of the wall clock, nanoseconds.
const STEP_NS: i64 = 500_000_000;
/// The grid of intervals that no start grid divides.
const ODD_GRID_NS: i64 = 1_000_000;
/// A grid becomes coarser only when this share of [`STARTS_PER_TICK`] is enough for it, so that it does not swing.
const COARSER_AT: f64 = 0.8;

/// One target that must start now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Which target.
    pub token: u32,
    /// The instant at which it was due, wall clock.
    pub due_ns: i64,
}

/// Targets of one interval: phase in ticks of the finest grid, and token. Eight bytes, since they are as many as targets.
type Class = BTreeSet<(u32, u32)>;

/// All targets of a shard by interval and phase.
#[derive(Debug)]
pub struct Schedule {
    classes: BTreeMap<i64, Class>,
    /// The clocks at the last call; `None` before the first.
    seen: Option<Now>,
    /// Up to where everything has been handed out, wall clock. Behind the last call while the shard is.
    cursor_ns: i64,
    /// The start grid that the cursor walked on, nanoseconds.
    grid_ns: i64,
}

/// What [`Schedule::advance`] skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Starts given up because they fell into a long pause, or were a target's second in a stall.
    pub missed: u64,
    /// Steps of the wall clock seen.
    pub steps: u64,
}

/// How one interval's targets meet a start grid.
#[derive(Clone, Copy, Debug)]
struct Ticks {
    interval_ns: i64,
    /// On which they start.
    grid_ns: i64,
    /// To which their kept phases are quantised; divides the other.
    fine_ns: i64,
}

impl Ticks {
    fn new(interval_ns: i64, shard_grid_ns: i64) -> Self {
        let divides = |g: &i64| interval_ns % g == 0;
        // Phases are counted in 32 bits: those of an interval of two months and more are coarser.
        let least_ns = (interval_ns / i64::from(u32::MAX) / ODD_GRID_NS + 1) * ODD_GRID_NS;
        let fine_ns = START_GRIDS_NS.into_iter().rfind(divides).unwrap_or(ODD_GRID_NS).max(least_ns);
        if fine_ns == least_ns {
            return Self { interval_ns, grid_ns: fine_ns, fine_ns };
        }
        let coarsest_ns = shard_grid_ns.min(interval_ns / PHASES_MIN);
        let grid_ns = START_GRIDS_NS.into_iter().filter(|&g| g <= coarsest_ns).find(divides).unwrap_or(fine_ns);
        Self { interval_ns, grid_ns, fine_ns }
    }

    /// The tick that a fine instant belongs to.
    fn tick_of(self, fine_ns: i64) -> i64 {
        fine_ns.div_euclid(self.grid_ns) * self.grid_ns
    }

    /// The last fine instant whose tick has come by `wall_ns`.
    fn horizon(self, wall_ns: i64) -> i64 {
        self.tick_of(wall_ns) + self.grid_ns - self.fine_ns
    }

    /// Phase in fine ticks.
    fn fine_phase(self, offset_ns: i64) -> u32 {
        (offset_ns.rem_euclid(self.interval_ns) / self.fine_ns) as u32
    }

    /// The first fine tick of an interval that is not before `ns`, nanoseconds after its begin.
    fn fine_from(self, ns: i64) -> u32 {
        u32::try_from((ns + self.fine_ns - 1) / self.fine_ns).unwrap_or(u32::MAX)
    }

    /// Nanoseconds after the begin of an interval.
    fn ns_of(self, fine_phase: u32) -> i64 {
        i64::from(fine_phase) * self.fine_ns
    }
}

/// The phase that a target with this exact offset has on a shard with few scrapes a second, nanoseconds.
#[must_use]
pub fn phase_ns(offset_ns: i64, interval_ns: i64) -> i64 {
    let ticks = Ticks::new(interval_ns, START_GRIDS_NS[0]);
    ticks.tick_of(ticks.ns_of(ticks.fine_phase(offset_ns)))
}

impl Default for Schedule {
    fn default() -> Self {
        Self { classes: BTreeMap::new(), seen: None, cursor_ns: 0, grid_ns: START_GRIDS_NS[0] }
    }
}

impl Schedule {
    /// Adds a target.
    pub fn add(&mut self, token: u32, interval_ns: i64, offset_ns: i64) {
        assert!(interval_ns > 0, "an interval is positive");
        let phase = Ticks::new(interval_ns, self.grid_ns).fine_phase(offset_ns);
        self.classes.entry(interval_ns).or_default().insert((phase, token));
    }

    /// Removes a target that was added with the same interval and offset.
    pub fn remove(&mut self, token: u32, interval_ns: i64, offset_ns: i64) {
        let Some(class) = self.classes.get_mut(&interval_ns) else { return };
        class.remove(&(Ticks::new(interval_ns, self.grid_ns).fine_phase(offset_ns), token));
        if class.is_empty() {
            self.classes.remove(&interval_ns);
        }
    }

    /// Hands out what became due up to `now`, oldest first within an interval, and moves the cursor there; about
    /// [`STARTS_PER_TURN`] at a time.
    pub fn advance(&mut self, now: Now, out: &mut Vec<Due>) -> Skipped {
        let mut skipped = Skipped::default();
        let Some(last) = self.seen.replace(now) else {
            self.cursor_ns = now.wall_ns;
            return skipped;
        };
        let mono_advance = i64::try_from(now.mono_ns - last.mono_ns).unwrap_or(i64::MAX);
        if (now.wall_ns - last.wall_ns - mono_advance).abs() > STEP_NS {
            (self.cursor_ns, skipped.steps) = (now.wall_ns, 1);
            return skipped;
        }
        // Until a clock that was slewed back is where it was, nothing is due a second time.
        if now.wall_ns <= self.cursor_ns {
            return skipped;
        }
        let (last_ns, before_ns) = (self.cursor_ns, self.grid_ns);
        // Sleeping until the next start is no pause: what counts is how late the oldest start is.
        let oldest_ns = self.next_due_ns().unwrap_or(now.wall_ns);
        let is_given_up = now.wall_ns - oldest_ns > PAUSE_NS;
        let rate = self.rate();
        let until_ns = if is_given_up { now.wall_ns } else { self.until(now.wall_ns, oldest_ns, rate) };
        self.grid_ns = self.next_grid(rate, last_ns, until_ns);
        for (&interval, class) in &self.classes {
            let ticks = Ticks::new(interval, self.grid_ns);
            let (done, to) = (Ticks::new(interval, before_ns).horizon(last_ns), ticks.horizon(until_ns));
            let made_up = if is_given_up { 0 } else { interval };
            let from = done.max(to.min(ticks.horizon(now.wall_ns) - made_up));
            if from > done {
                skipped.missed += missed(class, ticks, done, from);
            }
            collect(class, ticks, (from, to), out);
        }
        self.cursor_ns = until_ns;
        skipped
    }

    /// Where a turn stops that begins with the oldest start: a tick later at least.
    fn until(&self, now_ns: i64, oldest_ns: i64, rate: f64) -> i64 {
        // Without targets the quotient is infinite, and the cast the largest number.
        let span_ns = ((STARTS_PER_TURN * 1e9 / rate) as i64).max(self.grid_ns);
        now_ns.min(oldest_ns.saturating_add(span_ns))
    }

    /// Starts a second.
    fn rate(&self) -> f64 {
        self.classes.iter().map(|(&i, class)| class.len() as f64 * 1e9 / i as f64).sum()
    }

    /// The first instant after the cursor at which a target is due, wall clock; `None` without targets.
    #[must_use]
    pub fn next_due_ns(&self) -> Option<i64> {
        self.seen?;
        let from = self.cursor_ns;
        self.classes.iter().filter_map(|(&i, class)| next_after(class, Ticks::new(i, self.grid_ns), from)).min()
    }

    /// The first instant after `from_ns` at which a target of this interval and offset is due.
    #[must_use]
    pub fn due_after(&self, from_ns: i64, interval_ns: i64, offset_ns: i64) -> i64 {
        let ticks = Ticks::new(interval_ns, self.grid_ns);
        let phase = ticks.tick_of(ticks.ns_of(ticks.fine_phase(offset_ns)));
        let candidate = from_ns.div_euclid(interval_ns) * interval_ns + phase;
        if candidate > from_ns { candidate } else { candidate + interval_ns }
    }

    /// The grid from now on. It becomes finer only between two of its ticks: what the last one was to start has started.
    fn next_grid(&self, rate: f64, last_ns: i64, now_ns: i64) -> i64 {
        let suits = |g: &i64| {
            let most = if *g > self.grid_ns { COARSER_AT * STARTS_PER_TICK } else { STARTS_PER_TICK };
            rate * *g as f64 / 1e9 <= most
        };
        let wanted = START_GRIDS_NS.into_iter().find(suits).unwrap_or(START_GRIDS_NS[START_GRIDS_NS.len() - 1]);
        let is_between = now_ns.div_euclid(self.grid_ns) > last_ns.div_euclid(self.grid_ns);
        if wanted > self.grid_ns || is_between { wanted } else { self.grid_ns }
    }
}

/// Targets of one class whose fine instants are in the half-open span `(from, to]`, which is at most one interval long.
fn collect(class: &Class, ticks: Ticks, (from, to): (i64, i64), out: &mut Vec<Due>) {
    let interval = ticks.interval_ns;
    let mut base = from.div_euclid(interval) * interval;
    while base <= to {
        let low = (from - base + 1).max(0);
        let high = (to - base).min(interval - 1);
        let (first, end) = (ticks.fine_from(low), ticks.fine_from(high + 1));
        if first < end {
            let due = |&(phase, token): &(u32, u32)| Due { token, due_ns: ticks.tick_of(base + ticks.ns_of(phase)) };
            out.extend(class.range((first, 0)..(end, 0)).map(due));
        }
        base += interval;
    }
}

/// Starts of one class in `(from, to]`, a span of any length.
fn missed(class: &Class, ticks: Ticks, from: i64, to: i64) -> u64 {
    let whole = (to - from) / ticks.interval_ns;
    let mut rest = Vec::new();
    collect(class, ticks, (from + whole * ticks.interval_ns, to), &mut rest);
    whole as u64 * class.len() as u64 + rest.len() as u64
}

/// The first tick after `wall_ns` on which a target of the class starts.
fn next_after(class: &Class, ticks: Ticks, wall_ns: i64) -> Option<i64> {
    let from = ticks.horizon(wall_ns);
    let base = from.div_euclid(ticks.interval_ns) * ticks.interval_ns;
    let next = match class.range((ticks.fine_from(from - base + 1), 0)..).next() {
        Some(&(phase, _)) => Some(base + ticks.ns_of(phase)),
        None => class.first().map(|&(phase, _)| base + ticks.interval_ns + ticks.ns_of(phase)),
    };
    next.map(|fine| ticks.tick_of(fine))
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
        assert_eq!(all, [(1, 200), (2, 680), (1, 1200), (2, 1680)]);
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
        s.add(1, 10 * S, 500 * MS);
        s.add(2, 10 * S, 250 * MS);
        started(&mut s, at(0));
        assert_eq!(started(&mut s, at(1500)), [(2, 200), (1, 400)]);
        let mut out = Vec::new();
        let skipped = s.advance(at(301_500), &mut out);
        assert_eq!((skipped.missed, out.len()), (60, 0));
        assert_eq!(started(&mut s, at(302_000)), []);
        assert_eq!(started(&mut s, at(310_600)), [(2, 310_200), (1, 310_400)]);
    }

    /// Turns that take so long, until `to_ms`; starts by token, and what was given up.
    fn turns(s: &mut Schedule, (from_ms, to_ms): (i64, i64), each_ms: i64, starts: &mut [Vec<i64>]) -> u64 {
        let (mut missed, mut most) = (0, 0);
        for ms in (from_ms..to_ms).step_by(each_ms as usize) {
            let mut out = Vec::new();
            missed += s.advance(at(ms), &mut out).missed;
            most = most.max(out.len());
            assert!(out.is_sorted_by_key(|d| d.due_ns));
            out.iter().for_each(|d| starts[d.token as usize].push((d.due_ns - 1_000_000 * S) / MS));
        }
        assert!(most <= STARTS_PER_TURN as usize + 2 * STARTS_PER_TICK as usize, "{most} in one turn");
        missed
    }

    #[test]
    fn what_a_stall_has_left_is_started_over_several_turns() {
        let mut s = Schedule::default();
        (0..20_000).for_each(|t| s.add(t, 10 * S, i64::from(t) * 7_919_333 % (10 * S)));
        started(&mut s, at(0));
        let mut starts = vec![Vec::new(); 20_000];
        turns(&mut s, (1, 10_000), 1, &mut starts);
        starts.iter_mut().for_each(Vec::clear);
        assert_eq!(turns(&mut s, (13_999, 19_999), 1, &mut starts), 0, "4 s are made up for");
        assert!(starts.iter().all(|own| own.len() == 1), "each once");
        assert!(s.next_due_ns().unwrap() > at(19_998).wall_ns, "and the shard is on time again");
    }

    #[test]
    fn a_shard_that_cannot_keep_up_gives_up_what_it_is_far_behind_with() {
        let mut s = Schedule::default();
        (0..20_000).for_each(|t| s.add(t, 10 * S, i64::from(t) * 7_919_333 % (10 * S)));
        started(&mut s, at(0));
        let mut starts = vec![Vec::new(); 20_000];
        // Half of what is due.
        let missed = turns(&mut s, (0, 60_000), 512, &mut starts);
        let begun = starts.iter().flatten().count() as u64;
        let left = 120_000 - begun - missed;
        assert!(left <= 2 * 5_000 + 1_100, "{begun} begun, {missed} given up, {left} neither");
        assert!((50_000..70_000).contains(&begun), "{begun}");
        assert!(starts.iter().all(|own| own.is_sorted_by(|a, b| a + 9_000 < *b)), "none twice an interval");
    }

    #[test]
    fn a_short_interval_is_made_up_for_once() {
        let mut s = Schedule::default();
        (0..4_000).for_each(|t| s.add(t, S, i64::from(t) * 7_919_333 % S));
        started(&mut s, at(0));
        let mut starts = vec![Vec::new(); 4_000];
        let missed = turns(&mut s, (4_000, 4_400), 10, &mut starts);
        assert!(starts.iter().all(|own| (1..=2).contains(&own.len())));
        let begun = starts.iter().flatten().count() as u64;
        assert!((17_400..=17_700).contains(&(begun + missed)), "{begun} begun, {missed} given up of 17,600");
        assert!(missed >= 12_000, "{missed}");
    }

    #[test]
    fn a_clock_step_causes_no_burst_and_no_lost_phase() {
        for step in [3_600 * S + 7 * MS, -(3_600 * S + 7 * MS)] {
            let mut s = Schedule::default();
            for t in 0..50 {
                s.add(t, 10 * S, i64::from(t) * 200 * MS);
            }
            started(&mut s, at(0));
            let stepped = |ms: i64| Now { wall_ns: at(ms).wall_ns + step, ..at(ms) };
            let mut out = Vec::new();
            assert_eq!(s.advance(stepped(10), &mut out), Skipped { missed: 0, steps: 1 });
            assert!(out.is_empty());
            let mut seen = [0; 50];
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
        let due = Schedule::default().due_after(1_000_000 * S, interval, offset);
        assert_eq!(due.rem_euclid(interval), phase);
    }

    #[test]
    fn a_short_interval_keeps_phases_enough() {
        let grids = [(5 * S, 200), (60 * S, 200), (S, 40), (750 * MS, 10), (500 * MS, 20), (100 * MS, 10)];
        for (interval, grid_ms) in grids {
            assert_eq!(Ticks::new(interval, START_GRIDS_NS[0]).grid_ns, grid_ms * MS, "{interval}");
        }
    }

    #[test]
    fn the_longest_intervals_have_phases_too() {
        let day = 86_400 * S;
        for interval in [49 * day, 50 * day + 333 * MS, 500 * day, 36_500 * day + MS] {
            let step = Ticks::new(interval, START_GRIDS_NS[0]).grid_ns;
            assert!(step <= START_GRIDS_NS[0].max(interval >> 31));
            for offset in [day, interval / 3, interval - 1] {
                let mut s = Schedule::default();
                s.add(1, interval, offset);
                s.advance(Now { wall_ns: 0, mono_ns: 0 }, &mut Vec::new());
                let due = [s.next_due_ns().unwrap(), s.due_after(0, interval, offset)];
                let late = due.map(|due| offset - due);
                assert!(late.iter().all(|late| (0..2 * step).contains(late)), "{interval}, {offset}: {due:?}");
                s.remove(1, interval, offset);
                assert_eq!(s.next_due_ns(), None);
            }
        }
    }

    /// Turns each millisecond up to `to_ms`; start times by token, milliseconds.
    fn run(s: &mut Schedule, from_ms: i64, to_ms: i64, starts: &mut [Vec<i64>]) {
        for ms in from_ms + 1..=to_ms {
            started(s, at(ms)).iter().for_each(|&(token, due_ms)| {
                assert!(due_ms <= ms && ms - due_ms < 40, "{due_ms} at {ms}");
                starts[token as usize].push(ms);
            });
        }
    }

    #[test]
    fn the_grid_follows_the_load_and_nobody_is_lost_or_met_twice() {
        let mut s = Schedule::default();
        let mut starts = vec![Vec::new(); 5_000];
        let offset = |t: u32| i64::from(t) * 7_919_333 % S;
        started(&mut s, at(0));
        let stages = [(0, 800, 40), (2_017, 2_000, 20), (4_003, 5_000, 10), (6_011, 1_800, 20), (8_029, 600, 40)];
        for (i, &(from_ms, targets, grid_ms)) in stages.iter().enumerate() {
            let before = s.classes.get(&S).map_or(0, Class::len) as u32;
            (before..targets).for_each(|t| s.add(t, S, offset(t)));
            (targets..before).for_each(|t| s.remove(t, S, offset(t)));
            run(&mut s, from_ms, stages.get(i + 1).map_or(10_000, |next| next.0), &mut starts);
            assert_eq!(s.grid_ns, grid_ms * MS, "{targets} a second");
        }
        for (token, own) in starts.iter().enumerate() {
            let gaps_are_intervals = own.windows(2).all(|w| (960..=1_040).contains(&(w[1] - w[0])));
            assert!(gaps_are_intervals && (token >= 600 || own.len() >= 9), "{token}: {own:?}");
        }
    }

    #[test]
    fn a_grid_does_not_swing() {
        let mut s = Schedule::default();
        let offset = |t: u32| i64::from(t) * 7_919_333 % S;
        (0..1400).for_each(|t| s.add(t, S, offset(t)));
        let mut starts = vec![Vec::new(); 1400];
        started(&mut s, at(0));
        run(&mut s, 0, 1_000, &mut starts);
        assert_eq!(s.grid_ns, 20 * MS);
        (1100..1400).for_each(|t| s.remove(t, S, offset(t)));
        run(&mut s, 1_000, 2_000, &mut starts);
        assert_eq!(s.grid_ns, 20 * MS, "1,100 a second would do for 40 ms, but only just");
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
