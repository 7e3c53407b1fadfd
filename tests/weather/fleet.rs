//! A few hundred counting targets, their receiver, and what arrived of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::answer::Answer;
use crate::support::http;
use crate::support::process::Scraper;
use crate::support::receiver::{Labels, Receiver};
use crate::support::target::TargetServer;

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// Samples of a target.
const SAMPLES: usize = 8;

/// The ringscrape under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ringscrape"))
}

/// Now, ms since the epoch.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Waits until `holds`, or fails with what it waited for.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Targets with a receiver, in a directory of their own.
pub struct Fleet {
    pub dir: tempfile::TempDir,
    pub server: TargetServer,
    pub receiver: Receiver,
    pub targets: usize,
    pub interval_ms: i64,
}

/// The scrapes of one target that the receiver knows, by time in ms; whether it was up.
pub type Sightings = BTreeMap<i64, bool>;

impl Fleet {
    /// Starts targets and receiver; the configuration scrapes each target so often.
    pub fn new(targets: usize, interval_ms: i64) -> Fleet {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let scripts = (0..targets).map(|n| (format!("/{n}"), vec![Answer::count(SAMPLES)])).collect();
        let (server, receiver) = (TargetServer::start(scripts), Receiver::start());
        let mut yaml = format!(
            "global: {{scrape_interval: {interval_ms}ms, scrape_timeout: {interval_ms}ms}}\nremote_write:\n\
             - url: http://{}/api/v1/write\n  queue_config: {{batch_send_deadline: 200ms, max_backoff: 200ms}}\n\
             scrape_configs:\n- job_name: j\n  static_configs:\n",
            receiver.addr
        );
        for n in 0..targets {
            let line =
                format!("{{targets: ['{}'], labels: {{__metrics_path__: /x/{n}, path: '/x/{n}'}}}}", server.addr);
            yaml.push_str(&format!("  - {line}\n"));
        }
        std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
        std::fs::create_dir(dir.path().join("data")).expect("the directory is ours");
        Fleet { dir, server, receiver, targets, interval_ms }
    }

    /// Starts the binary on it and waits until the receiver knows all targets.
    pub fn scraped(&self, more: &[&str]) -> Scraper {
        let scraper = self.started(more);
        until("the first scrape of every target", || self.sightings().len() == self.targets);
        scraper
    }

    /// Starts the binary on it.
    pub fn started(&self, more: &[&str]) -> Scraper {
        let more: Vec<String> = more.iter().map(|m| (*m).to_owned()).collect();
        Scraper::start(&binary(), self.dir.path(), &more)
    }

    /// What the receiver knows, by path.
    pub fn sightings(&self) -> BTreeMap<String, Sightings> {
        let mut all: BTreeMap<String, Sightings> = BTreeMap::new();
        self.receiver.with_log(|log| {
            for (labels, points) in log.iter().filter(|(l, _)| label(l, "__name__") == "up") {
                let times = points.iter().map(|p| (p.time_ms, p.bits == 1f64.to_bits()));
                all.entry(label(labels, "path").to_owned()).or_default().extend(times);
            }
        });
        all
    }

    /// How late scrapes were that were due in `[from, to)`, and what was wrong: missing or twice in an interval, or down.
    pub fn punctuality(&self, (from, to): (i64, i64)) -> Punctuality {
        let mut found = Punctuality::default();
        for (path, sightings) in self.sightings() {
            let phase = phase(&sightings, self.interval_ms);
            let first = (from - phase).div_euclid(self.interval_ms) + 1;
            let last = (to - phase).div_euclid(self.interval_ms);
            for due in (first..last).map(|n| n * self.interval_ms + phase) {
                let mut here = sightings.range(due..due + self.interval_ms);
                match (here.next(), here.next()) {
                    (None, _) => found.faults.push(format!("{path}: no scrape at {due}, {} ms in", due - from)),
                    (Some(_), Some(_)) => {
                        found.faults.push(format!("{path}: two scrapes within one interval at {due}"))
                    }
                    (Some((_, false)), None) => found.faults.push(format!("{path}: down at {due}")),
                    (Some((at, true)), None) => found.late_ms.push(at - due),
                }
            }
        }
        found.late_ms.sort_unstable();
        found
    }

