//! Jobs over TLS: the handshake before the request, records opened before the HTTP machine sees them.

use super::run::{Net, Relay};
use super::tls::{Fault, Parting, Scratch, Session};
use super::{NetError, Outcome, Secured, Sink};
use crate::base::time::Now;
use crate::engine::{Backend, Chunk, Close, Span};
use crate::http::{Ending, Flow, HttpError, Progress};

/// The sessions of all connections, by token; empty while no target wants TLS.
#[derive(Debug, Default)]
pub(super) struct Sealed {
    sessions: Vec<Option<Box<Held>>>,
    scratch: Scratch,
}

#[derive(Debug)]
struct Held {
    session: Session,
    made_with: Secured,
}

impl Sealed {
    /// Whether the token's connection is what a job with these settings needs: both plain, or made with the same.
    pub(super) fn fits(&self, token: u32, tls: Option<Secured>) -> bool {
        self.sessions.get(token as usize).and_then(Option::as_ref).map(|h| h.made_with) == tls
    }

    /// The token's connection is closed like this; what to say before goes to `words`.
    pub(super) fn end(&mut self, token: u32, how: Close, words: &mut Vec<u8>) {
        if let Some(held) = self.sessions.get_mut(token as usize).and_then(Option::take) {
            let ending = if how == Close::Fin { Parting::Orderly } else { Parting::Abrupt };
            held.session.retire(ending, words, &mut self.scratch);
        }
    }

    fn begin(&mut self, token: u32, session: Session, made_with: Secured) {
        let at = token as usize;
        if at >= self.sessions.len() {
            self.sessions.resize_with(at + 1, || None);
        }
        self.sessions[at] = Some(Box::new(Held { session, made_with }));
    }

    fn of(&mut self, token: u32) -> (&mut Session, &mut Scratch) {
        let held = self.sessions[token as usize].as_mut().expect("an open connection of a secured job has a session");
        (&mut held.session, &mut self.scratch)
    }
}

impl<B: Backend> Net<B> {
    /// Dials with the first bytes of a handshake.
    pub(super) fn dial_sealed(&mut self, flight: u32, now: Now, sink: &mut impl Sink) {
        let job = self.flights[flight as usize].job;
        let made_with = job.tls.expect("a secured job");
        let begun = sink.session(job.token).and_then(|session| {
            self.sealed.begin(job.token, session, made_with);
            let (session, scratch) = self.sealed.of(job.token);
            scratch.out.clear();
            session.hello(scratch)
        });
        if let Err(fault) = begun {
            self.sealed.end(job.token, Close::Reset, &mut self.scratch);
            self.scratch.clear();
            return self.fail(flight, NetError::Tls(fault), now, sink);
        }
        self.flights[flight as usize].open = true;
        // Last words go before the end, so the socket is not free at once.
        self.backend.dial(job.token, job.addr, Span::Kept, &mut self.sealed.scratch.out);
    }

    /// Sends the request in `scratch` on the kept connection.
    pub(super) fn send_sealed(&mut self, flight: u32, now: Now, sink: &mut impl Sink) {
        let token = self.flights[flight as usize].job.token;
        let (session, scratch) = self.sealed.of(token);
        scratch.out.clear();
        let sealed = session.seal(&self.scratch, scratch);
        self.scratch.fill(0);
        match sealed {
            Ok(()) => self.backend.send(token, &mut self.sealed.scratch.out),
            Err(fault) => self.fail(flight, NetError::Tls(fault), now, sink),
        }
    }

    /// Takes bytes of a secured connection.
    pub(super) fn take_sealed(&mut self, flight: u32, chunk: Chunk, now: Now, sink: &mut impl Sink) {
        let f = &mut self.flights[flight as usize];
        let (token, read) = (f.job.token, (f.job.token, f.serial));
        let bytes = self.backend.chunk_mut(chunk);
        f.phases.wire_bytes += bytes.len() as u64;
        let (session, scratch) = self.sealed.of(token);
        scratch.out.clear();
        let (mut progress, mut is_early) = (Ok(Progress::More), false);
        let fed = session.feed(bytes, scratch, |plain| {
            if !f.asked {
                is_early = true;
                return Flow::Stop;
            }
            // What comes behind the end of a response is not fed any more.
            if progress != Ok(Progress::More) {
                progress = Ok(Progress::Done(Ending::Close));
                return Flow::Stop;
            }
            if !f.response.begun() {
                f.phases.first_byte = now.mono_ns;
                self.pace.answered(now.mono_ns.saturating_sub(f.phases.sent));
            }
            progress = f.response.feed(plain, &mut Relay { token, sink });
            if matches!(progress, Ok(Progress::More | Progress::Done(_))) { Flow::More } else { Flow::Stop }
        });
        let (quiet, closed) = (session.is_quiet() && scratch.out.is_empty(), session.is_closed());
        match progress {
            Err(e) => self.fail(flight, NetError::Response(e), now, sink),
            Ok(Progress::Done(ending)) => {
                // A record behind the end that cannot be read spoils only the connection.
                let ending = if quiet && fed == Ok(Flow::More) { ending } else { Ending::Close };
                self.end(flight, Outcome::Done, ending, now, sink);
            }
            Ok(Progress::Stopped) => self.stop(flight, now, sink),
            Ok(Progress::More) if is_early => self.fail(flight, NetError::Tls(Fault::Misbehaved), now, sink),
            Ok(Progress::More) => match fed {
                Err(fault) => self.retry_or(flight, NetError::Tls(fault), now, sink),
                Ok(_) if closed => self.take_sealed_eof(flight, now, sink),
                Ok(_) => self.answer_sealed(flight, (read, chunk), now, sink),
            },
        }
    }

    /// Sends what the session wants sent, and the request once it may; else reads on.
    fn answer_sealed(&mut self, flight: u32, read: ((u32, u32), Chunk), now: Now, sink: &mut impl Sink) {
        let token = self.flights[flight as usize].job.token;
        let (session, scratch) = self.sealed.of(token);
        let f = &mut self.flights[flight as usize];
        if session.is_established() && !f.asked {
            (f.asked, f.phases.secured) = (true, now.mono_ns);
            self.scratch.clear();
            sink.request(token, &mut self.scratch);
            let sealed = session.seal(&self.scratch, scratch);
            self.scratch.fill(0);
            if let Err(fault) = sealed {
                return self.fail(flight, NetError::Tls(fault), now, sink);
            }
        }
        if scratch.out.is_empty() {
            return self.read_on(read.0, read.1, now, sink);
        }
        self.backend.reply(token, &mut scratch.out);
    }

    /// The peer closed its side, with or without saying so over TLS. Without, the end of a response counts all the same
    /// when it lies between two records. go: crypto/tls, readRecordOrCCS.
    pub(super) fn take_sealed_eof(&mut self, flight: u32, now: Now, sink: &mut impl Sink) {
        let f = &mut self.flights[flight as usize];
        let (session, _) = self.sealed.of(f.job.token);
        if !session.is_established() {
            return self.fail(flight, NetError::Tls(Fault::HungUp), now, sink);
        }
        let whole = session.is_closed() || session.is_quiet();
        match f.response.eof() {
            Ok(()) if whole => self.end(flight, Outcome::Done, Ending::Close, now, sink),
            Ok(()) => self.fail(flight, NetError::Response(HttpError::UnexpectedEof), now, sink),
            Err(HttpError::Eof) => self.retry_or(flight, NetError::Response(HttpError::Eof), now, sink),
            Err(e) => self.fail(flight, NetError::Response(e), now, sink),
        }
    }
}
