//! A target goes to another shard: what this one hands over, what that one takes, and who could go at what cost.
//!
//! A target goes between two scrapes: what this shard has written of it is in an older batch of the journal than what that
//! shard will write, and readers go by that. Nothing of a move shows in the samples.

use crate::base::limits::{PHASES_MIN, START_GRIDS_NS};
use crate::base::time::Now;
use crate::scrape::scrape_loop::{Cycle, Health, ScrapeLoop, Status};
use crate::scrape::{PoolId, TargetHash, TargetSpec};
use crate::series::Portrait;
use crate::shard::command::HandOver;
use crate::shard::slice::Slice;

/// Least time to the next start of a target that goes, nanoseconds: it is to be in its place by then.
const AHEAD_NS: i64 = 500_000_000;
/// What a scrape costs before its first series, in series: some 8 us against 40 ns.
const SERIES_OF_SCRAPE: f64 = 200.0;
/// Sizes of candidates that are told apart: powers of two.
const SIZES: usize = 32;
/// Candidates of one size.
const OF_SIZE_MAX: usize = 16;

/// What goes with a target, beside what its entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handover {
    /// What it shows.
    pub portrait: Portrait,
    /// Of the last scrape.
    pub health: Health,
    /// Of the last scrape.
    pub status: Status,
    /// Time of the last scrape that went to the journal, milliseconds.
    pub written_ms: i64,
    /// When it is due next, wall clock.
    pub due_ns: i64,
}

/// A target that could go to another shard.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its pool.
    pub pool: PoolId,
    /// Which target.
    pub hash: TargetHash,
    /// What it costs, in series a second; a scrape itself counts as some.
    pub weight: f64,
}

/// What the targets of a shard cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights {
    /// Of all targets.
    pub total: f64,
    /// Some of every size.
    pub candidates: Vec<Candidate>,
}

/// A walk over the loops, a few in each turn.
#[derive(Debug, Default)]
pub(super) struct Weighing {
    next_token: u32,
    total: f64,
    by_size: [Vec<Candidate>; SIZES],
}

impl Weighing {
    /// Weighs so many loops more. Whether that was the last.
    pub fn advance(&mut self, slice: &Slice, loops: u32) -> bool {
        let end = (self.next_token + loops).min(slice.roster.places());
        for token in self.next_token..end {
            let Some(target) = slice.roster.may_be_at(token).filter(|l| !l.ending) else { continue };
            let weight = weight(target);
            self.total += weight;
            let size = &mut self.by_size[(weight.max(1.0).log2() as usize).min(SIZES - 1)];
            if size.len() < OF_SIZE_MAX
                && may_go(target)
                && let Some(pool) = &slice.pools[target.pool as usize]
            {
                size.push(Candidate { pool: pool.spec.id, hash: target.spec.hash, weight });
            }
        }
        self.next_token = end;
        end == slice.roster.places()
    }

    /// What was found.
    pub fn weights(self) -> Weights {
        Weights { total: self.total, candidates: self.by_size.into_iter().flatten().collect() }
    }
}

impl Slice {
    /// Answers a wish for a target.
    pub(super) fn answer(&mut self, HandOver { pool, hash, reply }: HandOver, now: Now) {
        if !reply.is_closed() {
            drop(reply.send(self.hand_over(pool, hash, now).map(Box::new)));
        }
    }

    /// Gives a target up for another shard, without any marker. Nothing when it cannot go now: its scrape is under way or
    /// near, or a body does not tell all that is known of it.
    fn hand_over(&mut self, pool: PoolId, hash: TargetHash, now: Now) -> Option<Handover> {
        let token = self.token_of(pool, hash)?;
        let target = self.loop_of(token);
        let due_ns = self.schedule.due_after(now.wall_ns, target.spec.interval_ns, target.spec.offset_ns);
        // On a finer grid the start that it has had may still be to come.
        let coarsest_ns = START_GRIDS_NS[0].min(target.spec.interval_ns / PHASES_MIN);
        let ahead_ns = AHEAD_NS..=target.spec.interval_ns - coarsest_ns;
        let is_between = matches!(target.cycle, Cycle::Resting) && ahead_ns.contains(&(due_ns - now.wall_ns));
        if !is_between || !may_go(target) {
            return None;
        }
        let portrait = target.cache.portrait()?;
        let (health, status, written_ms) = (target.health, target.status, target.written_ms);
        self.unlist(token);
        self.drop_loop(token);
        Some(Handover { portrait, health, status, written_ms, due_ns })
    }

    /// Goes on with a target of another shard. A start that it has missed on the way is counted.
    pub(super) fn take_over(&mut self, pool: PoolId, spec: TargetSpec, handover: &Handover, now: Now) {
        let (hash, interval_ns, offset_ns) = (spec.hash, spec.interval_ns, spec.offset_ns);
        self.add_target(pool, spec);
        let Some(token) = self.token_of(pool, hash) else { return };
        let target = self.roster.at_mut(token);
        let Some(p) = self.pools[target.pool as usize].as_mut().filter(|_| !target.has_started) else { return };
        let store = &mut self.parts.tools.store;
        if !target.cache.recall(store, &p.series, &handover.portrait, now.wall_ms()) {
            tracing::warn!(
                url = target.url(),
                "no room for what a target showed on another shard: series it lacks from now on end without staleness markers; \
                 compare ringscrape_packed_layout_bytes with its maximum, and drop series or add memory"
            );
        }
        target.has_started = true;
        target.health = handover.health;
        target.status = handover.status;
        target.written_ms = handover.written_ms;
        p.count(Health::Unknown, handover.health);
        // Shards may have different start grids, so the same start may be a fifth of a second later here.
        if self.schedule.due_after(now.wall_ns, interval_ns, offset_ns) > handover.due_ns + interval_ns / 2 {
            self.parts.recorder.stats().missed.add(1);
        }
        // Its first scrape must not be in a batch that was begun before it came: it would be read too early.
        self.parts.writer.end_batch();
    }
}

/// Whether a target may be one that goes unseen: others of its labels, and what a body does not tell, stay together.
fn may_go(target: &ScrapeLoop) -> bool {
    let is_good = target.has_started && !target.ending && target.health == Health::Up;
    is_good && !target.has_twins && target.cache.is_plain()
}

/// In series a second.
fn weight(target: &ScrapeLoop) -> f64 {
    let series = target.cache.expected_bytes() / size_of::<f64>();
    (SERIES_OF_SCRAPE + series as f64) * 1e9 / target.spec.interval_ns as f64
}
