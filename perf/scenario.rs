//! The populations that are measured: how many targets, which bodies, how often.

use std::time::Duration;

use ringscrape::farm::{self, Farm, Population, Spec, Vary};

/// Where the body of a scenario comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Synthetic, so many samples.
    Synthetic(u32),
    /// One answer of Debian's node_exporter, taken when the run starts.
    NodeExporter,
}

/// One row of the comparison.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// On the command line.
    pub name: &'static str,
    /// One line for people.
    pub about: &'static str,
    /// Distinct targets.
    pub targets: u32,
    /// Of each target, milliseconds.
    pub interval_ms: u64,
    /// Body.
    pub source: Source,
    /// How bodies vary.
    pub vary: Vary,
    /// Whether targets compress when asked.
    pub gzip: bool,
}

const fn node(name: &'static str, about: &'static str, vary: Vary, gzip: bool) -> Scenario {
    Scenario { name, about, targets: 1_000, interval_ms: 5_000, source: Source::NodeExporter, vary, gzip }
}

const fn small(name: &'static str, about: &'static str, targets: u32) -> Scenario {
    let source = Source::Synthetic(18);
    Scenario { name, about, targets, interval_ms: 2_000, source, vary: Vary::Identical, gzip: false }
}

/// All scenarios, in the order of reports.
pub const ALL: &[Scenario] = &[
    small("small-1000", "2,000 targets x 18 samples, 1,000 scrapes/s", 2_000),
    small("small-5000", "10,000 targets x 18 samples, 5,000 scrapes/s", 10_000),
    node("node", "1,000 targets x a node_exporter body, 200 scrapes/s", Vary::Identical, false),
    node("node-gzip", "the same, gzip", Vary::Identical, true),
    node("node-target-label", "the same, a per-target label on every line", Vary::TargetLabel, false),
    node("node-one-label", "the same, one label value changes each scrape", Vary::OneLabelChanges, false),
    node("node-all-labels", "the same, a label on every line changes each scrape", Vary::AllLabelsChange, false),
    node("node-random-order", "the same, families in random order", Vary::RandomOrder, false),
    node("node-unshared", "the same, nothing shared between targets", Vary::Unshared, false),
    Scenario {
        name: "idle",
        about: "10 targets x 18 samples every 15 s",
        targets: 10,
        interval_ms: 15_000,
        source: Source::Synthetic(18),
        vary: Vary::Identical,
        gzip: false,
    },
];

/// The scenario of this name.
pub fn named(name: &str) -> Result<Scenario, String> {
    let known = || ALL.iter().map(|s| s.name).collect::<Vec<_>>().join(", ");
    ALL.iter().copied().find(|s| s.name == name).ok_or_else(|| format!("no scenario {name:?}; known: {}", known()))
}

impl Scenario {
    /// Scrapes per second over all targets.
    pub fn rate(&self) -> f64 {
        f64::from(self.targets) * 1_000.0 / self.interval_ms as f64
    }

    /// Starts the farm.
    pub fn farm(&self, port: u16) -> Result<Farm, String> {
        let body = match self.source {
            Source::Synthetic(samples) => farm::Source::Samples(samples),
            Source::NodeExporter => farm::Source::Text(node_exporter_body()?.into()),
        };
        let mut population = Population::new(self.name, self.targets, body);
        (population.vary, population.gzip) = (self.vary, self.gzip);
        Farm::spawn(Spec { port, ..Spec::new(vec![population]) }).map_err(|e| format!("farm: {e}"))
    }
}

/// One answer of a node_exporter that is started for the purpose.
fn node_exporter_body() -> Result<String, String> {
    let address = "127.0.0.1:19101";
    let mut child = std::process::Command::new("prometheus-node-exporter")
        .arg(format!("--web.listen-address={address}"))
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .map_err(|e| format!("prometheus-node-exporter: {e} (Debian package of the same name)"))?;
    let mut body = Err("prometheus-node-exporter does not answer".to_owned());
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        body = crate::peer::get(address, "/metrics");
        if body.is_ok() {
            break;
        }
    }
    let _ = child.kill();
    let _ = child.wait();
    body
}
