//! All exporters of a farm without their sockets: bytes of requests in, orders for the sockets out.
//!
//! A request names its target by its Host header, which costs nothing and works on any kind of descriptor. What a
//! connection needs is 12 bytes; requests in pieces, pages still to send and answers not yet due are kept aside.
//! Requests sent before the last one was answered wait; nothing answers two at once. Connections that begin with a
//! ClientHello are [`Seals`]' on the way in and out; all others pay a branch.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::press::{Piece, Press};
use super::seal::{Broken, Seals};
use super::template::Asked;
use super::{Manner, Spec, hash};
use crate::base::time::Now;

/// A connection's number, chosen by the sockets' side; dense from 0.
pub(super) type Conn = u32;

/// What the sockets are to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Send all of it.
    Send(Conn, Piece, Then),
    /// Reset the connection. Nothing more is heard of it.
    Reset(Conn),
}

impl Order {
    pub(super) fn conn(&self) -> Conn {
        match self {
            Self::Send(conn, ..) | Self::Reset(conn) => *conn,
        }
    }
}

/// What follows a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    /// Nothing: the next request may come.
    Rest,
    /// [`Exporters::sent`].
    Tell,
    /// The connection is closed in order. Nothing more is heard of it.
    Fin,
}

/// Longest request that is read.
const REQUEST_BYTES_MAX: usize = 65_536;
const NOWHERE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// A request may come.
    Listening,
    /// A request came and is not wholly answered.
    Answering,
    /// Nothing more is answered.
    Over,
}

/// How a connection's bytes are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// None came yet.
    Unknown,
    Plain,
    Sealed,
}

#[derive(Clone, Copy, Debug)]
struct Connection {
    /// Its target, or [`NOWHERE`] before the first request.
    target: u32,
    /// Tells it from an earlier one of the same number.
    serial: u32,
    population: u8,
    state: State,
    way: Way,
    /// Part of a request is kept aside.
    is_partial: bool,
}

/// An answer that is not due yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    due_ns: u64,
    conn: Conn,
    serial: u32,
    is_packed: bool,
    is_last: bool,
}

/// What a request asks for, as far as it matters.
#[derive(Clone, Copy, Debug)]
struct Wish {
    is_packed: bool,
    /// The connection ends after the answer.
    is_last: bool,
}

/// The exporters.
pub(super) struct Exporters {
    spec: Spec,
    /// The port of the first target of each address.
    port: u16,
    press: Press,
    connections: Vec<Connection>,
    /// Answers begun, by target.
    scrapes: Vec<u32>,
    partial: HashMap<Conn, Vec<u8>>,
    /// Pages sent of the answers that come in pages.
    pages: HashMap<Conn, (Asked, Then)>,
    delayed: BinaryHeap<Reverse<Delayed>>,
    /// Fixed answers by population, and for requests that name no target.
    fixed: Vec<Option<Piece>>,
    nobody: Piece,
    /// For requests that name a target that is asked the other way: plainly or over TLS.
    astray: Piece,
    /// Where targets are asked over TLS.
    seals: Option<Seals>,
    /// What came over TLS, while it is read.
    text: Vec<u8>,
    gzip: memchr::memmem::Finder<'static>,
    closing: memchr::memmem::Finder<'static>,
    started_ns: u64,
    opened: u32,
    /// Answers begun since the start. Written here alone.
    served: Arc<AtomicU64>,
}

impl Exporters {
    /// Counts the answers it begins in `served`.
    ///
    /// # Errors
    /// TLS is wanted and cannot be.
    pub(super) fn new(spec: &Spec, port: u16, mut press: Press, served: Arc<AtomicU64>) -> io::Result<Self> {
        let status =
            |code: u16, more: &str| format!("HTTP/1.1 {code} Status\r\n{more}Content-Length: 0\r\n\r\n").into_bytes();
        let fixed = spec.populations.iter().map(|p| match p.manner {
            Manner::Status(code) => Some(press.keep(status(code, p.farewell()))),
            Manner::Garbage => Some(press.keep(b"\x16\x03\x01 this is not HTTP\r\n\r\n".to_vec())),
            _ => None,
        });
        let fixed = fixed.collect();
        let (nobody, astray) = (press.keep(status(404, "")), press.keep(status(400, "")));
        Ok(Self {
            spec: spec.clone(),
            port,
            press,
            connections: Vec::new(),
            scrapes: vec![0; spec.numbers() as usize],
            partial: HashMap::new(),
            pages: HashMap::new(),
            delayed: BinaryHeap::new(),
            fixed,
            nobody,
            astray,
            seals: Seals::new(spec)?,
            text: Vec::new(),
            gzip: memchr::memmem::Finder::new(b"gzip"),
            closing: memchr::memmem::Finder::new(b"onnection: close"),
            started_ns: Now::read().mono_ns,
            opened: 0,
            served,
        })
    }

