//! Stores: the journal, and what reads it besides remote write.
//!
//! Look for [`journal::Writer`], [`journal::Disk`], [`journal::Reader`]; [`export::open_metrics`] and
//! [`inspect::inspect`] are what the command line calls. Absent on purpose: blocks, queries.

pub mod export;
pub mod inspect;
pub mod journal;
