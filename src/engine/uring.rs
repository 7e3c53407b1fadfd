//! Connections over several io_urings: direct descriptors, so that RLIMIT_NOFILE limits one ring and not the process.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::buffers::{Pool, Requests};
use super::ring::{Before, Ring};
use super::sleep::Sleeper;
use super::{Backend, Chunk, Close, Conn, Event, Span, Stage, What, sock};
use crate::base::limits::{RING_CONNECTIONS, RING_SPARES};
use crate::base::mailbox::Waker;
use crate::base::time::Now;

/// Why the ring cannot be used, and which layer said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `io_uring_setup` failed with this errno.
    Setup(i32),
    /// A table of so many slots was refused with this errno.
    SlotTable(u32, i32),
    /// The list of receive buffers was refused with this errno.
    BufferRing(i32),
    /// The kernel has io_uring, but not this part of it.
    Missing(&'static str),
    /// The receive buffers could not be mapped, or no eventfd could be had.
    Memory(i32),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let os = |errno: i32| std::io::Error::from_raw_os_error(errno);
        match *self {
            Self::Setup(libc::EPERM) => {
                let sysctl = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
                match sysctl.trim() {
                    "1" | "2" => {
                        write!(f, "io_uring_setup: refused by sysctl kernel.io_uring_disabled={}", sysctl.trim())
                    }
                    _ => f.write_str("io_uring_setup: refused, probably by a seccomp profile (Docker's default does)"),
                }
            }
            Self::Setup(libc::ENOSYS) => f.write_str("io_uring_setup: this kernel has no io_uring"),
            Self::Setup(libc::EINVAL) => f.write_str("io_uring_setup: this kernel is older than 6.1"),
            Self::Setup(libc::ENOMEM) => f.write_str("io_uring_setup: out of memory, or RLIMIT_MEMLOCK is too small"),
            Self::Setup(errno) => write!(f, "io_uring_setup: {}", os(errno)),
            Self::SlotTable(slots, libc::EMFILE) => {
                write!(f, "io_uring slot table of {slots}: larger than RLIMIT_NOFILE")
            }
            Self::SlotTable(slots, errno) => write!(f, "io_uring slot table of {slots}: {}", os(errno)),
            Self::BufferRing(libc::ENOMEM) => f.write_str("io_uring buffer ring: RLIMIT_MEMLOCK is too small"),
            Self::BufferRing(errno) => write!(f, "io_uring buffer ring: {}", os(errno)),
            Self::Missing(part) => write!(f, "io_uring: this kernel lacks {part}"),
            Self::Memory(errno) => write!(f, "receive buffers or eventfd: {}", os(errno)),
        }
    }
}

impl std::error::Error for Refusal {}

impl Refusal {
    fn errno(self) -> i32 {
        match self {
            Self::Setup(e) | Self::SlotTable(_, e) | Self::BufferRing(e) | Self::Memory(e) => e,
            Self::Missing(_) => libc::ENOSYS,
        }
    }
}

/// What of the ring is used.
#[derive(Clone, Copy, Debug)]
pub struct UringOptions {
    /// Connections per ring, at most; cut to RLIMIT_NOFILE.
    pub connections_per_ring: u32,
    /// Completions are worked on only when this thread asks (`DEFER_TASKRUN`).
    pub defer_taskrun: bool,
    /// The kernel says in shared memory when it has completions (`TASKRUN_FLAG`), so that a ring which only waits is
    /// not entered.
    pub taskrun_flag: bool,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self { connections_per_ring: RING_CONNECTIONS, defer_taskrun: true, taskrun_flag: true }
    }
}

/// The io_uring backend. Built and used on one thread: a ring belongs to the thread that made it.
#[derive(Debug)]
pub struct Uring {
    // Rings go first: dropping one waits for whatever still points into the buffers.
    rings: Vec<Option<Box<Ring>>>,
    pool: Pool,
    requests: Requests,
    options: UringOptions,
    per_ring: u32,
    /// Places for spare sockets in each ring.
    spares: u16,
    /// Rings of this round, and which of them is being emptied. Only then is the next one entered: all of them list the same
    /// buffers, and the kernel fills them when it is entered.
    round: Vec<usize>,
    at: usize,
    /// The ring that was entered while waiting, and brought something: the next round begins with it.
    first: Option<usize>,
    /// Failures that no ring reports.
    refused: VecDeque<Event>,
    sleeper: Sleeper,
    /// Rung by any ring that has completions while this thread sleeps.
    bell: Waker,
}

impl Uring {
    /// A backend with its first ring built, so that a host which refuses says so here.
    ///
    /// # Errors
    /// [`Refusal`] says which layer refused.
    pub fn new(options: UringOptions) -> Result<Self, Refusal> {
        let limit = u32::try_from(sock::descriptors_max()).unwrap_or(u32::MAX);
        let per_ring = options.connections_per_ring.min(limit).max(1);
        let pool = Pool::new().map_err(Refusal::Memory)?;
        let bell = Waker::new().map_err(|e| Refusal::Memory(e.raw_os_error().unwrap_or(libc::EIO)))?;
        let spares = u16::try_from(limit - per_ring).unwrap_or(RING_SPARES).min(RING_SPARES);
        let first = Ring::new((per_ring, spares), options, &pool, &bell)?;
        Ok(Self {
            rings: vec![Some(Box::new(first))],
            pool,
            requests: Requests::default(),
            options,
            per_ring,
            spares,
            round: Vec::new(),
            at: 0,
            first: None,
            refused: VecDeque::new(),
            sleeper: Sleeper::default(),
            bell,
        })
    }

    /// Whether this host lets a process use the ring.
    ///
    /// # Errors
    /// [`Refusal`] says which layer refused.
    pub fn probe() -> Result<(), Refusal> {
        Self::new(UringOptions::default()).map(drop)
    }

