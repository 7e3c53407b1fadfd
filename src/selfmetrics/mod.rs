//! Metrics about ourselves: counters with one writer, and the text they are exposed as.
//!
//! Every component owns plain [`Counter`]s and [`Gauge`]s (one writer, relaxed loads and stores, no locked
//! instruction) and implements [`Collect`]; the web room calls all collectors when /metrics is asked.

mod summary;

pub use summary::SummaryFamily;

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts up. One writer thread; any reader.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`. Only the owning thread may call this.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Current count.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down. One writer thread; any reader.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Sets the value.
    pub fn set(&self, v: f64) {
        self.0.store(v.to_bits(), Ordering::Relaxed);
    }

    /// Current value.
    #[must_use]
    pub fn read(&self) -> f64 {
        f64::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Type of a metric family in the text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Any value.
    Gauge,
    /// Quantiles with `_sum` and `_count`.
    Summary,
    /// Counts up to each bound (`_bucket`) with `_sum` and `_count`.
    Histogram,
}

/// Where collectors put their samples; groups them by family so that each family has one HELP and TYPE.
#[derive(Debug, Default)]
pub struct Exposition {
    families: std::collections::BTreeMap<&'static str, Family>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: Kind,
    lines: String,
}

impl Exposition {
    /// Adds one sample of family `name`.
    pub fn sample(&mut self, name: &'static str, kind: Kind, help: &'static str, labels: &[(&str, &str)], v: f64) {
        self.part(name, kind, help, "", labels, v);
    }

    /// Adds one sample of family `name` whose series name has a suffix (`_sum`, `_count`).
    pub fn part(
        &mut self,
        name: &'static str,
        kind: Kind,
        help: &'static str,
        suffix: &str,
        labels: &[(&str, &str)],
        v: f64,
    ) {
        use std::fmt::Write;
        let family = self.families.entry(name).or_insert_with(|| Family { help, kind, lines: String::new() });
        let out = &mut family.lines;
        let _ = write!(out, "{name}{suffix}");
        for (i, (n, value)) in labels.iter().enumerate() {
            let _ = write!(out, "{}{n}=\"", if i == 0 { '{' } else { ',' });
            for c in value.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        let _ = writeln!(out, "{} {}", if labels.is_empty() { "" } else { "}" }, Value(v));
    }

    /// The whole text, classic format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (name, f) in &self.families {
            let kind = match f.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Summary => "summary",
                Kind::Histogram => "histogram",
            };
            out.push_str(&format!("# HELP {name} {}\n# TYPE {name} {kind}\n{}", f.help, f.lines));
        }
        out
    }
}

/// Prints a value as the text format wants it.
struct Value(f64);

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0 == f64::INFINITY {
            f.write_str("+Inf")
        } else if self.0 == f64::NEG_INFINITY {
            f.write_str("-Inf")
        } else {
            write!(f, "{}", self.0)
        }
    }
}

/// A component that has something to tell on /metrics.
pub trait Collect: Send + Sync {
    /// Adds its samples.
    fn collect(&self, out: &mut Exposition);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_grouped_and_escaped() {
        let mut e = Exposition::default();
        e.sample("b_total", Kind::Counter, "B.", &[("x", "a\"b")], 1.0);
        e.sample("a", Kind::Gauge, "A.", &[], f64::INFINITY);
        e.sample("b_total", Kind::Counter, "B.", &[("x", "c")], 2.5);
        let want = "# HELP a A.\n# TYPE a gauge\na +Inf\n# HELP b_total B.\n# TYPE b_total counter\nb_total{x=\"a\\\"b\"} 1\nb_total{x=\"c\"} 2.5\n";
        assert_eq!(e.text(), want);
    }
}
