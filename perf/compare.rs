//! `perf run` and `perf compare`: scenarios with ringscrape alone, or with its peers in turn on the same farm.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::bench::{self, Manner};
use crate::host::Host;
use crate::peer::Peer;
use crate::record::{self, Group, OURS, Row};
use crate::scenario::Scenario;

/// Arguments that both have.
#[derive(Args)]
pub struct Common {
    /// Scenarios by name; `perf scenarios` lists them.
    scenarios: Vec<String>,
    /// Our binary.
    #[arg(long, default_value = "target/release/ringscrape")]
    ringscrape: String,
    /// Folder of the scenarios.
    #[arg(long, default_value = "perf/scenarios")]
    folder: PathBuf,
    /// Scale the farm to so many targets.
    #[arg(long)]
    targets: Option<u32>,
    /// Measured seconds of each run instead of the scenario's.
    #[arg(long)]
    seconds: Option<u64>,
    /// Seconds of warming up instead of the scenario's.
    #[arg(long)]
    warmup: Option<u64>,
    /// The farm stands in a network namespace of its own, behind veth devices; needs root. Rows are named NAME-netns.
    #[arg(long)]
    netns: bool,
    /// Scratch directory.
    #[arg(long, default_value = "target/perf")]
    scratch: PathBuf,
    /// Append the rows to this CSV.
    #[arg(long)]
    record: Option<PathBuf>,
    /// One more argument for ringscrape, repeatable: `--flag=--engine=epoll`.
    #[arg(long = "flag")]
    flags: Vec<String>,
}

/// Arguments of `perf compare`.
#[derive(Args)]
pub struct Compare {
    #[command(flatten)]
    common: Common,
    /// Another scraper, `name=path`, repeatable; Debian's vmagent and prometheus are taken when none is given.
    #[arg(long = "peer")]
    peers: Vec<String>,
    /// Run each peer also with the settings that its documentation recommends.
    #[arg(long)]
    tuned: bool,
    /// All of it so often, interleaved; medians are compared.
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

impl Common {
    /// `perf run`: ringscrape alone.
    pub fn run_alone(&self) -> Result<(), String> {
        if self.scenarios.is_empty() {
            return Err("name a scenario; `perf scenarios` lists them".to_owned());
        }
        let ours = Peer::new(OURS, &self.ringscrape)?;
        let host = Host::read();
        let mut failures = Vec::new();
        for scenario in self.runs(|_| true)? {
            print_head(&scenario);
            match bench::measure(&scenario, &ours, &host, &self.manner()) {
                Ok(row) => {
                    print_row(&row);
                    print_own(&row);
                    self.append(&[row])?;
                }
                Err(e) => failures.push(format!("{}: {e}", scenario.name)),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("\n")) }
    }

    fn manner(&self) -> Manner {
        Manner {
            scratch: self.scratch.clone(),
            window_s: self.seconds,
            warmup_s: self.warmup,
            flags: self.flags.clone(),
        }
    }

    /// The runs of the named scenarios, or of all that `else_those` takes.
    fn runs(&self, else_those: impl Fn(&Scenario) -> bool) -> Result<Vec<Scenario>, String> {
        let scenarios: Vec<Scenario> = if self.scenarios.is_empty() {
            Scenario::all(&self.folder)?.into_iter().filter(else_those).collect()
        } else {
            self.scenarios.iter().map(|n| Scenario::named(&self.folder, n)).collect::<Result<_, _>>()?
        };
        let scenarios = scenarios.into_iter().map(|s| if self.netns { s.with_netns() } else { s });
        Ok(scenarios.flat_map(|s| self.targets.map_or_else(|| s.runs(), |n| vec![s.with_targets(n)])).collect())
    }

