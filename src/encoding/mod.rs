//! Encodings of bodies and messages, without I/O.
//!
//! [`gzip`] inflates scraped bodies: [`gzip::Inflater`] holds the shared state of a thread, [`gzip::GzipBody`] one body.
//! [`deflate`] packs texts that stay in memory, [`protobuf`] writes message fields, [`snappy`] compresses pieces, also such whose bytes may be overwritten afterwards.
//! Invariants: output is bounded by the caller's limit whatever the input claims; nothing here reads a clock or a socket.
//! Absent on purpose: deflate and brotli of bodies (no scrape offers them); decoders of what we only ever write.

pub mod deflate;
pub mod gzip;
pub mod protobuf;
pub mod snappy;
