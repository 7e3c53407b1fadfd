//! The manager between a scripted discovery and recorded shards.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::{Manager, Options, Outlet};
use crate::base::mailbox::{Outbox, mailbox};
use crate::config::{
    Config, Global, NameValidation, RelabelAction, RelabelConfig, ScrapeConfig, SecretSource, TargetGroup,
};
use crate::discovery::{JobUpdate, ProviderId, Update};
use crate::model::Labels;
use crate::scrape::{PoolId, TargetHash};
use crate::selfmetrics::{Collect, Exposition};
use crate::shard::{Command, Health, TargetStatus};

const SHARDS: usize = 2;

/// Commands as short words, in order over all shards; while `full`, every post is refused.
#[derive(Clone, Debug, Default)]
struct Shards(Arc<Mutex<ShardsState>>);

#[derive(Debug, Default)]
struct ShardsState {
    told: Vec<(usize, String)>,
    full: bool,
    refused: usize,
}

impl Outlet for Shards {
    fn shards(&self) -> usize {
        SHARDS
    }

    fn post(&mut self, shard: usize, command: Command) -> Result<(), Box<Command>> {
        let mut state = self.0.lock().unwrap();
        if state.full {
            state.refused += 1;
            return Err(Box::new(command));
        }
        let word = match command {
            Command::Pool(spec) => format!("pool {} {}", spec.id.0, spec.config.job_name),
            Command::RemovePool(id) => format!("remove pool {}", id.0),
            Command::Add { pool, target } => format!("add {} {}", pool.0, target.labels.get("instance").unwrap()),
            Command::Remove { pool, .. } => format!("remove {}", pool.0),
            Command::Stop => "stop".to_owned(),
            // An answer that never comes.
            Command::Metadata(_) => return Ok(()),
            Command::Weigh(_) | Command::HandOver(_) | Command::TakeOver { .. } => unreachable!("nothing moves here"),
            Command::Status(request) => {
                let status = |&(pool, hash)| TargetStatus {
                    pool,
                    hash,
                    last_error: String::new(),
                    last_scrape_wall_ms: 5,
                    last_duration_ns: 6,
                    health: Health::Up,
                };
                // The second shard has lost its voice.
                if shard == 0 {
                    let _ = request.reply.send(request.targets.iter().map(status).collect());
                }
                return Ok(());
            }
        };
        state.told.push((shard, word));
        Ok(())
    }
}

impl Shards {
    /// What was told since the last question; broadcasts once.
    fn told(&self) -> Vec<String> {
        let told = std::mem::take(&mut self.0.lock().unwrap().told);
        let broadcast = |w: &str| w.starts_with("pool") || w.starts_with("remove pool") || w == "stop";
        told.into_iter().filter(|(shard, w)| *shard == 0 || !broadcast(w)).map(|(_, w)| w).collect()
    }

    fn set_full(&self, full: bool) {
        self.0.lock().unwrap().full = full;
    }
}

fn job(name: &str) -> ScrapeConfig {
    ScrapeConfig {
        job_name: name.into(),
        scrape_interval: Duration::from_secs(15),
        scrape_timeout: Duration::from_secs(10),
        metrics_path: "/metrics".into(),
        scheme: "http".into(),
        ..ScrapeConfig::default()
    }
}

fn config(jobs: Vec<ScrapeConfig>) -> Config {
    Config { scrape_configs: jobs, ..Config::default() }
}

fn update(jobs: &[(&str, &[&str])]) -> Update {
    let jobs = jobs.iter().map(|(job, addresses)| {
        let group = TargetGroup {
            source: "0".into(),
            targets: addresses.iter().map(|a| Labels::from_pairs([("__address__", *a)])).collect(),
            labels: Labels::default(),
        };
        let change = (!group.targets.is_empty()).then(|| Arc::new(group));
        let groups = [((ProviderId(0), Arc::from("0")), change)].into();
        (Arc::from(*job), JobUpdate { providers: vec![ProviderId(0)], complete: true, groups })
    });
    Update { jobs: jobs.collect() }
}

fn manager() -> (Arc<Manager>, Shards) {
    let shards = Shards::default();
    let options = Options { fqdn: "prom-0.example.org".into(), ..Options::default() };
    (Arc::new(Manager::new(options, Box::new(shards.clone()))), shards)
}

/// The web asks from tasks that may move between threads.
fn movable<T: Send>(future: T) -> T {
    future
}