    /// The bytes of a piece. Those of a [`Piece::Page`] stay where they are as long as this lives.
    pub(super) fn bytes<'a>(&'a self, piece: &'a Piece) -> &'a [u8] {
        self.press.bytes(piece)
    }

    /// A piece is sent, or never will be.
    pub(super) fn recycle(&mut self, piece: Piece) {
        self.press.recycle(piece);
    }

    /// A connection begins.
    pub(super) fn opened(&mut self, conn: Conn) {
        self.opened = self.opened.wrapping_add(1);
        let fresh = Connection {
            target: NOWHERE,
            serial: self.opened,
            population: 0,
            state: State::Listening,
            way: Way::Unknown,
            is_partial: false,
        };
        if conn as usize >= self.connections.len() {
            self.connections.resize(conn as usize + 1, Connection { state: State::Over, serial: 0, ..fresh });
        }
        self.connections[conn as usize] = fresh;
    }

    /// A connection is over.
    pub(super) fn closed(&mut self, conn: Conn) {
        let c = &mut self.connections[conn as usize];
        c.state = State::Over;
        c.serial = 0;
        let is_sealed = std::mem::replace(&mut c.way, Way::Unknown) == Way::Sealed;
        if std::mem::take(&mut c.is_partial) {
            self.partial.remove(&conn);
        }
        if !self.pages.is_empty() {
            self.pages.remove(&conn);
        }
        if let Some(seals) = self.seals.as_mut().filter(|_| is_sealed) {
            seals.forget(conn);
        }
    }

    /// Bytes came.
    pub(super) fn received(&mut self, conn: Conn, bytes: &[u8], now_ns: u64, orders: &mut Vec<Order>) {
        let way = &mut self.connections[conn as usize].way;
        if *way == Way::Unknown {
            let is_sealed = self.seals.as_mut().is_some_and(|s| s.begins(conn, bytes));
            *way = if is_sealed { Way::Sealed } else { Way::Plain };
        }
        if *way == Way::Sealed {
            self.unseal(conn, bytes, now_ns, orders)
        } else {
            self.heard(conn, bytes, now_ns, orders)
        }
    }

    /// Bytes came over TLS.
    fn unseal(&mut self, conn: Conn, bytes: &[u8], now_ns: u64, orders: &mut Vec<Order>) {
        let Some(seals) = &mut self.seals else { return };
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        if let Err(Broken) = seals.open(conn, bytes, &mut text) {
            self.connections[conn as usize].state = State::Over;
        }
        if !text.is_empty() {
            self.heard(conn, &text, now_ns, orders);
        }
        self.text = text;
        orders.extend(self.seals.as_mut().and_then(|s| s.due(conn)));
    }

    /// Plain bytes came. A whole request in one piece, the usual case, is not copied.
    fn heard(&mut self, conn: Conn, bytes: &[u8], now_ns: u64, orders: &mut Vec<Order>) {
        let c = self.connections[conn as usize];
        match c.state {
            State::Over => {}
            State::Listening
                if !c.is_partial && bytes.ends_with(b"\r\n\r\n") && head_end(bytes) == Some(bytes.len()) =>
            {
                self.answer(conn, bytes, now_ns, orders);
            }
            State::Listening | State::Answering => {
                self.connections[conn as usize].is_partial = true;
                let kept = self.partial.entry(conn).or_default();
                if kept.len() + bytes.len() > REQUEST_BYTES_MAX {
                    return self.reset(conn, orders);
                }
                kept.extend_from_slice(bytes);
                self.take_kept(conn, now_ns, orders);
            }
        }
    }

