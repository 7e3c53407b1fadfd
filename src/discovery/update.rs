//! What discovery tells the scrape manager: changes of groups, by job.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::TargetGroup;

/// A running provider; numbers are never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProviderId(pub u32);

/// What changed since the update before.
#[derive(Clone, Debug, Default)]
pub struct Update {
    /// Only jobs with a change.
    pub jobs: BTreeMap<Arc<str>, JobUpdate>,
}

/// Changes of one job.
#[derive(Clone, Debug, Default)]
pub struct JobUpdate {
    /// All providers that the job has now: groups of any other are gone, without being listed.
    pub providers: Vec<ProviderId>,
    /// Whether every provider has delivered at least once.
    pub complete: bool,
    /// Groups that are new, changed or gone, by where they come from.
    pub groups: HashMap<(ProviderId, Arc<str>), GroupChange>,
}

/// `None`: the group is gone.
pub type GroupChange = Option<Arc<TargetGroup>>;

impl Update {
    /// Adds a later update: what it says of a group or a job holds.
    pub fn merge(&mut self, later: Self) {
        for (job, update) in later.jobs {
            let mine = self.jobs.entry(job).or_default();
            mine.providers = update.providers;
            mine.complete = update.complete;
            mine.groups.extend(update.groups);
        }
    }

    /// Whether nothing changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }
}
