//! The configuration after defaults and checks: what the rest of the appliance sees of `prometheus.yml`.
//!
//! Durations are `std::time::Duration`; a limit of 0 means "none". Inheritance from `global` is already applied.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::model::{Labels, LabelsList};

/// A whole file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// `global`.
    pub global: Global,
    /// `scrape_configs` and those of `scrape_config_files`, in file order.
    pub scrape_configs: Vec<ScrapeConfig>,
    /// `remote_write`.
    pub remote_write: Vec<RemoteWrite>,
    /// `storage.tsdb.out_of_order_time_window`; accepted, without effect here.
    pub out_of_order_window: Duration,
}

/// `global`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Global {
    /// Default interval of jobs.
    pub scrape_interval: Duration,
    /// Default timeout of jobs.
    pub scrape_timeout: Duration,
    /// After environment expansion; an empty expansion result is not representable in [`Labels`] and is absent.
    pub external_labels: Labels,
}

/// Where names are checked against the old character set or any UTF-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameValidation {
    /// `[a-zA-Z_][a-zA-Z0-9_]*` for labels, with `:` for metric names.
    Legacy,
    /// Any non-empty UTF-8.
    #[default]
    Utf8,
}

/// A protocol a scrape may negotiate; the order of the list is the preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScrapeProtocol {
    /// `OpenMetricsText0.0.1`
    OpenMetrics001,
    /// `OpenMetricsText1.0.0`
    OpenMetrics100,
    /// `PrometheusProto`
    Proto,
    /// `PrometheusText0.0.4`
    Text004,
    /// `PrometheusText1.0.0`
    Text100,
}

impl ScrapeProtocol {
    /// Whether it is one of the text formats, which are those that are parsed here.
    #[must_use]
    pub fn is_text(self) -> bool {
        matches!(self, Self::Text004 | Self::Text100)
    }
}

/// One job.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ScrapeConfig {
    /// Unique.
    pub job_name: String,
    /// Default label `__scrape_interval__`.
    pub scrape_interval: Duration,
    /// Default label `__scrape_timeout__`.
    pub scrape_timeout: Duration,
    /// Default label `__metrics_path__`.
    pub metrics_path: String,
    /// Default label `__scheme__`.
    pub scheme: String,
    /// URL query.
    pub params: BTreeMap<String, Vec<String>>,
    /// Exposed labels win over target labels.
    pub honor_labels: bool,
    /// Exposed timestamps are used.
    pub honor_timestamps: bool,
    /// Staleness also for explicitly timestamped series.
    pub track_timestamps_staleness: bool,
    /// Accept-Encoding gzip.
    pub enable_compression: bool,
    /// Three more report series.
    pub extra_scrape_metrics: bool,
    /// Decompressed bytes.
    pub body_size_limit: u64,
    /// Samples after metric relabelling.
    pub sample_limit: u64,
    /// Active targets.
    pub target_limit: u64,
    /// Labels of a sample.
    pub label_limit: u64,
    /// Bytes of a label name.
    pub label_name_length_limit: u64,
    /// Bytes of a label value.
    pub label_value_length_limit: u64,
    /// Dropped targets remembered; 0 = all.
    pub keep_dropped_targets: u64,
    /// Names.
    pub name_validation: NameValidation,
    /// Preference order, never empty.
    pub scrape_protocols: Vec<ScrapeProtocol>,
    /// For a blank or foreign Content-Type.
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Target relabelling.
    pub relabel_configs: Vec<RelabelConfig>,
    /// Sample relabelling.
    pub metric_relabel_configs: Vec<RelabelConfig>,
    /// All groups of the job in order; the index is the group's source.
    pub static_configs: Vec<TargetGroup>,
    /// File discovery.
    pub file_sd_configs: Vec<FileSdConfig>,
    /// Authentication, TLS, redirects.
    pub http: HttpClient,
}

/// A group of targets with common labels: the unit that discovery delivers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetGroup {
    /// Unique within its provider.
    pub source: String,
    /// One label set per target; `__address__` at least.
    pub targets: LabelsList,
    /// Labels of all targets; the targets' own win.
    pub labels: Labels,
}

/// `file_sd_configs` entry.
#[derive(Clone, Debug, PartialEq)]
pub struct FileSdConfig {
    /// Glob patterns, joined to the configuration's directory.
    pub files: Vec<String>,
    /// Re-read at least this often.
    pub refresh_interval: Duration,
}

