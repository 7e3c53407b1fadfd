//! A body's samples, one after the other, where order matters: explicit timestamps, limits, errors.
//!
//! prometheus: scrape.go, append; tsdb/agent/db.go, Append and commit.

use super::bits::Bits;
use super::error::SeriesError;
use super::fingerprint::FingerprintMap;
use super::outcome::{ScrapeTime, Tallies};
use super::plan::Plan;
use crate::model::Identity;

/// Samples further ahead than this are out of bounds, milliseconds. prometheus: scrape.go, maxAheadTime.
const AHEAD_MS: i64 = 600_000;

/// Last sample time by series, for a target that exposes timestamps.
pub(super) type LastTimes = FingerprintMap<Identity, i64>;

/// What [`settle`] reads.
pub(super) struct Body<'a> {
    pub plan: &'a Plan,
    /// By slot, as far as the body was parsed.
    pub values: &'a [f64],
    /// Slot and milliseconds, ascending.
    pub times: &'a [(u32, i64)],
    /// Texts in the cache, by slot; false where the slot is dropped.
    pub known: Bits,
    /// By slot.
    pub identities: &'a [Identity],
    pub last: &'a LastTimes,
    pub time: ScrapeTime,
}

/// What becomes of a body.
#[derive(Debug)]
pub(super) struct Settled {
    pub tallies: Tallies,
    pub error: Option<SeriesError>,
    /// Slots that count for staleness.
    pub tracked: Bits,
    /// Texts that are in the cache now, by first slot of the text.
    pub known: Bits,
    /// Slots looked at.
    pub lines: usize,
    /// Slot, value and, where explicit, time of the accepted samples.
    pub samples: Vec<(u32, f64, Option<i64>)>,
    /// Last times that committing would set.
    pub batch: LastTimes,
}

/// Walks a body in order.
pub(super) fn settle(body: Body<'_>) -> Settled {
    let count = body.plan.layout.slot_count();
    let mut walk = Walk {
        out: Settled {
            tallies: Tallies::default(),
            error: None,
            tracked: Bits::none(count),
            known: body.known.clone(),
            lines: 0,
            samples: Vec::new(),
            batch: LastTimes::default(),
        },
        appended: 0,
        over_limit: false,
        body,
    };
    let mut times = walk.body.times.iter().copied().peekable();
    for slot in 0..walk.body.values.len() {
        let explicit = times.next_if(|t| t.0 as usize == slot).map(|t| t.1);
        walk.out.lines = slot + 1;
        walk.out.tallies.scraped += 1;
        if let Err(error) = walk.sample(slot, explicit) {
            walk.out.error = Some(error);
            return walk.out;
        }
    }
    if walk.over_limit {
        walk.out.error = Some(SeriesError::SampleLimit);
    }
    walk.out
}

struct Walk<'a> {
    body: Body<'a>,
    out: Settled,
    /// Samples that reached the limit's count.
    appended: u64,
    over_limit: bool,
}

impl Walk<'_> {
    fn sample(&mut self, slot: usize, explicit: Option<i64>) -> Result<(), SeriesError> {
        let plan = self.body.plan;
        let rules = &plan.terms.rules;
        let explicit = explicit.filter(|_| rules.honor_timestamps);
        match plan.fail(slot) {
            // The storage finds this one, behind the limit.
            Some(SeriesError::DuplicateLabel { .. }) if self.is_over(rules.sample_limit.get()) => {
                self.out.tallies.post_relabel += 1;
                return Ok(());
            }
            Some(error) => return Err(error.clone()),
            None => {}
        }
        if plan.column(slot).is_none() {
            return Ok(());
        }
        self.out.tallies.post_relabel += 1;
        let first = plan.clash(slot).and_then(|c| c.same_text).map(|s| s as usize);
        let text = first.unwrap_or(slot);
        if first.is_some() && explicit.is_none() && self.out.known.has(text) {
            self.out.tallies.duplicates += 1;
            return Ok(());
        }
        if self.is_over(rules.sample_limit.get()) {
            return Ok(());
        }
        let time_ms = explicit.unwrap_or(self.body.time.time_ms);
        if time_ms > self.body.time.now_ms + AHEAD_MS {
            self.out.tallies.out_of_bounds += 1;
            return Ok(());
        }
        let identity = self.body.identities[slot];
        if self.body.last.get(&identity).is_some_and(|&last| time_ms <= last) {
            self.out.tallies.out_of_order += 1;
            return Ok(());
        }
        if explicit.is_none() || rules.track_timestamps_staleness {
            self.out.tracked.set(slot);
        }
        if !self.out.known.has(text) {
            self.out.known.set(text);
            self.out.tallies.series_added += u64::from(!self.over_limit);
        }
        // Within one scrape Prometheus finds out when it commits: the sample counts as appended, but is not stored.
        if self.out.batch.get(&identity).is_some_and(|&last| time_ms <= last) {
            self.out.tallies.out_of_order += 1;
            return Ok(());
        }
        self.out.batch.insert(identity, time_ms);
        self.out.samples.push((slot as u32, self.body.values[slot], explicit));
        Ok(())
    }

    fn is_over(&mut self, limit: u64) -> bool {
        self.appended += 1;
        self.over_limit |= limit > 0 && self.appended > limit;
        limit > 0 && self.appended > limit
    }
}
