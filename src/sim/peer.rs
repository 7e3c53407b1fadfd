//! The machines: everybody on the other side of the simulated network, and the clock that both sides go by.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Random;
use super::scene::{Fate, Scene, Wrapping};
use super::script::Script;
use super::timeline::SECOND;
use crate::base::time::Now;
use crate::engine::{Answer, Backend, Chunk, Close, Conn, Event, Faults, Sim, SimPeer, Verdict};

/// How long after the deadline a late answer comes: longer than any pause, after which an answer that is there counts.
const LATE_NS: u64 = 10 * SECOND;

/// A request that reached a machine, or somebody who dialled one: which life, when.
pub type Starts = Rc<RefCell<Vec<(usize, u64)>>>;

#[derive(Debug)]
struct Line {
    address: SocketAddr,
    requests: u32,
}

/// All machines.
#[derive(Debug)]
pub struct Machines {
    script: Rc<Script>,
    lines: HashMap<u64, Line>,
    starts: Starts,
}

impl Machines {
    fn scene(&self, life: usize, t: u64) -> Scene {
        let life = &self.script.lives[life];
        let (interval, wall) = (life.spec.interval_ns, self.script.timeline.wall_ns(t));
        let due = (wall - life.phase_ns).div_euclid(interval) * interval + life.phase_ns;
        Scene::new(&self.script, life, due)
    }
}

impl SimPeer for Machines {
    fn accept(&mut self, connection: u64, address: SocketAddr, t: u64) -> Verdict {
        let Some(life) = self.script.life_dialled(address, t) else { return Verdict::Refuse(0) };
        self.starts.borrow_mut().push((life, t));
        let scene = self.scene(life, t);
        self.lines.insert(connection, Line { address, requests: 0 });
        match scene.fate {
            Fate::Refused => Verdict::Refuse(1 + scene.seed % 2_000_000),
            Fate::Silent => Verdict::Silence,
            _ => Verdict::Accept(1 + scene.seed % 5_000_000),
        }
    }

    fn bytes(&mut self, connection: u64, t: u64, bytes: &[u8], answer: &mut Answer) {
        let Some(line) = self.lines.get_mut(&connection) else { return };
        line.requests += 1;
        let (address, is_first) = (line.address, line.requests == 1);
        let request = String::from_utf8_lossy(bytes);
        let path = request.split(' ').nth(1).unwrap_or_default();
        let Some(life) = self.script.life_at(address, path) else { return };
        if !is_first {
            self.starts.borrow_mut().push((life, t));
        }
        let scene = self.scene(life, t);
        let timeout_ns = self.script.lives[life].spec.timeout_ns as u64;
        perform(&scene, timeout_ns, answer);
    }

    fn closed(&mut self, connection: u64, _: u64) {
        self.lines.remove(&connection);
    }
}

/// Answers as the scene says.
fn perform(scene: &Scene, timeout_ns: u64, answer: &mut Answer) {
    let mut random = Random::new(scene.seed ^ 5);
    let first_ns = 1 + random.below(10_000_000);
    match scene.fate {
        Fate::Silent => return,
        Fate::Refused => return answer.reset(first_ns),
        _ => {}
    }
    let (mut bytes, body) = wrapped(scene);
    bytes.extend_from_slice(&body);
    match scene.fate {
        // At least one byte short, at least one byte of the head there: a kept connection is then not tried again.
        Fate::Reset | Fate::Cut => bytes.truncate(1 + random.below(bytes.len() as u64 - 1) as usize),
        _ => {}
    }
    let mut at = first_ns + if scene.fate == Fate::Late { timeout_ns + LATE_NS } else { 0 };
    let pieces = if random.below(3) == 0 { 1 + random.below(7) } else { 1 };
    let mut rest = &bytes[..];
    for left in (1..=pieces).rev() {
        let cut = if left == 1 { rest.len() } else { random.below(rest.len() as u64 + 1) as usize };
        answer.send(at, &rest[..cut]);
        rest = &rest[cut..];
        at += random.below(3_000_000);
    }
    match scene.fate {
        Fate::Reset => answer.reset(at),
        Fate::Cut => answer.fin(at),
        _ if scene.wrapping == Wrapping::UntilClose || scene.closes_after => answer.fin(at),
        _ => {}
    }
}

