//! What a job means for its series: rules, limits, how conflicts are settled; and its targets' terms.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use super::chunk::Layout;
use super::report::{ReportSchema, report_shape};
use crate::base::limits::VARIABLES_MAX;
use crate::config::{NameValidation, ScrapeConfig};
use crate::exposition::labels::METRIC_NAME;
use crate::model::{Labels, Shape, next_key};
use crate::relabel::{RelabelError, Rules};

/// The part of a job's configuration that decides about series. A changed configuration is a new one of these.
#[derive(Debug)]
pub struct PoolSeries {
    pub(super) rules: Rc<PoolRules>,
    terms: RefCell<HashMap<TermsKey, Weak<Terms>>>,
    /// The layout this pool learned last: the first guess for a new target.
    pub(super) guess: RefCell<Option<Rc<Layout>>>,
}

/// Rules and limits. A limit of 0 means none.
#[derive(Debug)]
pub(super) struct PoolRules {
    /// Unique in the process.
    pub id: u64,
    pub rules: Rules,
    pub honor_labels: bool,
    pub honor_timestamps: bool,
    pub track_timestamps_staleness: bool,
    pub validation: NameValidation,
    pub sample_limit: Cell<u64>,
    pub label_limit: u64,
    pub name_length_limit: u64,
    pub value_length_limit: u64,
    pub extra_metrics: bool,
}

/// First character of the texts that stand for variables.
const SENTINEL_START: char = '\u{e000}';

type TermsKey = (Vec<Box<str>>, Vec<Option<Box<str>>>);

/// What targets must have in common to share bindings: label names, and those values that the outcome may depend on.
#[derive(Debug)]
pub(super) struct Terms {
    /// Unique in the process.
    pub id: u64,
    pub rules: Rc<PoolRules>,
    /// Target label names, sorted.
    pub names: Vec<Box<str>>,
    /// Values of the labels whose text matters; `None`: the label is a variable.
    pub fixed: Vec<Option<Box<str>>>,
    /// Texts that stand for the variables (target labels, then those of bodies) while rules run. They carry a random part, so no body can spell one.
    pub sentinels: Vec<Box<str>>,
    pub report: Rc<ReportSchema>,
    /// The report series alone, for targets that have shown no body yet.
    pub bare: Rc<Shape>,
}

impl PoolSeries {
    /// Compiles a job's metric relabelling and takes over its limits.
    ///
    /// # Errors
    /// A rule that does not compile.
    pub fn new(config: &ScrapeConfig) -> Result<Self, RelabelError> {
        let rules = PoolRules {
            id: next_key(),
            rules: Rules::compile(&config.metric_relabel_configs)?,
            honor_labels: config.honor_labels,
            honor_timestamps: config.honor_timestamps,
            track_timestamps_staleness: config.track_timestamps_staleness,
            validation: config.name_validation,
            sample_limit: Cell::new(config.sample_limit),
            label_limit: config.label_limit,
            name_length_limit: config.label_name_length_limit,
            value_length_limit: config.label_value_length_limit,
            extra_metrics: config.extra_scrape_metrics,
        };
        Ok(Self { rules: Rc::new(rules), terms: RefCell::default(), guess: RefCell::default() })
    }

    /// Another `sample_limit`, which changes nothing about what series are.
    pub fn limit_samples(&self, limit: u64) {
        self.rules.sample_limit.set(limit);
    }

    /// The terms of a target with these public labels.
    pub(super) fn terms(&self, labels: &Labels) -> Rc<Terms> {
        let rules = &self.rules;
        let reads = rules.rules.reads();
        let too_long = |v: &str| rules.value_length_limit > 0 && v.len() as u64 > rules.value_length_limit;
        let names: Vec<Box<str>> = labels.iter().map(|(n, _)| n.into()).collect();
        let fixed = labels.iter().map(|(n, v)| (too_long(v) || reads.of_value(n)).then(|| v.into())).collect();
        let mut known = self.terms.borrow_mut();
        let key = (names, fixed);
        if let Some(terms) = known.get(&key).and_then(Weak::upgrade) {
            return terms;
        }
        if known.len() >= 64 && known.len().is_power_of_two() {
            known.retain(|_, t| t.strong_count() > 0);
        }
        let terms = Rc::new(Terms::new(Rc::clone(rules), key.0.clone(), key.1.clone()));
        known.insert(key, Rc::downgrade(&terms));
        terms
    }
}

impl PoolRules {
    /// Whether the value of an exposed label may be a variable: nothing that is decided depends on its text.
    pub fn may_vary(&self, label: &str) -> bool {
        // A conflict renames the label, hence the names it may get.
        let mut name = label.to_owned();
        let read = (0..4).any(|_| {
            let read = self.rules.reads().of_value(&name);
            name.insert_str(0, "exported_");
            read
        });
        !read && self.value_length_limit == 0 && !matches!(label, METRIC_NAME | "le" | "quantile")
    }
}

impl Terms {
    fn new(rules: Rc<PoolRules>, names: Vec<Box<str>>, fixed: Vec<Option<Box<str>>>) -> Self {
        use std::hash::{BuildHasher, RandomState};
        let secret = RandomState::new();
        let sentinel = |i: usize| format!("{SENTINEL_START}{:016x}{i:04}\u{e001}", secret.hash_one(i)).into();
        let sentinels = (0..names.len() + VARIABLES_MAX).map(sentinel).collect();
        let report = Rc::new(ReportSchema::new(&names, rules.extra_metrics));
        let bare = report_shape(&report);
        Self { id: next_key(), rules, names, fixed, sentinels, report, bare }
    }

    /// The variable that a text stands for.
    pub fn variable_of(&self, text: &str) -> Option<u16> {
        if !text.starts_with(SENTINEL_START) {
            return None;
        }
        self.sentinels.iter().position(|s| **s == *text).map(|i| i as u16)
    }
}
