//! What a shard counts about itself: one writer, read by /metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;

use crate::base::time::Now;
use crate::selfmetrics::{Collect, Counter, Exposition, Gauge, Kind};
use crate::shard::intervals::Intervals;
use crate::shard::stages::{PhaseTimes, StageTimes, Stopwatch};

/// Quantiles that are published.
const QUANTILES: [(f64, &str); 5] = [(0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99"), (0.999, "0.999"), (1.0, "1")];
/// Upper bounds of the buckets of start lateness: seconds, as printed.
const LATENESS_BOUNDS: [(u64, &str); 17] = [
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (3_000, "0.003"),
    (5_000, "0.005"),
    (7_500, "0.0075"),
    (10_000, "0.01"),
    (15_000, "0.015"),
    (20_000, "0.02"),
    (30_000, "0.03"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (200_000, "0.2"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
];
/// How often histograms are published, nanoseconds.
const PUBLISH_NS: u64 = 1_000_000_000;

/// Counters of one shard.
#[derive(Debug, Default)]
pub struct ShardStats {
    /// Number of the shard.
    pub shard: usize,
    /// Scrapes begun.
    pub started: Counter,
    /// Scrapes ended with health up.
    pub succeeded: Counter,
    /// Scrapes ended with health down.
    pub failed: Counter,
    /// Starts skipped because the target's last scrape was still under way.
    pub skipped: Counter,
    /// Starts given up after a long pause of the process.
    pub missed: Counter,
    /// Steps of the wall clock seen.
    pub clock_steps: Counter,
    /// Samples scraped.
    pub samples: Counter,
    /// Samples and markers given to the journal.
    pub appended: Counter,
    /// Body bytes after decompression.
    pub body_bytes: Counter,
    /// Samples refused as out of order.
    pub out_of_order: Counter,
    /// Samples repeated within a scrape.
    pub duplicates: Counter,
    /// Samples too far in the future.
    pub out_of_bounds: Counter,
    /// Scrapes over `sample_limit`.
    pub over_sample_limit: Counter,
    /// Scrapes over `body_size_limit`.
    pub over_body_limit: Counter,
    /// Scrapes over a label limit.
    pub over_label_limit: Counter,
    /// Scrapes refused for want of memory for layouts.
    pub over_layout_memory: Counter,
    /// Time of the newest scrape that was written, milliseconds.
    pub written_ms: Gauge,
    /// Targets of this shard.
    pub targets: Gauge,
    /// CPU time of the shard's thread, nanoseconds, once a second.
    pub cpu_ns: Counter,
    /// Turns of the loop.
    pub turns: Counter,
    /// Monotonic time of the last turn, nanoseconds; the health check wants it fresh.
    pub turned_at_ns: Counter,
    /// Bytes of layouts and bindings.
    pub layout_bytes: Gauge,
    /// Where bodies of new targets are packed from then on.
    pub layout_bytes_max: Gauge,
    /// Bytes of packed layouts and their bindings.
    pub packed_layout_bytes: Gauge,
    /// Where bodies of new targets are refused.
    pub packed_layout_bytes_max: Gauge,
    /// Distinct layout chunks.
    pub layout_chunks: Gauge,
    /// Layouts that rest.
    pub resting_layouts: Gauge,
    /// Where the thread's time goes.
    pub stage_times: StageTimes,
    published: Mutex<Published>,
}

impl ShardStats {
    /// Zeroed counters of a shard.
    #[must_use]
    pub fn new(shard: usize) -> Self {
        Self { shard, ..Self::default() }
    }
}

/// Targets of each pool (by job name) that are up and down, over all shards.
#[must_use]
pub fn pool_counts(all: &[Arc<ShardStats>]) -> BTreeMap<String, [u64; 2]> {
    let mut sums: BTreeMap<String, [u64; 2]> = BTreeMap::new();
    for stats in all {
        let Ok(published) = stats.published.lock() else { continue };
        for (job, [up, down]) in &published.pools {
            let sum = sums.entry(job.clone()).or_default();
            *sum = [sum[0] + up, sum[1] + down];
        }
    }
    sums
}

#[derive(Debug, Default)]
struct Published {
    latency: Summary,
    lateness: Summary,
    /// Starts up to each of [`LATENESS_BOUNDS`].
    lateness_counts: Vec<u64>,
    phases: PhaseTimes,
    intervals: Intervals,
    /// Targets up and down by job name.
    pools: Vec<(String, [u64; 2])>,
}

#[derive(Debug, Default)]
struct Summary {
    quantiles: Vec<(&'static str, f64)>,
    sum: f64,
    count: u64,
}

/// The histograms that the shard thread itself writes.
#[derive(Debug)]
pub struct Recorder {
    stats: Arc<ShardStats>,
    latency_us: Histogram<u64>,
    lateness_us: Histogram<u64>,
    /// Of exchanges.
    pub phases: PhaseTimes,
    /// Between starts.
    pub intervals: Intervals,
    /// Measures work for [`ShardStats::stage_times`].
    pub stopwatch: Stopwatch,
    latency_sum_us: u64,
    lateness_sum_us: u64,
    publish_at_ns: u64,
}

impl Recorder {
    /// A recorder that publishes into `stats`.
    #[must_use]
    pub fn new(stats: Arc<ShardStats>) -> Self {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("bounds are constants");
        Self {
            stats,
            latency_us: histogram(),
            lateness_us: histogram(),
            phases: PhaseTimes::default(),
            intervals: Intervals::default(),
            stopwatch: Stopwatch::default(),
            latency_sum_us: 0,
            lateness_sum_us: 0,
            publish_at_ns: 0,
        }
    }

    /// The counters.
    #[must_use]
    pub fn stats(&self) -> &ShardStats {
        &self.stats
    }

    /// How long after its due time a scrape began.
    pub fn lateness(&mut self, ns: u64) {
        self.lateness_us.saturating_record((ns / 1000).max(1));
        self.lateness_sum_us += ns / 1000;
    }

    /// How long a scrape took.
    pub fn latency(&mut self, ns: u64) {
        self.latency_us.saturating_record((ns / 1000).max(1));
        self.latency_sum_us += ns / 1000;
    }

    /// Whether [`Recorder::publish`] is due: once a second.
    #[must_use]
    pub fn is_publish_due(&self, now: Now) -> bool {
        now.mono_ns >= self.publish_at_ns
    }

    /// Publishes histograms, and how many targets of each job are up and down.
    pub fn publish(&mut self, now: Now, pools: Vec<(String, [u64; 2])>) {
        self.publish_at_ns = now.mono_ns + PUBLISH_NS;
        self.intervals.forget_old(now.mono_ns);
        let fresh = Published {
            latency: summary(&self.latency_us, self.latency_sum_us),
            lateness: summary(&self.lateness_us, self.lateness_sum_us),
            lateness_counts: counts_up_to(&self.lateness_us),
            phases: self.phases.clone(),
            intervals: self.intervals.clone(),
            pools,
        };
        // Only /metrics ever holds this lock, for microseconds; a contended second is simply left out.
        if let Ok(mut published) = self.stats.published.try_lock() {
            *published = fresh;
        }
    }
}

fn summary(h: &Histogram<u64>, sum_us: u64) -> Summary {
    let at = |q: f64| h.value_at_quantile(q) as f64 / 1e6;
    Summary {
        quantiles: QUANTILES.iter().map(|&(q, text)| (text, at(q))).collect(),
        sum: sum_us as f64 / 1e6,
        count: h.len(),
    }
}

/// How many recorded values are at most each of [`LATENESS_BOUNDS`], to the resolution of `h` (two digits).
fn counts_up_to(h: &Histogram<u64>) -> Vec<u64> {
    let mut counts = vec![0; LATENESS_BOUNDS.len()];
    for value in h.iter_recorded() {
        let least = h.lowest_equivalent(value.value_iterated_to());
        let at = LATENESS_BOUNDS.partition_point(|&(us, _)| us < least);
        if let Some(count) = counts.get_mut(at) {
            *count += value.count_at_value();
        }
    }
    let mut sum = 0;
    for count in &mut counts {
        sum += *count;
        *count = sum;
    }
    counts
}

impl Collect for ShardStats {
    fn collect(&self, out: &mut Exposition) {
        let shard = self.shard.to_string();
        let labels: &[(&str, &str)] = &[("shard", &shard)];
        let counters: [(&'static str, &'static str, &Counter); 9] = [
            ("ringscrape_scrapes_started_total", "Scrapes begun.", &self.started),
            ("ringscrape_scrapes_failed_total", "Scrapes that ended with up 0.", &self.failed),
            ("ringscrape_scrapes_succeeded_total", "Scrapes that ended with up 1.", &self.succeeded),
            (
                "ringscrape_scrapes_skipped_total",
                "Starts skipped because the target's last scrape was still under way.",
                &self.skipped,
            ),
            (
                "ringscrape_scrapes_missed_total",
                "Starts given up because the process was paused or far behind.",
                &self.missed,
            ),
            (
                "ringscrape_scrapes_exceeded_layout_memory_total",
                "Scrapes refused because their series texts find no room in memory.",
                &self.over_layout_memory,
            ),
            ("ringscrape_clock_steps_total", "Steps of the wall clock seen.", &self.clock_steps),
            ("ringscrape_samples_scraped_total", "Samples parsed.", &self.samples),
            ("ringscrape_body_bytes_total", "Body bytes after decompression.", &self.body_bytes),
        ];
        for (name, help, counter) in counters {
            out.sample(name, Kind::Counter, help, labels, counter.read() as f64);
        }
        out.sample(
            "ringscrape_shard_turns_total",
            Kind::Counter,
            "Turns of the loop.",
            labels,
            self.turns.read() as f64,
        );
        let help = "CPU time of the shard's thread.";
        let seconds = self.cpu_ns.read() as f64 / 1e9;
        out.sample("ringscrape_shard_cpu_seconds_total", Kind::Counter, help, labels, seconds);
        out.sample("ringscrape_shard_targets", Kind::Gauge, "Targets of the shard.", labels, self.targets.read());
        let help = "Bytes of layouts and bindings a shard keeps.";
        out.sample("ringscrape_layout_bytes", Kind::Gauge, help, labels, self.layout_bytes.read());
        let help = "Bytes of layouts and bindings at which layouts of new targets are packed.";
        out.sample("ringscrape_layout_bytes_max", Kind::Gauge, help, labels, self.layout_bytes_max.read());
        let help = "Bytes of packed layouts and bindings a shard keeps.";
        out.sample("ringscrape_packed_layout_bytes", Kind::Gauge, help, labels, self.packed_layout_bytes.read());
        let help = "Bytes of packed layouts and bindings at which bodies of new targets are refused.";
        let max = self.packed_layout_bytes_max.read();
        out.sample("ringscrape_packed_layout_bytes_max", Kind::Gauge, help, labels, max);
        let help = "Distinct layout chunks a shard keeps.";
        out.sample("ringscrape_layout_chunks", Kind::Gauge, help, labels, self.layout_chunks.read());
        let help = "Layouts of a single target that are kept compressed, until its body changes.";
        out.sample("ringscrape_layouts_resting", Kind::Gauge, help, labels, self.resting_layouts.read());
        if let Ok(p) = self.published.lock() {
            let help = "Duration of scrapes.";
            p.latency.collect("ringscrape_scrape_latency_seconds", help, &shard, out);
            let help = "How long after its due time a scrape began.";
            p.lateness.collect("ringscrape_start_lateness_seconds", help, &shard, out);
            p.collect_lateness_counts(&shard, out);
            p.phases.collect(&shard, out);
        }
        self.stage_times.collect(&shard, out);
    }
}

impl Published {
    /// The histogram beside the summary: unlike quantiles it can be added over shards and taken over a window.
    fn collect_lateness_counts(&self, shard: &str, out: &mut Exposition) {
        let name = "ringscrape_start_lateness_histogram_seconds";
        let help = "How long after its due time a scrape began, in buckets.";
        let all = self.lateness.count as f64;
        let counts = self.lateness_counts.iter().map(|&n| n as f64);
        for ((_, le), n) in LATENESS_BOUNDS.iter().zip(counts) {
            out.part(name, Kind::Histogram, help, "_bucket", &[("shard", shard), ("le", le)], n);
        }
        out.part(name, Kind::Histogram, help, "_bucket", &[("shard", shard), ("le", "+Inf")], all);
        out.part(name, Kind::Histogram, help, "_sum", &[("shard", shard)], self.lateness.sum);
        out.part(name, Kind::Histogram, help, "_count", &[("shard", shard)], all);
    }
}

impl Summary {
    fn collect(&self, name: &'static str, help: &'static str, shard: &str, out: &mut Exposition) {
        for (q, v) in &self.quantiles {
            out.sample(name, Kind::Summary, help, &[("shard", shard), ("quantile", q)], *v);
        }
        out.part(name, Kind::Summary, help, "_sum", &[("shard", shard)], self.sum);
        out.part(name, Kind::Summary, help, "_count", &[("shard", shard)], self.count as f64);
    }
}

/// Counters that Prometheus exposes without a label: sums over all shards.
#[derive(Debug)]
pub struct ShardSums(pub Vec<Arc<ShardStats>>);

impl ShardSums {
    /// Time of the newest scrape that was written, milliseconds; 0 before the first.
    #[must_use]
    pub fn written_ms(&self) -> f64 {
        self.0.iter().map(|s| s.written_ms.read()).fold(0.0, f64::max)
    }
}

impl Collect for ShardSums {
    fn collect(&self, out: &mut Exposition) {
        // Without labels, also beside several destinations: alerts join it with those of each.
        let name = "prometheus_remote_storage_highest_timestamp_in_seconds";
        out.sample(name, Kind::Gauge, "Time of the newest scrape.", &[], self.written_ms() / 1e3);
        type Pick = fn(&ShardStats) -> &Counter;
        let sums: [(&'static str, &'static str, Pick); 7] = [
            (
                "prometheus_remote_storage_samples_in_total",
                "Samples given to the journal, which is what remote write sends from.",
                |s| &s.appended,
            ),
            (
                "prometheus_target_scrapes_exceeded_sample_limit_total",
                "Total number of scrapes that hit the sample limit and were rejected.",
                |s| &s.over_sample_limit,
            ),
            (
                "prometheus_target_scrapes_exceeded_body_size_limit_total",
                "Total number of scrapes that hit the body size limit.",
                |s| &s.over_body_limit,
            ),
            (
                "prometheus_target_scrape_pool_exceeded_label_limits_total",
                "Total number of times scrape pools hit the label limits.",
                |s| &s.over_label_limit,
            ),
            (
                "prometheus_target_scrapes_sample_duplicate_timestamp_total",
                "Total number of samples rejected due to duplicate timestamps but different values.",
                |s| &s.duplicates,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_order_total",
                "Total number of samples rejected due to not being out of the expected order.",
                |s| &s.out_of_order,
            ),
            (
                "prometheus_target_scrapes_sample_out_of_bounds_total",
                "Total number of samples rejected due to timestamp falling outside of the time bounds.",
                |s| &s.out_of_bounds,
            ),
        ];
        for (name, help, pick) in sums {
            let sum: u64 = self.0.iter().map(|s| pick(s).read()).sum();
            out.sample(name, Kind::Counter, help, &[], sum as f64);
        }
        let appended: u64 = self.0.iter().map(|s| s.appended.read()).sum();
        let (name, help) = ("prometheus_agent_samples_appended_total", "Samples given to the journal.");
        out.sample(name, Kind::Counter, help, &[("type", "float")], appended as f64);
        let intervals = self.0.iter().filter_map(|s| s.published.lock().ok().map(|p| p.intervals.clone()));
        Intervals::collect(&intervals.collect::<Vec<_>>(), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_scrape_is_that_of_any_shard() {
        let shards = [ShardStats::new(0), ShardStats::new(1)].map(Arc::new);
        let sums = ShardSums(shards.to_vec());
        assert_eq!(sums.written_ms(), 0.0);
        shards[1].written_ms.set(1_500.0);
        shards[0].written_ms.set(1_000.0);
        let mut out = Exposition::default();
        sums.collect(&mut out);
        assert!(out.text().contains("prometheus_remote_storage_highest_timestamp_in_seconds 1.5\n"), "{}", out.text());
    }

    #[test]
    fn samples_of_all_shards_are_added() {
        let all: Vec<_> = (0..2).map(|shard| Arc::new(ShardStats::new(shard))).collect();
        all[0].appended.add(5);
        all[1].appended.add(7);
        let mut out = Exposition::default();
        ShardSums(all).collect(&mut out);
        let text = out.text();
        for line in [
            "prometheus_remote_storage_samples_in_total 12",
            "prometheus_agent_samples_appended_total{type=\"float\"} 12",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }

    #[test]
    fn lateness_is_counted_in_buckets_that_add_up() {
        let stats = Arc::new(ShardStats::new(3));
        let mut recorder = Recorder::new(Arc::clone(&stats));
        for us in [0, 400, 500, 900, 9_900, 10_100, 49_000, 9_000_000] {
            recorder.lateness(us * 1_000);
        }
        recorder.publish(Now::default(), Vec::new());
        let mut out = Exposition::default();
        stats.collect(&mut out);
        let text = out.text();
        let name = "ringscrape_start_lateness_histogram_seconds";
        let bucket = |le: &str| {
            let line = format!("{name}_bucket{{shard=\"3\",le=\"{le}\"}} ");
            text.lines().find_map(|l| l.strip_prefix(&line)?.parse::<u64>().ok()).unwrap()
        };
        assert_eq!(
            ["0.0005", "0.001", "0.0075", "0.01", "0.015", "0.05", "5", "+Inf"].map(bucket),
            [3, 4, 4, 5, 6, 7, 7, 8]
        );
        assert!(
            text.contains(&format!("# TYPE {name} histogram"))
                && text.contains(&format!("{name}_count{{shard=\"3\"}} 8"))
        );
    }
}
