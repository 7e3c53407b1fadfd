//! Replacing groups of a pool: new entries in, old entries out, commands for the difference.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::ReloadDiff;
use super::alignment::Alignment;
use super::outcomes::{Outcome, Outcomes};
use super::pool::{Active, Group, GroupKey, Origin, ScrapePool};
use crate::config::{ScrapeConfig, TargetGroup};
use crate::discovery::{GroupChange, JobUpdate};
use crate::model::Labels;
use crate::relabel::RelabelError;
use crate::scrape::target::{Made, Target, TargetMaker};
use crate::scrape::{TargetHash, TargetSpec};
use crate::shard::Command;

/// Entries between two points at which the control thread may do something else.
const ENTRIES_AT_ONCE: usize = 512;

/// Where a sync's commands go. Waits while a mailbox is full.
pub trait CommandSender {
    /// To one shard.
    fn send(&mut self, shard: usize, command: Command) -> impl Future<Output = ()> + Send;
}

/// What a sync leaves for later and tells.
#[derive(Debug, Default)]
pub struct Synced {
    /// Counts.
    pub diff: ReloadDiff,
    /// Targets to be removed once all pools of the update have sent their additions: shard and hash.
    pub removed: Vec<(usize, TargetHash)>,
    /// Entries that were made and cannot be targets.
    pub failed: usize,
    /// Whether the pool is above its target limit.
    pub limit_exceeded: bool,
}

/// Whether outcomes of equal entries may be taken over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reuse {
    /// The job is the same.
    Equal,
    /// The job changed: everything is made again.
    Nothing,
}

/// Whether the shards must be told of the pool whatever happens to its forced error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Announce {
    Always,
    IfForcedErrorChanges,
}

impl ScrapePool {
    /// Takes in what discovery found. Additions are sent at once, as they are made, so that the first of a million
    /// targets does not wait for the last; only a pool with a target limit is counted first.
    /// prometheus: scrape/scrape.go, Sync.
    pub async fn sync(&mut self, update: JobUpdate, out: &mut (impl CommandSender + Send)) -> Synced {
        let mut changes: Vec<(GroupKey, GroupChange)> = update.groups.into_iter().collect();
        // What a provider that is no more has found stays until those that take its place have looked once: else a change of
        // `file_sd_configs` would stop all targets until the files are read.
        let is_lost = |provider| update.complete && !update.providers.contains(provider);
        let lost = self.slots.keys().filter(|(provider, _)| is_lost(provider));
        changes.extend(lost.cloned().collect::<Vec<_>>().into_iter().map(|key| (key, None)));
        changes.retain(|((provider, _), change)| change.is_none() || update.providers.contains(provider));
        // Discovery has no order between groups; ours is by source, so that a sync can be repeated.
        changes.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.complete = update.complete;
        self.exchange(changes, Reuse::Equal, Announce::IfForcedErrorChanges, out).await
    }

    /// Takes another configuration of the same job. Targets that come out as they were stay untouched: equal hashes
    /// mean equal labels (interval and timeout among them) and URL, hence equal specifications.
    ///
    /// # Errors
    /// A relabelling rule that does not compile; nothing has changed then.
    pub async fn reconfigure(
        &mut self,
        config: Arc<ScrapeConfig>,
        out: &mut (impl CommandSender + Send),
    ) -> Result<Synced, RelabelError> {
        self.maker = TargetMaker::new(config, self.maker.seed())?;
        let groups = self.groups.iter().flatten();
        let same = groups.map(|g| (g.key.clone(), Some(Arc::clone(&g.group)))).collect();
        Ok(self.exchange(same, Reuse::Nothing, Announce::Always, out).await)
    }

