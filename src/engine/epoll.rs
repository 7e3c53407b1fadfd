//! Connections over epoll and plain system calls: the same behaviour as the ring, limited by RLIMIT_NOFILE.
//!
//! A connection enters the epoll set only when a read or a connect has to wait, and stays there (edge triggered), so a
//! kept connection with prompt answers never costs an `epoll_ctl`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::RawFd;

use super::buffers::Requests;
use super::sleep::Sleeper;
use super::sock::{self, RawAddr};
use super::{Backend, Chunk, Close, Conn, Event, Span, Stage, What};
use crate::base::limits::RECV_BUFFER_BYTES;
use crate::base::time::Now;

/// Descriptors left to the rest of the process.
const SPARE_DESCRIPTORS: u64 = 128;
const CLOSED: i32 = -1;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// For nothing.
    No,
    /// For the connection to stand; the request is in `requests`.
    Connect,
    /// For room to send the rest of the request.
    Room,
    /// For bytes; the connection is in the epoll set.
    Bytes,
    /// For its turn in `reads`.
    Turn,
}

#[derive(Clone, Copy, Debug)]
struct Socket {
    fd: i32,
    /// Counts the sockets that had this number, so that an old one's event is dropped.
    generation: u32,
    waits: Waits,
    registered: bool,
    /// Where the unsent request lies, or [`NONE`].
    request: u32,
}

/// The epoll backend.
#[derive(Debug)]
pub struct Epoll {
    epoll: i32,
    sockets: Vec<Socket>,
    open: u64,
    open_max: u64,
    /// Connections that wait in the kernel.
    waiting: u32,
    requests: Requests,
    /// Reads in order: connection and its generation.
    reads: VecDeque<(Conn, u32)>,
    events: VecDeque<Event>,
    ready: Vec<libc::epoll_event>,
    buffer: Box<[u8]>,
    sleeper: Sleeper,
}

impl Epoll {
    /// A backend that may use all but a few of this process's descriptors.
    ///
    /// # Errors
    /// The system's, when no descriptor can be had.
    pub fn new() -> std::io::Result<Self> {
        Self::with_connections_max(sock::descriptors_max().saturating_sub(SPARE_DESCRIPTORS).max(1))
    }

