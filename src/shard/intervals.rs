//! How long after one another the scrapes of a target begin, by configured interval: `prometheus_target_interval_length_seconds`.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::selfmetrics::{Exposition, Kind};

/// Intervals of which a shard keeps lengths. Another one takes the place of one that no target has had for a while, or is left
/// out.
const INTERVALS_MAX: usize = 64;
/// Quantiles are of the last one to two times this, nanoseconds. prometheus: client_golang, whose summaries forget after ten minutes.
const GENERATION_NS: u64 = 300_000_000_000;
/// Quantiles that are published. prometheus: scrape/metrics.go.
const QUANTILES: [(f64, &str); 5] = [(0.01, "0.01"), (0.05, "0.05"), (0.5, "0.5"), (0.9, "0.9"), (0.99, "0.99")];

/// Lengths by configured interval, nanoseconds: of one shard, which records them, or added over all.
#[derive(Clone, Debug, Default)]
pub struct Intervals {
    /// Configured, nanoseconds: apart from the lengths, as they are looked through at each start.
    configured: Vec<i64>,
    /// In the order of `configured`.
    lengths: Vec<Lengths>,
    turned_ns: u64,
}

#[derive(Clone, Debug)]
struct Lengths {
    recent: Deviations,
    before: Deviations,
    sum_s: f64,
    count: u64,
}

/// By how much lengths differ from the interval, microseconds. Buckets of one digit are then as exact as a dashboard can show:
/// a millisecond in fifteen seconds is seen.
#[derive(Clone, Debug)]
struct Deviations {
    shorter: Histogram<u32>,
    longer: Histogram<u32>,
}

impl Intervals {
    /// A scrape of a target with this interval began so long after the one before.
    pub fn record(&mut self, interval_ns: i64, length_ns: u64) {
        let known = self.configured.iter().position(|i| *i == interval_ns);
        let Some(at) = known.or_else(|| self.admit(interval_ns)) else { return };
        let lengths = &mut self.lengths[at];
        lengths.recent.record((length_ns / 1000) as i64 - interval_ns / 1000);
        lengths.sum_s += length_ns as f64 / 1e9;
        lengths.count += 1;
    }

    /// A place for an interval that has none.
    fn admit(&mut self, interval_ns: i64) -> Option<usize> {
        if self.configured.len() < INTERVALS_MAX {
            self.configured.push(interval_ns);
            self.lengths.push(Lengths::new());
            return Some(self.configured.len() - 1);
        }
        let at = self.lengths.iter().position(Lengths::is_idle)?;
        (self.configured[at], self.lengths[at]) = (interval_ns, Lengths::new());
        Some(at)
    }

    /// Forgets what is old, for the quantiles.
    pub fn forget_old(&mut self, now_ns: u64) {
        if now_ns.saturating_sub(self.turned_ns) < GENERATION_NS {
            return;
        }
        self.turned_ns = now_ns;
        for lengths in &mut self.lengths {
            std::mem::swap(&mut lengths.recent, &mut lengths.before);
            lengths.recent.clear();
        }
    }

    /// The lengths of all shards.
    pub fn collect(shards: &[Self], out: &mut Exposition) {
        let mut sums: BTreeMap<i64, Lengths> = BTreeMap::new();
        for (interval_ns, lengths) in shards.iter().flat_map(|s| s.configured.iter().zip(&s.lengths)) {
            sums.entry(*interval_ns).or_insert_with(Lengths::new).add(lengths);
        }
        for (interval_ns, sum) in sums {
            sum.collect(interval_ns, out);
        }
    }
}

impl Lengths {
    fn new() -> Self {
        Self { recent: Deviations::new(), before: Deviations::new(), sum_s: 0.0, count: 0 }
    }

    /// Whether nothing has begun for one generation at least.
    fn is_idle(&self) -> bool {
        self.recent.len() + self.before.len() == 0
    }

    /// Quantiles of the sum are of `recent`.
    fn add(&mut self, other: &Self) {
        self.recent.add(&other.recent);
        self.recent.add(&other.before);
        self.sum_s += other.sum_s;
        self.count += other.count;
    }

    fn collect(&self, interval_ns: i64, out: &mut Exposition) {
        let name = "prometheus_target_interval_length_seconds";
        let help = "Actual time between the starts of scrapes, of up to 64 intervals.";
        let interval = go_text(interval_ns);
        for (quantile, text) in QUANTILES {
            let deviation_us = self.recent.at(quantile);
            let seconds = deviation_us.map_or(f64::NAN, |us| (interval_ns / 1000 + us) as f64 / 1e6);
            out.sample(name, Kind::Summary, help, &[("interval", &interval), ("quantile", text)], seconds);
        }
        out.part(name, Kind::Summary, help, "_sum", &[("interval", &interval)], self.sum_s);
        out.part(name, Kind::Summary, help, "_count", &[("interval", &interval)], self.count as f64);
    }
}

