//! The serving loop: one thread, epoll, requests answered whole, slow answers kept in a delay queue.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{Body, Manner, Source, Spec, Vary, hash};
use crate::base::cpu;
use crate::base::time::Now;

/// What the farm's thread tells others.
#[derive(Default)]
struct Told {
    stop: AtomicBool,
    served: AtomicU64,
    cpu_ns: AtomicU64,
}

/// A running farm; stops when dropped.
pub struct Farm {
    told: Arc<Told>,
    thread: Option<JoinHandle<()>>,
    spec: Spec,
    /// First port of every address.
    pub port: u16,
}

impl Farm {
    /// Listens and serves from a thread of its own.
    ///
    /// # Errors
    /// A description that cannot be, a body that cannot be had, or the system's: port taken, no descriptors.
    pub fn spawn(spec: Spec) -> std::io::Result<Self> {
        spec.check().map_err(std::io::Error::other)?;
        let bodies = spec.populations.iter().map(|p| body(&p.body)).collect::<std::io::Result<Vec<Body>>>()?;
        let can = |m| {
            matches!(m, Manner::Prompt | Manner::SlowMs(_) | Manner::DelayMs(_) | Manner::Status(_) | Manner::Silent)
        };
        if spec.ports != 1 || !spec.populations.iter().all(|p| can(p.manner)) {
            return Err(std::io::Error::other("this manner cannot be served"));
        }
        let listener = listen(spec.port)?;
        let port = listener.local_addr()?.port();
        let told = Arc::new(Told::default());
        let mut server = Server::new(listener, spec.clone(), bodies, Arc::clone(&told))?;
        let thread = std::thread::Builder::new().name("farm".into()).spawn(move || {
            while !server.told.stop.load(Ordering::Relaxed) {
                server.turn(Now::read().mono_ns);
            }
        })?;
        Ok(Self { told, thread: Some(thread), spec, port })
    }

    /// Where a target is scraped.
    #[must_use]
    pub fn addr(&self, target: u32) -> SocketAddr {
        self.spec.addr(target, self.port)
    }

    /// Requests answered so far.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.told.served.load(Ordering::Relaxed)
    }

    /// CPU time of the farm's thread, as of at most [`CPU_NOTED_NS`] ago while it is busy.
    #[must_use]
    pub fn cpu_ns(&self) -> u64 {
        self.told.cpu_ns.load(Ordering::Relaxed)
    }
}

impl Drop for Farm {
    fn drop(&mut self) {
        self.told.stop.store(true, Ordering::Relaxed);
        if let Some(t) = self.thread.take() {
            let _ = t.join();
        }
    }
}

/// A listener with a deep backlog: a scraper dials thousands of targets at once.
fn listen(port: u16) -> std::io::Result<TcpListener> {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))?;
    // SAFETY: listen(2) on our own listening descriptor only widens its backlog.
    if unsafe { libc::listen(listener.as_raw_fd(), 16_384) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    listener.set_nonblocking(true)?;
    Ok(listener)
}

struct Connection {
    stream: TcpStream,
    target: u32,
    /// Tells this connection from an earlier one of the same descriptor.
    serial: u64,
    request: Vec<u8>,
    /// Answers to send, the first from byte `sent` on.
    answers: VecDeque<Arc<Vec<u8>>>,
    sent: usize,
    /// True exactly while a slow answer waits for its time.
    held: bool,
}

struct Server {
    listener: TcpListener,
    spec: Spec,
    bodies: Vec<Body>,
    epoll: i32,
    connections: Vec<Option<Connection>>,
    scrapes: HashMap<u32, u64>,
    /// Slow answers by the time they are due: (monotonic ns, slot, serial).
    delayed: BinaryHeap<Reverse<(u64, usize, u64)>>,
    cached: HashMap<(usize, u64, bool), Arc<Vec<u8>>>,
    text: String,
    told: Arc<Told>,
    accepted: u64,
    cpu_noted_ns: u64,
}

const LISTENER: u64 = u64::MAX;
/// How often the thread notes its CPU time.
const CPU_NOTED_NS: u64 = 50_000_000;
/// Longest sleep; a farm that is told to stop ends within it.
const SLEEP_MS_MAX: u64 = 100;
/// Longest request that is read.
const REQUEST_BYTES_MAX: usize = 65_536;

impl Server {
    fn new(listener: TcpListener, spec: Spec, bodies: Vec<Body>, told: Arc<Told>) -> std::io::Result<Self> {
        // SAFETY: plain system call without pointers.
        let epoll = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if epoll < 0 {
            return Err(std::io::Error::last_os_error());
        }
        watch(epoll, listener.as_raw_fd(), LISTENER, libc::EPOLLIN)?;
        Ok(Self {
            listener,
            spec,
            bodies,
            epoll,
            connections: Vec::new(),
            scrapes: HashMap::new(),
            delayed: BinaryHeap::new(),
            cached: HashMap::new(),
            text: String::new(),
            told,
            accepted: 0,
            cpu_noted_ns: 0,
        })
    }

