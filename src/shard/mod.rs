//! One core: commands in, reports out.
//!
//! [`Shard`] is the thread's loop, thin on purpose; [`Slice`] owns what it works on: its slice of every scrape pool,
//! the series store, the schedule, the journal's writer. Invariants: nothing in a slice is shared with another thread;
//! every wait is in one place, [`Shard::turn`]. Absent on purpose: sockets (`net`), files (the disk thread), names and
//! credential files ([`names`], [`errands`]).

mod command;
mod conclude;
mod dial;
pub mod errands;
mod handover;
mod inflating;
mod intervals;
mod look_ups;
pub mod names;
mod questions;
mod roster;
mod run;
#[cfg(any(test, feature = "sim"))]
pub mod sabotage;
mod security;
mod sink;
mod slice;
mod stages;
pub mod stats;
mod writing;

pub use command::{
    Command, HandOver, Health, MetadataRequest, MetadataScope, StatusRequest, TargetMetadata, TargetStatus,
};
pub use handover::{Candidate, Handover, Weights};
pub use run::{Message, Shard};
pub use slice::{Parts, Slice};
