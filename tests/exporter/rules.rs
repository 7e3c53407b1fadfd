//! What must hold within what a scraper stored of a target, and between what two of them stored of it.
//!
//! A scrape is a sample of `up`: it begins at that time and has ended `scrape_duration_seconds` later.
//!
//! Within: a scrape that is good stored as many values as it says, and none is stored at another time; a series that had a
//! value in one scrape and has none in the next has a marker there, and no other markers exist; report series always have a
//! value.
//!
//! Between, for the series of a moving target asked by two scrapers at different phases:
//! 1. Time is cut into slots of one interval, in the middle of the larger gap between the two phases. Every slot has exactly
//!    one scrape of each, and both are good. So a series that does not come or go has equally many samples on both sides.
//! 2. What a series does between two scrapes of one side, that side cannot tell. But where it is there in two scrapes of one
//!    side in succession, then also in every scrape that the other side begins and ends between them. So a series on one side only
//!    can have been there only in glimpses, and even then its family is known on the other side.
//! 3. A counter's value lies between the values in the last scrape of the other side that had ended before and the first that
//!    began after. A counter that the reference has seen falling is none.

use std::collections::{BTreeMap, BTreeSet};

use crate::read_back::{Labels, Samples, Stored};

/// The bits of a staleness marker.
pub const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Both scrape this often.
pub const INTERVAL_MS: i64 = 1_000;
/// Slots at the start that nobody judges: the first scrape of a process may be late.
const STARTING: i64 = 2;
/// A time moves onto its schedule by 2 ms at most, and is rounded to whole ms.
const TIME_IS_LATE_MS: i64 = 3;
/// Faults of one kind that are printed.
const FAULTS_SHOWN: usize = 20;

/// One scrape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scrape {
    pub begin_ms: i64,
    pub end_ms: i64,
    pub good: bool,
}

/// What one scraper stored.
pub struct Side {
    pub who: &'static str,
    /// In the order of time.
    pub scrapes: Vec<Scrape>,
    /// What the target exposes.
    pub exposed: Stored,
    /// What the scraper says about the scrapes, by name.
    pub reports: BTreeMap<String, Samples>,
}

/// Whether a series is the scraper's own.
pub fn is_report(labels: &Labels) -> bool {
    name(labels) == "up" || name(labels).starts_with("scrape_")
}

fn name(labels: &Labels) -> &str {
    labels.get("__name__").map_or("", String::as_str)
}

impl Side {
    pub fn new(who: &'static str, stored: &Stored) -> Side {
        let (reports, exposed): (Stored, Stored) = stored.clone().into_iter().partition(|(l, _)| is_report(l));
        let reports: BTreeMap<String, Samples> =
            reports.into_iter().map(|(l, samples)| (name(&l).to_owned(), samples)).collect();
        let report = |name: &str, time: i64| reports.get(name).and_then(|s| s.get(&time)).map(|b| f64::from_bits(*b));
        let ups = reports.get("up").into_iter().flatten();
        let scrapes = ups.map(|(begin_ms, up)| {
            let ms = report("scrape_duration_seconds", *begin_ms).unwrap_or(0.0) * 1e3;
            let end_ms = begin_ms + ms.ceil() as i64 + TIME_IS_LATE_MS;
            Scrape { begin_ms: *begin_ms, end_ms, good: f64::from_bits(*up) == 1.0 }
        });
        Side { who, scrapes: scrapes.collect(), exposed, reports }
    }

    /// What is wrong within.
    pub fn faults(&self) -> Vec<String> {
        let times: BTreeSet<i64> = self.scrapes.iter().map(|s| s.begin_ms).collect();
        let mut faults = Vec::new();
        for (name, samples) in &self.reports {
            if !samples.keys().eq(&times) || samples.values().any(|bits| *bits == STALE) {
                faults.push(format!("{}: {name} has not exactly one value a scrape", self.who));
            }
        }
        for (labels, samples) in &self.exposed {
            faults.extend(
                samples
                    .keys()
                    .filter(|t| !times.contains(t))
                    .map(|t| format!("{}: {labels:?} has a sample at {t}, where no scrape is", self.who)),
            );
            let mut had = false;
            for time in &times {
                let got = samples.get(time).copied();
                let want_marker = had && got.is_none_or(|bits| bits == STALE);
                if want_marker != (got == Some(STALE)) {
                    let fault = if want_marker { "no marker" } else { "a marker" };
                    faults.push(format!("{}: {labels:?} has {fault} at {time}", self.who));
                }
                had = got.is_some_and(|bits| bits != STALE);
            }
        }
        faults.extend(self.scrapes.iter().filter_map(|s| self.miscounted(s)));
        faults
    }

    /// Against what the scrape says about itself.
    fn miscounted(&self, scrape: &Scrape) -> Option<String> {
        let stored = self.exposed.keys().filter(|labels| self.value(labels, scrape).is_some()).count();
        let say = ["scrape_samples_scraped", "scrape_samples_post_metric_relabeling"].map(|name| {
            self.reports.get(name).and_then(|s| s.get(&scrape.begin_ms)).map_or(f64::NAN, |b| f64::from_bits(*b))
        });
        let want = if scrape.good { [stored as f64; 2] } else { [0.0; 2] };
        (say != want || (stored > 0) != scrape.good)
            .then(|| format!("{}: {stored} samples at {}, but it says {say:?}", self.who, scrape.begin_ms))
    }

