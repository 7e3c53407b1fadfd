//! A scenario: a farm, how often it is scraped, and what happens meanwhile; read from `perf/scenarios/*.toml`.

use std::path::Path;
use std::time::Duration;

use ringscrape::farm::{Farm, Manner, Source, Spec};
use serde::Deserialize;

use crate::networks::Networks;

/// One scenario.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without its ending.
    #[serde(skip)]
    pub name: String,
    /// One line for people.
    pub about: String,
    /// Of each target.
    pub interval_ms: u64,
    /// The interval, when it is not given.
    #[serde(default)]
    pub timeout_ms: Option<u64>,
    /// After all targets are scraped and before measuring.
    #[serde(default = "warmup")]
    pub warmup_s: u64,
    /// Measured time.
    #[serde(default = "window")]
    pub window_s: u64,
    /// Numbers of targets: one run with each, the populations scaled to it. Empty: one run as the farm is written.
    #[serde(default)]
    pub at: Vec<u32>,
    /// The farm is written for so many CPUs, and scaled to those that there are.
    #[serde(default)]
    pub for_cpus: Option<u32>,
    /// Forward by remote write.
    #[serde(default = "yes")]
    pub remote_write: bool,
    /// Peers are run with up to so many targets; 0: ringscrape only.
    #[serde(default = "peer_targets")]
    pub peer_targets_max: u32,
    /// Belongs to `perf compare` without names.
    #[serde(default)]
    pub in_comparison: bool,
    /// Flags of ringscrape, beside those of the command line.
    #[serde(default)]
    pub flags: Vec<String>,
    /// CPUs' worth of time that the scraper may use.
    #[serde(default)]
    pub cpu_quota: Option<f64>,
    /// Processes that burn CPU beside it.
    #[serde(default)]
    pub busy_neighbours: u32,
    /// The farm is in a network of its own behind a pair of veth devices.
    #[serde(default)]
    pub netns: bool,
    /// Ask for a page of targets once a second.
    #[serde(default)]
    pub ask_targets: bool,
    /// What happens meanwhile.
    #[serde(default, rename = "event")]
    pub events: Vec<Event>,
    /// Who is scraped.
    pub farm: Spec,
}

/// Something that happens during the measured time.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// From the beginning of the measured time.
    pub at_s: u64,
    /// What.
    pub act: Act,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// SIGHUP after a job without targets was added to the file.
    Reload,
    /// SIGTERM, and started again when it has ended.
    Restart,
    /// SIGKILL, and started again.
    Kill,
    /// So many percent of the entries of the target list get another label.
    RelabelPercent(f64),
    /// The receiver of remote write answers 503 for so long.
    ReceiverDownS(u64),
}

impl Scenario {
    /// Reads one by name from a folder.
    pub fn named(folder: &Path, name: &str) -> Result<Self, String> {
        let path = folder.join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&path).map_err(|e| {
            let known: Vec<String> = Self::all(folder).unwrap_or_default().into_iter().map(|s| s.name).collect();
            format!("{}: {e}; known: {}", path.display(), known.join(", "))
        })?;
        Self::parse(name, &text).map_err(|e| format!("{}: {e}", path.display()))
    }

    /// All of a folder, by name.
    pub fn all(folder: &Path) -> Result<Vec<Self>, String> {
        let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let mut names: Vec<String> =
            entries.filter_map(|e| Some(e.ok()?.file_name().to_str()?.strip_suffix(".toml")?.to_owned())).collect();
        names.sort();
        names.iter().map(|name| Self::named(folder, name)).collect()
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut scenario: Self = toml::from_str(text).map_err(|e| e.to_string())?;
        scenario.name = name.to_owned();
        let wrong = |what: &str| Err(what.to_owned());
        if scenario.interval_ms == 0 || scenario.window_s == 0 {
            return wrong("interval_ms and window_s are at least 1");
        }
        if scenario.events.iter().any(|e| e.at_s >= scenario.window_s) {
            return wrong("an event happens within window_s");
        }
        if scenario.at.contains(&0) || scenario.for_cpus == Some(0) {
            return wrong("at and for_cpus are at least 1");
        }
        scenario.farm.check()?;
        Ok(scenario)
    }

    /// The runs it asks for: one for each number of [`Scenario::at`], or one.
    pub fn runs(&self) -> Vec<Self> {
        if self.at.is_empty() {
            let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as f64;
            let share = self.for_cpus.map_or(1.0, |wanted| cpus / f64::from(wanted));
            return vec![self.scaled(share)];
        }
        self.at.iter().map(|&n| self.with_targets(n)).collect()
    }

    /// The same with so many targets in all.
    pub fn with_targets(&self, targets: u32) -> Self {
        self.scaled(f64::from(targets) / f64::from(self.farm.targets()))
    }

    /// The same with the farm in a network of its own. Its figures are not those of the scenario, so neither is its name.
    pub fn with_netns(&self) -> Self {
        if self.netns {
            self.clone()
        } else {
            Self { name: format!("{}-netns", self.name), netns: true, ..self.clone() }
        }
    }

    fn scaled(&self, share: f64) -> Self {
        let mut scaled = self.clone();
        for p in &mut scaled.farm.populations {
            p.targets = ((f64::from(p.targets) * share).round() as u32).max(1);
        }
        scaled
    }

    /// Targets listed at any time.
    pub fn targets(&self) -> u32 {
        self.farm.targets()
    }

    /// Targets whose scrapes the farm answers.
    pub fn answering(&self) -> u32 {
        let mute = |m: Manner| matches!(m, Manner::Silent | Manner::BlackHole | Manner::Refusing | Manner::Reset);
        self.farm.populations.iter().filter(|p| !mute(p.manner)).map(|p| p.targets).sum()
    }

    /// Answers per second when every scrape happens.
    pub fn rate(&self) -> f64 {
        f64::from(self.answering()) * 1_000.0 / self.interval_ms as f64
    }

    /// Starts the farm, in its own network where there is one.
    pub fn farm(&self, port: u16, networks: Option<&Networks>) -> Result<Farm, String> {
        let mut spec = networks.map_or_else(|| Ok(self.farm.clone()), |n| n.with_farm(&self.farm))?;
        spec.port = port;
        if spec.populations.iter().any(|p| p.body == Source::NodeExporter) {
            let body: std::sync::Arc<str> = node_exporter_body()?.into();
            for p in spec.populations.iter_mut().filter(|p| p.body == Source::NodeExporter) {
                p.body = Source::Text(std::sync::Arc::clone(&body));
            }
        }
        Farm::spawn(spec).map_err(|e| format!("farm: {e}"))
    }
}

