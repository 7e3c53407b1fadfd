//! Parsing of bodies: predicted, learned anew, and by the plain reference; answers are asserted, times printed.
//!
//! `cargo bench --bench parse [file]`: the file is an exposition body; without one, a synthetic body of the size and
//! texture of a node exporter's is used.

use std::fmt::Write;
use std::hint::black_box;
use std::time::Instant;

use ringscrape::config::ScrapeConfig;
use ringscrape::exposition::text::{Entry, Rest, step};
use ringscrape::model::{IdentityHasher, Labels};
use ringscrape::series::naive::Naive;
use ringscrape::series::{PoolSeries, ScrapeCache, ScrapeTime, Store};

/// Bytes handed to the parser at once: about a ring buffer.
const SLICE: usize = 32 << 10;

/// Families of one to twelve series with HELP and TYPE lines, values of all textures.
fn node_like(samples: usize) -> String {
    let mut body = String::new();
    let mut left = samples;
    let mut family = 0;
    while left > 0 {
        let count = [1, 1, 1, 2, 1, 12, 1, 4][family % 8].min(left);
        let name = format!("node_subsystem{}_measure{family}_bytes_total", family % 37);
        writeln!(body, "# HELP {name} Statistic number {family} of the subsystem, as the kernel counts it.").unwrap();
        writeln!(body, "# TYPE {name} counter").unwrap();
        for i in 0..count {
            let value = match (family + i) % 5 {
                0 => "0".to_owned(),
                1 => format!("{}", family * 7919 + i),
                2 => format!("{:.2}", family as f64 * 1.37),
                3 => format!("1.{}e+09", 2_345_678 + family * 31 + i),
                _ => format!("{}", 1u64 << ((family + i) % 50)),
            };
            match count {
                1 => writeln!(body, "{name} {value}").unwrap(),
                _ => writeln!(body, "{name}{{device=\"eth{i}\",mode=\"receive\"}} {value}").unwrap(),
            }
        }
        left -= count;
        family += 1;
    }
    body
}

struct Bench {
    store: Store,
    pool: PoolSeries,
    labels: Labels,
    time_ms: i64,
}

impl Bench {
    fn new() -> Self {
        let pool = PoolSeries::new(&ScrapeConfig { honor_timestamps: true, ..ScrapeConfig::default() }).unwrap();
        let labels = Labels::from_pairs([("instance", "10.0.0.1:9100"), ("job", "node")]);
        Self { store: Store::new(IdentityHasher::new(1, 2)), pool, labels, time_ms: 0 }
    }

    /// One whole scrape; gives the samples and the series added.
    fn scrape(&mut self, cache: &mut ScrapeCache, body: &[u8]) -> (u64, u64, usize) {
        self.time_ms += 1000;
        let mut parse = self.store.begin(&self.pool, cache);
        for slice in body.chunks(SLICE) {
            parse.feed(slice);
        }
        let time = ScrapeTime { time_ms: self.time_ms, now_ms: self.time_ms };
        let mut scraped = cache.finish(&mut self.store, &self.pool, parse, time);
        assert_eq!(scraped.error, None);
        scraped.set_report(&[1.0; 5]);
        let tallies = scraped.tallies;
        let stale = scraped.stale.iter().map(|s| s.slots.len()).sum();
        self.store.recycle(scraped);
        (tallies.scraped, tallies.series_added, stale)
    }
}

fn report(name: &str, bytes: usize, samples: usize, rounds: usize, mut round: impl FnMut(usize)) {
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        for i in 0..rounds {
            round(i);
        }
        best = best.min(start.elapsed().as_nanos() as f64 / rounds as f64);
    }
    let (sample, rate) = (best / samples as f64, bytes as f64 / best);
    println!("{name:34} {:9.2} us/body {sample:8.1} ns/sample {rate:7.2} GB/s", best / 1000.0);
}

fn tokens(body: &[u8]) -> usize {
    let (mut at, mut samples) = (0, 0);
    while at < body.len() {
        let (entry, next) = step(body, at, Rest::Nothing).unwrap();
        samples += usize::from(matches!(entry, Entry::Sample(_)));
        at = next;
    }
    samples
}

/// The body with its families in four random orders.
fn shuffles(text: &str) -> Vec<String> {
    let blocks: Vec<&str> = text.split_inclusive('\n').collect();
    let family_starts: Vec<usize> =
        (0..blocks.len()).filter(|&i| blocks[i].starts_with("# HELP") || i == 0).chain([blocks.len()]).collect();
    let mut families: Vec<String> = family_starts.windows(2).map(|w| blocks[w[0]..w[1]].concat()).collect();
    let mut seed = 7usize;
    (0..4)
        .map(|_| {
            for i in (1..families.len()).rev() {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                families.swap(i, (seed >> 33) % (i + 1));
            }
            families.concat()
        })
        .collect()
}

