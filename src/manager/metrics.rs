//! What the manager counts about itself, under Prometheus's names, and pools in numbers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::exchange::Synced;
use super::placement::Placement;
use super::pool::ScrapePool;
use crate::config::duration;
use crate::selfmetrics::{Collect, Counter, Exposition, Kind};

/// Counters of the manager. The control thread writes.
#[derive(Debug)]
pub struct ManagerMetrics {
    /// Pools created.
    pub pools: Counter,
    /// Pools that could not be created.
    pub pools_failed: Counter,
    /// Pools that took another configuration.
    pub reloads: Counter,
    /// Pools that could not.
    pub reloads_failed: Counter,
    /// Syncs that left a pool above its target limit.
    pub limit_exceeded: Counter,
    /// Targets that went to another shard.
    pub targets_moved: Counter,
    /// Targets that could not go when they were asked for.
    pub moves_refused: Counter,
    placement: Arc<Placement>,
    /// By interval of the job: seconds and number of reloads.
    reload_lengths: Mutex<BTreeMap<String, (f64, u64)>>,
    pools_now: Mutex<BTreeMap<Arc<str>, PoolNumbers>>,
}

/// A pool in numbers, as of its last sync.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolSummary {
    /// Running targets.
    pub active: usize,
    /// Entries dropped by relabelling, remembered or not.
    pub dropped: usize,
    /// Entries that cannot be targets.
    pub failed: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct PoolNumbers {
    summary: PoolSummary,
    target_limit: u64,
    syncs: u64,
    sync_seconds: f64,
    sync_failed: u64,
}

impl ManagerMetrics {
    /// Zeroed counters.
    #[must_use]
    pub fn new(placement: Arc<Placement>) -> Self {
        Self {
            pools: Counter::default(),
            pools_failed: Counter::default(),
            reloads: Counter::default(),
            reloads_failed: Counter::default(),
            limit_exceeded: Counter::default(),
            targets_moved: Counter::default(),
            moves_refused: Counter::default(),
            placement,
            reload_lengths: Mutex::default(),
            pools_now: Mutex::default(),
        }
    }

    /// Every pool in name order, without waiting for a sync that is on its way.
    #[must_use]
    pub fn summaries(&self) -> Vec<(Arc<str>, PoolSummary)> {
        self.lock().iter().map(|(job, n)| (Arc::clone(job), n.summary)).collect()
    }

    /// Notes a sync of a pool that took `seconds`.
    pub fn synced(&self, pool: &ScrapePool, synced: &Synced, seconds: f64) {
        self.changed(pool, synced);
        if let Some(n) = self.lock().get_mut(pool.config().job_name.as_str()) {
            n.syncs += 1;
            n.sync_seconds += seconds;
        }
    }

    /// Notes that a pool took another configuration, which took `seconds`.
    pub fn reloaded(&self, pool: &ScrapePool, synced: &Synced, seconds: f64) {
        self.changed(pool, synced);
        let mut lengths = self.reload_lengths.lock().unwrap_or_else(PoisonError::into_inner);
        let length = lengths.entry(duration::print(pool.config().scrape_interval)).or_default();
        *length = (length.0 + seconds, length.1 + 1);
    }

    fn changed(&self, pool: &ScrapePool, synced: &Synced) {
        self.limit_exceeded.add(u64::from(synced.limit_exceeded));
        let mut pools = self.lock();
        let n = pools.entry(pool.config().job_name.as_str().into()).or_default();
        n.summary =
            PoolSummary { active: pool.active_count(), dropped: pool.dropped_count(), failed: pool.failed_count() };
        n.target_limit = pool.config().target_limit;
        n.sync_failed += synced.failed as u64;
    }

    /// Forgets a pool.
    pub fn forget(&self, job: &str) {
        self.lock().remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, PoolNumbers>> {
        self.pools_now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collect for ManagerMetrics {
    fn collect(&self, out: &mut Exposition) {
        let mut count = |name, help, v: &Counter| out.sample(name, Kind::Counter, help, &[], v.read() as f64);
        count("prometheus_target_scrape_pools_total", "Total number of scrape pool creation attempts.", &self.pools);
        let help = "Total number of scrape pool creations that failed.";
        count("prometheus_target_scrape_pools_failed_total", help, &self.pools_failed);
        let help = "Total number of scrape pool reloads.";
        count("prometheus_target_scrape_pool_reloads_total", help, &self.reloads);
        let help = "Total number of failed scrape pool reloads.";
        count("prometheus_target_scrape_pool_reloads_failed_total", help, &self.reloads_failed);
        let help = "Total number of times scrape pools hit the target limit, during sync or config reload.";
        count("prometheus_target_scrape_pool_exceeded_target_limit_total", help, &self.limit_exceeded);
        let help = "Targets that went to a shard that needs less.";
        count("ringscrape_placement_moves_total", help, &self.targets_moved);
        let help = "Targets that could not go to another shard when that was wanted.";
        count("ringscrape_placement_moves_refused_total", help, &self.moves_refused);
        let help = "Label sets that are on another shard than their hash says.";
        let moved = self.placement.moved_count() as f64;
        out.sample("ringscrape_placement_moved", Kind::Gauge, help, &[], moved);
        let name = "prometheus_target_reload_length_seconds";
        let help = "Actual interval to reload the scrape pool with a given configuration.";
        for (interval, (seconds, count)) in self.reload_lengths.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [("interval", interval.as_str())];
            out.part(name, Kind::Summary, help, "_sum", &labels, *seconds);
            out.part(name, Kind::Summary, help, "_count", &labels, *count as f64);
        }
        for (job, n) in self.lock().iter() {
            let labels = [("scrape_job", &**job)];
            let mut one = |name, kind, help, v| out.sample(name, kind, help, &labels, v);
            let help = "Maximum number of targets allowed in this scrape pool.";
            one("prometheus_target_scrape_pool_target_limit", Kind::Gauge, help, n.target_limit as f64);
            let help = "Current number of targets in this scrape pool.";
            one("prometheus_target_scrape_pool_targets", Kind::Gauge, help, n.summary.active as f64);
            let help = "Total number of syncs that were executed on a scrape pool.";
            one("prometheus_target_scrape_pool_sync_total", Kind::Counter, help, n.syncs as f64);
            let help = "Total number of target sync failures.";
            one("prometheus_target_sync_failed_total", Kind::Counter, help, n.sync_failed as f64);
            let (name, help) = ("prometheus_target_sync_length_seconds", "Actual interval to sync the scrape pool.");
            out.part(name, Kind::Summary, help, "_sum", &labels, n.sync_seconds);
            out.part(name, Kind::Summary, help, "_count", &labels, n.syncs as f64);
        }
    }
}
