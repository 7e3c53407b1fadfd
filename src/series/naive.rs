//! The reference: a scrape cache as plainly as Prometheus has it, with final label sets in hash maps.
//!
//! Slow and simple on purpose. Property tests hold the fast path equal to it scrape by scrape, and the simulator
//! takes it as its oracle. It shares with the fast path the tokenizer, the decoding of labels and the single
//! relabelling rule, which have their own references; it does not share layouts, bindings, identities or diffs.
//!
//! Storage follows Prometheus's agent, window 0, with these deliberate rules: within one scrape the first sample of a
//! series and time wins; last times are remembered for live series, for what a failed scrape ended until the next good
//! one, and for every series from the first scrape with honoured timestamps to two hours after the last; a report series
//! never gets a marker before the end of the run.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::error::{SeriesError, cut};
use super::outcome::{ScrapeTime, Tallies};
use super::report::{REPORT_EXTRA, REPORT_NAMES};
use crate::config::{NameValidation, ScrapeConfig};
use crate::exposition::labels::{METRIC_NAME, decode};
use crate::exposition::text::{Entry, Halt, Kind, Rest, step};
use crate::model::{Labels, LabelsBuilder};
use crate::relabel::{RelabelError, Rules, Verdict, is_valid_label_name};

const AHEAD_MS: i64 = 600_000;
const TIMES_KEPT_MS: i64 = 2 * 3_600_000;

/// A text as the cache knows it: as written.
type Text = Vec<u8>;

/// A final label set in plain form.
pub type Pairs = BTreeMap<String, String>;

/// What a scrape must give.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Series, time in milliseconds and bits of the value, in the order of appending.
    pub samples: Vec<(Pairs, i64, u64)>,
    /// Series that get a marker at the scrape's time.
    pub stale: HashSet<Pairs>,
    /// Counts.
    pub tallies: Tallies,
    /// Why the body was refused.
    pub error: Option<SeriesError>,
    /// Report series shut out by exposed samples.
    pub lost: Vec<usize>,
}

#[derive(Debug)]
struct Cached {
    /// `None`: dropped by relabelling.
    labels: Option<Pairs>,
    /// Scrape that saw the text last.
    seen: u64,
}

/// One target.
#[derive(Debug)]
pub struct Naive {
    config: ScrapeConfig,
    rules: Rules,
    labels: Labels,
    cache: HashMap<Text, Cached>,
    live: HashSet<Pairs>,
    last: HashMap<Pairs, i64>,
    /// Whether last times are kept, and since when there are no honoured timestamps.
    timed: bool,
    timed_ms: i64,
    /// What was live before the first of the failed scrapes, with the time of its markers.
    before: HashMap<Pairs, i64>,
    scrape: u64,
    count: usize,
    reported: bool,
}

/// A scrape in the making.
#[derive(Default)]
struct Batch {
    out: Outcome,
    tracked: HashSet<Pairs>,
    times: HashMap<Pairs, i64>,
    appended: u64,
    over_limit: bool,
    explicit: bool,
    seen: HashSet<Pairs>,
}

impl Naive {
    /// A target with these public labels.
    ///
    /// # Errors
    /// A metric relabelling rule that does not compile.
    pub fn new(config: &ScrapeConfig, labels: &Labels) -> Result<Self, RelabelError> {
        Ok(Self {
            rules: Rules::compile(&config.metric_relabel_configs)?,
            config: config.clone(),
            labels: labels.clone(),
            cache: HashMap::new(),
            live: HashSet::new(),
            last: HashMap::new(),
            timed: false,
            timed_ms: 0,
            before: HashMap::new(),
            scrape: 0,
            count: 0,
            reported: false,
        })
    }

