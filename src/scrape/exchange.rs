//! One scrape under way: what the answer's head decided, and the body on its way to the parser.
//!
//! The exchange takes the bytes of an answer as they come (de-chunked, still compressed), inflates them, holds them
//! against the limits and feeds the parser. It decides nothing about series and knows no sockets.

use std::net::SocketAddr;
use std::ops::ControlFlow;

use crate::base::limits::{BODY_BYTES_MAX, BODY_SLICE_BYTES};
use crate::base::time::Now;
use crate::config::ScrapeConfig;
use crate::encoding::gzip::{GzipBody, GzipError, Inflated, Inflater};
use crate::exposition::negotiation;
use crate::http::ResponseHead;
use crate::scrape::Scheme;
use crate::scrape::addresses::Addresses;
use crate::scrape::error::ScrapeError;
use crate::scrape::redirect::Place;
use crate::series::{self, Parse, Store};

/// Bodies of answers that do not count are read up to this many bytes, so that the connection stays usable.
const DRAIN_BYTES_MAX: u64 = 64 << 10;

/// Whether more of the body is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Go on.
    More,
    /// The verdict stands; the connection may be closed.
    Nothing,
}

/// What all exchanges of a shard share.
#[derive(Debug)]
pub struct Tools {
    /// Layouts, bindings.
    pub store: Store,
    /// Inflates bodies.
    pub inflater: Inflater,
}

/// What is done with body bytes.
#[derive(Debug)]
enum Body {
    /// No head yet.
    AwaitingHead,
    /// Fed to the parser as they are.
    Plain,
    /// Inflated first.
    Gzip(GzipBody),
    /// Thrown away: the verdict stands.
    Drained { left_bytes: u64 },
}

/// One scrape under way.
#[derive(Debug)]
pub struct Exchange {
    /// Sample timestamp, milliseconds.
    pub time_ms: i64,
    /// When the cycle began.
    pub started: Now,
    /// Deadline, monotonic.
    pub deadline_mono_ns: u64,
    /// Redirects followed so far.
    pub hops: u32,
    /// The URL of the answer that led to `place`.
    pub referer: Option<String>,
    /// Where the last redirect led; `None` while at the target's own URL.
    pub place: Option<Place>,
    /// Addresses of `place`, once they were looked up: where it was given by a name that is not the target's own.
    pub place_addresses: Option<Box<Addresses>>,
    /// False once a redirect has left the target's host; it stays so for the rest of the chain.
    pub may_carry_credentials: bool,
    /// Which of the resolved addresses is tried.
    pub address_index: usize,
    /// The address of the target's own host that was handed to the net.
    pub addr: Option<SocketAddr>,
    /// Redirect to follow once this answer has ended.
    pub location: Option<String>,
    /// Decompressed bytes so far.
    pub body_bytes: u64,
    /// What a large answer was admitted with, or holds, if that is more; 0 before.
    pub admitted_bytes: usize,
    error: Option<ScrapeError>,
    /// A type that cannot be parsed: held against the first byte of the body, since an empty one is a success whatever its
    /// type, and only when the body could be read. prometheus: scrape.go, append.
    bad_type: Option<ScrapeError>,
    parse: Option<Parse>,
    body: Body,
    limit_bytes: u64,
}

impl Exchange {
    /// A cycle that begins now.
    #[must_use]
    pub fn new(time_ms: i64, started: Now, deadline_mono_ns: u64, config: &ScrapeConfig) -> Self {
        let limit_bytes = if config.body_size_limit == 0 { BODY_BYTES_MAX } else { config.body_size_limit };
        Self {
            time_ms,
            started,
            deadline_mono_ns,
            hops: 0,
            referer: None,
            place: None,
            place_addresses: None,
            may_carry_credentials: true,
            address_index: 0,
            addr: None,
            location: None,
            body_bytes: 0,
            admitted_bytes: 0,
            error: None,
            bad_type: None,
            parse: None,
            body: Body::AwaitingHead,
            limit_bytes,
        }
    }

    /// Takes the head: status, redirect, content type, encoding.
    pub fn on_head(&mut self, head: &ResponseHead<'_>, config: &ScrapeConfig, tools: &mut Tools, new: Parse) -> Wanted {
        if config.http.follow_redirects
            && is_redirect(head.status)
            && let Some(location) = head.location().filter(|l| !l.is_empty())
        {
            self.location = Some(String::from_utf8_lossy(location).into_owned());
            return self.drain(head);
        }
        if head.status != 200 {
            self.error = Some(ScrapeError::Status { code: head.status, reason: head.reason.to_owned() });
            return self.drain(head);
        }
        if head.content_encoding() == Some(b"zstd") {
            self.error = Some(ScrapeError::Zstd);
            return self.drain(head);
        }
        let content_type = head.content_type().map(String::from_utf8_lossy);
        let verdict = negotiation::check(content_type.as_deref(), config.fallback_scrape_protocol);
        self.bad_type = verdict.err().map(ScrapeError::ContentType);
        let is_gzip = head.content_encoding() == Some(b"gzip");
        self.body = if is_gzip { Body::Gzip(tools.inflater.body(self.limit_bytes)) } else { Body::Plain };
        self.parse = Some(new);
        Wanted::More
    }

