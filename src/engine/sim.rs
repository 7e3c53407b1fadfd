//! A network without sockets: virtual time, peers as code, faults from one seed. The same seed gives the same run.
//!
//! A whole appliance runs over it in one thread: time moves only in [`Backend::wait`], straight to the next happening.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::{Backend, Chunk, Close, Conn, Event, Span, Stage, What};
use crate::base::limits::{REAP_TICK_NS, RECV_BUFFER_BYTES};
use crate::base::time::Now;

/// What a peer says to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The connection stands after so many nanoseconds.
    Accept(u64),
    /// It is refused after so many nanoseconds.
    Refuse(u64),
    /// Nothing ever comes back.
    Silence,
}

/// What a peer does in answer to bytes: parts in order, each after a delay from now. A part never overtakes an earlier one.
#[derive(Debug, Default)]
pub struct Answer {
    parts: Vec<(u64, Part)>,
}

impl Answer {
    /// Sends bytes after so many nanoseconds. No bytes are nothing sent.
    pub fn send(&mut self, after_ns: u64, bytes: impl Into<Vec<u8>>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.parts.push((after_ns, Part::Bytes(bytes)));
        }
    }

    /// Closes in order after so many nanoseconds.
    pub fn fin(&mut self, after_ns: u64) {
        self.parts.push((after_ns, Part::Fin));
    }

    /// Resets after so many nanoseconds.
    pub fn reset(&mut self, after_ns: u64) {
        self.parts.push((after_ns, Part::Reset));
    }
}

#[derive(Clone, Debug)]
enum Part {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// Everybody on the other side. Connections are told apart by a number that is never used again.
pub trait SimPeer {
    /// Somebody dials `addr`.
    fn accept(&mut self, connection: u64, addr: SocketAddr, now_mono_ns: u64) -> Verdict;
    /// Bytes arrive at the peer.
    fn bytes(&mut self, connection: u64, now_mono_ns: u64, bytes: &[u8], answer: &mut Answer);
    /// The client closed the connection.
    fn closed(&mut self, connection: u64, now_mono_ns: u64) {
        let _ = (connection, now_mono_ns);
    }
}

/// How often things go wrong on top of what the peers do, in events per million opportunities.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// A dial is refused.
    pub refuse_ppm: u32,
    /// A dial is never answered.
    pub silence_ppm: u32,
    /// An answer is cut at a random byte by a reset.
    pub reset_ppm: u32,
    /// An answer arrives in many random pieces.
    pub split_ppm: u32,
    /// An answer is late by up to `delay_ns_max`.
    pub delay_ppm: u32,
    /// The peer closes after an answer, so that the next request meets a stale connection.
    pub stale_ppm: u32,
    /// See `delay_ppm`.
    pub delay_ns_max: u64,
}

/// How many faults were injected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Injected {
    /// Dials refused or never answered.
    pub dials: u64,
    /// Answers cut by a reset.
    pub resets: u64,
    /// Answers split.
    pub splits: u64,
    /// Answers delayed.
    pub delays: u64,
    /// Connections made stale.
    pub stale: u64,
}

#[derive(Debug, Default)]
struct Line {
    /// Number of the connection; 0 when closed.
    id: u64,
    /// The dial has reached the peer.
    called: bool,
    standing: bool,
    reading: bool,
    /// The peer closed or reset, as far as is known on its side.
    peer_gone: bool,
    request: Vec<u8>,
    inbox: VecDeque<Part>,
    /// No later part may arrive before this.
    last_ns: u64,
}

/// What the client wants, done when the round begins.
#[derive(Clone, Copy, Debug)]
enum Work {
    Dial(SocketAddr),
    Send,
    Reply,
}

#[derive(Debug)]
enum Happening {
    Connect,
    Refuse,
    Arrive(Part),
}

/// The simulated backend.
pub struct Sim<P> {
    peer: P,
    faults: Faults,
    injected: Injected,
    random: u64,
    now: Now,
    lines: Vec<Line>,
    connections: u64,
    /// Connection of the client, its number, what.
    queue: VecDeque<(Conn, u64, Work)>,
    /// What will happen, by time and then by order of arrangement: connection of the client, its number, what.
    agenda: BTreeMap<(u64, u64), (Conn, u64, Happening)>,
    arranged: u64,
    events: VecDeque<(Conn, u64, What)>,
    readable: VecDeque<Conn>,
    buffer: Vec<u8>,
}

impl<P> std::fmt::Debug for Sim<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sim").field("now", &self.now).field("agenda", &self.agenda.len()).finish_non_exhaustive()
    }
}

impl<P: SimPeer> Sim<P> {
    /// A network with this peer behind every address, its faults drawn from `seed`.
    pub fn new(seed: u64, peer: P, faults: Faults) -> Self {
        Self {
            peer,
            faults,
            injected: Injected::default(),
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            now: Now::default(),
            lines: Vec::new(),
            connections: 0,
            queue: VecDeque::new(),
            agenda: BTreeMap::new(),
            arranged: 0,
            events: VecDeque::new(),
            readable: VecDeque::new(),
            buffer: Vec::new(),
        }
    }

