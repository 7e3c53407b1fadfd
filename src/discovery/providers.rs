//! The discovery manager: which providers run, what they found, and what of it is still to be told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::backoff::{Backoff, LONGEST};
use super::metrics::{DiscoveryMetrics, JobGauges};
use super::{FileDiscoverer, ProviderId, Update};
use crate::base::limits::SD_MESSAGES_WAITING;
use crate::base::time::Now;
use crate::config::{Config, FileSdConfig, ScrapeConfig, TargetGroup};

/// Finds target groups until it is dropped.
pub trait Discoverer: Send + 'static {
    /// Sends groups whenever they change: new or changed ones whole, gone ones without targets. Must send once when it
    /// first knows, if only an empty list, since jobs count as complete from then on.
    fn run(self: Box<Self>, out: GroupSender) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

/// A provider's way to the discovery manager.
#[derive(Clone, Debug)]
pub struct GroupSender {
    pub(super) id: ProviderId,
    pub(super) out: mpsc::Sender<(ProviderId, Vec<TargetGroup>)>,
}

impl GroupSender {
    /// Waits while the manager is busy. `false` when it has gone.
    pub async fn send(&self, groups: Vec<TargetGroup>) -> bool {
        self.out.send((self.id, groups)).await.is_ok()
    }
}

/// `static_configs`: sent once.
#[derive(Debug)]
pub struct StaticDiscoverer(pub Vec<TargetGroup>);

impl Discoverer for StaticDiscoverer {
    fn run(self: Box<Self>, out: GroupSender) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(async move {
            out.send(self.0).await;
        })
    }
}

/// What makes two providers the same.
#[derive(Clone, Debug, PartialEq)]
enum ProviderConfig {
    Static(Vec<TargetGroup>),
    File(FileSdConfig),
}

#[derive(Debug)]
struct Provider {
    id: ProviderId,
    config: ProviderConfig,
    task: JoinHandle<()>,
    delivered: bool,
    /// By source; none is empty.
    groups: HashMap<Arc<str>, Arc<TargetGroup>>,
}

#[derive(Debug, Default)]
struct State {
    providers: Vec<Provider>,
    jobs: BTreeMap<Arc<str>, Vec<ProviderId>>,
    /// Not sent yet; `providers` and `complete` are filled in when it is.
    pending: Update,
    providers_ever: u32,
    gauges: BTreeMap<Arc<str>, JobGauges>,
}

/// The discovery manager. Lives on the control thread's runtime. prometheus: discovery/manager.go.
#[derive(Debug)]
pub struct Discovery {
    state: Mutex<State>,
    changed: Notify,
    pub(super) sender: mpsc::Sender<(ProviderId, Vec<TargetGroup>)>,
    receiver: tokio::sync::Mutex<mpsc::Receiver<(ProviderId, Vec<TargetGroup>)>>,
    metrics: Arc<DiscoveryMetrics>,
    seed: u64,
}

