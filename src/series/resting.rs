//! A scrape cache between scrapes, in as few bytes as what it holds allows: nearly every target shows what it showed.

use std::rc::Rc;

use super::cache::ScrapeCache;
use super::diff::Live;
use super::known::Known;
use super::plan::{Plan, Shown};
use super::pool::{PoolSeries, Terms};
use crate::model::Labels;

/// What a target keeps between scrapes. A fleet is mostly made of these, so each byte counts.
#[derive(Debug)]
pub struct RestingCache {
    /// Texts of the target's labels, in the order of their names.
    variables: Rc<[Box<str>]>,
    form: Form,
}

const _: () = assert!(size_of::<RestingCache>() == 40, "a million of them");

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
    /// report, in so many entries.
    Even { plan: Rc<Plan>, written_ms: i64, known: u32 },
    /// Anything else: failed scrapes, explicit timestamps, label values of the body's own, a changed configuration.
    Odd(Box<ScrapeCache>),
}

const NEVER_MS: i64 = i64::MIN;

impl RestingCache {
    /// For a target with these public labels.
    #[must_use]
    pub fn new(pool: &PoolSeries, labels: &Labels) -> Self {
        let ScrapeCache { terms, variables, .. } = ScrapeCache::new(pool, labels);
        Self { variables, form: Form::Bare { terms, reported_ms: NEVER_MS } }
    }

    /// Opens the cache for a change.
    pub fn open<R>(&mut self, change: impl FnOnce(&mut ScrapeCache) -> R) -> R {
        let mut opened = match &mut self.form {
            Form::Odd(cache) => {
                let result = change(cache);
                if let Some(small) = Form::small(cache) {
                    self.form = small;
                }
                return result;
            }
            Form::Bare { terms, reported_ms } => bare(terms, &self.variables, *reported_ms),
            Form::Even { plan, written_ms, known } => even(plan, &self.variables, *written_ms, *known),
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
            Form::Even { plan, written_ms, known } => look(&even(plan, &self.variables, *written_ms, *known)),
        }
    }

    /// See [`ScrapeCache::expected_bytes`]: asked for at every read of an answer, so without opening the cache.
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        match &self.form {
            Form::Odd(cache) => cache.expected_bytes(),
            Form::Bare { .. } => 0,
            Form::Even { plan, .. } => plan.expected_bytes(),
        }
    }

    /// The target's public labels.
    pub fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.terms().names.iter().zip(&*self.variables).map(|(name, value)| (&**name, &**value))
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
    pub fn variables(&self) -> &Rc<[Box<str>]> {
        &self.variables
    }

    fn terms(&self) -> &Terms {
        match &self.form {
            Form::Odd(cache) => &cache.terms,
            Form::Bare { terms, .. } => terms,
            Form::Even { plan, .. } => &plan.terms,
        }
    }
}

impl Form {
    /// The small form of a cache, if it has one.
    fn small(cache: &ScrapeCache) -> Option<Self> {
        let ScrapeCache { terms, variables, plan, known, live, last, timed_ms: _, before, former, reported_ms } = cache;
        if last.is_some() || before.is_some() || former.is_some() {
            return None;
        }
        let Some(plan) = plan else {
            let is_bare =
                known.is_new() && live.plan.is_none() && live.written_ms == 0 && *reported_ms != Some(NEVER_MS);
            let reported_ms = reported_ms.unwrap_or(NEVER_MS);
            return is_bare.then(|| Self::Bare { terms: Rc::clone(terms), reported_ms });
        };
        let (base, entries) = known.plain()?;
        let is_shown = |s: &Shown| Rc::ptr_eq(&s.plan, &plan.plan) && Rc::ptr_eq(&s.variables, variables);
        let is_even = live.is_all()
            && [Some(plan), Some(base), live.plan.as_ref()].into_iter().flatten().all(is_shown)
            && Rc::ptr_eq(terms, &plan.terms)
            && *reported_ms == Some(live.written_ms);
        let known = u32::try_from(entries).ok()?;
        is_even.then(|| Self::Even { plan: Rc::clone(&plan.plan), written_ms: live.written_ms, known })
    }
}

fn bare(terms: &Rc<Terms>, variables: &Rc<[Box<str>]>, reported_ms: i64) -> ScrapeCache {
    let reported_ms = Some(reported_ms).filter(|&ms| ms != NEVER_MS);
    ScrapeCache { reported_ms, ..ScrapeCache::bare(Rc::clone(terms), Rc::clone(variables)) }
}

fn even(plan: &Rc<Plan>, variables: &Rc<[Box<str>]>, written_ms: i64, known: u32) -> ScrapeCache {
    let shown = Shown { plan: Rc::clone(plan), variables: Rc::clone(variables) };
    ScrapeCache {
        live: Live::all(&shown, written_ms),
        known: Known::of(shown.clone(), known as usize),
        plan: Some(shown),
        reported_ms: Some(written_ms),
        ..ScrapeCache::bare(Rc::clone(&plan.terms), Rc::clone(variables))
    }
}
