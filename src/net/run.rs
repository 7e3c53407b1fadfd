//! The turn: jobs taken up, events fed through HTTP, deadlines expired.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use super::deadlines::Deadlines;
use super::idle::Idle;
use super::pace::Pace;
use super::peers::{Kept, LongPeers};
use super::sealed::Sealed;
use super::{
    Arrival, ConnectPolicy, Dial, Dialled, Job, Link, NetError, Outcome, Permission, Phase, Phases, Sink, Steps,
};
use crate::base::limits::{EVICT_IDLE, KEEPALIVE_IDLE_NS, REREADS_PER_TURN};
use crate::base::prefetch::prefetch;
use crate::base::time::Now;
use crate::engine::{Backend, Chunk, Close, Event, Span, What};
use crate::http::{Ending, Flow, HttpError, Progress, Receiver, Response, ResponseHead};

const NONE: u32 = u32::MAX;

/// What is known of a token between jobs.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// Peer of the kept connection.
    kept: Kept,
    /// The job in flight, or [`NONE`].
    flight: u32,
}

/// A job that has not ended.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) job: Job,
    pub(super) phases: Phases,
    pub(super) response: Response,
    /// Tells this job from earlier ones in the same place.
    pub(super) serial: u32,
    cancelled: bool,
    /// The connection is open or being opened.
    pub(super) open: bool,
    /// The request was handed to the backend; over TLS that is after the handshake.
    pub(super) asked: bool,
}

/// Runs jobs on a backend. See the front page of [`crate::net`].
pub struct Net<B: Backend> {
    pub(super) backend: B,
    targets: Vec<Target>,
    long_peers: LongPeers,
    pub(super) flights: Vec<Flight>,
    free: Vec<u32>,
    serial: u32,
    deadlines: Deadlines,
    idle: Idle,
    /// Jobs that had no turn yet: flight and serial.
    starting: VecDeque<(u32, u32)>,
    cancelled: Vec<u32>,
    /// First reads, in order: token and serial.
    first_reads: VecDeque<(u32, u32)>,
    /// Reads of answers that have begun.
    more_reads: VecDeque<(u32, u32)>,
    /// When the queued reads are due.
    reads_at_ns: u64,
    pub(super) pace: Pace,
    rereads: u32,
    /// Descriptors freed in this round and not used again yet.
    room: usize,
    pub(super) scratch: Vec<u8>,
    /// TLS sessions.
    pub(super) sealed: Sealed,
    expired: Vec<u32>,
    policy: Option<Box<dyn ConnectPolicy>>,
}

impl<B: Backend> std::fmt::Debug for Net<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net")
            .field("in_flight", &self.in_flight())
            .field("idle", &self.idle.len())
            .finish_non_exhaustive()
    }
}

