//! A histogram of durations, exposed as a summary.

use hdrhistogram::Histogram;

use super::{Exposition, Kind};

/// Quantiles that are exposed, with the text of their label. The last is the maximum: what an average hides.
const QUANTILES: [(&str, f64); 5] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)];

/// A summary family in seconds whose histograms record nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct SummaryFamily {
    /// Ends in `_seconds`.
    pub name: &'static str,
    /// A sentence.
    pub help: &'static str,
}

impl SummaryFamily {
    /// Adds quantiles, `_sum` and `_count` of a snapshot, each with `labels`. Quantiles of an empty snapshot are NaN, as in
    /// Prometheus's client; `_sum` is as exact as the histogram's buckets.
    pub fn collect(&self, out: &mut Exposition, labels: &[(&str, &str)], snapshot_ns: &Histogram<u64>) {
        let Self { name, help } = *self;
        for (text, quantile) in QUANTILES {
            let seconds = match snapshot_ns.len() {
                0 => f64::NAN,
                _ => snapshot_ns.value_at_quantile(quantile) as f64 / 1e9,
            };
            let with_quantile: Vec<_> = labels.iter().copied().chain([("quantile", text)]).collect();
            out.part(name, Kind::Summary, help, "", &with_quantile, seconds);
        }
        let mids = snapshot_ns.iter_recorded().map(|v| mid(snapshot_ns, v.value_iterated_to(), v.count_at_value()));
        let sum_ns: f64 = mids.fold(0.0, |sum, mid| sum + mid);
        out.part(name, Kind::Summary, help, "_sum", labels, sum_ns / 1e9);
        out.part(name, Kind::Summary, help, "_count", labels, snapshot_ns.len() as f64);
    }
}

/// Sum of `count` values of one bucket, each taken at the bucket's middle.
fn mid(histogram: &Histogram<u64>, value: u64, count: u64) -> f64 {
    histogram.median_equivalent(value) as f64 * count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATENCY: SummaryFamily = SummaryFamily { name: "latency_seconds", help: "Latency." };

    fn value(text: &str, series: &str) -> f64 {
        let line = text.lines().find(|l| l.starts_with(series)).unwrap_or_else(|| panic!("{series} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn quantiles_sum_and_count() {
        let mut h = Histogram::<u64>::new(3).unwrap();
        (1..=1000u64).for_each(|ms| h.record(ms * 1_000_000).unwrap());
        let mut out = Exposition::default();
        LATENCY.collect(&mut out, &[("shard", "0")], &h);
        let text = out.text();
        assert!(text.contains("# TYPE latency_seconds summary\n"), "{text}");
        for (quantile, want) in [("0.5", 0.5), ("0.99", 0.99), ("1", 1.0)] {
            let got = value(&text, &format!("latency_seconds{{shard=\"0\",quantile=\"{quantile}\"}} "));
            assert!((got - want).abs() < 0.002, "{quantile}: {got}");
        }
        assert!((value(&text, "latency_seconds_sum{shard=\"0\"} ") - 500.5).abs() < 0.5);
        assert_eq!(value(&text, "latency_seconds_count{shard=\"0\"} "), 1000.0);
    }

    #[test]
    fn nothing_recorded_is_not_a_number() {
        let mut out = Exposition::default();
        LATENCY.collect(&mut out, &[], &Histogram::<u64>::new(2).unwrap());
        assert!(out.text().contains("latency_seconds{quantile=\"0.5\"} NaN\n"));
        assert!(out.text().contains("latency_seconds_count 0\n"));
    }
}
