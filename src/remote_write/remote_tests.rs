//! Senders against scripted receivers: nothing lost, nothing doubled, nobody held up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::remote::Remote;
use super::test_receiver::{Arrival, Receiver, Reply};
use super::test_spool::{MemorySpool, SERIES};
use super::test_wire::Flat;
use crate::base::time::Now;
use crate::config::{Auth, HttpClient, Queue, RemoteWrite, Secret, SecretSource};
use crate::model::Labels;
use crate::selfmetrics::Exposition;

const PATIENCE: Duration = Duration::from_secs(20);

fn destination(url: &str) -> RemoteWrite {
    RemoteWrite {
        url: url.into(),
        name: "test".into(),
        remote_timeout: Duration::from_secs(10),
        headers: BTreeMap::new(),
        write_relabel_configs: Vec::new(),
        queue: Queue {
            capacity: 10_000,
            max_shards: 4,
            min_shards: 1,
            max_samples_per_send: 2_000,
            batch_send_deadline: Duration::from_millis(100),
            min_backoff: Duration::from_millis(30),
            max_backoff: Duration::from_millis(200),
            retry_on_http_429: None,
            sample_age_limit: Duration::ZERO,
        },
        http: HttpClient { follow_redirects: true, ..HttpClient::default() },
    }
}

fn remote(spool: &MemorySpool, config: &RemoteWrite) -> Remote<MemorySpool> {
    let remote = Remote::new(spool.clone());
    remote.apply(std::slice::from_ref(config), &Labels::default()).expect("a usable destination");
    remote
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "waited too long for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn instance(flat: &Flat) -> &str {
    &flat.0.iter().find(|l| l.0 == "instance").expect("every series has one").1
}

/// Every stored sample once, and per series in order of time.
fn assert_in_order(stored: &[Flat]) {
    let mut last = BTreeMap::new();
    for (labels, _, time) in stored {
        let before = last.insert(labels.clone(), *time);
        assert!(before.is_none_or(|t| t < *time), "{labels:?}: {before:?} then {time}");
    }
}

fn metric(remote: &Remote<MemorySpool>, name: &str, having: &str) -> f64 {
    let mut exposition = Exposition::default();
    remote.collect(0.0, &mut exposition);
    let text = exposition.text();
    let line = text.lines().find(|l| l.starts_with(&format!("{name}{{")) && l.contains(having));
    let line = line.unwrap_or_else(|| panic!("no {name} in {text}"));
    line.rsplit(' ').next().expect("a value").parse().expect("a number")
}

/// Scrapes of `targets` at `rounds` times from now on, spread over two shards.
fn scrapes(spool: &MemorySpool, segment: u64, targets: usize, rounds: std::ops::Range<usize>) -> usize {
    let now_ms = Now::read().wall_ms();
    for round in rounds.clone() {
        for target in 0..targets {
            let shard = target as u32 % 2;
            spool.scrape(shard, segment, &format!("t{target}"), now_ms + round as i64, (round * 1000 + target) as f64);
        }
    }
    targets * rounds.len() * SERIES
}

#[test]
fn everything_arrives_once_and_in_order_whatever_goes_wrong_in_between() {
    let seen = AtomicUsize::new(0);
    let receiver = Receiver::start(move |_| match seen.fetch_add(1, Ordering::Relaxed) % 9 {
        1 => Reply::Status(500),
        3 => Reply::Reset,
        4 => Reply::Full(503, vec![("Retry-After".into(), "0".into())], "busy".into()),
        6 => Reply::Slow(Duration::from_millis(300)),
        7 => Reply::Status(429),
        _ => Reply::Status(200),
    });
    let spool = MemorySpool::default();
    let mut config = destination(&receiver.url());
    config.queue.min_shards = 3;
    config.queue.max_samples_per_send = 40;
    let remote = remote(&spool, &config);
    let want = scrapes(&spool, 1, 20, 0..30);
    wait_for("all samples", || receiver.stored().len() >= want);
    remote.stop(Duration::from_secs(5));
    let stored = receiver.stored();
    assert_eq!(stored.len(), want);
    assert_in_order(&stored);
    for arrival in receiver.arrivals() {
        assert!((1..=42).contains(&arrival.samples.len()), "whole scrapes up to the limit");
        assert_eq!(arrival.headers["content-type"], "application/x-protobuf");
        assert_eq!(arrival.headers["content-encoding"], "snappy");
        assert_eq!(arrival.headers["x-prometheus-remote-write-version"], "0.1.0");
        assert!(arrival.headers["user-agent"].starts_with("ringscrape/"));
        assert!(!arrival.headers.contains_key("authorization"));
    }
}

