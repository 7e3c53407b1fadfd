//! A scrape cache between scrapes, in as few bytes as what it holds allows: nearly every target shows what it showed.

use std::rc::Rc;

use super::cache::ScrapeCache;
use super::diff::Live;
use super::known::Known;
use super::plan::{Plan, Shown};
use super::pool::{PoolSeries, Terms};
use super::rest::Repose;
use crate::model::{Labels, OwnTexts};

/// What a target keeps between scrapes. A fleet is mostly made of these, so each byte counts.
#[derive(Debug)]
pub struct KeptCache {
    /// Texts of the target's labels, in the order of their names.
    variables: OwnTexts,
    form: Form,
}

const _: () = assert!(size_of::<KeptCache>() == 40, "a million of them");

/// What there is to remember beside the labels.
#[derive(Debug)]
enum Form {
    /// No body yet, but maybe reports of failed scrapes.
    Bare {
        terms: Rc<Terms>,
        /// Of the last report, [`NEVER_MS`] before the first.
        reported_ms: i64,
    },
    /// After a good body without anything special: just what it showed is live and known, written at this time with its
    /// report, in so many entries; and so far it is on the way to its rest.
    Even { plan: Rc<Plan>, written_ms: i64, known: u32, steady: u16, doublings: u8 },
    /// Lent to a change.
    Open,
    /// Anything else: a layout at rest, failed scrapes, explicit timestamps, label values of the body's own, a changed configuration.
    Odd(Box<ScrapeCache>),
}

const NEVER_MS: i64 = i64::MIN;

impl KeptCache {
    /// For a target with these public labels.
    #[must_use]
    pub fn new(pool: &PoolSeries, labels: &Labels) -> Self {
        let ScrapeCache { terms, variables, .. } = ScrapeCache::new(pool, labels);
        Self { variables, form: Form::Bare { terms, reported_ms: NEVER_MS } }
    }

    /// Opens the cache for a change.
    pub fn open<R>(&mut self, change: impl FnOnce(&mut ScrapeCache) -> R) -> R {
        // Handles are moved, not copied: their number tells whether somebody else has the plan.
        let mut opened = match std::mem::replace(&mut self.form, Form::Open) {
            Form::Odd(mut cache) => {
                let result = change(&mut cache);
                self.form = Form::small(&cache).unwrap_or(Form::Odd(cache));
                return result;
            }
            Form::Bare { terms, reported_ms } => bare(&terms, &self.variables, reported_ms),
            form @ Form::Even { .. } => even(form, &self.variables),
            Form::Open => unreachable!("a change opens no cache again"),
        };
        let result = change(&mut opened);
        self.form = Form::small(&opened).unwrap_or_else(|| Form::Odd(Box::new(opened)));
        result
    }

    /// Opens the cache to be looked at.
    pub fn look<R>(&self, look: impl FnOnce(&ScrapeCache) -> R) -> R {
        match &self.form {
            Form::Odd(cache) => look(cache),
            Form::Bare { terms, reported_ms } => look(&bare(terms, &self.variables, *reported_ms)),
            Form::Even { plan, written_ms, known, .. } => {
                let plan = Rc::clone(plan);
                let form = Form::Even { plan, written_ms: *written_ms, known: *known, steady: 0, doublings: 0 };
                look(&even(form, &self.variables))
            }
            Form::Open => unreachable!("a change opens no cache again"),
        }
    }

    /// See [`ScrapeCache::expected_bytes`]: asked for at every read of an answer, so without opening the cache.
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        match &self.form {
            Form::Odd(cache) => cache.expected_bytes(),
            Form::Bare { .. } | Form::Open => 0,
            Form::Even { plan, .. } => plan.expected_bytes(),
        }
    }

    /// The target's public labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.terms().names.iter().zip(self.variables.iter()).map(|(name, value)| (&**name, value))
    }

    /// The same, packed.
    #[must_use]
    pub fn packed_labels(&self) -> Labels {
        Labels::from_pairs(self.labels())
    }

    /// Value of one of them.
    #[must_use]
    pub fn label(&self, name: &str) -> Option<&str> {
        self.labels().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    /// Texts of the labels.
    #[must_use]
    pub fn variables(&self) -> &OwnTexts {
        &self.variables
    }

    fn terms(&self) -> &Terms {
        match &self.form {
            Form::Odd(cache) => &cache.terms,
            Form::Bare { terms, .. } => terms,
            Form::Even { plan, .. } => &plan.terms,
            Form::Open => unreachable!("a change opens no cache again"),
        }
    }
}

impl Form {
    /// The small form of a cache, if it has one.
    fn small(cache: &ScrapeCache) -> Option<Self> {
        let ScrapeCache { terms, variables, plan, known, live, last, timed_ms: _, before, former, reported_ms, repose } =
            cache;
        if last.is_some() || before.is_some() || former.is_some() || repose.asleep.is_some() {
            return None;
        }
        let Some(plan) = plan else {
            let is_bare =
                known.is_new() && live.plan.is_none() && live.written_ms == 0 && *reported_ms != Some(NEVER_MS);
            let reported_ms = reported_ms.unwrap_or(NEVER_MS);
            return is_bare.then(|| Self::Bare { terms: Rc::clone(terms), reported_ms });
        };
        let (base, entries) = known.plain()?;
        let is_shown = |s: &Shown| Rc::ptr_eq(&s.plan, &plan.plan) && s.variables.is(variables);
        let is_even = live.is_all()
            && [Some(plan), Some(base), live.plan.as_ref()].into_iter().flatten().all(is_shown)
            && Rc::ptr_eq(terms, &plan.terms)
            && *reported_ms == Some(live.written_ms);
        let known = u32::try_from(entries).ok()?;
        let (steady, doublings) = (repose.steady, repose.doublings);
        let written_ms = live.written_ms;
        is_even.then(|| Self::Even { plan: Rc::clone(&plan.plan), written_ms, known, steady, doublings })
    }
}

fn bare(terms: &Rc<Terms>, variables: &OwnTexts, reported_ms: i64) -> ScrapeCache {
    let reported_ms = Some(reported_ms).filter(|&ms| ms != NEVER_MS);
    ScrapeCache { reported_ms, ..ScrapeCache::bare(Rc::clone(terms), variables.clone()) }
}

fn even(form: Form, variables: &OwnTexts) -> ScrapeCache {
    let Form::Even { plan, written_ms, known, steady, doublings } = form else { unreachable!("the form is known") };
    let terms = Rc::clone(&plan.terms);
    let shown = Shown { plan, variables: variables.clone() };
    ScrapeCache {
        live: Live::all(&shown, written_ms),
        known: Known::of(shown.clone(), known as usize),
        plan: Some(shown),
        reported_ms: Some(written_ms),
        repose: Repose { asleep: None, steady, doublings },
        ..ScrapeCache::bare(terms, variables.clone())
    }
}