    fn turn(&mut self, now_ns: u64) {
        if now_ns - self.cpu_noted_ns >= CPU_NOTED_NS {
            self.cpu_noted_ns = now_ns;
            self.told.cpu_ns.store(cpu::thread_time_ns(), Ordering::Relaxed);
        }
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 512];
        let due_ms = self.delayed.peek().map(|Reverse((at_ns, ..))| at_ns.saturating_sub(now_ns).div_ceil(1_000_000));
        let wait_ms = due_ms.unwrap_or(SLEEP_MS_MAX).min(SLEEP_MS_MAX) as i32;
        // SAFETY: the array has room for 512 events and lives through the call.
        let n = unsafe { libc::epoll_wait(self.epoll, events.as_mut_ptr(), 512, wait_ms) };
        for event in &events[..n.max(0) as usize] {
            match event.u64 {
                LISTENER => self.accept(),
                slot => self.serve(slot as usize, event.events as i32 & libc::EPOLLRDHUP != 0),
            }
        }
        if !self.delayed.is_empty() {
            self.release_delayed(Now::read().mono_ns);
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            let Ok(local) = stream.local_addr() else { continue };
            let IpAddr::V4(ip) = local.ip() else { continue };
            if !ip.is_loopback() || stream.set_nonblocking(true).is_err() {
                continue;
            }
            let _ = stream.set_nodelay(true);
            let target = u32::from(ip).wrapping_sub(u32::from(self.spec.first_address));
            let slot = stream.as_raw_fd() as usize;
            if self.connections.len() <= slot {
                self.connections.resize_with(slot + 1, || None);
            }
            let mode = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET | libc::EPOLLRDHUP;
            if watch(self.epoll, stream.as_raw_fd(), slot as u64, mode).is_ok() {
                self.accepted += 1;
                let (request, answers, serial) = (Vec::new(), VecDeque::new(), self.accepted);
                let c = Connection { stream, target, serial, request, answers, sent: 0, held: false };
                self.connections[slot] = Some(c);
            }
        }
    }

    fn serve(&mut self, slot: usize, is_half_closed: bool) {
        let Some(Some(c)) = self.connections.get_mut(slot) else { return };
        // A peer that has said all it will say wants no answer: scrapers do not half-close.
        if is_half_closed || !push(c) || !pull(c) {
            self.connections[slot] = None;
            return;
        }
        while let Some(end) = self.connections[slot].as_ref().and_then(|c| head_end(&c.request)) {
            self.answer(slot, end);
        }
    }

    fn answer(&mut self, slot: usize, head_bytes: usize) {
        let Some(c) = self.connections[slot].as_mut() else { return };
        let Some((at, _)) = self.spec.population(c.target) else { return };
        let population = &self.spec.populations[at];
        let gzip = population.gzip && memchr::memmem::find(&c.request[..head_bytes], b"gzip").is_some();
        c.request.drain(..head_bytes);
        let target = c.target;
        let scrape = self.scrapes.entry(target).or_insert(0);
        *scrape += 1;
        let scrape = *scrape;
        let manner = population.manner;
        let wire = match manner {
            Manner::Silent => return,
            Manner::Status(code) => {
                Arc::new(format!("HTTP/1.1 {code} Status\r\nContent-Length: 0\r\n\r\n").into_bytes())
            }
            _ => self.wire(at, target, scrape, gzip),
        };
        let Some(c) = self.connections[slot].as_mut() else { return };
        c.answers.push_back(wire);
        self.told.served.fetch_add(1, Ordering::Relaxed);
        let delay_ms = match manner {
            Manner::SlowMs(ms) => Some(ms),
            Manner::DelayMs([least, most]) => {
                Some(least + (hash(u64::from(target) << 32 ^ scrape) % u64::from(most - least + 1)) as u32)
            }
            _ => None,
        };
        if let Some(ms) = delay_ms {
            let at_ns = Now::read().mono_ns + u64::from(ms) * 1_000_000;
            c.held = true;
            self.delayed.push(Reverse((at_ns, slot, c.serial)));
        } else if !push(c) {
            self.connections[slot] = None;
        }
    }

    /// The whole answer. Where targets share bodies, the answers of 16 scrape numbers are kept and go round.
    fn wire(&mut self, at: usize, target: u32, scrape: u64, gzip: bool) -> Arc<Vec<u8>> {
        let vary = self.spec.populations[at].vary;
        let shared = vary == Vary::Identical;
        let key = (at, scrape % 16, gzip);
        if shared && let Some(kept) = self.cached.get(&key) {
            return Arc::clone(kept);
        }
        let scrape = if shared { key.1 } else { scrape };
        self.bodies[at].render(vary, target, scrape, &mut self.text);
        let wire = Arc::new(framed(self.text.as_bytes(), gzip));
        if shared {
            self.cached.insert(key, Arc::clone(&wire));
        }
        wire
    }

    fn release_delayed(&mut self, now_ns: u64) {
        while let Some(&Reverse((at_ns, slot, serial))) = self.delayed.peek() {
            if at_ns > now_ns {
                break;
            }
            self.delayed.pop();
            // The scraper may have given up meanwhile, and the descriptor may be another connection's by now.
            if let Some(Some(c)) = self.connections.get_mut(slot)
                && c.serial == serial
            {
                c.held = false;
                if !push(c) {
                    self.connections[slot] = None;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours and closed once.
        unsafe { libc::close(self.epoll) };
    }
}

/// The template of a source.
fn body(source: &Source) -> std::io::Result<Body> {
    match source {
        Source::Samples(n) | Source::SamplesBetween([_, n]) => Ok(Body::synthetic(*n as usize)),
        Source::File(path) => Ok(Body::parse(&std::fs::read_to_string(path)?)),
        Source::Text(text) => Ok(Body::parse(text)),
        Source::NodeExporter => Err(std::io::Error::other("the body of node_exporter was not given")),
    }
}

fn watch(epoll: i32, fd: i32, tag: u64, mode: i32) -> std::io::Result<()> {
    let mut event = libc::epoll_event { events: mode as u32, u64: tag };
    // SAFETY: both descriptors are open and the event lives through the call.
    if unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &raw mut event) } != 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}

