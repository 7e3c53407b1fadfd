//! Layouts that rest: when they do, what wakes them, and what the journal sees of it.

use std::collections::HashSet;

use super::naive::Pairs;
use super::series_tests::{Rig, label_sets, stale_sets};
use super::{KeptCache, PoolSeries, ScrapeTime, Scraped};
use crate::config::ScrapeConfig;
use crate::model::{Labels, Shape};

#[test]
fn a_layout_that_one_target_has_rests_until_its_body_changes() {
    let mut rig = Rig::new(usize::MAX);
    let (mut a, mut b) = (rig.target("a:1"), rig.target("b:1"));
    let body = |of: &str, i: usize| format!("member{{n=\"{i}\",of=\"{of}{i}\"}} {i}\n");
    let all = |of: &str| (0..600).map(|i| body(of, i)).collect::<String>();
    let keys = |s: &Shape| s.schemas().iter().map(|s| s.key()).collect::<HashSet<_>>();
    let shape = |s: &Scraped| (s.shape.key, keys(&s.shape));
    let first = shape(&rig.scrape(&mut a, &all("a")));
    rig.scrape(&mut b, &all("b"));
    let open = rig.store.stats().bytes;
    for _ in 0..4 {
        let again = rig.scrape(&mut a, &all("a"));
        assert_eq!((shape(&again), again.tallies.series_added, again.stale.len()), (first.clone(), 0, 0));
        rig.scrape(&mut b, &all("b"));
    }
    let stats = rig.store.stats();
    assert_eq!(stats.resting, 1, "the other one is the pool's guess for new targets");
    assert!(stats.bytes < open * 2 / 3, "{} of {open} bytes", stats.bytes);
    // One line is another one: the journal sees one new schema.
    let changed = rig.scrape(&mut a, &all("a").replace("of=\"a500\"", "of=\"changed\""));
    assert_eq!((rig.store.stats().resting, changed.tallies.series_added, changed.stale[0].slots.len()), (0, 1, 1));
    assert!(keys(&changed.shape).difference(&first.1).count() <= 2);
    assert_eq!(changed.stale[0].shape.key, first.0);
}

#[test]
fn rules_that_change_under_a_body_at_rest_bind_its_own_texts() {
    let mut rig = Rig::new(usize::MAX);
    let mut targets = ["a", "b", "c"].map(|of| (of, rig.target(of)));
    let body =
        |of: &str| (0..40).map(|i| format!("member{{n=\"{i}\",of=\"{of}{i}\",job=\"own\"}} {i}\n")).collect::<String>();
    for _ in 0..5 {
        for (of, target) in &mut targets {
            rig.scrape(target, &body(of));
        }
    }
    assert_eq!(rig.store.stats().resting, 2);
    let config = ScrapeConfig { honor_labels: true, ..ScrapeConfig::default() };
    let changed = PoolSeries::new(&config).unwrap();
    rig.time_ms += 1000;
    let time = ScrapeTime { time_ms: rig.time_ms, now_ms: rig.time_ms };
    // The bodies are on their way when the rules change.
    for (of, target) in &mut targets {
        let mut parse = rig.store.begin(&rig.pool, target);
        target.adopt(&changed, &Labels::from_pairs([("instance", *of), ("job", "j")]));
        parse.feed(body(of).as_bytes());
        let scraped = target.finish(&mut rig.store, &changed, parse, time);
        let sets = label_sets(&scraped.shape, &scraped.variables);
        let label = |set: &Pairs, name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| v.clone());
        for (i, set) in sets.iter().take(40).enumerate() {
            assert_eq!((label(set, "of"), label(set, "job")), (Some(format!("{of}{i}")), Some("own".to_owned())));
        }
        // What was bound under the rules of before has ended.
        assert_eq!(stale_sets(&scraped.stale).iter().filter(|set| label(set, "exported_job").is_some()).count(), 40);
    }
}

#[test]
fn what_is_kept_of_a_target_between_scrapes_holds_no_second_handle() {
    let mut rig = Rig::new(usize::MAX);
    let mut kept = KeptCache::new(&rig.pool, &Labels::from_pairs([("instance", "a:1"), ("job", "j")]));
    let body: String = (0..40).map(|i| format!("member{{n=\"{i}\",of=\"a{i}\"}} {i}\n")).collect();
    for _ in 0..5 {
        kept.open(|c| rig.scrape(c, &body));
        rig.pool.guess.take();
    }
    assert_eq!(rig.store.stats().resting, 1);
    let metadata = kept.look(|c| c.metadata());
    assert!(metadata.is_empty(), "{metadata:?}");
    kept.open(|c| rig.scrape(c, "a 1\n"));
    assert_eq!(rig.store.stats().resting, 0);
}