    fn place(&self, conn: Conn) -> (usize, u32) {
        ((conn / self.per_ring) as usize, conn % self.per_ring)
    }

    fn ring(&mut self, conn: Conn) -> Option<(&mut Ring, u32)> {
        let (ring, slot) = self.place(conn);
        self.rings.get_mut(ring)?.as_deref_mut().map(|r| (r, slot))
    }

    /// The ring of a connection, made now if it is the first there.
    fn made_ring(&mut self, conn: Conn) -> Result<(&mut Ring, u32), Refusal> {
        let (at, slot) = self.place(conn);
        if at >= self.rings.len() {
            self.rings.resize_with(at + 1, || None);
        }
        let ring = match self.rings[at].take() {
            Some(ring) => ring,
            None => Box::new(Ring::new((self.per_ring, self.spares), self.options, &self.pool, &self.bell)?),
        };
        Ok((self.rings[at].insert(ring), slot))
    }
}

impl Backend for Uring {
    fn dial(&mut self, conn: Conn, addr: SocketAddr, span: Span, request: &mut Vec<u8>) {
        let kept = self.requests.keep(request);
        match self.made_ring(conn) {
            Ok((ring, slot)) => ring.dial(slot, addr, span, kept),
            Err(refusal) => {
                self.requests.free(kept);
                // Closing connections frees no descriptor here, so the errno must not ask for it.
                let errno = if refusal.errno() == libc::EMFILE { libc::ENOBUFS } else { refusal.errno() };
                self.refused.push_back(Event { conn, what: What::Failed(Stage::Dial, errno) });
            }
        }
    }

    fn send(&mut self, conn: Conn, request: &mut Vec<u8>) {
        let kept = self.requests.keep(request);
        let (ring, slot) = self.ring(conn).expect("send on a connection that was dialled");
        ring.send(slot, kept, Before::Peek);
    }

    fn reply(&mut self, conn: Conn, bytes: &mut Vec<u8>) {
        let kept = self.requests.keep(bytes);
        let (ring, slot) = self.ring(conn).expect("reply on a connection that was dialled");
        ring.send(slot, kept, Before::Nothing);
    }

    fn recv(&mut self, conn: Conn) {
        let (ring, slot) = self.ring(conn).expect("recv on a connection that was dialled");
        ring.recv(slot);
    }

    fn close(&mut self, conn: Conn, how: Close) {
        if let Some((ring, slot)) = self.ring(conn) {
            ring.close(slot, how);
        }
    }

    fn part(&mut self, conn: Conn, words: &mut Vec<u8>) {
        let kept = self.requests.keep(words);
        let parted = self.ring(conn).is_some_and(|(ring, slot)| ring.part(slot, kept));
        if !parted {
            self.requests.free(kept);
        }
    }

    fn begin(&mut self, _: Now) {
        self.round.clear();
        self.at = 0;
        for (i, ring) in self.rings.iter_mut().enumerate() {
            if ring.as_mut().is_some_and(|r| r.begin()) {
                self.round.push(i);
            }
        }
        if let Some(at) = self.first.take().and_then(|first| self.round.iter().position(|&i| i == first)) {
            self.round.swap(0, at);
        }
    }

    fn next(&mut self) -> Option<Event> {
        if let Some(event) = self.refused.pop_front() {
            return Some(event);
        }
        while let Some(&at) = self.round.get(self.at) {
            let ring = self.rings[at].as_mut().expect("a ring of the round");
            if let Some((slot, what)) = ring.pop(&mut self.requests) {
                return Some(Event { conn: at as u32 * self.per_ring + slot, what });
            }
            if !ring.advance(&self.pool, &mut self.requests) {
                self.at += 1;
            }
        }
        None
    }

    fn upcoming(&self, ahead: usize) -> Option<Conn> {
        let at = *self.round.get(self.at)?;
        let slot = self.rings[at].as_ref()?.upcoming(ahead)?;
        Some(at as u32 * self.per_ring + slot)
    }

    fn chunk(&self, chunk: Chunk) -> &[u8] {
        self.pool.bytes(chunk)
    }

    fn chunk_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        self.pool.bytes_mut(chunk)
    }

    fn wait(&mut self, now: Now, until: Option<u64>, tick_ns: u64) -> Now {
        if !self.rings.iter().flatten().any(|r| r.busy()) {
            return self.sleeper.readable(now, until);
        }
        let (after, more) = Sleeper::tick(now, until, tick_ns);
        if !more {
            return after;
        }
        // Only while nothing is there at a tick do the rings signal the bell, so a busy shard never pays for it.
        let busy = self.rings.iter_mut().enumerate().filter_map(|(i, r)| Some((i, r.as_mut().filter(|r| r.busy())?)));
        self.first = busy.into_iter().find_map(|(i, ring)| ring.listen().then_some(i));
        let quiet = self.first.is_none();
        let woken = if quiet { self.sleeper.readable_or(self.bell.fd(), after, until) } else { after };
        for ring in self.rings.iter_mut().flatten().filter(|r| r.busy()) {
            ring.unlisten();
        }
        if quiet {
            self.bell.clear();
        }
        woken
    }

    fn prefetch(&self, conn: Conn) {
        let (ring, slot) = self.place(conn);
        if let Some(Some(ring)) = self.rings.get(ring) {
            ring.prefetch(slot);
        }
    }

    fn clock(&self, _: Now) -> Now {
        Now::read()
    }

    fn watch(&mut self, fd: RawFd) {
        self.sleeper.watch(fd);
    }
}

#[cfg(test)]
#[path = "uring_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "spares_tests.rs"]
mod spares_tests;
