//! A running appliance: started from the ground up, stopped from the top down.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::app::cli::{self, Options};
use crate::app::control::Control;
use crate::app::reload::{self, Found, LoadState};
use crate::app::signals::{self, Signals, Stops};
use crate::app::threads::{self, Engine, ShardOutlet, ShardSettings, Shards};
use crate::app::{descriptors, logging};
use crate::base::cpu::Allowance;
use crate::base::memory;
use crate::base::time::Now;
use crate::config::{Config, Watch};
use crate::discovery::Discovery;
use crate::manager::{self, Manager};
use crate::remote_write::{JournalSpool, Remote};
use crate::storage::journal::{self, Disk, Retention};
use crate::web::{Appliance, Server, Web};

/// Scrapes per second that one shard takes on before another is started.
const SCRAPES_PER_SHARD: f64 = 15_000.0;
/// Updates of discovery waiting for the manager; discovery waits when it is full.
const UPDATES_WAITING: usize = 1;
/// How often an idle control loop looks around.
const CARE: Duration = Duration::from_secs(1);

/// Why there is no start, with the remedy.
#[derive(Debug)]
pub enum Refused {
    /// What the configuration says.
    Configuration(String),
    /// Anything else.
    Else(String),
}

impl Refused {
    /// Prometheus's.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Configuration(_) => 2,
            Self::Else(_) => 1,
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Configuration(text) | Self::Else(text)) = self;
        f.write_str(text)
    }
}

impl From<String> for Refused {
    fn from(text: String) -> Self {
        Self::Else(text)
    }
}

/// `ringscrape run`.
///
/// # Errors
/// Why it did not start, with the remedy.
pub fn run(options: Options) -> Result<ExitCode, Refused> {
    memory::return_early();
    logging::start(options.log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::listen();
        if let Some(process) = Process::start(options, &mut signals.stops).await? {
            process.serve_until_stopped(signals).await;
        }
        Ok::<_, Refused>(ExitCode::SUCCESS)
    });
    // A start that was given up, or a look at a file on a dead file system, cannot be broken off and would be waited for.
    runtime.shutdown_background();
    ended
}

/// Everything that runs.
pub struct Process {
    /// What the control thread talks to.
    pub control: Arc<Control>,
    shards: Shards,
    server: Option<Server>,
    web: Arc<Web>,
    updates: tokio::sync::mpsc::Receiver<crate::discovery::Update>,
    updates_in: tokio::sync::mpsc::Sender<crate::discovery::Update>,
    /// What was chosen.
    pub engine: Engine,
}

/// What a start asks of files, network and kernel: each may refuse, and may take its time.
struct Ground {
    found: Found,
    watch: Option<Arc<Mutex<Watch>>>,
    server: Server,
    descriptors: descriptors::Descriptors,
    engine: Engine,
    disk: Disk,
    ends: Vec<(journal::Writer, journal::Feed)>,
    remote: Remote<JournalSpool>,
    fqdn: String,
}

impl Ground {
    fn lay(options: &Options) -> Result<Self, Refused> {
        let watch = options.auto_reload.map(|_| Arc::new(Mutex::new(Watch::new(&options.config_file))));
        let found = Found::read(options, watch.as_deref());
        let loaded = found.check().map_err(Refused::Configuration)?;
        let server = Server::bind(&options.web.listen_addresses).map_err(|e| e.to_string())?;
        let descriptors = descriptors::raise();
        let engine = threads::choose(options.engine)?;
        let count = options.shards.map_or_else(|| shards_for(&loaded.config), |n| n.get() as u32);
        let (disk, ends) = Disk::spawn(disk_options(options, count)).map_err(|e| {
            format!("data directory {}: {e}; choose a writable one with --storage.path", options.storage_path.display())
        })?;
        let remote = Remote::new(JournalSpool::new(&options.storage_path.join("journal"), &disk));
        let fqdn = manager::fqdn().unwrap_or_else(|_| "localhost".into());
        Ok(Self { found, watch, server, descriptors, engine, disk, ends, remote, fqdn })
    }
}

