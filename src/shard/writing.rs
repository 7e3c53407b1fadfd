//! How a scrape goes to the journal: at once, or, where it is large, a little in each turn.

use crate::base::limits::JOURNAL_FRAME_SERIES_MAX;
use crate::base::time::Now;
use crate::model::{OwnTexts, Shape};
use crate::scrape::ScrapeLoop;
use crate::scrape::scrape_loop::Cycle;
use crate::series::{Scraped, Stale};
use crate::shard::slice::Slice;
use crate::storage::journal::{Progress, Row, Writer};

/// Slots of a large scrape that are written in one turn.
const SLOTS_PER_TURN: u64 = 32 << 10;
/// Bytes of new label sets after which a turn goes on with other work: they take a hundred times as long as values.
const DICTIONARY_BYTES_PER_TURN: u64 = 2 << 10;

/// A scrape that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    token: u32,
    scraped: Scraped,
    time_ms: i64,
    /// Runs of markers that are written.
    stale: usize,
    /// Within the next one, or the samples.
    at: Progress,
}

impl Slice {
    /// Writes a scrape, or begins to: its target then rests only when that has ended.
    pub(super) fn write(&mut self, token: u32, scraped: Scraped, time_ms: i64) {
        let is_large = |shape: &Shape| shape.series_count > JOURNAL_FRAME_SERIES_MAX;
        let mut writing = Writing { token, scraped, time_ms, stale: 0, at: Progress::default() };
        let target = self.roster.at_mut(token);
        if is_large(&writing.scraped.shape) || writing.scraped.stale.iter().any(|s| is_large(&s.shape)) {
            target.cycle = Cycle::Writing;
            self.writings.push_back(writing);
            return;
        }
        while !writing.step(&mut self.parts.writer, target) {}
        self.parts.tools.store.recycle(writing.scraped);
    }

    /// Goes on with what is too large for one turn. Returns whether there is more.
    pub fn write_on(&mut self, now: Now) -> bool {
        let Some(mut writing) = self.writings.pop_front() else { return false };
        let target = self.roster.at_mut(writing.token);
        let writer = &mut self.parts.writer;
        writer.tell_time(now.wall_ms());
        let before = writer.tally();
        loop {
            let is_done = writing.step(writer, target);
            let tally = writer.tally();
            if is_done {
                target.cycle = Cycle::Resting;
                let ending = target.ending;
                self.parts.tools.store.recycle(writing.scraped);
                if ending {
                    self.begin_ending(writing.token, now);
                }
                break;
            }
            if tally.slots - before.slots >= SLOTS_PER_TURN
                || tally.dictionary_bytes - before.dictionary_bytes >= DICTIONARY_BYTES_PER_TURN
            {
                self.writings.push_front(writing);
                break;
            }
        }
        self.is_writing()
    }

    /// Whether a scrape is being written.
    #[must_use]
    pub fn is_writing(&self) -> bool {
        !self.writings.is_empty()
    }
}

impl Writing {
    /// Markers first, under the variables that their series had, then the samples. Returns whether all is written.
    fn step(&mut self, writer: &mut Writer, target: &mut ScrapeLoop) -> bool {
        let Self { scraped, time_ms, .. } = self;
        if let Some(stale) = scraped.stale.get(self.stale) {
            if write_stale(writer, target, (stale, *time_ms), &mut self.at) {
                self.stale += 1;
                self.at = Progress::default();
            }
            return false;
        }
        let variables = introduced(target, &scraped.variables);
        let row = Row { shape: &scraped.shape, time_ms: *time_ms, values: &scraped.values, times: &scraped.times };
        target.ledger.scrape(writer, &variables, &row, &mut self.at)
    }
}

/// Writes markers, or the next piece of them. Returns whether all are written.
pub(super) fn write_stale(
    writer: &mut Writer,
    target: &mut ScrapeLoop,
    (stale, time_ms): (&Stale, i64),
    at: &mut Progress,
) -> bool {
    let variables = introduced(target, &stale.variables);
    target.ledger.stale(writer, &variables, (&stale.shape, time_ms), (&stale.slots, at))
}

/// The variables under which the journal knows the target, once it knows all of `wanted`. Others than before make it a
/// target of its own there; those that only lack some of the known ones at the end do not.
fn introduced(target: &mut ScrapeLoop, wanted: &OwnTexts) -> OwnTexts {
    let known = target.journaled();
    if known.is(wanted) || known.begins_with(wanted) {
        return known.clone();
    }
    target.ledger.renew();
    let labels = target.cache.variables().iter().count();
    if wanted.iter().count() > labels {
        target.ledger.set_labels(labels);
    }
    target.set_journaled(wanted);
    wanted.clone()
}
