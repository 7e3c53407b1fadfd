//! A real node_exporter: what a stock Prometheus stores of it we have stored at both receivers, and the markers at its end.
//!
//! ringscrape and Debian's `prometheus` scrape Debian's `prometheus-node-exporter` every second; ringscrape sends to that
//! Prometheus and to Debian's `victoria-metrics`. What all of them hold is read back over their APIs and held against each
//! other by the rules of `rules.rs`. `RINGSCRAPE_EXPORTER_SECONDS=300` makes the 20 seconds five minutes. `RINGSCRAPE_ENGINE=epoll` uses
//! that engine. Without the packages a test says `SKIP name: reason`, and fails where `RINGSCRAPE_REQUIRE` contains `peers`.

mod read_back;
mod rules;
mod session;
mod stock_file;
#[path = "../support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::thread;
use std::time::Duration;

use read_back::{of_journal, of_prometheus, of_victoria, since_2};
use rules::{Figures, STALE, Side, assert_none, differences, is_report, same_bits, same_decimal};
use session::{OURS, STOCK, Session, wall_ms};
use support::process::is_prometheus_2;

/// Slots that are compared unless told otherwise.
const SECONDS: u64 = 20;
/// Seconds at the start and the end that are not compared.
const EDGES: u64 = 5;
/// Series of an exporter's body that never change, beside those named `_info`.
const CONSTANTS: [&str; 3] = ["node_memory_MemTotal_bytes", "process_max_fds", "process_start_time_seconds"];
/// Series that come with a text file and go with it: two in it, one about it.
const PASSING: usize = 3;
/// A node_exporter has more series than this on any machine.
const SERIES_LEAST: usize = 200;

/// What everybody stored, and when the exporter was stopped.
struct Run {
    session: Session,
    counters: BTreeSet<String>,
    /// Series that both receivers showed before the end.
    shown: usize,
    stopped_ms: i64,
}

/// Lets everything run for a while, with series that come and go, and stops the exporter, then ringscrape.
fn run(mut session: Session, seconds: u64) -> Run {
    session.wait_until_begun();
    let third = Duration::from_secs(seconds + EDGES) / 3;
    thread::sleep(third);
    session.add_series();
    thread::sleep(third);
    session.take_series_away();
    thread::sleep(third);
    let (counters, shown) = (session.counters(), session.wait_until_shown());
    let stopped_ms = session.stop_exporter();
    session.stop_scraper();
    Run { session, counters, shown, stopped_ms }
}

#[test]
fn a_node_exporter_is_stored_as_stock_stores_it() {
    let Some(session) = Session::start() else { return };
    let told = std::env::var("RINGSCRAPE_EXPORTER_SECONDS").ok();
    let seconds = told.map_or(SECONDS, |s| s.parse().expect("RINGSCRAPE_EXPORTER_SECONDS is a number"));
    let Run { session, counters, shown, stopped_ms } = run(session, seconds);

    let journal = of_journal(&session.data());
    let at_prometheus = of_prometheus(&session.prometheus, OURS, wall_ms());
    assert_none("Prometheus against the journal", &differences(&journal, &at_prometheus, same_bits));
    let at_victoria = of_victoria(&session.victoria, OURS);
    assert_none("VictoriaMetrics against the journal", &differences(&journal, &at_victoria, same_decimal));

    let mut at_stock = of_prometheus(&session.prometheus, STOCK, wall_ms());
    if is_prometheus_2(Path::new("prometheus")) {
        at_stock = since_2(at_stock);
    }
    let reports = [&at_stock, &at_prometheus].map(|s| s.keys().filter(|l| is_report(l)).collect::<Vec<_>>());
    assert_eq!(reports[0], reports[1], "the report series");
    let (stock, ours) = (Side::new(STOCK, &at_stock), Side::new(OURS, &at_prometheus));
    assert_none("within the reference", &stock.faults());
    assert_none("within ours", &ours.faults());
    let (slots, faults) = rules::slots(&stock, &ours, stopped_ms);
    assert_none("scrapes", &faults);
    let mut figures = Figures::default();
    assert_none("presence", &rules::presence(&stock, &ours, &slots, &mut figures));
    assert_none("counters", &rules::counters(&stock, &ours, &slots, &counters, &mut figures));
    let is_constant = |name: &str| name.ends_with("_info") || CONSTANTS.contains(&name);
    assert_none("constants", &rules::constants(&stock, &ours, is_constant, &mut figures));

    let count = |pick: fn(&u64) -> bool| journal.values().flat_map(|s| s.values()).filter(|b| pick(b)).count();
    let (values, markers) = (count(|b| *b != STALE), count(|b| *b == STALE));
    let said = session.scraper.output();
    let engine = said.split("engine=").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default();
    println!(
        "engine {engine}: {} series, {values} values, {markers} markers: equal in journal, Prometheus and VictoriaMetrics\n\
         against the stock Prometheus: {} slots of 1 s, {figures:?}\n\
         {shown} series were shown until the exporter stopped, none after it",
        journal.len(),
        slots.len(),
    );
    assert!(slots.len() as u64 >= seconds && shown > SERIES_LEAST && markers >= shown + PASSING);
    assert!(figures.steady > SERIES_LEAST && figures.passing >= PASSING && figures.constants > CONSTANTS.len());
    assert!(figures.counted > SERIES_LEAST * slots.len() / 10, "{} counter values", figures.counted);
}