    /// A backend that opens at most so many connections at once; further ones fail with EMFILE.
    ///
    /// # Errors
    /// The system's, when no descriptor can be had.
    pub fn with_connections_max(open_max: u64) -> std::io::Result<Self> {
        // SAFETY: plain system call.
        let epoll = sock::check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })
            .map_err(std::io::Error::from_raw_os_error)?;
        Ok(Self {
            epoll,
            sockets: Vec::new(),
            open: 0,
            open_max,
            waiting: 0,
            requests: Requests::default(),
            reads: VecDeque::new(),
            events: VecDeque::new(),
            ready: vec![libc::epoll_event { events: 0, u64: 0 }; 512],
            buffer: vec![0; RECV_BUFFER_BYTES].into_boxed_slice(),
            sleeper: Sleeper::default(),
        })
    }

    fn socket(&mut self, conn: Conn) -> &mut Socket {
        let at = conn as usize;
        if at >= self.sockets.len() {
            let none = Socket { fd: CLOSED, generation: 0, waits: Waits::No, registered: false, request: NONE };
            self.sockets.resize(at + 1, none);
        }
        &mut self.sockets[at]
    }

    fn say(&mut self, conn: Conn, what: What) {
        self.events.push_back(Event { conn, what });
    }

    /// Puts the connection into the epoll set, once.
    fn register(&mut self, conn: Conn) -> Result<(), i32> {
        let socket = &mut self.sockets[conn as usize];
        if socket.registered {
            return Ok(());
        }
        let mut event = libc::epoll_event {
            events: (libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET) as u32,
            u64: u64::from(conn) | u64::from(socket.generation) << 32,
        };
        // SAFETY: both descriptors are ours and open; the event is valid.
        sock::check(unsafe { libc::epoll_ctl(self.epoll, libc::EPOLL_CTL_ADD, socket.fd, &raw mut event) })?;
        socket.registered = true;
        Ok(())
    }

    /// Leaves the connection waiting in the kernel, or reports why it cannot.
    fn wait_for(&mut self, conn: Conn, waits: Waits, stage: Stage) {
        match self.register(conn) {
            Ok(()) => {
                self.sockets[conn as usize].waits = waits;
                self.waiting += 1;
            }
            Err(errno) => self.say(conn, What::Failed(stage, errno)),
        }
    }

    fn open(&mut self, addr: &SocketAddr) -> Result<i32, i32> {
        if self.open >= self.open_max {
            return Err(libc::EMFILE);
        }
        let fd = sock::stream(sock::family(addr))?;
        self.open += 1;
        Ok(fd)
    }

    /// Sends what is left of a request.
    fn push(&mut self, conn: Conn) {
        let Socket { fd, request, .. } = self.sockets[conn as usize];
        match sock::send(fd, self.requests.unsent(request)) {
            Ok(n) if self.requests.sent(request, n) => {
                self.take_back(conn);
                self.say(conn, What::Sent);
            }
            Ok(_) | Err(libc::EAGAIN | libc::EINTR) => self.wait_for(conn, Waits::Room, Stage::Send),
            Err(errno) => self.say(conn, What::Failed(Stage::Send, errno)),
        }
    }

    /// The request of a connection is sent or will never be.
    fn take_back(&mut self, conn: Conn) {
        let request = std::mem::replace(&mut self.sockets[conn as usize].request, NONE);
        if request != NONE {
            self.requests.free(request);
        }
    }

    /// The kernel says that something changed on a connection.
    fn stir(&mut self, event: libc::epoll_event) {
        let (conn, generation) = (event.u64 as u32, (event.u64 >> 32) as u32);
        let socket = &mut self.sockets[conn as usize];
        let gone = (libc::EPOLLERR | libc::EPOLLHUP) as u32;
        if socket.generation != generation || socket.fd == CLOSED {
            return;
        }
        let wanted = match socket.waits {
            Waits::No | Waits::Turn => return,
            Waits::Connect | Waits::Room => libc::EPOLLOUT as u32 | gone,
            Waits::Bytes => (libc::EPOLLIN | libc::EPOLLRDHUP) as u32 | gone,
        };
        if event.events & wanted == 0 {
            return;
        }
        self.waiting -= 1;
        let waited = std::mem::replace(&mut socket.waits, Waits::No);
        match waited {
            Waits::Bytes => {
                socket.waits = Waits::Turn;
                self.reads.push_back((conn, generation));
            }
            Waits::Connect => match sock::pending_error(socket.fd) {
                0 => {
                    self.say(conn, What::Connected);
                    self.push(conn);
                }
                errno => self.say(conn, What::Failed(Stage::Dial, errno)),
            },
            Waits::Room | Waits::No | Waits::Turn => self.push(conn),
        }
    }
}

impl Backend for Epoll {
    fn dial(&mut self, conn: Conn, addr: SocketAddr, _: Span, request: &mut Vec<u8>) {
        let fd = match self.open(&addr) {
            Ok(fd) => fd,
            Err(errno) => return self.say(conn, What::Failed(Stage::Dial, errno)),
        };
        let socket = self.socket(conn);
        assert!(socket.fd == CLOSED, "dial on an open connection");
        let generation = socket.generation.wrapping_add(1);
        *socket = Socket { fd, generation, waits: Waits::No, registered: false, request: NONE };
        self.sockets[conn as usize].request = self.requests.keep(request);
        match sock::connect(fd, &RawAddr::new(addr)) {
            Ok(()) => {
                self.say(conn, What::Connected);
                self.push(conn);
            }
            Err(libc::EINPROGRESS | libc::EINTR) => self.wait_for(conn, Waits::Connect, Stage::Dial),
            Err(errno) => self.say(conn, What::Failed(Stage::Dial, errno)),
        }
    }

    fn send(&mut self, conn: Conn, request: &mut Vec<u8>) {
        let socket = &mut self.sockets[conn as usize];
        socket.request = self.requests.keep(request);
        // Nothing to read is what a healthy idle connection answers.
        match sock::recv(socket.fd, &mut [0], libc::MSG_PEEK) {
            Err(libc::EAGAIN) => self.push(conn),
            Ok(_) => self.say(conn, What::Failed(Stage::Send, libc::EPIPE)),
            Err(errno) => self.say(conn, What::Failed(Stage::Send, errno)),
        }
    }