    /// One scrape; `None` or an empty body: nothing was shown.
    pub fn scrape(&mut self, body: Option<&[u8]>, time: ScrapeTime) -> Outcome {
        let mut batch = Batch::default();
        let body = body.filter(|b| !b.is_empty());
        if let Some(body) = body {
            self.append(body, time, &mut batch);
        }
        let failed = batch.out.error.is_some();
        if failed {
            batch.out.samples.clear();
            batch.times.clear();
        }
        self.last.extend(batch.times.drain());
        self.mark_stale(&mut batch, time);
        self.report(&mut batch, time);
        if body.is_some() {
            self.end_iteration(!failed);
            if batch.explicit {
                self.timed_ms = time.time_ms;
            }
            self.timed = batch.explicit || (self.timed && time.time_ms - self.timed_ms < TIMES_KEPT_MS);
        }
        if self.timed {
            for (labels, time_ms) in self.before.drain() {
                self.last.entry(labels).or_insert(time_ms);
            }
        } else if body.is_some_and(|_| !failed) {
            self.before.clear();
        } else if self.before.is_empty() {
            self.before = self.live.iter().map(|labels| (labels.clone(), time.time_ms)).collect();
        }
        self.live = batch.tracked;
        self.forget(&batch.seen);
        self.reported = true;
        self.scrape += 1;
        batch.out
    }

    /// Series that get a marker when the target goes away: all that is live, and the report series.
    #[must_use]
    pub fn end_of_run(&self) -> HashSet<Pairs> {
        let report = (0..self.report_names().count()).map(|i| self.report_labels(i));
        if self.reported { self.live.iter().cloned().chain(report).collect() } else { HashSet::new() }
    }

    fn append(&mut self, body: &[u8], time: ScrapeTime, batch: &mut Batch) {
        let mut body = body.to_vec();
        body.push(b'\n');
        let (mut at, mut kind) = (0, Kind::None);
        while at < body.len() {
            let (entry, next) = match step(&body, at, Rest::Nothing) {
                Ok(found) => found,
                Err(Halt::Error(error)) => {
                    batch.out.error = Some(SeriesError::Text { error, near: String::new() });
                    return;
                }
                Err(Halt::Incomplete) => unreachable!("nothing follows"),
            };
            at = next;
            match entry {
                Entry::Type(_, k) => kind = k,
                Entry::End => break,
                Entry::Sample(s) => {
                    let text = body[s.series].to_vec();
                    if let Err(error) = self.sample((text, kind), s.value, s.time_ms, time, batch) {
                        batch.out.error = Some(error);
                        return;
                    }
                }
                Entry::Help(..) | Entry::Other => {}
            }
        }
        if batch.over_limit {
            batch.out.error = Some(SeriesError::SampleLimit);
        }
    }

    fn sample(
        &mut self,
        (text, kind): (Text, Kind),
        value: f64,
        explicit: Option<i64>,
        time: ScrapeTime,
        batch: &mut Batch,
    ) -> Result<(), SeriesError> {
        batch.out.tallies.scraped += 1;
        let explicit = explicit.filter(|_| self.config.honor_timestamps);
        // Whether timestamps occur at all is a property of the text, even if the sample is dropped.
        batch.explicit |= explicit.is_some();
        let scrape = self.scrape;
        let cached = self.cache.get_mut(&text).map(|c| {
            let again = c.seen == scrape;
            c.seen = scrape;
            (c.labels.clone(), again)
        });
        let (labels, again, is_cached) = match cached {
            Some((None, _)) => return Ok(()),
            Some((Some(labels), again)) => (labels, again, true),
            None => match self.compose(&text, kind) {
                Composed::Dropped => {
                    self.cache.insert(text, Cached { labels: None, seen: scrape });
                    return Ok(());
                }
                Composed::Refused(error) => return Err(error),
                Composed::Twice(name) => {
                    if self.is_over(batch) {
                        batch.out.tallies.post_relabel += 1;
                        return Ok(());
                    }
                    return Err(SeriesError::DuplicateLabel { name });
                }
                Composed::Kept(labels) => (labels, false, false),
            },
        };
        batch.out.tallies.post_relabel += 1;
        batch.seen.insert(labels.clone());
        if again && explicit.is_none() {
            batch.out.tallies.duplicates += 1;
            return Ok(());
        }
        if self.is_over(batch) {
            return Ok(());
        }
        let time_ms = explicit.unwrap_or(time.time_ms);
        if time_ms > time.now_ms + AHEAD_MS {
            batch.out.tallies.out_of_bounds += 1;
            return Ok(());
        }
        if self.last_time(&labels).is_some_and(|last| time_ms <= last) {
            batch.out.tallies.out_of_order += 1;
            return Ok(());
        }
        if explicit.is_none() || self.config.track_timestamps_staleness {
            batch.tracked.insert(labels.clone());
        }
        if !is_cached {
            self.cache.insert(text, Cached { labels: Some(labels.clone()), seen: scrape });
            batch.out.tallies.series_added += u64::from(!batch.over_limit);
        }
        if batch.times.get(&labels).is_some_and(|&last| time_ms <= last) {
            batch.out.tallies.out_of_order += 1;
            return Ok(());
        }
        batch.times.insert(labels.clone(), time_ms);
        batch.out.samples.push((labels, time_ms, value.to_bits()));
        Ok(())
    }