    async fn exchange(
        &mut self,
        changes: Vec<(GroupKey, GroupChange)>,
        reuse: Reuse,
        announce: Announce,
        out: &mut (impl CommandSender + Send),
    ) -> Synced {
        let limited = self.config().target_limit > 0;
        if !limited && announce == Announce::Always {
            self.forced_error = None;
            self.announce(out).await;
        }
        let mut work = Work {
            old: Old::detach(self, &changes, reuse).await,
            synced: Synced::default(),
            started: HashMap::new(),
            held: limited.then(Vec::new),
            out: &mut *out,
        };
        for (key, change) in changes {
            if let Some(group) = change {
                self.insert(key, group, &mut work).await;
            }
        }
        let Work { old, mut synced, mut started, held, .. } = work;
        self.release(old, &mut started, &mut synced);
        synced.diff.added += started.values().sum::<usize>();
        if let Some(held) = held {
            let forced = self.limit_error();
            synced.limit_exceeded = forced.is_some();
            if forced != self.forced_error || announce == Announce::Always {
                self.forced_error = forced;
                self.announce(out).await;
            }
            for (shard, target) in held {
                out.send(shard, Command::Add { pool: self.id, target }).await;
            }
        }
        synced
    }

    /// Makes the targets of one group.
    async fn insert(&mut self, key: GroupKey, group: Arc<TargetGroup>, work: &mut Work<'_, impl CommandSender + Send>) {
        // Nothing is done for entries of before that come in their order, but where they are now.
        let before = work.old.before(&key);
        let slot = before.map_or_else(|| self.free_slot(), |at| work.old.groups[at].slot);
        let mut outcomes = Outcomes::with_capacity(group.targets.len());
        for i in 0..group.targets.len() {
            if i % ENTRIES_AT_ONCE == ENTRIES_AT_ONCE - 1 {
                tokio::task::yield_now().await;
            }
            if let Some((place, kept)) = before.and_then(|at| work.old.groups[at].kept(i)) {
                if let Outcome::Active(hash) = kept
                    && place != i
                {
                    self.shift(hash, (slot, place), i);
                }
                outcomes.push(kept);
                continue;
            }
            let Some(entry) = group.targets.get(i) else { break };
            let outcome = self.outcome(&key, (&entry, &group), Origin { slot, entry: i as u32 }, work).await;
            match outcome {
                Outcome::Dropped => self.dropped += 1,
                Outcome::Failed(_) => self.failed += 1,
                Outcome::Active(_) => {}
            }
            outcomes.push(outcome);
        }
        self.slots.insert(key.clone(), slot);
        self.groups[slot as usize] = Some(Group { key, group, outcomes });
    }

    /// What an entry becomes: what an equal one became, or a new target.
    async fn outcome(
        &mut self,
        key: &GroupKey,
        (entry, group): (&Labels, &TargetGroup),
        origin: Origin,
        work: &mut Work<'_, impl CommandSender + Send>,
    ) -> Outcome {
        match work.old.find(entry, group) {
            Some(Outcome::Active(hash)) => {
                self.join(hash, origin);
                return Outcome::Active(hash);
            }
            Some(other) => return other,
            None => {}
        }
        work.synced.diff.relabelled += 1;
        match self.maker.make(entry, &group.labels) {
            Made::Dropped => Outcome::Dropped,
            Made::Active(target) => self.start(target, origin, work).await,
            Made::Failed(error) => {
                let (job, source) = (&self.config().job_name, &*key.1);
                tracing::error!(job, source, entry = origin.entry, %error, "target skipped");
                work.synced.failed += 1;
                Outcome::Failed(Arc::new(error))
            }
        }
    }

    /// Starts a target unless it runs already, for another entry.
    async fn start(
        &mut self,
        target: Target,
        origin: Origin,
        work: &mut Work<'_, impl CommandSender + Send>,
    ) -> Outcome {
        let Target { spec, public_hash, .. } = target;
        let hash = spec.hash;
        if self.active.contains_key(&hash) {
            self.join(hash, origin);
            return Outcome::Active(hash);
        }
        self.active.insert(hash, Active { public_hash, origin });
        *work.started.entry(public_hash).or_default() += 1;
        let (shard, target) = (self.shard(public_hash), Box::new(spec));
        match &mut work.held {
            Some(held) => held.push((shard, target)),
            None => work.out.send(shard, Command::Add { pool: self.id, target }).await,
        }
        Outcome::Active(hash)
    }

