//! Costly targets that are all on one shard go to the other one, and nothing of it shows at the receiver.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use ringscrape::config::ScrapeConfig;
use ringscrape::model::Labels;
use ringscrape::scrape::target::{Made, TargetMaker};

use crate::fleet::{binary, metric, until};
use crate::support::answer::Answer;
use crate::support::process::Scraper;
use crate::support::receiver::Receiver;
use crate::support::target::TargetServer;

/// Targets, so many that they need a fair share of a CPU.
const TARGETS: usize = if cfg!(debug_assertions) { 32 } else { 256 };
/// Samples of each, in another order each time: that costs.
const SAMPLES: usize = 5_000;
/// Bits of a staleness marker.
const STALE: u64 = 0x7ff0_0000_0000_0002;

/// The paths of targets that the hash of their labels puts on the first of two shards.
fn paths_of_first_shard(addr: SocketAddr) -> Vec<String> {
    let config = ScrapeConfig {
        job_name: "j".into(),
        scrape_interval: Duration::from_secs(2),
        scrape_timeout: Duration::from_secs(2),
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        ..ScrapeConfig::default()
    };
    let maker = TargetMaker::new(Arc::new(config), 0).expect("there are no rules");
    let is_first = |path: &String| {
        let entry = Labels::from_pairs([("__address__", addr.to_string().as_str()), ("path", path)]);
        matches!(maker.make(&entry, &Labels::default()), Made::Active(target) if target.public_hash % 2 == 0)
    };
    (0..).map(|n| format!("/x/{n}")).filter(is_first).take(TARGETS).collect()
}

#[test]
fn costly_targets_leave_a_busy_shard_unseen() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let scripts = (0..TARGETS * 10).map(|n| (format!("/{n}"), vec![Answer::shuffle(SAMPLES)])).collect();
    let (server, receiver) = (TargetServer::start(scripts), Receiver::start());
    let mut yaml = format!(
        "global: {{scrape_interval: 2s, scrape_timeout: 2s}}\nremote_write:\n- url: http://{}/api/v1/write\n  \
         queue_config: {{batch_send_deadline: 200ms}}\nscrape_configs:\n- job_name: j\n  static_configs:\n",
        receiver.addr
    );
    for path in paths_of_first_shard(server.addr) {
        let labels = format!("{{__metrics_path__: {path}, path: '{path}'}}");
        yaml.push_str(&format!("  - {{targets: ['{}'], labels: {labels}}}\n", server.addr));
    }
    std::fs::write(dir.path().join("prometheus.yml"), yaml).expect("the directory is ours");
    std::fs::create_dir(dir.path().join("data")).expect("the directory is ours");
    let flags = ["--shards=2", "--scrape.placement-interval=1s"].map(str::to_owned);
    let scraper = Scraper::start(&binary(), dir.path(), &flags);
    until("the first scrape of every target", || receiver.with_log(|log| log.len() >= TARGETS * SAMPLES));
    until("targets to move", || metric(&scraper, "ringscrape_placement_moves_total") >= 2.0);
    thread::sleep(Duration::from_secs(5));
    println!("{} targets moved", metric(&scraper, "ringscrape_placement_moves_total"));
    assert_eq!(metric(&scraper, "ringscrape_scrapes_missed_total"), 0.0);
    assert_eq!(metric(&scraper, "ringscrape_shard_targets"), TARGETS as f64, "each is on one shard");
    let mut series = 0;
    receiver.with_log(|log| {
        for (labels, points) in log {
            let is = |name: &str| labels.iter().any(|(n, v)| n == "__name__" && v == name);
            let values: Vec<f64> = points.iter().map(|p| f64::from_bits(p.bits)).collect();
            assert!(points.windows(2).all(|w| w[0].time_ms < w[1].time_ms), "{labels:?} in order: {points:?}");
            assert!(points.iter().all(|p| p.bits != STALE), "{labels:?} does not end: {points:?}");
            if is("counted") {
                series += 1;
                let numbers = (0..values.len()).map(|n| n as f64);
                assert!(numbers.eq(values.iter().copied()), "{labels:?}: one sample of each answer: {values:?}");
            }
            if is("scrape_series_added") {
                assert!(values[1..].iter().all(|&v| v == 0.0), "{labels:?}: no series counts as new: {values:?}");
            }
        }
    });
    assert_eq!(series, TARGETS * SAMPLES);
    assert!(receiver.faults().is_empty(), "{:#?}", receiver.faults());
}
