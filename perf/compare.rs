//! `perf compare`: the same farm and sink for every scraper, one after the other, ratios in one run.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use ringscrape::farm::Farm;

use crate::cgroup::Cgroup;
use crate::peer::{Kind, Peer, Run, Running};
use crate::scenario::{self, Scenario};
use crate::sink;

/// Share of the wanted rate that counts as all of it.
const RATE_SHARE: f64 = 0.98;
/// Longest time a scraper may take until it scrapes all targets.
const STEADY_WITHIN: Duration = Duration::from_secs(60);

/// Arguments of `perf compare`.
#[derive(Args)]
pub struct Compare {
    /// Scenarios by name; all when none is given.
    scenarios: Vec<String>,
    /// Our binary.
    #[arg(long, default_value = "target/release/ringscrape")]
    ringscrape: String,
    /// Another scraper, `name=path`; Debian's vmagent and prometheus are taken when none is given.
    #[arg(long = "peer")]
    peers: Vec<String>,
    /// Measured seconds of each run, after warming up.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Warm-up, in seconds.
    #[arg(long, default_value_t = 12)]
    warmup: u64,
    /// Scratch directory.
    #[arg(long, default_value = "target/perf")]
    scratch: PathBuf,
    /// Append the rows to this CSV.
    #[arg(long)]
    record: Option<PathBuf>,
}

/// What one run used.
struct Row {
    peer: String,
    version: String,
    wanted_per_s: f64,
    scrapes_per_s: f64,
    cpu_us: f64,
    rss_mib: f64,
    cgroup_mib: Option<f64>,
    wire_bytes_per_scrape: f64,
}

impl Compare {
    /// Runs everything asked for.
    pub fn run(&self) -> Result<(), String> {
        let scenarios: Vec<Scenario> = if self.scenarios.is_empty() {
            scenario::ALL.to_vec()
        } else {
            self.scenarios.iter().map(|n| scenario::named(n)).collect::<Result<_, _>>()?
        };
        let peers = self.all_peers()?;
        for s in &scenarios {
            println!("\n{}: {} ({:.0} scrapes/s)", s.name, s.about, s.rate());
            println!(
                "  {:<22} {:>10} {:>12} {:>10} {:>12} {:>12}",
                "scraper", "scrapes/s", "us/scrape", "RSS MiB", "cgroup MiB", "wire B"
            );
            let mut rows = Vec::new();
            for p in &peers {
                match self.measure(s, p) {
                    Ok(row) => {
                        println!("  {}", row.text());
                        rows.push(row);
                    }
                    Err(e) => println!("  {:<22} failed: {e}", p.name),
                }
            }
            print_ratios(&rows);
            self.append(s, &rows)?;
        }
        Ok(())
    }

    fn all_peers(&self) -> Result<Vec<Peer>, String> {
        let mut all = vec![Peer::new(
            "ringscrape",
            &std::path::absolute(&self.ringscrape).map_err(|e| e.to_string())?.to_string_lossy(),
        )?];
        for p in &self.peers {
            let (name, path) = p.split_once('=').ok_or_else(|| format!("--peer {p}: wants name=path"))?;
            all.push(Peer::new(name, path)?);
        }
        if self.peers.is_empty() {
            for (name, path) in [("vmagent", "/usr/bin/vmagent"), ("prometheus-agent", "/usr/bin/prometheus")] {
                if std::path::Path::new(path).exists() {
                    all.push(Peer::new(name, path)?);
                } else {
                    println!("SKIP {name}: {path} is not installed");
                }
            }
        }
        Ok(all)
    }

