//! TLS without sockets: what a peer sent goes in, what to send and what it said come out.
//!
//! [`Session`] is the client's side of one connection, over rustls, which nobody else in the room sees. [`Client`] is what
//! the sessions of a job share: its `tls_config` made ready, with the store of sessions that can be resumed. [`Fault`]
//! says what was wrong, [`TlsError`] which setting cannot be used. [`client_config`] is for those who bring their own
//! sockets. Invariants: records are decrypted where they lie, and only one that straddles two reads is copied first, into
//! a pooled buffer; a session that failed never yields another byte. Absent on purpose: sockets, deadlines, TLS below 1.2.

mod fault;
mod roots;
mod session;
#[cfg(test)]
mod session_tests;
mod settings;
#[cfg(test)]
pub(crate) mod test_server;
mod verifier;
mod x509;

pub use fault::{Fault, NamedFault};
pub use session::{Parting, Scratch, Session};
pub use settings::{Client, Material, TlsError, check, client_config, server_name, unused_config};