impl Deviations {
    fn new() -> Self {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 1).expect("bounds are constants");
        Self { shorter: histogram(), longer: histogram() }
    }

    fn record(&mut self, us: i64) {
        if us < 0 { &mut self.shorter } else { &mut self.longer }.saturating_record(us.unsigned_abs());
    }

    fn clear(&mut self) {
        self.shorter.reset();
        self.longer.reset();
    }

    fn add(&mut self, other: &Self) {
        self.shorter.add(&other.shorter).expect("bounds are the same");
        self.longer.add(&other.longer).expect("bounds are the same");
    }

    fn len(&self) -> u64 {
        self.shorter.len() + self.longer.len()
    }

    /// At a quantile; `None` when nothing is recorded.
    fn at(&self, quantile: f64) -> Option<i64> {
        let (shorter, count) = (self.shorter.len(), self.len());
        let rank = ((quantile * count as f64).ceil() as u64).max(1);
        match count {
            0 => None,
            // The longest deviation is the shortest length.
            _ if rank <= shorter => Some(-ranked(&self.shorter, shorter - rank + 1)),
            _ => Some(ranked(&self.longer, rank - shorter)),
        }
    }
}

/// The `rank`th value, the least being the first: the middle of its bucket.
fn ranked(histogram: &Histogram<u32>, rank: u64) -> i64 {
    let value = histogram.value_at_quantile((rank as f64 - 0.5) / histogram.len() as f64);
    histogram.median_equivalent(value) as i64
}

/// As Go prints a duration: the text of the label.
fn go_text(ns: i64) -> String {
    let ms = ns as f64 / 1e6;
    if ms < 1000.0 {
        return format!("{ms}ms");
    }
    let minutes = ns / 60_000_000_000;
    let seconds = (ns % 60_000_000_000) as f64 / 1e9;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn text(shards: &[Intervals]) -> String {
        let mut out = Exposition::default();
        Intervals::collect(shards, &mut out);
        out.text()
    }

    fn value(text: &str, series: &str) -> f64 {
        let series = format!("prometheus_target_interval_length_seconds{series} ");
        let line = text.lines().find_map(|l| l.strip_prefix(&series));
        line.unwrap_or_else(|| panic!("{series} in {text}")).parse().expect("a number")
    }

    #[test]
    fn lengths_of_all_shards_are_exact_to_a_part_of_what_they_are_off() {
        let mut shards = [Intervals::default(), Intervals::default()];
        for i in 0..100 {
            // 15 s but for two that are 1 ms short, ten that are 2 ms long and five that came a whole interval late.
            let length_ns = match i {
                0 | 1 => 15 * S - 1_000_000,
                2..=11 => 15 * S + 2_000_000,
                12..=16 => 30 * S,
                _ => 15 * S,
            };
            shards[i % 2].record(15 * S as i64, length_ns);
        }
        shards[1].record(60 * S as i64, 60 * S);
        let text = text(&shards);
        for (quantile, want, off) in [
            ("0.01", 14.999, 0.0001),
            ("0.05", 15.0, 1e-5),
            ("0.5", 15.0, 1e-5),
            ("0.9", 15.002, 0.0001),
            ("0.99", 30.0, 0.8),
        ] {
            let got = value(&text, &format!("{{interval=\"15s\",quantile=\"{quantile}\"}}"));
            assert!((got - want).abs() <= off, "{quantile}: {got}");
        }
        assert_eq!(value(&text, "_count{interval=\"15s\"}"), 100.0);
        assert!((value(&text, "_sum{interval=\"15s\"}") - 1575.018).abs() < 1e-6);
        assert_eq!(value(&text, "_count{interval=\"1m0s\"}"), 1.0);
    }

    #[test]
    fn quantiles_forget_and_counts_do_not() {
        let mut intervals = Intervals::default();
        intervals.record(S as i64, 2 * S);
        intervals.forget_old(400 * S);
        intervals.record(S as i64, S);
        intervals.forget_old(500 * S);
        let late = |i: &Intervals| value(&text(std::slice::from_ref(i)), "{interval=\"1s\",quantile=\"0.99\"}");
        assert!(late(&intervals) > 1.9, "not yet old");
        intervals.forget_old(700 * S);
        assert_eq!(late(&intervals), 1.0);
        intervals.forget_old(1000 * S);
        assert!(late(&intervals).is_nan());
        assert_eq!(value(&text(&[intervals]), "_count{interval=\"1s\"}"), 2.0);
    }

    #[test]
    fn intervals_are_bounded_and_those_gone_make_room() {
        let mut intervals = Intervals::default();
        (1..100).for_each(|i| intervals.record(i * S as i64, S));
        assert_eq!((intervals.configured.len(), intervals.lengths.len()), (INTERVALS_MAX, INTERVALS_MAX));
        for generation in 2..4 {
            intervals.forget_old(generation * GENERATION_NS);
            intervals.record(S as i64, S);
        }
        intervals.record(99 * S as i64, 99 * S);
        let text = text(&[intervals]);
        assert_eq!(value(&text, "_count{interval=\"1s\"}"), 3.0, "in use, it keeps its place");
        assert_eq!(value(&text, "_count{interval=\"1m39s\"}"), 1.0);
        assert!(!text.contains("interval=\"2s\""), "{text}");
        assert_eq!(text.matches("_count").count(), INTERVALS_MAX);
    }

    #[test]
    fn durations_are_printed_as_go_does() {
        for (ms, want) in [
            (250, "250ms"),
            (1_500, "1.5s"),
            (15_000, "15s"),
            (60_000, "1m0s"),
            (90_000, "1m30s"),
            (3_600_000, "1h0m0s"),
            (5_400_250, "1h30m0.25s"),
        ] {
            assert_eq!(go_text(ms * 1_000_000), want);
        }
    }
}