#[test]
fn a_repeated_attempt_says_so_and_waits_as_asked() {
    let receiver = Receiver::start({
        let mut n = 0;
        move |_| {
            n += 1;
            match n {
                1 => Reply::Full(429, vec![("Retry-After".into(), "1".into())], String::new()),
                2 | 3 => Reply::Full(500, vec![], "down for repairs".into()),
                _ => Reply::Status(204),
            }
        }
    });
    let spool = MemorySpool::default();
    let remote = remote(&spool, &destination(&receiver.url()));
    let want = scrapes(&spool, 1, 4, 0..1);
    wait_for("the third attempt", || receiver.arrivals().len() >= 3);
    wait_for("trouble is shown", || {
        let trouble = remote.status()[0].trouble.clone();
        trouble.is_some_and(|t| t.error.contains("down for repairs") && t.since_ms > 0)
    });
    wait_for("all samples", || receiver.stored().len() >= want);
    remote.stop(Duration::from_secs(5));
    let arrivals = receiver.arrivals();
    let attempts: Vec<_> = arrivals.iter().map(|a| a.headers.get("retry-attempt").map(String::as_str)).collect();
    assert_eq!(attempts, [None, Some("1"), Some("2"), Some("3")]);
    assert!(arrivals[1].at - arrivals[0].at >= Duration::from_secs(1));
    assert!(arrivals[2].at - arrivals[1].at >= Duration::from_millis(30));
    assert!(arrivals[3].at - arrivals[2].at >= Duration::from_millis(60));
}

#[test]
fn refusals_are_dropped_counted_and_shown() {
    for code in [401, 404, 409, 301] {
        let receiver = Receiver::start({
            let mut n = 0;
            move |_| {
                n += 1;
                if n == 1 { Reply::Full(code, vec![], "x".repeat(5000)) } else { Reply::Status(204) }
            }
        });
        let spool = MemorySpool::default();
        let remote = remote(&spool, &destination(&receiver.url()));
        let refused = scrapes(&spool, 1, 4, 0..1);
        wait_for("the refusal", || metric(&remote, "prometheus_remote_storage_samples_failed_total", "") > 0.0);
        assert_eq!(metric(&remote, "prometheus_remote_storage_samples_failed_total", "") as usize, refused);
        let rejections = remote.status()[0].rejections.clone();
        assert_eq!(rejections.len(), 1);
        assert_eq!(rejections[0].samples, refused);
        assert_eq!(rejections[0].answer, format!("HTTP status {code}: {}", "x".repeat(1024)));
        let want = scrapes(&spool, 1, 4, 1..2);
        wait_for("the next scrapes", || receiver.stored().len() >= want);
        wait_for("trouble is over", || remote.status()[0].trouble.is_none());
        remote.stop(Duration::from_secs(5));
        assert_eq!(receiver.arrivals().len(), 2);
    }
}

#[test]
fn a_bad_target_costs_only_itself() {
    for code in [400, 413] {
        let receiver = Receiver::start(move |a: &Arrival| {
            let bad = a.samples.iter().any(|s| ["t5", "t17"].contains(&instance(s)));
            if bad { Reply::Full(code, vec![], "out of order sample".into()) } else { Reply::Status(204) }
        });
        let spool = MemorySpool::default();
        let remote = remote(&spool, &destination(&receiver.url()));
        let all = scrapes(&spool, 1, 40, 0..3);
        let want = all - 2 * 3 * SERIES;
        wait_for("the good ones", || receiver.stored().len() >= want);
        let failed = || metric(&remote, "prometheus_remote_storage_samples_failed_total", "") as usize;
        wait_for("the bad ones counted", || failed() >= all - want);
        assert_eq!(failed(), all - want);
        let named: BTreeSet<_> = remote.status()[0].rejections.iter().map(|r| r.target.clone()).collect();
        assert_eq!(named, ["t17".to_owned(), "t5".to_owned()].into());
        remote.stop(Duration::from_secs(5));
        let stored = receiver.stored();
        assert_eq!(stored.len(), want);
        assert_in_order(&stored);
    }
}

