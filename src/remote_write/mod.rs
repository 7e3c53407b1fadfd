//! Remote write: from the journal to every configured destination.

pub mod encoder;
mod fragment;
mod prepared;
pub mod rewrite;
mod rules;
mod templates;

#[cfg(test)]
mod encoder_tests;
#[cfg(test)]
mod test_wire;
