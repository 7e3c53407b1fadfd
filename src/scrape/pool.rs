//! A scrape pool on one shard: one job's configuration, ready to use, and what its targets share.

use std::rc::Rc;
use std::sync::Arc;

use crate::config::{Auth, ScrapeConfig, Secret, SecretSource};
use crate::model::next_key;
use crate::net::Secured;
use crate::net::tls::Client;
use crate::relabel::RelabelError;
use crate::scrape::request::RequestFrame;
use crate::scrape::scrape_loop::Health;
use crate::scrape::{Manner, PoolSpec};
use crate::series::PoolSeries;

/// Credentials and the files of `tls_config` are read again at most this often, nanoseconds; Prometheus reads them for
/// every request.
const FILES_FRESH_NS: u64 = 1_000_000_000;

/// Ways to ask targets that a pool remembers: jobs that relabel the path have few, or one for each target.
const MANNERS_MAX: usize = 4;

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

/// What the TLS connections of a pool are made from, kept fresh off the shard.
#[derive(Debug)]
pub enum Security {
    /// Not made yet: scrapes over TLS wait for it.
    Awaited,
    /// As the files were last; the number is another after each change.
    Known(Client, Secured),
    /// It could not be made; scrapes fail with this text.
    Unusable(String),
}

/// When something that an errand reads is to be read again.
#[derive(Debug, Default)]
struct Asking {
    at_ns: Option<u64>,
    /// An errand is under way.
    is_under_way: bool,
}

impl Asking {
    /// Says yes at most once a second, and not before the last errand ended: a file may hang.
    fn is_due(&mut self, mono_ns: u64) -> bool {
        let stale = self.at_ns.is_none_or(|at| mono_ns >= at + FILES_FRESH_NS);
        if !stale || self.is_under_way {
            return false;
        }
        *self = Self { at_ns: Some(mono_ns), is_under_way: true };
        true
    }
}

/// Whether a changed specification means anything for the series of the pool's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The job's configuration is another: its targets must adopt it.
    NewRules,
    /// What is known of series stays: only the forced error or what [`leaves_series`] differs.
    SameRules,
}

/// Whether two configurations of a job mean the same for its series. prometheus: scrape.go, reusableCache.
fn leaves_series(old: &ScrapeConfig, new: &ScrapeConfig) -> bool {
    let ScrapeConfig { scrape_interval, scrape_timeout, sample_limit, http, .. } = new.clone();
    ScrapeConfig { scrape_interval, scrape_timeout, sample_limit, http, ..old.clone() } == *new
}

/// One job on one shard.
#[derive(Debug)]
pub struct ScrapePool {
    /// As the manager sent it.
    pub spec: PoolSpec,
    /// Number of its configuration, unique in the process: another one with every change.
    pub settings: u64,
    /// Rules, limits, first guess.
    pub series: PoolSeries,
    /// Request headers.
    pub frame: RequestFrame,
    /// Credentials.
    pub authorization: Authorization,
    /// TLS; made when a first scrape needs it.
    pub security: Security,
    /// What the files held from which `security` was made.
    tls_digest: Option<u128>,
    asking_authorization: Asking,
    asking_tls: Asking,
    /// How the last targets are asked that are asked otherwise than those before.
    manners: Vec<Rc<Manner>>,
    /// Targets of this shard that are up and down.
    pub counts: [u64; 2],
    /// Loops that outlive a removed pool: the net or the journal still owes them an end. The last one takes it along.
    pub left: u32,
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
        Ok(Self {
            spec,
            settings: next_key(),
            series,
            frame,
            authorization,
            security: Security::Awaited,
            tls_digest: None,
            asking_authorization: Asking::default(),
            asking_tls: Asking::default(),
            manners: Vec::new(),
            counts: [0; 2],
            left: 0,
        })
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
        let keeps = leaves_series(&self.spec.config, &spec.config);
        let mut new = Self { counts, ..Self::new(spec)? };
        if keeps {
            std::mem::swap(&mut self.series, &mut new.series);
            new.series.limit_samples(new.spec.config.sample_limit);
        }
        *self = new;
        Ok(if keeps { Applied::SameRules } else { Applied::NewRules })
    }

    /// How a target is asked, in memory once for those that come one after another and are asked alike.
    pub fn manner(&mut self, wanted: Manner) -> Rc<Manner> {
        if let Some(known) = self.manners.iter().find(|m| ***m == wanted) {
            return Rc::clone(known);
        }
        let fresh = Rc::new(wanted);
        if self.manners.len() == MANNERS_MAX {
            self.manners.remove(0);
        }
        self.manners.push(Rc::clone(&fresh));
        fresh
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
        self.asking_authorization.is_due(mono_ns)
    }

    /// The errand could not be sent; the next start tries again.
    pub fn not_asked(&mut self) {
        self.asking_authorization = Asking::default();
    }

    /// Whether the TLS settings should be made, or looked at again, now; with what they were made from. Settings without
    /// files are made once.
    pub fn should_ask_tls(&mut self, mono_ns: u64) -> Option<Option<u128>> {
        let tls = &self.spec.config.http.tls;
        let is_file = |s: &Option<SecretSource>| matches!(s, Some(SecretSource::File(_)));
        let is_settled = matches!(self.security, Security::Known(..))
            && ![&tls.ca, &tls.cert, &tls.key].map(is_file).contains(&true);
        (!is_settled && self.asking_tls.is_due(mono_ns)).then_some(self.tls_digest)
    }

    /// The errand could not be sent; the next start tries again.
    pub fn tls_not_asked(&mut self) {
        self.asking_tls = Asking::default();
    }

    /// Takes what the errand made: nothing where the files held what they did before. `number` is a new one.
    pub fn on_secured(&mut self, result: Result<Option<(Client, u128)>, String>, number: Secured) {
        self.asking_tls.is_under_way = false;
        match result {
            Ok(Some((client, digest))) => {
                self.security = Security::Known(client, number);
                self.tls_digest = Some(digest);
            }
            Ok(None) => {}
            Err(text) => {
                self.security = Security::Unusable(text);
                self.tls_digest = None;
            }
        }
    }

    /// Takes what the errand read.
    pub fn on_authorized(&mut self, result: Result<Option<Secret>, String>) {
        self.asking_authorization.is_under_way = false;
        self.authorization = match result {
            Ok(Some(secret)) => Authorization::Known(secret),
            Ok(None) => Authorization::Absent,
            Err(text) => Authorization::Unreadable(text),
        };
    }
}
