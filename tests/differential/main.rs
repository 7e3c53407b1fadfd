//! ringscrape against a stock Prometheus agent on the same scripted targets, scrape by scrape.
//!
//! Both run at the same time with the same configuration; every series, value and staleness marker each remote-writes is
//! compared. Debian's Prometheus is 2.42, so what it wrote is first patched by `tests/data/since-2.42.tsv`, then by
//! `tests/data/differences.tsv`, where ringscrape differs on purpose.
//! `RINGSCRAPE_PEER=path` believes another binary instead, unpatched; `RINGSCRAPE_TESTED=path` tests another binary than the
//! one just built; `RINGSCRAPE_CASES=text` runs only the cases whose names hold that text; `RINGSCRAPE_LOGS=dir` keeps both
//! logs; `RINGSCRAPE_ENGINE=epoll` makes ringscrape use that engine. `RINGSCRAPE_SEED=n` makes other mutated bodies,
//! `RINGSCRAPE_MUTATED=groups,rounds` makes more of them. A newer peer gets mutations that 2.42 reads differently.

mod case;
mod cases_http;
mod cases_labels;
mod cases_limits;
mod cases_odd_http;
mod cases_odd_targets;
mod cases_odd_text;
mod cases_reload;
mod cases_targets;
mod cases_text;
mod cases_tls;
mod edits;
mod log;
mod mutate;
mod session;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use case::Case;
use edits::Dialect;
use mutate::Campaign;
use support::process::{DEBIAN_PROMETHEUS, engine, required};

/// Lines of a case's difference that are printed.
const LINES_SHOWN: usize = 40;
/// Mutated jobs in a run, and scrapes of each of their targets.
const MUTATED: (usize, usize) = (40, 18);
/// Seed of the mutated bodies unless told otherwise.
const SEED: u64 = 1;

/// Cases of the first session.
fn usual() -> Vec<Case> {
    let mut cases = cases_text::cases();
    cases.extend(cases_http::cases());
    cases.extend(cases_labels::cases());
    cases.extend(cases_limits::cases());
    cases.extend(cases_targets::cases());
    cases.extend(cases_tls::cases());
    cases
}

/// Cases of the second session.
fn odd() -> Vec<Case> {
    let mut cases = cases_odd_text::cases();
    cases.extend(cases_odd_http::cases());
    cases.extend(cases_odd_targets::cases());
    cases.extend(cases_reload::cases());
    cases
}

fn scripted() -> Vec<Case> {
    [usual(), odd()].concat()
}