    /// Waits until the receiver has every scrape that targets answered before that instant, with its number.
    pub fn until_all_arrived(&self, before: Instant) {
        until("every scrape at the receiver", || self.missing(before, |_| false).is_empty());
    }

    /// Samples that the receiver got more than once.
    pub fn repeated(&self) -> Vec<String> {
        let mut repeated = Vec::new();
        self.receiver.with_log(|log| {
            for (labels, points) in log {
                let mut times: Vec<i64> = points.iter().map(|p| p.time_ms).collect();
                times.sort_unstable();
                let twice = times.windows(2).filter(|w| w[0] == w[1]);
                repeated.extend(twice.map(|w| format!("{labels:?} at {}", w[0])));
            }
        });
        repeated
    }

    /// Answers sent before that instant that the receiver has not got, except those that are excused.
    pub fn missing(&self, before: Instant, is_excused: impl Fn(Instant) -> bool) -> Vec<String> {
        let mut numbers: BTreeMap<String, BTreeMap<usize, usize>> = BTreeMap::new();
        self.receiver.with_log(|log| {
            for (labels, points) in log.iter().filter(|(l, _)| label(l, "__name__") == "counted") {
                let path = numbers.entry(label(labels, "path").to_owned()).or_default();
                let mut seen: Vec<usize> = points.iter().map(|p| f64::from_bits(p.bits) as usize).collect();
                seen.sort_unstable();
                seen.dedup();
                seen.into_iter().for_each(|n| *path.entry(n).or_default() += 1);
            }
        });
        let sent = self.server.counted();
        let wanted = sent.iter().filter(|c| c.at < before && !is_excused(c.at));
        let has = |path: &str, n: usize| numbers.get(path).and_then(|p| p.get(&n)).is_some_and(|&s| s == SAMPLES);
        wanted.filter(|c| !has(&c.path, c.number)).map(|c| format!("{} #{}", c.path, c.number)).collect()
    }
}

/// See [`Fleet::punctuality`].
#[derive(Default)]
pub struct Punctuality {
    /// Sorted.
    pub late_ms: Vec<i64>,
    pub faults: Vec<String>,
}

impl Punctuality {
    /// The latest scrape.
    pub fn max_ms(&self) -> i64 {
        self.late_ms.last().copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Punctuality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = |q: f64| self.late_ms.get((self.late_ms.len() as f64 * q) as usize).copied().unwrap_or(0);
        write!(
            f,
            "{} scrapes, {} faults, late p50 {} p99 {} max {} ms",
            self.late_ms.len(),
            self.faults.len(),
            at(0.5),
            at(0.99),
            self.max_ms()
        )
    }
}

/// Where in the interval a target is due: late scrapes differ from one another, punctual ones do not.
fn phase(sightings: &Sightings, interval_ms: i64) -> i64 {
    let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
    for time in sightings.keys() {
        *counts.entry(time.rem_euclid(interval_ms)).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(_, n)| n).map_or(0, |(phase, _)| phase)
}

fn label<'l>(labels: &'l Labels, name: &str) -> &'l str {
    labels.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
}

/// Sum of a family in what the appliance says about itself right now.
pub fn metric(scraper: &Scraper, name: &str) -> f64 {
    let (status, body) = http::fetch(scraper.port, "/metrics", Duration::from_secs(5)).expect("the web answers");
    assert!(status.contains(" 200 "), "{status}");
    let is_of_family = |l: &&str| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
    let values = body.lines().filter(is_of_family).map(|l| l.rsplit(' ').next().and_then(|v| v.parse::<f64>().ok()));
    let values: Vec<f64> = values.map(|v| v.expect("a sample ends in its value")).collect();
    assert!(!values.is_empty(), "{name} is not exposed");
    values.iter().sum()
}
