//! The command line as typed: names, help, defaults that stand alone.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgAction;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use super::values::{self, Sync};
use crate::scrape::KeepAlive;

/// Prometheus-compatible scraper appliance.
#[derive(Debug, Parser)]
#[command(name = "ringscrape", version, about, args_conflicts_with_subcommands = true, disable_help_subcommand = true)]
pub(super) struct Typed {
    #[command(flatten)]
    pub run: RunArgs,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Scrape until told to stop (the default).
    Run(Box<RunArgs>),
    /// Check something without running.
    #[command(subcommand)]
    Check(Check),
    /// One scrape of one address: timings per stage, samples, layout statistics.
    Scrape(ScrapeArgs),
    /// Print what the journal holds.
    Export(ExportArgs),
    /// Look into the journal.
    #[command(subcommand)]
    Journal(Journal),
    /// Scrape a farm of targets in this process.
    Demo(DemoArgs),
    /// Kernel, limits, sysctls and rights: have, want, how to fix.
    Doctor(DoctorArgs),
}

#[derive(Debug, Subcommand)]
pub(super) enum Check {
    /// Configuration files: every error with file, key path, what is wrong, what would be right.
    Config {
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Top-level keys to accept and leave alone.
        #[arg(long = "config.ignore", value_name = "KEY,..", value_delimiter = ',')]
        ignored_keys: Vec<String>,
        /// Leave alone what the files point to: files of targets and of credentials.
        #[arg(long)]
        syntax_only: bool,
    },
    /// An exposition body on standard input.
    Metrics,
}

#[derive(Debug, Subcommand)]
pub(super) enum Journal {
    /// Segments, schemas, targets and the state of the last batch.
    Inspect {
        /// A data path or one shard's directory.
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// `scrape`
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ScrapeArgs {
    /// What to scrape, e.g. `http://127.0.0.1:9100/metrics`.
    #[arg(value_name = "URL")]
    pub url: String,
    /// Give up after this long.
    #[arg(long, default_value = "10s", value_parser = values::duration)]
    pub timeout: Duration,
    /// Over https: trust the certificates in this file instead of the system's.
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Over https: accept any certificate.
    #[arg(long)]
    pub insecure_skip_verify: bool,
    /// I/O engine.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
}

/// `export`
#[derive(Args, Clone, Debug, PartialEq)]
pub struct ExportArgs {
    /// What to print.
    #[arg(long, value_enum, default_value_t = ExportFormat::Openmetrics)]
    pub format: ExportFormat,
    /// Data path of a running or stopped ringscrape.
    #[arg(long = "storage.path", value_name = "DIR", default_value = "data")]
    pub storage_path: PathBuf,
    /// Only series that match one of these selectors, e.g. `node_load1{job="node"}`.
    #[arg(long = "match", value_name = "SELECTOR")]
    pub matches: Vec<String>,
}

/// Formats of `export`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// OpenMetrics text with timestamps.
    Openmetrics,
}

/// `demo`
#[derive(Args, Clone, Debug, PartialEq)]
pub struct DemoArgs {
    /// Targets in the farm.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub targets: u32,
    /// Scrape interval.
    #[arg(long, default_value = "5s", value_parser = values::duration)]
    pub interval: Duration,
    /// Stop after this long; 0 runs until Ctrl-C.
    #[arg(long, default_value = "0", value_parser = values::duration)]
    pub duration: Duration,
    /// Where the data goes; a temporary directory when not given.
    #[arg(long = "storage.path", value_name = "DIR")]
    pub storage_path: Option<PathBuf>,
    /// I/O engine.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,
    /// Address of pages, API and own metrics.
    #[arg(long = "web.listen-address", value_name = "HOST:PORT", default_value = "127.0.0.1:9099")]
    pub listen_address: String,
}

#[derive(Args, Debug)]
pub(super) struct DoctorArgs {
    /// Where the data would live.
    #[arg(long = "storage.path", value_name = "DIR", default_value = "data")]
    pub storage_path: PathBuf,
    /// One JSON object instead of lines for people.
    #[arg(long)]
    pub json: bool,
}

/// I/O engines a user can ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EngineChoice {
    /// io_uring where the kernel lets us, else epoll.
    Auto,
    /// io_uring or an error.
    Uring,
    /// epoll.
    Epoll,
}

/// Log levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator wants to know.
    Info,
    /// What may need a look.
    Warn,
    /// What needs a look.
    Error,
}

/// Log line formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// `key=value` pairs.
    Logfmt,
    /// One JSON object a line.
    Json,
}

