//! The series a scrape reports about itself: the last schema of every shape.

use std::rc::Rc;

use crate::exposition::labels::METRIC_NAME;
use crate::model::{Identity, IdentityHasher, LabelValue, OwnTexts, Schema, Shape, next_key};

/// Report series in the order of their values. prometheus: scrape.go, report.
pub const REPORT_NAMES: [&str; 5] = [
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
];
/// What follows them with `extra_scrape_metrics`.
pub const REPORT_EXTRA: [&str; 3] = ["scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes"];

/// Label sets of the report series: the name and the target labels, all of them variables.
#[derive(Debug)]
pub(super) struct ReportSchema {
    key: u64,
    names: Vec<Box<str>>,
    extra: bool,
}

impl ReportSchema {
    pub fn new(names: &[Box<str>], extra: bool) -> Self {
        Self { key: next_key(), names: names.to_vec(), extra }
    }

    /// Metric names in slot order.
    pub fn metrics(&self) -> impl Iterator<Item = &'static str> + '_ {
        let extra: &[&str] = if self.extra { &REPORT_EXTRA } else { &[] };
        REPORT_NAMES.iter().chain(extra).copied()
    }

    /// Identities of a target's report series; `variables` begin with the target labels.
    pub fn identities(&self, variables: &OwnTexts, hasher: &IdentityHasher) -> Vec<Identity> {
        let labels = self.names.iter().zip(variables.iter());
        let shared = labels.fold(Identity::default(), |sum, (n, v)| sum + hasher.label(n, v));
        self.metrics().map(|m| hasher.label(METRIC_NAME, m) + shared).collect()
    }
}

impl Schema for ReportSchema {
    fn key(&self) -> u64 {
        self.key
    }

    fn series_count(&self) -> usize {
        self.metrics().count()
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        for metric in self.metrics() {
            let mut labels: Vec<(&str, LabelValue<'_>)> = vec![(METRIC_NAME, LabelValue::Text(metric))];
            labels.extend(self.names.iter().enumerate().map(|(i, n)| (&**n, LabelValue::Var(i as u16))));
            labels.sort_by_key(|l| l.0);
            each(&labels);
        }
    }
}

/// A shape of report series alone.
pub(super) fn report_shape(report: &Rc<ReportSchema>) -> Rc<Shape> {
    let schema: Rc<dyn Schema> = Rc::clone(report) as Rc<dyn Schema>;
    Rc::new(Shape::new(vec![schema]))
}
