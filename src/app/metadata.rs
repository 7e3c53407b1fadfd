//! Metadata for the API: which targets are asked, and rows from what their shards answer.

use std::collections::{BTreeSet, HashMap};

use crate::manager::{Manager, MetadataWish};
use crate::model::Labels;
use crate::scrape::{PoolId, TargetHash};
use crate::series::Metadata;
use crate::shard::MetadataScope as Scope;
use crate::web::{MetadataQuery, MetadataRow, MetadataScope, Selector};

/// Rows in the order of pools and targets; distinct ones sorted. Like Prometheus, a limit ends before a target, never
/// within its list. prometheus: web/api/v1/api.go, targetMetadata.
pub async fn rows(manager: &Manager, query: MetadataQuery) -> Vec<MetadataRow> {
    let is_any = query.targets == Selector::default();
    let listed: Vec<(usize, PoolId, TargetHash)> = manager
        .read(|pools| {
            let targets = pools.iter().flat_map(|(_, p)| p.active_targets().map(move |t| (p.id(), t)));
            let wanted = targets.filter(|(_, t)| is_any || query.targets.matches(&t.target().spec.labels));
            wanted.map(|(pool, t)| (t.shard(), pool, t.hash())).collect()
        })
        .await;
    let scope = match query.scope {
        MetadataScope::PerTarget => Scope::PerTarget,
        MetadataScope::Distinct => Scope::Distinct,
    };
    let wish = MetadataWish { metric: query.metric, scope, rows_max: query.count_max };
    let found = manager.metadata(listed, wish).await;
    if scope == Scope::Distinct {
        let all: BTreeSet<MetadataRow> =
            found.into_iter().flat_map(|t| t.families).map(|m| row(m, &Labels::default())).collect();
        return all.into_iter().take(query.count_max).collect();
    }
    let mut by_target: HashMap<(PoolId, TargetHash), Vec<Metadata>> =
        found.into_iter().map(|t| ((t.pool, t.hash), t.families)).collect();
    manager
        .read(|pools| {
            let mut rows = Vec::new();
            for (_, pool) in pools {
                for target in pool.active_targets() {
                    if rows.len() >= query.count_max {
                        return rows;
                    }
                    let Some(families) = by_target.remove(&(pool.id(), target.hash())) else { continue };
                    let labels = target.target().spec.labels;
                    rows.extend(families.into_iter().map(|m| row(m, &labels)));
                }
            }
            rows
        })
        .await
}

/// The text format has no units.
fn row(m: Metadata, target: &Labels) -> MetadataRow {
    MetadataRow { metric: m.family, kind: m.kind.to_owned(), help: m.help, unit: String::new(), target: target.clone() }
}
