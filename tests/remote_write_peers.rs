//! Remote write from a real journal into real receivers, queried back sample by sample.
//!
//! Needs Debian's `prometheus` and `victoria-metrics`; says `SKIP name: reason` without them, and fails instead when
//! `RINGSCRAPE_REQUIRE` contains `peers`.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ringscrape::base::time::Now;
use ringscrape::config::{HttpClient, Queue, RelabelAction, RelabelConfig, RemoteWrite};
use ringscrape::model::{ABSENT, LabelValue, Labels, Schema, Shape, next_key};
use ringscrape::remote_write::{JournalSpool, Remote};
use ringscrape::storage::journal::{Column, Disk, Feed, Options, Row, Slots, Writer, boot_id};

use support::peer::Peer;

const TARGETS: usize = 60;
const ROUNDS: usize = 6;
const SERIES: usize = 40;
const PATIENCE: Duration = Duration::from_secs(60);

/// All samples of a series, by time in milliseconds.
type Stored = BTreeMap<BTreeMap<String, String>, BTreeMap<i64, f64>>;

/// `rs_0`.. with an instance, and `rs_dropped`, that the write rules drop.
#[derive(Debug)]
struct Metrics(u64);

impl Schema for Metrics {
    fn key(&self) -> u64 {
        self.0
    }

    fn series_count(&self) -> usize {
        SERIES
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        for i in 0..SERIES {
            let name = if i == 7 { "rs_dropped".to_owned() } else { format!("rs_{}", i / 4) };
            let path = format!("/srv/{i}");
            each(&[
                ("__name__", LabelValue::Text(&name)),
                ("instance", LabelValue::Var(0)),
                ("job", LabelValue::Var(1)),
                ("path", LabelValue::Text(&path)),
            ]);
        }
    }
}

struct Journal {
    disk: Disk,
    ends: Vec<(Writer, Feed)>,
    columns: Vec<Column>,
    shape: Rc<Shape>,
}

impl Journal {
    fn new(directory: &Path) -> Self {
        let (disk, ends) = Disk::spawn(Options::new(directory.to_owned(), 2, boot_id())).expect("a journal");
        let shape = Rc::new(Shape::new(vec![Rc::new(Metrics(next_key()))]));
        Self { disk, ends, columns: (0..TARGETS).map(|_| Column::default()).collect(), shape }
    }

    /// One scrape of every target. What must arrive of it goes to `want`.
    fn round(&mut self, round: usize, time_ms: i64, want: &mut Stored) {
        for target in 0..TARGETS {
            let instance = instance(target);
            // One target misses a series each round.
            let value = |slot: usize| match (target, slot) {
                (11, s) if s == round + 20 => ABSENT,
                _ => (target * 1000 + slot) as f64 * 1.25 + round as f64,
            };
            let values: Vec<f64> = (0..SERIES).map(value).collect();
            let row = Row { shape: &self.shape, time_ms, values: &values, times: &[] };
            let (writer, _) = &mut self.ends[target % 2];
            writer.scrape(&mut self.columns[target], [instance.as_str(), "peers"].into_iter(), &row);
            for (slot, value) in values.iter().enumerate() {
                if slot != 7 && value.to_bits() != ABSENT.to_bits() {
                    want.entry(labels(target, slot)).or_default().insert(time_ms, *value);
                }
            }
        }
        self.hand_over();
    }

    fn stale(&mut self, time_ms: i64) {
        for target in 0..TARGETS {
            let instance = instance(target);
            let (writer, _) = &mut self.ends[target % 2];
            let variables = [instance.as_str(), "peers"].into_iter();
            writer.stale(&mut self.columns[target], variables, (&self.shape, time_ms), Slots::All);
        }
        self.hand_over();
    }

    fn hand_over(&mut self) {
        for (writer, feed) in &mut self.ends {
            feed.finish(writer, Now::read());
        }
    }
}

/// Lengths differ between targets.
fn instance(target: usize) -> String {
    format!("host-{target}.example:9100")
}

fn labels(target: usize, slot: usize) -> BTreeMap<String, String> {
    let pairs = [
        ("__name__", format!("rs_{}", slot / 4)),
        ("cluster", "c1".to_owned()),
        ("instance", instance(target)),
        ("job", "peers".to_owned()),
        ("mount", format!("/srv/{slot}")),
    ];
    pairs.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
}

fn rule(action: RelabelAction, source: &str, regex: &str, target: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: if source.is_empty() { Vec::new() } else { vec![source.into()] },
        separator: ";".into(),
        regex: regex.into(),
        modulus: 0,
        target_label: target.into(),
        replacement: "$1".into(),
        action,
        name_validation: ringscrape::config::NameValidation::Utf8,
    }
}

