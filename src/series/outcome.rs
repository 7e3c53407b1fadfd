//! The outcome of a scrape: a column of values under a shape, what ended, and what was counted.

use std::rc::Rc;

use super::error::SeriesError;
use crate::model::{ABSENT, OwnTexts, Shape};

/// The two times of a scrape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeTime {
    /// Timestamp of its samples, milliseconds.
    pub time_ms: i64,
    /// The wall clock, milliseconds: what explicit timestamps are compared with.
    pub now_ms: i64,
}

/// What a scrape counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Sample lines parsed: `scrape_samples_scraped`.
    pub scraped: u64,
    /// Those that relabelling kept: `scrape_samples_post_metric_relabeling`.
    pub post_relabel: u64,
    /// Texts new to the cache: `scrape_series_added`.
    pub series_added: u64,
    /// Repeated texts without timestamp.
    pub duplicates: u64,
    /// Samples not after their series' last one; also the second text of a label set.
    pub out_of_order: u64,
    /// Samples more than ten minutes ahead.
    pub out_of_bounds: u64,
}

/// Series that ended.
#[derive(Clone, Debug)]
pub struct Stale {
    /// What the slots mean.
    pub shape: Rc<Shape>,
    /// The variables they go with.
    pub variables: OwnTexts,
    /// Ascending.
    pub slots: Vec<u32>,
}

/// The outcome of a scrape, ready for the journal once [`Scraped::set_report`] was called.
#[derive(Debug)]
pub struct Scraped {
    /// What the slots mean; the report is its last schema.
    pub shape: Rc<Shape>,
    /// Texts of the shape's variables.
    pub variables: OwnTexts,
    /// By slot; [`ABSENT`] where there is none.
    pub values: Vec<f64>,
    /// Explicit timestamps: slot and milliseconds, ascending slots.
    pub times: Vec<(u32, i64)>,
    /// Gets markers at the scrape's time.
    pub stale: Vec<Stale>,
    /// Counts.
    pub tallies: Tallies,
    /// Why the body was refused; `up` is 0 then.
    pub error: Option<SeriesError>,
    /// First slot of the report.
    pub(super) report_at: usize,
    /// Report series that an exposed sample of the same series and time shuts out.
    pub(super) lost: Vec<usize>,
}

impl Scraped {
    /// Fills in the report, in the order of [`super::REPORT_NAMES`] and [`super::REPORT_EXTRA`].
    pub fn set_report(&mut self, values: &[f64]) {
        assert_eq!(values.len(), self.values.len() - self.report_at, "one value per report series");
        self.values[self.report_at..].copy_from_slice(values);
        for &lost in &self.lost {
            self.values[self.report_at + lost] = ABSENT;
        }
    }

    /// Number of report series.
    #[must_use]
    pub fn report_count(&self) -> usize {
        self.values.len() - self.report_at
    }
}
