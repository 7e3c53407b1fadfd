//! ringscrape killed at random moments under load: what was written stays, and the receiver gets it.
//!
//! Every target counts its requests in the values it exposes, so the receiver's samples tell which scrapes arrived. A scrape
//! may be missing only if its answer was still on the way, or younger than one flush, when a kill came. `RINGSCRAPE_KILLS=n`
//! asks for another number of kills, `RINGSCRAPE_SEED=n` for other moments, `RINGSCRAPE_ENGINE=epoll` for another engine.

#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, UNIX_EPOCH};

use support::answer::Answer;
use support::process::{Scraper, engine};
use support::receiver::{Labels, Receiver};
use support::target::{Counted, TargetServer};

/// Kills in a run.
const KILLS: u64 = 50;
/// Targets; each is scraped every second, spread evenly.
const TARGETS: usize = 300;
/// Samples of a target.
const SAMPLES: usize = 8;
/// A journal flush is 200 ms; the rest is for parsing and writing on a machine that does other things too. What the machine
/// kept this test itself waiting comes on top ([`Lag`]).
const FLUSH: Duration = Duration::from_millis(450);
/// Less than a process needs from its start to its first scrape.
const STARTING: Duration = Duration::from_millis(30);
/// Longest wait for the receiver to have everything after the last kill.
const CATCH_UP: Duration = Duration::from_secs(30);

/// A small generator (splitmix64).
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn write_config(dir: &Path, server: &TargetServer, receiver: &Receiver) {
    let mut yaml = format!(
        "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nremote_write:\n- url: http://{}/api/v1/write\n  \
         queue_config: {{batch_send_deadline: 200ms, max_backoff: 200ms}}\nscrape_configs:\n- job_name: j\n  static_configs:\n",
        receiver.addr
    );
    for n in 0..TARGETS {
        yaml.push_str(&format!(
            "  - {{targets: ['{}'], labels: {{__metrics_path__: /x/{n}, path: '/x/{n}'}}}}\n",
            server.addr
        ));
    }
    std::fs::write(dir.join("prometheus.yml"), yaml).expect("the directory is ours");
}

/// Scrape numbers the receiver has by path, for one sample of the target each; and what was wrong with the log itself.
struct Arrived {
    by_path: HashMap<String, HashSet<usize>>,
    /// Times of failed scrapes by path, ms: their answers are known to have come too late.
    failed: HashMap<String, Vec<i64>>,
    faults: Vec<String>,
}

impl Arrived {
    /// Whether the scrape whose answer went out then was written as a failed one.
    fn says_failed(&self, scrape: &Counted) -> bool {
        let answered = scrape.wall.duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        self.failed.get(&scrape.path).is_some_and(|times| times.iter().any(|t| (0..1_500).contains(&(answered - t))))
    }
}

fn label<'l>(labels: &'l Labels, name: &str) -> &'l str {
    labels.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
}

/// A scrape counts as arrived only with all its samples. A time may come twice (at least once is the promise), but never with
/// another value, and values rise with time.
fn arrived(receiver: &Receiver) -> Arrived {
    let mut seen: HashMap<String, BTreeMap<usize, usize>> = HashMap::new();
    let mut faults = Vec::new();
    let mut failed: HashMap<String, Vec<i64>> = HashMap::new();
    receiver.with_log(|log| {
        for (labels, points) in log.iter().filter(|(l, _)| label(l, "__name__") == "up") {
            let times = points.iter().filter(|p| p.bits == 0f64.to_bits()).map(|p| p.time_ms);
            failed.entry(label(labels, "path").to_owned()).or_default().extend(times);
        }
        for (labels, points) in log.iter().filter(|(l, _)| label(l, "__name__") == "counted") {
            let mut by_time: BTreeMap<i64, u64> = BTreeMap::new();
            for point in points {
                let before = by_time.insert(point.time_ms, point.bits);
                if before.is_some_and(|b| b != point.bits) {
                    faults.push(format!("{labels:?} has two values at {}", point.time_ms));
                }
            }
            let values: Vec<f64> = by_time.into_values().map(f64::from_bits).filter(|v| !v.is_nan()).collect();
            if values.windows(2).any(|w| w[0] >= w[1]) {
                faults.push(format!("{labels:?} does not rise with time"));
            }
            let path = seen.entry(label(labels, "path").to_owned()).or_default();
            values.iter().for_each(|v| *path.entry(*v as usize).or_insert(0) += 1);
        }
    });
    let by_path = seen
        .into_iter()
        .map(|(path, counts)| (path, counts.into_iter().filter(|(_, n)| *n == SAMPLES).map(|(v, _)| v).collect()))
        .collect();
    Arrived { by_path, failed, faults }
}

/// How late a thread that sleeps is woken: what everything on this machine has to put up with.
#[derive(Clone, Default)]
struct Lag(Arc<Mutex<Vec<(Instant, Duration)>>>);

