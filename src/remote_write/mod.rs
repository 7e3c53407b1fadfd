//! Remote write: from the journal to every configured destination, at least once, in order per series.
//!
//! [`Remote`] owns one thread per destination. Each reads the journal ([`Spool`]), makes compressed pieces of events
//! ([`encoder`]), joins them to requests in lanes and delivers those. [`encoder`] stands alone: another dialect is
//! another encoder. The journal is the only queue: a dead receiver costs nothing but disk, and nobody else waits for it.
//! Absent on purpose: queues of samples in memory, metadata requests, exemplars.

mod answer;
mod delivery;
mod direct;
pub mod encoder;
mod endpoint;
mod fragment;
mod lanes;
mod load;
mod prepared;
mod remote;
mod request;
pub mod rewrite;
mod sender;
mod source;
mod stats;
mod templates;

#[cfg(test)]
mod encoder_tests;
#[cfg(test)]
mod remote_tests;
#[cfg(test)]
mod test_receiver;
#[cfg(test)]
mod test_spool;
#[cfg(test)]
mod test_wire;

pub use crate::net::tls::TlsError;
pub use endpoint::EndpointError;
pub use remote::{DestinationStatus, Remote, RemoteError};
pub use source::{JournalSpool, Positions, Spool, Tail};
pub use stats::{Rejection, Trouble};
