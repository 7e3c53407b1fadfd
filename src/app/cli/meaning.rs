//! From flags as typed to flags as meant: dependent defaults, checks between flags, remedies.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use clap::ArgMatches;
use clap::parser::ValueSource;

use super::typed::{Check, Command, Journal, RunArgs, Typed, WebArgs};
use super::{CliError, DoctorFormat, Invocation, LogOptions, Mode, Options, ScrapeOptions};
use crate::config::Depth;
use crate::web::{CorsOrigin, Lifecycle, Settings};

/// Beginnings of the names of server-mode flags, and what to use instead. prometheus: cmd/prometheus/main.go, serverOnlyFlag.
const SERVER_FLAGS: [(&str, &str); 9] = [
    ("storage.tsdb.path", "Use --storage.path."),
    ("storage.tsdb.retention.", "Use --storage.retention.time and --storage.retention.size."),
    ("storage.tsdb.", "The journal needs no such setting; leave it out."),
    ("storage.remote.read-", "Nothing is read here; leave it out."),
    ("query.", "Queries belong to the receiver of remote write; leave it out."),
    ("rules.", "Rules belong to the receiver of remote write; leave it out."),
    ("alertmanager.", "Alerts belong to the receiver of remote write; leave it out."),
    ("web.enable-remote-write-receiver", "Nothing is received here; leave it out."),
    ("web.enable-otlp-receiver", "Nothing is received here; leave it out."),
];

/// Names of `--enable-feature` that say something here, or that change nothing because the behaviour is always on or has no
/// counterpart.
const FEATURES_KNOWN: [&str; 6] = [
    "extra-scrape-metrics",
    "native-histograms",
    "auto-reload-config",
    "exemplar-storage",
    "metadata-wal-records",
    "use-uncached-io",
];

/// Ends the reading at a flag of Prometheus's server mode.
pub(super) fn refuse_server_flags(args: &[OsString], run_flags: &clap::Command) -> Result<(), CliError> {
    for arg in args.iter().skip(1).filter_map(|a| a.to_str()) {
        let Some(name) = arg.strip_prefix("--").map(|a| a.split('=').next().unwrap_or(a)) else { continue };
        let name = name.strip_prefix("no-").unwrap_or(name);
        if run_flags.get_arguments().any(|a| a.get_long() == Some(name)) {
            continue;
        }
        if let Some((_, remedy)) = SERVER_FLAGS.iter().find(|(beginning, _)| name.starts_with(beginning)) {
            return Err(CliError::ServerFlag { flag: format!("--{name}"), remedy });
        }
    }
    Ok(())
}

pub(super) fn invocation(
    typed: Typed,
    matches: &ArgMatches,
    run_flags: &clap::Command,
) -> Result<Invocation, CliError> {
    Ok(match typed.command {
        None => Invocation::Run(Box::new(options(typed.run, matches, run_flags)?)),
        Some(Command::Run(run)) => {
            let matches = matches.subcommand_matches("run").expect("clap matched `run`");
            Invocation::Run(Box::new(options(*run, matches, run_flags)?))
        }
        Some(Command::Check(Check::Config { files, ignored_keys, syntax_only })) => {
            let depth = if syntax_only { Depth::Syntax } else { Depth::Files };
            Invocation::CheckConfig { files, ignored_keys, depth }
        }
        Some(Command::Check(Check::Metrics)) => Invocation::CheckMetrics,
        Some(Command::Scrape(args)) => Invocation::Scrape(args),
        Some(Command::Export(args)) => Invocation::Export(args),
        Some(Command::Journal(Journal::Inspect { dir })) => Invocation::JournalInspect { dir },
        Some(Command::Demo(args)) => Invocation::Demo(args),
        Some(Command::Doctor(args)) => {
            let format = if args.json { DoctorFormat::Json } else { DoctorFormat::Text };
            Invocation::Doctor { storage_path: args.storage_path, format }
        }
    })
}

