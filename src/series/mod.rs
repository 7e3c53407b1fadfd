//! Series: stop-gap on plain maps until the layouts land; same interface.
#![allow(missing_docs)]

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::rc::Rc;

use crate::config::{NameValidation, ScrapeConfig};
use crate::exposition::labels::{LabelsError, walk};
use crate::exposition::text::{self, Line, MetricType, SyntaxError};
use crate::model::{ABSENT, Identity, IdentityHasher, LabelValue, Labels, LabelsBuilder, Schema, Shape, next_key};
use crate::relabel::{RelabelError, Rules, Verdict};

#[derive(Clone, Debug, PartialEq)]
pub enum SeriesError {
    Syntax(SyntaxError),
    Labels(LabelsError),
    NoName,
    InvalidNames(String),
    LabelLimit(String),
    SampleLimit,
}

impl SeriesError {
    pub fn is_label_limit(&self) -> bool {
        matches!(self, Self::LabelLimit(_))
    }
}

impl fmt::Display for SeriesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(e) => write!(f, "{e}"),
            Self::Labels(e) => write!(f, "{e}"),
            Self::NoName => f.write_str("missing metric name (__name__ label)"),
            Self::InvalidNames(l) => write!(f, "invalid metric name or label names: {l}"),
            Self::LabelLimit(t) => f.write_str(t),
            Self::SampleLimit => f.write_str("sample limit exceeded"),
        }
    }
}

#[derive(Debug)]
pub struct Store {
    hasher: IdentityHasher,
}

#[derive(Debug, Default)]
pub struct Usage {
    pub bytes: usize,
    pub chunks: usize,
}

impl Store {
    pub fn new(hasher: IdentityHasher) -> Self {
        Self { hasher }
    }
    pub fn cache_for(&mut self, _pool: &PoolSeries, labels: &Labels) -> ScrapeCache {
        ScrapeCache {
            labels: labels.clone(),
            series: HashMap::new(),
            live: HashMap::new(),
            report: None,
            times: HashMap::new(),
            shape: None,
        }
    }
    pub fn begin(&mut self, _pool: &PoolSeries, _cache: &ScrapeCache) -> Parse {
        Parse { body: Vec::new() }
    }
    pub fn recycle(&mut self, _scraped: Scraped) {}
    pub fn usage(&self) -> Usage {
        Usage::default()
    }
}

#[derive(Debug)]
pub struct PoolSeries {
    config: ScrapeConfig,
    rules: Rules,
}

impl PoolSeries {
    pub fn new(config: &ScrapeConfig) -> Result<Self, RelabelError> {
        Ok(Self { config: config.clone(), rules: Rules::compile(&config.metric_relabel_configs)? })
    }
}

#[derive(Debug)]
pub struct Parse {
    body: Vec<u8>,
}

impl Parse {
    pub fn feed(&mut self, _store: &mut Store, _pool: &PoolSeries, bytes: &[u8]) {
        self.body.extend_from_slice(bytes);
    }
}

#[derive(Clone, Copy, Debug)]
pub struct ScrapeTime {
    pub time_ms: i64,
    pub now_ms: i64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub scraped: u64,
    pub post_relabel: u64,
    pub series_added: u64,
    pub duplicates: u64,
    pub out_of_order: u64,
    pub out_of_bounds: u64,
}

#[derive(Debug)]
pub struct Scraped {
    pub shape: Rc<Shape>,
    pub values: Vec<f64>,
    pub times: Vec<(u32, i64)>,
    pub stale: Vec<(Rc<Shape>, Vec<u32>)>,
    pub tally: Tally,
    pub error: Option<SeriesError>,
}

#[derive(Clone, Copy, Debug)]
pub struct Report {
    pub is_up: bool,
    pub duration_s: f64,
    pub timeout_s: f64,
    pub sample_limit: u64,
    pub body_bytes: f64,
}

