//! The client's side of one TLS connection, without its socket.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus};

use super::Fault;
use crate::base::limits::{TLS_SPARE_BUFFERS, TLS_SPILL_BYTES};
use crate::http::Flow;

/// Type, version, length.
const RECORD_HEAD_BYTES: usize = 5;

/// What the sessions of a shard share: bytes to send, and buffers for records that straddle reads.
#[derive(Debug, Default)]
pub struct Scratch {
    /// What the session wants sent; its user takes it.
    pub out: Vec<u8>,
    spare: Vec<Vec<u8>>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parting {
    /// All that was wanted has come.
    Orderly,
    /// It is broken off.
    Abrupt,
}

/// One connection's session. Idle, it holds its keys and no buffer.
pub struct Session {
    conn: UnbufferedClientConnection,
    /// The beginning of a record, or of a handshake message, that is not complete yet; without room when there is none.
    spill: Vec<u8>,
    /// The alert that says what was wrong; the session has failed.
    alert: Vec<u8>,
    begun: bool,
    established: bool,
    closed: bool,
    failed: bool,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("established", &self.established)
            .field("closed", &self.closed)
            .finish_non_exhaustive()
    }
}

impl Session {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Fault> {
        let conn = UnbufferedClientConnection::new(config, name).map_err(|e| Fault::from_rustls(&e))?;
        let (spill, alert) = (Vec::new(), Vec::new());
        Ok(Self { conn, spill, alert, begun: false, established: false, closed: false, failed: false })
    }

    /// Appends the first bytes of the connection to `scratch.out`.
    ///
    /// # Errors
    /// None in practice.
    pub fn hello(&mut self, scratch: &mut Scratch) -> Result<(), Fault> {
        self.advance(&mut [], &mut scratch.out, &mut |_| Flow::More).map(drop)
    }

    /// Whether requests may be sealed.
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.established
    }

    /// Whether the peer said that nothing more comes.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the connection may be kept: between records, both sides open.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.established && !self.closed && self.spill.is_empty()
    }

    /// Takes the next bytes of the connection, which are changed in place. What they say goes to `take` piece by piece,
    /// until it says stop; what must be sent is appended to `scratch.out`.
    ///
    /// # Errors
    /// [`Fault`]; the connection must be closed.
    pub fn feed(
        &mut self,
        bytes: &mut [u8],
        scratch: &mut Scratch,
        mut take: impl FnMut(&[u8]) -> Flow,
    ) -> Result<Flow, Fault> {
        if !self.begun && !bytes.is_empty() {
            self.begun = true;
            if bytes.starts_with(b"HTTP/") {
                return Err(Fault::PlainHttp);
            }
        }
        let mut rest = bytes;
        while !self.spill.is_empty() && !rest.is_empty() {
            let n = missing(&self.spill).min(rest.len());
            if self.spill.len() + n > TLS_SPILL_BYTES {
                return Err(Fault::TooLarge);
            }
            let (now, later) = rest.split_at_mut(n);
            self.spill.extend_from_slice(now);
            rest = later;
            if missing(&self.spill) == RECORD_HEAD_BYTES || rest.is_empty() {
                let mut spill = std::mem::take(&mut self.spill);
                let advanced = self.advance(&mut spill, &mut scratch.out, &mut take);
                if let Ok((used, _)) = advanced {
                    spill.drain(..used);
                }
                self.spill = spill;
                if let (_, Flow::Stop) = advanced? {
                    return Ok(Flow::Stop);
                }
            }
        }
        if self.spill.is_empty() {
            scratch.take_back(&mut self.spill);
            let (used, flow) = self.advance(rest, &mut scratch.out, &mut take)?;
            // After a stop too: the machine may have begun with what follows, and counts on it in all that is asked of it.
            self.keep(&rest[used..], scratch)?;
            return Ok(flow);
        }
        Ok(Flow::More)
    }

    /// Keeps bytes for the next call.
    fn keep(&mut self, rest: &[u8], scratch: &mut Scratch) -> Result<(), Fault> {
        if rest.is_empty() {
            return Ok(());
        }
        if rest.len() > TLS_SPILL_BYTES {
            return Err(Fault::TooLarge);
        }
        self.spill = scratch.spare.pop().unwrap_or_default();
        self.spill.extend_from_slice(rest);
        Ok(())
    }

    /// Encrypts a request into `scratch.out`, behind what is there.
    ///
    /// # Errors
    /// [`Fault`]; the connection must be closed.
    pub fn seal(&mut self, plain: &[u8], scratch: &mut Scratch) -> Result<(), Fault> {
        self.write(&mut scratch.out, |traffic, out| traffic.encrypt(plain, out))
    }

    /// Ends the session and gives its buffers back. What to say to the peer before its connection is closed is appended to
    /// `words`: what it did wrong, or where all is well that nothing more comes.
    pub fn retire(mut self, ending: Parting, words: &mut Vec<u8>, scratch: &mut Scratch) {
        words.append(&mut self.alert);
        if words.is_empty() && ending == Parting::Orderly && self.established && !self.failed {
            // Whoever closes has no use for an error.
            let _ = self.write(words, |traffic, out| traffic.queue_close_notify(out));
        }
        scratch.take_back(&mut self.spill);
    }

    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut encrypt: impl FnMut(&mut WriteTraffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), Fault> {
        let UnbufferedStatus { state, .. } = self.conn.process_tls_records(&mut self.spill);
        let ConnectionState::WriteTraffic(mut traffic) = state.map_err(|e| Fault::from_rustls(&e))? else {
            return Err(Fault::Misbehaved);
        };
        fill(out, |room| {
            encrypt(&mut traffic, room).map_err(|e| match e {
                EncryptError::InsufficientSize(InsufficientSizeError { required_size }) => Some(required_size),
                EncryptError::EncryptExhausted => None,
            })
        })
    }

    /// Runs the machine until it wants more bytes, or `take` says stop; how many of `tls` are used up.
    fn advance(
        &mut self,
        tls: &mut [u8],
        out: &mut Vec<u8>,
        take: &mut impl FnMut(&[u8]) -> Flow,
    ) -> Result<(usize, Flow), Fault> {
        let mut used = 0;
        loop {
            let UnbufferedStatus { mut discard, state } = self.conn.process_tls_records(&mut tls[used..]);
            let mut ended = false;
            let mut flow = Flow::More;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(|e| Fault::from_rustls(&e))?;
                        discard += record.discard;
                        if flow == Flow::More && !record.payload.is_empty() {
                            flow = take(record.payload);
                        }
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut handshake)) => encode(&mut handshake, out)?,
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed) => self.closed = true,
                Ok(ConnectionState::WriteTraffic(_)) => (self.established, ended) = (true, true),
                Ok(ConnectionState::BlockedHandshake | ConnectionState::Closed) => ended = true,
                Ok(_) => return Err(Fault::Misbehaved),
                Err(e) => {
                    used += discard;
                    self.last_words(&mut tls[used..]);
                    return Err(Fault::from_rustls(&e));
                }
            }
            used += discard;
            if ended || flow == Flow::Stop {
                return Ok((used, flow));
            }
        }
    }

    /// The alert that tells the peer what was wrong. `tls` is what the failed machine has left over: where it had begun with
    /// a message it panics without those bytes.
    fn last_words(&mut self, tls: &mut [u8]) {
        self.failed = true;
        if let Ok(ConnectionState::EncodeTlsData(mut alert)) = self.conn.process_tls_records(tls).state {
            let _ = encode(&mut alert, &mut self.alert);
        }
    }
}

