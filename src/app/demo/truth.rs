//! What the demo says: our own metrics, read again and again, as one line and in the end as a summary.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::fleet::Fleet;
use crate::app::control::Control;
use crate::base::cpu;
use crate::base::time::Now;
use crate::config::duration;
use crate::farm::Farm;
use crate::selfmetrics::Exposition;
use crate::web::{Appliance, Health, Readiness, TargetQuery};

/// Down targets are asked for their errors up to this many; the page has the rest.
const DOWN_ASKED_MAX: usize = 1_000;
/// In larger fleets asking every target would be a good part of what is measured.
const FLEET_ASKED_MAX: u64 = 20_000;

/// Everything that is read at one moment; counters since the start of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    mono_ns: u64,
    scrapes: f64,
    samples: f64,
    stored: f64,
    lost: f64,
    missed: f64,
    cpu_ns: u64,
    journal_bytes: f64,
    late_p999_s: f64,
    late_max_s: f64,
}

/// Reads and tells.
#[derive(Clone)]
pub(super) struct Truth {
    control: Arc<Control>,
    farm: Arc<Farm>,
    timeout: Duration,
    first: Reading,
    last: Arc<Mutex<Reading>>,
}

impl Truth {
    /// Starts the count.
    pub(super) fn new(control: Arc<Control>, farm: Arc<Farm>, fleet: &Fleet) -> Self {
        let first = read(&control, &farm, Now::read());
        let last = Arc::new(Mutex::new(first));
        Self { control, farm, timeout: fleet.timeout(), first, last }
    }

    /// Whether the process is on its way down.
    pub(super) fn is_over(&self) -> bool {
        self.control.readiness() == Readiness::Stopping
    }

    /// What happened since the last line, and below it the down targets by the class of their error.
    pub(super) async fn line(&self, now: Now) -> String {
        let reading = read(&self.control, &self.farm, now);
        let before = std::mem::replace(&mut *self.last.lock().unwrap_or_else(PoisonError::into_inner), reading);
        let (up, down, all) = self.counts();
        let seconds = (reading.mono_ns - before.mono_ns) as f64 / 1e9;
        let per_s = |now: f64, then: f64| (now - then) / seconds;
        let since = clock(Duration::from_nanos(reading.mono_ns - self.first.mono_ns));
        let mut text = format!(
            "{since:>5}  up {}/{}  {} scrapes/s  {} samples/s  {:.2} core  {}  late p99.9 {:.1} ms  journal {}/s",
            thousands(up),
            thousands(all),
            thousands(per_s(reading.scrapes, before.scrapes).round() as u64),
            short(per_s(reading.samples, before.samples)),
            reading.cpu_ns.saturating_sub(before.cpu_ns) as f64 / 1e9 / seconds,
            bytes(resident_bytes()),
            reading.late_p999_s * 1e3,
            bytes(per_s(reading.journal_bytes, before.journal_bytes)),
        );
        if down > 0 {
            text.push_str(&format!("\n{since:>5}  down {}{}", thousands(down), self.errors(all).await));
        }
        text
    }

    /// The whole run in numbers.
    pub(super) fn summary(&self, now: Now) -> String {
        let end = read(&self.control, &self.farm, now);
        let stored = (end.stored - end.lost).max(0.0);
        let data = end.journal_bytes;
        let each = if stored > 0.0 { data / stored } else { 0.0 };
        let mut text = format!(
            "{:.0} s: {} scrapes, {} samples stored, {} missed, late p99.9 {:.1} ms, max {:.1} ms; \
             {:.1} s of CPU, {} of data, {each:.2} B per sample.",
            (end.mono_ns - self.first.mono_ns) as f64 / 1e9,
            thousands(end.scrapes as u64),
            thousands(stored as u64),
            thousands(end.missed as u64),
            end.late_p999_s * 1e3,
            end.late_max_s * 1e3,
            end.cpu_ns.saturating_sub(self.first.cpu_ns) as f64 / 1e9,
            bytes(data),
        );
        if end.lost > 0.0 {
            text.push_str(&format!(" {} samples lost: the disk was too far behind.", thousands(end.lost as u64)));
        }
        text
    }

    fn counts(&self) -> (u64, u64, u64) {
        let pools = self.control.pools();
        let up = pools.iter().map(|p| p.up).sum();
        let down = pools.iter().map(|p| p.down).sum();
        (up, down, up + down + pools.iter().map(|p| p.unknown).sum::<u64>())
    }

