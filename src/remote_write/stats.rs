//! What a destination tells about itself: counters, and the texts an operator asks for when something is wrong.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::selfmetrics::{Counter, Exposition, Gauge, Kind};

/// Age of the oldest sample without an answer from which on sending is far behind, seconds: lanes hold less.
const FAR_BEHIND_S: f64 = 30.0;
/// Rejections remembered per destination.
const REJECTIONS_MAX: usize = 20;

/// One writer: the destination's thread. Read by the web.
#[derive(Debug, Default)]
pub struct Stats {
    /// Samples in all attempts.
    pub samples: Counter,
    /// Samples given up after a refusal.
    pub failed: Counter,
    /// Samples in repeated attempts.
    pub retried: Counter,
    /// Samples older than `sample_age_limit`.
    pub dropped_old: Counter,
    /// Samples dropped by write rules.
    pub dropped_rules: Counter,
    /// Samples of an earlier life that were refused, most of them because they had been delivered.
    pub dropped_again: Counter,
    /// Bytes on the wire in all attempts.
    pub bytes: Counter,
    /// How long attempts took.
    pub batches: BatchTimes,
    /// Requests answered as done.
    pub requests_done: Counter,
    /// Requests that were split after a refusal.
    pub splits: Counter,
    /// Journal stretches that could not be read.
    pub journal_losses: Counter,
    /// Newest event of which something is to be sent, as far as the journal is read, milliseconds.
    pub highest_ms: Gauge,
    /// Newest event delivered, milliseconds.
    pub highest_sent_ms: Gauge,
    /// Samples in requests without an answer yet.
    pub pending: Gauge,
    /// Lanes in use and wanted.
    pub lanes: Gauge,
    /// See `lanes`.
    pub lanes_wanted: Gauge,
    /// Age of the oldest event without an answer, seconds; 0 when there is none.
    pub lag_seconds: Gauge,
    /// Journal bytes not yet acknowledged.
    pub backlog_bytes: Gauge,
    texts: Mutex<Texts>,
}

#[derive(Debug, Default)]
struct Texts {
    trouble: Option<Trouble>,
    rejections: VecDeque<Rejection>,
}

/// Why a destination is not getting data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Latest error.
    pub error: String,
    /// Of the first failure since the last success, milliseconds since the Unix epoch.
    pub since_ms: i64,
}

/// Samples that a receiver refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// When, milliseconds since the Unix epoch.
    pub time_ms: i64,
    /// Samples lost by it.
    pub samples: usize,
    /// Texts of the (first) target's variables, joined: its label values.
    pub target: String,
    /// Status and body.
    pub answer: String,
}

impl Stats {
    /// An attempt failed and will be repeated.
    pub fn failing(&self, error: String, now_ms: i64) {
        let mut texts = self.texts();
        let since_ms = texts.trouble.as_ref().map_or(now_ms, |t| t.since_ms);
        texts.trouble = Some(Trouble { error, since_ms });
    }

    /// An attempt succeeded.
    pub fn recovered(&self) {
        self.texts().trouble = None;
    }

    /// Samples were refused for good.
    pub fn reject(&self, rejection: Rejection) {
        let mut texts = self.texts();
        texts.rejections.truncate(REJECTIONS_MAX - 1);
        texts.rejections.push_front(rejection);
    }

    /// Present trouble.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.texts().trouble.clone()
    }

    /// Latest first.
    #[must_use]
    pub fn rejections(&self) -> Vec<Rejection> {
        self.texts().rejections.iter().cloned().collect()
    }

    fn texts(&self) -> MutexGuard<'_, Texts> {
        self.texts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds all samples of one destination.
    pub fn collect(&self, limits: &Limits, written_ms: f64, labels: &[(&str, &str)], out: &mut Exposition) {
        self.collect_counters(labels, out);
        let gauges = [
            (
                "prometheus_remote_storage_queue_highest_timestamp_seconds",
                "Newest sample time queued.",
                self.queued_ms(written_ms) / 1e3,
            ),
            (
                "prometheus_remote_storage_queue_highest_sent_timestamp_seconds",
                "Newest sample time delivered.",
                self.highest_sent_ms.read() / 1e3,
            ),
            (
                "prometheus_remote_storage_samples_pending",
                "Samples in requests without an answer.",
                self.pending.read(),
            ),
            ("prometheus_remote_storage_shards", "Lanes in use.", self.lanes.read()),
            ("prometheus_remote_storage_shards_desired", "Lanes that the load asks for.", self.lanes_wanted.read()),
            ("prometheus_remote_storage_shards_max", "Most lanes.", limits.lanes_max as f64),
            ("prometheus_remote_storage_shards_min", "Least lanes.", limits.lanes_min as f64),
            (
                "prometheus_remote_storage_max_samples_per_send",
                "Samples at which a request is sent.",
                limits.samples as f64,
            ),
            (
                "prometheus_remote_storage_shard_capacity",
                "As configured; the journal is the queue.",
                limits.capacity as f64,
            ),
            (
                "ringscrape_remote_write_lag_seconds",
                "Age of the oldest sample without an answer.",
                self.lag_seconds.read(),
            ),
            ("ringscrape_remote_write_backlog_bytes", "Journal bytes without an answer.", self.backlog_bytes.read()),
        ];
        for (name, help, v) in gauges {
            out.sample(name, Kind::Gauge, help, labels, v);
        }
    }

    /// Newest event that is queued, milliseconds. The journal is the queue: where sending is far behind, what is not read yet is
    /// queued up to the newest scrape. Elsewhere only what the write rules leave counts, or a destination that gets little would
    /// seem to be behind.
    fn queued_ms(&self, written_ms: f64) -> f64 {
        let read_ms = self.highest_ms.read();
        if self.lag_seconds.read() > FAR_BEHIND_S { read_ms.max(written_ms) } else { read_ms }
    }

    fn collect_counters(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        let counters = [
            ("prometheus_remote_storage_samples_total", "Samples sent, repeated attempts included.", &self.samples),
            ("prometheus_remote_storage_samples_failed_total", "Samples refused for good.", &self.failed),
            ("prometheus_remote_storage_samples_retried_total", "Samples in repeated attempts.", &self.retried),
            (
                "prometheus_remote_storage_bytes_total",
                "Compressed bytes sent, repeated attempts included.",
                &self.bytes,
            ),
            ("ringscrape_remote_write_requests_done_total", "Requests answered as done.", &self.requests_done),
            ("ringscrape_remote_write_requests_split_total", "Requests split after a refusal.", &self.splits),
            (
                "ringscrape_remote_write_journal_losses_total",
                "Journal stretches that could not be read.",
                &self.journal_losses,
            ),
        ];
        for (name, help, counter) in counters {
            out.sample(name, Kind::Counter, help, labels, counter.read() as f64);
        }
        let dropped = [
            ("too_old", &self.dropped_old),
            ("dropped_series", &self.dropped_rules),
            ("refused_in_replay", &self.dropped_again),
        ];
        for (reason, counter) in dropped {
            let labels: Vec<_> = labels.iter().copied().chain([("reason", reason)]).collect();
            let (name, help) = ("prometheus_remote_storage_samples_dropped_total", "Samples not sent, by reason.");
            out.sample(name, Kind::Counter, help, &labels, counter.read() as f64);
        }
        self.batches.collect(labels, out);
    }
}