    fn measure(&self, s: &Scenario, peer: &Peer) -> Result<Row, String> {
        let farm = s.farm(0)?;
        let (sink_port, received) = sink::spawn().map_err(|e| format!("sink: {e}"))?;
        let scratch = std::path::absolute(&self.scratch).map_err(|e| e.to_string())?;
        let dir = scratch.join(format!("{}-{}", s.name, peer.name));
        let group = Cgroup::new(&peer.name);
        let run = Run {
            dir: &dir,
            targets: s.targets,
            farm_port: farm.port,
            sink_port,
            interval_ms: s.interval_ms,
            door: group.as_ref().map(Cgroup::door),
        };
        let mut running = peer.start(&run)?;
        await_steady(s, &farm, &mut running).map_err(|e| format!("{e}; see {}/log", dir.display()))?;
        std::thread::sleep(Duration::from_secs(self.warmup.max(s.interval_ms * 2 / 1000)));
        let seconds = self.seconds.max(s.interval_ms * 2 / 1000);
        let (start, cpu, served) = (Instant::now(), running.cpu_us(), farm.served());
        let bytes = received.bytes.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_secs(seconds));
        if !running.is_alive() {
            return Err(format!("it ended by itself; see {}/log", dir.display()));
        }
        let scrapes = (farm.served() - served) as f64;
        if received.bytes.load(Ordering::Relaxed) == bytes {
            return Err(format!("it wrote nothing to the sink; see {}/log", dir.display()));
        }
        Ok(Row {
            peer: peer.name.clone(),
            wanted_per_s: s.rate(),
            version: if peer.kind == Kind::Ringscrape { env!("CARGO_PKG_VERSION").into() } else { peer.version() },
            scrapes_per_s: scrapes / start.elapsed().as_secs_f64(),
            cpu_us: (running.cpu_us() - cpu) / scrapes,
            rss_mib: running.rss_bytes() as f64 / 1_048_576.0,
            cgroup_mib: group.as_ref().and_then(Cgroup::bytes).map(|b| b as f64 / 1_048_576.0),
            wire_bytes_per_scrape: (received.bytes.load(Ordering::Relaxed) - bytes) as f64 / scrapes,
        })
    }

    fn append(&self, s: &Scenario, rows: &[Row]) -> Result<(), String> {
        let Some(path) = &self.record else { return Ok(()) };
        let mut text = std::fs::read_to_string(path).unwrap_or_default();
        if text.is_empty() {
            text.push_str("scenario,scraper,version,kernel,cpus,scrapes_per_s,cpu_us_per_scrape,rss_mib,cgroup_mib,wire_bytes_per_scrape\n");
        }
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        for r in rows {
            let group = r.cgroup_mib.map_or_else(String::new, |m| format!("{m:.1}"));
            let _ = writeln!(
                text,
                "{},{},\"{}\",{},{cpus},{:.1},{:.2},{:.1},{group},{:.0}",
                s.name,
                r.peer,
                r.version.replace('"', "'"),
                kernel.trim(),
                r.scrapes_per_s,
                r.cpu_us,
                r.rss_mib,
                r.wire_bytes_per_scrape
            );
        }
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    }
}

impl Row {
    fn text(&self) -> String {
        let group = self.cgroup_mib.map_or_else(|| "-".into(), |m| format!("{m:.1}"));
        let behind = if self.scrapes_per_s < self.wanted_per_s * RATE_SHARE { "  does not keep up" } else { "" };
        format!(
            "{:<22} {:>10.0} {:>12.1} {:>10.1} {:>12} {:>12.0}{behind}",
            self.peer, self.scrapes_per_s, self.cpu_us, self.rss_mib, group, self.wire_bytes_per_scrape
        )
    }
}

/// Waits until the scraper has found all targets: discovery delays and spread first scrapes differ from one to another.
/// One that never gets there is measured as it is, and its row says so.
fn await_steady(s: &Scenario, farm: &Farm, running: &mut Running) -> Result<(), String> {
    let begun = Instant::now();
    let mut before = farm.served();
    while begun.elapsed() < STEADY_WITHIN {
        std::thread::sleep(Duration::from_millis(s.interval_ms));
        if !running.is_alive() {
            return Err("it ended by itself".into());
        }
        let now = farm.served();
        if (now - before) as f64 >= f64::from(s.targets) * RATE_SHARE {
            return Ok(());
        }
        before = now;
    }
    if farm.served() == 0 { Err("it scraped nothing".into()) } else { Ok(()) }
}

/// Ours against the best of each column.
fn print_ratios(rows: &[Row]) {
    let Some((ours, peers)) = rows.split_first().filter(|(ours, peers)| ours.peer == "ringscrape" && !peers.is_empty())
    else {
        return;
    };
    let least = |f: fn(&Row) -> f64| peers.iter().map(f).fold(f64::INFINITY, f64::min);
    println!(
        "  ratio to the best peer: CPU 1/{:.1}, RSS 1/{:.1}",
        least(|r| r.cpu_us) / ours.cpu_us,
        least(|r| r.rss_mib) / ours.rss_mib
    );
}
