//! The scrape itself: pools, targets, loops, schedule, report series, limits, staleness.

mod spec;

pub use spec::{Host, PoolId, PoolSpec, TargetHash, TargetSpec};
