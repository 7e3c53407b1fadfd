//! The command line in two steps: as typed (clap) and as meant ([`Options`]).
//!
//! Everything a user can type is in `typed`; every default that depends on another flag, every check between flags and
//! every remedy is in `meaning`. Prometheus's agent command lines start unchanged: `--agent` or
//! `--enable-feature=agent` changes the default address and data path to Prometheus's. Flags that tune a machine we do not
//! have are accepted, do nothing and are listed once in [`Options::notes`]; flags of Prometheus's server mode are errors
//! that say what to use instead. Absent on purpose: doing anything; the caller dispatches on [`Invocation`].

mod meaning;
#[cfg(test)]
mod tests;
mod typed;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

pub use typed::{DemoArgs, EngineChoice, ExportArgs, ExportFormat, LogFormat, LogLevel, ScrapeArgs};
pub use values::Sync;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches};

use crate::config::Depth;
use crate::scrape::KeepAlive;
use crate::web::Settings;

/// What the user asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Invocation {
    /// Scrape until told to stop; also without a subcommand.
    Run(Box<Options>),
    /// `check config FILE..`
    CheckConfig {
        /// At least one.
        files: Vec<PathBuf>,
        /// Top-level keys accepted and left alone.
        ignored_keys: Vec<String>,
        /// Whether files that they point to count.
        depth: Depth,
    },
    /// `check metrics`: lints a body from standard input.
    CheckMetrics,
    /// `scrape URL`
    Scrape(ScrapeArgs),
    /// `export`
    Export(ExportArgs),
    /// `journal inspect DIR`
    JournalInspect {
        /// A data path or one shard's directory.
        dir: PathBuf,
    },
    /// `demo`
    Demo(DemoArgs),
    /// `doctor`
    Doctor {
        /// Where the data would live: file system, space and rights are looked at.
        storage_path: PathBuf,
        /// How to say it.
        format: DoctorFormat,
    },
}

/// Formats of `doctor`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DoctorFormat {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// The flags of `run` as meant: defaults filled in, relations between flags checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Which program's defaults apply.
    pub mode: Mode,
    /// `--config.file`
    pub config_file: PathBuf,
    /// `--config.ignore`: top-level keys accepted and left alone.
    pub ignored_keys: Vec<String>,
    /// `--enable-feature=extra-scrape-metrics`: for jobs that do not say otherwise.
    pub extra_scrape_metrics: bool,
    /// `--config.auto-reload`: how often to look for a changed file; `None` = only on request.
    pub auto_reload: Option<Duration>,
    /// `--storage.path`, or `--storage.agent.path`.
    pub storage_path: PathBuf,
    /// `--storage.retention.time`; `None` = the journal's default.
    pub retention_time: Option<Duration>,
    /// `--storage.retention.size` in bytes; `None` = the journal's default.
    pub retention_size_bytes: Option<u64>,
    /// `--storage.sync`
    pub sync: Sync,
    /// `--storage.remote.flush-deadline`
    pub flush_deadline: Duration,
    /// `--shards`; `None` = as many as the machine allows.
    pub shards: Option<NonZeroUsize>,
    /// `--cpus`: pin the shards to these CPUs, in this order; empty = never pin.
    pub cpus: Vec<usize>,
    /// `--engine`
    pub engine: EngineChoice,
    /// The web flags.
    pub web: Settings,
    /// The scrape flags.
    pub scrape: ScrapeOptions,
    /// The log flags.
    pub log: LogOptions,
    /// `--enable-feature`, in order, without duplicates; `agent` is [`Options::mode`] and not in here.
    pub features: Vec<String>,
    /// One sentence per accepted flag that does nothing here; to be logged once.
    pub notes: Vec<String>,
    /// Every flag with its effective value, for `/api/v1/status/flags`.
    flags: BTreeMap<String, String>,
}

impl Options {
    /// Every flag of `run` with its effective value as text, by name without dashes.
    #[must_use]
    pub fn flags(&self) -> &BTreeMap<String, String> {
        &self.flags
    }
}

