//! Pools against an exact record of what shards are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{CommandSender, Placement, ScrapePool, Synced};
use crate::config::{NameValidation, RelabelAction, RelabelConfig, ScrapeConfig, TargetGroup};
use crate::discovery::{JobUpdate, ProviderId};
use crate::model::Labels;
use crate::scrape::{PoolId, TargetHash};
use crate::shard::Command;

/// Keeps every command, with the shard it went to.
#[derive(Debug, Default)]
struct Record(Vec<(usize, Command)>);

impl CommandSender for Record {
    async fn send(&mut self, shard: usize, command: Command) {
        self.0.push((shard, command));
    }
}

impl Record {
    /// `instance` of every target that was added since, sorted.
    fn added(&self) -> Vec<String> {
        let mut added: Vec<String> = self.0.iter().filter_map(|(_, c)| instance(c)).collect();
        added.sort();
        added
    }

    fn forced_errors(&self) -> Vec<Option<String>> {
        let pools = self.0.iter().filter_map(|(_, c)| match c {
            Command::Pool(spec) => Some(spec.forced_error.as_ref().map(|e| e.to_string())),
            _ => None,
        });
        pools.collect()
    }
}

fn instance(command: &Command) -> Option<String> {
    match command {
        Command::Add { target, .. } => target.labels.get("instance").map(str::to_owned),
        _ => None,
    }
}

const SHARDS: usize = 3;
const PROVIDER: ProviderId = ProviderId(7);

