//! A shard's slice of every scrape pool: what is owned by one thread and shared with none.
//!
//! The slice turns due times into jobs for the net (`dial.rs`), takes the bytes of answers (`sink.rs`), and writes what a
//! scrape showed to the journal (`conclude.rs`, `writing.rs`). It knows no sockets; its thread is [`crate::shard::Shard`].

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use crate::base::limits::REAP_TICK_NS;
use crate::base::time::Now;
use crate::net::Job;
use crate::relabel::RelabelError;
use crate::scrape::error::ScrapeError;
use crate::scrape::exchange::{Exchange, Tools};
use crate::scrape::pool::Applied;
use crate::scrape::schedule::{Due, Schedule};
use crate::scrape::scrape_loop::{Cycle, Health};
use crate::scrape::{KeepAlive, Manner, PoolId, PoolSpec, ScrapeLoop, ScrapePool, TargetHash, TargetSpec};
use crate::series::{KeptCache, PassedOn};
use crate::shard::errands::{Errands, Mailer};
use crate::shard::names::Names;
use crate::shard::roster::Roster;
use crate::shard::stats::Recorder;
use crate::shard::writing::Writing;
use crate::storage::journal::Writer;

/// Starts between the moment when a target's state is asked for and its own: together they take longer than memory.
const PREFETCHED: usize = 4;

/// A timeout is cut by no more than this, nanoseconds, and a tenth of it, so that its scrape ends before the next one; one
/// that was started later than that keeps its time, and the next one is left out.
const CUT_NS_MAX: i64 = 100_000_000;
/// The log says no more often than this that starts were given up, nanoseconds.
const TOLD_EVERY_NS: u64 = 60_000_000_000;
/// How long before the next one is due such a scrape ends, nanoseconds; of short intervals a fiftieth.
const ENDS_BEFORE_NS: i64 = 4_000_000;

/// What a slice is made of.
pub struct Parts {
    /// Series store and inflater.
    pub tools: Tools,
    /// Journal writer.
    pub writer: Writer,
    /// Counters.
    pub recorder: Recorder,
    /// Addresses of host names.
    pub names: Names,
    /// Files of credentials and TLS settings.
    pub errands: Errands,
    /// How the answers of both come back.
    pub mailer: Arc<Mailer>,
    /// The clocks; virtual in the simulator. Read once for each ended scrape.
    pub clock: Box<dyn Fn() -> Now + Send>,
    /// Scrape times within this of their due time are written as the due time, nanoseconds.
    pub tolerance_ns: i64,
    /// Which connections are kept.
    pub keep_alive: KeepAlive,
    /// Bugs on purpose; `None` outside the simulator's own tests.
    #[cfg(any(test, feature = "sim"))]
    pub sabotage: Option<Box<dyn crate::shard::sabotage::Sabotage>>,
}

/// See the module page.
pub struct Slice {
    pub(super) parts: Parts,
    pub(super) pools: Vec<Option<ScrapePool>>,
    pub(super) pool_index: HashMap<PoolId, u32>,
    pub(super) roster: Roster,
    pub(super) schedule: Schedule,
    /// Jobs for the net, handed over by the shard between its turns.
    pub(super) jobs: Vec<Job>,
    /// Tokens whose kept connection is to be closed.
    pub(super) forgotten: Vec<u32>,
    /// Cycles that wait for a name or for secrets, earliest deadline first. One that waits no longer stays listed until
    /// then: tens of thousands may wait, and each goes on alone.
    pub(super) awaiting: BinaryHeap<Reverse<Awaiting>>,
    /// Earliest first: a change of the target list may make ten thousand.
    pub(super) endings: BinaryHeap<Reverse<Ending>>,
    /// By token of a removed target: what others of its labels have lost and marked since.
    pub(super) passed_on: HashMap<u32, PassedOn>,
    /// Tokens of bodies that have arrived and inflate to much, in the order they came.
    pub(super) inflating: VecDeque<u32>,
    /// Large scrapes on their way to the journal.
    pub(super) writings: VecDeque<Writing>,
    /// Body bytes that wait in memory, over all cycles in flight.
    pub(super) held_bytes: usize,
    /// What those of them that are large were admitted with.
    pub(super) admitted_bytes: usize,
    /// Number of the TLS settings that were made last.
    pub(super) secured: u32,
    /// Starts given up that the log has not told, and when it told of some last, monotonic.
    untold: (u64, Option<u64>),
}

/// A cycle that waits for something, or has waited for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Awaiting {
    pub deadline_mono_ns: u64,
    pub token: u32,
    /// Here too, so that a pool's are found without a look at all loops.
    pub pool: u32,
}

/// A removed target whose end-of-run markers are due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ending {
    /// When to write them, monotonic.
    pub at_mono_ns: u64,
    pub token: u32,
    /// Their timestamp.
    pub time_ms: i64,
}

