//! All destinations: started, changed and stopped together; what the web asks about them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::watch;

use super::delivery::Courier;
use super::endpoint::{Endpoint, EndpointError, redacted};
use super::rewrite::Rewrite;
use super::sender::{self, Order, Setup, Since};
use super::source::{Positions, Spool};
use super::stats::{Limits, Rejection, Stats, Trouble};
use crate::base::time::Now;
use crate::config::RemoteWrite;
use crate::model::Labels;
use crate::relabel::RelabelError;
use crate::selfmetrics::Exposition;
use crate::storage::journal::Cursor;

/// How long a destination whose settings changed may go on with what is in flight, and one that is gone with what was
/// scraped before.
const HAND_OVER: Duration = Duration::from_secs(5);

/// A destination that cannot be used as configured.
#[derive(Debug)]
pub enum RemoteError {
    /// Its address, headers or TLS settings.
    Endpoint(String, EndpointError),
    /// Its `write_relabel_configs`.
    Rules(String, RelabelError),
    /// No thread could be started for it.
    Thread(String, std::io::Error),
}

impl fmt::Display for RemoteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(name, e) => write!(f, "remote_write {name}: {e}"),
            Self::Rules(name, e) => write!(f, "remote_write {name}: write_relabel_configs: {e}"),
            Self::Thread(name, e) => write!(f, "remote_write {name}: cannot start a thread: {e}"),
        }
    }
}

impl std::error::Error for RemoteError {}

/// One destination as the web shows it.
#[derive(Clone, Debug)]
pub struct DestinationStatus {
    /// As configured.
    pub name: String,
    /// Without password.
    pub url: String,
    /// Age of the oldest sample without an answer; 0 when all is delivered.
    pub lag_seconds: f64,
    /// Journal bytes without an answer.
    pub backlog_bytes: f64,
    /// Samples in requests without an answer.
    pub samples_pending: f64,
    /// Lanes in use.
    pub lanes: f64,
    /// The present failure, if nothing was accepted since it began.
    pub trouble: Option<Trouble>,
    /// Latest refusals, newest first.
    pub rejections: Vec<Rejection>,
}

/// See the file's caption.
#[derive(Debug)]
pub struct Remote<S: Spool> {
    spool: S,
    /// Ends of the journal when this process started: what was sent of it before may not be acknowledged.
    boot: Positions,
    running: Mutex<Vec<Destination>>,
}

#[derive(Debug)]
struct Destination {
    config: RemoteWrite,
    external: Labels,
    url: String,
    stats: Arc<Stats>,
    orders: watch::Sender<Order>,
    thread: JoinHandle<std::io::Result<Positions>>,
}

/// A destination that passed all checks but is not running yet.
struct Checked {
    config: RemoteWrite,
    rewrite: Rewrite,
    endpoint: Endpoint,
}

impl<S: Spool> Remote<S> {
    /// Nothing is sent yet. Call this before the first sample of this process is written to the journal.
    #[must_use]
    pub fn new(spool: S) -> Self {
        let next = |shard| spool.newest_segment(shard).map_or(0, |s| s + 1);
        let end = |shard| (shard, Cursor { segment: next(shard), ..Cursor::default() });
        let boot = spool.shards().into_iter().map(end).collect();
        Self { spool, boot, running: Mutex::new(Vec::new()) }
    }