    fn value(&self, labels: &Labels, scrape: &Scrape) -> Option<f64> {
        let bits = self.exposed.get(labels)?.get(&scrape.begin_ms)?;
        (*bits != STALE).then(|| f64::from_bits(*bits))
    }

    /// The last scrape that had ended before that of the other side, and the first that began after it; good ones only.
    fn around(&self, other: &Scrape) -> Option<[&Scrape; 2]> {
        let before = self.scrapes.iter().rev().find(|s| s.end_ms < other.begin_ms)?;
        let after = self.scrapes.iter().find(|s| s.begin_ms > other.end_ms)?;
        (before.good && after.good).then_some([before, after])
    }

    /// Time of day within the interval of most scrapes.
    fn phase(&self) -> i64 {
        let mut counts: BTreeMap<i64, usize> = BTreeMap::new();
        self.scrapes.iter().for_each(|s| *counts.entry(s.begin_ms.rem_euclid(INTERVAL_MS)).or_insert(0) += 1);
        counts.into_iter().max_by_key(|(_, count)| *count).map_or(0, |(phase, _)| phase)
    }
}

/// The reference's scrape and ours in one slot.
pub type Slot = (Scrape, Scrape);

/// Rule 1, up to the slot before that in which the exporter was stopped.
pub fn slots(reference: &Side, ours: &Side, stopped_ms: i64) -> (Vec<Slot>, Vec<String>) {
    let (low, high) = {
        let phases = [reference.phase(), ours.phase()];
        (phases[0].min(phases[1]), phases[0].max(phases[1]))
    };
    let inner = high - low;
    let cut = if inner * 2 >= INTERVAL_MS { low + inner / 2 } else { high + (INTERVAL_MS - inner) / 2 };
    let slot = |ms: i64| (ms - cut).div_euclid(INTERVAL_MS);
    let first = [reference, ours].map(|s| s.scrapes.first().map_or(i64::MAX / 2, |s| slot(s.begin_ms)));
    let mut pairs = Vec::new();
    let mut faults = Vec::new();
    for n in first[0].max(first[1]) + STARTING..slot(stopped_ms) - 1 {
        let found =
            [reference, ours].map(|side| side.scrapes.iter().filter(|s| slot(s.begin_ms) == n).collect::<Vec<_>>());
        match (found[0].as_slice(), found[1].as_slice()) {
            ([a], [b]) if a.good && b.good => pairs.push((**a, **b)),
            (a, b) => faults.push(format!(
                "slot from {}: not one good scrape each: {} {a:?}, {} {b:?}",
                n * INTERVAL_MS + cut,
                reference.who,
                ours.who
            )),
        }
    }
    (pairs, faults)
}

/// How much was compared.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// In every slot on both sides.
    pub steady: usize,
    /// On both sides, not in every slot.
    pub passing: usize,
    /// On one side only, in glimpses.
    pub glimpsed: Vec<Labels>,
    /// Values in the slots: the reference's, ours.
    pub values: (usize, usize),
    /// Values of ours that lie between two of the reference.
    pub counted: usize,
    /// Series that never change.
    pub constants: usize,
    /// Counters that the reference has seen falling.
    pub fell: Vec<Labels>,
}

/// Rule 2.
pub fn presence(reference: &Side, ours: &Side, slots: &[Slot], figures: &mut Figures) -> Vec<String> {
    let mut faults = Vec::new();
    for (theirs, mine) in slots {
        faults.extend(missing(reference, ours, mine));
        faults.extend(missing(ours, reference, theirs));
    }
    let families: [BTreeSet<&str>; 2] = [reference, ours].map(|s| s.exposed.keys().map(name).collect());
    let all: BTreeSet<&Labels> = reference.exposed.keys().chain(ours.exposed.keys()).collect();
    for labels in all {
        let theirs = slots.iter().filter(|(s, _)| reference.value(labels, s).is_some()).count();
        let mine = slots.iter().filter(|(_, s)| ours.value(labels, s).is_some()).count();
        figures.values.0 += theirs;
        figures.values.1 += mine;
        let is_on_both = reference.exposed.contains_key(labels) && ours.exposed.contains_key(labels);
        match (is_on_both, theirs.min(mine) == slots.len()) {
            (true, true) => figures.steady += 1,
            (true, false) => figures.passing += 1,
            (false, _) => {
                if families.iter().any(|known| !known.contains(name(labels))) {
                    faults.push(format!("{labels:?} is on one side only, and its family too"));
                }
                figures.glimpsed.push(labels.clone());
            }
        }
    }
    faults
}