fn destination(url: String) -> RemoteWrite {
    RemoteWrite {
        url,
        name: "peer".into(),
        remote_timeout: Duration::from_secs(30),
        headers: BTreeMap::new(),
        write_relabel_configs: vec![
            rule(RelabelAction::Drop, "__name__", "rs_dropped", ""),
            rule(RelabelAction::Replace, "path", "(.*)", "mount"),
            rule(RelabelAction::LabelDrop, "", "path", ""),
        ],
        queue: Queue {
            capacity: 10_000,
            max_shards: 4,
            min_shards: 2,
            max_samples_per_send: 500,
            batch_send_deadline: Duration::from_millis(200),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_secs(1),
            retry_on_http_429: None,
            sample_age_limit: Duration::ZERO,
        },
        http: HttpClient::default(),
    }
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Sends rounds of scrapes in two lives of the process and compares everything that `stored` reads back.
fn check(write_url: String, stored: impl Fn() -> Stored) {
    let directory = tempfile::tempdir().expect("a directory");
    let config = destination(write_url);
    let external = Labels::from_pairs([("cluster", "c1")]);
    let mut want = Stored::new();
    let mut time_ms = 0;
    for life in 0..2 {
        let mut journal = Journal::new(directory.path());
        let remote = Remote::new(JournalSpool::new(directory.path(), &journal.disk));
        remote.apply(std::slice::from_ref(&config), &external).expect("usable settings");
        time_ms = Now::read().wall_ms().max(time_ms);
        for round in 0..ROUNDS {
            time_ms += 250;
            journal.round(life * ROUNDS + round, time_ms, &mut want);
        }
        if life == 1 {
            time_ms += 250;
            journal.stale(time_ms);
        }
        remote.stop(Duration::from_secs(30));
        assert!(journal.disk.stop(), "the journal is safe");
    }
    let samples = want.values().map(BTreeMap::len).sum::<usize>();
    let mut got = Stored::new();
    wait_for("all series", || {
        got = stored();
        got.len() >= want.len() && got.values().map(BTreeMap::len).sum::<usize>() >= samples
    });
    assert_eq!(got.len(), want.len());
    assert_eq!(got.len(), want.len(), "nothing else is stored");
    for (series, samples) in &want {
        assert_eq!(got.get(series), Some(samples), "{series:?}");
    }
}

fn text_map(value: &serde_json::Value) -> BTreeMap<String, String> {
    let object = value.as_object().expect("labels");
    object.iter().map(|(n, v)| (n.clone(), v.as_str().expect("text").to_owned())).collect()
}

#[test]
fn prometheus_stores_exactly_what_was_scraped() {
    let data = tempfile::tempdir().expect("a directory");
    std::fs::write(data.path().join("empty.yml"), "").expect("written");
    let path = |name: &str| data.path().join(name).display().to_string();
    let Some(mut peer) = Peer::start("prometheus", |address| {
        vec![
            format!("--config.file={}", path("empty.yml")),
            format!("--storage.tsdb.path={}", path("tsdb")),
            format!("--web.listen-address={address}"),
            "--web.enable-remote-write-receiver".into(),
        ]
    }) else {
        return;
    };
    peer.wait_until_ready("/-/ready");
    let query = |expression: &str| {
        let time = Now::read().wall_ms() / 1000 + 60;
        let answer: serde_json::Value =
            serde_json::from_str(&peer.text(&format!("/api/v1/query?time={time}&query={expression}"))).expect("JSON");
        answer["data"]["result"].as_array().expect("a list").clone()
    };
    let stored = || {
        let point = |p: &serde_json::Value| {
            let seconds = p[0].as_f64().expect("a time");
            ((seconds * 1e3).round() as i64, p[1].as_str().expect("text").parse().expect("a number"))
        };
        let series = query("%7B__name__%3D~%22rs_.%2B%22%7D%5B1h%5D");
        let one = |s: &serde_json::Value| {
            (text_map(&s["metric"]), s["values"].as_array().expect("points").iter().map(point).collect())
        };
        series.iter().map(one).collect()
    };
    check(format!("http://{}/api/v1/write", peer.address), stored);
    assert!(query("count(%7B__name__%3D~%22rs_.%2B%22%7D)").is_empty(), "the markers ended every series");
}

#[test]
fn victoria_metrics_stores_exactly_what_was_scraped() {
    let data = tempfile::tempdir().expect("a directory");
    let Some(mut peer) = Peer::start("victoria-metrics", |address| {
        vec![format!("-storageDataPath={}", data.path().display()), format!("-httpListenAddr={address}")]
    }) else {
        return;
    };
    peer.wait_until_ready("/health");
    let stored = || {
        peer.text("/internal/force_flush");
        let path = "/api/v1/export?match%5B%5D=%7B__name__%3D~%22rs_.%2B%22%7D";
        let mut all = Stored::new();
        for line in peer.text(path).lines() {
            let series: serde_json::Value = serde_json::from_str(line).expect("JSON");
            let times = series["timestamps"].as_array().expect("times").iter().map(|t| t.as_i64().expect("a time"));
            // A staleness marker is exported as null.
            let values = series["values"].as_array().expect("values").iter().map(serde_json::Value::as_f64);
            let samples = times.zip(values).filter_map(|(t, v)| v.map(|v| (t, v)));
            all.entry(text_map(&series["metric"])).or_default().extend(samples);
        }
        all
    };
    check(format!("http://{}/api/v1/write", peer.address), stored);
}