#[test]
fn a_receiver_that_refuses_everything_is_not_flooded_with_halves() {
    let receiver = Receiver::start(|_| Reply::Status(400));
    let spool = MemorySpool::default();
    let mut config = destination(&receiver.url());
    config.queue.max_samples_per_send = 16 * SERIES as u64;
    let remote = remote(&spool, &config);
    let all = scrapes(&spool, 1, 16, 0..50);
    let failed = || metric(&remote, "prometheus_remote_storage_samples_failed_total", "") as usize;
    wait_for("everything given up", || failed() >= all);
    remote.stop(Duration::from_secs(5));
    let attempts = receiver.arrivals().len();
    assert!((50..2 * 31 + 50).contains(&attempts), "{attempts} attempts for 50 requests of 16 targets");
}

/// A backlog of 12,000 scrapes, refused whole: without a bound it is asked for in 23,940 requests.
#[test]
fn a_receiver_that_refuses_a_whole_backlog_is_not_flooded_with_halves() {
    for (code, counter) in [(400, "samples_dropped_total"), (413, "samples_failed_total")] {
        let receiver = Receiver::start(move |_| Reply::Status(code));
        let spool = MemorySpool::default();
        let mut config = destination(&receiver.url());
        config.queue.max_samples_per_send = 200 * SERIES as u64;
        // An earlier life had the destination, and not one answer.
        remote(&spool, &config).stop(Duration::ZERO);
        let all = scrapes(&spool, 1, 200, 0..60);
        let remote = remote(&spool, &config);
        let having = if code == 400 { "refused_in_replay" } else { "" };
        let given_up = || metric(&remote, &format!("prometheus_remote_storage_{counter}"), having) as usize;
        wait_for("everything given up", || given_up() >= all);
        assert_eq!(given_up(), all, "counted once");
        remote.stop(Duration::from_secs(5));
        let attempts = receiver.arrivals().len();
        // Twice a thousand, and seventeen for each of some fifty-five requests.
        assert!((1_500..3_500).contains(&attempts), "{attempts} attempts for 60 requests of 200 targets");
    }
}

/// The same in the beginning; then the receiver has a part of each request, and later nothing.
#[test]
fn a_doubted_replay_still_loses_only_what_the_receiver_refuses() {
    let refused = |s: &Flat| {
        let (round, target) = (f64::from_bits(s.1) as u64 / 1000, instance(s)[1..].parse::<u64>().expect("a number"));
        round < 20 || (round < 25 && target.is_multiple_of(3))
    };
    let receiver = Receiver::start(
        move |a: &Arrival| {
            if a.samples.iter().any(refused) { Reply::Status(400) } else { Reply::Status(204) }
        },
    );
    let spool = MemorySpool::default();
    let mut config = destination(&receiver.url());
    config.queue.max_samples_per_send = 200 * SERIES as u64;
    remote(&spool, &config).stop(Duration::ZERO);
    let all = scrapes(&spool, 1, 200, 0..30);
    let remote = remote(&spool, &config);
    let want = all - (20 * 200 + 5 * 67) * SERIES;
    wait_for("the good ones", || receiver.stored().len() >= want);
    let dropped = || metric(&remote, "prometheus_remote_storage_samples_dropped_total", "refused_in_replay") as usize;
    wait_for("the others counted", || dropped() >= all - want);
    assert_eq!(dropped(), all - want);
    remote.stop(Duration::from_secs(5));
    assert_eq!(receiver.stored().len(), want);
    assert_in_order(&receiver.stored());
    // Some of the first twenty rounds are not taken apart.
    let attempts = receiver.arrivals().len();
    assert!(attempts < 25 * 399, "{attempts} attempts");
}

