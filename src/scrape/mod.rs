//! The scrape itself: pools, targets, loops, schedule, report series, limits, staleness.
//!
//! [`ScrapePool`] is a job on one shard, [`ScrapeLoop`] one target's life, [`Exchange`] one scrape under way,
//! [`Schedule`](schedule::Schedule) says who is due. Data flows one way: an answer's bytes go through the exchange
//! into `series`, and what comes out goes to the journal. Absent on purpose: sockets (`net`), threads (`shard`).

pub mod addresses;
pub mod error;
pub mod exchange;
mod go_url;
mod keep_alive;
pub mod pool;
mod rare;
pub mod redirect;
pub mod request;
pub mod schedule;
pub mod scrape_loop;
mod spec;
pub mod target;
#[cfg(test)]
mod target_tests;

pub use error::ScrapeError;
pub use exchange::Exchange;
pub use keep_alive::KeepAlive;
pub use pool::ScrapePool;
pub use scrape_loop::ScrapeLoop;
pub use spec::{Host, KeptSpec, Manner, PoolId, PoolSpec, Scheme, TargetHash, TargetSpec};
