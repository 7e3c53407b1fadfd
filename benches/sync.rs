//! From file_sd JSON to shard commands: parse, relabel, place; then a re-read with one entry in a hundred changed.
//!
//! `cargo bench --bench sync [-- <entries>]`. Every count is asserted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringscrape::config::{
    Config, GroupFormat, NameValidation, RelabelAction, RelabelConfig, ScrapeConfig, TargetGroup, parse_target_groups,
};
use ringscrape::discovery::{JobUpdate, ProviderId, Update};
use ringscrape::manager::{Manager, Options, Outlet};
use ringscrape::shard::Command;

/// Takes everything at once.
struct Sink;

impl Outlet for Sink {
    fn shards(&self) -> usize {
        4
    }

    fn post(&mut self, _: usize, command: Command) -> Result<(), Box<Command>> {
        std::hint::black_box(command);
        Ok(())
    }
}

fn rule(action: RelabelAction, source: &str, regex: &str, target: &str, replacement: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: vec![source.into()],
        separator: ";".into(),
        regex: regex.into(),
        modulus: 0,
        target_label: target.into(),
        replacement: replacement.into(),
        action,
        name_validation: NameValidation::Utf8,
    }
}

/// A job as many have it: drop some, shorten the instance, map labels.
fn job() -> ScrapeConfig {
    ScrapeConfig {
        job_name: "node".into(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        relabel_configs: vec![
            rule(RelabelAction::Drop, "env", "retired", "", "$1"),
            rule(RelabelAction::Replace, "__address__", "([^:]+)(?::\\d+)?", "instance", "$1"),
            rule(RelabelAction::LabelMap, "", "__meta_tag_(.+)", "", "$1"),
        ],
        ..ScrapeConfig::default()
    }
}

/// Ten entries a group; the port of one entry in a hundred depends on `round`.
fn file(entries: usize, round: usize) -> String {
    let groups: Vec<String> = (0..entries / 10)
        .map(|g| {
            let targets: Vec<String> = (g * 10..g * 10 + 10)
                .map(|n| format!("\"node-{n}.example.org:{}\"", if n % 100 == 0 { 9100 + round } else { 9100 }))
                .collect();
            let labels = format!("{{\"env\": \"prod\", \"__meta_tag_zone\": \"z{}\", \"rack\": \"r{g}\"}}", g % 5);
            format!("{{\"targets\": [{}], \"labels\": {labels}}}", targets.join(","))
        })
        .collect();
    format!("[{}]", groups.join(",\n"))
}

fn update(groups: Vec<TargetGroup>) -> Update {
    let groups = groups.into_iter().map(|g| ((ProviderId(0), Arc::from(g.source.as_str())), Some(Arc::new(g))));
    let job = JobUpdate { providers: vec![ProviderId(0)], complete: true, groups: groups.collect() };
    Update { jobs: [(Arc::from("node"), job)].into() }
}

fn timed<R>(what: &str, entries: usize, work: impl FnOnce() -> R) -> R {
    let start = Instant::now();
    let result = work();
    let took = start.elapsed();
    let each_ns = took.as_nanos() / entries as u128;
    println!("{what:<34} {:>9.1} ms {each_ns:>6} ns an entry", took.as_secs_f64() * 1e3);
    result
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

fn main() {
    let entries = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(100_000);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let manager = Manager::new(Options::default(), Box::new(Sink));
    let config = Config { scrape_configs: vec![job()], ..Config::default() };
    runtime.block_on(manager.apply_config(&config)).expect("valid");
    let parse = |text: &str| parse_target_groups("t.json".as_ref(), text.as_bytes(), GroupFormat::Json).expect("valid");
    let reload = |groups| {
        manager.update_tsets(update(groups));
        runtime.block_on(manager.reload())
    };

    let (first, second) = (file(entries, 0), file(entries, 1));
    let before_kb = resident_kb();
    let groups = timed("parse JSON", entries, || parse(&first));
    let diff = timed("first sync", entries, || reload(groups));
    assert_eq!((diff.added, diff.relabelled), (entries, entries));
    println!("resident: {} B an entry, groups included", (resident_kb() - before_kb) * 1024 / entries as u64);

    let groups = parse(&first);
    let diff = timed("sync, all groups sent, none changed", entries, || reload(groups));
    assert_eq!((diff.added, diff.removed, diff.relabelled), (0, 0, 0));
    let groups = parse(&second);
    let diff = timed("sync, all groups sent, 1 % changed", entries, || reload(groups));
    assert_eq!((diff.changed, diff.relabelled), (entries.div_ceil(100), entries.div_ceil(100)));
    let groups: Vec<TargetGroup> = parse(&first).into_iter().step_by(10).collect();
    let diff = timed("sync, only changed groups sent", entries, || reload(groups));
    assert_eq!((diff.changed, diff.relabelled), (entries.div_ceil(100), entries.div_ceil(100)));

    let faster = ScrapeConfig { sample_limit: 1000, ..job() };
    let config = Config { scrape_configs: vec![faster], ..Config::default() };
    let diff = timed("another configuration", entries, || runtime.block_on(manager.apply_config(&config)));
    assert_eq!(diff.expect("valid").relabelled, entries);
    let shown = timed("every target made for a page", entries, || {
        runtime
            .block_on(manager.read(|pools| pools["node"].active_targets().map(|t| t.target().url.len()).sum::<usize>()))
    });
    assert!(shown > entries * 20);
}
