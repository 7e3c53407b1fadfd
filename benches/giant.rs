//! A giant: a body too large for a layout of its own, packed as it comes; times, stalls, memory.
//!
//! `cargo bench --bench giant [samples]`: 5,000,000 samples (600 MB) unless told otherwise. The body is never held: each
//! slice is made just before it is fed, and making it is not timed. The longest feed and the end are what other targets of
//! the shard would wait for.

use std::fmt::Write;
use std::time::Instant;

use ringscrape::config::ScrapeConfig;
use ringscrape::model::{IdentityHasher, Labels};
use ringscrape::series::{PoolSeries, ScrapeCache, ScrapeTime, Scraped, Store};

/// As much as a full receive buffer.
const SLICE: usize = 64 << 10;

/// One line in the manner of kube-state-metrics: `i` decides on everything but the value.
fn line(out: &mut String, i: u64, value: u64) {
    let pod = (i / 5) % 100_003;
    let id = pod.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(17).wrapping_mul(0xD6E8_FEB8_6659_FD93);
    let phase = ["Pending", "Succeeded", "Failed", "Running", "Unknown"][i as usize % 5];
    let (namespace, family) = (id % 50, i / 500_015);
    write!(
        out,
        "kube_pod_status_{family}{{namespace=\"ns-{namespace}\",pod=\"app-{:x}-{:05x}\",uid=\"{id:016x}-{i}\",phase=\"{phase}\"}} {value}\n",
        id >> 40,
        id & 0xf_ffff
    )
    .expect("a string takes all");
}

struct Rig {
    store: Store,
    pool: PoolSeries,
    cache: ScrapeCache,
    time_ms: i64,
}

impl Rig {
    /// `lines` gives the series of each line.
    fn scrape(&mut self, name: &str, samples: u64, lines: impl Fn(u64) -> u64) -> Scraped {
        self.time_ms += 60_000;
        let mut parse = self.store.begin(&self.pool, &self.cache);
        let (mut text, mut bytes, mut total, mut longest) = (String::new(), 0, 0.0, 0.0f64);
        for i in 0..samples {
            line(&mut text, lines(i), i % 7 + (self.time_ms as u64 / 60_000) * (i % 3));
            if text.len() >= SLICE || i + 1 == samples {
                let start = Instant::now();
                parse.feed(text.as_bytes());
                let took = start.elapsed().as_secs_f64();
                (total, longest) = (total + took, longest.max(took));
                bytes += text.len();
                text.clear();
            }
        }
        let time = ScrapeTime { time_ms: self.time_ms, now_ms: self.time_ms };
        let start = Instant::now();
        let mut scraped = self.cache.finish(&mut self.store, &self.pool, parse, time);
        let end = start.elapsed().as_secs_f64();
        assert_eq!(scraped.error, None);
        assert_eq!(scraped.tallies.scraped, samples);
        scraped.set_report(&[1.0; 5]);
        let rate = bytes as f64 / total / 1e6;
        let added = scraped.tallies.series_added;
        println!(
            "{name:22} {total:6.2} s {rate:6.0} MB/s  longest feed {:7.2} ms  end {:7.1} ms  {added} added  {}",
            longest * 1e3,
            end * 1e3,
            memory()
        );
        scraped
    }
}

/// Resident now and at most, of this process.
fn memory() -> String {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells");
    let field = |name: &str| {
        let line = status.lines().find(|l| l.starts_with(name)).expect("the field is there");
        line.split_whitespace().nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") / 1024
    };
    format!("resident {} MiB, at most {} MiB", field("VmRSS"), field("VmHWM"))
}

fn main() {
    let samples = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(5_000_000);
    let pool = PoolSeries::new(&ScrapeConfig::default()).expect("no rules");
    let labels = Labels::from_pairs([("instance", "10.0.0.1:8080"), ("job", "kube-state-metrics")]);
    let cache = ScrapeCache::new(&pool, &labels);
    let mut rig = Rig { store: Store::new(IdentityHasher::new(1, 2)), pool, cache, time_ms: 0 };
    println!("{samples} samples; {}", memory());
    let first = rig.scrape("first", samples, |i| i);
    let key = first.shape.key;
    drop(first);
    let same = rig.scrape("the same", samples, |i| i);
    assert_eq!((same.shape.key, same.stale.len()), (key, 0));
    drop(same);
    let new = |i: u64| if i % 10_000 < 100 { i + samples } else { i };
    let changed = rig.scrape("1 % of it new", samples, new);
    assert_eq!(changed.stale[0].slots.len() as u64, samples / 100);
    drop(changed);
    drop(rig.scrape("the same", samples, new));
    let stats = rig.store.stats();
    println!("packed: {:.1} bytes a series in {} chunks", stats.packed_bytes as f64 / samples as f64, stats.chunks);
    let time = ScrapeTime { time_ms: rig.time_ms + 60_000, now_ms: rig.time_ms + 60_000 };
    let start = Instant::now();
    let failed = rig.cache.fail(&mut rig.store, time);
    println!("down: end {:.1} ms, {} markers", start.elapsed().as_secs_f64() * 1e3, failed.stale[0].slots.len());
}
