//! HTTP exchanges over kept or fresh connections, driven by one turn at a time.
//!
//! [`Net`] runs [`Job`]s (one exchange each) on a [`crate::engine::Backend`] and tells a [`Sink`] what came; [`Outcome`]
//! says how each job ended and [`Phases`] when. Invariants: [`Sink::end`] exactly once per job, nothing after it; no
//! chunk outlives [`Sink::bytes`]; a kept connection that turns out to be stale is replaced once, within the same
//! deadline; only [`Net::turn`] enters the kernel. All deadlines are kept here, none by the kernel.
//! Jobs that are [`Secured`] run over [`tls`], between the bytes of the backend and the HTTP machine; others pay a branch.
//! Absent on purpose: names (addresses come resolved), redirects, content encodings, schedules.

mod deadlines;
mod error;
mod idle;
mod pace;
mod peers;
mod run;
#[cfg(test)]
mod run_tests;
mod sealed;
#[cfg(test)]
mod sealed_tests;
#[cfg(test)]
mod sim_tests;
#[cfg(test)]
mod test_rig;
pub mod tls;

pub use crate::http::{Ending, Flow, Framing, HttpError, ResponseHead};
pub use error::{NetError, Phase};
pub use run::Net;

use std::net::SocketAddr;
use std::num::NonZeroU32;

/// What happens to the connection after the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Use the target's kept connection if there is one; keep it afterwards if the peer allows.
    Keep,
    /// Dial for this job, close afterwards.
    Fresh,
}

/// Names the TLS settings that a connection was made with: a kept one is used only under the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secured(pub NonZeroU32);

/// What a job does where no kept connection serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dial {
    /// Dials; the connection must stand by then, monotonic ns.
    Until(u64),
    /// Fails with [`NetError::NotKept`], before anything was received: the address is not to be dialled again unasked.
    Never,
}

/// One exchange to run.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Index of the target in the shard; stable. One job per token at a time.
    pub token: u32,
    /// Where to connect.
    pub addr: SocketAddr,
    /// Kept or fresh connection.
    pub link: Link,
    /// Over TLS, with the session that [`Sink::session`] makes.
    pub tls: Option<Secured>,
    /// Without a kept connection.
    pub dial: Dial,
    /// When the job fails if it has not ended, monotonic ns.
    pub deadline_mono_ns: u64,
}

impl Job {
    /// Without TLS, free to dial until its deadline.
    #[must_use]
    pub fn plain(token: u32, addr: SocketAddr, link: Link, deadline_mono_ns: u64) -> Self {
        Self { token, addr, link, tls: None, dial: Dial::Until(deadline_mono_ns), deadline_mono_ns }
    }
}

/// Whether the job ran on a kept connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialled {
    /// A connection was made for it.
    #[default]
    Now,
    /// It used the kept one.
    Before,
    /// The kept one was stale, so one was made after all.
    Again,
}

/// When what happened to a job: monotonic ns with the resolution of a tick; 0 where it did not happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Phases {
    /// The turn that took the job up.
    pub started: u64,
    /// The connection stood. 0 on a kept connection.
    pub connected: u64,
    /// The TLS handshake was over. 0 without TLS and on a kept connection.
    pub secured: u64,
    /// The kernel had the whole request.
    pub sent: u64,
    /// The first byte of the answer was here.
    pub first_byte: u64,
    /// The last byte, or the failure, was here.
    pub last_byte: u64,
    /// Bytes received, head and chunk framing included.
    pub wire_bytes: u64,
    /// Which connection served.
    pub dialled: Dialled,
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole response was received.
    Done(Phases),
    /// The sink said [`Flow::Stop`]; the connection was closed.
    Stopped(Phases),
    /// It failed.
    Failed(NetError, Phases),
}

/// How much of an answer was here when more of it is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Nothing.
    Beginning,
    /// Something.
    Going,
}

/// How far away an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steps {
    /// Where its state stands may be asked for.
    Three,
    /// That is here: the state itself may be asked for.
    Two,
    /// That is here too: what it points to.
    One,
}

/// Takes what the jobs bring. Implemented by the shard.
pub trait Sink {
    /// Writes the request of a job. Asked right before it is sent; asked again when a stale connection is replaced.
    fn request(&mut self, token: u32, out: &mut Vec<u8>);
    /// A session for a job that is [`Secured`]. Asked right before its connection is dialled.
    ///
    /// # Errors
    /// Ends the job.
    fn session(&mut self, token: u32) -> Result<tls::Session, tls::Fault> {
        let _ = token;
        Err(tls::Fault::NotConfigured)
    }
    /// The head of the final response, before its body.
    fn head(&mut self, token: u32, head: &ResponseHead<'_>) -> Flow;
    /// A non-empty piece of the body: de-chunked, still content-encoded, valid during the call.
    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow;
    /// Bytes for this token come soon, the more so the fewer `steps`: a time to ask for what [`Sink::bytes`] will need.
    fn prefetch(&self, token: u32, steps: Steps) {
        let _ = (token, steps);
    }
    /// The job is over. Exactly once per job; the token may be started again (from outside the turn).
    fn end(&mut self, token: u32, outcome: Outcome);
    /// Whether more of an answer may arrive now. Asked before each read of it; where false, the read waits and is asked for
    /// again a tick later.
    fn admits(&mut self, token: u32, arrival: Arrival) -> bool {
        let _ = (token, arrival);
        true
    }
}

/// What a [`ConnectPolicy`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Go ahead.
    Allow,
    /// The job fails with [`NetError::Blocked`] and this reason.
    Deny(&'static str),
}

/// Asked before every connect.
pub trait ConnectPolicy {
    /// May this target connect there?
    fn permission(&mut self, token: u32, addr: &SocketAddr) -> Permission;
}
