//! The scrape cache of one target: what it showed, what is known of it, and how each scrape settles.

use std::rc::Rc;

use super::bits::Bits;
use super::diff::{Live, gone};
use super::error::SeriesError;
use super::families::{Families, Metadata};
use super::fingerprint::FingerprintSet;
use super::known::{Known, missing};
use super::outcome::{ScrapeTime, Scraped, Stale, Tallies};
use super::parse::Parse;
use super::passed_on::PassedOn;
use super::plan::Shown;
use super::pool::{PoolSeries, Terms};
use super::report::ReportSchema;
use super::rest::Repose;
use super::settle::{Body, LastTimes, Settled, settle};
use super::store::Store;
use crate::model::{ABSENT, Identity, IdentityHasher, Labels, OwnTexts};

/// Last times of series are kept this long after the last explicit one, milliseconds: as long as Prometheus's agent keeps
/// series that get no samples. prometheus: tsdb/agent/db.go, DefaultTruncateFrequency.
const TIMES_KEPT_MS: i64 = 2 * 3_600_000;

/// What is known of a target from scrape to scrape: handles, and texts of its variables. Between scrapes it takes less
/// room as a [`KeptCache`](super::KeptCache).
#[derive(Debug)]
pub struct ScrapeCache {
    pub(super) terms: Rc<Terms>,
    pub(super) variables: OwnTexts,
    pub(super) plan: Option<Shown>,
    pub(super) known: Known,
    pub(super) live: Live,
    /// From the first body with timestamps that count to [`TIMES_KEPT_MS`] after the last one.
    pub(super) last: Option<Box<LastTimes>>,
    /// Time of the last body with timestamps that count, milliseconds.
    pub(super) timed_ms: i64,
    /// What the first of the failed scrapes before the next one ended, without `last`; `written_ms` is that of its markers.
    pub(super) before: Option<Box<Live>>,
    /// Time of the last report, milliseconds.
    pub(super) reported_ms: Option<i64>,
    /// Those of the last report, where they were changed since.
    pub(super) former: Option<Rc<Terms>>,
    /// What rests has no plan here, neither as the last nor as live nor as known.
    pub(super) repose: Repose,
}

impl ScrapeCache {
    /// For a target with these public labels.
    #[must_use]
    pub fn new(pool: &PoolSeries, labels: &Labels) -> Self {
        Self::bare(pool.terms(labels), labels.iter().map(|(_, v)| v).collect())
    }

    /// Of a target that has shown nothing yet.
    pub(super) fn bare(terms: Rc<Terms>, variables: OwnTexts) -> Self {
        Self {
            terms,
            variables,
            plan: None,
            known: Known::default(),
            live: Live::default(),
            last: None,
            timed_ms: 0,
            before: None,
            reported_ms: None,
            former: None,
            repose: Repose::default(),
        }
    }

    /// Texts of the variables: target labels in name order.
    #[must_use]
    pub fn variables(&self) -> &OwnTexts {
        &self.variables
    }

    /// Series that would get markers now, report series apart.
    #[must_use]
    pub fn live_count(&self) -> usize {
        match (&self.live.plan, &self.live.tracked) {
            (None, _) => self.repose.asleep.as_ref().map_or(0, |a| a.resting.kept_count),
            (Some(plan), None) => plan.kept() - plan.duplicates as usize - plan.twins as usize,
            (_, Some(tracked)) => tracked.count(),
        }
    }