    fn append(&self, rows: &[Row]) -> Result<(), String> {
        self.record.as_ref().map_or(Ok(()), |path| record::append(path, rows))
    }
}

impl Compare {
    /// Runs everything asked for.
    pub fn run(&self) -> Result<(), String> {
        let scrapers = self.scrapers()?;
        let host = Host::read();
        for scenario in self.common.runs(|s| s.in_comparison)? {
            print_head(&scenario);
            let mut rows = Vec::new();
            for _ in 0..self.rounds {
                for scraper in &scrapers {
                    if scraper.name != OURS && scenario.targets() > scenario.peer_targets_max {
                        println!("  {:<24} left out: more than {} targets", scraper.name, scenario.peer_targets_max);
                        continue;
                    }
                    match bench::measure(&scenario, scraper, &host, &self.common.manner()) {
                        Ok(row) => {
                            print_row(&row);
                            rows.push(row);
                        }
                        Err(e) => println!("  {:<24} failed: {e}", scraper.name),
                    }
                }
            }
            self.common.append(&rows)?;
            for group in record::grouped("", rows) {
                print_ratios(&group);
            }
        }
        Ok(())
    }

    fn scrapers(&self) -> Result<Vec<Peer>, String> {
        let mut all = vec![Peer::new(OURS, &self.common.ringscrape)?];
        let mut peers = Vec::new();
        for p in &self.peers {
            let (name, path) = p.split_once('=').ok_or_else(|| format!("--peer {p}: wants name=path"))?;
            peers.push(Peer::new(name, path)?);
        }
        if self.peers.is_empty() {
            for (name, path) in [("vmagent", "/usr/bin/vmagent"), ("prometheus-agent", "/usr/bin/prometheus")] {
                if Path::new(path).exists() {
                    peers.push(Peer::new(name, path)?);
                } else {
                    println!("SKIP {name}: {path} is not installed");
                }
            }
        }
        for peer in peers {
            let tuned = self.tuned.then(|| peer.tuned());
            all.push(peer);
            all.extend(tuned);
        }
        Ok(all)
    }
}

fn print_head(s: &Scenario) {
    println!("\n{}: {} ({} targets, {:.1} answers/s)", s.name, s.about, s.targets(), s.rate());
    println!(
        "  {:<24} {:>10} {:>10} {:>7} {:>9} {:>10} {:>10} {:>9}",
        "scraper", "scrapes/s", "us/scrape", "cores", "RSS MiB", "cgroup MiB", "kernel MiB", "wire B"
    );
}

fn print_row(r: &Row) {
    let shown = |f: Option<f64>, digits: usize| f.map_or_else(|| "-".to_owned(), |f| format!("{f:.digits$}"));
    println!(
        "  {:<24} {:>10} {:>10} {:>7} {:>9} {:>10} {:>10} {:>9}{}",
        r.scraper,
        shown(r.scrapes_per_s, 0),
        shown(r.cpu_us_per_scrape, 1),
        shown(r.cores, 3),
        shown(r.rss_mib, 1),
        shown(r.cgroup_mib, 1),
        shown(r.kernel_mib, 1),
        shown(r.wire_bytes_per_scrape, 0),
        if r.keeps_up() { "" } else { "  does not keep up" }
    );
}

/// The figures that only ringscrape gives.
fn print_own(r: &Row) {
    let figures = [
        ("samples/s", r.samples_per_s),
        ("late p50 <= ms", r.lateness_p50_ms),
        ("late p99.9 <= ms", r.lateness_p999_ms),
        ("late max <= ms", r.lateness_max_ms),
        ("missed", r.missed),
        ("failed", r.failed),
        ("all scheduled after s", r.start_s),
        ("CPU s of an event", r.event_cpu_s),
        ("page of targets p99 ms", r.targets_page_p99_ms),
        ("peak RSS MiB", r.peak_rss_mib),
        ("host's kernel MiB, both ends", r.host_kernel_mib),
    ];
    for (name, figure) in figures.iter().filter_map(|(n, f)| Some((n, (*f)?))) {
        println!("    {name:<30} {figure:.3}");
    }
}

/// Ours against the best of each column.
fn print_ratios(group: &Group) {
    let Some(ours) = group.ours() else { return };
    for (what, column) in [("CPU", "cpu_us_per_scrape"), ("RSS", "rss_mib"), ("wire bytes", "wire_bytes_per_scrape")] {
        if let (Some((peer, theirs)), Some(mine)) = (group.best_peer(column), ours.figure(column)) {
            println!("  {what}: 1/{:.1} of {}", theirs / mine, peer.scraper);
        }
    }
}