    /// The peers.
    pub fn peer(&mut self) -> &mut P {
        &mut self.peer
    }

    /// What has gone wrong so far.
    #[must_use]
    pub fn injected(&self) -> Injected {
        self.injected
    }

    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { (self.draw() >> 11) % n }
    }

    fn strikes(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    fn line(&mut self, conn: Conn) -> &mut Line {
        let at = conn as usize;
        if at >= self.lines.len() {
            self.lines.resize_with(at + 1, Line::default);
        }
        &mut self.lines[at]
    }

    fn arrange(&mut self, at_ns: u64, conn: Conn, happening: Happening) {
        let id = self.lines[conn as usize].id;
        self.arranged += 1;
        self.agenda.insert((at_ns, self.arranged), (conn, id, happening));
    }

    /// Does what was queued, at the round's own time.
    fn work(&mut self) {
        while let Some((conn, id, work)) = self.queue.pop_front() {
            let line = &self.lines[conn as usize];
            match work {
                _ if line.id != id => {}
                Work::Dial(addr) => self.call(conn, addr),
                Work::Send if line.inbox.is_empty() => self.deliver(conn),
                Work::Reply => self.deliver(conn),
                Work::Send => self.events.push_back((conn, id, What::Failed(Stage::Send, libc::EPIPE))),
            }
        }
    }

    /// A dial reaches the peer.
    fn call(&mut self, conn: Conn, addr: SocketAddr) {
        let line = &mut self.lines[conn as usize];
        line.called = true;
        let id = line.id;
        let mut verdict = self.peer.accept(id, addr, self.now.mono_ns);
        if self.strikes(self.faults.refuse_ppm) {
            (verdict, self.injected.dials) = (Verdict::Refuse(0), self.injected.dials + 1);
        } else if self.strikes(self.faults.silence_ppm) {
            (verdict, self.injected.dials) = (Verdict::Silence, self.injected.dials + 1);
        }
        match verdict {
            Verdict::Accept(after) => self.arrange(self.now.mono_ns + after, conn, Happening::Connect),
            Verdict::Refuse(after) => self.arrange(self.now.mono_ns + after, conn, Happening::Refuse),
            Verdict::Silence => {}
        }
    }

    /// Everything that has happened by now.
    fn catch_up(&mut self) {
        while let Some(entry) = self.agenda.first_entry().filter(|e| e.key().0 <= self.now.mono_ns) {
            let (conn, id, happening) = entry.remove();
            self.happen(conn, id, happening);
        }
    }

    /// The request reaches the peer, whose answer is arranged.
    fn deliver(&mut self, conn: Conn) {
        let line = &mut self.lines[conn as usize];
        let (id, request) = (line.id, std::mem::take(&mut line.request));
        self.events.push_back((conn, id, What::Sent));
        if line.peer_gone {
            return;
        }
        let mut answer = Answer::default();
        self.peer.bytes(id, self.now.mono_ns, &request, &mut answer);
        self.lines[conn as usize].request = request;
        self.lines[conn as usize].request.clear();
        self.spoil(&mut answer);
        for (after, part) in answer.parts {
            let line = &mut self.lines[conn as usize];
            line.last_ns = line.last_ns.max(self.now.mono_ns + after);
            let at = line.last_ns;
            self.arrange(at, conn, Happening::Arrive(part));
        }
    }

    /// Lets faults loose on an answer.
    fn spoil(&mut self, answer: &mut Answer) {
        if answer.parts.is_empty() {
            return;
        }
        if self.strikes(self.faults.delay_ppm) {
            let late = self.below(self.faults.delay_ns_max + 1);
            answer.parts.iter_mut().for_each(|(after, _)| *after += late);
            self.injected.delays += 1;
        }
        if self.strikes(self.faults.split_ppm) {
            answer.parts = self.split(std::mem::take(&mut answer.parts));
            self.injected.splits += 1;
        }
        let last = answer.parts.last().map_or(0, |p| p.0);
        if self.strikes(self.faults.reset_ppm) {
            let keep = self.below(answer.parts.len() as u64) as usize;
            let cut = answer.parts[keep].0;
            answer.parts.truncate(keep);
            answer.reset(cut);
            self.injected.resets += 1;
        } else if self.strikes(self.faults.stale_ppm) {
            answer.fin(last + 1);
            self.injected.stale += 1;
        }
    }

    fn split(&mut self, parts: Vec<(u64, Part)>) -> Vec<(u64, Part)> {
        let (mut pieces, mut late) = (Vec::new(), 0);
        for (after, part) in parts {
            let Part::Bytes(mut bytes) = part else {
                pieces.push((after + late, part));
                continue;
            };
            while !bytes.is_empty() {
                let n = 1 + self.below((bytes.len() as u64).min(4000)) as usize;
                let rest = bytes.split_off(n.min(bytes.len()));
                pieces.push((after + late, Part::Bytes(std::mem::replace(&mut bytes, rest))));
                late += self.below(3 * REAP_TICK_NS);
            }
        }
        pieces
    }

    fn happen(&mut self, conn: Conn, id: u64, happening: Happening) {
        let line = &mut self.lines[conn as usize];
        if line.id != id {
            return;
        }
        match happening {
            Happening::Connect => {
                line.standing = true;
                self.events.push_back((conn, id, What::Connected));
                self.deliver(conn);
            }
            Happening::Refuse => {
                self.events.push_back((conn, id, What::Failed(Stage::Dial, libc::ECONNREFUSED)));
            }
            Happening::Arrive(part) => {
                line.peer_gone |= !matches!(part, Part::Bytes(_));
                line.inbox.push_back(part);
                if line.reading {
                    self.readable.push_back(conn);
                }
            }
        }
    }

    /// What a read of this line gives, if anything.
    fn read(&mut self, conn: Conn) -> Option<What> {
        let line = &mut self.lines[conn as usize];
        if !line.reading {
            return None;
        }
        let what = match line.inbox.pop_front()? {
            Part::Fin => {
                line.inbox.push_front(Part::Fin);
                What::Eof
            }
            Part::Reset => What::Failed(Stage::Recv, libc::ECONNRESET),
            Part::Bytes(mut bytes) => {
                if bytes.len() > RECV_BUFFER_BYTES {
                    line.inbox.push_front(Part::Bytes(bytes.split_off(RECV_BUFFER_BYTES)));
                }
                let len = bytes.len() as u32;
                self.buffer = bytes;
                What::Bytes(Chunk { buffer: 0, len })
            }
        };
        line.reading = false;
        Some(what)
    }
}

