//! A receiver that dies, a kill meanwhile, and the receiver's return: nothing that was written is lost.

use std::thread;
use std::time::{Duration, Instant};

use crate::fleet::{Fleet, metric, until};

/// A journal flush is 200 ms; the rest is for parsing and writing on a machine that does other things too.
const FLUSH: Duration = Duration::from_millis(450);
/// Less than a process needs from its start to its first scrape.
const STARTING: Duration = Duration::from_millis(30);

#[test]
fn a_dead_receiver_and_a_kill_cost_nothing() {
    let fleet = Fleet::new(100, 500);
    let mut scraper = fleet.scraped(&[]);
    fleet.receiver.die();
    thread::sleep(Duration::from_secs(5));
    until("the failures to be counted", || metric(&scraper, "prometheus_remote_storage_samples_retried_total") > 0.0);
    let killed = Instant::now();
    scraper.kill();
    let mut scraper = fleet.started(&[]);
    thread::sleep(Duration::from_secs(5));
    let requests = fleet.receiver.requests();
    fleet.receiver.come_back();
    let back = Instant::now();
    thread::sleep(Duration::from_secs(1));
    // What was answered at the very moment of the kill had not been written.
    let excused = |at: Instant| at < killed + STARTING && killed < at + FLUSH;
    until("every scrape at the receiver", || fleet.missing(back, excused).is_empty());
    println!("all arrived {:?} after the receiver's return", back.elapsed());
    assert!(fleet.receiver.requests() > requests);
    assert!(fleet.receiver.faults().is_empty(), "{:#?}", fleet.receiver.faults());
    assert!(scraper.alive(), "{}", scraper.last_words());
}