/// Head and body as they travel.
fn wrapped(scene: &Scene) -> (Vec<u8>, Vec<u8>) {
    let text = scene.body().into_bytes();
    let status = if scene.fate == Fate::Unavailable { "503 Service Unavailable" } else { "200 OK" };
    let mut head = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n");
    let body = match scene.wrapping {
        Wrapping::Length => {
            head.push_str(&format!("Content-Length: {}\r\n", text.len()));
            text
        }
        Wrapping::UntilClose => {
            head.push_str("Connection: close\r\n");
            text
        }
        Wrapping::Chunked => {
            head.push_str("Transfer-Encoding: chunked\r\n");
            let mut out = Vec::new();
            for piece in text.chunks(1 + (scene.seed % 500) as usize) {
                out.extend_from_slice(format!("{:x};x=y\r\n", piece.len()).as_bytes());
                out.extend_from_slice(piece);
                out.extend_from_slice(b"\r\n");
            }
            out.extend_from_slice(b"0\r\n\r\n");
            out
        }
        Wrapping::Gzip => {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(&text).expect("a vector takes everything");
            let packed = encoder.finish().expect("a vector takes everything");
            head.push_str(&format!("Content-Encoding: gzip\r\nContent-Length: {}\r\n", packed.len()));
            packed
        }
    };
    head.push_str("\r\n");
    (head.into_bytes(), body)
}

/// The two clocks as one shard sees them.
pub type Clock = Arc<Mutex<Now>>;

/// The simulated network, with a clock and an instant that no wait passes.
#[derive(Debug)]
pub struct Network {
    sim: Sim<Machines>,
    clock: Clock,
    horizon: Rc<Cell<u64>>,
}

impl Network {
    /// A network of the script's machines. Faults come from the script alone, so that the oracle knows them.
    #[must_use]
    pub fn new(script: Rc<Script>, starts: Starts, clock: Clock, horizon: Rc<Cell<u64>>) -> Self {
        let machines = Machines { script, lines: HashMap::new(), starts };
        Self { sim: Sim::new(1, machines, Faults::default()), clock, horizon }
    }

    /// The network learns of a jump of the clocks before anything is arranged by them.
    fn catch_up(&mut self) {
        let now = *self.clock.lock().unwrap_or_else(PoisonError::into_inner);
        self.sim.begin(now);
    }

    fn show(&self, now: Now) -> Now {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = now;
        now
    }
}

impl Backend for Network {
    fn dial(&mut self, conn: Conn, addr: SocketAddr, request: &mut Vec<u8>) {
        self.catch_up();
        self.sim.dial(conn, addr, request);
    }

    fn send(&mut self, conn: Conn, request: &mut Vec<u8>) {
        self.catch_up();
        self.sim.send(conn, request);
    }

    fn recv(&mut self, conn: Conn) {
        self.sim.recv(conn);
    }

    fn close(&mut self, conn: Conn, how: Close) {
        self.sim.close(conn, how);
    }

    fn begin(&mut self, now: Now) {
        self.sim.begin(self.show(now));
    }

    fn next(&mut self) -> Option<Event> {
        self.sim.next()
    }

    fn chunk(&self, chunk: Chunk) -> &[u8] {
        self.sim.chunk(chunk)
    }

    fn wait(&mut self, now: Now, until: Option<u64>) -> Now {
        let horizon = self.horizon.get();
        let now = self.sim.wait(now, Some(until.map_or(horizon, |u| u.min(horizon))));
        self.show(now)
    }

    fn clock(&self, now: Now) -> Now {
        self.show(self.sim.clock(now))
    }

    fn watch(&mut self, fd: RawFd) {
        self.sim.watch(fd);
    }
}