/// `relabel_configs` entry. Compiled by [`crate::relabel`].
#[derive(Clone, Debug, PartialEq)]
pub struct RelabelConfig {
    /// Joined with the separator.
    pub source_labels: Vec<String>,
    /// Default `;`.
    pub separator: String,
    /// As written, unanchored; default `(.*)`.
    pub regex: String,
    /// For hashmod.
    pub modulus: u64,
    /// May contain `$1` in replace.
    pub target_label: String,
    /// Default `$1`.
    pub replacement: String,
    /// What to do.
    pub action: RelabelAction,
    /// Names this rule may produce.
    pub name_validation: NameValidation,
}

/// Relabelling actions, in the field's spelling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelabelAction {
    /// `drop`
    Drop,
    /// `dropequal`
    DropEqual,
    /// `hashmod`
    HashMod,
    /// `keep`
    Keep,
    /// `keepequal`
    KeepEqual,
    /// `labeldrop`
    LabelDrop,
    /// `labelkeep`
    LabelKeep,
    /// `labelmap`
    LabelMap,
    /// `lowercase`
    Lowercase,
    /// `replace`
    #[default]
    Replace,
    /// `uppercase`
    Uppercase,
}

/// A secret text; prints as `<secret>` everywhere.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for the wire.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<secret>")
    }
}

/// A secret given in the file or in a file of its own, which is read again at every use and trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In the configuration.
    Inline(Secret),
    /// Path, joined to the configuration's directory.
    File(PathBuf),
}

/// At most one way to authenticate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// None.
    #[default]
    None,
    /// `basic_auth`; either part may be missing (empty).
    Basic { username: Option<SecretSource>, password: Option<SecretSource> },
    /// `authorization` (and the old `bearer_token`).
    Header { kind: String, credentials: Option<SecretSource> },
}

/// The HTTP client block, common to scrapes and remote write.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HttpClient {
    /// Authentication.
    pub auth: Auth,
    /// TLS.
    pub tls: Tls,
    /// Follow 3xx, up to ten hops.
    pub follow_redirects: bool,
}

/// `tls_config`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tls {
    /// PEM.
    pub ca: Option<SecretSource>,
    /// PEM.
    pub cert: Option<SecretSource>,
    /// PEM.
    pub key: Option<SecretSource>,
    /// SNI and verification name.
    pub server_name: String,
    /// Skip verification.
    pub insecure_skip_verify: bool,
    /// Least version; 1.2 where it is not given.
    pub min_version: Option<TlsVersion>,
    /// Highest version; 1.3 where it is not given.
    pub max_version: Option<TlsVersion>,
}

/// Versions of TLS that are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// `TLS12`
    Tls12,
    /// `TLS13`
    Tls13,
}

/// `remote_write` entry.
#[derive(Clone, PartialEq)]
pub struct RemoteWrite {
    /// Destination.
    pub url: String,
    /// Given, or derived from the entry's hash; unique.
    pub name: String,
    /// Of one request.
    pub remote_timeout: Duration,
    /// Extra headers.
    pub headers: BTreeMap<String, String>,
    /// Applied after external labels.
    pub write_relabel_configs: Vec<RelabelConfig>,
    /// Queue settings.
    pub queue: Queue,
    /// Authentication, TLS.
    pub http: HttpClient,
}

/// Values of headers may be secrets.
impl fmt::Debug for RemoteWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteWrite")
            .field("url", &self.url)
            .field("name", &self.name)
            .field("remote_timeout", &self.remote_timeout)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("write_relabel_configs", &self.write_relabel_configs)
            .field("queue", &self.queue)
            .field("http", &self.http)
            .finish()
    }
}

/// `queue_config`.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// Accepted; the journal is the queue.
    pub capacity: u64,
    /// Most requests in flight.
    pub max_shards: u64,
    /// Least lanes.
    pub min_shards: u64,
    /// Samples per request.
    pub max_samples_per_send: u64,
    /// Longest wait for a request to fill.
    pub batch_send_deadline: Duration,
    /// First retry.
    pub min_backoff: Duration,
    /// Longest retry.
    pub max_backoff: Duration,
    /// `None`: not given, and we retry, since a durable spool loses nothing by it.
    pub retry_on_http_429: Option<bool>,
    /// Samples older than this are dropped; zero = never.
    pub sample_age_limit: Duration,
}