impl<P: SimPeer> Backend for Sim<P> {
    fn dial(&mut self, conn: Conn, addr: SocketAddr, _: Span, request: &mut Vec<u8>) {
        self.connections += 1;
        let id = self.connections;
        let line = self.line(conn);
        assert!(line.id == 0, "dial on an open connection");
        *line = Line { id, request: std::mem::take(request), ..Line::default() };
        self.queue.push_back((conn, id, Work::Dial(addr)));
    }

    fn send(&mut self, conn: Conn, request: &mut Vec<u8>) {
        let line = self.line(conn);
        assert!(line.id != 0 && line.standing, "send on a closed connection");
        std::mem::swap(&mut line.request, request);
        request.clear();
        let id = line.id;
        self.queue.push_back((conn, id, Work::Send));
    }

    fn reply(&mut self, conn: Conn, bytes: &mut Vec<u8>) {
        let line = self.line(conn);
        assert!(line.id != 0 && line.standing && !line.reading, "reply on a closed or busy connection");
        std::mem::swap(&mut line.request, bytes);
        bytes.clear();
        let id = line.id;
        self.queue.push_back((conn, id, Work::Reply));
    }

    fn recv(&mut self, conn: Conn) {
        let line = self.line(conn);
        assert!(line.id != 0 && !line.reading, "recv on a closed or busy connection");
        line.reading = true;
        self.readable.push_back(conn);
    }

    fn close(&mut self, conn: Conn, _: Close) {
        let line = std::mem::take(self.line(conn));
        if line.called {
            self.peer.closed(line.id, self.now.mono_ns);
        }
    }

    fn part(&mut self, conn: Conn, words: &mut Vec<u8>) {
        let line = self.line(conn);
        if line.standing && !line.peer_gone {
            let id = line.id;
            self.peer.bytes(id, self.now.mono_ns, words, &mut Answer::default());
        }
        words.clear();
        self.close(conn, Close::Fin);
    }

    fn begin(&mut self, now: Now) {
        assert!(now.mono_ns >= self.now.mono_ns, "time never goes back");
        self.now = now;
        self.catch_up();
        self.work();
        self.catch_up();
    }

    fn next(&mut self) -> Option<Event> {
        self.work();
        while let Some((conn, id, what)) = self.events.pop_front() {
            if self.lines[conn as usize].id == id {
                return Some(Event { conn, what });
            }
        }
        while let Some(conn) = self.readable.pop_front() {
            if let Some(what) = self.read(conn) {
                return Some(Event { conn, what });
            }
        }
        None
    }

    fn chunk(&self, chunk: Chunk) -> &[u8] {
        &self.buffer[..chunk.len as usize]
    }

    fn chunk_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        &mut self.buffer[..chunk.len as usize]
    }

    /// Moves time to the next happening, at least one tick on while there is any, at most to `until`. Without either,
    /// time stands still: the caller has nothing to wait for.
    fn wait(&mut self, now: Now, until: Option<u64>, tick_ns: u64) -> Now {
        let happening = self.agenda.first_key_value().map(|(k, _)| k.0.max(now.mono_ns + tick_ns));
        let Some(to) = [happening, until].into_iter().flatten().min() else { return now };
        let to = to.max(now.mono_ns);
        Now { wall_ns: now.wall_ns + (to - now.mono_ns) as i64, mono_ns: to }
    }

    fn clock(&self, now: Now) -> Now {
        now
    }

    /// Nothing wakes a simulation: its driver knows when it posts a message.
    fn watch(&mut self, _: RawFd) {}
}
