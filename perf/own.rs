//! What ringscrape tells about itself on /metrics, as differences over the measured time.

use std::collections::BTreeMap;

/// Stands for "later than the last bucket": what the scraper's own histogram ends at.
const LATENESS_MS_MAX: f64 = 3_600_000.0;
const LATENESS: &str = "ringscrape_start_lateness_histogram_seconds_bucket{";

/// Counters over all shards.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Own {
    /// Scrapes begun.
    pub started: f64,
    /// Scrapes that ended with `up` 0.
    pub failed: f64,
    /// Due starts that did not happen: the last scrape was still under way, or the process was paused.
    pub missed: f64,
    /// Samples parsed.
    pub samples: f64,
    /// Targets now.
    pub targets: f64,
    /// Starts that were at most so late, by upper bound in microseconds; `u64::MAX` is no bound.
    lateness: BTreeMap<u64, f64>,
}

impl Own {
    /// From the text of /metrics.
    pub fn parse(text: &str) -> Self {
        let mut own = Self::default();
        for line in text.lines().filter(|l| !l.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            match series.split('{').next().unwrap_or_default() {
                "ringscrape_scrapes_started_total" => own.started += value,
                "ringscrape_scrapes_failed_total" => own.failed += value,
                "ringscrape_scrapes_skipped_total" | "ringscrape_scrapes_missed_total" => own.missed += value,
                "ringscrape_samples_scraped_total" => own.samples += value,
                "ringscrape_shard_targets" => own.targets += value,
                _ => {}
            }
            if let Some(le) = series.strip_prefix(LATENESS).and_then(|l| l.split("le=\"").nth(1)) {
                let bound = le.split('"').next().and_then(|s| s.parse::<f64>().ok()).unwrap_or(f64::INFINITY);
                // A cast of infinity is the largest number.
                *own.lateness.entry((bound * 1e6).round() as u64).or_default() += value;
            }
        }
        own
    }

    /// What was counted since `before`, of the same process.
    pub fn since(&self, before: &Self) -> Self {
        let count = |bound: &u64| before.lateness.get(bound).copied().unwrap_or(0.0);
        Self {
            started: self.started - before.started,
            failed: self.failed - before.failed,
            missed: self.missed - before.missed,
            samples: self.samples - before.samples,
            targets: self.targets,
            lateness: self.lateness.iter().map(|(bound, n)| (*bound, n - count(bound))).collect(),
        }
    }

    /// Both together: what two processes counted one after the other.
    pub fn plus(mut self, other: &Self) -> Self {
        self.started += other.started;
        self.failed += other.failed;
        self.missed += other.missed;
        self.samples += other.samples;
        self.targets = other.targets;
        for (bound, n) in &other.lateness {
            *self.lateness.entry(*bound).or_default() += n;
        }
        self
    }

    /// A bound in milliseconds that the given share of starts kept; [`LATENESS_MS_MAX`] behind the last bucket, none without
    /// starts.
    pub fn lateness_ms(&self, share: f64) -> Option<f64> {
        let all = self.lateness.get(&u64::MAX).copied().filter(|n| *n > 0.0)?;
        let (bound, _) = self.lateness.iter().find(|(_, n)| **n >= all * share)?;
        Some(if *bound == u64::MAX { LATENESS_MS_MAX } else { *bound as f64 / 1e3 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(counts: [u32; 3], failed: u32) -> String {
        let name = "ringscrape_start_lateness_histogram_seconds";
        let [a, b, c] = counts;
        format!(
            "# TYPE {name} histogram\n{name}_bucket{{shard=\"0\",le=\"0.001\"}} {a}\n\
             {name}_bucket{{shard=\"0\",le=\"0.01\"}} {b}\n{name}_bucket{{shard=\"0\",le=\"+Inf\"}} {c}\n\
             {name}_bucket{{shard=\"1\",le=\"0.001\"}} 10\n{name}_bucket{{shard=\"1\",le=\"0.01\"}} 10\n\
             {name}_bucket{{shard=\"1\",le=\"+Inf\"}} 10\n\
             ringscrape_scrapes_failed_total{{shard=\"0\"}} {failed}\nringscrape_scrapes_failed_total{{shard=\"1\"}} 1\n\
             ringscrape_scrapes_skipped_total{{shard=\"0\"}} 2\nringscrape_scrapes_missed_total{{shard=\"0\"}} 3\n"
        )
    }

    #[test]
    fn lateness_is_of_the_window_and_over_all_shards() {
        let before = Own::parse(&text([100, 100, 100], 1));
        let after = Own::parse(&text([190, 199, 200], 4));
        assert_eq!((before.missed, after.failed), (5.0, 5.0));
        let window = after.since(&before);
        assert_eq!((window.failed, window.missed), (3.0, 0.0));
        let at = |share| window.lateness_ms(share);
        assert_eq!([at(0.9), at(0.99), at(1.0)], [Some(1.0), Some(10.0), Some(LATENESS_MS_MAX)]);
        assert_eq!(after.since(&after).lateness_ms(1.0), None);
        assert_eq!(window.clone().plus(&window).failed, 6.0);
    }
}
