//! The farm's sockets by epoll: each connection is a descriptor. Where the ring is refused.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::exporters::{Conn, Exporters, Order, Then};
use super::listen::Listeners;
use super::press::Piece;

/// Events taken at once.
const EVENTS: usize = 512;
/// The top bit of a tag: the rest is a listener's index.
const LISTENER: u64 = 1 << 63;

struct Connection {
    stream: TcpStream,
    /// What is being sent, from byte so many on, and what follows.
    sending: Option<(Piece, usize, Then)>,
}

/// Serves exporters; a connection's number is its descriptor.
pub(super) struct Server {
    epoll: OwnedFd,
    listeners: Listeners,
    exporters: Exporters,
    connections: Vec<Option<Connection>>,
    orders: Vec<Order>,
    buffer: Vec<u8>,
}

impl Server {
    pub(super) fn new(listeners: Listeners, exporters: Exporters) -> io::Result<Self> {
        // SAFETY: a plain system call; what it returns is a descriptor that is ours alone.
        let epoll = unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                fd if fd < 0 => return Err(io::Error::last_os_error()),
                fd => OwnedFd::from_raw_fd(fd),
            }
        };
        for (i, listener) in listeners.groups.iter().flatten().enumerate() {
            watch(&epoll, listener.as_raw_fd(), LISTENER | i as u64, libc::EPOLLIN)?;
        }
        let buffer = vec![0; 16 << 10];
        Ok(Self { epoll, listeners, exporters, connections: Vec::new(), orders: Vec::new(), buffer })
    }

    /// Waits for events, until a time at most, and deals with them.
    pub(super) fn turn(&mut self, now_ns: u64, until_ns: u64) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS];
        let until_ns = self.exporters.next_due().map_or(until_ns, |due| due.min(until_ns));
        let wait_ms = until_ns.saturating_sub(now_ns).div_ceil(1_000_000) as i32;
        // SAFETY: the array has room for so many events and lives through the call.
        let n = unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), EVENTS as i32, wait_ms) };
        let now_ns = crate::base::time::Now::read().mono_ns;
        for event in &events[..n.max(0) as usize] {
            let tag = event.u64;
            if tag & LISTENER != 0 {
                self.accept((tag & !LISTENER) as usize);
            } else {
                self.serve(tag as Conn, now_ns);
            }
        }
        self.exporters.release(now_ns, &mut self.orders);
        self.carry(now_ns);
    }

    fn accept(&mut self, listener: usize) {
        loop {
            let accepted = self.listeners.groups.iter().flatten().nth(listener).map(TcpListener::accept);
            let Some(Ok((stream, _))) = accepted else { return };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            let conn = stream.as_raw_fd() as Conn;
            if self.connections.len() <= conn as usize {
                self.connections.resize_with(conn as usize + 1, || None);
            }
            let mode = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLET | libc::EPOLLRDHUP;
            if watch(&self.epoll, stream.as_raw_fd(), u64::from(conn), mode).is_ok() {
                self.connections[conn as usize] = Some(Connection { stream, sending: None });
                self.exporters.opened(conn);
            }
        }
    }

    /// Sends what waits for room and reads what is there.
    fn serve(&mut self, conn: Conn, now_ns: u64) {
        self.push(conn, now_ns);
        while let Some(Some(c)) = self.connections.get_mut(conn as usize) {
            match c.stream.read(&mut self.buffer) {
                Ok(0) => self.close(conn),
                Ok(n) => {
                    self.exporters.received(conn, &self.buffer[..n], now_ns, &mut self.orders);
                    self.carry(now_ns);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.close(conn),
            }
        }
    }

    fn carry(&mut self, now_ns: u64) {
        while let Some(order) = self.orders.pop() {
            match order {
                Order::Send(conn, piece, then) => {
                    let Some(Some(c)) = self.connections.get_mut(conn as usize) else {
                        self.exporters.recycle(piece);
                        continue;
                    };
                    if let Some((old, ..)) = c.sending.replace((piece, 0, then)) {
                        // The peer asked again without having read the last answer.
                        self.exporters.recycle(old);
                        self.close(conn);
                    }
                    self.push(conn, now_ns);
                }
                Order::Reset(conn) => {
                    if let Some(Some(c)) = self.connections.get(conn as usize) {
                        linger_none(&c.stream);
                    }
                    self.close(conn);
                }
            }
        }
    }

    /// Sends as much as there is room for.
    fn push(&mut self, conn: Conn, now_ns: u64) {
        let Some(Some(c)) = self.connections.get_mut(conn as usize) else { return };
        let Some((piece, sent, then)) = &mut c.sending else { return };
        let bytes = self.exporters.bytes(piece);
        while *sent < bytes.len() {
            match c.stream.write(&bytes[*sent..]) {
                Ok(n) => *sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.close(conn),
            }
        }
        let then = *then;
        if then == Then::Fin {
            return self.close(conn);
        }
        if let Some((piece, ..)) = c.sending.take() {
            self.exporters.recycle(piece);
        }
        if then == Then::Tell {
            self.exporters.sent(conn, now_ns, &mut self.orders);
        }
    }

    fn close(&mut self, conn: Conn) {
        if let Some(Some(c)) = self.connections.get_mut(conn as usize).map(Option::take) {
            if let Some((piece, ..)) = c.sending {
                self.exporters.recycle(piece);
            }
            self.exporters.closed(conn);
        }
    }
}

fn watch(epoll: &OwnedFd, fd: i32, tag: u64, mode: i32) -> io::Result<()> {
    let mut event = libc::epoll_event { events: mode as u32, u64: tag };
    // SAFETY: both descriptors are open and the event lives through the call.
    if unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// A close resets the connection.
fn linger_none(stream: &TcpStream) {
    let none = libc::linger { l_onoff: 1, l_linger: 0 };
    let (at, len) = ((&raw const none).cast(), size_of_val(&none) as libc::socklen_t);
    // SAFETY: the value is readable for its length. Failure leaves an orderly close.
    unsafe { libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, at, len) };
}