    fn last_time(&self, labels: &Pairs) -> Option<i64> {
        self.last.get(labels).or_else(|| self.before.get(labels)).copied()
    }

    fn is_over(&self, batch: &mut Batch) -> bool {
        batch.appended += 1;
        let over = self.config.sample_limit > 0 && batch.appended > self.config.sample_limit;
        batch.over_limit |= over;
        over
    }

    fn mark_stale(&mut self, batch: &mut Batch, time: ScrapeTime) {
        let reports: Vec<Pairs> = (0..self.report_names().count()).map(|i| self.report_labels(i)).collect();
        for labels in self.live.difference(&batch.tracked) {
            let refused = self.last_time(labels).is_some_and(|last| time.time_ms <= last);
            if !refused && !reports.contains(labels) {
                batch.out.stale.insert(labels.clone());
            }
        }
        for labels in &batch.out.stale {
            self.last.insert(labels.clone(), time.time_ms);
        }
    }

    fn report(&mut self, batch: &mut Batch, time: ScrapeTime) {
        for i in 0..self.report_names().count() {
            let labels = self.report_labels(i);
            if self.last.get(&labels).is_some_and(|&last| time.time_ms <= last) {
                batch.out.lost.push(i);
            } else {
                self.last.insert(labels, time.time_ms);
            }
        }
    }

    fn end_iteration(&mut self, good: bool) {
        let reports = if self.reported { self.report_names().count() } else { 0 };
        if good || self.cache.len() + reports > self.count * 2 + 1000 {
            let scrape = self.scrape;
            self.cache.retain(|_, c| c.seen == scrape);
        }
        if good {
            self.count = self.cache.len() + reports;
        }
    }

    fn forget(&mut self, seen: &HashSet<Pairs>) {
        let reports: HashSet<Pairs> = (0..self.report_names().count()).map(|i| self.report_labels(i)).collect();
        if !self.timed {
            let live = &self.live;
            self.last.retain(|labels, _| live.contains(labels) || reports.contains(labels));
        } else if self.last.len() > 2 * seen.len() + 1000 {
            self.last.retain(|labels, _| seen.contains(labels) || reports.contains(labels));
        }
    }

    fn report_names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let extra: &[&str] = if self.config.extra_scrape_metrics { &REPORT_EXTRA } else { &[] };
        REPORT_NAMES.iter().chain(extra).copied()
    }

    fn report_labels(&self, index: usize) -> Pairs {
        let mut pairs: Pairs = self.labels.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        pairs.extend(self.report_names().nth(index).map(|m| (METRIC_NAME.to_owned(), m.to_owned())));
        pairs
    }
}

