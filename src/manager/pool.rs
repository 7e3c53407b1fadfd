//! One job's targets: what each entry of each group became, which targets that makes, and where they are.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use super::outcomes::{Outcome, Outcomes};
use super::placement::Placement;
use crate::config::{ScrapeConfig, TargetGroup};
use crate::discovery::ProviderId;
use crate::model::Labels;
use crate::relabel::RelabelError;
use crate::scrape::target::{Made, Target, TargetError, TargetMaker};
use crate::scrape::{PoolId, PoolSpec, TargetHash};

/// Where a group comes from.
pub(super) type GroupKey = (ProviderId, Arc<str>);

/// A job's groups and targets. Labels and URLs of targets are not kept: they are made again from the entry.
#[derive(Debug)]
pub struct ScrapePool {
    pub(super) id: PoolId,
    pub(super) maker: TargetMaker,
    pub(super) placement: Arc<Placement>,
    /// Slots of groups; `None` are free.
    pub(super) groups: Vec<Option<Group>>,
    pub(super) free: Vec<u32>,
    pub(super) slots: HashMap<GroupKey, u32>,
    /// In the order of their hashes, which is that of pages.
    pub(super) active: BTreeMap<TargetHash, Active>,
    /// Of those that more than one entry makes: how many more.
    pub(super) more_entries: HashMap<TargetHash, u32>,
    pub(super) dropped: usize,
    pub(super) failed: usize,
    pub(super) forced_error: Option<Arc<str>>,
    pub(super) complete: bool,
}

/// A group with what its entries became, by position.
#[derive(Debug)]
pub(super) struct Group {
    pub key: GroupKey,
    pub group: Arc<TargetGroup>,
    pub outcomes: Outcomes,
}

/// A running target.
#[derive(Clone, Copy, Debug)]
pub(super) struct Active {
    pub public_hash: u64,
    /// The latest of the entries that make this target, whose labels before relabelling are shown.
    pub origin: Origin,
}

/// Place of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub slot: u32,
    pub entry: u32,
}

impl ScrapePool {
    /// Without targets. `seed` shifts the phases and stays for the pool's life.
    ///
    /// # Errors
    /// A relabelling rule that does not compile.
    pub fn new(
        id: PoolId,
        config: Arc<ScrapeConfig>,
        seed: u64,
        placement: Arc<Placement>,
    ) -> Result<Self, RelabelError> {
        Ok(Self {
            id,
            maker: TargetMaker::new(config, seed)?,
            placement,
            groups: Vec::new(),
            free: Vec::new(),
            slots: HashMap::new(),
            active: BTreeMap::new(),
            more_entries: HashMap::new(),
            dropped: 0,
            failed: 0,
            forced_error: None,
            complete: false,
        })
    }

    /// Number.
    #[must_use]
    pub fn id(&self) -> PoolId {
        self.id
    }

    /// The job, without its discovery settings.
    #[must_use]
    pub fn config(&self) -> &Arc<ScrapeConfig> {
        self.maker.config()
    }

    /// As the shards see it.
    #[must_use]
    pub fn spec(&self) -> PoolSpec {
        PoolSpec { id: self.id, config: Arc::clone(self.config()), forced_error: self.forced_error.clone() }
    }

    /// Whether every provider of the job has delivered.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// Number of running targets.
    #[must_use]
    pub fn active_count(&self) -> usize {
        self.active.len()
    }

    /// Number of entries that relabelling dropped, remembered or not.
    #[must_use]
    pub fn dropped_count(&self) -> usize {
        self.dropped
    }

    /// Number of entries that cannot be targets.
    #[must_use]
    pub fn failed_count(&self) -> usize {
        self.failed
    }