    /// A piece with [`Then::Tell`] was sent.
    pub(super) fn sent(&mut self, conn: Conn, now_ns: u64, orders: &mut Vec<Order>) {
        if self.connections[conn as usize].way == Way::Sealed
            && let Some(seals) = &mut self.seals
            && !seals.sent(conn)
        {
            return orders.extend(seals.due(conn));
        }
        if let Some((mut asked, then)) = self.pages.remove(&conn) {
            asked.page += 1;
            return self.send_page(conn, asked, then, orders);
        }
        self.connections[conn as usize].state = State::Listening;
        self.take_kept(conn, now_ns, orders);
    }

    /// When the next delayed answer is due.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.delayed.peek().map(|Reverse(d)| d.due_ns)
    }

    /// Sends what is due.
    pub(super) fn release(&mut self, now_ns: u64, orders: &mut Vec<Order>) {
        while let Some(&Reverse(d)) = self.delayed.peek().filter(|d| d.0.due_ns <= now_ns) {
            self.delayed.pop();
            // The scraper may have given up meanwhile, and the number may be another connection's by now.
            if self.connections[d.conn as usize].serial == d.serial {
                let wish = Wish { is_packed: d.is_packed, is_last: d.is_last };
                self.send(d.conn, wish, now_ns, orders);
            }
        }
    }

    fn reset(&mut self, conn: Conn, orders: &mut Vec<Order>) {
        self.closed(conn);
        orders.push(Order::Reset(conn));
    }

    /// Answers the requests that are kept aside, until one has to wait.
    fn take_kept(&mut self, conn: Conn, now_ns: u64, orders: &mut Vec<Order>) {
        while self.connections[conn as usize].is_partial && self.connections[conn as usize].state == State::Listening {
            let Some(mut kept) = self.partial.remove(&conn) else { return };
            let Some(end) = head_end(&kept) else {
                self.partial.insert(conn, kept);
                return;
            };
            let rest = kept.split_off(end);
            self.connections[conn as usize].is_partial = !rest.is_empty();
            if !rest.is_empty() {
                self.partial.insert(conn, rest);
            }
            self.answer(conn, &kept, now_ns, orders);
        }
    }

    fn answer(&mut self, conn: Conn, head: &[u8], now_ns: u64, orders: &mut Vec<Order>) {
        if self.connections[conn as usize].target == NOWHERE {
            let found = target_of(head, &self.spec, self.port).and_then(|t| Some((t, self.spec.population(t)?.0)));
            let is_sealed = self.connections[conn as usize].way == Way::Sealed;
            let is_asked_so = |(_, population): &(u32, usize)| self.spec.populations[*population].tls == is_sealed;
            let Some((target, population)) = found.filter(is_asked_so) else {
                self.connections[conn as usize].state = State::Over;
                let refusal = if found.is_some() { &self.astray } else { &self.nobody };
                let Piece::Page(refusal) = *refusal else { return };
                return self.give(conn, Piece::Page(refusal), Then::Fin, orders);
            };
            let c = &mut self.connections[conn as usize];
            (c.target, c.population) = (target, population as u8);
        }
        let c = self.connections[conn as usize];
        let population = &self.spec.populations[usize::from(c.population)];
        let wish = Wish {
            is_packed: population.gzip && self.gzip.find(head).is_some(),
            is_last: population.closes || self.closing.find(head).is_some() || is_old(head),
        };
        let scrape = &mut self.scrapes[c.target as usize];
        *scrape = scrape.wrapping_add(1);
        let delay_ms = match population.manner {
            Manner::SlowMs(ms) => ms,
            Manner::DelayMs([least, most]) => {
                let luck = hash(u64::from(c.target) << 32 | u64::from(*scrape));
                least + (luck % u64::from(most - least + 1)) as u32
            }
            Manner::Silent => {
                self.connections[conn as usize].state = State::Over;
                return;
            }
            Manner::Reset => return self.reset(conn, orders),
            _ => 0,
        };
        if delay_ms == 0 {
            return self.send(conn, wish, now_ns, orders);
        }
        self.connections[conn as usize].state = State::Answering;
        let due_ns = now_ns + u64::from(delay_ms) * 1_000_000;
        let Wish { is_packed, is_last } = wish;
        self.delayed.push(Reverse(Delayed { due_ns, conn, serial: c.serial, is_packed, is_last }));
    }

    fn send(&mut self, conn: Conn, wish: Wish, now_ns: u64, orders: &mut Vec<Order>) {
        let c = self.connections[conn as usize];
        let at = usize::from(c.population);
        let at_ms = (now_ns - self.started_ns) / 1_000_000;
        let asked = Asked { target: c.target, scrape: self.scrapes[c.target as usize], at_ms, page: 0 };
        let manner = self.spec.populations[at].manner;
        self.served.store(self.served.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        let then = match manner {
            Manner::Garbage | Manner::Truncated => Then::Fin,
            // Half an answer leaves the scraper waiting.
            Manner::Stall => Then::Rest,
            _ if wish.is_last => Then::Fin,
            _ if c.is_partial || c.way == Way::Sealed => Then::Tell,
            _ => Then::Rest,
        };
        self.connections[conn as usize].state = match then {
            Then::Rest if manner != Manner::Stall => State::Listening,
            Then::Tell => State::Answering,
            _ => State::Over,
        };
        if self.press.pages(at) > 0 {
            self.connections[conn as usize].state = State::Answering;
            return self.send_page(conn, asked, then, orders);
        }
        let piece = match (&self.fixed[at], manner) {
            (Some(Piece::Page(fixed)), _) => Piece::Page(*fixed),
            (_, Manner::Truncated | Manner::Stall) => self.press.half(at, asked),
            _ if wish.is_packed => self.press.packed(at, asked),
            _ => self.press.whole(at, asked),
        };
        self.give(conn, piece, then, orders);
    }

    /// Sends one page; the next when this one is sent.
    fn send_page(&mut self, conn: Conn, asked: Asked, then: Then, orders: &mut Vec<Order>) {
        let at = usize::from(self.connections[conn as usize].population);
        let piece = self.press.page(at, asked);
        let is_last_page = asked.page + 1 == self.press.pages(at);
        if !is_last_page {
            self.pages.insert(conn, (asked, then));
        }
        let then = match then {
            Then::Fin if is_last_page => Then::Fin,
            _ => Then::Tell,
        };
        self.give(conn, piece, then, orders);
    }

    /// Has a piece sent, the way the request came.
    fn give(&mut self, conn: Conn, piece: Piece, then: Then, orders: &mut Vec<Order>) {
        match &mut self.seals {
            Some(seals) if self.connections[conn as usize].way == Way::Sealed => {
                seals.seal(conn, piece, then, &mut self.press);
                orders.extend(seals.due(conn));
            }
            _ => orders.push(Order::Send(conn, piece, then)),
        }
    }
}