async fn applied(manager: &Manager, jobs: Vec<ScrapeConfig>) -> String {
    movable(manager.apply_config(&config(jobs))).await.unwrap().to_string()
}

async fn reloaded(manager: &Manager, jobs: &[(&str, &[&str])]) -> String {
    manager.update_tsets(update(jobs));
    manager.reload().await.to_string()
}

#[tokio::test(start_paused = true)]
async fn jobs_come_change_and_go() {
    let (manager, shards) = manager();
    assert_eq!(applied(&manager, vec![job("a"), job("b")]).await, "+0 -0 ~0, jobs changed: a b");
    assert_eq!(shards.told(), [""; 0]);
    assert_eq!(reloaded(&manager, &[("a", &["x"]), ("unknown", &["y"])]).await, "+1 -0 ~0");
    assert_eq!(shards.told(), ["pool 0 a", "add 0 x"]);
    assert!(!manager.is_ready(), "b was not told of");
    assert_eq!(reloaded(&manager, &[("b", &[])]).await, "+0 -0 ~0");
    assert_eq!(shards.told(), ["pool 1 b"]);
    assert!(manager.is_ready());

    assert_eq!(applied(&manager, vec![job("a"), job("b")]).await, "+0 -0 ~0");
    assert_eq!(shards.told(), [""; 0]);

    let slow = ScrapeConfig { scrape_interval: Duration::from_secs(60), ..job("a") };
    assert_eq!(applied(&manager, vec![slow, job("b")]).await, "+0 -0 ~1, jobs changed: a");
    assert_eq!(shards.told(), ["pool 0 a", "add 0 x", "remove 0"]);

    assert_eq!(applied(&manager, vec![job("b"), job("c")]).await, "+0 -1 ~0, jobs changed: a c");
    assert_eq!(shards.told(), ["remove pool 0"]);
    assert_eq!(reloaded(&manager, &[("a", &["x"]), ("b", &["x", "y"])]).await, "+2 -0 ~0");
    assert_eq!(shards.told(), ["add 1 x", "add 1 y"]);

    // The same name again is another pool.
    applied(&manager, vec![job("a"), job("b")]).await;
    assert_eq!(reloaded(&manager, &[("a", &["x"])]).await, "+1 -0 ~0");
    assert_eq!(shards.told(), ["pool 2 a", "add 2 x"]);
}

#[tokio::test]
async fn additions_of_all_pools_come_before_removals_of_any() {
    let (manager, shards) = manager();
    applied(&manager, vec![job("a"), job("b")]).await;
    reloaded(&manager, &[("a", &["x", "y"]), ("b", &["z"])]).await;
    shards.told();
    assert_eq!(reloaded(&manager, &[("a", &["y"]), ("b", &["z", "x"])]).await, "+1 -1 ~0");
    assert_eq!(shards.told(), ["add 1 x", "remove 0"]);
}

#[tokio::test]
async fn a_change_of_discovery_alone_changes_no_job() {
    let (manager, shards) = manager();
    applied(&manager, vec![job("a")]).await;
    reloaded(&manager, &[("a", &["x"])]).await;
    shards.told();
    let group = TargetGroup {
        targets: [Labels::from_pairs([("__address__", "n")])].into_iter().collect(),
        ..TargetGroup::default()
    };
    let more = ScrapeConfig { static_configs: vec![group], ..job("a") };
    assert_eq!(applied(&manager, vec![more]).await, "+0 -0 ~0");
    assert_eq!(shards.told(), [""; 0]);
}

#[tokio::test]
async fn a_bad_configuration_changes_nothing() {
    let (manager, shards) = manager();
    applied(&manager, vec![job("a")]).await;
    reloaded(&manager, &[("a", &["x"])]).await;
    shards.told();
    let rule = RelabelConfig {
        source_labels: vec![],
        separator: ";".into(),
        regex: "(".into(),
        modulus: 0,
        target_label: "x".into(),
        replacement: "$1".into(),
        action: RelabelAction::Replace,
        name_validation: NameValidation::Utf8,
    };
    let bad = ScrapeConfig { relabel_configs: vec![rule], ..job("b") };
    let error = manager.apply_config(&config(vec![bad])).await.unwrap_err().to_string();
    assert!(error.starts_with("job \"b\": relabel_configs: rule 0: regex: invalid regular expression"), "{error}");
    assert_eq!(manager.read(|pools| pools.keys().map(|k| k.to_string()).collect::<Vec<_>>()).await, ["a"]);
    assert_eq!(shards.told(), [""; 0]);
}

