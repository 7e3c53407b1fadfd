//! The processes of a session: the exporter, two scrapers of it, two receivers.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::read_back::{BY, instant};
use crate::rules::is_report;
use crate::support::peer::Peer;
use crate::support::process::{Scraper, engine, free_port};

/// Longest wait for anything that must come.
const PATIENCE: Duration = Duration::from_secs(30);
/// From the end of the exporter to the queries that must not show its series: each scraper has asked in vain by then.
const AFTER_STOP_MS: i64 = 3_000;
/// Our label value.
pub const OURS: &str = "ringscrape";
/// The reference's.
pub const STOCK: &str = "stock";

/// Everything runs.
pub struct Session {
    dir: tempfile::TempDir,
    exporter: Peer,
    pub prometheus: Peer,
    pub victoria: Peer,
    pub scraper: Scraper,
}

/// The ringscrape under test.
pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_ringscrape"))
}

/// Now, ms since the epoch.
pub fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64
}

/// Asks again until it is there, or fails with what was there instead.
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(found) => return found,
            Err(instead) => assert!(start.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}: {instead}"),
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Debian's exporter on that port; `None`, after a `SKIP` line, when it is not installed.
pub fn exporter(port: u16, more: &[String]) -> Option<Peer> {
    let listen = |address: &str| [&[format!("--web.listen-address={address}")], more].concat();
    let mut exporter = Peer::start_at(port, "prometheus-node-exporter", listen)?;
    exporter.wait_until_ready("/metrics");
    Some(exporter)
}

/// A Prometheus that scrapes the exporter and takes remote write, too.
fn prometheus(dir: &Path, target: &str) -> Option<Peer> {
    let config = dir.join("stock.yml");
    std::fs::write(&config, yaml("", target, &format!("{{{BY}: {STOCK}}}"))).expect("the directory is ours");
    let mut peer = Peer::start("prometheus", |address| {
        vec![
            format!("--config.file={}", config.display()),
            format!("--storage.tsdb.path={}", dir.join("tsdb").display()),
            format!("--web.listen-address={address}"),
            "--web.enable-remote-write-receiver".to_owned(),
        ]
    })?;
    peer.wait_until_ready("/-/ready");
    Some(peer)
}

/// A query for the last second is answered as of a second ago, instead of half a minute.
fn victoria(dir: &Path) -> Option<Peer> {
    let mut peer = Peer::start("victoria-metrics", |address| {
        vec![
            format!("-storageDataPath={}", dir.join("victoria").display()),
            format!("-httpListenAddr={address}"),
            "-search.latencyOffset=1s".to_owned(),
        ]
    })?;
    peer.wait_until_ready("/health");
    Some(peer)
}

fn yaml(more: &str, target: &str, labels: &str) -> String {
    format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n{more}scrape_configs:\n- job_name: node\n  static_configs:\n  \
         - targets: ['{target}']\n    labels: {labels}\n"
    )
}

