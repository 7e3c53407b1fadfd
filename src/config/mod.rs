//! `prometheus.yml`: the whole file after defaults and checks; errors carry the key path and the remedy.

pub mod duration;
mod groups;
mod node;
pub mod size;
mod types;

pub use groups::{GroupFormat, GroupsError, parse_target_groups};
pub use types::*;