fn head_end(request: &[u8]) -> Option<usize> {
    memchr::memmem::find(request, b"\r\n\r\n").map(|i| i + 4)
}

/// Whether the request's line is of HTTP/1.0, which keeps no connection.
fn is_old(head: &[u8]) -> bool {
    memchr::memchr(b'\r', head).is_some_and(|end| head[..end].ends_with(b" HTTP/1.0"))
}

/// The target whose address and port the Host header names.
fn target_of(head: &[u8], spec: &Spec, port: u16) -> Option<u32> {
    let lines = head.split(|b| *b == b'\n');
    let value = lines.filter_map(|l| l.split_at_checked(5)).find(|(name, _)| name.eq_ignore_ascii_case(b"host:"))?.1;
    let host = std::str::from_utf8(value).ok()?.trim();
    let (ip, at_port) = match host.split_once(':') {
        Some((ip, port)) => (ip, port.parse::<u16>().ok()?),
        None => (host, 80),
    };
    let ip = u32::from(ip.parse::<Ipv4Addr>().ok()?);
    let address = ip.checked_sub(u32::from(spec.first_address))?;
    let offset = u32::from(at_port).checked_sub(u32::from(port)).filter(|o| *o < u32::from(spec.ports))?;
    address.checked_mul(u32::from(spec.ports))?.checked_add(offset).filter(|t| *t < spec.numbers())
}
