//! The manager itself: when groups and configurations are taken in, and what is sent in which order.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::exchange::CommandSender;
use super::{ManagerMetrics, Outlet, Placement, ReloadDiff, ScrapePool, jitter_seed};
use crate::base::time::Now;
use crate::config::{Config, ScrapeConfig};
use crate::discovery::Update;
use crate::net::tls;
use crate::relabel::{RelabelError, Rules};
use crate::scrape::{PoolId, TargetHash};
use crate::shard::{Command, MetadataRequest, MetadataScope, StatusRequest, TargetMetadata, TargetStatus};

/// Wait before a full mailbox is tried again.
const FULL_WAIT: Duration = Duration::from_millis(1);
/// Longest wait for a shard's answer.
pub(super) const ANSWER_WAIT: Duration = Duration::from_secs(2);

/// Pools by job name.
pub type Pools = BTreeMap<Arc<str>, ScrapePool>;

/// Which families [`Manager::metadata`] asks for.
#[derive(Clone, Debug)]
pub struct MetadataWish {
    /// Only this one.
    pub metric: Option<String>,
    /// Targets one by one, or equal layouts once.
    pub scope: MetadataScope,
    /// A shard reads no further target once it has found so many.
    pub rows_max: usize,
}

/// Settings of the command line.
#[derive(Clone, Debug)]
pub struct Options {
    /// What this machine is called: [`super::fqdn`].
    pub fqdn: String,
    /// `--scrape.discovery-reload-interval`: shortest time between two syncs.
    pub discovery_reload_interval: Duration,
    /// `--scrape.placement-interval`: how often targets may go to another shard; 0 is never.
    pub placement_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        let (discovery_reload_interval, placement_interval) = (Duration::from_secs(5), Duration::ZERO);
        Self { fqdn: String::new(), discovery_reload_interval, placement_interval }
    }
}

/// Why a configuration was not applied; nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ManagerError {
    /// A rule of `relabel_configs` does not compile.
    Relabel {
        /// The job.
        job: String,
        /// The rule and what is wrong with it.
        error: RelabelError,
    },
    /// Files that a new or changed `tls_config` names cannot be used.
    Tls {
        /// The job.
        job: String,
        /// The file and what is wrong with it.
        error: String,
    },
}

impl fmt::Display for ManagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relabel { job, error } => write!(f, "job {job:?}: relabel_configs: {error}"),
            Self::Tls { job, error } => write!(f, "job {job:?}: {error}"),
        }
    }
}

impl std::error::Error for ManagerError {}

/// Scrape pools and what feeds them. Shared by the tasks of the control thread. prometheus: scrape/manager.go.
pub struct Manager {
    pub(super) tables: tokio::sync::Mutex<Tables>,
    /// Found, not yet taken in.
    pending: Mutex<Update>,
    triggered: Notify,
    stopping: Arc<AtomicBool>,
    stopped: Notify,
    ready: AtomicBool,
    seed: AtomicU64,
    pub(super) placement: Arc<Placement>,
    pub(super) options: Options,
    pub(super) metrics: Arc<ManagerMetrics>,
}

/// What a sync changes.
pub(super) struct Tables {
    pub pools: Pools,
    jobs: BTreeMap<Arc<str>, Arc<ScrapeConfig>>,
    pools_ever: u32,
    pub out: Commands,
}

/// Sends commands, waiting while mailboxes are full.
pub(super) struct Commands {
    pub outlet: Box<dyn Outlet>,
    stopping: Arc<AtomicBool>,
}

impl CommandSender for Commands {
    async fn send(&mut self, shard: usize, command: Command) {
        let mut next = command;
        while let Err(back) = self.outlet.post(shard, next) {
            // A shard that has ended never empties its mailbox.
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            next = *back;
            sleep(FULL_WAIT).await;
        }
    }
}

