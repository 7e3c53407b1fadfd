//! What the series of a removed target became of another's: those need no end-of-run markers.

use super::cache::ScrapeCache;
use super::fingerprint::FingerprintSet;
use super::outcome::Stale;
use super::store::Store;
use crate::model::{Identity, IdentityHasher, LabelValue};

/// Series of a removed target that others of its labels have gone on with.
#[derive(Debug, Default)]
pub struct PassedOn(FingerprintSet<Identity>);

impl PassedOn {
    /// Adds what a target shows, its report series too if it was scraped.
    pub fn add(&mut self, store: &Store, other: &ScrapeCache) {
        other.shows(store, |identity| {
            self.0.insert(identity);
        });
    }

    /// Adds what a target has shown and marked.
    pub fn add_marked(&mut self, store: &Store, marked: &Stale) {
        let Stale { shape, variables, slots } = marked;
        let (mut slots, variables) = (slots.iter().copied().peekable(), variables.open());
        let mut at = 0;
        for schema in shape.schemas().iter() {
            if slots.peek().is_none_or(|&next| next as usize >= at + schema.series_count()) {
                at += schema.series_count();
                continue;
            }
            schema.for_each(&mut |labels| {
                if slots.next_if_eq(&(at as u32)).is_some() {
                    self.0.insert(identity(&store.hasher, labels, &variables));
                }
                at += 1;
            });
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn has(&self, identity: &Identity) -> bool {
        self.0.contains(identity)
    }
}

/// What a label set weighs with a target's texts in it.
pub(super) fn identity(hasher: &IdentityHasher, labels: &[(&str, LabelValue<'_>)], variables: &[&str]) -> Identity {
    labels.iter().fold(Identity::default(), |sum, &(name, value)| {
        let text = match value {
            LabelValue::Text(text) => text,
            LabelValue::Var(v) => variables[usize::from(v)],
        };
        sum + hasher.label(name, text)
    })
}
