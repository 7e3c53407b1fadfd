//! What the series of a removed target became of another's: those need no end-of-run markers.

use super::cache::ScrapeCache;
use super::fingerprint::FingerprintSet;
use super::store::Store;
use crate::model::Identity;

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

    pub(super) fn has(&self, identity: &Identity) -> bool {
        self.0.contains(identity)
    }
}