#[test]
fn a_dead_receiver_loses_nothing_and_holds_up_nobody() {
    let port = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = port.local_addr().expect("an address");
    drop(port);
    let alive = Receiver::start(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let remote = Remote::new(spool.clone());
    let mut dead_config = destination(&format!("http://{address}/api/v1/write"));
    dead_config.queue.max_samples_per_send = 100;
    let alive_config = RemoteWrite { name: "alive".into(), ..destination(&alive.url()) };
    remote.apply(&[dead_config, alive_config], &Labels::default()).expect("usable");
    let want = scrapes(&spool, 1, 50, 0..40);
    wait_for("the living one", || alive.stored().len() >= want);
    wait_for("the lag of the dead one", || {
        let status = remote.status();
        let dead = status.iter().find(|s| s.name == "test").expect("configured");
        dead.lag_seconds > 0.0 && dead.backlog_bytes > 0.0 && dead.samples_pending > 0.0 && dead.trouble.is_some()
    });
    let back = Receiver::on(TcpListener::bind(address).expect("the same port"), |_| Reply::Status(204));
    wait_for("the dead one's samples", || back.stored().len() >= want);
    remote.stop(Duration::from_secs(5));
    assert_eq!((back.stored().len(), alive.stored().len()), (want, want));
    assert_in_order(&back.stored());
}

#[test]
fn stopping_drains_and_starting_resumes() {
    let receiver = Receiver::start(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let mut config = destination(&receiver.url());
    config.queue.batch_send_deadline = Duration::from_secs(60);
    let first = remote(&spool, &config);
    let mut want = scrapes(&spool, 1, 10, 0..2);
    let start = Instant::now();
    first.stop(Duration::from_secs(10));
    assert!(start.elapsed() < Duration::from_secs(5), "draining does not wait for the batch deadline");
    assert_eq!(receiver.stored().len(), want);
    // Written while nobody sends.
    want += scrapes(&spool, 1, 10, 2..4);
    config.queue.batch_send_deadline = Duration::from_millis(50);
    let second = remote(&spool, &config);
    want += scrapes(&spool, 2, 10, 4..6);
    wait_for("the rest", || receiver.stored().len() >= want);
    second.stop(Duration::from_secs(10));
    assert_eq!(receiver.stored().len(), want);
    assert_in_order(&receiver.stored());
}

#[test]
fn a_stop_gives_up_at_its_deadline_and_the_next_start_sends_the_rest() {
    let down = Arc::new(Mutex::new(true));
    let receiver = Receiver::start({
        let down = Arc::clone(&down);
        move |_| if *down.lock().expect("no panic") { Reply::Status(503) } else { Reply::Status(204) }
    });
    let spool = MemorySpool::default();
    let config = destination(&receiver.url());
    let first = remote(&spool, &config);
    let want = scrapes(&spool, 1, 10, 0..3);
    let start = Instant::now();
    first.stop(Duration::from_millis(500));
    assert!(start.elapsed() < Duration::from_secs(3));
    *down.lock().expect("no panic") = false;
    let second = remote(&spool, &config);
    wait_for("the rest", || receiver.stored().len() >= want);
    second.stop(Duration::from_secs(10));
    assert_eq!(receiver.stored().len(), want);
}

#[test]
fn a_replay_after_a_crash_fills_the_gap_of_every_target() {
    // Stores like Prometheus: one sample that is not newer than its series' last refuses the whole request.
    let last = Mutex::new(BTreeMap::<Vec<(String, String)>, i64>::new());
    let receiver = Receiver::start(move |a: &Arrival| {
        let mut last = last.lock().expect("no panic");
        if a.samples.iter().any(|s| last.get(&s.0).is_some_and(|t| s.2 <= *t)) {
            return Reply::Full(400, vec![], "out of order sample".into());
        }
        last.extend(a.samples.iter().map(|s| (s.0.clone(), s.2)));
        Reply::Status(204)
    });
    let spool = MemorySpool::default();
    let config = destination(&receiver.url());
    let first = remote(&spool, &config);
    let mut want = scrapes(&spool, 1, 8, 0..3);
    wait_for("the first rounds", || receiver.stored().len() >= want);
    wait_for("a saved position", || spool.has_positions());
    // The crash: the position of now is what survives, although more is delivered.
    let crashed = spool.crashed();
    want += scrapes(&spool, 1, 8, 3..6);
    wait_for("the next rounds", || receiver.stored().len() >= want);
    first.stop(Duration::from_secs(5));
    // Half of the targets got more into the journal than was delivered.
    let now_ms = Now::read().wall_ms() + 1000;
    for target in [0, 2, 4, 6] {
        spool.scrape(0, 1, &format!("t{target}"), now_ms, 0.5);
        want += SERIES;
    }
    let before = receiver.arrivals().len();
    let second = remote(&crashed, &config);
    want += scrapes(&spool, 2, 8, 2000..2002);
    wait_for("the rest", || receiver.stored().len() >= want);
    assert_eq!(metric(&second, "prometheus_remote_storage_samples_failed_total", ""), 0.0);
    second.stop(Duration::from_secs(5));
    assert_eq!(receiver.stored().len(), want);
    let replayed = &receiver.arrivals()[before..];
    assert!(replayed.iter().any(|a| a.code == 400), "the crash left something to replay");
    for arrival in replayed.iter().filter(|a| a.code == 400) {
        let series: BTreeSet<_> = arrival.samples.iter().map(|s| &s.0).collect();
        assert_eq!(series.len(), arrival.samples.len(), "one scrape per series");
    }
}

/// A restart with another number of shards puts a target's scrapes into another directory.
#[test]
fn what_an_earlier_life_left_goes_first_wherever_its_targets_are_now() {
    let is_dead = Arc::new(AtomicBool::new(true));
    let dead = Arc::clone(&is_dead);
    let receiver = Receiver::start(move |_| Reply::Status(if dead.load(Ordering::Relaxed) { 503 } else { 204 }));
    let spool = MemorySpool::default();
    let config = destination(&receiver.url());
    let first = remote(&spool, &config);
    let now_ms = Now::read().wall_ms();
    (0..50).for_each(|round| spool.scrape(0, 1, "moved", now_ms + round, 1.0));
    wait_for("an attempt", || !receiver.arrivals().is_empty());
    first.stop(Duration::ZERO);
    let second = Remote::new(spool.clone());
    (50..60).for_each(|round| spool.scrape(1, 1, "moved", now_ms + round, 1.0));
    is_dead.store(false, Ordering::Relaxed);
    second.apply(std::slice::from_ref(&config), &Labels::default()).expect("usable");
    wait_for("all", || receiver.stored().len() >= 60 * SERIES);
    second.stop(Duration::from_secs(5));
    assert_in_order(&receiver.stored());
}

/// A target that went to another shard, and one that went the other way, while the receiver was away.
#[test]
fn targets_that_change_shards_stay_in_order() {
    let is_dead = Arc::new(AtomicBool::new(true));
    let dead = Arc::clone(&is_dead);
    let receiver = Receiver::start(move |_| Reply::Status(if dead.load(Ordering::Relaxed) { 503 } else { 204 }));
    let spool = MemorySpool::default();
    let config = destination(&receiver.url());
    let remote = remote(&spool, &config);
    let now_ms = Now::read().wall_ms();
    for round in 0..400 {
        let time_ms = now_ms + round;
        // One directory has many times more events than the other.
        (0..5).for_each(|n| spool.scrape(0, 1, &format!("t{n}"), time_ms, 1.0));
        spool.scrape(u32::from(round >= 300), 1, "moved", time_ms, 1.0);
        spool.scrape(u32::from(round < 350), 1, "come", time_ms, 1.0);
    }
    wait_for("an attempt", || !receiver.arrivals().is_empty());
    is_dead.store(false, Ordering::Relaxed);
    wait_for("all", || receiver.stored().len() >= 400 * 7 * SERIES);
    remote.stop(Duration::from_secs(5));
    assert_in_order(&receiver.stored());
}

#[test]
fn a_new_destination_begins_now_and_a_changed_one_goes_on() {
    let receiver = Receiver::start(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let old_ms = Now::read().wall_ms() - 60_000;
    for round in 0..10 {
        spool.scrape(0, 1, "old", old_ms + round, 1.0);
    }
    let mut config = destination(&receiver.url());
    let remote = remote(&spool, &config);
    let mut want = scrapes(&spool, 1, 6, 0..3);
    wait_for("new samples", || receiver.stored().len() >= want);
    for change in 1..5 {
        config.queue.max_samples_per_send += 1;
        want += scrapes(&spool, 1, 6, change * 1000..change * 1000 + 3);
        remote.apply(std::slice::from_ref(&config), &Labels::default()).expect("usable");
        want += scrapes(&spool, 1, 6, change * 1000 + 3..change * 1000 + 5);
    }
    wait_for("samples around the changes", || receiver.stored().len() >= want);
    let sent = metric(&remote, "prometheus_remote_storage_samples_total", "");
    remote.apply(std::slice::from_ref(&config), &Labels::default()).expect("usable");
    assert_eq!(metric(&remote, "prometheus_remote_storage_samples_total", ""), sent, "an unchanged one goes on");
    remote.stop(Duration::from_secs(5));
    let stored = receiver.stored();
    assert_eq!(stored.len(), want);
    assert!(stored.iter().all(|s| instance(s) != "old"));
    assert_in_order(&stored);
}

#[test]
fn a_destination_that_moves_takes_its_backlog_along() {
    let dead = Receiver::start(|_| Reply::Status(503));
    let alive = Receiver::start(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let first = remote(&spool, &destination(&dead.url()));
    let mut want = scrapes(&spool, 1, 6, 0..20);
    wait_for("an attempt", || !dead.arrivals().is_empty());
    wait_for("trouble", || first.status()[0].trouble.is_some());
    first.apply(&[destination(&alive.url())], &Labels::default()).expect("usable");
    assert!(first.status()[0].trouble.is_none(), "the old receiver's trouble is not the new one's");
    want += scrapes(&spool, 1, 6, 1000..1010);
    wait_for("the backlog at the new receiver", || alive.stored().len() >= want);
    first.stop(Duration::from_secs(5));
    assert_eq!(alive.stored().len(), want);
    assert_in_order(&alive.stored());
    // Also while nobody sends.
    let elsewhere = Receiver::start(|_| Reply::Status(204));
    let left = scrapes(&spool, 1, 6, 2000..2010);
    let second = remote(&spool, &destination(&elsewhere.url()));
    wait_for("what was left", || elsewhere.stored().len() >= left);
    second.stop(Duration::from_secs(5));
    assert_eq!(elsewhere.stored().len(), left);
}

#[test]
fn a_destination_that_goes_gets_what_was_scraped_before() {
    let receiver = Receiver::start(|_| Reply::Slow(Duration::from_millis(20)));
    let spool = MemorySpool::default();
    let mut config = destination(&receiver.url());
    config.queue.max_samples_per_send = 10;
    config.queue.max_shards = 1;
    let remote = remote(&spool, &config);
    // More than the lanes hold, so that some of it is not even read yet.
    let now_ms = Now::read().wall_ms();
    (0..100).for_each(|round| spool.scrape(0, 1, &format!("t{}", round % 5), now_ms + round, 1.0));
    wait_for("an answer", || !receiver.stored().is_empty());
    std::thread::sleep(Duration::from_millis(100));
    remote.apply(&[], &Labels::default()).expect("usable");
    spool.scrape(0, 1, "t0", Now::read().wall_ms() + 1000, 2.0);
    wait_for("all of before", || receiver.stored().len() >= 100 * SERIES);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(receiver.stored().len(), 100 * SERIES);
}

#[test]
fn samples_past_the_age_limit_are_dropped_and_counted() {
    let receiver = Receiver::start(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let mut config = destination(&receiver.url());
    config.queue.sample_age_limit = Duration::from_secs(30);
    let remote = remote(&spool, &config);
    // A shard that appears later is read from its beginning.
    std::thread::sleep(Duration::from_millis(50));
    let now_ms = Now::read().wall_ms();
    spool.scrape(7, 1, "late", now_ms - 60_000, 1.0);
    spool.scrape(7, 1, "good", now_ms, 1.0);
    wait_for("the young one", || receiver.stored().len() == SERIES);
    assert!(receiver.stored().iter().all(|s| instance(s) == "good"));
    let dropped = metric(&remote, "prometheus_remote_storage_samples_dropped_total", "too_old");
    assert_eq!(dropped as usize, SERIES);
    remote.stop(Duration::from_secs(5));
}

#[test]
fn credentials_come_from_files_and_stay_on_their_host() {
    let elsewhere = Receiver::start(|_| Reply::Status(204));
    // Another host name for the same machine, so that the redirect leaves the configured host.
    let foreign = format!("http://localhost:{}/moved", elsewhere.address.port());
    let receiver = Receiver::start(move |a: &Arrival| match a.path.as_str() {
        "/api/v1/write" => Reply::Full(307, vec![("Location".into(), "/home".into())], String::new()),
        _ => Reply::Full(308, vec![("Location".into(), foreign.clone())], String::new()),
    });
    let spool = MemorySpool::default();
    let data = tempfile::tempdir().expect("a directory");
    let password = data.path().join("password");
    std::fs::write(&password, "s3cret\n").expect("written");
    let mut config = destination(&receiver.url());
    config.headers.insert("X-Scope-OrgID".into(), "tenant".into());
    config.http.auth = Auth::Basic {
        username: Some(SecretSource::Inline(Secret::new("me"))),
        password: Some(SecretSource::File(password.clone())),
    };
    let remote = remote(&spool, &config);
    let mut want = scrapes(&spool, 1, 2, 0..1);
    wait_for("the first round", || elsewhere.stored().len() >= want);
    std::fs::write(&password, "rotated").expect("written");
    want += scrapes(&spool, 1, 2, 1..2);
    wait_for("the second round", || elsewhere.stored().len() >= want);
    remote.stop(Duration::from_secs(5));
    let seen: Vec<_> = receiver
        .arrivals()
        .iter()
        .map(|a| (a.path.clone(), a.headers["authorization"].clone(), a.headers["x-scope-orgid"].clone()))
        .collect();
    let (first, second) = ("Basic bWU6czNjcmV0", "Basic bWU6cm90YXRlZA==");
    let want = [("/api/v1/write", first), ("/home", first), ("/api/v1/write", second), ("/home", second)];
    assert_eq!(seen, want.map(|(p, a)| (p.to_owned(), a.to_owned(), "tenant".to_owned())));
    for arrival in elsewhere.arrivals() {
        assert!(!arrival.headers.contains_key("authorization") && !arrival.headers.contains_key("x-scope-orgid"));
    }
}

#[test]
fn certificates_are_checked_unless_told_otherwise() {
    let receiver = Receiver::tls(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let data = tempfile::tempdir().expect("a directory");
    let ca = data.path().join("ca.pem");
    let mut config = destination(&format!("https://127.0.0.1:{}/", receiver.address.port()));
    config.http.tls.ca = Some(SecretSource::File(ca.clone()));
    let remote = remote(&spool, &config);
    let mut want = scrapes(&spool, 1, 2, 0..1);
    let trouble = |remote: &Remote<MemorySpool>, text: &str| {
        wait_for(text, || remote.status()[0].trouble.as_ref().is_some_and(|t| t.error.contains(text)));
    };
    trouble(&remote, "cannot read");
    std::fs::write(&ca, include_bytes!("../net/tls/testdata/receiver.pem")).expect("written");
    trouble(&remote, "invalid peer certificate");
    assert!(receiver.arrivals().is_empty());
    config.http.tls.server_name = "receiver.test".into();
    remote.apply(std::slice::from_ref(&config), &Labels::default()).expect("usable");
    wait_for("samples under the right name", || receiver.stored().len() >= want);
    config.http.tls = crate::config::Tls { insecure_skip_verify: true, ..crate::config::Tls::default() };
    remote.apply(std::slice::from_ref(&config), &Labels::default()).expect("usable");
    want += scrapes(&spool, 1, 2, 1..2);
    wait_for("samples without a check", || receiver.stored().len() >= want);
    remote.stop(Duration::from_secs(5));
    assert_eq!(receiver.stored().len(), want);
}

#[test]
fn settings_that_cannot_work_change_nothing() {
    let receiver = Receiver::start(|_| Reply::Status(204));
    let spool = MemorySpool::default();
    let good = destination(&receiver.url());
    let remote = remote(&spool, &good);
    let mut bad = RemoteWrite { name: "bad".into(), ..destination("http://user:hunter2@") };
    let error = remote.apply(&[bad.clone()], &Labels::default()).expect_err("no host").to_string();
    assert!(error.starts_with("remote_write bad: url: ") && !error.contains("hunter2"), "{error}");
    bad.url = receiver.url();
    bad.headers.insert("not a name".into(), "x".into());
    let error = remote.apply(&[bad], &Labels::default()).expect_err("no header").to_string();
    assert!(error.contains("\"not a name\""), "{error}");
    let want = scrapes(&spool, 1, 2, 0..1);
    wait_for("the old one still sends", || receiver.stored().len() >= want);
    remote.stop(Duration::from_secs(5));
}