enum Composed {
    Kept(Pairs),
    Dropped,
    Refused(SeriesError),
    Twice(String),
}

impl Naive {
    fn compose(&self, text: &Text, kind: Kind) -> Composed {
        let mut exposed = Vec::new();
        decode(text, kind, &mut exposed);
        let mut broken: HashSet<String> = HashSet::new();
        let mut values: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for e in exposed {
            if e.broken {
                broken.insert(if e.name == METRIC_NAME { e.value.to_string() } else { e.name.to_string() });
            }
            values.entry(e.name.into_owned()).or_default().push(e.value.into_owned());
        }
        let names: HashSet<String> = values.keys().cloned().collect();
        values.retain(|_, list| list.iter().all(|v| !v.is_empty()));
        let mut twice: Vec<String> = values.iter().filter(|(_, l)| l.len() > 1).map(|(n, _)| n.clone()).collect();
        let mut builder = LabelsBuilder::default();
        for (name, list) in &values {
            builder.set(name, &list[0]);
        }
        self.attach(&names, &values, &mut builder);
        for rule in self.rules.rules() {
            if rule.apply(&mut builder) == Verdict::Drop {
                return Composed::Dropped;
            }
            twice.retain(|name| !builder.get(name).is_empty());
        }
        if builder.is_empty() {
            return Composed::Dropped;
        }
        if let Err(error) = self.check(&builder, &broken) {
            return Composed::Refused(error);
        }
        match twice.into_iter().next() {
            Some(name) => Composed::Twice(name),
            None => Composed::Kept(builder.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()),
        }
    }

    fn attach(&self, names: &HashSet<String>, values: &BTreeMap<String, Vec<String>>, builder: &mut LabelsBuilder) {
        let mut conflicts: Vec<(&str, &str)> = Vec::new();
        for (name, value) in self.labels.iter() {
            if self.config.honor_labels {
                if !names.contains(name) {
                    builder.set(name, value);
                }
                continue;
            }
            conflicts.extend(values.get_key_value(name).map(|(n, list)| (n.as_str(), list[0].as_str())));
            builder.set(name, value);
        }
        conflicts.sort_by_key(|c| c.0.len());
        for (name, value) in conflicts {
            let mut name = format!("exported_{name}");
            while !builder.get(&name).is_empty() {
                name = format!("exported_{name}");
            }
            builder.set(&name, value);
        }
    }

    fn check(&self, builder: &LabelsBuilder, broken: &HashSet<String>) -> Result<(), SeriesError> {
        let config = &self.config;
        let metric = builder.get(METRIC_NAME);
        if metric.is_empty() {
            return Err(SeriesError::NameMissing);
        }
        let colonless = metric.replace(':', "_");
        let metric_valid = is_valid_label_name(&colonless, config.name_validation);
        let valid = |n: &str| is_valid_label_name(n, config.name_validation) && !broken.contains(n);
        let legacy = config.name_validation == NameValidation::Legacy;
        if (legacy && !metric_valid) || broken.contains(metric) || !builder.iter().all(|(n, _)| valid(n)) {
            return Err(SeriesError::InvalidName { series: String::new() });
        }
        let over = |length: usize, limit: u64| limit > 0 && length as u64 > limit;
        let count = builder.iter().count();
        if over(count, config.label_limit) {
            return Err(SeriesError::LabelLimit { metric: cut(metric), count, limit: config.label_limit });
        }
        for (name, value) in builder.iter() {
            let (metric, name) = (cut(metric), name.to_owned());
            if over(name.len(), config.label_name_length_limit) {
                let (length, limit) = (name.len(), config.label_name_length_limit);
                return Err(SeriesError::LabelNameLength { metric, name, length, limit });
            }
            if over(value.len(), config.label_value_length_limit) {
                let (length, limit) = (value.len(), config.label_value_length_limit);
                return Err(SeriesError::LabelValueLength { metric, name, value: cut(value), length, limit });
            }
        }
        Ok(())
    }
}
