//! Exposition formats as Prometheus reads them: the text format, its numbers and labels, and what is negotiated.
//!
//! Look for [`text::step`] (one entry of a body, resumable at any byte), [`value::parse`] (Go's floats, bit for bit),
//! [`labels::decode`] (series text to labels). Invariant: acceptance is Prometheus's verdict, never the text of a
//! standard. Deliberately absent: OpenMetrics and protobuf (not offered, hence refused with a clear error), any
//! knowledge of targets, series or time.

pub mod labels;
pub mod negotiation;
pub mod text;
pub mod value;

#[cfg(test)]
mod exposition_tests;
