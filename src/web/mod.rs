//! HTTP on the control thread: management, Prometheus's API shapes, our own metrics, one page.
//!
//! [`Appliance`] is what the pages ask and the process answers; [`Web`] holds the routes; [`Server`] owns the listening sockets.
//! Invariants: a question never blocks a shard (answers that need one are futures); every answer is bounded
//! (targets per answer, bytes of answers in flight, connections), so neither a slow reader nor many of them grow
//! the process; all shapes and texts are Prometheus's where it has the endpoint. Targets are filtered, sorted and paged by
//! [`Pager`], which keeps one page and not the fleet. Absent on purpose: TLS and authentication (not offered yet; the
//! command line refuses a file that asks for them), queries (422, as Prometheus's agent), and any state of its own.

mod about;
mod answer;
mod api;
mod appliance;
mod cors;
mod manage;
mod overview;
mod page;
mod pager;
mod process;
mod routes;
mod selector;
mod serve;
mod url;

pub use appliance::{
    Answer, Appliance, DroppedView, Health, MetadataQuery, MetadataRow, MetadataScope, PoolView, Readiness,
    RemoteWriteView, RuntimeView, TargetView,
};
pub use cors::CorsOrigin;
pub use pager::{Page, Pager, Position, Row, Sort, TargetPage, TargetQuery};
pub use routes::Web;
pub use selector::Selector;
pub use serve::{BindError, Server};

use std::time::Duration;

/// The web flags as meant.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `host:port`, at least one; an empty host means all addresses.
    pub listen_addresses: Vec<String>,
    /// `--web.enable-lifecycle`
    pub lifecycle: Lifecycle,
    /// URL under which we are reached from outside, or only its path; without trailing slash.
    pub external_url: String,
    /// Path before every route: begins with a slash; `/` when there is none.
    pub route_prefix: String,
    /// Title of the page.
    pub page_title: String,
    /// Connections served at once over all addresses.
    pub connections_max: usize,
    /// For a request head, and for an idle or stalled connection.
    pub read_timeout: Duration,
    /// Origins that may read the API.
    pub cors_origin: CorsOrigin,
}

/// Whether HTTP may reload or stop the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// `POST /-/reload` and `/-/quit` work.
    Enabled,
    /// They answer 403.
    Disabled,
}

#[cfg(test)]
mod web_tests;