    /// What the next body will hold in memory, if it is like the last one.
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        let resting = self.resting().map_or(0, |r| r.count * size_of::<f64>());
        self.plan.as_ref().map_or(resting, |p| p.expected_bytes())
    }

    /// Families of the last successful body, to be read; only `metric` where it is given.
    #[must_use]
    pub fn families(&self, metric: Option<Rc<str>>) -> Option<Families> {
        let resting = || self.resting().map(|r| r.layout());
        let layout = self.plan.as_ref().map(|p| Rc::clone(&p.layout)).or_else(resting)?;
        Some(Families::new(layout, metric))
    }

    /// Families of the last successful body.
    #[must_use]
    pub fn metadata(&self) -> Vec<Metadata> {
        let Some(mut families) = self.families(None) else { return Vec::new() };
        families.advance(usize::MAX / 2);
        families.list()
    }

    pub(super) fn shown(&self) -> Option<&Shown> {
        self.plan.as_ref()
    }

    /// Settles a body that has arrived whole. Its error, if there is one, is in the outcome.
    pub fn finish(&mut self, store: &mut Store, pool: &PoolSeries, mut parse: Parse, time: ScrapeTime) -> Scraped {
        parse.close();
        if parse.bytes == 0 {
            store.give(std::mem::take(&mut parse.values));
            return self.fail(store, time);
        }
        if self.is_again(store, &mut parse, time) {
            return self.settle_again(store, parse, time);
        }
        let Some(plan) = self.resolve(store, &mut parse) else {
            store.give(std::mem::take(&mut parse.values));
            let mut scraped = self.fail(store, time);
            scraped.error = Some(parse.error.unwrap_or(SeriesError::LayoutMemory));
            return scraped;
        };
        let rules = &self.terms.rules;
        let limit = rules.sample_limit.get();
        let appended = plan.kept() as u64 - u64::from(plan.duplicates);
        let simple = parse.error.is_none()
            && !plan.fails
            && (limit == 0 || appended <= limit)
            && (parse.times.is_empty() || !rules.honor_timestamps)
            && self.last.is_none()
            && self.is_later(time);
        let scraped = if simple {
            self.settle_simple(store, &plan, parse, time)
        } else {
            self.settle_in_order(store, &plan, parse, time)
        };
        if scraped.error.is_none() {
            let is_new = !self.plan.as_ref().is_some_and(|p| Rc::ptr_eq(&p.plan, &plan.plan));
            if is_new && !plan.layout.is_odd() {
                *pool.guess.borrow_mut() = Some(Rc::clone(&plan.layout));
            }
            self.plan = Some(plan);
            if is_new {
                self.repose.stir();
            } else {
                self.repose(store, time);
            }
        }
        scraped
    }

    /// A scrape without body: it failed, was empty, or is forced to fail. Everything that was live ends.
    pub fn fail(&mut self, store: &mut Store, time: ScrapeTime) -> Scraped {
        self.wake(store);
        let mut scraped = self.blank(store);
        let written_ms = self.live.written_ms;
        let ending = self.ending(time.time_ms);
        self.end(&mut scraped, store, Live { written_ms, ..Live::default() }, time.time_ms);
        self.before = ending.or(self.before.take());
        self.report(&mut scraped, store, time.time_ms);
        scraped
    }

    /// The pool's configuration has changed: from the next scrape on its rules apply. What was live stays live, so series
    /// that do not come out of the new rules get their markers then; texts count as new, as in Prometheus.
    pub fn adopt(&mut self, pool: &PoolSeries, labels: &Labels) {
        let before = std::mem::replace(&mut self.terms, pool.terms(labels));
        if self.reported_ms.is_some() {
            self.former.get_or_insert(before);
        }
        self.plan = None;
        self.known = Known::default();
    }

    /// Calls `each` with every series shown, those of the report too if there was one.
    pub(super) fn shows(&self, store: &Store, mut each: impl FnMut(Identity)) {
        self.live.for_each(&store.hasher, |_, identity| each(identity));
        self.resting_identities(&store.hasher, |_, identity| each(identity));
        if self.reported_ms.is_some() {
            self.reported().identities(&self.variables, &store.hasher).into_iter().for_each(each);
        }
    }

    /// The report that was written last, if any was.
    fn reported(&self) -> &ReportSchema {
        &self.former.as_ref().unwrap_or(&self.terms).report
    }

    /// The target is gone: markers for all it showed and for its report series, except for what is passed on.
    /// None if it was never scraped.
    pub fn end_of_run(&mut self, store: &Store, passed_on: &PassedOn) -> Vec<Stale> {
        if self.reported_ms.is_none() {
            return Vec::new();
        }
        let hasher = &store.hasher;
        // After a change of configuration what is live still has the shape of before.
        let terms = self.former.as_ref().unwrap_or(&self.terms);
        let asleep = self.repose.asleep.as_ref();
        let terms = self.live.plan.as_ref().map(|p| &p.terms).or(asleep.map(|a| &a.resting.terms)).unwrap_or(terms);
        let report = terms.report.identities(&self.variables, hasher);
        let mut ended = Vec::new();
        let shape = self.live.plan.as_ref().map(|p| &p.shape).or(asleep.map(|a| &a.shape)).unwrap_or(&terms.bare);
        let report_at = shape.series_count - report.len();
        if let Some(plan) = &self.live.plan {
            if passed_on.is_empty() && self.live.is_whole() {
                ended.extend(0..plan.kept() as u32);
            } else {
                let list = gone(&self.live, &Live::default(), hasher);
                let open = list.into_iter().filter(|(_, i)| !passed_on.has(i) && !report.contains(i));
                ended.extend(open.filter_map(|(slot, _)| plan.column(slot)));
            }
        }
        if let (Some(asleep), true) = (asleep, passed_on.is_empty()) {
            ended.extend(0..asleep.resting.kept_count as u32);
        } else {
            self.resting_identities(hasher, |column, identity| {
                if !passed_on.has(&identity) && !report.contains(&identity) {
                    ended.push(column);
                }
            });
        }
        let open = report.iter().enumerate().filter(|(_, i)| !passed_on.has(i));
        ended.extend(open.map(|(slot, _)| (report_at + slot) as u32));
        let shape = Rc::clone(shape);
        let variables = self.live.plan.as_ref().map_or(&self.variables, |p| &p.variables).clone();
        self.live = Live::default();
        self.repose = Repose::default();
        self.reported_ms = None;
        if ended.is_empty() {
            return Vec::new();
        }
        vec![Stale { shape, variables, slots: ended }]
    }

    /// A good body without anything in which order matters.
    fn settle_simple(&mut self, store: &mut Store, plan: &Shown, parse: Parse, time: ScrapeTime) -> Scraped {
        let tallies = Tallies {
            scraped: parse.values.len() as u64,
            post_relabel: plan.kept() as u64,
            series_added: self.known.added(plan, &store.hasher) as u64,
            duplicates: u64::from(plan.duplicates),
            out_of_order: u64::from(plan.twins),
            out_of_bounds: 0,
        };
        let lines = plan.layout.slot_count();
        let report = plan.shape.series_count - plan.kept();
        let mut values = parse.values;
        if plan.kept() < lines {
            let mut compact = store.values();
            for (i, bound) in plan.bounds.iter().enumerate() {
                let lines = &values[plan.layout.starts[i] as usize..plan.layout.starts[i + 1] as usize];
                match &bound.columns {
                    None => compact.extend_from_slice(lines),
                    Some(_) => {
                        compact.extend((0..lines.len()).filter(|&s| bound.column(s).is_some()).map(|s| lines[s]));
                    }
                }
            }
            store.give(std::mem::replace(&mut values, compact));
        }
        values.extend(std::iter::repeat_n(ABSENT, report));
        let mut lost = Vec::new();
        for clash in &plan.clashes {
            if clash.slot as usize >= lines {
                lost.push(clash.slot as usize - lines);
            } else if let Some(column) = plan.column(clash.slot as usize) {
                values[column as usize] = ABSENT;
            }
        }
        let mut scraped = Scraped {
            shape: Rc::clone(&plan.shape),
            variables: plan.variables.clone(),
            values,
            times: Vec::new(),
            stale: Vec::new(),
            tallies,
            error: None,
            report_at: plan.kept(),
            lost,
        };
        self.end(&mut scraped, store, Live::all(plan, time.time_ms), time.time_ms);
        self.before = None;
        self.known.settle(plan, None, self.reports());
        self.reported_ms = Some(time.time_ms);
        scraped
    }

    /// Any other body.
    fn settle_in_order(&mut self, store: &mut Store, plan: &Shown, parse: Parse, time: ScrapeTime) -> Scraped {
        let hasher = store.hasher;
        if self.terms.rules.honor_timestamps && !parse.times.is_empty() {
            plan.hold_identities(&hasher);
        }
        let was_timed = self.last.is_some();
        let mut last = match self.last.take() {
            Some(last) => last,
            None => Box::new(self.last_of_live(&hasher)),
        };
        let mut identities = vec![Identity::default(); plan.layout.slot_count()];
        plan.identities(
            &hasher,
            |_| true,
            |chunk, slot, identity| {
                identities[plan.layout.starts[chunk] as usize + slot] = identity;
            },
        );
        let mut settled = settle(Body {
            plan,
            values: &parse.values,
            times: &parse.times,
            known: self.known.bits(plan, &hasher),
            identities: &identities,
            last: &last,
            time,
        });
        store.give(parse.values);
        let timed =
            self.terms.rules.honor_timestamps && parse.times.first().is_some_and(|t| (t.0 as usize) < settled.lines);
        // A text error ends the walk after the lines before it, so an error of theirs came first; limits come last.
        if let Some(error) = parse.error {
            settled.error = settled.error.filter(|e| *e != SeriesError::SampleLimit).or(Some(error));
        }
        let failed = settled.error.is_some();
        let mut live = Live::some(plan, std::mem::take(&mut settled.tracked), time.time_ms);
        if timed {
            self.timed_ms = time.time_ms;
        }
        let keep_last = timed || (was_timed && time.time_ms - self.timed_ms < TIMES_KEPT_MS);
        let ending = self.ending(time.time_ms);
        self.before = ending.or(self.before.take()).filter(|_| failed && !keep_last);
        if failed {
            self.mark_unwritten(&mut live, &hasher);
            self.known.fail(plan, &settled, self.reports(), &hasher);
        } else {
            last.extend(settled.batch.iter().map(|(&i, &t)| (i, t)));
            let missing = missing(plan, &settled.known);
            self.known.settle(plan, missing, self.reports());
        }
        let bound = 2 * plan.kept() + 1000;
        self.last = Some(last);
        let mut scraped = if failed { self.blank(store) } else { self.emit(store, plan, &settled) };
        scraped.tallies = settled.tallies;
        scraped.error = settled.error;
        self.end(&mut scraped, store, live, time.time_ms);
        self.report(&mut scraped, store, time.time_ms);
        match &mut self.last {
            Some(last) if keep_last => {
                if last.len() > bound {
                    let mut current: FingerprintSet<Identity> = identities.into_iter().collect();
                    current.extend(self.terms.report.identities(&self.variables, &hasher));
                    last.retain(|i, _| current.contains(i));
                }
            }
            _ => self.last = None,
        }
        scraped
    }
}

