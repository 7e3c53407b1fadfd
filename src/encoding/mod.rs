//! Wire encodings that the data path writes by hand: protobuf fields and the snappy block format.
//!
//! Look for [`protobuf`] (append-only field writers) and [`snappy`] (plain compression of a piece, and compression
//! whose bytes may be overwritten afterwards). Absent on purpose: decoders, since nothing here is ever read back.

pub mod protobuf;
pub mod snappy;