fn config() -> ScrapeConfig {
    ScrapeConfig {
        job_name: "node".into(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        relabel_configs: vec![RelabelConfig {
            source_labels: vec!["__address__".into()],
            separator: ";".into(),
            regex: "drop.*".into(),
            modulus: 0,
            target_label: String::new(),
            replacement: "$1".into(),
            action: RelabelAction::Drop,
            name_validation: NameValidation::Utf8,
        }],
        ..ScrapeConfig::default()
    }
}

fn pool(config: ScrapeConfig) -> ScrapePool {
    ScrapePool::new(PoolId(1), Arc::new(config), 5, Arc::new(Placement::new(SHARDS))).unwrap()
}

fn group(source: &str, addresses: &[&str], labels: &[(&str, &str)]) -> TargetGroup {
    TargetGroup {
        source: source.into(),
        targets: addresses.iter().map(|a| Labels::from_pairs([("__address__", *a)])).collect(),
        labels: Labels::from_pairs(labels.iter().copied()),
    }
}

fn update(groups: Vec<TargetGroup>) -> JobUpdate {
    let groups = groups.into_iter().map(|g| {
        let key = (PROVIDER, Arc::from(g.source.as_str()));
        (key, (!g.targets.is_empty()).then(|| Arc::new(g)))
    });
    JobUpdate { providers: vec![PROVIDER], complete: true, groups: groups.collect() }
}

async fn sync(pool: &mut ScrapePool, groups: Vec<TargetGroup>) -> (Synced, Record) {
    let mut record = Record::default();
    let synced = pool.sync(update(groups), &mut record).await;
    check(pool);
    (synced, record)
}

fn counts(synced: &Synced) -> (usize, usize, usize, usize) {
    (synced.diff.added, synced.diff.removed, synced.diff.changed, synced.diff.relabelled)
}

/// Every target's shown entry makes that target, and counts agree with the entries.
fn check(pool: &ScrapePool) {
    let mut entries = BTreeMap::<TargetHash, u32>::new();
    for hash in pool.active.keys().copied() {
        entries.insert(hash, 1 + pool.more_entries.get(&hash).copied().unwrap_or_default());
    }
    for target in pool.active_targets() {
        assert_eq!(target.target().spec.hash, target.hash());
        assert_eq!(target.target().public_hash as usize % SHARDS, target.shard());
    }
    let outcomes = pool.groups.iter().flatten().flat_map(|g| g.outcomes.iter());
    let (mut dropped, mut failed) = (0, 0);
    for outcome in outcomes {
        match outcome {
            super::outcomes::Outcome::Active(hash) => *entries.get_mut(&hash).unwrap() -= 1,
            super::outcomes::Outcome::Dropped => dropped += 1,
            super::outcomes::Outcome::Failed(_) => failed += 1,
        }
    }
    assert!(entries.values().all(|left| *left == 0));
    assert_eq!((dropped, failed), (pool.dropped_count(), pool.failed_count()));
}

#[tokio::test]
async fn targets_of_a_replaced_provider_stay_until_the_new_one_has_looked() {
    let mut pool = pool(config());
    sync(&mut pool, vec![group("0", &["a", "b"], &[])]).await;
    let other = ProviderId(PROVIDER.0 + 1);
    let by_other = |complete, groups| JobUpdate { providers: vec![other], complete, groups };
    let mut record = Record::default();
    let synced = pool.sync(by_other(false, Default::default()), &mut record).await;
    assert_eq!((counts(&synced), record.0.len()), ((0, 0, 0, 0), 0));
    let found = group("0", &["b", "c"], &[]);
    let groups = [((other, Arc::from("0")), Some(Arc::new(found)))].into_iter().collect();
    let synced = pool.sync(by_other(true, groups), &mut record).await;
    check(&pool);
    assert_eq!((synced.diff.added, synced.diff.removed, record.added()), (1, 1, vec!["c".to_owned()]));
}

#[tokio::test]
async fn a_first_sync_adds_each_target_on_the_shard_of_its_labels() {
    let mut pool = pool(config());
    let (synced, record) = sync(&mut pool, vec![group("0", &["a", "b", "c", "drop1", "x/y"], &[])]).await;
    assert_eq!(counts(&synced), (3, 0, 0, 5));
    assert_eq!(record.added(), ["a", "b", "c"]);
    assert_eq!((pool.active_count(), pool.dropped_count(), pool.failed_count()), (3, 1, 1));
    for (shard, command) in &record.0 {
        let Command::Add { pool, target } = command else { panic!("{command:?}") };
        assert_eq!((*pool, *shard), (PoolId(1), (target.labels.prometheus_hash() % SHARDS as u64) as usize));
    }
    let failed: Vec<_> = pool.failed_entries().map(|f| (f.source, f.index, f.error.to_string())).collect();
    assert_eq!(failed, [("0", 4, "\"x/y\" is not a valid hostname".to_owned())]);
}

#[tokio::test]
async fn equal_entries_are_not_relabelled_again() {
    let mut pool = pool(config());
    sync(&mut pool, vec![group("0", &["a", "b", "drop1"], &[]), group("1", &["c"], &[("x", "1")])]).await;
    for (groups, want, why) in [
        (vec![group("0", &["a", "b", "drop1"], &[])], (0, 0, 0, 0), "the same again"),
        (vec![group("0", &["b", "drop1", "a"], &[])], (0, 0, 0, 0), "another order"),
        (vec![group("0", &["b", "d", "drop1", "a"], &[])], (1, 0, 0, 1), "one more in between"),
        (vec![group("0", &["b", "d"], &[])], (0, 1, 0, 0), "fewer"),
        (vec![group("0", &["c"], &[("x", "1")]), group("1", &["b", "d"], &[])], (0, 0, 0, 0), "groups swapped"),
        (vec![group("0", &["c"], &[("x", "2")])], (1, 1, 0, 1), "group label changed"),
        (vec![group("1", &[], &[])], (0, 2, 0, 0), "group gone"),
        (vec![group("9", &[], &[])], (0, 0, 0, 0), "unknown group gone"),
    ] {
        let (synced, record) = sync(&mut pool, groups).await;
        assert_eq!(counts(&synced), want, "{why}");
        assert_eq!(record.0.len(), want.0, "{why}");
        assert_eq!(synced.removed.len(), want.1 + want.2, "{why}");
    }
    assert_eq!(pool.active_count(), 1);
}

#[tokio::test]
async fn a_successor_of_equal_labels_meets_its_predecessor() {
    let mut pool = pool(config());
    let labels = |path| [("instance", "i"), ("__metrics_path__", path)];
    let (first, before) = sync(&mut pool, vec![group("0", &["a"], &labels("/1"))]).await;
    let (second, after) = sync(&mut pool, vec![group("0", &["b"], &labels("/2"))]).await;
    assert_eq!((counts(&first), counts(&second)), ((1, 0, 0, 1), (0, 0, 1, 1)));
    assert_eq!((before.0[0].0, second.removed[0].0), (after.0[0].0, after.0[0].0));
    assert_eq!(second.removed.len(), 1);
}

#[tokio::test]
async fn two_entries_of_one_target_are_one_loop_until_both_are_gone() {
    let mut pool = pool(config());
    let meta = |v| [("__meta_from", v)];
    let (synced, record) =
        sync(&mut pool, vec![group("0", &["a"], &meta("0")), group("1", &["a", "a"], &meta("1"))]).await;
    assert_eq!((synced.diff.added, record.0.len(), pool.active_count()), (1, 1, 1));
    let from = |pool: &ScrapePool| {
        let target = pool.active_targets().next().unwrap();
        target.discovered().get("__meta_from").unwrap().to_owned()
    };
    assert_eq!(from(&pool), "1");
    let (synced, _) = sync(&mut pool, vec![group("1", &[], &[])]).await;
    assert_eq!((synced.removed.len(), from(&pool)), (0, "0".to_owned()));
    let (synced, _) = sync(&mut pool, vec![group("0", &[], &[])]).await;
    assert_eq!((synced.removed.len(), pool.active_count()), (1, 0));
}

#[tokio::test]
async fn groups_of_a_provider_that_the_job_no_longer_has_are_gone() {
    let mut pool = pool(config());
    sync(&mut pool, vec![group("0", &["a"], &[])]).await;
    let mut record = Record::default();
    let mut other = update(vec![group("0", &["late"], &[])]);
    other.providers = vec![ProviderId(8)];
    let synced = pool.sync(other, &mut record).await;
    check(&pool);
    // Neither the old group nor a late word from the old provider counts.
    assert_eq!((synced.removed.len(), record.0.len(), pool.active_count()), (1, 0, 0));
}

#[tokio::test]
async fn the_target_limit_forces_an_error_before_anything_starts_and_clears_it() {
    let mut pool = pool(ScrapeConfig { target_limit: 2, ..config() });
    let (synced, record) = sync(&mut pool, vec![group("0", &["a", "b"], &[])]).await;
    assert_eq!((synced.limit_exceeded, record.forced_errors().len()), (false, 0));
    // Two of the three are new and one goes: three remain.
    let (synced, record) = sync(&mut pool, vec![group("0", &["b", "c", "d"], &[])]).await;
    let text = "target_limit exceeded (number of targets: 3, limit: 2)".to_owned();
    assert!(synced.limit_exceeded);
    assert_eq!(record.forced_errors(), vec![Some(text.clone()); SHARDS]);
    assert!(matches!(record.0[0].1, Command::Pool(_)), "told before the additions");
    assert_eq!(record.added(), ["c", "d"]);
    // The text tells the number: another number is another text.
    let (_, record) = sync(&mut pool, vec![group("1", &["e"], &[])]).await;
    assert_eq!(record.forced_errors()[0], Some(text.replace("targets: 3", "targets: 4")));
    let (synced, record) = sync(&mut pool, vec![group("0", &["b"], &[])]).await;
    assert!(!synced.limit_exceeded);
    assert_eq!(record.forced_errors(), vec![None; SHARDS]);
    let (_, record) = sync(&mut pool, vec![group("0", &["c"], &[])]).await;
    assert_eq!(record.forced_errors().len(), 0);
}

#[tokio::test]
async fn replacing_all_targets_of_a_limited_pool_is_within_the_limit() {
    let mut pool = pool(ScrapeConfig { target_limit: 2, ..config() });
    sync(&mut pool, vec![group("0", &["a", "b"], &[])]).await;
    let (synced, record) = sync(&mut pool, vec![group("0", &["c", "d"], &[])]).await;
    assert_eq!((synced.limit_exceeded, record.forced_errors().len()), (false, 0));
}

#[tokio::test]
async fn dropped_targets_are_kept_up_to_the_limit_and_all_are_counted() {
    for (keep, want) in [(0, 3), (2, 2), (5, 3)] {
        let mut pool = pool(ScrapeConfig { keep_dropped_targets: keep, ..config() });
        sync(&mut pool, vec![group("0", &["drop1", "a", "drop2", "drop3"], &[])]).await;
        let dropped: Vec<Labels> = pool.dropped_targets().collect();
        assert_eq!((dropped.len(), pool.dropped_count()), (want, 3));
        assert_eq!(dropped[0].get("__address__"), Some("drop1"));
        assert_eq!(dropped[0].get("job"), Some("node"));
    }
}

async fn reconfigure(pool: &mut ScrapePool, config: ScrapeConfig) -> (Synced, Record) {
    let mut record = Record::default();
    let synced = pool.reconfigure(Arc::new(config), &mut record).await.unwrap();
    check(pool);
    (synced, record)
}

#[tokio::test]
async fn another_configuration_replaces_only_what_comes_out_differently() {
    let mut pool = pool(config());
    sync(&mut pool, vec![group("0", &["a", "b", "drop1"], &[]), group("1", &["s"], &[("__scrape_interval__", "1m")])])
        .await;
    // A limit on samples changes no target; the shards hear of it before all else.
    let (synced, record) = reconfigure(&mut pool, ScrapeConfig { sample_limit: 9, ..config() }).await;
    assert_eq!(counts(&synced), (0, 0, 0, 4));
    assert_eq!(record.forced_errors(), vec![None; SHARDS]);
    assert_eq!(record.0.len(), SHARDS);
    // Another interval changes those targets that take it from the job.
    let faster = ScrapeConfig { scrape_interval: Duration::from_secs(12), ..config() };
    let (synced, record) = reconfigure(&mut pool, faster).await;
    assert_eq!(counts(&synced), (0, 0, 2, 4));
    assert_eq!(record.added(), ["a", "b"]);
    assert!(record.0[..SHARDS].iter().all(|(_, c)| matches!(c, Command::Pool(_))));
    // Without the rule a target more.
    let (synced, record) = reconfigure(&mut pool, ScrapeConfig { relabel_configs: vec![], ..config() }).await;
    assert_eq!(counts(&synced), (1, 0, 2, 4));
    assert_eq!(record.added(), ["a", "b", "drop1"]);
    // A limit that is passed at once.
    let limited = ScrapeConfig { relabel_configs: vec![], target_limit: 1, ..config() };
    let (synced, record) = reconfigure(&mut pool, limited).await;
    assert!(synced.limit_exceeded);
    assert_eq!(record.forced_errors()[0].as_deref(), Some("target_limit exceeded (number of targets: 4, limit: 1)"));
    let (_, record) = reconfigure(&mut pool, ScrapeConfig { relabel_configs: vec![], ..config() }).await;
    assert_eq!(record.forced_errors(), vec![None; SHARDS]);
}

#[tokio::test]
async fn the_seed_of_the_first_configuration_stays() {
    let mut pool = pool(config());
    sync(&mut pool, vec![group("0", &["a"], &[])]).await;
    let offset = |pool: &ScrapePool| pool.active_targets().next().unwrap().target().spec.offset_ns;
    let before = offset(&pool);
    reconfigure(&mut pool, ScrapeConfig { sample_limit: 1, ..config() }).await;
    assert_eq!(offset(&pool), before);
}

/// The naive twin: what is active is the set of hashes of all entries of all groups, made one by one.
#[tokio::test]
async fn any_sequence_of_updates_ends_where_starting_afresh_would() {
    let addresses = ["a", "b", "c", "d", "drop1", "x/y"];
    let mut chance = 12_345u64;
    let mut next = move |n: usize| {
        chance = chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (chance >> 33) as usize % n
    };
    let mut pool = pool(config());
    let mut running = BTreeSet::new();
    let mut all: BTreeMap<String, TargetGroup> = BTreeMap::new();
    for _ in 0..400 {
        let mut groups = Vec::new();
        for source in ["0", "1", "2"].iter().take(1 + next(3)) {
            let members: Vec<&str> = (0..next(5)).map(|_| addresses[next(addresses.len())]).collect();
            let group = group(source, &members, &[("x", ["1", "2"][next(2)])]);
            all.insert((*source).to_owned(), group.clone());
            groups.push(group);
        }
        let (synced, record) = sync(&mut pool, groups).await;
        for (_, command) in &record.0 {
            let Command::Add { target, .. } = command else { panic!("{command:?}") };
            assert!(running.insert(target.hash), "added once");
        }
        for (_, hash) in &synced.removed {
            assert!(running.remove(hash), "removed once");
        }
        let mut fresh = self::pool(config());
        sync(&mut fresh, all.values().cloned().collect()).await;
        let want: BTreeSet<TargetHash> = fresh.active.keys().copied().collect();
        assert_eq!(running, want);
        assert_eq!(pool.active.keys().copied().collect::<BTreeSet<_>>(), want);
        assert_eq!((pool.dropped_count(), pool.failed_count()), (fresh.dropped_count(), fresh.failed_count()));
    }
}
