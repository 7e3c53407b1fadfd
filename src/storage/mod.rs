//! Stores: the journal.

pub mod journal;