    /// Makes exactly these destinations run. Unchanged ones do not notice; a changed one goes on where its predecessor
    /// stopped; a new one begins with the samples from now on, unless it has a saved position.
    ///
    /// # Errors
    /// See [`RemoteError`]; when settings are wrong, everything stays as it was.
    pub fn apply(&self, configs: &[RemoteWrite], external: &Labels) -> Result<(), RemoteError> {
        let mut running = self.running();
        let is_kept = |d: &Destination| d.external == *external && configs.contains(&d.config);
        let fresh = configs.iter().filter(|c| !running.iter().any(|d| is_kept(d) && d.config == **c));
        let fresh = fresh.map(|c| Checked::new(c, external)).collect::<Result<Vec<_>, _>>()?;
        let keys: Vec<_> = configs.iter().map(key).collect();
        let unknown: Vec<&String> = keys.iter().filter(|k| !self.spool.is_known(k)).collect();
        for key in &unknown {
            // Where a new destination begins, for the case that this process ends before its first answer.
            self.spool.begin(key, &self.ends());
        }
        self.spool.keep(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        let now = Now::read();
        let (kept, mut gone): (Vec<_>, Vec<_>) = running.drain(..).partition(is_kept);
        *running = kept;
        let until_ns = now.mono_ns + HAND_OVER.as_nanos() as u64;
        for destination in &gone {
            let has_heir = keys.contains(&key(&destination.config));
            let order = if has_heir { Order::Finish { until_ns } } else { Order::Leave { until_ns } };
            destination.orders.send_replace(order);
        }
        for checked in fresh {
            let key = key(&checked.config);
            let predecessor = gone.iter().position(|d| self::key(&d.config) == key).map(|at| gone.swap_remove(at));
            let since = if unknown.contains(&&key) { Since::Now } else { Since::Saved };
            running.push(self.start(checked, external, predecessor, (now, since))?);
        }
        Ok(())
    }

    /// The start of each shard's newest segment.
    fn ends(&self) -> Positions {
        let end =
            |shard| (shard, Cursor { segment: self.spool.newest_segment(shard).unwrap_or(0), ..Cursor::default() });
        self.spool.shards().into_iter().map(end).collect()
    }

    fn start(
        &self,
        checked: Checked,
        external: &Labels,
        predecessor: Option<Destination>,
        (now, since): (Now, Since),
    ) -> Result<Destination, RemoteError> {
        let Checked { config, rewrite, endpoint } = checked;
        // Under another URL they are other metrics, and the old receiver's trouble is not the new one's.
        let heritage = predecessor.as_ref().filter(|p| p.config.url == config.url);
        let stats = heritage.map_or_else(Arc::default, |p| Arc::clone(&p.stats));
        let (orders, receiver) = watch::channel(Order::Run);
        let queue = config.queue.clone();
        let seed = now.mono_ns ^ (now.wall_ns as u64).rotate_left(17);
        let mut setup = Setup {
            name: config.name.clone(),
            spool: self.spool.clone(),
            rewrite,
            courier: Courier::new(config.name.clone(), endpoint, queue.clone(), Arc::clone(&stats), seed),
            queue,
            stats: Arc::clone(&stats),
            key: key(&config),
            since,
            replay_until: self.boot.clone(),
            started_ms: now.wall_ms(),
        };
        let run = move || {
            if let Some(Ok(Ok(read))) = predecessor.map(|p| p.thread.join()) {
                for (shard, cursor) in read {
                    let until = setup.replay_until.entry(shard).or_default();
                    *until = cursor.max(*until);
                }
            }
            let result = sender::run(setup, receiver);
            if let Err(error) = &result {
                tracing::error!(%error, "a remote_write destination cannot run");
            }
            result
        };
        let thread = std::thread::Builder::new().name("remote-write".into()).spawn(run);
        let thread = thread.map_err(|e| RemoteError::Thread(config.name.clone(), e))?;
        let url = redacted(&config.url);
        Ok(Destination { config, external: external.clone(), url, stats, orders, thread })
    }

    /// Delivers what the journal holds, for at most this long, hands in the positions and ends. To be called after the
    /// shards handed their last samples over, and before the disk thread stops, which saves the positions. Blocks.
    pub fn stop(&self, drain: Duration) {
        let until_ns = Now::read().mono_ns.saturating_add(u64::try_from(drain.as_nanos()).unwrap_or(u64::MAX));
        let stopped: Vec<_> = self.running().drain(..).collect();
        for destination in &stopped {
            destination.orders.send_replace(Order::Drain { until_ns });
        }
        for destination in stopped {
            if destination.thread.join().is_err() {
                tracing::error!(destination = destination.config.name, "the sender ended badly");
            }
        }
    }

    /// Every destination.
    #[must_use]
    pub fn status(&self) -> Vec<DestinationStatus> {
        let one = |d: &Destination| DestinationStatus {
            name: d.config.name.clone(),
            url: d.url.clone(),
            lag_seconds: d.stats.lag_seconds.read(),
            backlog_bytes: d.stats.backlog_bytes.read(),
            samples_pending: d.stats.pending.read(),
            lanes: d.stats.lanes.read(),
            trouble: d.stats.trouble(),
            rejections: d.stats.rejections(),
        };
        self.running().iter().map(one).collect()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Destination>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Checked {
    fn new(config: &RemoteWrite, external: &Labels) -> Result<Self, RemoteError> {
        let name = || config.name.clone();
        let rewrite = Rewrite::new(external, &config.write_relabel_configs);
        let rewrite = rewrite.map_err(|e| RemoteError::Rules(name(), e))?;
        let endpoint = Endpoint::new(config).map_err(|e| RemoteError::Endpoint(name(), e))?;
        Ok(Self { config: config.clone(), rewrite, endpoint })
    }
}

impl<S: Spool> Remote<S> {
    /// What all destinations count. `written_ms`: time of the newest scrape, which each of them has still to get or has.
    pub fn collect(&self, written_ms: f64, out: &mut Exposition) {
        for d in self.running().iter() {
            let queue = &d.config.queue;
            let limits = Limits {
                lanes_min: queue.min_shards,
                lanes_max: queue.max_shards,
                samples: queue.max_samples_per_send,
                capacity: queue.capacity,
            };
            d.stats.collect(&limits, written_ms, &[("remote_name", &d.config.name), ("url", &d.url)], out);
        }
    }
}

/// Under which a destination's positions are saved: what is readable of its name, and a hash of it. Not its URL: a receiver
/// that has moved gets what the old one has not had. The name of a nameless destination is made of its URL.
fn key(config: &RemoteWrite) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let name: String = config.name.chars().take(64).map(plain).collect();
    let hash = xxhash_rust::xxh64::xxh64(config.name.as_bytes(), 0);
    format!("{name}-{hash:016x}")
}
