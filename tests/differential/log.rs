//! What a scraper wrote for a case, as lines that do not depend on when it happened.
//!
//! A line is `target #scrape series = value` for samples at a scrape time, `explicit series = value @T+ms` for samples with a
//! time of their own. A case with a reload has one line a series: the values it had, one after another. A target is told by its `scrape_duration_seconds` series; that series' times are its scrape instants.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::case::Case;
use crate::support::receiver::{Labels, Log, Point};

/// Bits of a staleness marker.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Bits of any NaN read from a text body.
const NAN: u64 = 0x7ff8_0000_0000_0001;
/// Times from a body are written relative to this far after the start of the session, ms.
pub const BASE_MS: i64 = 300_000;
/// Times this close below the base are still shown relative to it, ms; earlier ones were no times from a body.
const BASE_SLACK_MS: i64 = 200_000;

/// A sample that comes so soon after a marker undoes it; changes of a case are much further apart.
const AT_ONCE_MS: i64 = 6_000;

/// What turns one session's facts into neutral text.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The scripted server, shown as `@ADDR@`.
    pub addr: String,
    /// Start of the session, ms since the epoch.
    pub start_ms: i64,
}

/// One target of a case: its label set without the name, and its scrape instants.
struct Target {
    labels: Labels,
    times: Vec<i64>,
}

/// The series of a case.
pub type Series<'l> = Vec<(&'l Labels, &'l [Point])>;

/// Everything received, by the case whose name it carries.
pub fn by_case(log: &Log) -> HashMap<&str, Series<'_>> {
    let mut out: HashMap<&str, Series<'_>> = HashMap::new();
    for (labels, points) in log {
        if let Some(case) = value_of(labels, "case") {
            out.entry(case).or_default().push((labels, points));
        }
    }
    out
}

/// Drops what does not rise in time: rows `twins-first-wins`, `explicit-times-in-order` and `report-series-exposed` of the
/// table of differences, for bodies nobody wrote down. A marker beside a sample is that of an exposed report series.
pub fn rising(points: &[Point]) -> Vec<Point> {
    let mut out: Vec<Point> = Vec::new();
    for &point in points {
        match out.last_mut() {
            Some(last) if last.time_ms == point.time_ms && last.bits == STALE => *last = point,
            Some(last) if last.time_ms >= point.time_ms => {}
            _ => out.push(point),
        }
    }
    out
}

/// Without markers that a sample follows at once: while a reload restarts loops, Prometheus leaves it to the storage, and so
/// to chance, whether the markers of the old loop come too late. Those of the tested program are never left out.
pub fn lasting(points: &[Point]) -> Vec<Point> {
    let mut points = points.to_vec();
    points.sort_by_key(|p| p.time_ms);
    let is_undone = |at: usize| points.get(at + 1).is_some_and(|next| next.time_ms - points[at].time_ms < AT_ONCE_MS);
    let kept = (0..points.len()).filter(|&at| points[at].bits != STALE || !is_undone(at));
    kept.map(|at| points[at]).collect()
}

/// Completed scrapes per target of this case, fewest first; `None` until all its targets have reported.
pub fn scrapes(case: &Case, series: &[(&Labels, &[Point])]) -> Option<usize> {
    let targets = targets(series);
    if targets.len() < case.targets { None } else { targets.iter().map(|t| t.times.len()).min() }
}

/// The neutral lines of a case, sorted.
pub fn lines(case: &Case, series: &[(&Labels, &[Point])], frame: &Frame) -> Vec<String> {
    if case.is_reloading() {
        return histories(case, series, frame);
    }
    let targets = targets(series);
    let mut scrapes: Vec<BTreeMap<i64, BTreeSet<String>>> = targets.iter().map(|_| BTreeMap::new()).collect();
    let mut others = BTreeSet::new();
    for (labels, points) in series {
        for point in *points {
            place(case, frame, &targets, labels, point, &mut scrapes, &mut others);
        }
    }
    let mut out: Vec<String> = others.into_iter().collect();
    for (target, by_time) in targets.iter().zip(scrapes) {
        let name = target_name(case, frame, &target.labels);
        let groups: Vec<BTreeSet<String>> = by_time.into_values().collect();
        for (index, group) in compared(case, groups).iter().enumerate() {
            out.extend(group.iter().map(|line| format!("{name}#{index:02} {line}")));
        }
    }
    out.sort();
    out
}

/// What became of each series, without when: a reload restarts loops of a job in one scraper, and fewer of them in another.
/// What only tells of restarts is left out.
fn histories(case: &Case, series: &[(&Labels, &[Point])], frame: &Frame) -> Vec<String> {
    let told = |labels: &Labels| {
        !matches!(value_of(labels, "__name__"), Some("scrape_duration_seconds" | "scrape_series_added"))
    };
    let mut out = Vec::new();
    for (labels, points) in series.iter().filter(|(labels, _)| told(labels)) {
        let mut points = points.to_vec();
        points.sort_by_key(|p| p.time_ms);
        let mut values: Vec<String> = points.iter().map(|p| value_text(labels, p.bits)).collect();
        values.dedup();
        out.push(format!("{}: {}", series_text(case, frame, labels), values.join(", ")));
    }
    out.sort();
    out
}

/// The scrapes that count: a fixed number of them, or runs of equal ones where the script has a change in it.
fn compared(case: &Case, mut groups: Vec<BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    if case.is_changing() {
        groups.dedup();
    } else {
        groups.truncate(case.scrapes);
    }
    groups
}