/// Flags of `run`, in Prometheus's dotted style.
#[derive(Args, Debug)]
pub(super) struct RunArgs {
    /// Configuration file.
    #[arg(long = "config.file", value_name = "FILE", default_value = "prometheus.yml")]
    pub config_file: PathBuf,
    /// Top-level keys of the file to accept and leave alone, e.g. alerting,rule_files,remote_read.
    #[arg(long = "config.ignore", value_name = "KEY,..", value_delimiter = ',')]
    pub config_ignore: Vec<String>,
    /// Reload by ourselves when the file changes, or one of those that it names in scrape_config_files or rule_files.
    #[arg(long = "config.auto-reload", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub config_auto_reload: bool,
    /// How often to look for a changed file, at least 1s.
    #[arg(long = "config.auto-reload-interval", default_value = "30s", value_parser = values::duration)]
    pub config_auto_reload_interval: Duration,

    /// Data path [default: data; data-agent/ in agent mode].
    #[arg(long = "storage.path", value_name = "DIR")]
    pub storage_path: Option<PathBuf>,
    /// Keep the journal this long at most [default: 24h with a remote].
    #[arg(long = "storage.retention.time", value_name = "DURATION", value_parser = values::duration)]
    pub retention_time: Option<Duration>,
    /// Keep this many bytes of journal at most, e.g. 20GB [default: the smaller of 10 % of the disk and 50GB].
    #[arg(long = "storage.retention.size", value_name = "BYTES", value_parser = values::bytes)]
    pub retention_size: Option<u64>,
    /// When data reaches the disk: `batch` (each write; loses nothing written), a duration such as `1s` (a power cut loses that
    /// much), `os` (the kernel decides; a crash of the process loses nothing, a power cut up to half a minute).
    #[arg(long = "storage.sync", value_name = "batch|1s|os", default_value = "1s", value_parser = values::sync)]
    pub sync: Sync,
    /// At shutdown, go on sending this long.
    #[arg(long = "storage.remote.flush-deadline", default_value = "1m", value_parser = values::duration)]
    pub flush_deadline: Duration,

    /// Shard threads [default: one per CPU we may use].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub shards: Option<u16>,
    /// Pin shards to these CPUs, e.g. 0-3,8. Without this flag nothing is pinned.
    #[arg(long, value_name = "LIST", value_parser = values::cpus)]
    pub cpus: Option<values::Cpus>,
    /// I/O engine.
    #[arg(long, value_enum, default_value_t = EngineChoice::Auto)]
    pub engine: EngineChoice,

    #[command(flatten)]
    pub web: WebArgs,

    /// Move scrape timestamps onto the schedule when they are within the tolerance.
    #[arg(long = "scrape.adjust-timestamps", default_value = "true", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub adjust_timestamps: bool,
    /// See --scrape.adjust-timestamps.
    #[arg(long = "scrape.timestamp-tolerance", default_value = "2ms", value_parser = values::duration)]
    pub timestamp_tolerance: Duration,
    /// Keep connections to targets for their next scrape: always, never, or (auto) when the interval is at most 30s.
    #[arg(long = "scrape.keep-alive", value_name = "auto|always|never", default_value = "always", value_parser = values::keep_alive)]
    pub keep_alive: KeepAlive,
    /// Shortest time between two applications of discovery updates.
    #[arg(long = "scrape.discovery-reload-interval", default_value = "5s", value_parser = values::duration)]
    pub discovery_reload_interval: Duration,
    /// How often a shard that needs much more CPU than others may give a few targets away; 0s = never.
    #[arg(long = "scrape.placement-interval", default_value = "1m", value_parser = values::duration)]
    pub placement_interval: Duration,

    /// Least level that is printed.
    #[arg(long = "log.level", value_enum, ignore_case = true, default_value_t = LogLevel::Info)]
    pub log_level: LogLevel,
    /// Shape of a log line.
    #[arg(long = "log.format", value_enum, default_value_t = LogFormat::Logfmt)]
    pub log_format: LogFormat,

    /// Prometheus agent's defaults: address 0.0.0.0:9090, data in data-agent/.
    #[arg(long, default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub agent: bool,
    /// Feature names, comma separated, repeatable; `agent` is --agent.
    #[arg(long = "enable-feature", value_name = "NAME,..", value_delimiter = ',')]
    pub features: Vec<String>,

    #[command(flatten)]
    pub foreign: ForeignArgs,
}

