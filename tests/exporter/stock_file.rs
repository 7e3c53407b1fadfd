//! Debian's own configuration file, run as it is.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::session::{binary, exporter, until};
use crate::support::http::fetch;
use crate::support::process::{Scraper, engine, required};

const FILE: &str = "/etc/prometheus/prometheus.yml";
/// Jobs of the file and their ports.
const JOBS: [(&str, u16); 2] = [("prometheus", 9090), ("node", 9100)];
/// Longest wait for an answer.
const ANSWERING: Duration = Duration::from_secs(5);

/// Health and error by job.
fn targets(scraper: &Scraper) -> Vec<(String, String, String)> {
    let Ok((_, body)) = fetch(scraper.port, "/api/v1/targets?state=active", ANSWERING) else { return Vec::new() };
    let answer: Value = serde_json::from_str(&body).unwrap_or_default();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    let targets = answer["data"]["activeTargets"].as_array().cloned().unwrap_or_default();
    targets.iter().map(|t| (text(&t["scrapePool"]), text(&t["health"]), text(&t["lastError"]))).collect()
}

/// Whether somebody on this machine serves metrics there: the file names fixed ports, which are not the test's alone.
fn serves(port: u16) -> bool {
    fetch(port, "/metrics", ANSWERING).is_ok_and(|(status, _)| status.contains(" 200 "))
}

#[test]
fn debians_file_runs_unchanged() {
    if !Path::new(FILE).exists() {
        assert!(!required("peers"), "{FILE} is required and not there");
        println!("SKIP debians_file_runs_unchanged: {FILE} is not there");
        return;
    }
    // Somebody else's exporter will do.
    let node = if serves(9100) { None } else { exporter(9100, &[]) };
    if node.is_none() && !serves(9100) {
        return;
    }
    let dir = tempfile::tempdir().expect("a temporary directory");
    let data = format!("--storage.path={}", dir.path().join("data").display());
    let mut arguments = vec![format!("--config.file={FILE}"), "--config.ignore=alerting".to_owned(), data.clone()];
    arguments.extend(engine());
    let mut scraper = Scraper::start_as(&binary(), dir.path(), &arguments, |_| {});
    until("ready", || match fetch(scraper.port, "/-/ready", ANSWERING) {
        Ok((status, _)) if status.contains(" 200 ") => Ok(()),
        other => Err(format!("{other:?}\n{}", scraper.last_words())),
    });
    assert!(scraper.output().contains("alerting"), "what is ignored is said:\n{}", scraper.output());
    // Prometheus need not run here: who is there is up, who is not is down and the connection refused.
    until("every target of the file is scraped", || {
        let targets = targets(&scraper);
        let as_wanted = |(job, port): &(&str, u16)| {
            targets.iter().any(|(pool, health, error)| match (pool == job, serves(*port)) {
                (true, true) => health == "up" && error.is_empty(),
                (true, false) => health == "down" && error.contains("refused"),
                (false, _) => false,
            })
        };
        let is_so = targets.len() == JOBS.len() && JOBS.iter().all(as_wanted);
        if is_so { Ok(()) } else { Err(format!("{targets:?}")) }
    });
    scraper.signal("TERM");
    assert!(scraper.ended(), "{}", scraper.last_words());
    let matching = r#"--match={job="node"}"#;
    let out = Command::new(binary()).args(["export", &data, matching]).output().expect("the binary is there");
    let text = String::from_utf8_lossy(&out.stdout);
    let up = r#"up{instance="localhost:9100",job="node"} 1 "#;
    assert!(out.status.success() && text.contains(up) && text.contains("\nnode_uname_info{"), "{text}");
}