/// Buckets of [`BatchTimes`]: milliseconds, and as they are exposed. prometheus: storage/remote/queue_manager.go.
const BATCH_BOUNDS: [(u64, &str); 15] = [
    (5, "0.005"),
    (10, "0.01"),
    (25, "0.025"),
    (50, "0.05"),
    (100, "0.1"),
    (250, "0.25"),
    (500, "0.5"),
    (1_000, "1"),
    (2_500, "2.5"),
    (5_000, "5"),
    (10_000, "10"),
    (25_000, "25"),
    (60_000, "60"),
    (120_000, "120"),
    (300_000, "300"),
];

/// A histogram of attempts by their time.
#[derive(Debug, Default)]
pub struct BatchTimes {
    /// By bucket; attempts that took longer than all of them are in `count` only.
    counts: [Counter; BATCH_BOUNDS.len()],
    count: Counter,
    sum_ns: Counter,
}

impl BatchTimes {
    /// Counts an attempt.
    pub fn add(&self, ns: u64) {
        if let Some(bucket) = BATCH_BOUNDS.iter().position(|(ms, _)| ns <= ms * 1_000_000) {
            self.counts[bucket].add(1);
        }
        self.count.add(1);
        self.sum_ns.add(ns);
    }

    fn collect(&self, labels: &[(&str, &str)], out: &mut Exposition) {
        let (name, help) = ("prometheus_remote_storage_sent_batch_duration_seconds", "Time of attempts to send.");
        let mut bucket = |le: &str, n: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", le)]).collect();
            out.part(name, Kind::Histogram, help, "_bucket", &labels, n as f64);
        };
        let mut sum = 0;
        for ((_, le), count) in BATCH_BOUNDS.iter().zip(&self.counts) {
            sum += count.read();
            bucket(le, sum);
        }
        bucket("+Inf", self.count.read());
        out.part(name, Kind::Histogram, help, "_sum", labels, self.sum_ns.read() as f64 / 1e9);
        out.part(name, Kind::Histogram, help, "_count", labels, self.count.read() as f64);
    }
}

/// Settings that dashboards want beside the measurements.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// `min_shards`.
    pub lanes_min: u64,
    /// `max_shards`.
    pub lanes_max: u64,
    /// `max_samples_per_send`.
    pub samples: u64,
    /// `capacity`.
    pub capacity: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_far_behind_is_as_new_as_the_newest_scrape() {
        let stats = Stats::default();
        stats.highest_ms.set(1_000.0);
        assert_eq!(stats.queued_ms(90_000.0), 1_000.0, "what came since may be for others");
        stats.lag_seconds.set(89.0);
        assert_eq!(stats.queued_ms(90_000.0), 90_000.0);
        assert_eq!(stats.queued_ms(0.0), 1_000.0, "before the first scrape of this process");
    }

    #[test]
    fn attempts_are_counted_by_their_time() {
        let stats = Stats::default();
        stats.highest_ms.set(1_000.0);
        for ms in [1, 5, 6, 70_000, 400_000] {
            stats.batches.add(ms * 1_000_000);
        }
        let mut out = Exposition::default();
        let limits = Limits { lanes_min: 1, lanes_max: 1, samples: 1, capacity: 1 };
        stats.collect(&limits, 90_000.0, &[("remote_name", "r")], &mut out);
        let text = out.text();
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "no {line} in {text}");
        has("prometheus_remote_storage_queue_highest_timestamp_seconds{remote_name=\"r\"} 1");
        has("# TYPE prometheus_remote_storage_sent_batch_duration_seconds histogram");
        for (le, n) in [("0.005", 2), ("0.01", 3), ("60", 3), ("120", 4), ("300", 4), ("+Inf", 5)] {
            has(&format!(
                "prometheus_remote_storage_sent_batch_duration_seconds_bucket{{remote_name=\"r\",le=\"{le}\"}} {n}"
            ));
        }
        has("prometheus_remote_storage_sent_batch_duration_seconds_count{remote_name=\"r\"} 5");
    }
}
