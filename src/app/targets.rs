//! Pages of the fleet: targets are chosen by what is at hand, and only those of the page are looked up and relabelled.
//!
//! A page in the order of pools costs the page, however many targets there are. Orders and filters that look at outcomes
//! or texts ask the shards for every target first, and walk over all.

use std::collections::HashMap;
use std::sync::Arc;

use crate::manager::{ActiveTarget, Manager, Pools};
use crate::scrape::{PoolId, TargetHash};
use crate::shard::{self, TargetStatus};
use crate::web::{Health, Page, Pager, Position, Row, Sort, TargetPage, TargetQuery, TargetView};

type Statuses = HashMap<(PoolId, TargetHash), TargetStatus>;

/// A target of the page.
struct Chosen {
    job: Arc<str>,
    shard: usize,
    pool: PoolId,
    hash: TargetHash,
}

/// The page that a query asks for.
pub async fn page(manager: &Manager, query: TargetQuery) -> TargetPage {
    let before = if reads_outcomes(&query) { Some(all_statuses(manager, &query).await) } else { None };
    let chosen = choose(manager, query, before.as_ref()).await;
    let statuses = match before {
        Some(all) => all,
        None => by_target(manager.statuses(chosen.targets.iter().map(|c| (c.shard, c.pool, c.hash))).await),
    };
    let targets = manager
        .read(|pools| {
            let shown = chosen.targets.iter().filter_map(|c| {
                // One that has gone meanwhile is left out.
                let target = pools.get(&c.job)?.active_target(c.hash)?;
                Some(view(&c.job, &target, statuses.get(&(c.pool, c.hash))))
            });
            shown.collect()
        })
        .await;
    Page { targets, next: chosen.next, matched: chosen.matched }
}

fn reads_outcomes(query: &TargetQuery) -> bool {
    query.health.is_some() || query.sort != Sort::Pool || !query.search.is_empty()
}

async fn all_statuses(manager: &Manager, query: &TargetQuery) -> Statuses {
    let listed: Vec<(usize, PoolId, TargetHash)> = manager
        .read(|pools| {
            let of_pools = pools.iter().filter(|(job, _)| query.is_of_pool(job));
            of_pools.flat_map(|(_, p)| p.active_targets().map(move |t| (t.shard(), p.id(), t.hash()))).collect()
        })
        .await;
    by_target(manager.statuses(listed).await)
}

fn by_target(statuses: Vec<TargetStatus>) -> Statuses {
    statuses.into_iter().map(|s| ((s.pool, s.hash), s)).collect()
}

async fn choose(manager: &Manager, query: TargetQuery, statuses: Option<&Statuses>) -> Page<Chosen> {
    let is_place = |p: &Position| p.in_pools().is_some();
    if statuses.is_none() && query.after.as_ref().is_none_or(is_place) {
        return manager.read(|pools| choose_in_order(pools, &query)).await;
    }
    manager
        .read(|pools| {
            let mut pager = Pager::new(query.clone());
            for (job, pool) in pools.iter().filter(|(job, _)| query.is_of_pool(job)) {
                for target in pool.active_targets() {
                    let status = statuses.and_then(|all| all.get(&(pool.id(), target.hash())));
                    pager.offer(&Listed { job, target, status });
                }
            }
            pager.finish()
        })
        .await
}

/// The page of an order that the pools are in.
fn choose_in_order(pools: &Pools, query: &TargetQuery) -> Page<Chosen> {
    let mut page = Page::default();
    let after = query.after.as_ref().and_then(Position::in_pools);
    for (job, pool) in pools.iter().filter(|(job, _)| query.is_of_pool(job)) {
        page.matched += pool.active_count() as u64;
        let from = match after {
            Some((name, _)) if **job < *name => continue,
            Some((name, hash)) if **job == *name => Some(TargetHash(hash)),
            _ => None,
        };
        for target in pool.active_targets_after(from) {
            if page.targets.len() == query.limit {
                let last = page.targets.last();
                page.next = last.map(|c: &Chosen| Position::by_pool(&c.job, c.hash.0));
                break;
            }
            page.targets.push(Listed { job, target, status: None }.view());
        }
    }
    page
}

/// A target before anything of it is made.
struct Listed<'a> {
    job: &'a Arc<str>,
    target: ActiveTarget<'a>,
    status: Option<&'a TargetStatus>,
}

impl Row for Listed<'_> {
    type View = Chosen;

    fn pool(&self) -> &str {
        self.job
    }

    fn hash(&self) -> u64 {
        self.target.hash().0
    }

    fn health(&self) -> Health {
        health(self.status)
    }

    fn last_scrape_ns(&self) -> Option<i64> {
        last_scrape_ns(self.status)
    }

    fn last_duration_ns(&self) -> u64 {
        self.status.map_or(0, |s| s.last_duration_ns)
    }

    fn contains(&self, text: &str) -> bool {
        view(self.job, &self.target, self.status).contains(text)
    }

    fn view(&self) -> Chosen {
        let (shard, pool, hash) = (self.target.shard(), self.target.pool().id(), self.target.hash());
        Chosen { job: Arc::clone(self.job), shard, pool, hash }
    }
}

fn health(status: Option<&TargetStatus>) -> Health {
    match status.map(|s| s.health) {
        Some(shard::Health::Up) => Health::Up,
        Some(shard::Health::Down) => Health::Down,
        Some(shard::Health::Unknown) | None => Health::Unknown,
    }
}

fn last_scrape_ns(status: Option<&TargetStatus>) -> Option<i64> {
    status.filter(|s| s.last_scrape_wall_ms != 0).map(|s| s.last_scrape_wall_ms * 1_000_000)
}

fn view(job: &str, target: &ActiveTarget<'_>, status: Option<&TargetStatus>) -> TargetView {
    let made = target.target();
    TargetView {
        pool: job.to_owned(),
        hash: target.hash().0,
        discovered_labels: target.discovered(),
        labels: made.spec.labels,
        scrape_url: made.url,
        last_error: status.map(|s| s.last_error.clone()).unwrap_or_default(),
        last_scrape_ns: last_scrape_ns(status),
        last_duration_ns: status.map_or(0, |s| s.last_duration_ns),
        health: health(status),
        interval: made.interval.into(),
        timeout: made.timeout.into(),
    }
}
