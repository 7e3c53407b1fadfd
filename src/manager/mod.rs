//! The scrape manager: configuration and target groups in, shard commands out.
//!
//! [`Manager`] has the names of Prometheus's (`run`, `update_tsets`, `reloader`, `trigger_reload`, `apply_config`,
//! `stop`, `jitter_seed`); a [`ScrapePool`] keeps one job's groups with what each entry became, and its targets.
//!
//! Invariants: an entry is relabelled again only when it, its group's labels or its job changed; a target is on the
//! shard that its public labels name ([`Placement`]), so a successor of equal labels meets its predecessor; a shard that needs
//! much more than others gives some targets away, a few at a time, and nothing of that shows in their samples; within one
//! update all `Add`s are sent before all `Remove`s; a full mailbox makes the manager wait, never a shard.
//! Deliberately absent: what the shards make of the commands, and copies of what can be computed again (labels and URLs of
//! targets are made anew from the entries when a page asks).

mod alignment;
mod balance;
mod diff;
mod exchange;
mod metrics;
mod outcomes;
mod outlet;
mod placement;
mod pool;
mod scrape_manager;
mod seed;

#[cfg(test)]
mod manager_tests;
#[cfg(test)]
mod pool_tests;

pub use diff::ReloadDiff;
pub use exchange::{CommandSender, Synced};
pub use metrics::{ManagerMetrics, PoolSummary};
pub use outlet::Outlet;
pub use placement::Placement;
pub use pool::{ActiveTarget, FailedEntry, ScrapePool};
pub use scrape_manager::{Manager, ManagerError, MetadataWish, Options, Pools};
pub use seed::{fqdn, jitter_seed};