#[tokio::test]
async fn tls_files_that_cannot_be_used_change_nothing_but_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("ca.pem");
    let mut bad = job("a");
    bad.http.tls.ca = Some(SecretSource::File(ca.clone()));
    let (fresh, _) = manager();
    fresh.apply_config(&config(vec![bad.clone()])).await.expect("at the start its scrapes tell");
    let (manager, shards) = manager();
    applied(&manager, vec![job("a")]).await;
    reloaded(&manager, &[("a", &["x"])]).await;
    shards.told();
    for text in [None, Some("no certificate")] {
        if let Some(text) = text {
            std::fs::write(&ca, text).unwrap();
        }
        let error = manager.apply_config(&config(vec![bad.clone(), job("b")])).await.unwrap_err().to_string();
        assert!(error.starts_with("job \"a\": tls_config: ") && error.contains("ca"), "{error}");
        assert_eq!(shards.told(), [""; 0]);
    }
    let mut metrics = Exposition::default();
    manager.metrics().collect(&mut metrics);
    let text = metrics.text();
    assert!(text.contains("prometheus_target_scrape_pool_reloads_failed_total 2\n"), "{text}");
}

#[tokio::test]
async fn the_seed_follows_name_and_external_labels() {
    let (manager, _) = manager();
    let labels = Labels::from_pairs([("foo", "bar"), ("monitor", "codelab")]);
    let global = Global { external_labels: labels, ..Global::default() };
    manager.apply_config(&Config { global, ..config(vec![]) }).await.unwrap();
    assert_eq!(manager.jitter_seed(), 12_244_564_969_904_364_541);
    manager.apply_config(&config(vec![])).await.unwrap();
    assert_eq!(manager.jitter_seed(), 8_470_811_600_237_877_090);
    assert!(manager.is_ready(), "without jobs there is nothing to wait for");
}

