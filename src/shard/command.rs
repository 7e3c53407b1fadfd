//! What the control thread tells a shard, and asks it.

use tokio::sync::oneshot;

pub use crate::scrape::scrape_loop::Health;
use crate::scrape::{PoolId, PoolSpec, TargetHash, TargetSpec};
use crate::series::Metadata;
use crate::shard::handover::{Handover, Weights};

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
    /// Gives a target up for another shard, if it can go now.
    HandOver(HandOver),
    /// Goes on with a target that another shard has given up.
    TakeOver {
        /// An inserted pool.
        pool: PoolId,
        /// What to scrape.
        target: Box<TargetSpec>,
        /// What the other shard knew.
        handover: Box<Handover>,
        /// Told when the target is in its place.
        done: oneshot::Sender<()>,
    },
    /// Asks what targets cost. See [`StatusRequest::reply`].
    Weigh(oneshot::Sender<Weights>),
    /// Asks for the last outcomes.
    Status(StatusRequest),
    /// Asks for the families that targets exposed.
    Metadata(MetadataRequest),
    /// Ends the shard: loops stop without markers.
    Stop,
}

/// A wish to have a target on another shard.
#[derive(Debug)]
pub struct HandOver {
    /// Its pool.
    pub pool: PoolId,
    /// Which target.
    pub hash: TargetHash,
    /// `None`: it stays. Whoever asks waits for the answer: a target that was given up is nobody's until another shard has it.
    pub reply: oneshot::Sender<Option<Box<Handover>>>,
}

/// A question about targets of one shard. Unknown targets are left out of the reply.
#[derive(Debug)]
pub struct StatusRequest {
    /// Which targets.
    pub targets: Vec<(PoolId, TargetHash)>,
    /// Sending never blocks; when the asker has gone the reply is dropped.
    pub reply: oneshot::Sender<Vec<TargetStatus>>,
}

/// A question about families of one shard's targets. Targets without any are left out of the reply.
#[derive(Debug)]
pub struct MetadataRequest {
    /// Which targets, in the order of the reply.
    pub targets: Vec<(PoolId, TargetHash)>,
    /// Of this family only.
    pub metric: Option<String>,
    /// Whether targets of equal layout are wanted one by one.
    pub scope: MetadataScope,
    /// No further target is read once there are so many families.
    pub rows_max: usize,
    /// See [`StatusRequest::reply`].
    pub reply: oneshot::Sender<Vec<TargetMetadata>>,
}

/// Whether the same families of two targets are wanted twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataScope {
    /// Yes.
    PerTarget,
    /// No: of targets with one layout only the first answers.
    Distinct,
}

/// Families of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetMetadata {
    /// Its pool.
    pub pool: PoolId,
    /// Which target.
    pub hash: TargetHash,
    /// In body order, never empty.
    pub families: Vec<Metadata>,
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