impl Slice {
    /// An empty slice.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            pools: Vec::new(),
            pool_index: HashMap::new(),
            roster: Roster::default(),
            schedule: Schedule::default(),
            jobs: Vec::new(),
            forgotten: Vec::new(),
            awaiting: BinaryHeap::new(),
            endings: BinaryHeap::new(),
            inflating: VecDeque::new(),
            writings: VecDeque::new(),
            passed_on: HashMap::new(),
            held_bytes: 0,
            admitted_bytes: 0,
            secured: 0,
            untold: (0, None),
        }
    }

    /// Targets with a loop, ending ones not counted.
    #[must_use]
    pub fn target_count(&self) -> usize {
        self.roster.count()
    }

    /// Inserts a pool or changes its configuration; running loops go on.
    pub fn set_pool(&mut self, spec: PoolSpec) {
        let id = spec.id;
        let job = spec.config.job_name.clone();
        let result = match self.pool_index.get(&id) {
            Some(&i) => self.change_pool(i, spec),
            None => ScrapePool::new(spec).map(|pool| {
                self.pool_index.insert(id, self.pools.len() as u32);
                self.pools.push(Some(pool));
            }),
        };
        if let Err(e) = result {
            tracing::error!(job, error = %e, "scrape pool not applied: a metric relabel rule does not compile");
        }
    }

    fn change_pool(&mut self, index: u32, spec: PoolSpec) -> Result<(), RelabelError> {
        let Some(pool) = &mut self.pools[index as usize] else { return Ok(()) };
        if pool.apply(spec)? == Applied::NewRules {
            for target in self.roster.loops_mut().filter(|l| l.pool == index) {
                let labels = target.cache.packed_labels();
                target.cache.open(|c| c.adopt(&pool.series, &labels));
            }
        }
        Ok(())
    }

    /// Stops a pool's loops at once, without end-of-run markers. prometheus: manager.go, ApplyConfig.
    pub fn remove_pool(&mut self, id: PoolId) {
        let Some(index) = self.pool_index.remove(&id) else { return };
        let tokens: Vec<u32> = self.roster.tokens().filter(|&t| self.roster.at(t).pool == index).collect();
        let mut left = 0;
        for token in tokens {
            // Those of removed targets that are not yet over are listed no more.
            if !self.loop_of(token).ending {
                self.unlist(token);
            }
            if matches!(self.loop_of(token).cycle, Cycle::InFlight(_) | Cycle::Inflating(_) | Cycle::Writing) {
                // The net still owes an end for it, or the inflater, or the journal; the loop goes then, unseen.
                self.loop_mut(token).ending = true;
                self.loop_mut(token).has_started = false;
                left += 1;
            } else {
                self.drop_loop(token);
            }
        }
        self.endings.retain(|Reverse(e)| self.roster.may_be_at(e.token).is_some());
        let place = &mut self.pools[index as usize];
        match place {
            Some(pool) if left > 0 => pool.left = left,
            _ => *place = None,
        }
    }

    /// Begins a target's loop at its next phase.
    pub fn add_target(&mut self, pool: PoolId, mut spec: TargetSpec) {
        let Some(&index) = self.pool_index.get(&pool) else { return };
        if self.roster.find(index, spec.hash).is_some() {
            return;
        }
        let Some(p) = &mut self.pools[index as usize] else { return };
        let labels = std::mem::take(&mut spec.labels);
        let cache = KeptCache::new(&p.series, &labels);
        let (interval, offset) = (spec.interval_ns, spec.offset_ns);
        let path = Arc::clone(&spec.path);
        let manner = p.manner(Manner { scheme: spec.scheme, path, interval_ns: interval, timeout_ns: spec.timeout_ns });
        let token = self.roster.add(ScrapeLoop::new(index, spec, (manner, cache)), &labels);
        self.schedule.add(token, interval, offset);
    }

    /// Ends a target's loop; its series get end-of-run markers later.
    pub fn remove_target(&mut self, pool: PoolId, hash: TargetHash, now: Now) {
        let Some(token) = self.token_of(pool, hash) else { return };
        self.unlist(token);
        self.loop_mut(token).ending = true;
        match self.loop_of(token).cycle {
            Cycle::Resting => self.begin_ending(token, now),
            // Its end begins when the cycle has ended, once.
            Cycle::AwaitingName(_) | Cycle::AwaitingSecrets(_) => {}
            Cycle::InFlight(_) | Cycle::Inflating(_) | Cycle::Writing => {}
        }
    }

    /// The token of a target.
    #[must_use]
    pub fn token_of(&self, pool: PoolId, hash: TargetHash) -> Option<u32> {
        self.roster.find(*self.pool_index.get(&pool)?, hash)
    }

    /// Starts everything that became due up to `now`.
    pub fn start_due(&mut self, now: Now, due: &mut Vec<Due>) {
        due.clear();
        let skipped = self.schedule.advance(now, due);
        let stats = self.parts.recorder.stats();
        stats.missed.add(skipped.missed);
        stats.clock_steps.add(skipped.steps);
        if skipped.missed > 0 {
            self.tell_given_up(skipped.missed, now);
        }
        #[cfg(any(test, feature = "sim"))]
        if let Some(sabotage) = &mut self.parts.sabotage {
            sabotage.due(due, skipped);
        }
        for (i, d) in due.iter().enumerate() {
            // A fleet is larger than the cache: the state of those that follow comes while this one is started.
            due.get(i + 2 * PREFETCHED).inspect(|soon| self.roster.prefetch_place(soon.token));
            due.get(i + PREFETCHED).inspect(|soon| self.roster.prefetch(soon.token));
            self.start(*d, now);
        }
    }

    fn tell_given_up(&mut self, starts: u64, now: Now) {
        let (count, told) = &mut self.untold;
        *count += starts;
        if told.is_none_or(|at| now.mono_ns >= at + TOLD_EVERY_NS) {
            tracing::warn!(
                starts = std::mem::take(count),
                "scrapes given up: this shard was paused or fell behind by more than 5 s or an interval; where that goes on it lacks \
                 CPU: give the process more, or fewer targets or longer intervals (ringscrape_scrapes_missed_total counts)"
            );
            *told = Some(now.mono_ns);
        }
    }

    fn start(&mut self, due: Due, now: Now) {
        let target = self.roster.at_mut(due.token);
        if !matches!(target.cycle, Cycle::Resting) {
            self.parts.recorder.stats().skipped.add(1);
            return;
        }
        let Some(pool) = &mut self.pools[target.pool as usize] else { return };
        self.parts.recorder.lateness((now.wall_ns - due.due_ns).max(0) as u64);
        self.parts.recorder.stats().started.add(1);
        if target.has_started && target.status.last_scrape_wall_ms > 0 {
            let length_ns = now.wall_ns.saturating_sub(target.status.last_scrape_wall_ms * 1_000_000);
            self.parts.recorder.intervals.record(target.spec.interval_ns, length_ns.max(0) as u64);
        }
        target.has_started = true;
        target.ledger.prefetch();
        let time_ns = scrape_time_ns(due.due_ns, now.wall_ns, target.spec.interval_ns, self.parts.tolerance_ns);
        let deadline = deadline_mono_ns(due.due_ns, now, target.spec.interval_ns, target.spec.timeout_ns);
        let mut exchange = Exchange::new(time_ns.div_euclid(1_000_000), now, deadline, &pool.spec.config);
        if let Some(text) = &pool.spec.forced_error {
            exchange.fail(ScrapeError::Forced(Arc::clone(text)));
            self.conclude(due.token, exchange);
            return;
        }
        let index = target.pool;
        self.ask_authorization(index, now);
        self.dial(due.token, Box::new(exchange), now);
    }

    /// The next instant at which something other than the net wants a turn, monotonic.
    #[must_use]
    pub fn wake_at(&self, now: Now) -> Option<u64> {
        let due = self.schedule.next_due_ns().map(|wall| now.mono_ns + (wall - now.wall_ns).max(0) as u64);
        let awaiting = self.awaiting.peek().map(|Reverse(a)| a.deadline_mono_ns);
        let ending = self.endings.peek().map(|Reverse(e)| e.at_mono_ns);
        [due, awaiting, ending].into_iter().flatten().min()
    }

    /// Whether the same target (labels and URL) runs in another pool and has already written this instant: while a target
    /// moves between jobs both run for a moment, on one phase. prometheus: tsdb/agent, Append: out of order.
    pub(super) fn is_written(&self, token: u32, time_ms: i64) -> bool {
        let target = self.loop_of(token);
        if !target.has_twins {
            return false;
        }
        let labels = target.cache.packed_labels();
        let same = self.roster.of_labels(&labels);
        let twins = same.filter(|&t| t != token).map(|t| self.roster.at(t));
        twins.filter(|l| !l.ending && l.spec.hash == target.spec.hash).any(|l| l.written_ms >= time_ms)
    }

    /// The time that a scrape is written with: another target of equal labels, but another URL, may be on the same tick of the
    /// start grid. prometheus: their phases, to the nanosecond, nearly always differ by a millisecond or more.
    pub(super) fn distinct_ms(&self, token: u32, time_ms: i64) -> i64 {
        let target = self.loop_of(token);
        if !target.has_twins {
            return time_ms;
        }
        let labels = target.cache.packed_labels();
        let twins = self.roster.of_labels(&labels).map(|t| self.roster.at(t));
        let others = twins.filter(|l| !l.ending && l.spec.hash != target.spec.hash);
        free_ms(time_ms, &others.map(|l| l.written_ms).collect::<Vec<_>>())
    }

    pub(super) fn loop_of(&self, token: u32) -> &ScrapeLoop {
        self.roster.at(token)
    }

    pub(super) fn loop_mut(&mut self, token: u32) -> &mut ScrapeLoop {
        self.roster.at_mut(token)
    }

    /// Takes a target out of the schedule and the tables; its loop lives on until it is dropped.
    pub(super) fn unlist(&mut self, token: u32) {
        let target = self.roster.at(token);
        let (spec, pool) = (&target.spec, target.pool as usize);
        if let Some(p) = &mut self.pools[pool] {
            p.count(target.health, Health::Unknown);
        }
        self.schedule.remove(token, spec.interval_ns, spec.offset_ns);
        self.roster.unlist(token);
    }

    /// Drops a loop that outlived its pool, and with the last one the pool.
    pub(super) fn drop_last(&mut self, token: u32) {
        let index = self.roster.at(token).pool;
        let place = &mut self.pools[index as usize];
        if let Some(pool) = place.as_mut().filter(|p| self.pool_index.get(&p.spec.id) != Some(&index)) {
            pool.left = pool.left.saturating_sub(1);
            if pool.left == 0 {
                *place = None;
            }
        }
        self.drop_loop(token);
    }

    pub(super) fn drop_loop(&mut self, token: u32) {
        self.forgotten.push(token);
        self.passed_on.remove(&token);
        self.roster.drop_loop(token);
    }
}