#[tokio::test(start_paused = true)]
async fn the_first_update_is_taken_in_at_once_and_others_every_five_seconds() {
    let (manager, shards) = manager();
    applied(&manager, vec![job("a")]).await;
    let (out, updates) = mpsc::channel(1);
    let running = Arc::clone(&manager);
    let run = tokio::spawn(async move { running.run(updates).await });
    let start = Instant::now();
    let mut times = Vec::new();
    for n in 0..200 {
        out.send(update(&[("a", &[&format!("x{n}")])])).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        if !shards.told().is_empty() {
            times.push(start.elapsed().as_secs());
        }
    }
    assert_eq!(times, [0, 5, 10, 15]);
    sleep(Duration::from_secs(60)).await;
    shards.told();
    // After a quiet while at once again.
    out.send(update(&[("a", &["new"])])).await.unwrap();
    sleep(Duration::from_millis(100)).await;
    assert_eq!(shards.told(), ["add 0 new", "remove 0"]);
    drop(out);
    timeout(Duration::from_secs(1), run).await.expect("ends with discovery").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_full_mailbox_makes_the_manager_wait() {
    let (manager, shards) = manager();
    applied(&manager, vec![job("a")]).await;
    shards.set_full(true);
    let waiting = Arc::clone(&manager);
    let reload = tokio::spawn(async move { reloaded(&waiting, &[("a", &["x", "y"])]).await });
    sleep(Duration::from_secs(1)).await;
    assert!(!reload.is_finished());
    assert!(shards.0.lock().unwrap().refused > 100);
    shards.set_full(false);
    assert_eq!(reload.await.unwrap(), "+2 -0 ~0");
    assert_eq!(shards.told(), ["pool 0 a", "add 0 x", "add 0 y"]);
}

#[tokio::test(start_paused = true)]
async fn stop_ends_everything_even_when_a_shard_has_died() {
    let (manager, shards) = manager();
    applied(&manager, vec![job("a")]).await;
    let (_out, updates) = mpsc::channel(1);
    let running = Arc::clone(&manager);
    let run = tokio::spawn(async move { running.run(updates).await });
    manager.update_tsets(update(&[("a", &["x"])]));
    shards.set_full(true);
    manager.trigger_reload();
    sleep(Duration::from_secs(1)).await;
    timeout(Duration::from_secs(10), manager.stop()).await.expect("stops");
    timeout(Duration::from_secs(1), run).await.expect("ends").unwrap();
    assert_eq!(shards.told(), [""; 0]);

    let (manager, shards) = self::manager();
    manager.stop().await;
    assert_eq!(shards.told(), ["stop"]);
}

#[tokio::test(start_paused = true)]
async fn statuses_come_from_the_shards_that_answer() {
    let (manager, _) = manager();
    let wanted = [(0, PoolId(1), TargetHash(2)), (1, PoolId(1), TargetHash(3)), (0, PoolId(4), TargetHash(5))];
    let found = movable(manager.statuses(wanted)).await;
    let found: Vec<_> = found.iter().map(|s| (s.pool, s.hash, s.health)).collect();
    assert_eq!(found, [(PoolId(1), TargetHash(2), Health::Up), (PoolId(4), TargetHash(5), Health::Up)]);
}

#[tokio::test]
async fn pages_see_targets_as_they_are() {
    let (manager, _) = manager();
    applied(&manager, vec![job("a")]).await;
    reloaded(&manager, &[("a", &["x:1"])]).await;
    let seen = manager
        .read(|pools| {
            let target = pools["a"].active_targets().next().unwrap();
            let made = target.target();
            let labels = (target.discovered().get("__address__").unwrap().to_owned(), made.spec.labels.to_string());
            (labels, made.url, made.interval, made.timeout)
        })
        .await;
    let labels = ("x:1".to_owned(), "{instance=\"x:1\", job=\"a\"}".to_owned());
    assert_eq!(seen, (labels, "http://x:1/metrics".to_owned(), "15s".into(), "10s".into()));
}

#[tokio::test]
async fn metrics_have_prometheus_names() {
    let (manager, _) = manager();
    let limited = ScrapeConfig { target_limit: 1, ..job("a") };
    applied(&manager, vec![limited, job("b")]).await;
    reloaded(&manager, &[("a", &["x", "y", "bad/"]), ("b", &["z"])]).await;
    applied(&manager, vec![job("a")]).await;
    let mut out = Exposition::default();
    manager.metrics().collect(&mut out);
    let text = out.text();
    for line in [
        "prometheus_target_scrape_pools_total 2",
        "prometheus_target_scrape_pools_failed_total 0",
        "prometheus_target_scrape_pool_reloads_total 1",
        "prometheus_target_scrape_pool_exceeded_target_limit_total 1",
        "prometheus_target_scrape_pool_target_limit{scrape_job=\"a\"} 0",
        "prometheus_target_scrape_pool_targets{scrape_job=\"a\"} 2",
        "prometheus_target_scrape_pool_sync_total{scrape_job=\"a\"} 1",
        "prometheus_target_sync_failed_total{scrape_job=\"a\"} 2",
        "prometheus_target_reload_length_seconds_count{interval=\"15s\"} 1",
        "prometheus_target_sync_length_seconds_count{scrape_job=\"a\"} 1",
    ] {
        assert!(text.lines().any(|l| l == line), "{line} not in\n{text}");
    }
    assert!(!text.contains("scrape_job=\"b\""), "{text}");
    let summaries: BTreeMap<_, _> = manager.metrics().summaries().into_iter().collect();
    let a = summaries["a"];
    assert_eq!((a.active, a.dropped, a.failed), (2, 0, 1));
}

struct Mailboxes(Vec<Outbox<Command>>);

impl Outlet for Mailboxes {
    fn shards(&self) -> usize {
        self.0.len()
    }

    fn post(&mut self, shard: usize, command: Command) -> Result<(), Box<Command>> {
        self.0[shard].post(command).map_err(Box::new)
    }
}

#[tokio::test]
async fn commands_reach_real_mailboxes() {
    let (outboxes, inboxes): (Vec<_>, Vec<_>) = (0..SHARDS).map(|_| mailbox(2).unwrap()).unzip();
    let manager = Arc::new(Manager::new(Options::default(), Box::new(Mailboxes(outboxes))));
    applied(&manager, vec![job("a")]).await;
    let addresses: Vec<String> = (0..50).map(|n| format!("h{n}:1")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    manager.update_tsets(update(&[("a", &addresses)]));
    let reloading = Arc::clone(&manager);
    let reload = tokio::spawn(async move { reloading.reload().await });
    let mut taken = 0;
    while !reload.is_finished() || taken < 50 {
        for inbox in &inboxes {
            while let Some(command) = inbox.take() {
                taken += usize::from(matches!(command, Command::Add { .. }));
            }
        }
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((taken, reload.await.unwrap().added), (50, 50));
}
