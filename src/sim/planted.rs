//! Bugs on purpose, one at a time: each is one that a scraper could well have.

use std::rc::Rc;
use std::sync::Arc;

use super::scene::Scene;
use super::script::Script;
use crate::config::ScrapeConfig;
use crate::model::OwnTexts;
use crate::scrape::TargetHash;
use crate::scrape::schedule::{Due, Skipped};
use crate::series::{PassedOn, REPORT_NAMES, Scraped, Stale};
use crate::shard::sabotage::Sabotage;

/// Which bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// A series that vanished gets no marker.
    SkipMarker,
    /// Lines in another order are taken for vanished series.
    MarkOnReorder,
    /// After the restart the sender goes on one event too late.
    ResendFromWrongOffset,
    /// A scrape is written under another target's labels.
    LeakLayout,
    /// A write that the last sync before the crash covered is gone.
    LoseSyncedFrame,
    /// `scrape_series_added` is one too high.
    SeriesAddedOff,
    /// One sample more than the limit is let through.
    SampleLimitOffByOne,
    /// A removed target ends series that its successor carries on.
    EndOfRunDespiteSuccessor,
    /// A late start is written with the time it was due.
    WrongTimeAfterLateStart,
    /// A step of the clock starts targets again that have just been scraped.
    DoubleStartAfterStep,
    /// What vanished with a failed scrape stays alive.
    AliveAfterFailure,
    /// An exposed timestamp is used though the job says not to.
    HonourForeignTime,
    /// A target that goes to another shard leaves behind what it has shown.
    ForgetOnMove,
}

impl Planted {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::SkipMarker,
        Self::MarkOnReorder,
        Self::ResendFromWrongOffset,
        Self::LeakLayout,
        Self::LoseSyncedFrame,
        Self::SeriesAddedOff,
        Self::SampleLimitOffByOne,
        Self::EndOfRunDespiteSuccessor,
        Self::WrongTimeAfterLateStart,
        Self::DoubleStartAfterStep,
        Self::AliveAfterFailure,
        Self::HonourForeignTime,
        Self::ForgetOnMove,
    ];

    /// The job's configuration as the product sees it.
    #[must_use]
    pub fn config(planted: Option<Self>, config: &Arc<ScrapeConfig>) -> Arc<ScrapeConfig> {
        let mut changed = ScrapeConfig::clone(config);
        match planted {
            Some(Self::SampleLimitOffByOne) if config.sample_limit > 0 => changed.sample_limit += 1,
            Some(Self::HonourForeignTime) => changed.honor_timestamps = true,
            _ => return Arc::clone(config),
        }
        Arc::new(changed)
    }
}

/// Sits at the seams of one shard.
#[derive(Debug)]
pub struct Saboteur {
    planted: Planted,
    script: Rc<Script>,
    scrapes: u64,
    chances: u64,
    last_due: Vec<Due>,
    last_variables: Option<OwnTexts>,
}

impl Saboteur {
    /// One for this bug.
    #[must_use]
    pub fn new(planted: Planted, script: &Rc<Script>) -> Self {
        let script = Rc::clone(script);
        Self { planted, script, scrapes: 0, chances: 0, last_due: Vec::new(), last_variables: None }
    }

    /// Yes at the fifth chance, so that the bug is rare.
    fn takes_chance(&mut self) -> bool {
        self.chances += 1;
        self.chances == 5
    }

    fn leak(&mut self, scraped: &mut Scraped) {
        let own = scraped.variables.clone();
        if let Some(other) = self.last_variables.replace(own)
            && other.iter().count() == scraped.variables.iter().count()
            && self.scrapes == 100
        {
            scraped.variables = other;
        }
    }

    fn mark_on_reorder(&mut self, target: TargetHash, scraped: &mut Scraped, time_ms: i64) {
        let Some(life) = self.script.life_of(target) else { return };
        let is_reordered = Scene::new(&self.script, life, time_ms * 1_000_000).is_reordered;
        let has_first = scraped.values.len() > scraped.report_count();
        if is_reordered && has_first && self.takes_chance() {
            let (shape, variables) = (Rc::clone(&scraped.shape), scraped.variables.clone());
            scraped.stale.push(Stale { shape, variables, slots: vec![0] });
        }
    }
}

impl Sabotage for Saboteur {
    fn due(&mut self, due: &mut Vec<Due>, skipped: Skipped) {
        if self.planted != Planted::DoubleStartAfterStep {
            return;
        }
        if skipped.steps > 0 {
            due.append(&mut self.last_due);
        } else if !due.is_empty() {
            self.last_due.clone_from(due);
        }
    }

    fn scraped(&mut self, target: TargetHash, scraped: &mut Scraped, time_ms: &mut i64) {
        self.scrapes += 1;
        let report_at = scraped.values.len() - scraped.report_count();
        match self.planted {
            Planted::SkipMarker => {
                if !scraped.stale.is_empty() && self.takes_chance() {
                    scraped.stale[0].slots.pop();
                }
                scraped.stale.retain(|s| !s.slots.is_empty());
            }
            Planted::MarkOnReorder => self.mark_on_reorder(target, scraped, *time_ms),
            Planted::LeakLayout => self.leak(scraped),
            Planted::SeriesAddedOff => {
                let added = report_at + REPORT_NAMES.len() - 1;
                if scraped.values[added] > 0.0 && self.takes_chance() {
                    scraped.values[added] += 1.0;
                }
            }
            Planted::WrongTimeAfterLateStart => {
                if let Some(life) = self.script.life_of(target) {
                    let phase_ms = life.phase_ns / 1_000_000;
                    *time_ms -= (*time_ms - phase_ms).rem_euclid(life.spec.interval_ns / 1_000_000);
                }
            }
            Planted::AliveAfterFailure => {
                let is_up = scraped.values[report_at] == 1.0;
                if !is_up && !scraped.stale.is_empty() && self.takes_chance() {
                    scraped.stale.clear();
                }
            }
            _ => {}
        }
    }

    fn successors(&mut self, passed_on: &mut PassedOn) {
        if self.planted == Planted::EndOfRunDespiteSuccessor {
            *passed_on = PassedOn::default();
        }
    }
}