/// Every stage on one body.
fn stages(title: &str, text: &str) {
    let body = text.as_bytes();
    let samples = tokens(body);
    let rounds = (20_000_000 / body.len()).clamp(5, 20_000);
    println!("{title}: {} bytes, {samples} samples", body.len());
    report("  tokenize", body.len(), samples, rounds, |_| assert_eq!(black_box(tokens(black_box(body))), samples));

    let mut bench = Bench::new();
    let mut cache = ScrapeCache::new(&bench.pool, &bench.labels);
    assert_eq!(bench.scrape(&mut cache, body), (samples as u64, samples as u64, 0));
    report("  predicted scrape", body.len(), samples, rounds, |_| {
        assert_eq!(bench.scrape(&mut cache, black_box(body)), (samples as u64, 0, 0));
    });
    report("  first scrape, layout known", body.len(), samples, rounds, |_| {
        let mut cache = ScrapeCache::new(&bench.pool, &bench.labels);
        assert_eq!(bench.scrape(&mut cache, black_box(body)), (samples as u64, samples as u64, 0));
    });

    let named = |node: &str| text.replace("} ", &format!(",node=\"{node}\"}} "));
    let (first, second) = (named("n-1"), named("n-22"));
    bench.scrape(&mut ScrapeCache::new(&bench.pool, &bench.labels), first.as_bytes());
    let mut other = ScrapeCache::new(&bench.pool, &bench.labels);
    bench.scrape(&mut other, second.as_bytes());
    report("  predicted, a label of its own", second.len(), samples, rounds, |_| {
        assert_eq!(bench.scrape(&mut other, black_box(second.as_bytes())), (samples as u64, 0, 0));
    });

    changes(text, samples, rounds, (&mut bench, &mut cache));
}

/// The stages in which bodies change from scrape to scrape, and the reference.
fn changes(text: &str, samples: usize, rounds: usize, (bench, cache): (&mut Bench, &mut ScrapeCache)) {
    let body = text.as_bytes();
    let last = text.trim_end().rfind('\n').map_or(0, |i| i + 1);
    let changing: Vec<String> = (0..2).map(|i| format!("changing{{round=\"{i}\"}} 1\n{}", &text[..last])).collect();
    let count = samples as u64;
    bench.scrape(cache, changing[1].as_bytes());
    report("  one label value changes", body.len(), samples, rounds / 2 * 2, |i| {
        assert_eq!(bench.scrape(cache, black_box(changing[i % 2].as_bytes())), (count, 1, 1));
    });

    let shuffled = shuffles(text);
    bench.scrape(cache, body);
    report("  families in random order", body.len(), samples, rounds / 4 * 4, |i| {
        assert_eq!(bench.scrape(cache, black_box(shuffled[i % 4].as_bytes())).0, count);
    });

    let fresh = |i: usize| text.replace("} ", &format!(",round=\"{i}\"}} "));
    let rounds_fresh = (rounds / 10).max(2) / 2 * 2;
    let all: Vec<String> = (0..2).map(fresh).collect();
    report("  a label on every line changes", body.len(), samples, rounds_fresh, |i| {
        assert_eq!(bench.scrape(cache, black_box(all[i % 2].as_bytes())).0, count);
    });
    report("  learned from nothing", body.len(), samples, rounds_fresh, |_| {
        let mut bench = Bench::new();
        let mut cache = ScrapeCache::new(&bench.pool, &bench.labels);
        assert_eq!(bench.scrape(&mut cache, black_box(body)), (samples as u64, samples as u64, 0));
    });
    let mut naive = Naive::new(&ScrapeConfig::default(), &bench.labels).unwrap();
    let mut time_ms = 0;
    report("  reference", body.len(), samples, (rounds / 10).max(1), |_| {
        time_ms += 1;
        let outcome = naive.scrape(Some(black_box(body)), ScrapeTime { time_ms, now_ms: time_ms });
        assert_eq!(outcome.tallies.scraped, count);
    });
}

/// A line without end, in small slices: the cost must stay linear.
fn hostile() {
    let body = format!("a{{b=\"{}", "x\\n\n".repeat(1 << 18));
    let mut bench = Bench::new();
    let mut cache = ScrapeCache::new(&bench.pool, &bench.labels);
    report("endless line, slices of 64 bytes", body.len(), 1, 1, |_| {
        bench.time_ms += 1;
        let mut parse = bench.store.begin(&bench.pool, &cache);
        for slice in body.as_bytes().chunks(64) {
            parse.feed(slice);
        }
        let time = ScrapeTime { time_ms: bench.time_ms, now_ms: bench.time_ms };
        assert!(cache.finish(&mut bench.store, &bench.pool, parse, time).error.is_some());
    });
}

fn main() {
    let file = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let node = match &file {
        Some(path) => std::fs::read_to_string(path).expect("the body is readable"),
        None => node_like(507),
    };
    stages("node body", &node);
    stages("small body", &node_like(18));
    hostile();
}
