//! One scripted answer of a target: what is sent, when, and what becomes of the connection.

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

/// The content type a stock exporter sends.
pub const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A stretch of an answer. In bytes, `@S@` is replaced by the scraper's letter and `@ADDR@` by the server's address.
#[derive(Debug, Clone)]
pub enum Step {
    Send(Vec<u8>),
    Wait(Duration),
    /// A whole 200 answer that shows these request headers, the path and the query as samples.
    Echo(&'static [&'static str]),
    /// A whole 200 answer of that many samples, each of which has the number of the request on that path as its value.
    Count(usize),
    /// The same in another order each time.
    Shuffle(usize),
}

/// What happens to the connection after the last step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Last {
    Keep,
    /// Over TLS it is announced.
    Close,
    Reset,
    /// As `Close`, but over TLS unannounced.
    Cut,
    /// As `Cut`, but over TLS within a record.
    CutInRecord,
}

/// One scripted answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub steps: Vec<Step>,
    pub last: Last,
}

impl Answer {
    /// These bytes, as they are.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Answer {
        Answer { steps: vec![Step::Send(bytes.as_ref().to_vec())], last: Last::Keep }
    }

    /// 200 with the usual content type and a correct length.
    pub fn ok(body: impl AsRef<[u8]>) -> Answer {
        Answer::typed(TEXT, body)
    }

    /// 200 with that content type.
    pub fn typed(content_type: &str, body: impl AsRef<[u8]>) -> Answer {
        Answer::with("200 OK", &[("Content-Type", content_type)], body)
    }

    /// Any status with the usual content type.
    pub fn status(status: &str, body: impl AsRef<[u8]>) -> Answer {
        Answer::with(status, &[("Content-Type", TEXT)], body)
    }

    /// Any status, these headers, a correct length.
    pub fn with(status: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut bytes = head(status, headers);
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Answer::raw(bytes)
    }

    /// 200 that claims `length` bytes, whatever the body has.
    pub fn lying(length: usize, body: impl AsRef<[u8]>) -> Answer {
        let mut bytes = head("200 OK", &[("Content-Type", TEXT)]);
        bytes.extend_from_slice(format!("Content-Length: {length}\r\n\r\n").as_bytes());
        bytes.extend_from_slice(body.as_ref());
        Answer::raw(bytes)
    }

    /// 200 whose body ends when the connection does.
    pub fn until_close(version: &str, body: impl AsRef<[u8]>) -> Answer {
        let mut bytes = format!("{version} 200 OK\r\nContent-Type: {TEXT}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(body.as_ref());
        Answer::raw(bytes).then(Last::Close)
    }

    /// 200 in chunks of `size` bytes, each with `extension` behind its length, ended by `ending` (normally `0\r\n\r\n`).
    pub fn chunked(body: impl AsRef<[u8]>, size: usize, extension: &str, ending: &str) -> Answer {
        let mut bytes = head("200 OK", &[("Content-Type", TEXT), ("Transfer-Encoding", "chunked")]);
        bytes.extend_from_slice(b"\r\n");
        for chunk in body.as_ref().chunks(size) {
            bytes.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(ending.as_bytes());
        Answer::raw(bytes)
    }

    /// 200 with `Content-Encoding: gzip` over bytes that should be gzip.
    pub fn encoded(encoding: &str, bytes: impl AsRef<[u8]>) -> Answer {
        Answer::with("200 OK", &[("Content-Type", TEXT), ("Content-Encoding", encoding)], bytes)
    }

    /// A redirect without a body.
    pub fn redirect(status: &str, location: &str) -> Answer {
        Answer::with(status, &[("Location", location)], "")
    }

    /// A 200 that shows these request headers, the path and the query.
    pub fn echo(headers: &'static [&'static str]) -> Answer {
        Answer { steps: vec![Step::Echo(headers)], last: Last::Keep }
    }

    /// A 200 that counts the requests on its path.
    pub fn count(samples: usize) -> Answer {
        Answer { steps: vec![Step::Count(samples)], last: Last::Keep }
    }

    /// The same, its samples in another order each time: what a scraper knows of the body helps it little.
    pub fn shuffle(samples: usize) -> Answer {
        Answer { steps: vec![Step::Shuffle(samples)], last: Last::Keep }
    }

    /// Nothing at all, then this.
    pub fn nothing(last: Last) -> Answer {
        Answer { steps: Vec::new(), last }
    }

    /// What becomes of the connection.
    pub fn then(mut self, last: Last) -> Answer {
        self.last = last;
        self
    }

    /// A pause before anything is sent.
    pub fn after(mut self, pause: Duration) -> Answer {
        self.steps.insert(0, Step::Wait(pause));
        self
    }

    /// Sent in pieces of `size` bytes with a pause between.
    pub fn drip(self, size: usize, pause: Duration) -> Answer {
        let mut steps = Vec::new();
        for step in self.steps {
            let Step::Send(bytes) = step else {
                steps.push(step);
                continue;
            };
            for piece in bytes.chunks(size) {
                steps.push(Step::Send(piece.to_vec()));
                steps.push(Step::Wait(pause));
            }
        }
        Answer { steps, last: self.last }
    }

    /// Bytes cut off after `count`, then the connection ends.
    pub fn cut(mut self, count: usize, last: Last) -> Answer {
        if let Some(Step::Send(bytes)) = self.steps.first_mut() {
            bytes.truncate(count);
        }
        self.last = last;
        self
    }
}

/// A status line and headers, without the empty line.
fn head(status: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("HTTP/1.1 {status}\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.into_bytes()
}

/// `body` as gzip.
pub fn gzip(body: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_ref()).expect("writing to memory");
    encoder.finish().expect("writing to memory")
}