impl ScrapeCache {
    /// Report series that are in the cache.
    fn reports(&self) -> usize {
        self.reported_ms.map_or(0, |_| self.terms.report.metrics().count())
    }

    /// What a first failed scrape now ends, where there is no record of last times.
    fn ending(&self, time_ms: i64) -> Option<Box<Live>> {
        let first = self.before.is_none() && self.last.is_none() && self.live_count() > 0;
        first.then(|| Box::new(Live { written_ms: time_ms, ..self.live.clone() }))
    }

    /// Last times as far as they are known without a record of each.
    fn last_of_live(&self, hasher: &IdentityHasher) -> LastTimes {
        let mut last = LastTimes::default();
        if let Some(before) = &self.before {
            before.for_each(hasher, |_, identity| {
                last.insert(identity, before.written_ms);
            });
        }
        self.live.for_each(hasher, |slot, identity| {
            if self.live.is_written(slot) {
                last.insert(identity, self.live.written_ms);
            }
        });
        if let Some(reported_ms) = self.reported_ms {
            for identity in self.terms.report.identities(&self.variables, hasher) {
                last.insert(identity, reported_ms);
            }
        }
        last
    }

    /// After a failed scrape: only what was live before, with a sample, has one.
    fn mark_unwritten(&self, live: &mut Live, hasher: &IdentityHasher) {
        let Some(plan) = live.plan.clone() else { return };
        let mut written: FingerprintSet<Identity> = FingerprintSet::default();
        self.live.for_each(hasher, |slot, identity| {
            if self.live.is_written(slot) {
                written.insert(identity);
            }
        });
        let mut unwritten = Bits::none(plan.layout.slot_count());
        live.for_each(hasher, |slot, identity| {
            if !written.contains(&identity) {
                unwritten.set(slot);
            }
        });
        live.unwritten = (!unwritten.is_empty()).then_some(unwritten);
        live.written_ms = self.live.written_ms;
    }

