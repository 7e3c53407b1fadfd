//! ringscrape: a Prometheus-compatible scraper appliance. This page is the map.
//!
//! A scrape is a column of values under a known layout, and data flows one way:
//!
//! ```text
//! answer bytes -> net (HTTP/1.1) -> scrape (gzip, limits) -> series (layout, values, binding, staleness)
//!              -> storage::journal (frames, files) -> remote_write (fragments, requests), export
//! ```
//!
//! One thread per core runs a [`shard`], which owns its slice of every scrape pool and shares nothing. The control
//! thread runs discovery, the manager and the web. One thread writes files, one per destination sends.
//! A room names only rooms of lower floors (`tests/tidy.rs` checks it):
//!
//! | floor | rooms |
//! |---|---|
//! | 9 | [`app`]: command line, start from the ground up, stop from the top down · `sim`: a whole appliance in one thread from one seed (tests only) |
//! | 8 | [`manager`]: groups in, shard commands out · [`web`]: HTTP API and page |
//! | 7 | [`shard`]: one core's turn |
//! | 6 | [`scrape`]: pools, loops, exchanges, schedule |
//! | 5 | [`series`]: layouts, bindings, staleness · [`discovery`] · [`storage`]: the journal · [`remote_write`] |
//! | 4 | [`net`]: HTTP exchanges over connections · [`farm`]: exporters for demo and perf |
//! | 3 | [`config`]: `prometheus.yml` |
//! | 2 | [`exposition`]: text format, negotiation · [`http`]: responses without sockets · [`relabel`] · [`engine`]: uring, epoll, sim |
//! | 1 | [`model`]: labels, identities, schemas · [`encoding`]: gzip, snappy, protobuf · [`selfmetrics`] |
//! | 0 | [`base`]: limits, time, CPUs, mailboxes |
//!
//! The files that tell the story: this one, `shard/run.rs` (a turn), and the predict loop in `series`.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "ringscrape needs Linux (io_uring or epoll); on other systems build and run it in a container: see deploy/container"
);

pub mod app;
pub mod base;
pub mod config;
pub mod discovery;
pub mod encoding;
pub mod engine;
pub mod exposition;
pub mod farm;
pub mod http;
pub mod manager;
pub mod model;
pub mod net;
pub mod relabel;
pub mod remote_write;
pub mod scrape;
pub mod selfmetrics;
pub mod series;
pub mod shard;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
pub mod storage;
pub mod web;
