//! Counters of the real binary against what it wrote.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::support::answer::{Answer, TEXT};
use super::support::http::fetch;
use super::support::process::{Scraper, engine};
use super::support::target::{Scripts, TargetServer};
use super::{data, until, until_ready};

/// Series that come and go, repeat, are out of order, far ahead, dropped or a report's own; a body that is refused; no body.
fn targets() -> TargetServer {
    let bodies = [
        "a 1\nb 1\nb 2\nold 1 1000\nold 2 900\nahead 1 99999999999999\ndropped 1\nup 7\n",
        "a 2\nold 1 1000\nc{x=\"1\"} 1\nc{x=\"2\"} 2\n",
        "a 3\nb{ 4\n",
        "b 5\n",
    ];
    let answers = bodies.map(Answer::ok);
    let mut scripts = Scripts::from([("/odd".to_owned(), answers.to_vec())]);
    scripts.insert("/gone".to_owned(), vec![Answer::ok("a 1\n"), Answer::status("500 Internal Server Error", "no")]);
    scripts.insert("/plain".to_owned(), vec![Answer::typed(TEXT, "a 1\nb 2\n")]);
    TargetServer::start(scripts)
}

fn write_config(dir: &Path, server: &TargetServer, jobs: &[&str]) {
    let job = |name: &str| {
        let target = if jobs.contains(&name) { format!("'{}'", server.addr) } else { String::new() };
        format!(
            "- job_name: {name}\n  metrics_path: /x/{name}\n  static_configs: [{{targets: [{target}]}}]\n  \
             metric_relabel_configs: [{{source_labels: [__name__], regex: dropped, action: drop}}]\n"
        )
    };
    let jobs: String = ["odd", "gone", "plain"].map(job).concat();
    let yaml = format!("global: {{scrape_interval: 400ms, scrape_timeout: 400ms}}\nscrape_configs:\n{jobs}");
    std::fs::write(dir.join("prometheus.yml"), yaml).expect("the directory is ours");
}

fn metrics(scraper: &Scraper) -> String {
    fetch(scraper.port, "/metrics", Duration::from_secs(5)).expect("the web answers").1
}

fn value(scraper: &Scraper, series: &str) -> f64 {
    let text = metrics(scraper);
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} in {text}")).parse().expect("a number")
}

#[test]
fn samples_appended_are_those_of_the_journal_and_intervals_are_as_configured() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let server = targets();
    write_config(dir.path(), &server, &["odd", "gone", "plain"]);
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_ringscrape"));
    let mut more = engine();
    more.push("--shards=2".to_owned());
    let mut scraper = Scraper::start(&binary, dir.path(), &more);
    until_ready(&scraper);
    let intervals = "prometheus_target_interval_length_seconds_count{interval=\"400ms\"}";
    until(&scraper, || metrics(&scraper).contains(intervals) && value(&scraper, intervals) >= 15.0);
    let median = value(&scraper, "prometheus_target_interval_length_seconds{interval=\"400ms\",quantile=\"0.5\"}");
    assert!((0.3..0.5).contains(&median), "{median}");

    // Removed targets end with markers, which are samples too.
    write_config(dir.path(), &server, &[]);
    scraper.signal("HUP");
    until(&scraper, || data(&scraper, "/api/v1/targets?state=active")["activeTargets"] == serde_json::json!([]));
    let appended = "prometheus_agent_samples_appended_total{type=\"float\"}";
    let before_end = value(&scraper, appended);
    until(&scraper, || value(&scraper, appended) > before_end);
    thread::sleep(Duration::from_secs(1));
    let counted = value(&scraper, appended);
    assert_eq!(value(&scraper, "prometheus_remote_storage_samples_in_total"), counted);
    scraper.signal("TERM");
    assert!(scraper.ended(), "{}", scraper.last_words());
    let storage = format!("--storage.path={}", dir.path().join("data").display());
    let out = Command::new(&binary).args(["export", &storage]).output().expect("the binary is there");
    let text = String::from_utf8_lossy(&out.stdout);
    let kept = text.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(kept as f64, counted, "{text}");
}