fn place(
    case: &Case,
    frame: &Frame,
    targets: &[Target],
    labels: &Labels,
    point: &Point,
    scrapes: &mut [BTreeMap<i64, BTreeSet<String>>],
    others: &mut BTreeSet<String>,
) {
    let series = series_text(case, frame, labels);
    let value = value_text(labels, point.bits);
    let of_target = targets
        .iter()
        .enumerate()
        .filter(|(_, t)| t.times.binary_search(&point.time_ms).is_ok())
        .max_by_key(|(_, t)| t.labels.iter().filter(|l| labels.contains(l)).count());
    if let Some((index, _)) = of_target {
        put(scrapes[index].entry(point.time_ms).or_default(), format!("{series} = {value}"));
        return;
    }
    let from_base = point.time_ms - frame.start_ms - BASE_MS;
    if from_base >= -BASE_SLACK_MS {
        // How often depends on the length of the session, so that it happened at all is all that counts.
        let line = format!("explicit {series} = {value} @T{from_base:+}");
        others.insert(if others.contains(&line) { format!("{line} (again)") } else { line });
    } else if point.time_ms >= frame.start_ms && (point.bits == STALE || point.time_ms < last_scrape(targets)) {
        // Later values belong to a scrape whose report had not arrived when the session ended.
        put(others, format!("unscraped {series} = {value}"));
    } else if point.time_ms < frame.start_ms {
        others.insert(format!("before the start {series} = {value} @{}", point.time_ms));
    }
}

/// The targets of a case by their duration series.
fn targets(series: &[(&Labels, &[Point])]) -> Vec<Target> {
    let mut out = Vec::new();
    for (labels, points) in series {
        if value_of(labels, "__name__") != Some("scrape_duration_seconds") {
            continue;
        }
        let mut times: Vec<i64> = points.iter().map(|p| p.time_ms).collect();
        times.sort_unstable();
        times.dedup();
        let labels = labels.iter().filter(|(n, _)| n != "__name__").cloned().collect();
        out.push(Target { labels, times });
    }
    out
}

/// A line that is there already is put again under another text: what is written twice is a difference.
fn put(lines: &mut BTreeSet<String>, mut line: String) {
    while lines.contains(&line) {
        line.push_str(" (again)");
    }
    lines.insert(line);
}

/// The last scrape instant of a case.
fn last_scrape(targets: &[Target]) -> i64 {
    targets.iter().filter_map(|t| t.times.last().copied()).max().unwrap_or(i64::MAX)
}

fn value_of<'l>(labels: &'l Labels, name: &str) -> Option<&'l str> {
    labels.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
}

/// What tells this target from the others of the case; empty for an only one.
fn target_name(case: &Case, frame: &Frame, labels: &Labels) -> String {
    let text = label_text(case, frame, labels);
    if text.is_empty() { String::new() } else { format!("{{{text}}} ") }
}

fn series_text(case: &Case, frame: &Frame, labels: &Labels) -> String {
    let name = value_of(labels, "__name__").unwrap_or("!name");
    let rest: Labels = labels.iter().filter(|(n, _)| n != "__name__").cloned().collect();
    format!("{}{{{}}}", name.escape_debug(), label_text(case, frame, &rest))
}

/// Labels in name order; those every series has are left out when they are as expected and shown as `!name` when missing.
fn label_text(case: &Case, frame: &Frame, labels: &Labels) -> String {
    let usual =
        [("case", case.name.as_str()), ("job", case.name.as_str()), ("instance", frame.addr.as_str()), ("fleet", "f")];
    let mut parts: Vec<String> = Vec::new();
    for (name, value) in usual {
        match value_of(labels, name) {
            None => parts.push(format!("!{name}")),
            Some(v) if v == value => {}
            Some(v) => parts.push(format!("{name}={}", shown(frame, v))),
        }
    }
    let unusual = labels.iter().filter(|(n, _)| usual.iter().all(|(u, _)| u != n));
    parts.extend(unusual.map(|(n, v)| format!("{}={}", n.escape_debug(), shown(frame, v))));
    parts.join(",")
}

/// A label value, quoted; very long ones by length and a sum.
fn shown(frame: &Frame, value: &str) -> String {
    let value = value.replace(&frame.addr, "@ADDR@");
    if value.len() > 200 {
        let sum = crc32c::crc32c(value.as_bytes());
        return format!("\"{}...\"[{} bytes, {sum:08x}]", value.chars().take(20).collect::<String>(), value.len());
    }
    format!("{value:?}")
}

fn value_text(labels: &Labels, bits: u64) -> String {
    let value = f64::from_bits(bits);
    match bits {
        STALE => "stale".to_owned(),
        NAN => "NaN".to_owned(),
        _ if value.is_nan() => format!("NaN({bits:016x})"),
        _ if value_of(labels, "__name__") == Some("scrape_duration_seconds") => "(a duration)".to_owned(),
        // Prometheus's encoder leaves out a value that equals zero, so what it sends cannot tell -0 from 0.
        _ if value == 0.0 => "0.0".to_owned(),
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_markers_that_last_are_kept() {
        let point = |time_ms, bits| Point { time_ms, bits };
        let points =
            [point(1, 1), point(2, STALE), point(3, 1), point(4, STALE), point(10_000, 1), point(10_001, STALE)];
        assert_eq!(
            lasting(&points),
            [point(1, 1), point(3, 1), point(4, STALE), point(10_000, 1), point(10_001, STALE)]
        );
    }

    #[test]
    fn only_what_rises_is_kept() {
        let point = |time_ms, bits| Point { time_ms, bits };
        let points = [point(5, 1), point(5, 2), point(7, 3), point(6, 4), point(8, STALE), point(8, 5)];
        assert_eq!(rising(&points), [point(5, 1), point(7, 3), point(8, 5)]);
    }
}
