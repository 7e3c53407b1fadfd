//! Series of a target: layouts and prediction, bindings, the scrape cache, staleness.
//!
//! A body is parsed against a *layout* (everything in it but the values), a layout's *chunks* are bound once to final
//! label sets ([`model::Schema`](crate::model::Schema)), and a target keeps only handles: [`ScrapeCache`], at rest as
//! [`KeptCache`]. One
//! [`Store`] per shard interns what targets share; [`PoolSeries`] holds a job's rules and limits; [`Parse`] takes a
//! body in slices of any size; [`Scraped`] is the outcome, a column of values under a shape.
//!
//! Invariants: prediction is only a shortcut, every body gives what the plain tokenizer gives, however it is cut and
//! whatever was seen before ([`naive`] is the reference, property tests hold them equal); hashes only find
//! candidates, bytes decide, but for a target's own body where that is packed or rests; nothing here reads a clock or
//! does I/O. Deliberately absent: sockets, schedule, report values (the scrape room knows them), the journal, and layouts
//! on disk.
//!
//! Memory: a layout that nobody else has *rests* once its body came again a few times: compressed texts are left of it,
//! and what tells that the body came again (`rest.rs`, `foretold.rs`). A layout whose texts are too many, or find no room in
//! the shard's memory, is kept *packed*: texts compressed, the body tokenised each time (`packed.rs`). Nothing else is
//! different. Only when packed layouts fill their own ceiling do bodies of new targets fail, with an error that says so,
//! and changes of known ones a quarter later.

mod assemble;
mod bits;
mod bound;
mod cache;
mod chunk;
mod compose;
mod diff;
mod error;
mod families;
mod fingerprint;
mod foretold;
mod holed;
mod interned;
mod kept;
mod known;
mod meter;
pub mod naive;
mod outcome;
mod packed;
mod packing;
mod parse;
mod passed_on;
mod pattern;
mod permutation;
mod plain;
mod plan;
mod pool;
mod portrait;
mod report;
mod resolve;
mod rest;
mod resting;
mod settle;
mod shares;
mod store;
mod texts;

#[cfg(test)]
mod portrait_tests;
#[cfg(test)]
mod rest_tests;
#[cfg(test)]
mod series_tests;

pub use cache::ScrapeCache;
pub use chunk::Layout;
pub use error::SeriesError;
pub use families::{Families, Metadata};
pub use kept::KeptCache;
pub use outcome::{ScrapeTime, Scraped, Stale, Tallies};
pub use parse::{Flow, Parse};
pub use passed_on::PassedOn;
pub use pool::PoolSeries;
pub use portrait::Portrait;
pub use report::{REPORT_EXTRA, REPORT_NAMES};
pub use store::{Store, StoreStats};