    fn reply(&mut self, conn: Conn, bytes: &mut Vec<u8>) {
        let socket = &mut self.sockets[conn as usize];
        assert!(socket.fd != CLOSED && socket.waits == Waits::No, "reply on a closed or busy connection");
        socket.request = self.requests.keep(bytes);
        self.push(conn);
    }

    fn recv(&mut self, conn: Conn) {
        let socket = self.socket(conn);
        assert!(socket.fd != CLOSED && socket.waits == Waits::No, "recv on a closed or busy connection");
        socket.waits = Waits::Turn;
        let generation = socket.generation;
        self.reads.push_back((conn, generation));
    }

    fn close(&mut self, conn: Conn, how: Close) {
        if self.sockets.get(conn as usize).is_none_or(|s| s.fd == CLOSED) {
            return;
        }
        self.take_back(conn);
        let socket = &mut self.sockets[conn as usize];
        if matches!(socket.waits, Waits::Connect | Waits::Room | Waits::Bytes) {
            self.waiting -= 1;
        }
        if how == Close::Reset {
            // Dissolving may fail on a socket that never connected; closing does the rest.
            let _ = sock::connect(socket.fd, &RawAddr::unspecified());
        }
        sock::close(socket.fd);
        self.open -= 1;
        (socket.fd, socket.waits) = (CLOSED, Waits::No);
        socket.generation = socket.generation.wrapping_add(1);
    }

    fn part(&mut self, conn: Conn, words: &mut Vec<u8>) {
        if let Some(socket) = self.sockets.get(conn as usize).filter(|s| s.fd != CLOSED) {
            // Nobody waits for them to arrive.
            let _ = sock::send(socket.fd, words);
        }
        words.clear();
        self.close(conn, Close::Fin);
    }

    fn begin(&mut self, _: Now) {
        while self.waiting > 0 {
            let most = self.ready.len() as i32;
            // SAFETY: the array is valid for its length.
            let n = unsafe { libc::epoll_wait(self.epoll, self.ready.as_mut_ptr(), most, 0) }.max(0);
            for i in 0..n as usize {
                self.stir(self.ready[i]);
            }
            if n < most {
                break;
            }
        }
    }

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                // An event of a connection that was closed meanwhile stays silent.
                let open = self.sockets.get(event.conn as usize).is_some_and(|s| s.fd != CLOSED);
                if open || matches!(event.what, What::Failed(Stage::Dial, _)) {
                    return Some(event);
                }
                continue;
            }
            let (conn, generation) = self.reads.pop_front()?;
            let socket = &mut self.sockets[conn as usize];
            if socket.generation != generation {
                continue;
            }
            socket.waits = Waits::No;
            let what = match sock::recv(socket.fd, &mut self.buffer, 0) {
                Ok(0) => What::Eof,
                Ok(n) => What::Bytes(Chunk { buffer: 0, len: n as u32 }),
                Err(libc::EAGAIN | libc::EINTR) => {
                    self.wait_for(conn, Waits::Bytes, Stage::Recv);
                    continue;
                }
                Err(errno) => What::Failed(Stage::Recv, errno),
            };
            return Some(Event { conn, what });
        }
    }

    fn chunk(&self, chunk: Chunk) -> &[u8] {
        &self.buffer[..chunk.len as usize]
    }

    fn chunk_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        &mut self.buffer[..chunk.len as usize]
    }

    fn wait(&mut self, now: Now, until: Option<u64>, tick_ns: u64) -> Now {
        if self.waiting == 0 {
            return self.sleeper.readable(now, until);
        }
        match Sleeper::tick(now, until, tick_ns) {
            (after, true) => self.sleeper.readable_or(self.epoll, after, until),
            (after, false) => after,
        }
    }

    fn clock(&self, _: Now) -> Now {
        Now::read()
    }

    fn watch(&mut self, fd: RawFd) {
        self.sleeper.watch(fd);
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for socket in self.sockets.iter().filter(|s| s.fd != CLOSED) {
            sock::close(socket.fd);
        }
        sock::close(self.epoll);
    }
}
