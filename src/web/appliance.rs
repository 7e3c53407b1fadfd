//! What the pages need to know, as one trait and plain views.

use std::collections::BTreeMap;
use std::pin::Pin;

use super::{Selector, TargetPage, TargetQuery};
use crate::model::Labels;
use crate::selfmetrics::Exposition;

/// An answer that may have to wait for a shard. An `Err` is a sentence for the client (503).
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, String>> + Send + 'a>>;

/// The process as the web sees it. Plain calls must return at once and never wait for a shard.
pub trait Appliance: Send + Sync + 'static {
    /// Whether the API may answer.
    fn readiness(&self) -> Readiness;
    /// Every pool with its counts, in name order.
    fn pools(&self) -> Vec<PoolView>;
    /// One page of active targets; see [`super::Pager`].
    fn active_targets(&self, query: TargetQuery) -> Answer<'_, TargetPage>;
    /// Targets dropped by relabelling, of one pool or all, at most `count_max`.
    fn dropped_targets(&self, pool: Option<String>, count_max: usize) -> Answer<'_, Vec<DroppedView>>;
    /// Metadata that targets exposed.
    fn metadata(&self, query: MetadataQuery) -> Answer<'_, Vec<MetadataRow>>;
    /// The loaded configuration after defaults as YAML, secrets replaced.
    fn config_yaml(&self) -> String;
    /// Every flag with its effective value.
    fn flags(&self) -> BTreeMap<String, String>;
    /// Start, host, reload state, engine.
    fn runtime(&self) -> RuntimeView;
    /// One entry per remote write destination, in configuration order.
    fn remote_write(&self) -> Vec<RemoteWriteView>;
    /// All metrics about ourselves except those of the web room (build, readiness, process, HTTP).
    fn collect(&self, out: &mut Exposition);
    /// Reads the configuration again and applies it; on error the old one stays.
    fn reload(&self) -> Answer<'_, ()>;
    /// Asks the process to stop; returns at once.
    fn quit(&self);
}

/// Whether the API may answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Configuration applied, stores open, shards turning.
    Ready,
    /// Not yet; what is being waited for.
    Starting(String),
    /// On the way down.
    Stopping,
}

/// Outcome of the last scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// It failed.
    Down,
    /// There was none yet.
    Unknown,
    /// It succeeded.
    Up,
}

impl Health {
    /// Prometheus's word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Up => "up",
        }
    }
}

/// An active target.
#[derive(Clone, Debug, PartialEq)]
pub struct TargetView {
    /// Job name.
    pub pool: String,
    /// Prometheus's target hash: unique within the pool.
    pub hash: u64,
    /// Before relabelling.
    pub discovered_labels: Labels,
    /// After relabelling, public ones only.
    pub labels: Labels,
    /// Without secrets.
    pub scrape_url: String,
    /// Empty after a success.
    pub last_error: String,
    /// Wall clock of the last start, nanoseconds; `None` before the first.
    pub last_scrape_ns: Option<i64>,
    /// Of the last scrape, nanoseconds.
    pub last_duration_ns: u64,
    /// Outcome of the last scrape.
    pub health: Health,
    /// As Prometheus prints a duration, e.g. `15s`.
    pub interval: String,
    /// As Prometheus prints a duration.
    pub timeout: String,
}

/// A target that relabelling dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct DroppedView {
    /// Job name.
    pub pool: String,
    /// Before relabelling.
    pub discovered_labels: Labels,
}

/// A scrape pool in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolView {
    /// Job name.
    pub name: String,
    /// Targets whose last scrape succeeded.
    pub up: u64,
    /// Targets whose last scrape failed.
    pub down: u64,
    /// Targets not scraped yet.
    pub unknown: u64,
    /// Entries dropped by relabelling, remembered or not.
    pub dropped: u64,
}

/// Which metadata is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct MetadataQuery {
    /// Targets whose public labels match.
    pub targets: Selector,
    /// Of this metric family only.
    pub metric: Option<String>,
    /// Rows per target, or each distinct row once.
    pub scope: MetadataScope,
    /// At most this many rows.
    pub count_max: usize,
}

/// Whether the same metadata of two targets is two rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataScope {
    /// Yes; rows carry the target's labels.
    PerTarget,
    /// No; rows carry no labels.
    Distinct,
}

/// Metadata of one metric family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetadataRow {
    /// Family name.
    pub metric: String,
    /// `counter`, `gauge`, ... `unknown`.
    pub kind: String,
    /// Help text.
    pub help: String,
    /// Unit.
    pub unit: String,
    /// The target's public labels; empty for [`MetadataScope::Distinct`].
    pub target: Labels,
}

/// The process in words and numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RuntimeView {
    /// Wall clock, nanoseconds.
    pub start_ns: i64,
    /// Working directory.
    pub cwd: String,
    /// Host name.
    pub hostname: String,
    /// Why the last load of the configuration failed; `None` when it succeeded.
    pub reload_error: Option<String>,
    /// When it failed, wall clock, nanoseconds.
    pub reload_failed_ns: Option<i64>,
    /// Wall clock of the last successful load, nanoseconds.
    pub last_reload_ns: Option<i64>,
    /// Damaged batches found in the journal.
    pub corruptions: u64,
    /// Shard threads.
    pub shards: usize,
    /// `uring` or `epoll`.
    pub engine: String,
    /// Why this engine: a few words, e.g. `seccomp refuses io_uring_setup`.
    pub engine_reason: String,
    /// As Prometheus prints it, e.g. `24h or 50GB`.
    pub storage_retention: String,
}

/// One remote write destination.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RemoteWriteView {
    /// `name` of the entry.
    pub name: String,
    /// Without secrets.
    pub url: String,
    /// Age of the oldest sample not yet acknowledged, seconds; 0 when all are.
    pub lag_s: f64,
    /// Samples not yet acknowledged.
    pub samples_pending: u64,
    /// Last failure since the last success; `None` when the last request succeeded.
    pub last_error: Option<String>,
    /// Wall clock of the first failure since the last success, nanoseconds.
    pub failing_since_ns: Option<i64>,
}