    /// Takes body bytes.
    pub fn on_bytes(&mut self, bytes: &[u8], tools: &mut Tools) -> Wanted {
        match std::mem::replace(&mut self.body, Body::AwaitingHead) {
            Body::AwaitingHead => unreachable!("a body follows its head"),
            Body::Drained { left_bytes } => {
                let left_bytes = left_bytes.saturating_sub(bytes.len() as u64);
                self.body = Body::Drained { left_bytes };
                // A redirect is followed however much more there is. prometheus: net/http, client.do.
                if left_bytes == 0 && self.location.is_some() { Wanted::Nothing } else { Wanted::More }
            }
            Body::Plain => {
                self.body = Body::Plain;
                self.on_plain(bytes)
            }
            Body::Gzip(mut body) => {
                let fed = tools.inflater.feed(&mut body, bytes, |slice| self.on_inflated(slice));
                self.body = Body::Gzip(body);
                self.after_gzip(fed)
            }
        }
    }

    /// Ends the body: what the inflater still holds, its checksum. What it holds may be a thousand times as much as came:
    /// `false` while there is more of it.
    #[must_use]
    pub fn on_end(&mut self, tools: &mut Tools) -> bool {
        let Body::Gzip(mut body) = std::mem::replace(&mut self.body, Body::AwaitingHead) else { return true };
        let fed = tools.inflater.finish(&mut body, |slice| self.on_inflated(slice));
        if fed == Ok(Inflated::Piece) {
            self.body = Body::Gzip(body);
            return false;
        }
        tools.inflater.discard(body);
        let _ = self.after_gzip(fed);
        true
    }

    /// The verdict: the parser with the whole body, or what went wrong.
    ///
    /// # Errors
    /// The first thing that went wrong.
    pub fn into_parse(self) -> Result<Option<Parse>, ScrapeError> {
        self.error.map_or(Ok(self.parse), Err)
    }

    /// Sets the verdict, unless one stands already.
    pub fn fail(&mut self, error: ScrapeError) {
        self.error.get_or_insert(error);
    }

    /// Bytes that wait in memory for the end of the body: compressed ones, and what was parsed.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        let compressed = match &self.body {
            Body::Gzip(body) => body.held_bytes(),
            Body::AwaitingHead | Body::Plain | Body::Drained { .. } => 0,
        };
        compressed + self.parse.as_ref().map_or(0, Parse::held_bytes)
    }

    /// Whether a verdict stands.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.error.is_some()
    }

    /// Goes on to where a redirect of `url` leads. The answer that said so had no body of interest.
    pub fn hop(&mut self, url: String, place: Place) {
        assert!(self.parse.is_none(), "a redirect is not parsed");
        self.hops += 1;
        // prometheus: net/http, refererForURL: what was encrypted is not told in clear text.
        let is_secret = url.starts_with("https:") && place.scheme == Scheme::Http;
        self.referer = (!is_secret).then_some(url);
        self.place = Some(place);
        (self.place_addresses, self.address_index) = (None, 0);
        self.body = Body::AwaitingHead;
    }

    fn drain(&mut self, head: &ResponseHead<'_>) -> Wanted {
        let left_bytes = head.content_length().unwrap_or(DRAIN_BYTES_MAX);
        if left_bytes > DRAIN_BYTES_MAX {
            return Wanted::Nothing;
        }
        // One more, so that a body that ends where it says leaves the connection usable.
        self.body = Body::Drained { left_bytes: left_bytes + 1 };
        Wanted::More
    }

    fn on_plain(&mut self, bytes: &[u8]) -> Wanted {
        self.body_bytes += bytes.len() as u64;
        // prometheus: scrape.go, readResponse: the limit is hit when the size reaches it.
        if self.body_bytes >= self.limit_bytes {
            self.error = Some(ScrapeError::BodyTooLarge { limit_bytes: self.limit_bytes });
        }
        if let Some(bad_type) = self.bad_type.take() {
            self.fail(bad_type);
        }
        if self.error.is_some() {
            self.parse = None;
            return Wanted::Nothing;
        }
        let parse = self.parse.as_mut().expect("a parser was made with the head");
        for slice in bytes.chunks(BODY_SLICE_BYTES) {
            if parse.feed(slice) == series::Flow::Stop {
                // The verdict stands, but the size still counts against the limit.
                return Wanted::More;
            }
        }
        Wanted::More
    }

    fn on_inflated(&mut self, bytes: &[u8]) -> ControlFlow<()> {
        match self.on_plain(bytes) {
            Wanted::More => ControlFlow::Continue(()),
            Wanted::Nothing => ControlFlow::Break(()),
        }
    }

    fn after_gzip(&mut self, fed: Result<Inflated, GzipError>) -> Wanted {
        match fed {
            Ok(Inflated::All | Inflated::Piece) => Wanted::More,
            Ok(Inflated::BrokenOff) => Wanted::Nothing,
            Err(GzipError::TooLarge) => {
                self.fail(ScrapeError::BodyTooLarge { limit_bytes: self.limit_bytes });
                Wanted::Nothing
            }
            Err(e) => {
                self.fail(ScrapeError::Gzip(e));
                Wanted::Nothing
            }
        }
    }
}

fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}
