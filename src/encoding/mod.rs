//! Encodings of bodies and messages, without I/O.
//!
//! [`gzip`] inflates scraped bodies: [`gzip::Inflater`] holds the shared state of a thread, [`gzip::GzipBody`] one body.
//! Invariants: output is bounded by the caller's limit whatever the input claims; nothing here reads a clock or a socket.
//! Absent on purpose: deflate and brotli (no scrape offers them).

pub mod gzip;