    /// Whether all that is live would get markers now, one for each slot: nothing else could write or refuse one.
    fn ends_plainly(&self, time_ms: i64) -> bool {
        let is_whole = self.live.is_whole() && self.live.unwritten.is_none();
        let is_later = time_ms > self.live.written_ms && self.before.as_ref().is_none_or(|b| time_ms > b.written_ms);
        is_whole && is_later && self.last.is_none()
    }

    /// Markers for what a report of before a change of configuration had and the next ones have not.
    fn end_former_report(&mut self, scraped: &mut Scraped, store: &Store, live: &Live, time_ms: i64) {
        let Some(former) = self.former.take() else { return };
        let identities = |terms: &Terms| terms.report.identities(&self.variables, &store.hasher).into_iter();
        let mut others: FingerprintSet<Identity> = identities(&self.terms).collect();
        if identities(&former).all(|i| others.contains(&i)) {
            return;
        }
        // What a body shows, or showed, under the same name has its own end.
        for shown in [&self.live, live] {
            shown.for_each(&store.hasher, |_, i| {
                others.insert(i);
            });
        }
        let mut slots = Vec::new();
        for (slot, identity) in identities(&former).enumerate().filter(|(_, i)| !others.contains(i)) {
            // As in `report`: what was written last refuses what is not later.
            if self.reported_ms.is_some_and(|reported_ms| time_ms <= reported_ms) {
                continue;
            }
            if let Some(last) = &mut self.last {
                last.insert(identity, time_ms);
            }
            slots.push(slot as u32);
        }
        if !slots.is_empty() {
            scraped.stale.push(Stale { shape: Rc::clone(&former.bare), variables: self.variables.clone(), slots });
        }
    }