    /// Lets go of the old entries: a target without any other entry ends.
    fn release(&mut self, old: Old, started: &mut Started, synced: &mut Synced) {
        let mut orphans = HashSet::new();
        for outcome in old.groups.iter().flat_map(|g| g.given_up().filter_map(|i| g.group.outcomes.get(i))) {
            match outcome {
                Outcome::Dropped => self.dropped -= 1,
                Outcome::Failed(_) => self.failed -= 1,
                Outcome::Active(hash) => {
                    let Active { public_hash, origin } = self.active[&hash];
                    if self.leave(hash) == 0 {
                        self.active.remove(&hash);
                        orphans.remove(&hash);
                        synced.removed.push((self.shard(public_hash), hash));
                        match started.get_mut(&public_hash) {
                            Some(n) if *n > 0 => {
                                *n -= 1;
                                synced.diff.changed += 1;
                            }
                            _ => synced.diff.removed += 1,
                        }
                    } else if !self.has_made(hash, origin) {
                        orphans.insert(hash);
                    }
                }
            }
        }
        self.free.extend(old.groups.iter().filter(|g| g.successor.is_none()).map(|g| g.slot));
        if !orphans.is_empty() {
            self.adopt(&orphans);
        }
    }

    /// An entry of a target stands somewhere else in its group.
    fn shift(&mut self, hash: TargetHash, (slot, before): (u32, usize), now: usize) {
        let active = self.active.get_mut(&hash).expect("what an entry makes runs");
        if active.origin == (Origin { slot, entry: before as u32 }) {
            active.origin.entry = now as u32;
        }
    }

    /// Whether the entry at this place makes this target.
    fn has_made(&self, hash: TargetHash, origin: Origin) -> bool {
        let group = self.groups[origin.slot as usize].as_ref();
        let outcome = group.and_then(|g| g.outcomes.get(origin.entry as usize));
        matches!(outcome, Some(Outcome::Active(made)) if made == hash)
    }

    /// Finds another entry for targets whose shown one has gone. Rare: it takes two entries that make one target.
    fn adopt(&mut self, orphans: &HashSet<TargetHash>) {
        for (slot, group) in self.groups.iter().enumerate() {
            for (entry, outcome) in group.iter().flat_map(|g| g.outcomes.iter().enumerate()) {
                if let Outcome::Active(hash) = outcome
                    && orphans.contains(&hash)
                {
                    let origin = Origin { slot: slot as u32, entry: entry as u32 };
                    self.active.get_mut(&hash).expect("an orphan runs").origin = origin;
                }
            }
        }
    }

    /// One more entry makes a running target.
    fn join(&mut self, hash: TargetHash, origin: Origin) {
        *self.more_entries.entry(hash).or_default() += 1;
        self.active.get_mut(&hash).expect("old entries are released last").origin = origin;
    }

    /// One entry less makes a running target; how many are left.
    fn leave(&mut self, hash: TargetHash) -> u32 {
        let Some(more) = self.more_entries.get_mut(&hash) else { return 0 };
        let left = *more;
        *more -= 1;
        if *more == 0 {
            self.more_entries.remove(&hash);
        }
        left
    }

    fn free_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.groups.push(None);
            u32::try_from(self.groups.len() - 1).expect("groups fit in memory, so their number fits in 32 bits")
        })
    }

    /// prometheus: scrape/scrape.go, refreshTargetLimitErr.
    fn limit_error(&self) -> Option<Arc<str>> {
        let limit = self.config().target_limit;
        let count = self.active.len();
        (limit > 0 && count as u64 > limit)
            .then(|| format!("target_limit exceeded (number of targets: {count}, limit: {limit})").into())
    }

    /// Tells every shard of the pool.
    pub(super) async fn announce(&self, out: &mut (impl CommandSender + Send)) {
        for shard in 0..self.placement.shards() {
            out.send(shard, Command::Pool(self.spec())).await;
        }
    }
}

