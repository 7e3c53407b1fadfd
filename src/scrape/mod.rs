//! The scrape itself: pools, targets, loops, schedule, report series, limits, staleness.

pub mod redirect;
pub mod schedule;
mod spec;

pub use spec::{Host, PoolId, PoolSpec, TargetHash, TargetSpec};
