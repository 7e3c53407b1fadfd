//! What the web asks and the process answers: readiness, targets, configuration, reload.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::app::cli::Options;
use crate::app::reload::LoadState;
use crate::app::threads::Engine;
use crate::base::time::Now;
use crate::config::{self, Watch};
use crate::discovery::Discovery;
use crate::manager::Manager;
use crate::remote_write::{JournalSpool, Remote};
use crate::selfmetrics::{Collect, Exposition, Kind};
use crate::shard::names::Names;
use crate::shard::stats::{ShardStats, ShardSums};
use crate::storage::journal::Disk;
use crate::web::{
    Answer, Appliance, DroppedView, MetadataQuery, MetadataRow, PoolView, Readiness, RemoteWriteView, RuntimeView,
    TargetPage, TargetQuery,
};

/// A shard that has not turned for this long is stuck, nanoseconds. An idle shard still turns every 5 s.
const STUCK_NS: u64 = 30_000_000_000;

/// The parts of a running process that its control thread talks to.
pub struct Control {
    /// As typed and meant.
    pub options: Options,
    /// Chosen engine.
    pub engine: Engine,
    /// Wall clock at the start, nanoseconds.
    pub started_ns: i64,
    /// Scrape manager.
    pub manager: Arc<Manager>,
    /// Discovery manager.
    pub discovery: Arc<Discovery>,
    /// Remote write.
    pub remote: Remote<JournalSpool>,
    /// Journal.
    pub disk: Disk,
    /// Counters by shard.
    pub stats: Vec<Arc<ShardStats>>,
    /// Look-ups of names.
    pub names: Names,
    /// Set once by [`Control::quit`].
    pub stopping: AtomicBool,
    /// Wakes whoever waits for the end.
    pub stop: Notify,
    /// One reload at a time.
    pub reloading: tokio::sync::Mutex<()>,
    /// With `--config.auto-reload`: what to look at. Locked for as long as files are read, never on the control thread.
    pub watch: Option<Arc<Mutex<Watch>>>,
    /// What was loaded.
    pub loaded: Mutex<LoadState>,
}

impl Control {
    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, LoadState> {
        self.loaded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stuck_shard(&self) -> Option<usize> {
        let now = Now::read().mono_ns;
        self.stats.iter().position(|s| now.saturating_sub(s.turned_at_ns.read()) > STUCK_NS)
    }
}

impl Appliance for Control {
    fn readiness(&self) -> Readiness {
        if self.stopping.load(Ordering::Relaxed) {
            return Readiness::Stopping;
        }
        if !self.manager.is_ready() {
            return Readiness::Starting("the first discovery of every job".into());
        }
        match self.stuck_shard() {
            Some(shard) => Readiness::Starting(format!("shard {shard}, which has not turned for 30 s")),
            None => Readiness::Ready,
        }
    }

    fn pools(&self) -> Vec<PoolView> {
        let summaries = self.manager.metrics().summaries();
        let counts = crate::shard::stats::pool_counts(&self.stats);
        let one = |(name, s): (Arc<str>, crate::manager::PoolSummary)| {
            let [up, down] = counts.get(&*name).copied().unwrap_or_default();
            let unknown = (s.active as u64).saturating_sub(up + down);
            PoolView { name: name.to_string(), up, down, unknown, dropped: s.dropped as u64 }
        };
        summaries.into_iter().map(one).collect()
    }

    fn active_targets(&self, query: TargetQuery) -> Answer<'_, TargetPage> {
        Box::pin(async move { Ok(super::targets::page(&self.manager, query).await) })
    }

    fn dropped_targets(&self, pool: Option<String>, count_max: usize) -> Answer<'_, Vec<DroppedView>> {
        Box::pin(async move {
            let look = |pools: &crate::manager::Pools| {
                let wanted = pools.iter().filter(|(job, _)| pool.as_deref().is_none_or(|p| p == &***job));
                let each = wanted.flat_map(|(job, p)| {
                    p.dropped_targets()
                        .map(move |discovered_labels| DroppedView { pool: job.to_string(), discovered_labels })
                });
                each.take(count_max).collect()
            };
            Ok(self.manager.read(look).await)
        })
    }

    fn metadata(&self, query: MetadataQuery) -> Answer<'_, Vec<MetadataRow>> {
        Box::pin(async move { Ok(super::metadata::rows(&self.manager, query).await) })
    }

    fn config_yaml(&self) -> String {
        self.state().yaml.clone()
    }

    fn flags(&self) -> BTreeMap<String, String> {
        self.options.flags().clone()
    }

    fn runtime(&self) -> RuntimeView {
        let state = self.state();
        RuntimeView {
            start_ns: self.started_ns,
            cwd: std::env::current_dir().map_or_else(|_| String::new(), |d| d.display().to_string()),
            hostname: crate::base::names::hostname().unwrap_or_default(),
            reload_error: state.error.clone(),
            reload_failed_ns: state.failed_ns.filter(|_| state.error.is_some()),
            last_reload_ns: state.succeeded_ns,
            corruptions: self.disk.recovered().damaged,
            shards: self.stats.len(),
            engine: self.engine.name.to_owned(),
            engine_reason: self.engine.why.clone(),
            storage_retention: retention_text(&self.options),
        }
    }

    fn remote_write(&self) -> Vec<RemoteWriteView> {
        let one = |d: crate::remote_write::DestinationStatus| RemoteWriteView {
            name: d.name,
            url: d.url,
            lag_s: d.lag_seconds,
            samples_pending: d.samples_pending as u64,
            failing_since_ns: d.trouble.as_ref().map(|t| t.since_ms * 1_000_000),
            last_error: d.trouble.map(|t| t.error),
        };
        self.remote.status().into_iter().map(one).collect()
    }

    fn collect(&self, out: &mut Exposition) {
        for stats in &self.stats {
            stats.collect(out);
        }
        let sums = ShardSums(self.stats.clone());
        sums.collect(out);
        self.names.collect(out);
        self.manager.metrics().collect(out);
        self.discovery.metrics().collect(out);
        self.disk.stats().collect(out);
        self.remote.collect(sums.written_ms(), out);
        let state = self.state();
        let help = "Sections of the configuration that are ignored on request.";
        for section in &state.ignored {
            out.sample("ringscrape_config_ignored", Kind::Gauge, help, &[("section", section)], 1.0);
        }
    }

    fn reload(&self) -> Answer<'_, ()> {
        Box::pin(self.load_again())
    }

    fn quit(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.notify_one();
    }
}

fn retention_text(options: &Options) -> String {
    let time = options.retention_time.map(config::duration::print);
    let size = options.retention_size_bytes.map(|b| format!("{b}B"));
    [time, size].into_iter().flatten().collect::<Vec<_>>().join(" or ")
}