/// Which program's defaults apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Ours: loopback port 9099, data in `data`.
    Native,
    /// Prometheus agent's: all addresses, port 9090, data in `data-agent/`.
    Agent,
}

/// `--scrape.*`
#[derive(Clone, Debug, PartialEq)]
pub struct ScrapeOptions {
    /// Largest correction of a scrape's timestamp towards its schedule; `None` = never corrected.
    pub timestamp_tolerance: Option<Duration>,
    /// Which connections to targets are kept.
    pub keep_alive: KeepAlive,
    /// Shortest time between two applications of discovery updates.
    pub discovery_reload_interval: Duration,
    /// How often targets may go from a busy shard to another; 0 is never.
    pub placement_interval: Duration,
}

/// `--log.*`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Least level that is printed.
    pub level: LogLevel,
    /// Shape of a line.
    pub format: LogFormat,
}

/// Why there is no [`Invocation`].
#[derive(Debug)]
pub enum CliError {
    /// Usage error, or help and version asked for.
    Usage(clap::Error),
    /// A flag of Prometheus's server mode; the text says what to use instead.
    ServerFlag {
        /// With dashes.
        flag: String,
        /// A sentence.
        remedy: &'static str,
    },
    /// A flag whose value does not fit the others or the host.
    Meaning {
        /// With dashes.
        flag: &'static str,
        /// What is wrong and what would be right.
        why: String,
    },
}

impl CliError {
    /// Prometheus's: 0 for help and version, 3 for a flag of the other mode, 2 for a value that does not do, 1 for what cannot
    /// be read at all, and for flags whose value it looks at only when it starts.
    #[must_use]
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Usage(e) if !e.use_stderr() => 0,
            Self::Usage(e) if e.kind() == ErrorKind::InvalidValue && has_value(e) => 2,
            Self::Usage(e) if e.kind() == ErrorKind::ValueValidation => 2,
            Self::Usage(_) => 1,
            Self::ServerFlag { .. } => 3,
            Self::Meaning { flag: "--web.listen-address" | "--web.config.file", .. } => 1,
            Self::Meaning { .. } => 2,
        }
    }

    /// Whether the text belongs on standard output (help, version).
    #[must_use]
    pub fn is_answer(&self) -> bool {
        matches!(self, Self::Usage(e) if !e.use_stderr())
    }
}

/// Whether a value was given; a switch takes none in Prometheus, so one that it has is a word too many there.
fn has_value(e: &clap::Error) -> bool {
    let value = matches!(e.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if !value.is_empty());
    let choices = e.get(ContextKind::ValidValue);
    let is_switch = matches!(choices, Some(ContextValue::Strings(all)) if all == &["true", "false"]);
    value && !is_switch
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(e) => e.render().fmt(f),
            Self::ServerFlag { flag, remedy } => {
                writeln!(f, "error: {flag} is a flag of Prometheus's server mode; ringscrape is a scraper. {remedy}")
            }
            Self::Meaning { flag, why } => writeln!(f, "error: {flag}: {why}"),
        }
    }
}

impl std::error::Error for CliError {}

/// Reads a command line; the first item is the program's name.
///
/// # Errors
/// [`CliError`], whose text is ready to print and whose [`CliError::exit_code`] is the process's.
pub fn parse_from<I, T>(args: I) -> Result<Invocation, CliError>
where
    I: IntoIterator<Item = T>,
    T: Into<OsString>,
{
    let command = typed::Typed::command();
    let run_flags = typed::run_command();
    let args: Vec<OsString> = args.into_iter().map(Into::into).collect();
    meaning::refuse_server_flags(&args, &run_flags)?;
    let args = values::spell_out_negations(args, &run_flags);
    let matches = command.try_get_matches_from(args).map_err(CliError::Usage)?;
    let typed = typed::Typed::from_arg_matches(&matches).map_err(CliError::Usage)?;
    meaning::invocation(typed, &matches, &run_flags)
}
