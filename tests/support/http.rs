//! The least HTTP/1.1 a test server needs: one request head read without consuming it, and its fields.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

/// Longest request head taken, bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;

/// One request as it came in.
#[derive(Debug, Clone)]
pub struct Request {
    /// Path with the query.
    pub target: String,
    /// Names lower case, values trimmed, in order.
    pub headers: Vec<(String, String)>,
    /// Bytes of the head including the empty line.
    pub head_bytes: usize,
}

impl Request {
    /// The first header of that (lower-case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }
    /// Path before the `?`.
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or("")
    }
    /// Text after the `?`, empty when there is none.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, q)| q)
    }
}

/// Waits for a whole request head and leaves it in the socket; `None` when the peer closed first or speaks something else,
/// as TLS.
///
/// It is only peeked at, because a socket closed with unread bytes sends a reset: that is how a scripted reset is made.
pub fn peek_request(stream: &TcpStream) -> io::Result<Option<Request>> {
    let mut buffer = vec![0u8; HEAD_BYTES_MAX];
    let mut seen = 0;
    loop {
        let n = stream.peek(&mut buffer)?;
        if !buffer[..n].first().is_some_and(u8::is_ascii_uppercase) {
            return Ok(None);
        }
        if let Some(end) = find(&buffer[..n], b"\r\n\r\n") {
            return Ok(Some(parse(&buffer[..end + 4])));
        }
        if n == seen {
            thread::sleep(Duration::from_millis(1));
        }
        seen = n;
    }
}

/// Takes `count` bytes out of the socket.
pub fn consume(stream: &mut TcpStream, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0u8; count];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Status line and body of a GET from a loopback port; an error when it takes longer than `timeout` somewhere.
pub fn fetch(port: u16, path: &str, timeout: Duration) -> io::Result<(String, String)> {
    let (head, body) = fetch_with(port, path, &[], timeout)?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), String::from_utf8_lossy(&body).into_owned()))
}

/// Head and body, de-chunked, of the answer to a GET with these request headers.
pub fn fetch_with(port: u16, path: &str, headers: &[(&str, &str)], timeout: Duration) -> io::Result<(String, Vec<u8>)> {
    ask(port, &format!("GET {path}"), headers, &[], timeout)
}

/// Head and body, de-chunked, of the answer to a POST of these bytes.
pub fn post(
    port: u16,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> io::Result<(String, Vec<u8>)> {
    ask(port, &format!("POST {path}"), headers, body, timeout)
}

fn ask(
    port: u16,
    what: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    timeout: Duration,
) -> io::Result<(String, Vec<u8>)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(timeout))?;
    let mut more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    if !body.is_empty() {
        more.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{what} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n{more}\r\n").as_bytes())?;
    stream.write_all(body)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = find(&answer, b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let mut body = answer.split_off(end + 4);
    if head.contains("transfer-encoding: chunked") {
        body = dechunked(&body).ok_or(io::ErrorKind::InvalidData)?;
    }
    Ok((head, body))
}

fn dechunked(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = find(bytes, b"\r\n")?;
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..line]).ok()?.trim(), 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(bytes.get(line + 2..line + 2 + size)?);
        bytes = bytes.get(line + 2 + size + 2..)?;
    }
}

/// A whole request head.
pub fn parse(head: &[u8]) -> Request {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let target = lines.next().and_then(|l| l.split(' ').nth(1)).unwrap_or("/").to_owned();
    let headers = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(n, v)| (n.trim().to_ascii_lowercase(), v.trim().to_owned()))
        .collect();
    Request { target, headers, head_bytes: head.len() }
}

/// Position of `needle` in `bytes`.
pub fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|w| w == needle)
}