fn options(run: RunArgs, matches: &ArgMatches, run_flags: &clap::Command) -> Result<Options, CliError> {
    let agent_feature = run.features.iter().any(|f| f == "agent");
    let mode = if run.agent || agent_feature { Mode::Agent } else { Mode::Native };
    let (features, mut notes) = features(&run.features);
    notes.extend(notes_on_foreign_flags(matches, run_flags));
    let auto_reload = run.config_auto_reload || run.features.iter().any(|f| f == "auto-reload-config");
    if auto_reload && run.config_auto_reload_interval < Duration::from_secs(1) {
        return Err(CliError::Meaning { flag: "--config.auto-reload-interval", why: "at least 1s".to_owned() });
    }
    let mut options = Options {
        mode,
        storage_path: storage_path(&run, mode)?,
        config_file: run.config_file,
        ignored_keys: run.config_ignore,
        auto_reload: auto_reload.then_some(run.config_auto_reload_interval),
        extra_scrape_metrics: features.iter().any(|f| f == "extra-scrape-metrics"),
        retention_time: run.retention_time.filter(|t| !t.is_zero()),
        retention_size_bytes: run.retention_size.filter(|s| *s != 0),
        sync: run.sync,
        flush_deadline: run.flush_deadline,
        shards: run.shards.and_then(|n| NonZeroUsize::new(usize::from(n))),
        cpus: run.cpus.map(|c| c.0).unwrap_or_default(),
        engine: run.engine,
        web: web(run.web, mode)?,
        scrape: ScrapeOptions {
            timestamp_tolerance: run.adjust_timestamps.then_some(run.timestamp_tolerance),
            keep_alive: run.keep_alive,
            discovery_reload_interval: run.discovery_reload_interval,
            placement_interval: run.placement_interval,
        },
        log: LogOptions { level: run.log_level, format: run.log_format },
        features,
        notes,
        flags: BTreeMap::new(),
    };
    options.flags = flags(&options, matches, run_flags);
    Ok(options)
}

/// `--storage.agent.path` means `--storage.path`; both at once must agree.
fn storage_path(run: &RunArgs, mode: Mode) -> Result<PathBuf, CliError> {
    let path = match (&run.storage_path, &run.foreign.agent_path) {
        (Some(ours), Some(theirs)) if ours != theirs => {
            let why =
                format!("{} differs from --storage.agent.path {}; give one of them", ours.display(), theirs.display());
            return Err(CliError::Meaning { flag: "--storage.path", why });
        }
        (Some(path), _) | (None, Some(path)) => path.clone(),
        (None, None) => PathBuf::from(if mode == Mode::Agent { "data-agent/" } else { "data" }),
    };
    if path.as_os_str().is_empty() {
        return Err(CliError::Meaning { flag: "--storage.path", why: "empty; name a directory".to_owned() });
    }
    Ok(path)
}

fn features(typed: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut features, mut notes) = (Vec::<String>::new(), Vec::new());
    for name in typed.iter().filter(|f| !f.is_empty() && *f != "agent") {
        if features.contains(name) {
            continue;
        }
        if !FEATURES_KNOWN.contains(&name.as_str()) {
            notes.push(format!("--enable-feature={name} has no effect here"));
        }
        features.push(name.clone());
    }
    (features, notes)
}

/// One sentence per flag that was given and does nothing.
fn notes_on_foreign_flags(matches: &ArgMatches, run_flags: &clap::Command) -> Vec<String> {
    run_flags
        .get_arguments()
        .filter(|a| a.is_hide_set() && a.get_id() != "agent_path")
        .filter(|a| matches.value_source(a.get_id().as_str()) == Some(ValueSource::CommandLine))
        .filter_map(|a| a.get_long())
        .map(|name| format!("--{name} has no effect here"))
        .collect()
}

fn web(web: WebArgs, mode: Mode) -> Result<Settings, CliError> {
    let listen_addresses = match (web.listen_addresses.is_empty(), mode) {
        (false, _) => web.listen_addresses,
        (true, Mode::Native) => vec!["127.0.0.1:9099".to_owned()],
        (true, Mode::Agent) => vec!["0.0.0.0:9090".to_owned()],
    };
    for address in &listen_addresses {
        check_listen_address(address)?;
    }
    check_web_config(&web.web_config_file)?;
    let external_url = external_url(&web.external_url, &listen_addresses[0])?;
    let prefix = web.route_prefix.filter(|p| !p.is_empty());
    let prefix = prefix.unwrap_or_else(|| path_of(&external_url).to_owned());
    let cors_origin = CorsOrigin::parse(&web.cors_origin);
    let cors_origin = cors_origin.map_err(|why| CliError::Meaning { flag: "--web.cors.origin", why })?;
    if web.read_timeout.is_zero() {
        let why = "0 would let an idle connection stay forever; name a duration".to_owned();
        return Err(CliError::Meaning { flag: "--web.read-timeout", why });
    }
    Ok(Settings {
        listen_addresses,
        lifecycle: if web.enable_lifecycle { Lifecycle::Enabled } else { Lifecycle::Disabled },
        external_url,
        route_prefix: route_prefix(&prefix)?,
        page_title: web.page_title,
        connections_max: web.max_connections as usize,
        read_timeout: web.read_timeout,
        cors_origin,
    })
}