/// Series that `witness` has before and after this scrape of `side` and that this scrape lacks.
fn missing(witness: &Side, side: &Side, scrape: &Scrape) -> Vec<String> {
    let (who, at) = (side.who, scrape.begin_ms);
    let Some(around) = witness.around(scrape) else {
        return vec![format!("{who}: {} has no good scrapes around that at {at}", witness.who)];
    };
    let there = witness.exposed.keys().filter(|labels| around.iter().all(|s| witness.value(labels, s).is_some()));
    let lacking = there.filter(|labels| side.value(labels, scrape).is_none());
    lacking.map(|labels| format!("{who}: {labels:?} is missing at {at}, {} has it around", witness.who)).collect()
}

/// Rule 3, for the metrics of these names.
pub fn counters(
    reference: &Side,
    ours: &Side,
    slots: &[Slot],
    names: &BTreeSet<String>,
    figures: &mut Figures,
) -> Vec<String> {
    let mut faults = Vec::new();
    for (labels, samples) in reference.exposed.iter().filter(|(labels, _)| names.contains(name(labels))) {
        let values: Vec<f64> = samples.values().filter(|b| **b != STALE).map(|b| f64::from_bits(*b)).collect();
        if values.windows(2).any(|w| w[0] > w[1]) {
            figures.fell.push(labels.clone());
            continue;
        }
        for (_, scrape) in slots {
            let around = reference.around(scrape).map(|s| s.map(|s| reference.value(labels, s)));
            let (Some([Some(before), Some(after)]), Some(value)) = (around, ours.value(labels, scrape)) else {
                continue;
            };
            figures.counted += 1;
            if !(before <= value && value <= after) {
                let at = scrape.begin_ms;
                faults.push(format!("{labels:?} is {value} at {at}, the reference has {before} before, {after} after"));
            }
        }
    }
    faults
}

/// Series that never change have one value, the same on both sides.
pub fn constants(
    reference: &Side,
    ours: &Side,
    is_constant: impl Fn(&str) -> bool,
    figures: &mut Figures,
) -> Vec<String> {
    let mut faults = Vec::new();
    for labels in reference.exposed.keys().filter(|labels| is_constant(name(labels))) {
        let values = [reference, ours].map(|side| {
            let all = side.exposed.get(labels).into_iter().flat_map(|samples| samples.values());
            all.copied().filter(|bits| *bits != STALE).collect::<BTreeSet<u64>>()
        });
        figures.constants += 1;
        if values[0].len() != 1 || values[0] != values[1] {
            let values = values.map(|v| v.into_iter().map(f64::from_bits).collect::<Vec<_>>());
            faults.push(format!("{labels:?} has {values:?}"));
        }
    }
    faults
}

/// What `got` has not or has otherwise than `want`; `same` takes the wanted and the other bits and the largest of the series.
pub fn differences(want: &Stored, got: &Stored, same: impl Fn(u64, u64, f64) -> bool) -> Vec<String> {
    let mut faults: Vec<String> =
        got.keys().filter(|l| !want.contains_key(*l)).map(|l| format!("{l:?} is there, unwanted")).collect();
    for (labels, samples) in want {
        let Some(others) = got.get(labels) else {
            faults.push(format!("{labels:?} is missing"));
            continue;
        };
        let finite = samples.values().map(|b| f64::from_bits(*b).abs()).filter(|v| v.is_finite());
        let largest = finite.fold(0.0, f64::max);
        let times: BTreeSet<&i64> = samples.keys().chain(others.keys()).collect();
        for time in times {
            let (a, b) = (samples.get(time), others.get(time));
            if !matches!((a, b), (Some(a), Some(b)) if same(*a, *b, largest)) {
                let [a, b] = [a, b].map(|bits| bits.map(|b| f64::from_bits(*b)));
                faults.push(format!("{labels:?} at {time}: wanted {a:?}, got {b:?}"));
            }
        }
    }
    faults
}

/// Equal bits; all NaNs are one, because the export says so.
pub fn same_bits(want: u64, got: u64, _: f64) -> bool {
    want == got || (f64::from_bits(want).is_nan() && f64::from_bits(got).is_nan())
}

/// VictoriaMetrics keeps decimals of at most 18 digits, those of a block with one exponent. Integers below 2^53 come back as they
/// were, until a block is merged with one of markers only: then they have been stretched to 18 digits, and come back with two
/// roundings. Other numbers have been cut after 12 digits, and by what the largest of their block leaves of its 18.
pub fn same_decimal(want: u64, got: u64, largest: f64) -> bool {
    let (a, b) = (f64::from_bits(want), f64::from_bits(got));
    if a.is_nan() || b.is_nan() || a.is_infinite() {
        return (a.is_nan() && b.is_nan()) || a == b;
    }
    let is_integer = a.fract() == 0.0 && a.abs() < 2f64.powi(53) && largest < 9e16;
    let lost = if is_integer { a.abs() * f64::EPSILON } else { a.abs() * 1e-12 + largest * 1e-16 };
    (a - b).abs() <= lost
}

/// Panics with the first faults when there are any.
pub fn assert_none(what: &str, faults: &[String]) {
    let shown = faults[..faults.len().min(FAULTS_SHOWN)].join("\n");
    assert!(faults.is_empty(), "{what}: {} faults\n{shown}", faults.len());
}

#[path = "rules_tests.rs"]
#[cfg(test)]
mod tests;
