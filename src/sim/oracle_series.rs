//! What one target's scrapes must give, the plain way: label sets in hash maps, no code of the series room.

use std::collections::BTreeMap;

use super::log::{Log, Need, SeriesId};
use super::scene::{Fate, Line, Scene};
use super::script::{Life, Terms};
use super::{HashMap, HashSet};
use crate::model::{NORMAL_NAN, STALE_NAN};

/// In the order of reporting.
const REPORT: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];

/// What is remembered of texts and the label sets they become.
pub type Compositions = HashMap<(Terms, usize), Option<SeriesId>>;

/// One target's memory.
#[derive(Debug)]
pub struct Series {
    labels: Vec<(String, String)>,
    composed: Compositions,
    /// Texts, by number.
    known: HashSet<usize>,
    /// Label sets that the last scrape showed.
    pub live: HashSet<SeriesId>,
    /// Label sets that any scrape showed.
    pub ever: HashSet<SeriesId>,
    last: HashMap<SeriesId, i64>,
    /// Timestamps counted in the last good body.
    is_timed: bool,
    report: Vec<SeriesId>,
    /// Whether there was a scrape.
    pub has_reported: bool,
}

/// One scrape in the making.
#[derive(Default)]
struct Pass {
    scraped: u64,
    post_relabel: u64,
    added: u64,
    appended: u64,
    is_over: bool,
    is_timed: bool,
    /// What it shows.
    shown: HashSet<SeriesId>,
    /// In the order of the lines.
    samples: Vec<(SeriesId, i64, f64)>,
    /// Texts, by number.
    seen: HashSet<usize>,
}

impl Series {
    /// Of a target that was not scraped yet.
    #[must_use]
    pub fn new(life: &Life, log: &mut Log) -> Self {
        let labels: Vec<(String, String)> =
            life.spec.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let report = REPORT
            .iter()
            .map(|name| {
                let mut all: BTreeMap<&str, &str> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
                all.insert("__name__", name);
                log.names.id(all.into_iter())
            })
            .collect::<Vec<_>>();
        log.is_duration(report[1]);
        Self {
            labels,
            composed: HashMap::default(),
            known: HashSet::default(),
            live: HashSet::default(),
            ever: HashSet::default(),
            last: HashMap::default(),
            is_timed: false,
            report,
            has_reported: false,
        }
    }

    /// The job's rules change: texts count as new.
    pub fn forget_texts(&mut self) {
        self.known.clear();
    }

    /// The series that the target reports about its scrapes.
    #[must_use]
    pub fn report(&self) -> &[SeriesId] {
        &self.report
    }

    /// One scrape at `time_ms`; what it must give is expected in `log`.
    pub fn scrape(&mut self, scene: &Scene<'_>, terms: &Terms, time_ms: i64, (need, at): (Need, u64), log: &mut Log) {
        let mut pass = Pass::default();
        let lines = match scene.fate {
            Fate::Good => &scene.lines[..],
            Fate::Garbled(n) => &scene.lines[..n.min(scene.lines.len())],
            _ => &[],
        };
        for line in lines {
            self.line(line, terms, time_ms, &mut pass, log);
        }
        let is_garbled = matches!(scene.fate, Fate::Garbled(_));
        let is_bad = is_garbled || pass.is_over;
        let is_up = matches!(scene.fate, Fate::Empty) || (matches!(scene.fate, Fate::Good) && !is_bad);
        if is_bad {
            pass.samples.clear();
        }
        for &(id, t, value) in &pass.samples {
            self.last.insert(id, t);
            let bits = if value.is_nan() { NORMAL_NAN.to_bits() } else { value.to_bits() };
            log.expect((id, t, bits), need, at);
        }
        for &id in self.live.difference(&pass.shown) {
            if self.last.get(&id).is_none_or(|&last| time_ms > last) {
                log.expect((id, time_ms, STALE_NAN.to_bits()), need, at);
                self.last.insert(id, time_ms);
            }
        }
        let report =
            [f64::from(u8::from(is_up)), 0.0, pass.scraped as f64, pass.post_relabel as f64, pass.added as f64];
        for (&id, value) in self.report.iter().zip(report) {
            log.expect((id, time_ms, value.to_bits()), need, at);
        }
        if !lines.is_empty() || is_garbled {
            if !is_bad {
                self.known.retain(|text| pass.seen.contains(text));
            }
            self.is_timed = pass.is_timed || (is_bad && self.is_timed);
        }
        self.live = pass.shown;
        self.ever.extend(&self.live);
        if !self.is_timed {
            let live = &self.live;
            self.last.retain(|id, _| live.contains(id));
        }
        self.has_reported = true;
    }

    fn line(&mut self, line: &Line<'_>, terms: &Terms, time_ms: i64, pass: &mut Pass, log: &mut Log) {
        pass.scraped += 1;
        let text = line.look.text_number;
        let explicit = line.time_ms.filter(|_| terms.honor_timestamps);
        pass.is_timed |= explicit.is_some();
        let is_again = !pass.seen.insert(text);
        let id = match self.composed.get(&(*terms, text)) {
            Some(&id) => id,
            None => {
                let id = self.compose(line, terms, log);
                self.composed.insert((*terms, text), id);
                id
            }
        };
        let is_known = self.known.contains(&text);
        let Some(id) = id else {
            self.known.insert(text);
            return;
        };
        pass.post_relabel += 1;
        if is_again && is_known && explicit.is_none() {
            return;
        }
        pass.appended += 1;
        if terms.sample_limit > 0 && pass.appended > terms.sample_limit {
            pass.is_over = true;
            return;
        }
        let t = explicit.unwrap_or(time_ms);
        if self.last.get(&id).is_some_and(|&last| t <= last) {
            return;
        }
        if explicit.is_none() {
            pass.shown.insert(id);
        }
        if !is_known {
            self.known.insert(text);
            pass.added += u64::from(!pass.is_over);
        }
        // Within one scrape the first sample of a series and time wins.
        if pass.samples.iter().any(|s| s.0 == id && t <= s.1) {
            return;
        }
        pass.samples.push((id, t, line.value));
    }

    /// The final label set; `None` when the rules drop it.
    fn compose(&self, line: &Line<'_>, terms: &Terms, log: &mut Log) -> Option<SeriesId> {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        all.insert("__name__".to_owned(), line.look.name.clone());
        all.extend(line.look.labels.iter().map(|(n, v)| ((*n).to_owned(), v.clone())));
        for (name, value) in &self.labels {
            match all.get(name).cloned() {
                Some(_) if terms.honor_labels => continue,
                Some(exposed) => {
                    all.insert(format!("exported_{name}"), exposed);
                }
                None => {}
            }
            all.insert(name.clone(), value.clone());
        }
        if terms.drops && line.look.name.starts_with("drop_") {
            return None;
        }
        if terms.rests && all.get("mode").is_some_and(|m| m == "idle") {
            all.insert("mode".to_owned(), "rest".to_owned());
        }
        if terms.forgets_debug {
            all.remove("debug");
        }
        if terms.places
            && let (Some(zone), Some(mode)) = (all.get("zone"), all.get("mode"))
        {
            all.insert("place".to_owned(), format!("{zone}-{mode}"));
        }
        Some(log.names.id(all.iter().map(|(n, v)| (n.as_str(), v.as_str()))))
    }
}