impl<B: Backend> Net<B> {
    /// A front for `backend` without jobs.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            targets: Vec::new(),
            long_peers: LongPeers::default(),
            flights: Vec::new(),
            free: Vec::new(),
            serial: 0,
            deadlines: Deadlines::default(),
            idle: Idle::default(),
            starting: VecDeque::new(),
            cancelled: Vec::new(),
            first_reads: VecDeque::new(),
            more_reads: VecDeque::new(),
            reads_at_ns: 0,
            pace: Pace::default(),
            rereads: 0,
            room: 0,
            scratch: Vec::new(),
            sealed: Sealed::default(),
            expired: Vec::new(),
            policy: None,
        }
    }

    /// Asks `policy` before every connect from now on.
    pub fn set_policy(&mut self, policy: Box<dyn ConnectPolicy>) {
        self.policy = Some(policy);
    }

    /// A descriptor whose readability ends a turn's wait. Its owner empties it, or the next wait ends at once.
    pub fn watch(&mut self, fd: RawFd) {
        self.backend.watch(fd);
    }

    /// Jobs that have not ended.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.flights.len() - self.free.len()
    }

    /// Kept connections that wait for a job.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.idle.len()
    }

    /// The backend, for what only one kind of it offers.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// A job for this token comes soon.
    pub fn prefetch(&self, token: u32) {
        if let Some(target) = self.targets.get(token as usize) {
            prefetch(target);
        }
        self.idle.prefetch(token);
        self.backend.prefetch(token);
    }

    /// Takes a job; the next turn runs it. Asserts that the token has none.
    pub fn start(&mut self, job: Job) {
        let at = job.token as usize;
        if at >= self.targets.len() {
            self.targets.resize(at + 1, Target { kept: Kept::Nothing, flight: NONE });
        }
        assert!(self.targets[at].flight == NONE, "one job per token at a time");
        self.serial = self.serial.wrapping_add(1);
        let flight = match self.free.pop() {
            Some(flight) => flight,
            None => {
                self.flights.push(Flight {
                    job,
                    phases: Phases::default(),
                    response: Response::default(),
                    serial: 0,
                    cancelled: false,
                    open: false,
                    asked: false,
                });
                self.flights.len() as u32 - 1
            }
        };
        let f = &mut self.flights[flight as usize];
        f.response.reset();
        (f.job, f.phases, f.serial) = (job, Phases::default(), self.serial);
        (f.cancelled, f.open, f.asked) = (false, false, false);
        self.targets[at].flight = flight;
        self.starting.push_back((flight, self.serial));
    }

    /// Ends the token's job, if it has one, in the next turn with [`NetError::Cancelled`].
    pub fn cancel(&mut self, token: u32) {
        let Some(flight) = self.flight_of(token) else { return };
        self.flights[flight as usize].cancelled = true;
        self.cancelled.push(token);
    }

    /// Closes the token's idle connection, if it has one.
    pub fn forget(&mut self, token: u32) {
        if self.idle.remove(token) {
            self.targets[token as usize].kept = Kept::Nothing;
            self.close(token, Close::Fin);
        }
    }

    /// Runs what was started, waits until something happens, a watched descriptor is readable, or `wake_at_mono_ns`,
    /// and takes what came. Returns the time now. A turn that found work does not wait.
    pub fn turn(&mut self, now: Now, wake_at_mono_ns: Option<u64>, sink: &mut impl Sink) -> Now {
        let mut now = now;
        self.issue(now, sink);
        if self.reap(now, sink) == 0 {
            let until = self.wake_at(wake_at_mono_ns);
            let is_waiting = until.is_none_or(|u| u > now.mono_ns);
            now = if is_waiting { self.backend.wait(now, until, self.pace.tick_ns()) } else { self.backend.clock(now) };
            self.issue(now, sink);
            self.reap(now, sink);
        } else {
            now = self.backend.clock(now);
        }
        self.expire(now, sink);
        now
    }

    /// The earliest of everything that wants a turn.
    fn wake_at(&self, asked: Option<u64>) -> Option<u64> {
        let reads = (!self.first_reads.is_empty() || !self.more_reads.is_empty()).then_some(self.reads_at_ns);
        let idle = self.idle.oldest().map(|(_, since)| since + KEEPALIVE_IDLE_NS);
        [asked, reads, idle, self.deadlines.next_ns()].into_iter().flatten().min()
    }

    /// Closes the token's connection and ends its session.
    fn close(&mut self, token: u32, how: Close) {
        self.scratch.clear();
        self.sealed.end(token, how, &mut self.scratch);
        if self.scratch.is_empty() {
            self.backend.close(token, how)
        } else {
            self.backend.part(token, &mut self.scratch)
        }
    }

    pub(super) fn flight_of(&self, token: u32) -> Option<u32> {
        self.targets.get(token as usize).map(|t| t.flight).filter(|f| *f != NONE)
    }

    /// Queues everything that is due for the backend.
    fn issue(&mut self, now: Now, sink: &mut impl Sink) {
        while let Some(token) = self.cancelled.pop() {
            if let Some(flight) = self.flight_of(token).filter(|f| self.flights[*f as usize].cancelled) {
                self.fail(flight, NetError::Cancelled, now, sink);
            }
        }
        while let Some((token, _)) = self.idle.oldest().filter(|(_, s)| s + KEEPALIVE_IDLE_NS <= now.mono_ns) {
            self.forget(token);
        }
        if now.mono_ns >= self.reads_at_ns {
            self.issue_reads(now, sink);
        }
        while let Some((flight, serial)) = self.starting.pop_front() {
            // A job cancelled before its first turn has left its place, maybe to another.
            let Flight { job, serial: current, .. } = &self.flights[flight as usize];
            if *current == serial && self.flight_of(job.token) == Some(flight) {
                self.take_up(flight, now, sink);
            }
        }
    }

    fn issue_reads(&mut self, now: Now, sink: &mut impl Sink) {
        for _ in 0..self.more_reads.len() {
            let Some(read) = self.more_reads.pop_front() else { break };
            if !self.read(read, sink) {
                self.reads_at_ns = now.mono_ns + self.pace.tick_ns();
                self.more_reads.push_back(read);
            }
        }
        for _ in 0..self.first_reads.len() {
            let Some(read) = self.first_reads.pop_front() else { break };
            if sink.admits(read.0, Arrival::Beginning) {
                self.read(read, sink);
            } else if self.current(read).is_some() {
                self.reads_at_ns = now.mono_ns + self.pace.tick_ns();
                self.first_reads.push_back(read);
            }
        }
    }

    /// Reads once, unless the job is over; false when the answer has begun and must wait. What precedes an answer is read
    /// whatever the sink says: the peer has a deadline of its own.
    fn read(&mut self, read: (u32, u32), sink: &mut impl Sink) -> bool {
        let Some(flight) = self.current(read) else { return true };
        if flight.response.begun() && !sink.admits(read.0, Arrival::Going) {
            return false;
        }
        self.backend.recv(read.0);
        true
    }

    fn current(&self, (token, serial): (u32, u32)) -> Option<&Flight> {
        self.flight_of(token).map(|f| &self.flights[f as usize]).filter(|f| f.serial == serial)
    }

    /// The first turn of a job: on the kept connection, or a dial.
    fn take_up(&mut self, flight: u32, now: Now, sink: &mut impl Sink) {
        let f = &mut self.flights[flight as usize];
        f.phases.started = now.mono_ns.max(1);
        let Job { token, addr, link, tls, dial, deadline_mono_ns } = f.job;
        if deadline_mono_ns <= now.mono_ns {
            return self.fail(flight, NetError::DeadlineExceeded(Phase::Connect), now, sink);
        }
        self.deadlines.set(flight, deadline_mono_ns);
        let is_kept = self.long_peers.is(token, self.targets[token as usize].kept, addr);
        if link == Link::Keep && is_kept && self.sealed.fits(token, tls) {
            self.idle.remove(token);
            let f = &mut self.flights[flight as usize];
            (f.open, f.asked, f.phases.dialled) = (true, true, Dialled::Before);
            self.scratch.clear();
            sink.request(token, &mut self.scratch);
            if tls.is_some() {
                return self.send_sealed(flight, now, sink);
            }
            return self.backend.send(token, &mut self.scratch);
        }
        self.forget(token);
        if let Dial::Until(at) = dial
            && at < deadline_mono_ns
        {
            self.deadlines.clear(flight);
            self.deadlines.set(flight, at);
        }
        self.dial(flight, now, sink);
    }

    fn dial(&mut self, flight: u32, now: Now, sink: &mut impl Sink) {
        let job = self.flights[flight as usize].job;
        let Job { token, addr, .. } = job;
        if job.dial == Dial::Never {
            return self.fail(flight, NetError::NotKept, now, sink);
        }
        let permission = self.policy.as_mut().map(|p| p.permission(token, &addr));
        if let Some(Permission::Deny(reason)) = permission {
            return self.fail(flight, NetError::Blocked(reason), now, sink);
        }
        if job.tls.is_some() {
            return self.dial_sealed(flight, now, sink);
        }
        let f = &mut self.flights[flight as usize];
        (f.open, f.asked) = (true, true);
        self.scratch.clear();
        sink.request(token, &mut self.scratch);
        let span = if job.link == Link::Fresh { Span::Once } else { Span::Kept };
        self.backend.dial(token, addr, span, &mut self.scratch);
    }

    /// Takes all events of a round; how many there were.
    fn reap(&mut self, now: Now, sink: &mut impl Sink) -> usize {
        (self.rereads, self.room) = (0, 0);
        self.backend.begin(now);
        let mut events = 0;
        while let Some(event) = self.backend.next() {
            events += 1;
            self.prefetch_answers(sink);
            self.take(event, now, sink);
        }
        events
    }

    /// While targets are many, what is kept of one has left the cache between its request and its answer: it comes back while
    /// the answers before it are worked on.
    fn prefetch_answers(&self, sink: &impl Sink) {
        for (steps, at) in [(Steps::One, 1), (Steps::Two, 3), (Steps::Three, 5)] {
            let Some(token) = self.backend.upcoming(at) else { continue };
            match steps {
                Steps::Three => {
                    self.backend.prefetch(token);
                    self.targets.get(token as usize).inspect(|t| prefetch(*t));
                }
                Steps::Two => {
                    self.flight_of(token).inspect(|&f| prefetch(&self.flights[f as usize]));
                }
                Steps::One => {}
            }
            sink.prefetch(token, steps);
        }
    }

    fn take(&mut self, event: Event, now: Now, sink: &mut impl Sink) {
        let Some(flight) = self.flight_of(event.conn) else { return };
        let f = &mut self.flights[flight as usize];
        match event.what {
            What::Connected => {
                f.phases.connected = now.mono_ns;
                let Job { dial, deadline_mono_ns, .. } = f.job;
                if matches!(dial, Dial::Until(at) if at < deadline_mono_ns) {
                    self.deadlines.clear(flight);
                    self.deadlines.set(flight, deadline_mono_ns);
                }
            }
            // Over TLS.
            What::Sent if !f.asked || f.response.begun() => {
                let read = (event.conn, f.serial);
                self.read_later(read, now);
            }
            What::Sent => {
                f.phases.sent = now.mono_ns;
                let read = (event.conn, f.serial);
                if self.first_reads.is_empty() && self.more_reads.is_empty() {
                    self.reads_at_ns = now.mono_ns + self.pace.tick_ns();
                }
                self.first_reads.push_back(read);
            }
            What::Bytes(chunk) if f.job.tls.is_some() => self.take_sealed(flight, chunk, now, sink),
            What::Bytes(chunk) => self.take_bytes(flight, chunk, now, sink),
            What::Eof if f.job.tls.is_some() => self.take_sealed_eof(flight, now, sink),
            What::Eof => match f.response.eof() {
                Ok(()) => self.end(flight, Outcome::Done, Ending::Close, now, sink),
                Err(HttpError::Eof) => self.retry_or(flight, NetError::Response(HttpError::Eof), now, sink),
                Err(e) => self.fail(flight, NetError::Response(e), now, sink),
            },
            What::Failed(stage, errno) => {
                let error = NetError::from_errno(stage, errno, f.response.begun());
                if error == NetError::NoDescriptors && self.evict() {
                    self.close(event.conn, Close::Reset);
                    return self.dial(flight, now, sink);
                }
                self.retry_or(flight, error, now, sink);
            }
        }
    }

    fn take_bytes(&mut self, flight: u32, chunk: Chunk, now: Now, sink: &mut impl Sink) {
        let f = &mut self.flights[flight as usize];
        let token = f.job.token;
        if !f.response.begun() {
            f.phases.first_byte = now.mono_ns;
            self.pace.answered(now.mono_ns.saturating_sub(f.phases.sent));
        }
        let bytes = self.backend.chunk(chunk);
        f.phases.wire_bytes += bytes.len() as u64;
        match f.response.feed(bytes, &mut Relay { token, sink }) {
            Ok(Progress::More) => {
                let serial = f.serial;
                self.read_on((token, serial), chunk, now, sink);
            }
            Ok(Progress::Done(ending)) => self.end(flight, Outcome::Done, ending, now, sink),
            Ok(Progress::Stopped) => self.stop(flight, now, sink),
            Err(e) => self.fail(flight, NetError::Response(e), now, sink),
        }
    }

    /// Reads again: at once where the last buffer was full, else at the next tick.
    pub(super) fn read_on(&mut self, read: (u32, u32), chunk: Chunk, now: Now, sink: &mut impl Sink) {
        if chunk.full() && self.rereads < REREADS_PER_TURN && self.read(read, sink) {
            self.rereads += 1;
            return;
        }
        if self.first_reads.is_empty() && self.more_reads.is_empty() {
            self.reads_at_ns = if chunk.full() { now.mono_ns } else { now.mono_ns + self.pace.tick_ns() };
        }
        self.more_reads.push_back(read);
    }

    /// Reads at the next tick.
    pub(super) fn read_later(&mut self, read: (u32, u32), now: Now) {
        if self.first_reads.is_empty() && self.more_reads.is_empty() {
            self.reads_at_ns = now.mono_ns + self.pace.tick_ns();
        }
        self.more_reads.push_back(read);
    }

    /// Dials once more where a kept connection failed before the first byte; else the job fails.
    pub(super) fn retry_or(&mut self, flight: u32, error: NetError, now: Now, sink: &mut impl Sink) {
        let f = &mut self.flights[flight as usize];
        if f.phases.dialled != Dialled::Before || f.response.begun() {
            return self.fail(flight, error, now, sink);
        }
        f.phases.dialled = Dialled::Again;
        (f.phases.sent, f.asked) = (0, false);
        let token = f.job.token;
        self.targets[token as usize].kept = Kept::Nothing;
        self.close(token, Close::Reset);
        self.dial(flight, now, sink);
    }

    /// Makes room for one more connection by giving up the longest idle ones; false when there is none.
    fn evict(&mut self) -> bool {
        while let Some((token, _)) = self.idle.oldest().filter(|_| self.room < EVICT_IDLE) {
            self.forget(token);
            self.room += 1;
        }
        let found = self.room > 0;
        self.room = self.room.saturating_sub(1);
        found
    }

    pub(super) fn fail(&mut self, flight: u32, error: NetError, now: Now, sink: &mut impl Sink) {
        self.leave(flight, |net, token| net.close(token, Close::Reset));
        self.report(flight, |phases| Outcome::Failed(error, phases), now, sink);
    }

    pub(super) fn end(
        &mut self,
        flight: u32,
        outcome: impl FnOnce(Phases) -> Outcome,
        ending: Ending,
        now: Now,
        sink: &mut impl Sink,
    ) {
        let Job { token, addr, link, .. } = self.flights[flight as usize].job;
        if ending == Ending::Keep && link == Link::Keep {
            self.leave(flight, |_, _| {});
            self.targets[token as usize].kept = self.long_peers.keep(token, addr);
            self.idle.push(token, now.mono_ns);
        } else {
            self.leave(flight, |net, token| net.close(token, Close::Fin));
        }
        self.report(flight, outcome, now, sink);
    }

    /// The sink wants no more of an answer, of which more is on its way.
    pub(super) fn stop(&mut self, flight: u32, now: Now, sink: &mut impl Sink) {
        self.leave(flight, |net, token| net.close(token, Close::Reset));
        self.report(flight, Outcome::Stopped, now, sink);
    }

    /// Takes the job off its token; `part` deals with the connection.
    fn leave(&mut self, flight: u32, part: impl FnOnce(&mut Self, u32)) {
        let f = &mut self.flights[flight as usize];
        let token = f.job.token;
        let target = &mut self.targets[token as usize];
        target.flight = NONE;
        self.deadlines.clear(flight);
        if f.open {
            f.open = false;
            target.kept = Kept::Nothing;
            part(self, token);
        }
    }

    /// Says the end and frees the place.
    fn report(&mut self, flight: u32, outcome: impl FnOnce(Phases) -> Outcome, now: Now, sink: &mut impl Sink) {
        let f = &mut self.flights[flight as usize];
        f.phases.last_byte = now.mono_ns;
        let (token, phases) = (f.job.token, f.phases);
        self.free.push(flight);
        sink.end(token, outcome(phases));
    }

    fn expire(&mut self, now: Now, sink: &mut impl Sink) {
        let mut expired = std::mem::take(&mut self.expired);
        self.deadlines.expire(now.mono_ns, &mut expired);
        for flight in expired.drain(..) {
            let f = &self.flights[flight as usize];
            let phase = match f.phases {
                _ if f.response.begun() => Phase::Receive,
                Phases { sent: 1.., .. } => Phase::Wait,
                Phases { connected: 1.., .. } if !f.asked => Phase::Handshake,
                Phases { connected: 1.., .. } | Phases { dialled: Dialled::Before, .. } => Phase::Send,
                _ => Phase::Connect,
            };
            self.fail(flight, NetError::DeadlineExceeded(phase), now, sink);
        }
        self.expired = expired;
    }
}

/// Puts the token in front of what the response machine says.
pub(super) struct Relay<'a, S> {
    pub(super) token: u32,
    pub(super) sink: &'a mut S,
}

impl<S: Sink> Receiver for Relay<'_, S> {
    fn head(&mut self, head: &ResponseHead<'_>) -> Flow {
        self.sink.head(self.token, head)
    }

    fn bytes(&mut self, chunk: &[u8]) -> Flow {
        self.sink.bytes(self.token, chunk)
    }
}
