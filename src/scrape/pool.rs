//! A scrape pool on one shard: one job's configuration, ready to use, and what its targets share.

use std::sync::Arc;

use crate::config::{Auth, Secret};
use crate::relabel::RelabelError;
use crate::scrape::PoolSpec;
use crate::scrape::request::RequestFrame;
use crate::scrape::scrape_loop::Health;
use crate::series::PoolSeries;

/// Credentials are read again at most this often, nanoseconds; Prometheus reads them for every request.
const AUTHORIZATION_FRESH_NS: u64 = 1_000_000_000;

/// The `Authorization` header of a pool, kept fresh off the shard.
#[derive(Debug)]
pub enum Authorization {
    /// None is configured.
    Absent,
    /// Not read yet: scrapes wait for it.
    Awaited,
    /// As last read.
    Known(Secret),
    /// It could not be read; scrapes fail with this text.
    Unreadable(String),
}

/// Whether a changed specification means anything for the series of the pool's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The job's configuration is another: its targets must adopt it.
    NewRules,
    /// Only the forced error may differ.
    SameRules,
}

/// One job on one shard.
#[derive(Debug)]
pub struct ScrapePool {
    /// As the manager sent it.
    pub spec: PoolSpec,
    /// Rules, limits, first guess.
    pub series: PoolSeries,
    /// Request headers.
    pub frame: RequestFrame,
    /// Credentials.
    pub authorization: Authorization,
    asked_at_ns: Option<u64>,
    /// An errand for them is under way.
    is_asking: bool,
    /// Targets of this shard that are up and down.
    pub counts: [u64; 2],
}

impl ScrapePool {
    /// Compiles a pool.
    ///
    /// # Errors
    /// A rule that does not compile; configuration checks find those earlier.
    pub fn new(spec: PoolSpec) -> Result<Self, RelabelError> {
        let series = PoolSeries::new(&spec.config)?;
        let frame = RequestFrame::new(&spec.config);
        let authorization = match spec.config.http.auth {
            Auth::None => Authorization::Absent,
            _ => Authorization::Awaited,
        };
        Ok(Self { spec, series, frame, authorization, asked_at_ns: None, is_asking: false, counts: [0; 2] })
    }

    /// Takes a changed specification. Rules are compiled anew only when the job's configuration changed.
    ///
    /// # Errors
    /// As [`ScrapePool::new`]; the pool is then unchanged.
    pub fn apply(&mut self, spec: PoolSpec) -> Result<Applied, RelabelError> {
        if Arc::ptr_eq(&spec.config, &self.spec.config) || spec.config == self.spec.config {
            self.spec = spec;
            return Ok(Applied::SameRules);
        }
        let counts = self.counts;
        *self = Self { counts, ..Self::new(spec)? };
        Ok(Applied::NewRules)
    }

    /// A target's health changed from one to the other.
    pub fn count(&mut self, from: Health, to: Health) {
        let place = |h| match h {
            Health::Up => Some(0),
            Health::Down => Some(1),
            Health::Unknown => None,
        };
        if let Some(i) = place(from) {
            self.counts[i] -= 1;
        }
        if let Some(i) = place(to) {
            self.counts[i] += 1;
        }
    }

    /// Whether the credentials should be read again now; says yes at most once a second, and not before
    /// [`ScrapePool::on_authorized`] or [`ScrapePool::not_asked`] ended the last reading: a file may hang.
    pub fn should_ask_authorization(&mut self, mono_ns: u64) -> bool {
        if matches!(self.authorization, Authorization::Absent) {
            return false;
        }
        let stale = self.asked_at_ns.is_none_or(|at| mono_ns >= at + AUTHORIZATION_FRESH_NS);
        if !stale || self.is_asking {
            return false;
        }
        self.asked_at_ns = Some(mono_ns);
        self.is_asking = true;
        true
    }

    /// The errand could not be sent; the next start tries again.
    pub fn not_asked(&mut self) {
        self.is_asking = false;
        self.asked_at_ns = None;
    }

    /// Takes what the errand read.
    pub fn on_authorized(&mut self, result: Result<Option<Secret>, String>) {
        self.is_asking = false;
        self.authorization = match result {
            Ok(Some(secret)) => Authorization::Known(secret),
            Ok(None) => Authorization::Absent,
            Err(text) => Authorization::Unreadable(text),
        };
    }
}
