//! The scrape itself: pools, targets, loops, schedule, report series, limits, staleness.

mod go_url;
pub mod redirect;
pub mod schedule;
mod spec;
pub mod target;
#[cfg(test)]
mod target_tests;

pub use spec::{Host, PoolId, PoolSpec, TargetHash, TargetSpec};