impl Scraped {
    pub fn write_report(&mut self, r: &Report) {
        let n = self.shape.schemas.last().map_or(0, |s| s.series_count());
        let at = self.values.len() - n;
        let t = self.tally;
        let all = [
            f64::from(u8::from(r.is_up)),
            r.duration_s,
            t.scraped as f64,
            t.post_relabel as f64,
            t.series_added as f64,
            r.timeout_s,
            r.sample_limit as f64,
            r.body_bytes,
        ];
        self.values[at..].copy_from_slice(&all[..n]);
    }
}

#[derive(Debug)]
struct Fixed {
    key: u64,
    series: Vec<Labels>,
}

impl Schema for Fixed {
    fn key(&self) -> u64 {
        self.key
    }
    fn series_count(&self) -> usize {
        self.series.len()
    }
    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        for l in &self.series {
            let all: Vec<_> = l.iter().map(|(n, v)| (n, LabelValue::Text(v))).collect();
            each(&all);
        }
    }
}

#[derive(Clone, Debug)]
enum Cached {
    Dropped,
    Kept(Labels, Identity),
}

#[derive(Debug)]
pub struct ScrapeCache {
    labels: Labels,
    series: HashMap<Vec<u8>, Cached>,
    live: HashMap<Identity, Labels>,
    report: Option<Rc<Fixed>>,
    times: HashMap<Identity, i64>,
    shape: Option<Rc<Shape>>,
}

struct Walked {
    emitted: Vec<(Labels, Identity, f64, Option<i64>)>,
    live: HashMap<Identity, Labels>,
    seen: HashSet<Vec<u8>>,
    tally: Tally,
    error: Option<SeriesError>,
}

