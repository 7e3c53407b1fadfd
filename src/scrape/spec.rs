//! What the manager tells a shard: pools and targets as plain values.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::ScrapeConfig;
use crate::model::Labels;

/// A target's identity within its pool: Prometheus's target hash (labels and URL).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetHash(pub u64);

/// A scrape pool, numbered by the manager; numbers are never reused within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId(pub u32);

/// How a target is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scheme {
    /// In clear text.
    #[default]
    Http,
    /// Over TLS.
    Https,
}

impl Scheme {
    /// By its name in any case.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            n if n.eq_ignore_ascii_case("http") => Some(Self::Http),
            n if n.eq_ignore_ascii_case("https") => Some(Self::Https),
            _ => None,
        }
    }

    /// In URLs.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Port of addresses without one.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Where to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// A literal address.
    Addr(SocketAddr),
    /// A name to be resolved when a connection must be dialled.
    Name {
        /// Without port and brackets.
        name: Box<str>,
        /// From the address, or the scheme's default.
        port: u16,
    },
    /// Nowhere, for this reason: every scrape fails with it.
    Nowhere(Box<str>),
}

impl Host {
    /// Whether both mean one place: names in any case.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Name { name: a, port: p }, Self::Name { name: b, port: q }) => p == q && a.eq_ignore_ascii_case(b),
            _ => self == other,
        }
    }

    /// What a certificate must be valid for: the name, or the address without its port.
    #[must_use]
    pub fn name(&self) -> Cow<'_, str> {
        match self {
            Self::Addr(addr) => addr.ip().to_string().into(),
            Self::Name { name, .. } => (&**name).into(),
            Self::Nowhere(_) => "".into(),
        }
    }
}

/// Everything a shard needs to scrape one target.
#[derive(Clone, Debug)]
pub struct TargetSpec {
    /// Identity within the pool.
    pub hash: TargetHash,
    /// Labels that do not start with `__`: attached to every sample.
    pub labels: Labels,
    /// In clear text or over TLS.
    pub scheme: Scheme,
    /// Where to connect.
    pub host: Host,
    /// `Host` header: `__address__` as written.
    pub authority: Box<str>,
    /// Path and query of the request line, encoded; one text for the targets of a job that do not relabel it.
    pub path: Arc<str>,
    /// Nanoseconds.
    pub interval_ns: i64,
    /// Nanoseconds.
    pub timeout_ns: i64,
    /// Phase: the target is due when `wall_ns mod interval_ns == offset_ns`. prometheus: target.go, offset.
    pub offset_ns: i64,
}

/// How a target is asked: mostly as the others of its job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manner {
    /// In clear text or over TLS.
    pub scheme: Scheme,
    /// Path and query of the request line, encoded.
    pub path: Arc<str>,
    /// Nanoseconds.
    pub interval_ns: i64,
    /// Nanoseconds.
    pub timeout_ns: i64,
}

/// What a shard keeps of a [`TargetSpec`] beside the labels and the address.
#[derive(Debug)]
pub struct KeptSpec {
    /// Identity within the pool.
    pub hash: TargetHash,
    /// Phase: see [`TargetSpec::offset_ns`].
    pub offset_ns: i64,
    /// One for all targets alike.
    pub manner: Rc<Manner>,
}

impl std::ops::Deref for KeptSpec {
    type Target = Manner;
    fn deref(&self) -> &Manner {
        &self.manner
    }
}

/// A pool as the shard sees it.
#[derive(Clone, Debug)]
pub struct PoolSpec {
    /// Number.
    pub id: PoolId,
    /// The job's configuration.
    pub config: Arc<ScrapeConfig>,
    /// Text of a forced error (`target_limit exceeded ...`): no request is made, `up` is 0.
    pub forced_error: Option<Arc<str>>,
}