    async fn errors(&self, all: u64) -> String {
        if all > FLEET_ASKED_MAX {
            return String::new();
        }
        let query = TargetQuery { health: Some(Health::Down), limit: DOWN_ASKED_MAX, ..TargetQuery::default() };
        let Ok(page) = self.control.active_targets(query).await else { return String::new() };
        let mut classes: BTreeMap<String, usize> = BTreeMap::new();
        for target in &page.targets {
            *classes.entry(self.class(&target.last_error)).or_default() += 1;
        }
        let mut classes: Vec<(String, usize)> = classes.into_iter().collect();
        classes.sort_by_key(|c| std::cmp::Reverse(c.1));
        let parts: Vec<String> = classes.iter().map(|(class, n)| format!("{n} {class}")).collect();
        if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) }
    }

    /// The error without what differs from target to target.
    fn class(&self, error: &str) -> String {
        if error.contains("deadline exceeded") {
            return format!("timeout after {}", duration::print(self.timeout));
        }
        // `Get "URL": what happened`
        let what = if error.starts_with("Get \"") { error.split_once("\": ").map_or(error, |p| p.1) } else { error };
        let what = what.strip_prefix("connect: ").unwrap_or(what);
        what.strip_prefix("server returned ").unwrap_or(what).to_owned()
    }
}

fn read(control: &Control, farm: &Farm, now: Now) -> Reading {
    let mut exposition = Exposition::default();
    control.collect(&mut exposition);
    let text = exposition.text();
    let sum = |name| values(&text, name, "").sum::<f64>();
    let late = |quantile| values(&text, "ringscrape_start_lateness_seconds", quantile).fold(0.0, f64::max);
    Reading {
        mono_ns: now.mono_ns,
        scrapes: sum("ringscrape_scrapes_succeeded_total") + sum("ringscrape_scrapes_failed_total"),
        samples: sum("ringscrape_samples_scraped_total"),
        stored: sum("ringscrape_journal_samples_total"),
        lost: sum("ringscrape_journal_samples_lost_total"),
        missed: sum("ringscrape_scrapes_missed_total") + sum("ringscrape_scrapes_skipped_total"),
        cpu_ns: cpu::own_time_ns().saturating_sub(farm.cpu_ns()),
        journal_bytes: sum("ringscrape_journal_written_bytes_total"),
        late_p999_s: late("quantile=\"0.999\""),
        late_max_s: late("quantile=\"1\""),
    }
}

/// Values of the series of this name whose labels contain a text.
fn values<'a>(text: &'a str, name: &'a str, label: &'a str) -> impl Iterator<Item = f64> + 'a {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = rest.rsplit_once(' ')?;
        let is_whole_name = labels.is_empty() || labels.starts_with('{');
        if is_whole_name && labels.contains(label) { value.parse().ok() } else { None }
    })
}

/// Resident memory; 0 where /proc is hidden.
fn resident_bytes() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kilobytes =
        status.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kilobytes.unwrap_or(0.0) * 1024.0
}

/// `4,990`
pub(super) fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// `498k`, `1.25M`
fn short(n: f64) -> String {
    match n {
        n if n >= 1e6 => format!("{:.2}M", n / 1e6),
        n if n >= 1e4 => format!("{:.0}k", n / 1e3),
        n => format!("{n:.0}"),
    }
}

/// `1.1 MB`, powers of ten.
fn bytes(n: f64) -> String {
    match n {
        n if n >= 1e9 => format!("{:.2} GB", n / 1e9),
        n if n >= 1e7 => format!("{:.0} MB", n / 1e6),
        n if n >= 1e6 => format!("{:.1} MB", n / 1e6),
        n => format!("{:.0} kB", n / 1e3),
    }
}

/// `0:20`, `1:02:03`
fn clock(since: Duration) -> String {
    let seconds = since.as_secs_f64().round() as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        assert_eq!(["0", "999", "1,000", "1,234,567"], [0, 999, 1_000, 1_234_567].map(thousands));
        assert_eq!(["12", "498k", "1.25M"], [12.0, 498_000.0, 1_250_000.0].map(short));
        assert_eq!(["1 kB", "1.1 MB", "38 MB", "2.00 GB"], [1e3, 1.1e6, 3.8e7, 2e9].map(bytes));
        assert_eq!(["0:20", "1:01:01"], [20, 3661].map(|s| clock(Duration::from_secs(s))));
    }

    #[test]
    fn only_the_whole_name_counts() {
        let text = "a_total 1\na_total{x=\"1\"} 2\na_total_more 4\n# HELP a_total 8\n";
        assert_eq!(values(text, "a_total", "").sum::<f64>(), 3.0);
        assert_eq!(values(text, "a_total", "x=\"1\"").sum::<f64>(), 2.0);
    }
}
