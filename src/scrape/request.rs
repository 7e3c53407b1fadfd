//! The request of a scrape. prometheus: scrape.go, targetScraper.

use crate::config::ScrapeConfig;

/// What all requests of a pool share, rendered once.
#[derive(Debug)]
pub struct RequestFrame {
    headers: Vec<u8>,
}

impl RequestFrame {
    /// Renders the headers that depend on the job alone.
    #[must_use]
    pub fn new(config: &ScrapeConfig) -> Self {
        let accept = crate::exposition::negotiation::accept(config);
        let encoding = if config.enable_compression { "gzip" } else { "identity" };
        let agent = concat!("ringscrape/", env!("CARGO_PKG_VERSION"));
        let headers = format!("User-Agent: {agent}\r\nAccept: {accept}\r\nAccept-Encoding: {encoding}\r\n");
        Self { headers: headers.into_bytes() }
    }

    /// Appends a whole request head to `out`.
    pub fn write(&self, line: &RequestLine<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"GET ");
        out.extend_from_slice(line.path.as_bytes());
        out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
        out.extend_from_slice(line.authority.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.headers);
        out.extend_from_slice(b"X-Prometheus-Scrape-Timeout-Seconds: ");
        write_seconds(line.timeout_ns, out);
        if line.is_last {
            out.extend_from_slice(b"\r\nConnection: close");
        }
        if let Some(referer) = line.referer {
            out.extend_from_slice(b"\r\nReferer: ");
            out.extend_from_slice(referer.as_bytes());
        }
        if let Some(secret) = line.authorization {
            out.extend_from_slice(b"\r\nAuthorization: ");
            out.extend_from_slice(secret.as_bytes());
        }
        out.extend_from_slice(b"\r\n\r\n");
    }
}

/// What differs between the requests of a pool.
#[derive(Clone, Copy, Debug)]
pub struct RequestLine<'a> {
    /// Path and query.
    pub path: &'a str,
    /// `Host` header.
    pub authority: &'a str,
    /// Nanoseconds.
    pub timeout_ns: i64,
    /// Header value.
    pub authorization: Option<&'a str>,
    /// The URL that led here.
    pub referer: Option<&'a str>,
    /// Nothing more is asked on this connection.
    pub is_last: bool,
}

/// Shortest decimal: `10`, `0.5`.
fn write_seconds(ns: i64, out: &mut Vec<u8>) {
    use std::io::Write;
    let (whole, part) = (ns / 1_000_000_000, ns % 1_000_000_000);
    let _ = write!(out, "{whole}");
    if part != 0 {
        let digits = format!("{part:09}");
        let _ = write!(out, ".{}", digits.trim_end_matches('0'));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_the_shortest_decimal() {
        let text = |ns| {
            let mut out = Vec::new();
            write_seconds(ns, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(10_000_000_000), "10");
        assert_eq!(text(500_000_000), "0.5");
        assert_eq!(text(1_050_000_000), "1.05");
    }
}
