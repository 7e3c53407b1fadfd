//! Simulated appliances, seed by seed: the log is exactly the oracle's, and every planted bug is found.
//!
//! `RINGSCRAPE_SEEDS=1000 cargo test --release --test simulate -- --nocapture` runs many on all cores;
//! `RINGSCRAPE_SEED=17 cargo test --test simulate every_seed` runs one again.

use std::env;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use ringscrape::sim::scenario::{Starts, Trouble, starts_under};
use ringscrape::sim::{Planted, simulate};

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name}={v} is not a number")))
}

/// Takes numbers one after another on all cores. `work` is given each once.
fn on_all_cores(numbers: Range<u64>, work: impl Fn(u64) + Sync) {
    let next = AtomicU64::new(numbers.start);
    let cores = thread::available_parallelism().map_or(1, |n| n.get());
    let run = || {
        while let n = next.fetch_add(1, Ordering::Relaxed)
            && n < numbers.end
        {
            work(n);
        }
    };
    thread::scope(|scope| (0..cores).for_each(|_| _ = scope.spawn(run)));
}

#[test]
fn every_seed_gives_the_oracles_log() {
    let only = number("RINGSCRAPE_SEED");
    let seeds = only.map_or_else(|| number("RINGSCRAPE_SEEDS").unwrap_or(2), |_| 1);
    let first = only.or_else(|| number("RINGSCRAPE_SEED_FIRST")).unwrap_or(0);
    let (failed, samples, start) = (Mutex::new(Vec::new()), AtomicU64::new(0), Instant::now());
    on_all_cores(first..first + seeds, |seed| {
        match simulate(seed, None) {
            Ok(tally) => {
                assert!(tally.expected > 50_000 && tally.received >= tally.kept, "seed {seed}: {tally:?}");
                assert!(tally.failures > 20, "seed {seed}: the disk hardly failed: {tally:?}");
                assert!(tally.moves > 50, "seed {seed}: hardly a target went to another shard: {tally:?}");
                samples.fetch_add(tally.expected, Ordering::Relaxed);
            }
            Err(finding) => {
                eprintln!("seed {seed}: {finding}");
                failed.lock().unwrap().push(seed);
            }
        }
        let done = seed + 1 - first;
        if done.is_multiple_of(50) {
            eprintln!("{done} of {seeds} seeds, {:.1} s", start.elapsed().as_secs_f64());
        }
    });
    let seconds = start.elapsed().as_secs_f64();
    let samples = samples.load(Ordering::Relaxed);
    eprintln!("{seeds} seeds, {samples} samples, {seconds:.1} s, {:.2} seeds a second", seeds as f64 / seconds);
    let failed = failed.lock().unwrap();
    assert!(
        failed.is_empty(),
        "seeds {failed:?} differ; again: RINGSCRAPE_SEED={} cargo test --test simulate every_seed -- --nocapture",
        failed[0]
    );
}

/// Tells after how many seeds each bug is found; up to `RINGSCRAPE_SEEDS_PLANTED` are tried. Each starts where
/// `RINGSCRAPE_SEED_FIRST` says.
#[test]
fn planted_bugs_are_found() {
    let most = number("RINGSCRAPE_SEEDS_PLANTED").unwrap_or(20);
    let first = number("RINGSCRAPE_SEED_FIRST").unwrap_or(0);
    on_all_cores(0..Planted::ALL.len() as u64, |n| {
        let planted = Planted::ALL[n as usize];
        let found = (first..first + most).find_map(|seed| simulate(seed, Some(planted)).err().map(|f| (seed, f)));
        let Some((seed, finding)) = found else { panic!("{planted:?} is not found in {most} seeds") };
        eprintln!("{planted:?}: found by seed {seed}: {}", finding.0.lines().next().unwrap_or_default());
    });
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
