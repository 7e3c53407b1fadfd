//! A target that goes from shard to shard gives what one that stays gives.

use proptest::prelude::*;

use super::series_tests::{Pair, any_change, any_config, any_line, change, family, stale_sets};
use super::{KeptCache, PassedOn, PoolSeries, Portrait, ScrapeTime, Store};
use crate::config::ScrapeConfig;
use crate::model::{IdentityHasher, Labels};

/// What a shard has for one job.
struct Side {
    store: Store,
    pool: PoolSeries,
}

fn sides(config: &ScrapeConfig) -> [Side; 2] {
    [1, 2].map(|seed| {
        let mut store = Store::new(IdentityHasher::new(seed, 2));
        (store.steady_scrapes, store.rest_bytes_min) = (1, 0);
        Side { store, pool: PoolSeries::new(config).unwrap() }
    })
}

fn labels(instance: &str) -> Labels {
    Labels::from_pairs([("instance", instance), ("job", "j")])
}

/// On the other side, as a new target that takes the portrait.
fn arrived(side: &mut Side, portrait: &Portrait, now_ms: i64) -> KeptCache {
    let mut fresh = KeptCache::new(&side.pool, &labels("h:1"));
    assert!(fresh.recall(&mut side.store, &side.pool, portrait, now_ms), "there is room");
    fresh
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_scrape_on_either_side_gives_what_the_reference_gives(
        config in any_config(),
        lines in prop::collection::vec(any_line(), 0..20),
        members in prop::sample::select(vec![0usize, 3, 200]),
        changes in prop::collection::vec((any_change(), 0..3i64, 0..4usize, any::<bool>()), 1..12),
        has_neighbours in any::<bool>(),
    ) {
        let mut sides = sides(&config);
        // With bodies that differ in what the targets call themselves, which makes variables of that.
        let mut neighbours = [0, 1].map(|at: usize| Pair::new(&sides[at].pool, &config, &labels("h:2")));
        let mut target = Pair::new(&sides[0].pool, &config, &labels("h:1"));
        let mut lines = lines;
        lines.extend(family(members));
        let (mut at, mut time_ms) = (0, 1_000);
        for (what, step, repeats, goes) in changes {
            let bytes = change(&mut lines, what);
            let body = |node: &str| lines.concat().replace("NODE", node).into_bytes();
            let (body, others) = (body("n-17"), body("n-18"));
            for _ in 0..=repeats {
                time_ms += step * 700;
                let time = ScrapeTime { time_ms, now_ms: time_ms };
                let Side { store, pool } = &mut sides[at];
                if repeats > 1 {
                    pool.guess.take();
                } else if has_neighbours {
                    neighbours[at].scrape(store, pool, &others, &[100], time);
                }
                target.scrape(store, pool, &body[..body.len().min(bytes)], &[100], time);
            }
            if let Some(portrait) = target.fast.portrait().filter(|_| goes) {
                at = 1 - at;
                target.fast = arrived(&mut sides[at], &portrait, time_ms);
                prop_assert_eq!(target.fast.portrait(), Some(portrait), "it can go on at once");
            }
        }
        let ended = target.fast.open(|c| c.end_of_run(&sides[at].store, &PassedOn::default()));
        prop_assert_eq!(stale_sets(&ended), target.naive.end_of_run());
    }
}

#[test]
fn only_what_a_body_tells_goes() {
    let config = ScrapeConfig { honor_timestamps: true, ..ScrapeConfig::default() };
    let mut sides = sides(&config);
    let mut target = Pair::new(&sides[0].pool, &config, &labels("h:1"));
    let mut may_go = Vec::new();
    for (i, body) in ["a 1\nb 2\n", "a 1\n", "a 1\n", "a 1\n", "", "a 1\n", "a 1 5000\n", "a 1\nb\n"].iter().enumerate()
    {
        let time_ms = 1_000 * (i as i64 + 1);
        let Side { store, pool } = &mut sides[0];
        target.scrape(store, pool, body.as_bytes(), &[100], ScrapeTime { time_ms, now_ms: time_ms });
        may_go.push(target.fast.portrait().is_some());
    }
    assert_eq!(
        may_go,
        [true, true, true, true, false, true, false, false],
        "not after an empty body, a time, an error"
    );
}