/// The mutated part of a run; everything goes where the believed program is a newer one.
fn campaign(newer: bool) -> Campaign {
    let number = |text: &str| text.trim().parse().ok();
    let seed = std::env::var("RINGSCRAPE_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(SEED);
    let size = std::env::var("RINGSCRAPE_MUTATED").ok();
    let size = size.as_deref().and_then(|s| s.split_once(',')).and_then(|(g, r)| Some((number(g)?, number(r)?)));
    let (groups, rounds) = size.unwrap_or(MUTATED);
    Campaign { seed, groups, rounds, dialect: if newer { Dialect::Current } else { Dialect::Old } }
}

fn keep_logs(dir: &Path, side: &str, logs: &HashMap<String, Vec<String>>) {
    let dir = dir.join(side);
    std::fs::create_dir_all(&dir).expect("RINGSCRAPE_LOGS is writable");
    for (case, lines) in logs {
        std::fs::write(dir.join(case), lines.join("\n") + "\n").expect("RINGSCRAPE_LOGS is writable");
    }
}

/// One session at a time: a machine that is too busy changes what is scraped.
static SESSION: Mutex<()> = Mutex::new(());

#[test]
fn same_samples_as_prometheus() {
    compare(|campaign| [usual(), mutate::cases(campaign)].concat());
}

#[test]
fn same_samples_in_odd_cases_and_after_reloads() {
    let newer = |campaign: Campaign| campaign.dialect == Dialect::Current;
    compare(|campaign| [odd(), if newer(campaign) { cases_reload::newer_cases() } else { Vec::new() }].concat());
}

fn compare(cases: impl FnOnce(Campaign) -> Vec<Case>) {
    let _alone = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    let peer = std::env::var_os("RINGSCRAPE_PEER").map(PathBuf::from);
    let believed = peer.clone().unwrap_or_else(|| DEBIAN_PROMETHEUS.into());
    if !believed.exists() {
        assert!(!required("peers"), "{} is required and not there", believed.display());
        println!("SKIP differential: prometheus not installed");
        return;
    }
    let other = std::env::var_os("RINGSCRAPE_TESTED").map(PathBuf::from);
    let tested = other.clone().unwrap_or_else(|| env!("CARGO_BIN_EXE_ringscrape").into());
    let campaign = campaign(peer.is_some());
    let only = std::env::var("RINGSCRAPE_CASES").unwrap_or_default();
    let mut cases = cases(campaign);
    cases.retain(|c| c.name.contains(&only));
    let mut session = session::run(&cases, &believed, &tested, &if other.is_some() { Vec::new() } else { engine() });
    if let Some(dir) = std::env::var_os("RINGSCRAPE_LOGS") {
        keep_logs(Path::new(&dir), "expected", &session.expected);
        keep_logs(Path::new(&dir), "got", &session.got);
    }
    let since = if peer.is_some() { Vec::new() } else { table::read(table::SINCE) };
    let own = if other.is_some() { Vec::new() } else { table::read(table::DIFFERENCES) };
    let mut kept = String::new();
    let mut report = session.faults.join("\n");
    let mut differing = 0;
    for case in &cases {
        let expected = session.expected.get_mut(&case.name).expect("every case has a log");
        let got = session.got.get_mut(&case.name).expect("every case has a log");
        let mut stale_rows = table::apply(&since, &case.name, expected);
        stale_rows.extend(table::apply(&own, &case.name, expected));
        if peer.is_none() && case.name.starts_with(mutate::PREFIX) {
            table::forgive_failures(expected, got);
        }
        let difference = table::difference(&case.name, expected, got);
        differing += usize::from(!difference.is_empty());
        report.push_str(&stale_rows.iter().map(|f| format!("{f}\n")).collect::<String>());
        let shown: Vec<&str> = difference.lines().take(LINES_SHOWN).collect();
        report.extend(shown.iter().map(|l| format!("{l}\n")));
        if shown.len() == LINES_SHOWN {
            report.push_str("... (RINGSCRAPE_LOGS=dir keeps all)\n");
        }
        kept.push_str(&difference);
    }
    if let Some(dir) = std::env::var_os("RINGSCRAPE_LOGS") {
        let text = std::fs::read_to_string(Path::new(&dir).join("differences")).unwrap_or_default() + &kept;
        std::fs::write(Path::new(&dir).join("differences"), text).expect("RINGSCRAPE_LOGS is writable");
    }
    let lines: usize = session.expected.values().map(Vec::len).sum();
    println!("{} cases, {lines} lines, {differing} cases differ, {campaign:?}", cases.len());
    assert!(report.is_empty(), "- expected ({}), + got ({}):\n{report}", believed.display(), tested.display());
}

#[test]
fn enough_distinct_behaviours() {
    let cases = scripted();
    let names: BTreeSet<&String> = cases.iter().map(|c| &c.name).collect();
    assert_eq!(names.len(), cases.len(), "case names are unique");
    assert!(cases.len() >= 60, "only {} behaviours", cases.len());
    let jobs: Vec<&String> = cases.iter().flat_map(|c| &c.jobs).map(|j| &j.name).collect();
    assert_eq!(jobs.iter().collect::<BTreeSet<_>>().len(), jobs.len(), "job names are unique");
}

#[test]
fn the_tables_fit_the_cases() {
    let names: BTreeSet<String> = scripted().into_iter().map(|c| c.name).collect();
    for name in [table::SINCE, table::DIFFERENCES] {
        let mut ids = BTreeSet::new();
        for row in table::read(name) {
            let patched: BTreeSet<&String> = row.patch.keys().collect();
            assert_eq!(patched, row.cases.iter().collect(), "row {} patches the behaviours it names", row.id);
            assert!(row.cases.iter().all(|c| names.contains(c)), "row {} names known behaviours", row.id);
            assert!(ids.insert(row.id.clone()), "row {} is there once", row.id);
        }
    }
}
