//! `prometheus.yml`: the whole file after defaults and checks; errors carry the key path and the remedy.
//!
//! [`load`] reads a file into a [`Config`] that needs no further checks; [`check()`] is the same with a report for
//! people; [`Watch`] tells whether the files have changed; [`parse_target_groups`] reads those of `file_sd_configs`. Inside, YAML becomes a tree with lines
//! (`node`), and hand-written decoders ask it for every key they know (`fields`): a key nobody asked for is an error.
//!
//! Invariants: nothing unknown passes; one pass reports all that is wrong; secrets print as `<secret>`; relabelling
//! rules of a loaded file compile. Deliberately absent: reading credentials (they are read at every use), and
//! everything that happens when a configuration changes (see `manager`).

mod check;
pub mod duration;
mod errors;
mod expanded;
mod fields;
pub mod glob;
mod global;
mod groups;
mod http;
mod load;
mod node;
mod redact;
mod remote;
mod rules;
mod scrape;
pub mod size;
mod tags;
mod types;
mod watch;
mod yaml_out;

#[cfg(test)]
mod config_tests;
#[cfg(test)]
mod edge_tests;
#[cfg(test)]
mod expanded_tests;

pub use check::{Depth, check};
pub use errors::{ConfigError, ConfigErrors, Note, NoteKind};
pub use groups::{GroupFormat, GroupsError, parse_target_groups};
pub use load::{IGNORABLE, LoadOptions, Loaded, load};
pub use types::*;
pub use watch::Watch;
