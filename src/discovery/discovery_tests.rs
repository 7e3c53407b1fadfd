//! What is told to whom, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::{Discovery, GroupChange, GroupSender, Update};
use crate::config::{Config, ScrapeConfig, TargetGroup};
use crate::model::Labels;
use crate::selfmetrics::{Collect, Exposition};

fn group(source: &str, addresses: &[&str]) -> TargetGroup {
    TargetGroup {
        source: source.into(),
        targets: addresses.iter().map(|a| Labels::from_pairs([("__address__", *a)])).collect(),
        labels: Labels::default(),
    }
}

fn config(jobs: &[(&str, Vec<TargetGroup>)]) -> Config {
    let scrape_configs = jobs.iter().map(|(name, groups)| ScrapeConfig {
        job_name: (*name).into(),
        static_configs: groups.clone(),
        ..ScrapeConfig::default()
    });
    Config { scrape_configs: scrape_configs.collect(), ..Config::default() }
}

/// Runs a discovery manager whose updates go into a channel of one place.
fn started(jobs: &[(&str, Vec<TargetGroup>)]) -> (Arc<Discovery>, mpsc::Receiver<Update>) {
    let discovery = Arc::new(Discovery::new(3));
    discovery.apply_config(&config(jobs));
    let (out, updates) = mpsc::channel(1);
    let running = Arc::clone(&discovery);
    tokio::spawn(async move { running.run(out).await });
    (discovery, updates)
}

/// Per job: sources with their number of targets, 0 for gone.
fn told(update: &Update) -> BTreeMap<&str, Vec<(String, usize)>> {
    let jobs = update.jobs.iter().map(|(job, u)| {
        let size = |change: &GroupChange| change.as_ref().map_or(0, |g| g.targets.len());
        let mut groups: Vec<_> = u.groups.iter().map(|((_, source), c)| (source.to_string(), size(c))).collect();
        groups.sort();
        (&**job, groups)
    });
    jobs.collect()
}

async fn next(updates: &mut mpsc::Receiver<Update>) -> Update {
    timeout(Duration::from_secs(60), updates.recv()).await.expect("an update in time").expect("running")
}

async fn nothing(updates: &mut mpsc::Receiver<Update>) {
    assert!(timeout(Duration::from_secs(60), updates.recv()).await.is_err());
}

/// A way to speak as the provider of the first job.
fn provider(discovery: &Discovery, update: &Update) -> GroupSender {
    let id = update.jobs.values().next().unwrap().providers[0];
    GroupSender { id, out: discovery.sender.clone() }
}

fn metrics(discovery: &Discovery) -> String {
    let mut out = Exposition::default();
    discovery.metrics().collect(&mut out);
    out.text()
}