impl fmt::Debug for Manager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Manager {
    /// Without jobs: [`Manager::apply_config`] comes next.
    #[must_use]
    pub fn new(options: Options, outlet: Box<dyn Outlet>) -> Self {
        let stopping = Arc::new(AtomicBool::new(false));
        let placement = Arc::new(Placement::new(outlet.shards()));
        let out = Commands { outlet, stopping: Arc::clone(&stopping) };
        let tables = Tables { pools: Pools::new(), jobs: BTreeMap::new(), pools_ever: 0, out };
        Self {
            tables: tokio::sync::Mutex::new(tables),
            pending: Mutex::default(),
            triggered: Notify::new(),
            stopping,
            stopped: Notify::new(),
            ready: AtomicBool::new(false),
            seed: AtomicU64::new(0),
            metrics: Arc::new(ManagerMetrics::new(Arc::clone(&placement))),
            placement,
            options,
        }
    }

    /// Takes in updates of discovery until `updates` closes or [`Manager::stop`] is called.
    pub async fn run(&self, mut updates: mpsc::Receiver<Update>) {
        let feed = async {
            while let Some(update) = updates.recv().await {
                self.update_tsets(update);
                self.trigger_reload();
            }
        };
        tokio::select! {
            () = feed => {}
            () = self.reloader() => {}
            () = self.balancer() => {}
            () = self.stopped.notified() => {}
        }
    }

    /// Notes what discovery found; the next reload takes it in.
    pub fn update_tsets(&self, update: Update) {
        self.pending().merge(update);
    }

    /// Asks for a reload. Any number of asks before it are one.
    pub fn trigger_reload(&self) {
        self.triggered.notify_one();
    }