fn framed(body: &[u8], gzip: bool) -> Vec<u8> {
    let mut packed = Vec::new();
    let body = if gzip {
        let mut c = libdeflater::Compressor::new(libdeflater::CompressionLvl::default());
        packed.resize(c.gzip_compress_bound(body.len()), 0);
        let n = c.gzip_compress(body, &mut packed).unwrap_or(0);
        &packed[..n]
    } else {
        body
    };
    let encoding = if gzip { "Content-Encoding: gzip\r\n" } else { "" };
    let mut wire = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n{encoding}Content-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    wire.extend_from_slice(body);
    wire
}

fn head_end(request: &[u8]) -> Option<usize> {
    memchr::memmem::find(request, b"\r\n\r\n").map(|i| i + 4)
}

/// Reads what is there. `false`: the connection is over.
fn pull(c: &mut Connection) -> bool {
    let mut chunk = [0u8; 4096];
    loop {
        match c.stream.read(&mut chunk) {
            Ok(0) => return false,
            Ok(n) if c.request.len() + n > REQUEST_BYTES_MAX => return false,
            Ok(n) => {
                c.request.extend_from_slice(&chunk[..n]);
                // A short read emptied the socket; what comes later is a new event.
                if n < chunk.len() {
                    return true;
                }
            }
            Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
        }
    }
}

/// Sends what is due. `false`: the connection is over.
fn push(c: &mut Connection) -> bool {
    while !c.held
        && let Some(answer) = c.answers.front()
    {
        match c.stream.write(&answer[c.sent..]) {
            Ok(n) => c.sent += n,
            Err(e) => return e.kind() == std::io::ErrorKind::WouldBlock,
        }
        if c.sent == answer.len() {
            c.answers.pop_front();
            c.sent = 0;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::farm::Population;

    #[test]
    fn targets_answer_by_their_address_and_keep_alive() {
        let mut failing = Population::new("failing", 1, Source::Samples(18));
        failing.manner = Manner::Status(500);
        let mut labelled = Population::new("labelled", 9, Source::Samples(18));
        labelled.vary = Vary::TargetLabel;
        let spec = Spec::new(vec![labelled, failing]);
        let farm = Farm::spawn(spec).unwrap();
        let ask = |s: &mut TcpStream| {
            s.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
            let mut got = vec![0; 8192];
            let n = s.read(&mut got).unwrap();
            String::from_utf8_lossy(&got[..n]).into_owned()
        };
        let mut s = TcpStream::connect(farm.addr(7)).unwrap();
        assert!(ask(&mut s).contains("node=\"n-7\""));
        assert!(ask(&mut s).contains("node=\"n-7\""));
        let mut s = TcpStream::connect(farm.addr(9)).unwrap();
        assert!(ask(&mut s).starts_with("HTTP/1.1 500"));
        assert_eq!(farm.served(), 3);
    }
}
