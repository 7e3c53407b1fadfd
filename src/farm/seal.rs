//! TLS of the farm: a rustls session for each connection that begins with a ClientHello, between sockets and exporters.
//!
//! Requests come out of records here and answers go into them, so that both drivers of sockets know of neither. One piece
//! of a connection is under way at a time: what the session wants sent meanwhile waits and goes with the next.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

use super::Spec;
use super::exporters::{Conn, Order, Then};
use super::press::{Piece, Press};

/// Nobody's certificate, for farms and tests only: self-signed, for `farm.test`, and its key is in the tree.
const CERTIFICATE: &[u8] = include_bytes!("testdata/farm.pem");
const KEY: &[u8] = include_bytes!("testdata/farm-key.pem");
/// First byte of a connection over TLS: a record of the handshake. No request begins with it.
const HANDSHAKE: u8 = 22;
/// Tickets after a full handshake, as many as exporters send, whose servers are Go's.
const TICKETS: usize = 1;

/// The sessions of all connections over TLS.
pub(super) struct Seals {
    config: Arc<ServerConfig>,
    sessions: HashMap<Conn, Session>,
}

struct Session {
    tls: ServerConnection,
    /// Records that wait until what is under way is sent.
    out: Vec<u8>,
    is_sending: bool,
    /// What follows when all of it is sent.
    then: Then,
}

/// The peer does not speak TLS as it should.
#[derive(Debug)]
pub(super) struct Broken;

impl Seals {
    /// None for a farm without targets over TLS.
    pub(super) fn new(spec: &Spec) -> io::Result<Option<Self>> {
        if !spec.populations.iter().any(|p| p.tls) {
            return Ok(None);
        }
        Ok(Some(Self { config: Arc::new(config().map_err(io::Error::other)?), sessions: HashMap::new() }))
    }

    /// Begins a session when these are the first bytes of one.
    pub(super) fn begins(&mut self, conn: Conn, bytes: &[u8]) -> bool {
        if bytes.first() != Some(&HANDSHAKE) {
            return false;
        }
        let Ok(mut tls) = ServerConnection::new(Arc::clone(&self.config)) else { return false };
        // An answer is sealed whole, however large.
        tls.set_buffer_limit(None);
        self.sessions.insert(conn, Session { tls, out: Vec::new(), is_sending: false, then: Then::Rest });
        true
    }

    pub(super) fn forget(&mut self, conn: Conn) {
        self.sessions.remove(&conn);
    }

    /// Takes bytes of a connection and appends what they say to `text`.
    pub(super) fn open(&mut self, conn: Conn, mut bytes: &[u8], text: &mut Vec<u8>) -> Result<(), Broken> {
        let Some(session) = self.sessions.get_mut(&conn).filter(|s| s.then != Then::Fin) else { return Ok(()) };
        while !bytes.is_empty() {
            let taken = session.tls.read_tls(&mut bytes);
            let opened = session.tls.process_new_packets().map(|state| state.plaintext_bytes_to_read());
            session.drain();
            let (Ok(taken), Ok(plain)) = (taken, opened) else {
                // The alert that says what was wrong is the last thing to send.
                session.then = Then::Fin;
                return Err(Broken);
            };
            let at = text.len();
            text.resize(at + plain, 0);
            if session.tls.reader().read_exact(&mut text[at..]).is_err() || taken == 0 {
                // Behind a close_notify nothing is read.
                text.truncate(at);
                break;
            }
        }
        Ok(())
    }

    /// Seals a piece of the press behind what waits already.
    pub(super) fn seal(&mut self, conn: Conn, piece: Piece, then: Then, press: &mut Press) {
        let Some(session) = self.sessions.get_mut(&conn).filter(|s| s.then != Then::Fin) else { return };
        if session.out.capacity() == 0 {
            session.out = press.blank();
        }
        // Without a limit the writer takes all.
        let _ = session.tls.writer().write_all(press.bytes(&piece));
        press.recycle(piece);
        if then == Then::Fin {
            session.tls.send_close_notify();
        }
        session.drain();
        session.then = then;
    }

    /// What is to be sent now.
    pub(super) fn due(&mut self, conn: Conn) -> Option<Order> {
        let session = self.sessions.get_mut(&conn).filter(|s| !s.is_sending && !s.out.is_empty())?;
        session.is_sending = true;
        let then = if session.then == Then::Fin { Then::Fin } else { Then::Tell };
        Some(Order::Send(conn, Piece::Own(std::mem::take(&mut session.out)), then))
    }

    /// What was under way is sent. Returns whether the exporters wait to hear of it.
    pub(super) fn sent(&mut self, conn: Conn) -> bool {
        let Some(session) = self.sessions.get_mut(&conn) else { return false };
        session.is_sending = false;
        let is_told = session.out.is_empty() && session.then == Then::Tell;
        if is_told {
            session.then = Then::Rest;
        }
        is_told
    }
}

impl Session {
    /// Moves what the session wants sent to `out`.
    fn drain(&mut self) {
        while self.tls.wants_write() {
            if self.tls.write_tls(&mut self.out).is_err() {
                return;
            }
        }
    }
}

fn config() -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let (cert, key) = (CertificateDer::from_pem_slice(CERTIFICATE)?, PrivateKeyDer::from_pem_slice(KEY)?);
    let builder = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let builder = builder.with_safe_default_protocol_versions()?.with_no_client_auth();
    let mut config = builder.with_single_cert(vec![cert], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // Tickets hold the sessions, so that any number of clients can resume theirs and nothing is kept here.
    config.ticketer = Ticketer::new()?;
    config.send_tls13_tickets = TICKETS;
    Ok(config)
}