#[tokio::test(start_paused = true)]
async fn every_job_is_announced_once_and_completely() {
    let start = Instant::now();
    let (discovery, mut updates) = started(&[
        ("a", vec![group("0", &["x", "y"]), group("1", &["z"])]),
        ("b", vec![]),
        ("c", vec![group("0", &[])]),
    ]);
    let update = next(&mut updates).await;
    assert!(start.elapsed() <= Duration::from_millis(150), "{:?}", start.elapsed());
    let want = [("a", vec![("0".to_owned(), 2), ("1".to_owned(), 1)]), ("b", vec![]), ("c", vec![])];
    assert_eq!(told(&update), BTreeMap::from(want));
    assert!(update.jobs.values().all(|u| u.complete && u.providers.len() == 1));
    nothing(&mut updates).await;
    let text = metrics(&discovery);
    assert!(text.contains("prometheus_sd_discovered_targets{name=\"scrape\",config=\"a\"} 3\n"), "{text}");
    assert!(text.contains("prometheus_sd_discovered_targets{name=\"scrape\",config=\"b\"} 0\n"), "{text}");
    assert!(text.contains("prometheus_sd_updates_total{name=\"scrape\"} 1\n"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn only_changed_groups_are_told() {
    let (discovery, mut updates) = started(&[("a", vec![group("0", &["x"]), group("1", &["y"])]), ("b", vec![])]);
    let first = next(&mut updates).await;
    let provider = provider(&discovery, &first);
    for (groups, want) in [
        (vec![group("0", &["x", "z"]), group("1", &["y"])], Some(vec![("0".to_owned(), 2)])),
        (vec![group("0", &["x", "z"])], None),
        (vec![group("1", &[]), group("7", &[])], Some(vec![("1".to_owned(), 0)])),
        (vec![], None),
    ] {
        assert!(provider.send(groups).await);
        match want {
            Some(groups) => assert_eq!(told(&next(&mut updates).await), BTreeMap::from([("a", groups)])),
            None => nothing(&mut updates).await,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn equal_providers_are_one_and_a_new_job_gets_what_it_found() {
    let shared = vec![group("0", &["x"])];
    let (discovery, mut updates) = started(&[("a", shared.clone()), ("b", shared.clone())]);
    let first = next(&mut updates).await;
    assert_eq!(first.jobs["a"].providers, first.jobs["b"].providers);
    let own = vec![group("0", &["own"])];
    discovery.apply_config(&config(&[("a", shared.clone()), ("b", own), ("c", shared)]));
    let second = next(&mut updates).await;
    // The one that stayed is not told again; the new subscriber gets the provider's groups at once.
    let want = [("b", vec![("0".to_owned(), 1)]), ("c", vec![("0".to_owned(), 1)])];
    assert_eq!(told(&second), BTreeMap::from(want));
    assert_eq!(second.jobs["c"].providers, first.jobs["a"].providers);
    assert_ne!(second.jobs["b"].providers, first.jobs["b"].providers);
    nothing(&mut updates).await;
}

#[tokio::test(start_paused = true)]
async fn a_job_that_went_and_came_back_starts_with_another_provider() {
    let (discovery, mut updates) = started(&[("a", vec![group("0", &["x"])])]);
    let first = next(&mut updates).await;
    let late = provider(&discovery, &first);
    discovery.apply_config(&config(&[]));
    discovery.apply_config(&config(&[("a", vec![group("0", &["x"])])]));
    assert!(late.send(vec![group("0", &["late", "late"])]).await);
    let second = next(&mut updates).await;
    assert_ne!(second.jobs["a"].providers, first.jobs["a"].providers);
    assert_eq!(told(&second), BTreeMap::from([("a", vec![("0".to_owned(), 1)])]));
}

#[tokio::test(start_paused = true)]
async fn bursts_settle_at_an_update_in_five_seconds_and_quiet_makes_it_prompt_again() {
    let (discovery, mut updates) = started(&[("a", vec![])]);
    let provider = provider(&discovery, &next(&mut updates).await);
    let chatter = {
        let provider = provider.clone();
        tokio::spawn(async move {
            for n in 0..600 {
                provider.send(vec![group("0", &[&format!("x{n}")])]).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        })
    };
    let start = Instant::now();
    let mut times = Vec::new();
    while !chatter.is_finished() {
        if timeout(Duration::from_secs(9), updates.recv()).await.is_ok() {
            times.push(start.elapsed());
        }
    }
    let late = times.iter().filter(|t| (Duration::from_secs(30)..Duration::from_secs(60)).contains(t)).count();
    assert!(times[0] < Duration::from_millis(300), "{times:?}");
    assert!((4..=12).contains(&late), "{late} in half a minute: {times:?}");
    nothing(&mut updates).await;
    let start = Instant::now();
    provider.send(vec![group("0", &["new"])]).await;
    next(&mut updates).await;
    assert!(start.elapsed() <= Duration::from_millis(150));
}

#[tokio::test(start_paused = true)]
async fn a_busy_receiver_gets_everything_later_in_one_update() {
    let (discovery, mut updates) = started(&[("a", vec![])]);
    let provider = provider(&discovery, &next(&mut updates).await);
    // The first fills the one place of the channel; the others have to wait.
    for n in 0..4 {
        assert!(provider.send(vec![group(&n.to_string(), &["x"])]).await);
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    assert!(discovery.metrics().delayed.read() > 0);
    assert_eq!(told(&next(&mut updates).await)["a"], [("0".to_owned(), 1)]);
    assert_eq!(told(&next(&mut updates).await)["a"], ["1", "2", "3"].map(|s| (s.to_owned(), 1)));
}

#[tokio::test(start_paused = true)]
async fn without_a_receiver_the_manager_ends() {
    let discovery = Discovery::new(3);
    discovery.apply_config(&config(&[("a", vec![])]));
    let (out, updates) = mpsc::channel(1);
    drop(updates);
    timeout(Duration::from_secs(60), discovery.run(out)).await.expect("ends");
}

#[test]
fn later_updates_prevail_when_merged() {
    let change = |provider, source: &str, size: usize| {
        let members = vec!["x"; size];
        let change = (size > 0).then(|| Arc::new(group(source, &members)));
        ((super::ProviderId(provider), Arc::from(source)), change)
    };
    let update = |complete, providers: &[u32], groups: Vec<_>| {
        let providers = providers.iter().map(|p| super::ProviderId(*p)).collect();
        let job = super::JobUpdate { providers, complete, groups: groups.into_iter().collect() };
        Update { jobs: BTreeMap::from([(Arc::from("a"), job)]) }
    };
    let mut all = update(false, &[1], vec![change(1, "0", 1), change(1, "1", 1)]);
    all.merge(update(true, &[1, 2], vec![change(1, "1", 0), change(2, "0", 3)]));
    assert_eq!(told(&all)["a"], [("0".to_owned(), 1), ("0".to_owned(), 3), ("1".to_owned(), 0)]);
    assert!(all.jobs["a"].complete);
    assert_eq!(all.jobs["a"].providers.len(), 2);
}
