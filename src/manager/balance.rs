//! Evens out what the shards need: now and then a few targets go from the busiest shard to the idlest.
//!
//! Slow and bounded on purpose: an imbalance must last for two rounds, a round moves at most [`MOVES_MAX`] targets, a target
//! moves once an hour, and after a move a round is waited for its effect. A target that cannot go unseen stays.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::exchange::CommandSender;
use super::placement::{Imbalance, MOVED_MAX, cores_of, imbalance, leavers};
use super::scrape_manager::{ANSWER_WAIT, Manager, Tables};
use crate::base::time::Now;
use crate::scrape::PoolId;
use crate::shard::{Candidate, Command, HandOver, Weights};

/// Targets that move in a round.
const MOVES_MAX: usize = 16;
/// Targets that are asked for in a round; some cannot go just then.
const ASKED_MAX: usize = 64;
/// Rounds in a row with an imbalance before something moves.
const ROUNDS: u32 = 2;
/// A target moves at most once in this time, nanoseconds.
const REST_NS: u64 = 3_600_000_000_000;

/// What the balancer remembers from round to round.
#[derive(Debug, Default)]
struct Ledger {
    /// When the CPU times were read, and what they were.
    read: Option<(u64, Vec<u64>)>,
    /// Rounds in a row with an imbalance.
    rounds: u32,
    /// When labels moved last, by their hash.
    moved_ns: HashMap<u64, u64>,
}

impl Manager {
    /// Looks at the shards once in `placement_interval` and moves targets. Never ends; does nothing with an interval of 0 or one shard.
    pub async fn balancer(&self) {
        let period = self.options.placement_interval;
        if period == Duration::ZERO || self.placement.shards() < 2 {
            return std::future::pending().await;
        }
        let mut ticker = interval(period);
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ledger = Ledger::default();
        loop {
            ticker.tick().await;
            self.balance(&mut ledger).await;
        }
    }

    /// One round.
    async fn balance(&self, ledger: &mut Ledger) {
        let mut tables = self.tables.lock().await;
        let shards = 0..self.placement.shards();
        let cpu_ns: Vec<u64> = shards.map(|shard| tables.out.outlet.cpu_ns(shard)).collect();
        let Some(found) = ledger.reckon(Now::read().mono_ns, cpu_ns) else { return };
        let may_move = tables.out.outlet.may_take(found.to) && tables.out.outlet.may_take(found.from);
        if !may_move {
            return;
        }
        let (reply, answer) = oneshot::channel();
        tables.out.send(found.from, Command::Weigh(reply)).await;
        drop(tables);
        let Ok(Ok(weights)) = timeout(ANSWER_WAIT, answer).await else { return };
        let moved = self.even_out(&found, &weights, ledger).await;
        if moved > 0 {
            self.metrics.targets_moved.add(moved as u64);
            let (from, to, cores) = (found.from, found.to, found.cores);
            tracing::info!(moved, from, to, cores, "targets moved to a shard that needs less");
            // What the shards need now has to be measured anew.
            (ledger.read, ledger.rounds) = (None, 0);
        }
    }

    async fn even_out(&self, found: &Imbalance, weights: &Weights, ledger: &mut Ledger) -> usize {
        if self.placement.moved_count() >= MOVED_MAX {
            self.forget_moved(&*self.tables.lock().await, ledger);
        }
        let (mut left, mut moved) = (found.surplus_cores, 0);
        for candidate in leavers(found, weights).iter().take(ASKED_MAX) {
            let cores = cores_of(candidate, found, weights);
            if moved == MOVES_MAX || self.placement.moved_count() >= MOVED_MAX {
                break;
            }
            if cores <= left && self.relocate(candidate, found, ledger).await {
                moved += 1;
                left -= cores;
            }
        }
        moved
    }

    /// Moves one target, if it can go now, and waits until it is in its place.
    async fn relocate(
        &self,
        &Candidate { pool, hash, .. }: &Candidate,
        found: &Imbalance,
        ledger: &mut Ledger,
    ) -> bool {
        let mut tables = self.tables.lock().await;
        let Tables { pools, out, .. } = &mut *tables;
        let of_pool = |id: PoolId| pools.values().find(|p| p.id() == id);
        let Some(target) = of_pool(pool).and_then(|p| p.active_target(hash)) else { return false };
        let public_hash = target.public_hash();
        if target.shard() != found.from || ledger.has_moved(public_hash) {
            return false;
        }
        let target = Box::new(target.target().spec);
        let (reply, answer) = oneshot::channel();
        out.send(found.from, Command::HandOver(HandOver { pool, hash, reply })).await;
        // No time limit: a target that was given up has to be taken. A shard that has ended lets go of the question.
        let Ok(Some(handover)) = answer.await else {
            self.metrics.moves_refused.add(1);
            return false;
        };
        self.placement.set(public_hash, found.to);
        ledger.moved_ns.insert(public_hash, Now::read().mono_ns);
        let (done, is_there) = oneshot::channel();
        out.send(found.to, Command::TakeOver { pool, target, handover, done }).await;
        // One that has ended takes nothing, and nothing depends on it.
        let _ = is_there.await;
        true
    }

    /// Makes room among the moved labels: looks at every target.
    fn forget_moved(&self, tables: &Tables, ledger: &Ledger) {
        let all = tables.pools.values().flat_map(|p| p.active_targets().map(|t| t.public_hash()));
        let there: HashSet<u64> = all.collect();
        // The loop of one that has just gone may still be ending, and a successor has to meet it.
        self.placement.retain(|public_hash| there.contains(&public_hash) || ledger.has_moved(public_hash));
    }
}

impl Ledger {
    /// Takes the shards' CPU times; an imbalance that has lasted.
    fn reckon(&mut self, mono_ns: u64, cpu_ns: Vec<u64>) -> Option<Imbalance> {
        self.moved_ns.retain(|_, at| mono_ns.saturating_sub(*at) < REST_NS);
        let (before_ns, before) = self.read.replace((mono_ns, cpu_ns.clone()))?;
        let passed_ns = mono_ns.saturating_sub(before_ns).max(1) as f64;
        let cores = cpu_ns.iter().zip(&before).map(|(now, then)| now.saturating_sub(*then) as f64 / passed_ns);
        let found = imbalance(&cores.collect::<Vec<_>>());
        self.rounds = if found.is_some() { self.rounds + 1 } else { 0 };
        found.filter(|_| self.rounds >= ROUNDS)
    }

    /// Not long ago.
    fn has_moved(&self, public_hash: u64) -> bool {
        self.moved_ns.contains_key(&public_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imbalance_has_to_last() {
        let s = 1_000_000_000;
        let mut ledger = Ledger::default();
        let mut at = |t: u64, cpu: [u64; 2]| ledger.reckon(t * s, cpu.map(|ms| ms * 1_000_000).to_vec()).is_some();
        assert!(!at(0, [0, 0]), "nothing to compare with");
        assert!(!at(10, [5_000, 1_000]), "the first round");
        assert!(at(20, [10_000, 2_000]), "the second");
        assert!(!at(30, [15_000, 7_000]), "even again");
        assert!(!at(40, [20_000, 8_000]));
        assert!(at(50, [25_000, 9_000]));
    }

    #[test]
    fn a_move_is_remembered_for_an_hour() {
        let mut ledger = Ledger::default();
        ledger.moved_ns.insert(7, 5);
        ledger.reckon(REST_NS, vec![0, 0]);
        assert!(ledger.has_moved(7));
        ledger.reckon(REST_NS + 5, vec![0, 0]);
        assert!(!ledger.has_moved(7));
    }
}
