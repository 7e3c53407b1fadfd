//! The head of a response: status line, headers, and what they say about the body that follows.

use std::mem::MaybeUninit;

use super::HttpError;
use crate::base::limits::HEADERS_MAX;

/// How the body is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Exactly this many bytes; also statuses that carry no body.
    Length(u64),
    /// Chunked transfer encoding.
    Chunked,
    /// Until the peer closes.
    UntilClose,
}

/// What came before the body. Borrowed from the receive buffer.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'a> {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase, maybe empty.
    pub reason: &'a str,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may serve another request after this response.
    pub keep_alive: bool,
    headers: &'a [httparse::Header<'a>],
}

impl<'a> ResponseHead<'a> {
    /// The value of the first header of that name, without surrounding blanks. Names compare without case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.iter().find(|h| h.name.eq_ignore_ascii_case(name)).map(|h| h.value)
    }

    /// `Content-Type`.
    #[must_use]
    pub fn content_type(&self) -> Option<&'a [u8]> {
        self.header("content-type")
    }

    /// `Content-Encoding`.
    #[must_use]
    pub fn content_encoding(&self) -> Option<&'a [u8]> {
        self.header("content-encoding")
    }

    /// `Location`.
    #[must_use]
    pub fn location(&self) -> Option<&'a [u8]> {
        self.header("location")
    }

    /// `Retry-After`.
    #[must_use]
    pub fn retry_after(&self) -> Option<&'a [u8]> {
        self.header("retry-after")
    }

    /// Body bytes that will come, where the head says.
    #[must_use]
    pub fn content_length(&self) -> Option<u64> {
        match self.framing {
            Framing::Length(n) => Some(n),
            Framing::Chunked | Framing::UntilClose => None,
        }
    }
}

/// Where a head ends: the offset after its empty line, if it is there. `from` is where to look from.
pub(super) fn end_of_head(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', &bytes[from..]).find_map(|i| match bytes[from + i + 1..] {
        [b'\n', ..] => Some(from + i + 2),
        [b'\r', b'\n', ..] => Some(from + i + 3),
        _ => None,
    })
}

/// Where the digits of `HTTP/1.1` are.
const VERSION_AT: usize = b"HTTP/".len();