/// Flags of the web server.
#[derive(Args, Debug)]
pub(super) struct WebArgs {
    /// Address of pages, API and own metrics, repeatable [default: 127.0.0.1:9099; 0.0.0.0:9090 in agent mode].
    #[arg(long = "web.listen-address", value_name = "HOST:PORT")]
    pub listen_addresses: Vec<String>,
    /// TLS and authentication of the web server; only an empty file is accepted so far.
    #[arg(long = "web.config.file", value_name = "FILE", default_value = "")]
    pub web_config_file: String,
    /// Allow POST /-/reload and /-/quit.
    #[arg(long = "web.enable-lifecycle", default_value = "false", num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    pub enable_lifecycle: bool,
    /// URL under which we are reached from outside.
    #[arg(long = "web.external-url", value_name = "URL", default_value = "")]
    pub external_url: String,
    /// Path before every route [default: path of --web.external-url].
    #[arg(long = "web.route-prefix", value_name = "PATH")]
    pub route_prefix: Option<String>,
    /// Title of the page.
    #[arg(long = "web.page-title", default_value = "ringscrape")]
    pub page_title: String,
    /// Connections over all addresses; further ones wait in the kernel's queue.
    #[arg(long = "web.max-connections", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub max_connections: u32,
    /// For a request head, and for an idle or stalled connection.
    #[arg(long = "web.read-timeout", default_value = "5m", value_parser = values::duration)]
    pub read_timeout: Duration,
    /// Origins that may read the API, a regular expression, anchored.
    #[arg(long = "web.cors.origin", value_name = "REGEX", default_value = ".*")]
    pub cors_origin: String,
}

/// Flags of Prometheus's agent that tune a machine we do not have. Accepted, without effect, hidden from the help.
#[derive(Args, Debug)]
#[allow(dead_code, reason = "read only through the matches, to list which were given")]
pub(super) struct ForeignArgs {
    /// Read by `meaning` as the data path.
    #[arg(long = "storage.agent.path", hide = true)]
    pub agent_path: Option<PathBuf>,
    #[arg(long = "storage.agent.wal-compression", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    agent_wal_compression: Option<bool>,
    #[arg(long = "storage.agent.wal-compression-type", hide = true)]
    agent_wal_compression_type: Option<String>,
    #[arg(long = "storage.agent.wal-segment-size", hide = true, value_parser = values::bytes)]
    agent_wal_segment_size: Option<u64>,
    #[arg(long = "storage.agent.wal-truncate-frequency", hide = true, value_parser = values::duration)]
    agent_wal_truncate_frequency: Option<Duration>,
    #[arg(long = "storage.agent.retention.min-time", hide = true, value_parser = values::duration)]
    agent_retention_min_time: Option<Duration>,
    #[arg(long = "storage.agent.retention.max-time", hide = true, value_parser = values::duration)]
    agent_retention_max_time: Option<Duration>,
    #[arg(long = "storage.agent.no-lockfile", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    agent_no_lockfile: Option<bool>,
    #[arg(long = "storage.agent.checkpoint-from-in-memory-series", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    agent_checkpoint_from_memory: Option<bool>,
    #[arg(long = "storage.agent.checkpoint-batch-size", hide = true)]
    agent_checkpoint_batch_size: Option<u64>,
    #[arg(long = "web.console.templates", hide = true)]
    console_templates: Option<String>,
    #[arg(long = "web.console.libraries", hide = true)]
    console_libraries: Option<String>,
    #[arg(long = "web.user-assets", hide = true)]
    user_assets: Option<String>,
    #[arg(long = "web.enable-admin-api", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    admin_api: Option<bool>,
    #[arg(long = "web.max-notifications-subscribers", hide = true)]
    notification_subscribers: Option<u32>,
    #[arg(long = "auto-gomaxprocs", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    auto_gomaxprocs: Option<bool>,
    #[arg(long = "auto-gomemlimit", hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true", action = ArgAction::Set)]
    auto_gomemlimit: Option<bool>,
    #[arg(long = "auto-gomemlimit.ratio", hide = true)]
    auto_gomemlimit_ratio: Option<f64>,
    #[arg(long = "auto-gomemlimit.refresh-interval", hide = true, value_parser = values::duration)]
    auto_gomemlimit_refresh_interval: Option<Duration>,
}

/// The flags of `run` as clap knows them.
pub(super) fn run_command() -> clap::Command {
    let mut command = Typed::command();
    command.build();
    command.find_subcommand("run").expect("the derive above declares it").clone()
}
