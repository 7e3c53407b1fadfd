//! `ringscrape demo`: a farm of exporters in this process, scraped over real TCP by the very same [`Process`] as `run`.
//!
//! [`Fleet`] says how many targets there are, how each behaves, and writes the configuration they are found by;
//! [`Truth`] reads our own metrics every few seconds and turns them into lines. Invariants: every figure printed is read from
//! the running process; the farm's CPU time is not counted as ours, and the banner says so. Absent: remote write.

mod fleet;
mod truth;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::app::cli::{self, DemoArgs, Invocation, LogFormat, LogLevel, LogOptions, Options};
use crate::app::signals::Signals;
use crate::app::threads::{self, Engine};
use crate::app::{Process, descriptors, logging, print};
use crate::base::cpu::Allowance;
use crate::base::time::Now;
use crate::farm::{self, Farm};
use crate::web::Appliance;

use fleet::Fleet;
use truth::Truth;

/// Time between two lines, unless the whole run is shorter than two of them.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Time between two changes of the targets' file.
const CHURN_EVERY: Duration = Duration::from_secs(10);
/// Port of the farm when it is free.
const PORT: u16 = 9100;

/// Runs until Ctrl-C, or for the asked duration.
///
/// # Errors
/// Why it did not start, with the remedy.
pub fn run(arguments: &DemoArgs) -> Result<ExitCode, String> {
    logging::start(LogOptions { level: LogLevel::Warn, format: LogFormat::Logfmt });
    let engine = threads::choose(arguments.engine)?;
    let place = Place::of(arguments.storage_path.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| e.to_string())?;
    let text = runtime.block_on(async {
        let mut signals = Signals::listen();
        let fleet = Fleet::new(arguments.targets, arguments.interval)?;
        let limit = descriptors::raise().now;
        let farm = fleet.serve(PORT).or_else(|_| fleet.serve(0)).map_err(|e| format!("the farm cannot listen: {e}"))?;
        check_descriptors(&fleet, &engine, &farm, limit)?;
        let files = fleet::Files::write(&place.path, &fleet, &farm)?;
        let options = options(arguments, &place.path, &files)?;
        let Some(process) = Process::start(options, &mut signals.stops).await.map_err(|e| e.to_string())? else {
            return Ok("stopped before it began".to_owned());
        };
        banner(&process, &fleet, &place, &farm);
        Ok::<String, String>(live(process, signals, fleet, (farm, files), arguments.duration).await)
    });
    // A start that was given up cannot be broken off, and would be waited for.
    runtime.shutdown_background();
    print(&text?);
    Ok(ExitCode::SUCCESS)
}

/// Serves, says the truth and rewrites the targets' file until told to stop; returns the summary.
async fn live(
    process: Process,
    signals: Signals,
    fleet: Fleet,
    (farm, files): (Farm, fleet::Files),
    duration: Duration,
) -> String {
    let control = Arc::clone(&process.control);
    let farm = Arc::new(farm);
    let truth = Truth::new(Arc::clone(&control), Arc::clone(&farm), &fleet);
    if !duration.is_zero() {
        let control = Arc::clone(&control);
        tokio::spawn(async move {
            tokio::time::sleep(duration).await;
            control.quit();
        });
    }
    let every = if duration.is_zero() { LINE_EVERY } else { LINE_EVERY.min(duration / 2) };
    let lines = truth.clone();
    let telling = tokio::spawn(async move {
        loop {
            tokio::time::sleep(every).await;
            // While the shards stop, nobody answers for the targets.
            if lines.is_over() {
                return;
            }
            print(&lines.line(Now::read()).await);
        }
    });
    let churning = tokio::spawn(async move {
        for round in 1.. {
            tokio::time::sleep(CHURN_EVERY).await;
            if let Err(e) = files.write_targets(&fleet, round) {
                tracing::warn!("the targets' file stays as it is: {e}");
            }
        }
    });
    process.serve_until_stopped(signals).await;
    telling.abort();
    churning.abort();
    truth.summary(Now::read())
}

/// Where the data goes; a temporary place is removed in the end.
struct Place {
    path: PathBuf,
    is_temporary: bool,
}

impl Place {
    fn of(asked: Option<&Path>) -> Result<Self, String> {
        let own = || std::env::temp_dir().join(format!("ringscrape-demo-{}", std::process::id()));
        let path = asked.map_or_else(own, Path::to_path_buf);
        std::fs::create_dir_all(&path).map_err(|e| {
            format!("data directory {}: {e}; choose a writable one with --storage.path", path.display())
        })?;
        let path = path.canonicalize().map_err(|e| format!("data directory {}: {e}", path.display()))?;
        Ok(Self { path, is_temporary: asked.is_none() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.is_temporary {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// The options of `run` that the demo's command line amounts to.
fn options(arguments: &DemoArgs, data: &Path, files: &fleet::Files) -> Result<Options, String> {
    let engine = match arguments.engine {
        cli::EngineChoice::Auto => "auto",
        cli::EngineChoice::Uring => "uring",
        cli::EngineChoice::Epoll => "epoll",
    };
    let flags = [
        "ringscrape".to_owned(),
        "run".to_owned(),
        format!("--config.file={}", files.config.display()),
        format!("--storage.path={}", data.display()),
        format!("--web.listen-address={}", arguments.listen_address),
        format!("--engine={engine}"),
        "--log.level=warn".to_owned(),
    ];
    match cli::parse_from(flags).map_err(|e| e.to_string())? {
        Invocation::Run(options) => Ok(*options),
        other => unreachable!("`run` means {other:?}"),
    }
}

/// Refuses a fleet that cannot have a connection each.
fn check_descriptors(fleet: &Fleet, engine: &Engine, farm: &Farm, limit: u64) -> Result<(), String> {
    /// Listeners, files of the journal, web connections, rings.
    const OTHERS: u64 = 256;
    // Each end is a descriptor, unless a ring keeps it.
    let each = u64::from(engine.name == "epoll") + u64::from(farm.engine() == farm::Engine::Epoll);
    let wanted = u64::from(fleet.targets()) * each + OTHERS;
    if wanted <= limit {
        return Ok(());
    }
    Err(format!(
        "{} targets on {} need {wanted} open files and the limit is {limit}: use --targets {}, or raise the limit \
         (`ulimit -n {wanted}`, or LimitNOFILE= in a unit)",
        fleet.targets(),
        engine.name,
        limit.saturating_sub(OTHERS) / each.max(1)
    ))
}

fn banner(process: &Process, fleet: &Fleet, place: &Place, farm: &Farm) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let shards = process.control.stats.len();
    let cpus = Allowance::read().mask;
    print(&format!(
        "ringscrape {}  engine {} ({}; kernel {})  {shards} {} of {cpus} cpus  data {}{}",
        env!("CARGO_PKG_VERSION"),
        process.engine.name,
        process.engine.why,
        kernel.trim(),
        if shards == 1 { "shard" } else { "shards" },
        place.path.display(),
        if place.is_temporary { " (removed at the end; keep it with --storage.path)" } else { "" },
    ));
    print(&format!("farm: {}", fleet.sentence(farm.port)));
    print("cpu: this process without the farm's thread; memory: resident, farm included");
    let urls: Vec<String> = process.addresses().iter().map(|a| format!("http://{a}")).collect();
    print(&format!("open {}       stop with Ctrl-C\n", urls.join(" ")));
}