type WriteTraffic<'a> = rustls::unbuffered::WriteTraffic<'a, rustls::client::ClientConnectionData>;
type EncodeTlsData<'a> = rustls::unbuffered::EncodeTlsData<'a, rustls::client::ClientConnectionData>;

impl Scratch {
    /// Takes a buffer for the next session that needs one; beyond a few they are freed.
    fn take_back(&mut self, buffer: &mut Vec<u8>) {
        let mut buffer = std::mem::take(buffer);
        if buffer.capacity() > 0 && self.spare.len() < TLS_SPARE_BUFFERS {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}

fn encode(handshake: &mut EncodeTlsData<'_>, out: &mut Vec<u8>) -> Result<(), Fault> {
    fill(out, |room| {
        handshake.encode(room).map_err(|e| match e {
            EncodeError::InsufficientSize(InsufficientSizeError { required_size }) => Some(required_size),
            EncodeError::AlreadyEncoded => None,
        })
    })
}

/// Appends what `write` writes to `out`; it says how much room it needs, or that it cannot.
fn fill(out: &mut Vec<u8>, mut write: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>) -> Result<(), Fault> {
    let before = out.len();
    let mut room = 0;
    loop {
        out.resize(before + room, 0);
        match write(&mut out[before..]) {
            Ok(n) => {
                out.truncate(before + n);
                return Ok(());
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(before);
                return Err(Fault::Host);
            }
        }
    }
}

/// Bytes that complete the last record of `spill`, or its head; a whole head where no record is begun.
fn missing(spill: &[u8]) -> usize {
    let mut rest = spill;
    loop {
        if rest.len() < RECORD_HEAD_BYTES {
            return RECORD_HEAD_BYTES - rest.len();
        }
        let whole = RECORD_HEAD_BYTES + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        match rest.get(whole..) {
            Some(after) => rest = after,
            None => return whole - rest.len(),
        }
    }
}

#[cfg(test)]
impl Scratch {
    /// Buffers that wait for use.
    pub(super) fn spares(&self) -> usize {
        self.spare.len()
    }
}