impl Process {
    /// Checks everything that can refuse, then starts disk, shards, manager, remote write and web, in this order. `None` when
    /// a stop was asked for meanwhile: what the disk was doing is then left as a crash would leave it, which every start
    /// can take up; nothing else has begun.
    ///
    /// # Errors
    /// What refused, with the remedy.
    pub async fn start(options: Options, stops: &mut Stops) -> Result<Option<Self>, Refused> {
        let asked = options.clone();
        let ground = tokio::task::spawn_blocking(move || Ground::lay(&asked));
        let ground = tokio::select! {
            biased;
            () = stops.wish() => {
                tracing::info!("asked to stop during the start: nothing has been scraped yet");
                return Ok(None);
            }
            ground = ground => ground.map_err(|e| e.to_string())??,
        };
        Self::build(options, ground).await.map(Some)
    }

    /// The rest takes no time: a stop that is asked for meanwhile comes right after it.
    async fn build(options: Options, ground: Ground) -> Result<Self, Refused> {
        let Ground { found, watch, server, descriptors: files, engine, disk, ends, remote, fqdn } = ground;
        let count = ends.len();
        let settings = ShardSettings {
            cpus: &options.cpus,
            keep_alive: options.scrape.keep_alive,
            tolerance_ns: options.scrape.timestamp_tolerance.map_or(0, |d| d.as_nanos() as i64),
            engine: engine.name,
        };
        let shards = Shards::spawn(ends, settings)?;
        let manager = Manager::new(
            manager::Options {
                fqdn,
                discovery_reload_interval: options.scrape.discovery_reload_interval,
                placement_interval: options.scrape.placement_interval,
            },
            Box::new(ShardOutlet {
                outboxes: shards.outboxes.clone(),
                stats: shards.stats.clone(),
                disk: Arc::clone(disk.stats()),
            }),
        );
        tracing::info!(engine = engine.name, why = engine.why, shards = count, descriptors = files.now, "started");
        for note in &options.notes {
            tracing::info!("{note}");
        }
        let now = Now::read();
        let web_settings = options.web.clone();
        let control = Arc::new(Control {
            options,
            engine: engine.clone(),
            started_ns: now.wall_ns,
            manager: Arc::new(manager),
            discovery: Arc::new(Discovery::new(now.mono_ns ^ now.wall_ns as u64)),
            remote,
            disk,
            stats: shards.stats.clone(),
            names: shards.names.clone(),
            stopping: AtomicBool::new(false),
            stop: Notify::new(),
            reloading: tokio::sync::Mutex::new(()),
            watch,
            loaded: Mutex::new(LoadState::default()),
        });
        let web = Web::new(web_settings, Arc::clone(&control) as Arc<dyn Appliance>);
        let (updates_in, updates) = tokio::sync::mpsc::channel(UPDATES_WAITING);
        let process = Self { control, shards, server: Some(server), web, updates, updates_in, engine };
        process.control.apply(found).await?;
        Ok(process)
    }

    /// Where the web server listens.
    #[must_use]
    pub fn addresses(&self) -> Vec<std::net::SocketAddr> {
        self.server.as_ref().map_or_else(Vec::new, Server::addresses)
    }

    /// Serves until a signal or `/-/quit`, then stops. A second signal ends the process at once.
    pub async fn serve_until_stopped(mut self, signals: Signals) {
        let Signals { hangups, mut stops } = signals;
        let control = Arc::clone(&self.control);
        let Some(server) = self.server.take() else { return };
        for address in server.addresses() {
            tracing::info!(%address, "listening");
        }
        let closing = Arc::new(Notify::new());
        let web_stop = Arc::clone(&closing);
        let web = tokio::spawn(server.run(Arc::clone(&self.web), async move { web_stop.notified().await }));
        let (_nothing, empty) = tokio::sync::mpsc::channel(1);
        let updates = std::mem::replace(&mut self.updates, empty);
        let updates_in = self.updates_in.clone();
        let manager = Arc::clone(&control.manager);
        let discovery = Arc::clone(&control.discovery);
        let managing = tokio::spawn(async move { manager.run(updates).await });
        let discovering = tokio::spawn(async move { discovery.run(updates_in).await });
        tokio::spawn(reload::on_hangup(Arc::clone(&control), hangups));
        tokio::spawn(reload::on_change(Arc::clone(&control)));
        tokio::spawn(report_alarms(Arc::clone(&control)));
        tokio::select! {
            () = stops.wish() => {}
            () = control.stop.notified() => {}
        }
        control.stopping.store(true, Ordering::Relaxed);
        tokio::spawn(signals::end_on_second());
        discovering.abort();
        self.stop().await;
        managing.abort();
        closing.notify_one();
        let _ = web.await;
        tracing::info!("stopped");
    }

