//! The way to the shards.

use crate::base::mailbox::Outbox;
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

/// The shards' mailboxes, by shard number.
#[derive(Debug)]
pub struct Mailboxes(Vec<Outbox<Command>>);

impl Mailboxes {
    /// One for each shard.
    ///
    /// # Panics
    /// Without any.
    #[must_use]
    pub fn new(outboxes: Vec<Outbox<Command>>) -> Self {
        assert!(!outboxes.is_empty(), "there is at least one shard");
        Self(outboxes)
    }
}

impl Outlet for Mailboxes {
    fn shards(&self) -> usize {
        self.0.len()
    }

    fn post(&mut self, shard: usize, command: Command) -> Result<(), Box<Command>> {
        self.0[shard].post(command).map_err(Box::new)
    }
}
