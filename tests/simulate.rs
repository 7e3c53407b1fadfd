//! Simulated appliances, seed by seed: the log is exactly the oracle's, and every planted bug is found.
//!
//! `RINGSCRAPE_SEEDS=1000 cargo test --release --test simulate -- --nocapture` runs many on all cores;
//! `RINGSCRAPE_SEED=17 cargo test --test simulate a_seed` runs one again.

use std::env;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use ringscrape::sim::scenario::{Starts, Trouble, starts_under};
use ringscrape::sim::{Planted, simulate};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

#[test]
fn every_seed_gives_the_oracles_log() {
    let seeds = number("RINGSCRAPE_SEEDS").unwrap_or(3);
    let first = number("RINGSCRAPE_SEED_FIRST").unwrap_or(0);
    let next = Arc::new(AtomicU64::new(first));
    let failed = Arc::new(Mutex::new(Vec::new()));
    let samples = Arc::new(AtomicU64::new(0));
    let start = Instant::now();
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let run = {
        let (next, failed, samples) = (Arc::clone(&next), Arc::clone(&failed), Arc::clone(&samples));
        move || loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return;
            }
            match simulate(seed, None) {
                Ok(tally) => _ = samples.fetch_add(tally.expected, Ordering::Relaxed),
                Err(finding) => {
                    eprintln!("seed {seed}: {finding}");
                    failed.lock().unwrap().push(seed);
                }
            }
            let done = seed + 1 - first;
            if done.is_multiple_of(50) {
                eprintln!("{done} of {seeds} seeds, {:.1} s", start.elapsed().as_secs_f64());
            }
        }
    };
    let threads: Vec<_> = (0..cores).map(|_| thread::spawn(run.clone())).collect();
    threads.into_iter().for_each(|t| t.join().expect("a simulation panicked"));
    let seconds = start.elapsed().as_secs_f64();
    let samples = samples.load(Ordering::Relaxed);
    eprintln!("{seeds} seeds, {samples} samples, {seconds:.1} s, {:.2} seeds a second", seeds as f64 / seconds);
    let failed = failed.lock().unwrap();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} differ; again: RINGSCRAPE_SEED={} cargo test --test simulate a_seed -- --nocapture",
        failed[0]
    );
}

#[test]
fn a_seed() {
    let seed = number("RINGSCRAPE_SEED").unwrap_or(1);
    match simulate(seed, None) {
        Ok(tally) => {
            eprintln!("seed {seed}: {tally:?}");
            assert!(tally.expected > 50_000, "{tally:?}");
            assert!(tally.received >= tally.kept, "{tally:?}");
        }
        Err(finding) => panic!("seed {seed}: {finding}"),
    }
}

/// Tells after how many seeds each bug is found; with `RINGSCRAPE_SEEDS` up to that many are tried.
#[test]
fn planted_bugs_are_found() {
    let most = number("RINGSCRAPE_SEEDS").unwrap_or(10).max(10);
    for planted in Planted::ALL {
        let found = (0..most).find_map(|seed| simulate(seed, Some(planted)).err().map(|f| (seed, f)));
        let Some((seed, finding)) = found else { panic!("{planted:?} is not found in {most} seeds") };
        eprintln!("{planted:?}: found by seed {seed}: {}", finding.0.lines().next().unwrap_or_default());
    }
}

/// Neither a burst nor a scrape that is missing, late or too many.
fn assert_calm(trouble: Trouble) {
    let Starts { due, missed, extra, lateness_ns_max, in_tick_max, due_in_tick_max } = starts_under(trouble).unwrap();
    assert!(due > 3_000, "{trouble:?}: {due} due");
    assert_eq!((missed, extra), (0, 0), "{trouble:?}: missed and extra of {due}");
    assert!(lateness_ns_max <= 20_000_000, "{trouble:?}: {lateness_ns_max} ns late");
    assert!(in_tick_max <= due_in_tick_max, "{trouble:?}: {in_tick_max} in a tick where {due_in_tick_max} are due");
}

#[test]
fn a_step_of_the_clock_causes_no_burst_and_no_missed_phase() {
    assert_calm(Trouble::Step(3_600_000_000_000));
    assert_calm(Trouble::Step(-3_600_000_000_000));
}

#[test]
fn a_pause_of_five_minutes_causes_no_burst_and_no_missed_phase_afterwards() {
    assert_calm(Trouble::Pause(300_000_000_000));
}

#[test]
fn a_disk_that_stalls_delays_no_start() {
    assert_calm(Trouble::Stall(5_000_000_000));
}

#[test]
fn a_flood_of_messages_delays_no_start() {
    assert_calm(Trouble::Flood);
}
