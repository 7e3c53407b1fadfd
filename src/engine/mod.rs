//! The floor that talks to the kernel: connections by number, work queued, completions reaped.
//!
//! [`Backend`] is the trait, chosen at compile time: [`Uring`] (direct descriptors, several rings a thread), [`Epoll`]
//! (the same behaviour with real descriptors) and [`Sim`] (virtual time, seeded faults, no sockets).
//! Invariants: one connection per number at a time; nothing is armed on an idle connection; what a closed connection
//! still had under way is never reported; a [`Chunk`] is valid until the next [`Backend::next`].
//! Absent on purpose: HTTP, deadlines, retries, which connections to keep ([`crate::net`]); accepting connections.

mod buffers;
mod epoll;
mod layers;
mod ring;
mod sim;
mod sleep;
mod sock;
mod spares;
mod uring;

pub(crate) use buffers::Pages;
pub use epoll::Epoll;
pub use layers::{Layer, layers};
pub use sim::{Answer, Faults, Injected, Sim, SimPeer, Verdict};
pub(crate) use sleep::Sleeper;
pub use uring::{Refusal, Uring, UringOptions};

use std::net::SocketAddr;
use std::os::fd::RawFd;

use crate::base::time::Now;

/// Which connection: the token of the target, so that nothing needs a look-up.
pub type Conn = u32;

/// Received bytes, as a place in the backend's buffers.
#[derive(Clone, Copy, Debug)]
pub struct Chunk {
    buffer: u16,
    len: u32,
}

impl Chunk {
    /// Whether the buffer was filled to its end, so that more bytes are likely waiting.
    #[must_use]
    pub fn full(self) -> bool {
        self.len as usize == crate::base::limits::RECV_BUFFER_BYTES
    }
}

/// What an operation was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Making the socket or connecting.
    Dial,
    /// Sending the request.
    Send,
    /// Receiving.
    Recv,
}

/// What happened on a connection.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// The connection stands.
    Connected,
    /// The whole request was taken by the kernel.
    Sent,
    /// Bytes arrived; answers one [`Backend::recv`].
    Bytes(Chunk),
    /// The peer closed its side; answers one [`Backend::recv`].
    Eof,
    /// An operation failed with this errno. The connection is dead and must be closed.
    Failed(Stage, i32),
}

/// One completion.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// The connection.
    pub conn: Conn,
    /// What happened on it.
    pub what: What,
}

/// How a connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// Orderly. (The kernel resets by itself where unread bytes are waiting.)
    Fin,
    /// At once, forgetting what is under way; the peer gets a reset, no TIME_WAIT remains.
    Reset,
}

/// How long a connection is meant to live; a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    /// Beyond its first exchange.
    Kept,
    /// One exchange long. Its socket may serve others later: where the peer has closed first, an orderly end is answered with a
    /// reset, which leaves no TIME_WAIT there.
    Once,
}

/// Sockets by number. Queues work in [`Backend::dial`], [`Backend::send`], [`Backend::recv`], [`Backend::close`];
/// [`Backend::begin`] and [`Backend::next`] do it and say what came of it; [`Backend::wait`] sleeps.
pub trait Backend {
    /// Connects and sends: `Connected`, `Sent`, or `Failed`. The request is taken; another empty buffer is left.
    fn dial(&mut self, conn: Conn, addr: SocketAddr, span: Span, request: &mut Vec<u8>);
    /// Sends on an idle connection: `Sent` or `Failed`. A connection that the peer has closed meanwhile, or that holds
    /// bytes nobody asked for, fails with EPIPE: those bytes must not be taken for the answer. The request is taken;
    /// another empty buffer is left.
    fn send(&mut self, conn: Conn, request: &mut Vec<u8>);
    /// Sends on a connection whose exchange is under way and that nobody reads or sends on now: `Sent` or `Failed`. What
    /// the peer has sent meanwhile stays for the next read. The bytes are taken; another empty buffer is left.
    fn reply(&mut self, conn: Conn, bytes: &mut Vec<u8>);
    /// Receives once: `Bytes`, `Eof` or `Failed`. At most one at a time per connection.
    fn recv(&mut self, conn: Conn);
    /// Closes; no event follows. Whatever was under way is cancelled.
    fn close(&mut self, conn: Conn, how: Close);
    /// Closes in order with last words, which are sent as far as there is room at once. Otherwise as [`Backend::close`]; the
    /// bytes are taken and another empty buffer is left.
    fn part(&mut self, conn: Conn, words: &mut Vec<u8>);
    /// Starts a round: queued work is given to the kernel from here on. Never blocks.
    fn begin(&mut self, now: Now);
    /// The next event of this round; `None` ends it. Never blocks.
    fn next(&mut self) -> Option<Event>;
    /// The connection of the event that comes so many events later in this round, if that is known and brings bytes: its state
    /// can be asked for meanwhile.
    fn upcoming(&self, ahead: usize) -> Option<Conn> {
        let _ = ahead;
        None
    }
    /// The bytes of the event that [`Backend::next`] gave last.
    fn chunk(&self, chunk: Chunk) -> &[u8];
    /// The same, to be changed in place.
    fn chunk_mut(&mut self, chunk: Chunk) -> &mut [u8];
    /// Sleeps until something may have happened, a watched descriptor is readable, or `until` (monotonic ns). While
    /// operations are under way it wakes at most once per `tick_ns`. Returns the time.
    fn wait(&mut self, now: Now, until: Option<u64>, tick_ns: u64) -> Now;
    /// Something is asked of this connection soon.
    fn prefetch(&self, conn: Conn) {
        let _ = conn;
    }
    /// The time, after work that did not wait.
    fn clock(&self, now: Now) -> Now;
    /// A descriptor whose readability ends [`Backend::wait`]. Its owner empties it.
    fn watch(&mut self, fd: RawFd);
}
