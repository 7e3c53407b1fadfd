//! Servers on loopback and a sink that writes everything down, for the tests of the exchange.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::base::time::Now;
use crate::engine::Backend;

pub(super) const SECOND: u64 = 1_000_000_000;

/// What a test saw of one token.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
    pub(super) requests: usize,
    pub(super) heads: usize,
    pub(super) ended: Vec<Outcome>,
}

#[derive(Default)]
pub(super) struct Scribe {
    pub(super) tokens: Vec<Seen>,
    pub(super) stop_after: Option<usize>,
    pub(super) closed_gate: Option<Arrival>,
    pub(super) client: Option<tls::Client>,
}

impl Scribe {
    pub(super) fn of(&mut self, token: u32) -> &mut Seen {
        let at = token as usize;
        if at >= self.tokens.len() {
            self.tokens.resize_with(at + 1, Seen::default);
        }
        &mut self.tokens[at]
    }
}

impl Sink for Scribe {
    fn request(&mut self, token: u32, out: &mut Vec<u8>) {
        assert!(out.is_empty(), "the buffer comes empty");
        self.of(token).requests += 1;
        write!(out, "GET /{token} HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
    }
    fn session(&mut self, _: u32) -> Result<tls::Session, tls::Fault> {
        self.client.as_ref().ok_or(tls::Fault::NotConfigured)?.session("localhost")
    }
    fn head(&mut self, token: u32, head: &ResponseHead<'_>) -> Flow {
        let seen = self.of(token);
        (seen.status, seen.heads) = (head.status, seen.heads + 1);
        Flow::More
    }
    fn bytes(&mut self, token: u32, chunk: &[u8]) -> Flow {
        assert!(!chunk.is_empty());
        let stop = self.stop_after;
        let seen = self.of(token);
        seen.body.extend_from_slice(chunk);
        if stop.is_some_and(|n| seen.body.len() >= n) { Flow::Stop } else { Flow::More }
    }
    fn end(&mut self, token: u32, outcome: Outcome) {
        self.of(token).ended.push(outcome);
    }
    fn admits(&mut self, _: u32, arrival: Arrival) -> bool {
        self.closed_gate != Some(arrival)
    }
}

/// A server that gives each connection, with its number, to `script` on its own thread.
pub(super) fn serve(script: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let script = Arc::new(script);
    std::thread::spawn(move || {
        for (n, stream) in listener.incoming().enumerate() {
            let (script, stream) = (script.clone(), stream.unwrap());
            std::thread::spawn(move || script(stream, n));
        }
    });
    addr
}

/// Reads one request; false at the end of the stream.
pub(super) fn request(stream: &mut TcpStream) -> bool {
    let (mut seen, mut byte) = (Vec::new(), [0]);
    while !seen.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => seen.push(byte[0]),
            _ => return false,
        }
    }
    true
}

/// Serves the same bytes to every request of every connection and counts connections.
pub(super) fn serve_bytes(bytes: &'static [u8], close: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let addr = serve(move |mut s, _| {
        counter.fetch_add(1, Ordering::SeqCst);
        while request(&mut s) {
            let _ = s.write_all(bytes);
            if close {
                return;
            }
        }
    });
    (addr, connections)
}

pub(super) struct Rig<B: Backend> {
    pub(super) net: Net<B>,
    pub(super) sink: Scribe,
    pub(super) now: Now,
    pub(super) tls: Option<Secured>,
}

impl<B: Backend> Rig<B> {
    pub(super) fn new(backend: B) -> Self {
        Self { net: Net::new(backend), sink: Scribe::default(), now: Now::read(), tls: None }
    }

    pub(super) fn start(&mut self, token: u32, addr: SocketAddr, link: Link, timeout_ns: u64) {
        self.now = Now::read();
        self.net.start(Job { tls: self.tls, ..Job::plain(token, addr, link, self.now.mono_ns + timeout_ns) });
    }

    /// Starts a job of five seconds on a connection that may be kept, as `change` makes it.
    pub(super) fn start_job(&mut self, change: impl Fn(Job) -> Job, token: u32, addr: SocketAddr) {
        self.now = Now::read();
        self.net.start(change(Job::plain(token, addr, Link::Keep, self.now.mono_ns + 5 * SECOND)));
    }

    pub(super) fn turn(&mut self) {
        self.now = self.net.turn(self.now, Some(self.now.mono_ns + SECOND / 10), &mut self.sink);
    }

    /// Turns until nothing is in flight.
    pub(super) fn settle(&mut self) {
        let limit = Now::read().mono_ns + 20 * SECOND;
        while self.net.in_flight() > 0 {
            assert!(self.now.mono_ns < limit, "a job never ended");
            self.turn();
        }
    }

    /// Runs one job to its end.
    pub(super) fn run(&mut self, token: u32, addr: SocketAddr, link: Link) -> Outcome {
        self.sink.of(token).body.clear();
        let before = self.sink.of(token).ended.len();
        self.start(token, addr, link, 5 * SECOND);
        self.settle();
        let ended = &self.sink.of(token).ended;
        assert_eq!(ended.len(), before + 1, "one end per job");
        ended[before]
    }

    pub(super) fn body(&mut self, token: u32) -> String {
        String::from_utf8_lossy(&self.sink.of(token).body).into_owned()
    }
}

pub(super) fn done(outcome: Outcome) -> Phases {
    match outcome {
        Outcome::Done(p) => p,
        other => panic!("not done: {other:?}"),
    }
}

pub(super) fn failed(outcome: Outcome) -> NetError {
    match outcome {
        Outcome::Failed(e, _) => e,
        other => panic!("not failed: {other:?}"),
    }
}