fn warmup() -> u64 {
    12
}

fn window() -> u64 {
    20
}

fn yes() -> bool {
    true
}

/// What a peer with the memory per target of today's holds in a few gigabytes.
fn peer_targets() -> u32 {
    20_000
}

/// One answer of a node_exporter that is started for the purpose.
fn node_exporter_body() -> Result<String, String> {
    let address = crate::peer::free_address()?;
    let mut child = std::process::Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={address}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|e| format!("prometheus-node-exporter: {e} (Debian package of the same name)"))?;
    let mut body = Err("prometheus-node-exporter does not answer".to_owned());
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        body = crate::peer::page(&address, "/metrics");
        if body.is_ok() {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    body
}

#[cfg(test)]
mod tests {
    use ringscrape::farm::{Population, Vary};

    use super::*;

    fn folder() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("perf/scenarios")
    }

    #[test]
    fn every_file_of_the_folder_is_a_scenario() {
        let all = Scenario::all(&folder()).unwrap();
        assert!(all.len() >= 20, "{}", all.len());
        let million = Scenario::named(&folder(), "million").unwrap();
        assert_eq!((million.targets(), million.interval_ms), (1_000_000, 60_000));
        assert!(Scenario::named(&folder(), "none").unwrap_err().contains("known: "));
        let apart = million.with_netns();
        assert_eq!((&*apart.name, apart.netns, apart.with_netns() == apart), ("million-netns", true, true));
    }

    #[test]
    fn a_fifth_of_the_fleet_is_asked_over_tls() {
        let fleet = Scenario::named(&folder(), "fleet").unwrap();
        let share = |is: fn(&Population) -> bool| {
            let some = fleet.farm.populations.iter().filter(|p| is(p));
            f64::from(some.map(|p| p.targets).sum::<u32>()) / f64::from(fleet.targets())
        };
        assert_eq!(fleet.targets(), 300_000);
        assert_eq!((share(|p| p.tls), share(|p| p.vary == Vary::Unshared)), (0.2, 0.6));
    }

    #[test]
    fn populations_are_scaled_together() {
        let text = "about = 'x'\ninterval_ms = 1000\nat = [10, 1000]\n[farm]\n[[farm.population]]\nname = 'a'\n\
                    targets = 90\nbody = { samples = 1 }\n[[farm.population]]\nname = 'b'\ntargets = 10\n\
                    body = { samples = 1 }\nmanner = 'black_hole'\n";
        let runs = Scenario::parse("x", text).unwrap().runs();
        let counts: Vec<_> = runs.iter().map(|r| (r.targets(), r.answering(), r.rate())).collect();
        assert_eq!(counts, [(10, 9, 9.0), (1_000, 900, 900.0)]);
        let late = format!("window_s = 5\nevent = [{{ at_s = 5, act = 'reload' }}]\n{text}");
        assert!(Scenario::parse("x", &late).unwrap_err().contains("within window_s"));
        assert!(Scenario::parse("x", &text.replace("interval_ms", "interval")).is_err());
    }
}