impl Session {
    /// `None` when a package is missing.
    pub fn start() -> Option<Session> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let texts = dir.path().join("texts");
        std::fs::create_dir(&texts).expect("the directory is ours");
        let exporter = exporter(free_port(), &[format!("--collector.textfile.directory={}", texts.display())])?;
        let (prometheus, victoria) = (prometheus(dir.path(), &exporter.address)?, victoria(dir.path())?);
        let mut more = format!("  external_labels: {{{BY}: {OURS}}}\nremote_write:\n");
        for peer in [&prometheus, &victoria] {
            let queue = "queue_config: {batch_send_deadline: 300ms}";
            more.push_str(&format!("- url: http://{}/api/v1/write\n  {queue}\n", peer.address));
        }
        std::fs::write(dir.path().join("prometheus.yml"), yaml(&more, &exporter.address, "{}")).expect("ours");
        let scraper = Scraper::start(&binary(), dir.path(), &engine());
        Some(Session { dir, exporter, prometheus, victoria, scraper })
    }

    /// Where ringscrape keeps its journal.
    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Names of the exporter's counters, as it declares them.
    pub fn counters(&self) -> BTreeSet<String> {
        let body = self.exporter.text("/metrics");
        let counters = body.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.strip_suffix(" counter"));
        counters.map(str::to_owned).collect()
    }

    /// Both scrape.
    pub fn wait_until_begun(&mut self) {
        for by in [STOCK, OURS] {
            until("a first scrape", || match instant(&self.prometheus, by, wall_ms()).is_empty() {
                true => Err(format!("{by} has none; ringscrape said {}", self.scraper.last_words())),
                false => Ok(()),
            });
        }
    }

    /// From now on the exporter has a few series more.
    pub fn add_series(&self) {
        let fresh = self.dir.path().join("fresh");
        let body = "# TYPE passing gauge\npassing{way=\"in\"} 0.1\npassing{way=\"a \\\"b\\\" c\\\\d\"} -1.25e-7\n";
        std::fs::write(&fresh, body).expect("the directory is ours");
        std::fs::rename(&fresh, self.passing()).expect("the directory is ours");
    }

    /// It has them no longer.
    pub fn take_series_away(&self) {
        std::fs::remove_file(self.passing()).expect("it was there");
    }

    fn passing(&self) -> PathBuf {
        self.dir.path().join("texts/passing.prom")
    }

    /// Now both receivers show the exporter's series: all of the last scrape, as many as it says.
    pub fn wait_until_shown(&self) -> usize {
        let now_ms = wall_ms();
        let [one, other] = [&self.prometheus, &self.victoria].map(|peer| {
            until("every series is shown", || {
                let seen = Seen::of(peer, OURS, now_ms);
                let is_whole = seen.up == 1.0 && seen.scraped == seen.exposed.len() as f64;
                if is_whole { Ok(seen.exposed.len()) } else { Err(format!("{} shows {}", peer.address, seen.told())) }
            })
        });
        assert_eq!(one, other, "series at the two receivers");
        one
    }

    /// Ends the exporter and waits until all receivers show nothing of it as of a few seconds after. Returns when it was ended.
    ///
    /// What an answer about one time shows changes only while samples arrive; without markers it would show the series until
    /// five minutes after the last sample, at both receivers.
    pub fn stop_exporter(&mut self) -> i64 {
        let stopped_ms = wall_ms();
        self.exporter.kill();
        thread::sleep(Duration::from_millis(AFTER_STOP_MS as u64));
        for (peer, by) in [(&self.prometheus, STOCK), (&self.prometheus, OURS), (&self.victoria, OURS)] {
            until("nothing is shown", || {
                let seen = Seen::of(peer, by, stopped_ms + AFTER_STOP_MS);
                let is_over = seen.up == 0.0 && seen.scraped == 0.0 && seen.exposed.is_empty();
                if is_over { Ok(()) } else { Err(format!("{} shows {}", peer.address, seen.told())) }
            });
        }
        stopped_ms
    }

    /// Asks ringscrape to end, which sends the rest.
    pub fn stop_scraper(&mut self) {
        self.scraper.signal("TERM");
        assert!(self.scraper.ended(), "{}", self.scraper.last_words());
    }
}

/// What a receiver shows of a scraper's series as of a time.
struct Seen {
    up: f64,
    scraped: f64,
    /// Names of the series the exporter exposes, one for each.
    exposed: Vec<String>,
}

impl Seen {
    fn of(peer: &Peer, by: &str, time_ms: i64) -> Seen {
        let (reports, exposed): (BTreeMap<_, _>, BTreeMap<_, _>) =
            instant(peer, by, time_ms).into_iter().partition(|(labels, _)| is_report(labels));
        let report = |name: &str| {
            let found = reports.iter().find(|(labels, _)| labels["__name__"] == name);
            found.map_or(f64::NAN, |(_, value)| value.parse().expect("a number"))
        };
        let exposed = exposed.into_keys().map(|mut labels| labels.remove("__name__").unwrap_or_default()).collect();
        Seen { up: report("up"), scraped: report("scrape_samples_scraped"), exposed }
    }

    fn told(&self) -> String {
        let first = &self.exposed[..self.exposed.len().min(3)];
        format!("up {}, scraped {}, {} series from {first:?} on", self.up, self.scraped, self.exposed.len())
    }
}
