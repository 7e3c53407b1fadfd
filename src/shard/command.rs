//! What the control thread tells a shard, and asks it.

use tokio::sync::oneshot;

pub use crate::scrape::scrape_loop::Health;
use crate::scrape::{PoolId, PoolSpec, TargetHash, TargetSpec};

/// One order. Orders of one sender arrive in the order they were sent.
///
/// Within one update all [`Command::Add`]s come before all [`Command::Remove`]s, so a successor of equal public labels,
/// which is placed on the same shard, is known before its predecessor goes.
#[derive(Debug)]
pub enum Command {
    /// Inserts the pool, or replaces its configuration and forced error; targets stay.
    Pool(PoolSpec),
    /// Stops all loops of the pool and forgets it, without end-of-run markers: Prometheus writes none for a removed
    /// job.
    RemovePool(PoolId),
    /// Starts a loop. The hash is not among the pool's targets on this shard.
    Add {
        /// An inserted pool.
        pool: PoolId,
        /// What to scrape.
        target: Box<TargetSpec>,
    },
    /// Stops a loop, with end-of-run markers for series that no successor carries on.
    Remove {
        /// Its pool.
        pool: PoolId,
        /// Which target.
        hash: TargetHash,
    },
    /// Asks for the last outcomes.
    Status(StatusRequest),
    /// Ends the shard: loops stop without markers.
    Stop,
}

/// A question about targets of one shard. Unknown targets are left out of the reply.
#[derive(Debug)]
pub struct StatusRequest {
    /// Which targets.
    pub targets: Vec<(PoolId, TargetHash)>,
    /// Sending never blocks; when the asker has gone the reply is dropped.
    pub reply: oneshot::Sender<Vec<TargetStatus>>,
}

/// Outcome of a target's last scrape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetStatus {
    /// Its pool.
    pub pool: PoolId,
    /// Which target.
    pub hash: TargetHash,
    /// Empty after a success and before the first scrape.
    pub last_error: String,
    /// Start of the last scrape, wall clock, milliseconds; 0 before the first.
    pub last_scrape_wall_ms: i64,
    /// Of the last scrape, nanoseconds.
    pub last_duration_ns: u64,
    /// Verdict.
    pub health: Health,
}