/// The first millisecond from this one on that is not taken.
fn free_ms(time_ms: i64, taken: &[i64]) -> i64 {
    (time_ms..).find(|ms| !taken.contains(ms)).unwrap_or(time_ms)
}

/// A scrape that may take the whole interval ends just before the next one is due, though it was started a little late: each
/// of a target that never answers is then on its phase. Soon enough that many such ends do not delay the starts of that tick.
/// prometheus: scrape.go, run: one tick waits for such a scrape.
fn deadline_mono_ns(due_ns: i64, now: Now, interval_ns: i64, timeout_ns: i64) -> u64 {
    let next = due_ns + interval_ns - now.wall_ns - ENDS_BEFORE_NS.min(interval_ns / 50).max(REAP_TICK_NS as i64);
    let is_cut = next < timeout_ns && timeout_ns - next <= CUT_NS_MAX.min(timeout_ns / 10);
    now.mono_ns + (if is_cut { next } else { timeout_ns }) as u64
}

/// prometheus: scrape.go, run: within the tolerance (at most 1 % of the interval) the aligned time is written.
fn scrape_time_ns(due_ns: i64, wall_ns: i64, interval_ns: i64, tolerance_ns: i64) -> i64 {
    if wall_ns - due_ns <= tolerance_ns.min(interval_ns / 100) { due_ns } else { wall_ns }
}

