//! The way to the shards.

use crate::shard::Command;

/// Takes commands for shards without blocking.
pub trait Outlet: Send {
    /// Number of shards, at least 1; never changes.
    fn shards(&self) -> usize;

    /// Posts a command.
    ///
    /// # Errors
    /// Gives it back when the shard's mailbox is full; the manager waits a moment and tries again.
    fn post(&mut self, shard: usize, command: Command) -> Result<(), Box<Command>>;
}