/// One slash in front, none behind, and only characters that need no encoding.
fn route_prefix(typed: &str) -> Result<String, CliError> {
    if typed.contains(|c: char| !(c.is_ascii_alphanumeric() || "-._~/".contains(c))) {
        let why = format!("{typed:?} may only hold letters, digits and - . _ ~ /");
        return Err(CliError::Meaning { flag: "--web.route-prefix", why });
    }
    Ok(format!("/{}", typed.trim_matches('/')))
}

fn check_listen_address(address: &str) -> Result<(), CliError> {
    let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
    if matches!(port, Some(Ok(_))) {
        return Ok(());
    }
    let why = format!("{address:?} has no port; write for example 127.0.0.1:9099, :9099 or [::1]:9099");
    Err(CliError::Meaning { flag: "--web.listen-address", why })
}

/// The web server speaks plain HTTP without authentication so far: a file that asks for more must not be ignored. An operator
/// writes the file also when it asks for nothing.
fn check_web_config(file: &str) -> Result<(), CliError> {
    if file.is_empty() {
        return Ok(());
    }
    let refused = |why| Err(CliError::Meaning { flag: "--web.config.file", why });
    match std::fs::read_to_string(file) {
        Ok(text) if asks_for_nothing(&text) => Ok(()),
        Ok(_) => refused(format!(
            "{file} asks for TLS, authentication or headers, which this version does not offer; put a proxy in front and \
             listen on loopback, or leave the flag out"
        )),
        Err(e) => refused(format!("cannot read {file}: {e}")),
    }
}

/// Whether a YAML text is empty but for comments, document marks and `{}`.
pub(super) fn asks_for_nothing(text: &str) -> bool {
    text.lines()
        .map(|line| line.trim_start_matches('\u{feff}').trim())
        .all(|line| line.is_empty() || line.starts_with('#') || line == "---" || line == "{}" || line == "null")
}

/// The URL without trailing slashes; from the host name and the first address when not given. prometheus: main.go,
/// computeExternalURL.
fn external_url(typed: &str, address: &str) -> Result<String, CliError> {
    let refused = |why: &str| Err(CliError::Meaning { flag: "--web.external-url", why: format!("{typed:?} {why}") });
    if typed.is_empty() {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let name = if name.trim().is_empty() { "localhost" } else { name.trim() };
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        return Ok(format!("http://{name}:{port}"));
    }
    if typed.starts_with(['"', '\'']) || typed.ends_with(['"', '\'']) {
        return refused("begins or ends with a quote; leave the quotes out");
    }
    // A bare path is allowed, also without its slash: it moves the routes and says nothing about the host.
    let is_bare = typed.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~/".contains(&b));
    let typed = if is_bare && !typed.starts_with('/') { &format!("/{typed}") } else { typed };
    let full = if typed.starts_with('/') { format!("http://localhost{typed}") } else { typed.to_owned() };
    match full.parse::<axum::http::Uri>() {
        Ok(uri) if uri.host().is_some_and(|h| !h.is_empty()) && uri.scheme().is_some() => {
            Ok(typed.trim_end_matches('/').to_owned())
        }
        _ => refused("is not a URL; write for example https://scrape.example.org/east"),
    }
}

/// Path part of a URL or bare path, without query; empty when there is none.
fn path_of(url: &str) -> &str {
    let after_host = match url.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("", |at| &rest[at..]),
        None => url,
    };
    after_host.split(['?', '#']).next().unwrap_or_default()
}

/// Effective values as text, by flag name; flags that depend on others show what they came to.
fn flags(options: &Options, matches: &ArgMatches, run_flags: &clap::Command) -> BTreeMap<String, String> {
    let mut flags = BTreeMap::new();
    for arg in run_flags.get_arguments() {
        let Some(name) = arg.get_long().filter(|name| !matches!(*name, "help" | "version")) else { continue };
        let values = matches.get_raw(arg.get_id().as_str()).into_iter().flatten();
        let values: Vec<_> = values.map(|v| v.to_string_lossy()).collect();
        if values.is_empty() && arg.is_hide_set() {
            continue;
        }
        flags.insert(name.to_owned(), values.join(","));
    }
    flags.insert("agent".to_owned(), (options.mode == Mode::Agent).to_string());
    flags.insert("storage.path".to_owned(), options.storage_path.display().to_string());
    flags.insert("web.listen-address".to_owned(), options.web.listen_addresses.join(","));
    flags.insert("web.external-url".to_owned(), options.web.external_url.clone());
    flags.insert("web.route-prefix".to_owned(), options.web.route_prefix.clone());
    flags.insert("config.auto-reload".to_owned(), options.auto_reload.is_some().to_string());
    flags
}
