//! The demo as a smoke test of the whole binary, and the shipped examples as configurations that load.

use std::path::Path;
use std::process::{Command, Output};

fn ringscrape(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringscrape")).args(arguments).output().expect("the binary was built for this test")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The number, thousands separated, that stands before a word.
fn number_before(text: &str, word: &str) -> f64 {
    let at = text.find(word).unwrap_or_else(|| panic!("no {word:?} in {text}"));
    let number = text[..at].trim_end().rsplit(' ').next().unwrap_or_default().replace(',', "");
    number.parse().unwrap_or_else(|e| panic!("{number:?} before {word:?} in {text}: {e}"))
}

/// Runs a demo of 50 targets and holds its figures against one another, and against what the data holds.
fn demo_adds_up(engine: &str) {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().to_str().unwrap();
    let out = ringscrape(&[
        "demo",
        "--targets=50",
        "--interval=1s",
        "--duration=6s",
        "--web.listen-address=127.0.0.1:0",
        &format!("--engine={engine}"),
        &format!("--storage.path={path}"),
    ]);
    let said = text(&out.stdout);
    assert!(out.status.success(), "{said}{}", text(&out.stderr));
    assert!(said.contains(&format!("engine {engine} (")), "{said}");
    let line = said.lines().find(|l| l.contains("  up ")).unwrap_or_else(|| panic!("{said}"));
    // Three of fifty are down for good; one of the others may be away, and a loaded machine may be late.
    let up: u32 = line.split("up ").nth(1).unwrap().split('/').next().unwrap().parse().unwrap();
    assert!((20..=47).contains(&up), "{line}");
    let summary = said.lines().last().unwrap();
    let (scrapes, samples) = (number_before(summary, "scrapes"), number_before(summary, "samples stored"));
    assert!((100.0..=400.0).contains(&scrapes), "{summary}");
    // A scrape stores 500 samples and 5 about itself, a failed one only the latter.
    assert!(samples > scrapes * 250.0 && samples <= scrapes * 505.0, "{summary}");
    let each = number_before(summary, "B per sample");
    assert!(each > 0.5 && each < 20.0, "{summary}");
    let inspected = ringscrape(&["journal", "inspect", path]);
    assert!(inspected.status.success(), "{}", text(&inspected.stderr));
    let table = text(&inspected.stdout);
    // The columns: shard, segment, bytes, state, scrapes, stale, samples. A failed scrape has no markers in its row.
    let held: f64 = table.lines().skip(1).map(|l| l.split_whitespace().nth(6).unwrap().parse::<f64>().unwrap()).sum();
    let markers: f64 =
        table.lines().skip(1).map(|l| l.split_whitespace().nth(5).unwrap().parse::<f64>().unwrap()).sum();
    assert!(held >= samples && held <= samples + markers * 505.0, "{held} against {summary}\n{table}");
    let exported = ringscrape(&["export", &format!("--storage.path={path}"), "--match=up{job=\"exporter\"}"]);
    let lines = text(&exported.stdout);
    assert!(exported.status.success() && lines.ends_with("# EOF\n"), "{lines}");
    let ups = lines.lines().filter(|l| l.starts_with("up{")).count() as f64;
    assert!(ups >= scrapes, "{ups} values of up, {scrapes} scrapes");
}

#[test]
fn demo_on_epoll_adds_up() {
    demo_adds_up("epoll");
}

#[test]
fn demo_on_uring_adds_up() {
    if !text(&ringscrape(&["doctor"]).stdout).contains("io_uring                      have works") {
        println!("SKIP demo_on_uring_adds_up: io_uring is refused on this host");
        return;
    }
    demo_adds_up("uring");
}

#[test]
fn a_fleet_beyond_the_descriptors_is_refused_with_the_remedy() {
    let command =
        format!("ulimit -n 500; exec {} demo --targets 1000 --engine=epoll", env!("CARGO_BIN_EXE_ringscrape"));
    let out = Command::new("sh").args(["-c", &command]).output().unwrap();
    let said = text(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    // The farm's end is a descriptor each only where the ring is refused.
    let remedies = [122, 244].map(|n| format!("use --targets {n}, or raise the limit"));
    assert!(remedies.iter().any(|r| said.contains(r)), "{said}");
}

#[test]
fn shipped_examples_load() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/examples");
    let mut count = 0;
    for entry in std::fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|e| e == "yml") {
            let out = ringscrape(&["check", "config", path.to_str().unwrap()]);
            assert!(out.status.success(), "{}: {}{}", path.display(), text(&out.stdout), text(&out.stderr));
            count += 1;
        }
    }
    assert!(count > 0, "no example was found");
}

#[test]
fn a_scrape_by_hand_tells_what_failed() {
    let refused = ringscrape(&["scrape", "http://127.0.0.1:1/metrics"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stdout).contains("connection refused"));
    let secure = ringscrape(&["scrape", "https://127.0.0.1:1/metrics"]);
    assert_eq!(secure.status.code(), Some(1));
    assert!(text(&secure.stdout).contains("connection refused"));
    let foreign = ringscrape(&["scrape", "ftp://127.0.0.1:1/metrics"]);
    assert_eq!(foreign.status.code(), Some(1));
    assert!(text(&foreign.stderr).contains("http"), "{}", text(&foreign.stderr));
}