/// Where a cycle's current request goes.
pub(super) fn url_of(target: &ScrapeLoop, exchange: &Exchange) -> String {
    match &exchange.place {
        Some(p) => p.url(),
        None => target.url(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_on_one_tick_are_written_with_different_times() {
        assert_eq!((free_ms(5, &[]), free_ms(5, &[4]), free_ms(5, &[5])), (5, 5, 6));
        assert_eq!(free_ms(5, &[6, 5, i64::MIN]), 7);
    }

    #[test]
    fn only_a_timeout_as_long_as_the_interval_is_cut() {
        let s = 1_000_000_000;
        let now = |late_ns: i64| Now { mono_ns: 7, wall_ns: 100 * s + late_ns };
        let deadline = |late_ns, timeout| deadline_mono_ns(100 * s, now(late_ns), 5 * s, timeout) as i64 - 7 + late_ns;
        let before = ENDS_BEFORE_NS;
        for late in [0, 1, 3_000_000, CUT_NS_MAX - before] {
            assert_eq!(deadline(late, 5 * s), 5 * s - before, "before the next one, {late} ns late");
        }
        assert_eq!(deadline(CUT_NS_MAX, 5 * s), 5 * s + CUT_NS_MAX, "too late to end in time");
        assert_eq!(deadline(3_000_000, 4 * s), 4 * s + 3_000_000);
        assert_eq!(deadline(2 * s, 4 * s), 6 * s);
        let short = |late_ns| deadline_mono_ns(100 * s, now(late_ns), 50_000_000, 50_000_000) - 7;
        assert_eq!((short(3_000_000), short(40_000_000), short(s)), (46_000_000, 50_000_000, 50_000_000));
    }
}