/// Targets that started, by public labels: a predecessor of equal labels counts as changed, not as removed.
type Started = HashMap<u64, usize>;
/// Additions that wait for the count of targets.
type Held = Vec<(usize, Box<TargetSpec>)>;

/// An exchange on its way.
struct Work<'a, S> {
    old: Old,
    synced: Synced,
    started: Started,
    held: Option<Held>,
    out: &'a mut S,
}

/// Groups that are being replaced, and their entries by content.
struct Old {
    groups: Vec<OldGroup>,
    by_key: HashMap<GroupKey, usize>,
    /// Those that are not kept, by hash of entry and group labels; filled when a first entry is not where it was.
    by_content: Option<HashMap<(u64, u64), (u32, u32)>>,
    reuse: Reuse,
}

/// A group that is being replaced.
struct OldGroup {
    slot: u32,
    group: Group,
    /// With what takes its slot, where entries of the same text become the same.
    successor: Option<Alignment>,
}

impl OldGroup {
    /// Where the successor's entry was here, and what it became.
    fn kept(&mut self, entry: usize) -> Option<(usize, Outcome)> {
        let place = self.successor.as_mut()?.before(entry)?;
        Some((place, self.group.outcomes.get(place)?))
    }

    /// Entries that the successor has not.
    fn given_up(&self) -> impl Iterator<Item = usize> {
        let count = self.group.group.targets.len();
        let aligned = self.successor.iter().flat_map(move |a| a.given_up(count));
        let all = if self.successor.is_none() { 0..count } else { 0..0 };
        aligned.chain(all)
    }
}

impl Old {
    async fn detach(pool: &mut ScrapePool, changes: &[(GroupKey, GroupChange)], reuse: Reuse) -> Self {
        let mut old = Self { groups: Vec::new(), by_key: HashMap::new(), by_content: None, reuse };
        for (key, change) in changes {
            if let Some(slot) = pool.slots.remove(key) {
                let group = pool.groups[slot as usize].take().expect("a slot with a key is taken");
                let same = change.as_ref().filter(|s| reuse == Reuse::Equal && s.labels == group.group.labels);
                let successor = match same {
                    Some(same) => Some(Alignment::of(&group.group.targets, &same.targets).await),
                    None => None,
                };
                old.by_key.insert(key.clone(), old.groups.len());
                old.groups.push(OldGroup { slot, group, successor });
            }
        }
        old
    }

    /// The old group of this key, if the new one takes its slot.
    fn before(&self, key: &GroupKey) -> Option<usize> {
        self.by_key.get(key).copied().filter(|&at| self.groups[at].successor.is_some())
    }

    /// What an equal entry became that stood in another order, or group.
    fn find(&mut self, entry: &Labels, group: &TargetGroup) -> Option<Outcome> {
        if self.reuse == Reuse::Nothing || self.groups.is_empty() {
            return None;
        }
        let groups = &self.groups;
        let by_content = self.by_content.get_or_insert_with(|| index_of(groups));
        let (at, i) = *by_content.get(&(entry.prometheus_hash(), group.labels.prometheus_hash()))?;
        let found = &self.groups[at as usize].group;
        // The hash only proposes: the texts decide.
        let equal = found.group.targets.has_at(i as usize, entry) && found.group.labels == group.labels;
        found.outcomes.get(i as usize).filter(|_| equal)
    }
}

fn index_of(groups: &[OldGroup]) -> HashMap<(u64, u64), (u32, u32)> {
    let mut index = HashMap::new();
    for (at, old) in groups.iter().enumerate() {
        let TargetGroup { targets, labels, .. } = &*old.group.group;
        let labels_hash = labels.prometheus_hash();
        for i in old.given_up() {
            if let Some(entry) = targets.get(i) {
                index.insert((entry.prometheus_hash(), labels_hash), (at as u32, i as u32));
            }
        }
    }
    index
}