    /// Reloads when triggered, at most once per `discovery_reload_interval`. After a quiet while a lone update is taken
    /// in at once, and so is the first one: Prometheus makes that one wait for an interval.
    pub async fn reloader(&self) {
        let mut ticker = interval(self.options.discovery_reload_interval.max(FULL_WAIT));
        ticker.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticker.tick().await;
            self.triggered.notified().await;
            let diff = self.reload().await;
            if !diff.is_empty() {
                tracing::info!(relabelled = diff.relabelled, "targets changed: {diff}");
            }
        }
    }

    /// Takes in what was noted: all additions of all pools first, then all removals.
    pub async fn reload(&self) -> ReloadDiff {
        let mut tables = self.tables.lock().await;
        let update = std::mem::take(&mut *self.pending());
        let mut diff = ReloadDiff::default();
        let mut removals = Vec::new();
        for (job, job_update) in update.jobs {
            // A job that has just gone may still be told of.
            let Some(config) = tables.jobs.get(&job).cloned() else { continue };
            let Tables { pools, pools_ever, out, .. } = &mut *tables;
            if !pools.contains_key(&job) {
                let Some(pool) = self.create(config, pools_ever, out).await else { continue };
                pools.insert(Arc::clone(&job), pool);
            }
            let pool = pools.get_mut(&job).expect("created above");
            let start = Now::read();
            let synced = pool.sync(job_update, out).await;
            self.metrics.synced(pool, &synced, seconds_since(start));
            removals.push((pool.id(), synced.removed));
            diff += synced.diff;
        }
        tables.remove(removals).await;
        self.settle(&tables);
        diff
    }

    /// Applies a configuration: jobs that are the same stay untouched; of a changed job only targets that come out
    /// differently are replaced; jobs that are gone end, without end-of-run markers. New jobs get their pool with their
    /// first update. Waits for a sync that is on its way.
    ///
    /// # Errors
    /// See [`ManagerError`]; the old configuration stays.
    pub async fn apply_config(&self, config: &Config) -> Result<ReloadDiff, ManagerError> {
        let jobs = checked_jobs(config)?;
        self.check_tls(&jobs).await?;
        let mut tables = self.tables.lock().await;
        self.seed.store(jitter_seed(&self.options.fqdn, &config.global.external_labels), Ordering::Relaxed);
        let old = std::mem::replace(&mut tables.jobs, jobs);
        let mut diff = ReloadDiff::default();
        for (job, _) in old.iter().filter(|(job, _)| !tables.jobs.contains_key(*job)).collect::<Vec<_>>() {
            diff.jobs_changed.push(job.to_string());
            diff.removed += self.remove(job, &mut tables).await;
        }
        let mut removals = Vec::new();
        for (job, config) in tables.jobs.clone() {
            match old.get(&job) {
                Some(same) if *same == config => continue,
                _ => diff.jobs_changed.push(job.to_string()),
            }
            let Tables { pools, out, .. } = &mut *tables;
            let Some(pool) = pools.get_mut(&job) else { continue };
            let start = Now::read();
            self.metrics.reloads.add(1);
            let synced = match pool.reconfigure(config, out).await {
                Ok(synced) => synced,
                Err(error) => {
                    // The rules were compiled above: only a fault of ours gets here, and the old rules stay.
                    self.metrics.reloads_failed.add(1);
                    tracing::error!(job = &*job, %error, "pool keeps its old configuration");
                    continue;
                }
            };
            self.metrics.reloaded(pool, &synced, seconds_since(start));
            removals.push((pool.id(), synced.removed));
            diff += synced.diff;
        }
        tables.remove(removals).await;
        diff.jobs_changed.sort_unstable();
        self.settle(&tables);
        Ok(diff)
    }

    /// Reads what the `tls_config` of changed jobs points to, beside the control thread. Not at the start, when there are no
    /// jobs yet: then their scrapes fail until the files are right, rather than all of a process.
    async fn check_tls(&self, jobs: &BTreeMap<Arc<str>, Arc<ScrapeConfig>>) -> Result<(), ManagerError> {
        let old = self.tables.lock().await.jobs.clone();
        if old.is_empty() {
            return Ok(());
        }
        let changed = jobs.iter().filter(|(job, config)| old.get(*job) != Some(config));
        let changed: Vec<_> = changed.map(|(job, config)| (Arc::clone(job), Arc::clone(config))).collect();
        let first_bad = move || {
            changed.into_iter().find_map(|(job, config)| tls::check(&config.http.tls).err().map(|error| (job, error)))
        };
        let Ok(Some((job, error))) = tokio::task::spawn_blocking(first_bad).await else { return Ok(()) };
        if old.contains_key(&job) {
            self.metrics.reloads.add(1);
            self.metrics.reloads_failed.add(1);
        }
        Err(ManagerError::Tls { job: job.to_string(), error: error.to_string() })
    }

    /// Ends [`Manager::run`] and tells every shard to stop.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stopped.notify_one();
        let mut tables = self.tables.lock().await;
        for shard in 0..tables.out.outlet.shards() {
            let mut command = Command::Stop;
            // The mailbox of a live shard empties; one that stays full has no reader.
            for _ in 0..1000 {
                match tables.out.outlet.post(shard, command) {
                    Ok(()) => break,
                    Err(back) => command = *back,
                }
                sleep(FULL_WAIT).await;
            }
        }
    }

    /// The seed for pools created from now on; existing pools keep theirs, as Prometheus does.
    #[must_use]
    pub fn jitter_seed(&self) -> u64 {
        self.seed.load(Ordering::Relaxed)
    }

    /// Whether every job of the configuration has taken in what all its providers found first.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// For /metrics, and for pools in numbers.
    #[must_use]
    pub fn metrics(&self) -> Arc<ManagerMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Looks into the pools, after a sync that is on its way.
    pub async fn read<R>(&self, look: impl FnOnce(&Pools) -> R) -> R {
        look(&self.tables.lock().await.pools)
    }

    /// Asks the shards for last outcomes. Targets without an answer, and shards that do not answer in time, are left
    /// out.
    pub async fn statuses(&self, wanted: impl IntoIterator<Item = (usize, PoolId, TargetHash)>) -> Vec<TargetStatus> {
        self.ask(wanted, |targets, reply| Command::Status(StatusRequest { targets, reply })).await
    }

    /// Asks the shards for the families that targets exposed; who is left out is as in [`Manager::statuses`].
    pub async fn metadata(
        &self,
        wanted: impl IntoIterator<Item = (usize, PoolId, TargetHash)>,
        wish: MetadataWish,
    ) -> Vec<TargetMetadata> {
        let MetadataWish { metric, scope, rows_max } = wish;
        let question = |targets, reply| {
            Command::Metadata(MetadataRequest { targets, metric: metric.clone(), scope, rows_max, reply })
        };
        self.ask(wanted, question).await
    }

    async fn ask<T>(
        &self,
        wanted: impl IntoIterator<Item = (usize, PoolId, TargetHash)>,
        question: impl Fn(Vec<(PoolId, TargetHash)>, oneshot::Sender<Vec<T>>) -> Command,
    ) -> Vec<T> {
        let mut by_shard: BTreeMap<usize, Vec<(PoolId, TargetHash)>> = BTreeMap::new();
        for (shard, pool, hash) in wanted {
            by_shard.entry(shard).or_default().push((pool, hash));
        }
        let mut answers = Vec::new();
        {
            let mut tables = self.tables.lock().await;
            for (shard, targets) in by_shard {
                let (reply, answer) = oneshot::channel();
                tables.out.send(shard, question(targets, reply)).await;
                answers.push(answer);
            }
        }
        let mut found = Vec::new();
        let deadline = tokio::time::Instant::now() + ANSWER_WAIT;
        for answer in answers {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            if let Ok(Ok(part)) = timeout(left, answer).await {
                found.extend(part);
            }
        }
        found
    }

    fn pending(&self) -> MutexGuard<'_, Update> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn create(&self, config: Arc<ScrapeConfig>, ever: &mut u32, out: &mut Commands) -> Option<ScrapePool> {
        self.metrics.pools.add(1);
        let job = config.job_name.clone();
        match ScrapePool::new(PoolId(*ever), config, self.jitter_seed(), Arc::clone(&self.placement)) {
            Ok(pool) => {
                *ever += 1;
                pool.announce(out).await;
                Some(pool)
            }
            Err(error) => {
                self.metrics.pools_failed.add(1);
                tracing::error!(job, %error, "pool cannot be created");
                None
            }
        }
    }

    /// Ends a job. Gives the number of targets it had.
    async fn remove(&self, job: &Arc<str>, tables: &mut Tables) -> usize {
        self.pending().jobs.remove(job);
        self.metrics.forget(job);
        let Some(pool) = tables.pools.remove(job) else { return 0 };
        for shard in 0..tables.out.outlet.shards() {
            tables.out.send(shard, Command::RemovePool(pool.id())).await;
        }
        pool.active_count()
    }

    fn settle(&self, tables: &Tables) {
        let done = |job: &Arc<str>| tables.pools.get(job).is_some_and(ScrapePool::is_complete);
        // Once ready, a new job does not make the appliance unready again.
        if tables.jobs.keys().all(done) {
            self.ready.store(true, Ordering::Relaxed);
        }
    }
}

impl Tables {
    async fn remove(&mut self, removals: Vec<(PoolId, Vec<(usize, TargetHash)>)>) {
        for (pool, removed) in removals {
            for (shard, hash) in removed {
                self.out.send(shard, Command::Remove { pool, hash }).await;
            }
        }
    }
}

/// Jobs without their discovery settings, which are not the shards' business: a change of those alone is no change
/// of a job. Relabelling rules are compiled once to see that they do.
fn checked_jobs(config: &Config) -> Result<BTreeMap<Arc<str>, Arc<ScrapeConfig>>, ManagerError> {
    let mut jobs = BTreeMap::new();
    for job in &config.scrape_configs {
        if let Err(error) = Rules::compile(&job.relabel_configs) {
            return Err(ManagerError::Relabel { job: job.job_name.clone(), error });
        }
        let mut job = job.clone();
        job.static_configs = Vec::new();
        job.file_sd_configs = Vec::new();
        jobs.insert(Arc::from(job.job_name.as_str()), Arc::new(job));
    }
    Ok(jobs)
}

fn seconds_since(start: Now) -> f64 {
    (Now::read().mono_ns - start.mono_ns) as f64 / 1e9
}
