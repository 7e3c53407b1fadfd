//! Exposition formats: bytes of a body to sample lines, exactly as Prometheus reads them.

pub mod labels;
pub mod negotiation;
pub mod text;
pub mod value;