    /// Replaces what is live; what it no longer has gets markers.
    fn end(&mut self, scraped: &mut Scraped, store: &Store, live: Live, time_ms: i64) {
        self.end_former_report(scraped, store, &live, time_ms);
        if let Some(plan) = self.live.plan.as_ref().filter(|_| live.plan.is_none() && self.ends_plainly(time_ms)) {
            let (shape, variables) = (Rc::clone(&plan.shape), plan.variables.clone());
            let slots: Vec<u32> = (0..plan.kept() as u32).collect();
            self.live = live;
            if !slots.is_empty() {
                scraped.stale.push(Stale { shape, variables, slots });
            }
            return;
        }
        let list = gone(&self.live, &live, &store.hasher);
        let old = std::mem::replace(&mut self.live, live);
        let (false, Some(plan)) = (list.is_empty(), old.plan.as_ref()) else { return };
        let report = self.terms.report.identities(&self.variables, &store.hasher);
        let mut ended: FingerprintSet<Identity> = FingerprintSet::default();
        if let Some(before) = self.before.as_ref().filter(|b| self.last.is_none() && time_ms <= b.written_ms) {
            before.for_each(&store.hasher, |_, identity| {
                ended.insert(identity);
            });
        }
        let mut slots = Vec::with_capacity(list.len());
        for (slot, identity) in list {
            // Storage refuses a marker that is not after the series' last sample.
            let refused = match &self.last {
                Some(last) => last.get(&identity).is_some_and(|&last| time_ms <= last),
                None => (old.is_written(slot) && time_ms <= old.written_ms) || ended.contains(&identity),
            };
            if refused || report.contains(&identity) {
                continue;
            }
            if let Some(last) = &mut self.last {
                last.insert(identity, time_ms);
            }
            slots.extend(plan.column(slot));
        }
        if !slots.is_empty() {
            let variables = plan.variables.clone();
            scraped.stale.push(Stale { shape: Rc::clone(&plan.shape), variables, slots });
        }
    }

