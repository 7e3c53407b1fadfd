//! HTTP/1.1 responses without sockets: bytes in at any slicing, head and de-chunked body out.
//!
//! [`Response`] is the machine of one exchange, [`ResponseHead`] what it found before the body, [`HttpError`] why a
//! response cannot be used. Invariants: the same bytes give the same events at any slicing; no body byte is handed out
//! before the head; nothing past the end of a response is ever taken for the next one.
//! Absent on purpose: requests (the scraper writes its own bytes), content encodings, redirects, HTTP/2.

mod chunked;
mod error;
mod head;
mod response;
#[cfg(test)]
mod response_tests;

pub use error::HttpError;
pub use head::{Framing, ResponseHead};
pub use response::{Ending, Flow, Progress, Receiver, Response};
