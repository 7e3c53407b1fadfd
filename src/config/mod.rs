//! `prometheus.yml`: the whole file after defaults and checks; errors carry the key path and the remedy.

mod types;

pub use types::*;