    /// Notes that the report is written now; it gives way to exposed samples of the same series and time.
    fn report(&mut self, scraped: &mut Scraped, store: &Store, time_ms: i64) {
        let late = self.reported_ms.is_none_or(|reported_ms| time_ms > reported_ms);
        if let Some(last) = &mut self.last {
            for (i, identity) in self.terms.report.identities(&self.variables, &store.hasher).into_iter().enumerate() {
                if last.get(&identity).is_some_and(|&last| time_ms <= last) {
                    scraped.lost.push(i);
                } else {
                    last.insert(identity, time_ms);
                }
            }
        } else if !late {
            scraped.lost.extend(0..scraped.report_count());
        }
        self.reported_ms = Some(self.reported_ms.map_or(time_ms, |reported_ms| reported_ms.max(time_ms)));
    }

    /// Whether a scrape is after everything that was written.
    pub(super) fn is_later(&self, time: ScrapeTime) -> bool {
        let is_live = self.live.plan.is_some() || self.repose.asleep.is_some();
        (!is_live || time.time_ms > self.live.written_ms)
            && self.before.as_ref().is_none_or(|before| time.time_ms > before.written_ms)
            && self.reported_ms.is_none_or(|reported_ms| time.time_ms > reported_ms)
    }

    /// An outcome without samples, in the shape the target had last.
    fn blank(&self, store: &mut Store) -> Scraped {
        let shape = Rc::clone(self.plan.as_ref().map_or(&self.terms.bare, |p| &p.shape));
        let variables = self.plan.as_ref().map_or(&self.variables, |p| &p.variables).clone();
        let mut values = store.values();
        values.resize(shape.series_count, ABSENT);
        Scraped {
            report_at: shape.series_count - self.terms.report.metrics().count(),
            shape,
            variables,
            values,
            times: Vec::new(),
            stale: Vec::new(),
            tallies: Tallies::default(),
            error: None,
            lost: Vec::new(),
        }
    }

    /// An outcome with the accepted samples.
    fn emit(&self, store: &mut Store, plan: &Shown, settled: &Settled) -> Scraped {
        let mut values = store.values();
        values.resize(plan.shape.series_count, ABSENT);
        let mut times = Vec::new();
        for &(slot, value, explicit) in &settled.samples {
            let Some(column) = plan.column(slot as usize) else { continue };
            values[column as usize] = value;
            times.extend(explicit.map(|time| (column, time)));
        }
        Scraped {
            shape: Rc::clone(&plan.shape),
            variables: plan.variables.clone(),
            values,
            times,
            stale: Vec::new(),
            tallies: Tallies::default(),
            error: None,
            report_at: plan.kept(),
            lost: Vec::new(),
        }
    }
}
