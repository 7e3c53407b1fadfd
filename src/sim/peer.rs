//! The machines: everybody on the other side of the simulated network, and the clock that both sides go by.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};

use libdeflater::{CompressionLvl, Compressor};

use super::scene::{self, Fate, Scene, Wrapping, add};
use super::script::{Life, Script};
use super::timeline::SECOND;
use super::{HashMap, Random};
use crate::base::time::Now;
use crate::engine::{Answer, Backend, Chunk, Close, Conn, Event, Faults, Sim, SimPeer, Span, Verdict};

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
    gzip: Gzip,
}

/// When, on the wall clock, the scrape was due that reaches the machine now.
fn due_ns(script: &Script, life: &Life, t: u64) -> i64 {
    let (interval, wall) = (life.spec.interval_ns, script.timeline.wall_ns(t));
    (wall - life.phase_ns).div_euclid(interval) * interval + life.phase_ns
}

impl SimPeer for Machines {
    fn accept(&mut self, connection: u64, address: SocketAddr, t: u64) -> Verdict {
        let Some(life) = self.script.life_dialled(address, t) else { return Verdict::Refuse(0) };
        self.starts.borrow_mut().push((life, t));
        let life = &self.script.lives[life];
        let due_ns = due_ns(&self.script, life, t);
        let seed = scene::seed(&self.script, life, due_ns);
        self.lines.insert(connection, Line { address, requests: 0 });
        match Fate::of(&self.script, life, due_ns) {
            Fate::Refused => Verdict::Refuse(1 + seed % 2_000_000),
            Fate::Silent => Verdict::Silence,
            _ => Verdict::Accept(1 + seed % 5_000_000),
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
        let life = &self.script.lives[life];
        let scene = Scene::new(&self.script, life, due_ns(&self.script, life, t));
        let bytes = if matches!(scene.fate, Fate::Silent | Fate::Refused) {
            Vec::new()
        } else {
            wrapped(&scene, &mut self.gzip)
        };
        perform(&scene, bytes, life.spec.timeout_ns as u64, answer);
    }

    fn closed(&mut self, connection: u64, _: u64) {
        self.lines.remove(&connection);
    }
}

/// Answers as the scene says.
fn perform(scene: &Scene<'_>, mut bytes: Vec<u8>, timeout_ns: u64, answer: &mut Answer) {
    let mut random = Random::new(scene.seed ^ 5);
    let first_ns = 1 + random.below(10_000_000);
    match scene.fate {
        Fate::Silent => return,
        Fate::Refused => return answer.reset(first_ns),
        _ => {}
    }
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
fn wrapped(scene: &Scene<'_>, gzip: &mut Gzip) -> Vec<u8> {
    let text = scene.body();
    let status = if scene.fate == Fate::Unavailable { "503 Service Unavailable" } else { "200 OK" };
    let mut out = format!("HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\n");
    out.reserve(text.len() + 200);
    match scene.wrapping {
        Wrapping::Length => {
            add(&mut out, format_args!("Content-Length: {}\r\n\r\n{text}", text.len()));
        }
        Wrapping::UntilClose => {
            add(&mut out, format_args!("Connection: close\r\n\r\n{text}"));
        }
        Wrapping::Chunked => {
            out.push_str("Transfer-Encoding: chunked\r\n\r\n");
            let mut rest = &text[..];
            while !rest.is_empty() {
                // The script writes nothing but ASCII.
                let (piece, left) = rest.split_at(rest.len().min(1 + (scene.seed % 500) as usize));
                add(&mut out, format_args!("{:x};x=y\r\n{piece}\r\n", piece.len()));
                rest = left;
            }
            out.push_str("0\r\n\r\n");
        }
        Wrapping::Gzip => {
            let packed = gzip.pack(text.as_bytes());
            add(&mut out, format_args!("Content-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", packed.len()));
            let mut out = out.into_bytes();
            out.extend_from_slice(packed);
            return out;
        }
    }
    out.into_bytes()
}

/// Compresses bodies.
struct Gzip {
    compressor: Compressor,
    packed: Vec<u8>,
}

impl fmt::Debug for Gzip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gzip")
    }
}

impl Default for Gzip {
    fn default() -> Self {
        Self { compressor: Compressor::new(CompressionLvl::fastest()), packed: Vec::new() }
    }
}

impl Gzip {
    fn pack(&mut self, text: &[u8]) -> &[u8] {
        self.packed.resize(self.compressor.gzip_compress_bound(text.len()), 0);
        let bytes = self.compressor.gzip_compress(text, &mut self.packed).expect("the bound is enough");
        &self.packed[..bytes]
    }
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
        let machines = Machines { script, lines: HashMap::default(), starts, gzip: Gzip::default() };
        Self { sim: Sim::new(1, machines, Faults::default()), clock, horizon }
    }

    fn show(&self, now: Now) -> Now {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner) = now;
        now
    }
}

impl Backend for Network {
    fn dial(&mut self, conn: Conn, addr: SocketAddr, span: Span, request: &mut Vec<u8>) {
        self.sim.dial(conn, addr, span, request);
    }

    fn send(&mut self, conn: Conn, request: &mut Vec<u8>) {
        self.sim.send(conn, request);
    }

    fn reply(&mut self, conn: Conn, bytes: &mut Vec<u8>) {
        self.sim.reply(conn, bytes);
    }

    fn recv(&mut self, conn: Conn) {
        self.sim.recv(conn);
    }

    fn close(&mut self, conn: Conn, how: Close) {
        self.sim.close(conn, how);
    }

    fn part(&mut self, conn: Conn, words: &mut Vec<u8>) {
        self.sim.part(conn, words);
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

    fn chunk_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        self.sim.chunk_mut(chunk)
    }

    fn wait(&mut self, now: Now, until: Option<u64>, tick_ns: u64) -> Now {
        let horizon = self.horizon.get();
        let now = self.sim.wait(now, Some(until.map_or(horizon, |u| u.min(horizon))), tick_ns);
        self.show(now)
    }

    fn clock(&self, now: Now) -> Now {
        self.show(self.sim.clock(now))
    }

    fn watch(&mut self, fd: RawFd) {
        self.sim.watch(fd);
    }
}