/// Parses one whole head (its empty line included) and hands it to `then`.
pub(super) fn with_head<R>(bytes: &[u8], then: impl FnOnce(&ResponseHead<'_>) -> R) -> Result<R, HttpError> {
    match bytes.get(VERSION_AT..VERSION_AT + 3) {
        Some(b"1.1" | b"1.0") | None => with_odd_lines(bytes, then),
        // prometheus: net/http reads any version as HTTP/1, and only asks whether it is before 1.1.
        Some(version) => {
            let mut head = bytes.to_vec();
            head[VERSION_AT..VERSION_AT + 3].copy_from_slice(if *version < b"1.1"[..] { b"1.0" } else { b"1.1" });
            with_odd_lines(&head, then)
        }
    }
}

/// A head that is malformed is read once more without what net/http passes over.
fn with_odd_lines<R>(bytes: &[u8], then: impl FnOnce(&ResponseHead<'_>) -> R) -> Result<R, HttpError> {
    let mut then = Some(then);
    let mut once = |bytes: &[u8]| parsed(bytes, |head| then.take().map(|then| then(head)));
    let found = match once(bytes) {
        Err(HttpError::Head) => once(&without_odd_lines(bytes)),
        found => found,
    };
    found?.ok_or(HttpError::Head)
}

/// Names with blanks, at their end or inside, are no header's: such lines go, with those that continue them. A reason may
/// hold any byte; here those that no terminal should see are question marks.
/// prometheus: net/textproto, canonicalMIMEHeaderKey; net/http, ReadResponse.
fn without_odd_lines(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let (mut is_first, mut is_odd) = (true, false);
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if is_first {
            let text = line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n")).unwrap_or(line);
            out.extend(text.iter().map(|b| if b.is_ascii_control() && *b != b'\t' { b'?' } else { *b }));
            out.extend_from_slice(&line[text.len()..]);
            is_first = false;
            continue;
        }
        is_odd = if matches!(line.first(), Some(b' ' | b'\t')) { is_odd } else { has_blank_in_name(line) };
        if !is_odd {
            out.extend_from_slice(line);
        }
    }
    out
}

fn has_blank_in_name(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = &line[..colon];
    name.contains(&b' ') && name.iter().all(|b| *b == b' ' || is_token(*b))
}

/// A byte of a field name. go: net/textproto, validHeaderFieldByte.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn parsed<R>(bytes: &[u8], then: impl FnOnce(&ResponseHead<'_>) -> R) -> Result<R, HttpError> {
    let mut space = [const { MaybeUninit::<httparse::Header<'_>>::uninit() }; HEADERS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let mut rules = httparse::ParserConfig::default();
    // prometheus: net/textproto joins continuation lines, so a folded header is not an error.
    rules.allow_obsolete_multiline_headers_in_responses(true);
    rules.allow_multiple_spaces_in_response_status_delimiters(true);
    match rules.parse_response_with_uninit_headers(&mut parsed, bytes, &mut space) {
        Ok(httparse::Status::Complete(_)) => {}
        Ok(httparse::Status::Partial) => return Err(HttpError::Head),
        Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooManyHeaders),
        Err(_) => return Err(HttpError::Head),
    }
    let (Some(status), Some(minor)) = (parsed.code, parsed.version) else { return Err(HttpError::Head) };
    let headers: &[httparse::Header<'_>] = parsed.headers;
    let (framing, keep_alive) = framing(status, minor, headers)?;
    Ok(then(&ResponseHead { status, reason: parsed.reason.unwrap_or(""), framing, keep_alive, headers }))
}

/// The body's delimiting and the keep-alive verdict. `minor` is the digit after `HTTP/1.`.
fn framing(status: u16, minor: u8, headers: &[httparse::Header<'_>]) -> Result<(Framing, bool), HttpError> {
    let (mut length, mut chunked) = (None, false);
    let (mut close, mut keep) = (false, false);
    let mut is_trailer_bad = false;
    for h in headers {
        // Lengths of the four names differ, so most headers cost one comparison.
        match h.name.len() {
            7 if h.name.eq_ignore_ascii_case("trailer") => {
                let bad: [&[u8]; 3] = [b"content-length", b"trailer", b"transfer-encoding"];
                is_trailer_bad |= bad.iter().any(|name| has_token(h.value, name));
            }
            10 if h.name.eq_ignore_ascii_case("connection") => {
                close |= has_token(h.value, b"close");
                keep |= has_token(h.value, b"keep-alive");
            }
            14 if h.name.eq_ignore_ascii_case("content-length") => {
                let n = number(h.value)?;
                if length.is_some_and(|other| other != n) {
                    return Err(HttpError::ConflictingLength);
                }
                length = Some(n);
            }
            // prometheus: net/http reads Transfer-Encoding from HTTP/1.1 on only.
            17 if minor >= 1 && h.name.eq_ignore_ascii_case("transfer-encoding") => {
                if chunked || !h.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(HttpError::TransferEncoding);
                }
                chunked = true;
            }
            _ => {}
        }
    }
    // prometheus: net/http, fixTrailer.
    if chunked && is_trailer_bad {
        return Err(HttpError::Trailer);
    }
    let bodyless = status < 200 || status == 204 || status == 304;
    let framing = match (bodyless, chunked, length) {
        (true, ..) => Framing::Length(0),
        (_, true, _) => Framing::Chunked,
        (_, _, Some(n)) => Framing::Length(n),
        (..) => Framing::UntilClose,
    };
    let persistent = if minor >= 1 { !close } else { keep && !close };
    Ok((framing, persistent && framing != Framing::UntilClose))
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|b| *b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

fn number(value: &[u8]) -> Result<u64, HttpError> {
    let digits = value.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(HttpError::ContentLength);
    }
    let zeros = digits.iter().take_while(|d| **d == b'0').count();
    let digits = &digits[zeros..];
    if digits.len() > 19 {
        return Err(HttpError::ContentLength);
    }
    let n = digits.iter().fold(0u64, |n, d| n * 10 + u64::from(d - b'0'));
    if n > i64::MAX as u64 { Err(HttpError::ContentLength) } else { Ok(n) }
}