impl ScrapeCache {
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        std::iter::empty()
    }

    pub fn finish(&mut self, store: &mut Store, pool: &PoolSeries, parse: Parse, time: ScrapeTime) -> Scraped {
        if parse.body.is_empty() {
            return self.fail(store, pool, time);
        }
        let mut body = parse.body;
        body.push(b'\n');
        let mut w = self.walk(store, pool, &body, time);
        let error = w.error.take();
        if error.is_some() {
            w.emitted.clear();
        } else {
            let seen = &w.seen;
            self.series.retain(|k, _| seen.contains(k));
        }
        self.emit(store, pool, w, error)
    }

    pub fn fail(&mut self, store: &mut Store, pool: &PoolSeries, _time: ScrapeTime) -> Scraped {
        let w = Walked {
            emitted: Vec::new(),
            live: HashMap::new(),
            seen: HashSet::new(),
            tally: Tally::default(),
            error: None,
        };
        self.emit(store, pool, w, None)
    }

    pub fn end_of_run(
        &mut self,
        store: &mut Store,
        pool: &PoolSeries,
        successors: &[&ScrapeCache],
    ) -> Vec<(Rc<Shape>, Vec<u32>)> {
        let gone: Vec<Labels> = self
            .live
            .iter()
            .filter(|(id, _)| !successors.iter().any(|s| s.live.contains_key(id)))
            .map(|(_, l)| l.clone())
            .collect();
        let mut out = stale_of(gone);
        if !successors.iter().any(|s| s.report.is_some()) {
            let report = self.report_schema(store, pool);
            let n = report.series.len() as u32;
            out.push((Rc::new(Shape::new(vec![report as Rc<dyn Schema>])), (0..n).collect()));
        }
        out
    }

    fn walk(&mut self, store: &Store, pool: &PoolSeries, body: &[u8], time: ScrapeTime) -> Walked {
        let config = &pool.config;
        let mut w = Walked {
            emitted: Vec::new(),
            live: HashMap::new(),
            seen: HashSet::new(),
            tally: Tally::default(),
            error: None,
        };
        let mut times: HashMap<Identity, i64> = HashMap::new();
        let mut over = false;
        let mut kept = 0u64;
        let (mut at, mut kind) = (0, MetricType::Unknown);
        while at < body.len() {
            let s = match text::line(body, at) {
                Ok(Line::Incomplete) | Ok(Line::End) => break,
                Ok(Line::Skipped { end, kind: k }) => {
                    at = end;
                    kind = k.unwrap_or(kind);
                    continue;
                }
                Ok(Line::Sample(s)) => s,
                Err(e) => {
                    w.error = Some(SeriesError::Syntax(e));
                    break;
                }
            };
            at = s.end;
            w.tally.scraped += 1;
            let raw = &body[s.series.0..s.series.1];
            let explicit = s.timestamp.filter(|_| config.honor_timestamps);
            let cached = self.series.get(raw).cloned();
            let is_new = cached.is_none();
            let entry = match cached {
                Some(c) => c,
                None => match self.resolve(store, pool, raw, kind) {
                    Ok(c) => c,
                    Err(e) => {
                        w.error = Some(e);
                        break;
                    }
                },
            };
            let again = !w.seen.insert(raw.to_vec());
            let (labels, id) = match entry {
                Cached::Dropped => {
                    self.series.insert(raw.to_vec(), Cached::Dropped);
                    continue;
                }
                Cached::Kept(l, i) => (l, i),
            };
            w.tally.post_relabel += 1;
            if again && explicit.is_none() {
                w.tally.duplicates += 1;
                continue;
            }
            kept += 1;
            if config.sample_limit > 0 && kept > config.sample_limit {
                over = true;
                w.seen.remove(raw);
                continue;
            }
            let t = explicit.unwrap_or(time.time_ms);
            let last = times.get(&id).or_else(|| self.times.get(&id)).copied();
            if t > time.now_ms + 600_000 {
                w.tally.out_of_bounds += 1;
                continue;
            }
            if last.is_some_and(|l| t <= l) {
                w.tally.out_of_order += 1;
                continue;
            }
            times.insert(id, t);
            if is_new {
                self.series.insert(raw.to_vec(), Cached::Kept(labels.clone(), id));
                if !over {
                    w.tally.series_added += 1;
                }
            }
            if explicit.is_none() || config.track_timestamps_staleness {
                w.live.insert(id, labels.clone());
            }
            w.emitted.push((labels, id, s.value, explicit));
        }
        if over && w.error.is_none() {
            w.error = Some(SeriesError::SampleLimit);
        }
        if w.error.is_none() {
            self.times.extend(times);
        }
        w
    }

    fn resolve(&self, store: &Store, pool: &PoolSeries, raw: &[u8], kind: MetricType) -> Result<Cached, SeriesError> {
        let text = String::from_utf8_lossy(raw);
        let mut b = LabelsBuilder::default();
        let mut names: HashSet<String> = HashSet::new();
        let mut twice = None;
        walk(&text, kind, &mut |n: Cow<'_, str>, v: Cow<'_, str>| {
            if !names.insert(n.to_string()) && !v.is_empty() {
                twice = Some(n.to_string());
            }
            b.set(&n, &v);
        });
        if let Some(n) = twice {
            return Err(SeriesError::Labels(LabelsError::Duplicate(n)));
        }
        let exposed = b.labels();
        if pool.config.honor_labels {
            for (n, v) in self.labels.iter() {
                if !names.contains(n) {
                    b.set(n, v);
                }
            }
        } else {
            let mut clash: Vec<(String, String)> = Vec::new();
            for (n, v) in self.labels.iter() {
                if let Some(old) = exposed.get(n) {
                    clash.push((n.to_owned(), old.to_owned()));
                }
                b.set(n, v);
            }
            clash.sort_by_key(|(n, _)| n.len());
            for (n, v) in clash {
                let mut name = n;
                loop {
                    name = format!("exported_{name}");
                    if b.get(&name).is_empty() {
                        b.set(&name, &v);
                        break;
                    }
                }
            }
        }
        if pool.rules.apply(&mut b) == Verdict::Drop || b.is_empty() {
            return Ok(Cached::Dropped);
        }
        let labels = b.labels();
        check(&labels, &pool.config)?;
        let id = labels.iter().fold(Identity::default(), |a, (n, v)| a + store.hasher.label(n, v));
        Ok(Cached::Kept(labels, id))
    }

    fn report_schema(&mut self, _store: &Store, pool: &PoolSeries) -> Rc<Fixed> {
        let labels = &self.labels;
        let names = [
            "up",
            "scrape_duration_seconds",
            "scrape_samples_scraped",
            "scrape_samples_post_metric_relabeling",
            "scrape_series_added",
            "scrape_timeout_seconds",
            "scrape_sample_limit",
            "scrape_body_size_bytes",
        ];
        let n = if pool.config.extra_scrape_metrics { 8 } else { 5 };
        let make = || {
            let series = names[..n].iter().map(|name| {
                let mut b = LabelsBuilder::new(labels);
                b.set("__name__", name);
                b.labels()
            });
            Rc::new(Fixed { key: next_key(), series: series.collect() })
        };
        Rc::clone(self.report.get_or_insert_with(make))
    }

    fn emit(&mut self, store: &Store, pool: &PoolSeries, w: Walked, error: Option<SeriesError>) -> Scraped {
        let gone: Vec<Labels> =
            self.live.iter().filter(|(id, _)| !w.live.contains_key(id)).map(|(_, l)| l.clone()).collect();
        self.live = w.live;
        let report = self.report_schema(store, pool);
        let values: Vec<f64> =
            w.emitted.iter().map(|e| e.2).chain(std::iter::repeat_n(ABSENT, report.series.len())).collect();
        let times = w.emitted.iter().enumerate().filter_map(|(i, e)| Some((i as u32, e.3?))).collect();
        let series: Vec<Labels> = w.emitted.into_iter().map(|e| e.0).collect();
        let shape = Rc::new(Shape::new(vec![
            Rc::new(Fixed { key: next_key(), series }) as Rc<dyn Schema>,
            report as Rc<dyn Schema>,
        ]));
        self.shape = Some(Rc::clone(&shape));
        Scraped { shape, values, times, stale: stale_of(gone), tally: w.tally, error }
    }
}