    /// From the top down: no new targets, shards flush and end, the journal is sealed, remote write drains.
    async fn stop(self) {
        let control = self.control;
        tracing::info!("stopping: scrapes end, then remote write drains");
        control.discovery.stop();
        control.manager.stop().await;
        let shards = self.shards;
        let drain = control.options.flush_deadline;
        let ended = tokio::task::spawn_blocking(move || {
            shards.join();
            // What the shards handed over is being written meanwhile; the disk is last, since it saves the positions.
            control.remote.stop(drain);
            if !control.disk.stop() {
                tracing::error!("the disk did not take the last samples; see the alarms above");
            }
        });
        let _ = ended.await;
    }
}

/// Logs each alarm of the disk once when it begins, and once when it ends.
async fn report_alarms(control: Arc<Control>) {
    let mut standing: Vec<journal::Alarm> = Vec::new();
    loop {
        tokio::time::sleep(CARE).await;
        let now = control.disk.alarms(Now::read());
        for alarm in now.iter().filter(|a| !standing.contains(a)) {
            tracing::error!(shard = alarm.shard, "{}", alarm.text);
        }
        for alarm in standing.iter().filter(|a| !now.contains(a)) {
            tracing::info!(shard = alarm.shard, "over: {}", alarm.text);
        }
        standing = now;
    }
}

/// As many shards as the load needs, at most what the host allows. Targets of file discovery are guessed from the sizes of
/// the files; a process whose load grows far beyond that needs a restart or `--shards`.
fn shards_for(config: &Config) -> u32 {
    let rate: f64 = config
        .scrape_configs
        .iter()
        .map(|job| {
            let listed: usize = job.static_configs.iter().map(|g| g.targets.len()).sum();
            let found: usize = job.file_sd_configs.iter().flat_map(|f| &f.files).map(|p| targets_in(p)).sum();
            (listed + found) as f64 / job.scrape_interval.as_secs_f64().max(0.001)
        })
        .sum();
    let needed = (rate / SCRAPES_PER_SHARD).ceil().max(1.0) as usize;
    needed.min(Allowance::read().shards_max()) as u32
}

/// About how many targets the files of a pattern list.
fn targets_in(pattern: &str) -> usize {
    /// An address with quotes and separator, and its share of labels.
    const BYTES_PER_TARGET: u64 = 40;
    let sizes =
        crate::config::glob::glob(pattern).unwrap_or_default().into_iter().filter_map(|f| std::fs::metadata(f).ok());
    sizes.map(|m| (m.len() / BYTES_PER_TARGET) as usize).sum()
}

fn disk_options(options: &Options, shards: u32) -> journal::Options {
    let sync = match options.sync {
        cli::Sync::Batch => journal::SyncMode::Batch,
        cli::Sync::Every(d) => journal::SyncMode::Every(d.as_nanos() as u64),
        cli::Sync::Os => journal::SyncMode::Os,
    };
    let default = Retention::default();
    let retention = Retention {
        time_ms: options.retention_time.map(|d| d.as_millis() as i64).or(default.time_ms),
        size_bytes: options.retention_size_bytes.or(default.size_bytes),
    };
    let journal = options.storage_path.join("journal");
    journal::Options { sync, retention, ..journal::Options::new(journal, shards, journal::boot_id()) }
}
