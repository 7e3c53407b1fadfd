//! `scrape URL`: one scrape and a second one right behind it, with timings per stage.

use std::fmt::Write;
use std::process::ExitCode;

use super::probe::{Probe, Report};
use crate::app::cli::ScrapeArgs;
use crate::app::threads;
use crate::app::{descriptors, print};
use crate::engine::{Backend, Epoll, Uring, UringOptions};

/// `scrape URL`: exit code 1 when the scrape failed.
///
/// # Errors
/// A URL that cannot be scraped, an engine that cannot be had.
pub fn scrape(arguments: &ScrapeArgs) -> Result<ExitCode, String> {
    let _ = descriptors::raise();
    let engine = threads::choose(arguments.engine)?;
    let is_up = match engine.name {
        "uring" => both(Uring::new(UringOptions::default()).map_err(|e| e.to_string())?, arguments, engine.name)?,
        _ => both(Epoll::new().map_err(|e| e.to_string())?, arguments, engine.name)?,
    };
    Ok(if is_up { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The second scrape shows what the first one taught: the kept connection and the predicted lines.
fn both<B: Backend>(backend: B, arguments: &ScrapeArgs, engine: &str) -> Result<bool, String> {
    let mut probe = Probe::new(backend, arguments)?;
    let first = probe.scrape();
    let mut text = told(&first, engine);
    if first.error.is_none() {
        let store = probe.store();
        let families = probe.families();
        let bodies: u64 = first.body_bytes.max(1);
        let _ = writeln!(
            text,
            "samples     {}; {} families; {} duplicates, {} out of order, {} out of bounds",
            first.tallies.scraped,
            families.len(),
            first.tallies.duplicates,
            first.tallies.out_of_order,
            first.tallies.out_of_bounds
        );
        let _ = writeln!(
            text,
            "layout      {} chunks, {} bytes kept for a body of {bodies} bytes, shared by all targets of this body",
            store.chunks, store.bytes
        );
        let again = probe.scrape();
        match &again.error {
            None => {
                let share = again.predicted as f64 * 100.0 / again.tallies.scraped.max(1) as f64;
                let _ = writeln!(
                    text,
                    "again       {} in {}; parse {}; {} of {} lines predicted ({share:.1} %)",
                    if again.is_kept() { "over the kept connection" } else { "over a new connection" },
                    ms(again.total_ns),
                    ms(again.parse_ns),
                    again.predicted,
                    again.tallies.scraped
                );
            }
            Some(error) => {
                let _ = writeln!(text, "again       failed: {error}");
            }
        }
    }
    print(&text);
    Ok(first.error.is_none())
}

fn told(report: &Report, engine: &str) -> String {
    let mut text = format!("{}  engine {engine}", report.url);
    if let Some(addr) = report.addr {
        let _ = write!(text, "  address {addr}");
    }
    if report.hops > 0 {
        let _ = write!(text, "  after {} redirects", report.hops);
    }
    let p = &report.phases;
    let since = |then: u64, at: u64| if at == 0 || then == 0 { "-".to_owned() } else { ms(at.saturating_sub(then)) };
    let _ = writeln!(
        text,
        "\nresolve     {}\nconnect     {}\nsent        {}\nfirst byte  {}\nlast byte   {}\nparse       {}\n\
         total       {}  (what the network did is seen at the engine's turns, about 1 ms apart)",
        if report.resolve_ns == 0 { "-".to_owned() } else { ms(report.resolve_ns) },
        since(p.started, p.connected),
        since(p.started, p.sent),
        since(p.started, p.first_byte),
        since(p.started, p.last_byte),
        ms(report.parse_ns),
        ms(report.total_ns)
    );
    if report.status != 0 {
        let encoding = if report.encoding.is_empty() { "as it is" } else { &report.encoding };
        let _ = writeln!(
            text,
            "answer      status {}; {}; {encoding}\nbytes       {} on the wire with head, {} of body",
            report.status,
            if report.content_type.is_empty() { "no content type" } else { &report.content_type },
            p.wire_bytes,
            report.body_bytes
        );
    }
    if let Some(error) = &report.error {
        let _ = writeln!(text, "FAILED      {error}");
    }
    text
}

/// Milliseconds with microseconds behind the point.
fn ms(ns: u64) -> String {
    format!("{:.3} ms", ns as f64 / 1e6)
}