impl Lag {
    /// Delays shorter than this are not kept.
    const KEPT: Duration = Duration::from_millis(5);
    /// A scrape passes through a few threads of three processes, each of which may be kept waiting.
    const THREADS: u32 = 4;

    fn start() -> Self {
        let lag = Self::default();
        let log = Arc::downgrade(&lag.0);
        thread::spawn(move || {
            while let Some(log) = log.upgrade() {
                let begun = Instant::now();
                thread::sleep(Duration::from_millis(2));
                let late = begun.elapsed().saturating_sub(Duration::from_millis(2));
                if late > Self::KEPT {
                    log.lock().expect("no holder panics").push((begun, late));
                }
            }
        });
        lag
    }

    /// What a life around this kill is forgiven.
    fn around(&self, kill: Instant) -> Duration {
        let near = |at: &Instant| *at + Duration::from_secs(2) > kill && *at < kill + Duration::from_millis(500);
        let log = self.0.lock().expect("no holder panics");
        log.iter().filter(|(at, _)| near(at)).map(|(_, late)| *late * Self::THREADS).max().unwrap_or_default()
    }
}

/// Scrapes answered long enough before the next kill that have not arrived, and the longest time before a kill of a lost one.
fn holes(
    server: &TargetServer,
    arrived: &Arrived,
    (kills, lags): (&[Instant], &[Duration]),
    until: Instant,
) -> (Vec<String>, Duration) {
    let mut holes = Vec::new();
    let mut longest = Duration::ZERO;
    for scrape in server.counted().into_iter().filter(|s| s.at < until) {
        let have = arrived.by_path.get(&scrape.path).is_some_and(|numbers| numbers.contains(&scrape.number));
        if have || arrived.says_failed(&scrape) {
            continue;
        }
        let life = kills.iter().filter(|k| **k < scrape.at).count();
        // A request of the life before may be answered after its end; no life asks anything this soon.
        if life > 0 && scrape.at < kills[life - 1] + STARTING + lags[life - 1] {
            continue;
        }
        let before = kills.get(life).map_or(Duration::MAX, |k| k.duration_since(scrape.at));
        if before > FLUSH + lags.get(life).copied().unwrap_or_default() {
            let after = life.checked_sub(1).map(|last| scrape.at.duration_since(kills[last]));
            let (path, number) = (&scrape.path, scrape.number);
            holes.push(format!(
                "life {life}: {path} #{number} answered {before:?} before its end, {after:?} after the last"
            ));
        } else {
            longest = longest.max(before);
        }
    }
    (holes, longest)
}

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn nothing_written_is_lost_when_killed() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_ringscrape"));
    let scratch = tempfile::tempdir().expect("a temporary directory");
    let scripts = (0..TARGETS).map(|n| (format!("/{n}"), vec![Answer::count(SAMPLES)])).collect();
    let server = TargetServer::start(scripts);
    let receiver = Receiver::start();
    write_config(scratch.path(), &server, &receiver);
    let mut random = Random(number("RINGSCRAPE_SEED", 1));
    let mut kills = Vec::new();
    let lag = Lag::start();
    for life in 0..number("RINGSCRAPE_KILLS", KILLS) {
        // In every third life the receiver is down, so that the next one has a spool to send.
        receiver.fail(life % 3 == 1);
        let mut scraper = Scraper::start(&binary, scratch.path(), &engine());
        thread::sleep(Duration::from_millis(100 + random.below(1_400)));
        assert!(scraper.alive(), "life {life} ended by itself:\n{}", scraper.last_words());
        kills.push(Instant::now());
        scraper.kill();
    }
    receiver.fail(false);
    let mut last = Scraper::start(&binary, scratch.path(), &engine());
    thread::sleep(Duration::from_secs(2));
    let until = Instant::now();
    let lags: Vec<Duration> = kills.iter().map(|k| lag.around(*k)).collect();
    loop {
        thread::sleep(Duration::from_millis(500));
        assert!(last.alive(), "the last life ended by itself:\n{}", last.last_words());
        let arrived = arrived(&receiver);
        let (holes, longest) = holes(&server, &arrived, (&kills, &lags), until);
        if !holes.is_empty() && arrived.faults.is_empty() && until.elapsed() < CATCH_UP {
            continue;
        }
        let scrapes: usize = arrived.by_path.values().map(HashSet::len).sum();
        let failed: usize = arrived.failed.values().map(Vec::len).sum();
        println!(
            "{} kills, {scrapes} scrapes arrived, {failed} failed, oldest lost answer {longest:?} before a kill, forgiven at most {:?}",
            kills.len(),
            lags.iter().max()
        );
        assert!(arrived.faults.is_empty(), "{:#?}", &arrived.faults[..arrived.faults.len().min(20)]);
        assert!(holes.is_empty(), "{} holes:\n{}", holes.len(), holes[..holes.len().min(40)].join("\n"));
        assert!(scrapes > TARGETS * kills.len() / 5, "the load was no load: {scrapes} scrapes");
        assert!(failed < scrapes / 50, "targets that answer at once do not fail");
        return;
    }
}