impl Discovery {
    /// `seed` decides the random part of waits between updates.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (sender, receiver) = mpsc::channel(SD_MESSAGES_WAITING);
        Self {
            state: Mutex::default(),
            changed: Notify::new(),
            sender,
            receiver: tokio::sync::Mutex::new(receiver),
            metrics: Arc::default(),
            seed,
        }
    }

    /// For /metrics.
    #[must_use]
    pub fn metrics(&self) -> Arc<DiscoveryMetrics> {
        Arc::clone(&self.metrics)
    }

    /// Starts providers that are new, stops those that are gone, and leaves the others as they are. Call it from within
    /// the runtime, after the scrape manager has applied the same configuration.
    pub fn apply_config(&self, config: &Config) {
        let mut state = self.lock();
        let mut jobs = BTreeMap::new();
        for job in &config.scrape_configs {
            let ids = wanted(job).into_iter().map(|p| self.provider(&mut state, p)).collect::<BTreeSet<_>>();
            jobs.insert(Arc::from(job.job_name.as_str()), ids.into_iter().collect::<Vec<_>>());
        }
        let used: BTreeSet<ProviderId> = jobs.values().flatten().copied().collect();
        for gone in state.providers.extract_if(.., |p| !used.contains(&p.id)) {
            gone.task.abort();
        }
        state.subscribe(jobs);
        drop(state);
        self.changed.notify_one();
    }

    /// Passes on what providers find, until `out` closes or the future is dropped.
    pub async fn run(&self, out: mpsc::Sender<Update>) {
        tokio::select! {
            () = self.receive() => {}
            () = self.send(&out) => {}
        }
    }

    /// Stops all providers; what they found stays as it is.
    pub fn stop(&self) {
        for provider in &self.lock().providers {
            provider.task.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn provider(&self, state: &mut State, config: ProviderConfig) -> ProviderId {
        if let Some(same) = state.providers.iter().find(|p| p.config == config) {
            return same.id;
        }
        let id = ProviderId(state.providers_ever);
        state.providers_ever += 1;
        let discoverer: Box<dyn Discoverer> = match &config {
            ProviderConfig::Static(groups) => Box::new(StaticDiscoverer(groups.clone())),
            ProviderConfig::File(file) => Box::new(FileDiscoverer::new(file.clone(), self.metrics())),
        };
        let task = tokio::spawn(discoverer.run(GroupSender { id, out: self.sender.clone() }));
        state.providers.push(Provider { id, config, task, delivered: false, groups: HashMap::new() });
        id
    }

    async fn receive(&self) {
        let mut receiver = self.receiver.lock().await;
        while let Some((id, groups)) = receiver.recv().await {
            self.metrics.received.add(1);
            if self.lock().store(id, groups) {
                self.changed.notify_one();
            }
        }
    }

    async fn send(&self, out: &mpsc::Sender<Update>) {
        let mut backoff = Backoff::new(self.seed);
        let mut last_sent: Option<Instant> = None;
        loop {
            self.changed.notified().await;
            let from = match last_sent {
                Some(at) if at.elapsed() <= LONGEST => at,
                // A quiet while: only as long a wait as collects what comes together.
                _ => {
                    backoff.reset();
                    Instant::now()
                }
            };
            sleep_until(from + backoff.next()).await;
            // Clears a wake-up of the meantime, whose change is sent now.
            let _ = tokio::time::timeout(std::time::Duration::ZERO, self.changed.notified()).await;
            self.metrics.sent.add(1);
            match out.try_reserve() {
                Ok(permit) => {
                    permit.send(self.take());
                    last_sent = Some(Instant::now());
                }
                Err(mpsc::error::TrySendError::Full(())) => {
                    self.metrics.delayed.add(1);
                    last_sent = Some(Instant::now());
                    self.changed.notify_one();
                }
                Err(mpsc::error::TrySendError::Closed(())) => return,
            }
        }
    }

    fn take(&self) -> Update {
        let mut state = self.lock();
        let update = state.take(Now::read());
        self.metrics.set_jobs(state.gauges.clone());
        update
    }
}

/// A job without any provider gets one that finds nothing, so that the job is announced.
fn wanted(job: &ScrapeConfig) -> Vec<ProviderConfig> {
    let mut wanted: Vec<_> = job.file_sd_configs.iter().cloned().map(ProviderConfig::File).collect();
    if wanted.is_empty() || !job.static_configs.is_empty() {
        wanted.push(ProviderConfig::Static(job.static_configs.clone()));
    }
    wanted
}

impl State {
    /// Sets which job uses which providers, and notes what each job has to be told of it.
    fn subscribe(&mut self, jobs: BTreeMap<Arc<str>, Vec<ProviderId>>) {
        self.pending.jobs.retain(|job, _| jobs.contains_key(job));
        self.gauges.retain(|job, _| jobs.contains_key(job));
        for (job, ids) in &jobs {
            let old = self.jobs.get(job);
            if old == Some(ids) {
                continue;
            }
            let pending = self.pending.jobs.entry(Arc::clone(job)).or_default();
            pending.groups.retain(|(id, _), _| ids.contains(id));
            for provider in &self.providers {
                if ids.contains(&provider.id) && !old.is_some_and(|old| old.contains(&provider.id)) {
                    let groups = provider.groups.iter();
                    pending.groups.extend(groups.map(|(s, g)| ((provider.id, Arc::clone(s)), Some(Arc::clone(g)))));
                }
            }
        }
        self.jobs = jobs;
    }

    /// Notes what a provider found. `false` when nothing has to be told.
    fn store(&mut self, id: ProviderId, groups: Vec<TargetGroup>) -> bool {
        let Some(provider) = self.providers.iter_mut().find(|p| p.id == id) else { return false };
        let first = !std::mem::replace(&mut provider.delivered, true);
        let mut changes = Vec::new();
        for group in groups {
            let source: Arc<str> = Arc::from(group.source.as_str());
            if group.targets.is_empty() {
                if provider.groups.remove(&source).is_some() {
                    changes.push((source, None));
                }
            } else if provider.groups.get(&source).is_none_or(|old| **old != group) {
                let group = Arc::new(group);
                provider.groups.insert(Arc::clone(&source), Arc::clone(&group));
                changes.push((source, Some(group)));
            }
        }
        if !first && changes.is_empty() {
            return false;
        }
        for (job, _) in self.jobs.iter().filter(|(_, ids)| ids.contains(&id)) {
            let pending = self.pending.jobs.entry(Arc::clone(job)).or_default();
            pending.groups.extend(changes.iter().map(|(s, g)| ((id, Arc::clone(s)), g.clone())));
        }
        true
    }

    /// What is to be told, and forgets it.
    fn take(&mut self, now: Now) -> Update {
        let mut update = std::mem::take(&mut self.pending);
        for (job, ids) in &self.jobs {
            let mine = || self.providers.iter().filter(|p| ids.contains(&p.id));
            if let Some(told) = update.jobs.get_mut(job) {
                told.providers.clone_from(ids);
                told.complete = mine().all(|p| p.delivered);
            }
            let targets = mine().flat_map(|p| p.groups.values()).map(|g| g.targets.len()).sum();
            self.gauges.insert(Arc::clone(job), JobGauges { targets, last_update_s: now.wall_ns as f64 / 1e9 });
        }
        update
    }
}