    /// Running targets in the order of their hashes.
    pub fn active_targets(&self) -> impl Iterator<Item = ActiveTarget<'_>> {
        self.active_targets_after(None)
    }

    /// Those with greater hashes, in the order of their hashes; finding the first costs a look-up.
    pub fn active_targets_after(&self, after: Option<TargetHash>) -> impl Iterator<Item = ActiveTarget<'_>> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let range = self.active.range((from, Bound::Unbounded));
        range.map(|(hash, active)| ActiveTarget { pool: self, hash: *hash, active: *active })
    }

    /// A running target.
    #[must_use]
    pub fn active_target(&self, hash: TargetHash) -> Option<ActiveTarget<'_>> {
        self.active.get(&hash).map(|active| ActiveTarget { pool: self, hash, active: *active })
    }

    /// Labels before relabelling of dropped entries, at most `keep_dropped_targets` (0 = all).
    pub fn dropped_targets(&self) -> impl Iterator<Item = Labels> {
        let most = match usize::try_from(self.config().keep_dropped_targets) {
            Ok(0) | Err(_) => usize::MAX,
            Ok(n) => n,
        };
        let dropped = self.entries().filter(|(_, _, outcome)| matches!(outcome, Outcome::Dropped));
        let entries = dropped.take(most).filter_map(|(group, i, _)| Some((group.group.targets.get(i)?, group)));
        entries.map(|(entry, group)| self.maker.discovered(&entry, &group.group.labels))
    }

    /// Entries that cannot be targets, with why.
    pub fn failed_entries(&self) -> impl Iterator<Item = FailedEntry<'_>> {
        self.entries().filter_map(|(group, index, outcome)| match outcome {
            Outcome::Failed(error) => Some(FailedEntry { source: &group.key.1, index, error }),
            Outcome::Active(_) | Outcome::Dropped => None,
        })
    }

    /// The shard of a target by its public labels.
    #[must_use]
    pub(super) fn shard(&self, public_hash: u64) -> usize {
        self.placement.shard(public_hash)
    }

    fn entries(&self) -> impl Iterator<Item = (&Group, usize, Outcome)> {
        let groups = self.groups.iter().flatten();
        groups.flat_map(|g| g.outcomes.iter().enumerate().map(move |(i, outcome)| (g, i, outcome)))
    }
}

/// An entry that cannot be a target.
#[derive(Clone, Debug)]
pub struct FailedEntry<'a> {
    /// Source of its group.
    pub source: &'a str,
    /// Position in its group.
    pub index: usize,
    /// Why.
    pub error: Arc<TargetError>,
}

/// A running target; everything but its hash is made when asked for.
#[derive(Clone, Copy, Debug)]
pub struct ActiveTarget<'a> {
    pool: &'a ScrapePool,
    hash: TargetHash,
    active: Active,
}

impl<'a> ActiveTarget<'a> {
    /// Its pool.
    #[must_use]
    pub fn pool(&self) -> &'a ScrapePool {
        self.pool
    }

    /// Identity within the pool.
    #[must_use]
    pub fn hash(&self) -> TargetHash {
        self.hash
    }

    /// Hash of its public labels, which decides the shard.
    #[must_use]
    pub(super) fn public_hash(&self) -> u64 {
        self.active.public_hash
    }

    /// The shard that scrapes it.
    #[must_use]
    pub fn shard(&self) -> usize {
        self.pool.shard(self.active.public_hash)
    }

    /// Labels before relabelling.
    #[must_use]
    pub fn discovered(&self) -> Labels {
        let (entry, group) = self.entry();
        self.pool.maker.discovered(&entry, &group.labels)
    }

    /// Labels, URL, interval and timeout as text: relabels the entry, some microseconds.
    ///
    /// # Panics
    /// Never: the same entry and rules make the same target.
    #[must_use]
    pub fn target(&self) -> Target {
        let (entry, group) = self.entry();
        match self.pool.maker.make(&entry, &group.labels) {
            Made::Active(target) => target,
            other => unreachable!("an active entry became {other:?}"),
        }
    }

    fn entry(&self) -> (Labels, &'a TargetGroup) {
        let Origin { slot, entry } = self.active.origin;
        let group = self.pool.groups[slot as usize].as_ref().expect("an origin is a live group");
        (group.group.targets.get(entry as usize).expect("an origin is an entry"), &group.group)
    }
}