fn stale_of(gone: Vec<Labels>) -> Vec<(Rc<Shape>, Vec<u32>)> {
    if gone.is_empty() {
        return Vec::new();
    }
    let n = gone.len() as u32;
    let schema = Rc::new(Fixed { key: next_key(), series: gone });
    vec![(Rc::new(Shape::new(vec![schema as Rc<dyn Schema>])), (0..n).collect())]
}

fn check(labels: &Labels, config: &ScrapeConfig) -> Result<(), SeriesError> {
    let Some(name) = labels.get("__name__") else { return Err(SeriesError::NoName) };
    if config.name_validation == NameValidation::Legacy {
        let legacy = |n: &str, colon: bool| {
            n.bytes().enumerate().all(|(i, b)| {
                b.is_ascii_alphabetic() || b == b'_' || (colon && b == b':') || (i > 0 && b.is_ascii_digit())
            })
        };
        if !legacy(name, true) || !labels.iter().all(|(n, _)| legacy(n, false)) {
            return Err(SeriesError::InvalidNames(labels.to_string()));
        }
    }
    let cut = |t: &str| t.chars().take(50).collect::<String>();
    let count = labels.count() as u64;
    if config.label_limit > 0 && count > config.label_limit {
        return Err(SeriesError::LabelLimit(format!(
            "label_limit exceeded (metric: {}, number of labels: {count}, limit: {})",
            cut(name),
            config.label_limit
        )));
    }
    for (n, v) in labels.iter() {
        let (max_name, max_value) = (config.label_name_length_limit, config.label_value_length_limit);
        if (max_name > 0 && n.len() as u64 > max_name) || (max_value > 0 && v.len() as u64 > max_value) {
            return Err(SeriesError::LabelLimit(format!(
                "label length limit exceeded (metric: {}, label name: {})",
                cut(name),
                cut(n)
            )));
        }
    }
    Ok(())
}
