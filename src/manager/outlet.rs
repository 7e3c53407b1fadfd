//! The way to the shards.

use crate::shard::Command;

/// Takes commands for shards without blocking.
pub trait Outlet: Send {
    /// Number of shards, at least 1; never changes.
    fn shards(&self) -> usize;

    /// CPU time that a shard's thread has used, as of about a second ago, nanoseconds; 0 where nobody measures it.
    fn cpu_ns(&self, shard: usize) -> u64 {
        let _ = shard;
        0
    }

    /// Whether a shard has room for targets of others, and its journal no fault; yes where nobody knows.
    fn may_take(&self, shard: usize) -> bool {
        let _ = shard;
        true
    }

    /// Posts a command.
    ///
    /// # Errors
    /// Gives it back when the shard's mailbox is full; the manager waits a moment and tries again.
    fn post(&mut self, shard: usize, command: Command) -> Result<(), Box<Command>>;
}
