//! One target's life: where it is in its cycle, what its last scrape showed, what the journal knows of it.

use std::rc::Rc;

use crate::base::prefetch::prefetch;
use crate::net::Link;
use crate::scrape::addresses::{Addresses, Whereto};
use crate::scrape::exchange::Exchange;
use crate::scrape::{Host, TargetSpec};
use crate::series::ScrapeCache;
use crate::storage::journal::Ledger;

/// What the last scrape ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Health {
    /// No scrape yet.
    #[default]
    Unknown,
    /// `up` 1.
    Up,
    /// `up` 0.
    Down,
}

/// Shown by the targets API.
#[derive(Debug, Default)]
pub struct Status {
    /// Verdict.
    pub health: Health,
    /// Empty when up.
    pub last_error: Box<str>,
    /// Milliseconds; 0 before the first scrape.
    pub last_scrape_wall_ms: i64,
    /// Nanoseconds.
    pub last_duration_ns: u64,
}

/// Where a target is in its cycle.
#[derive(Debug)]
pub enum Cycle {
    /// Until its next phase.
    Resting,
    /// Waiting for the addresses of a host name.
    AwaitingName(Box<Exchange>),
    /// Waiting for its pool's credentials or TLS settings.
    AwaitingSecrets(Box<Exchange>),
    /// Handed to the net.
    InFlight(Box<Exchange>),
    /// Its body has arrived and is too much to be inflated at once.
    Inflating(Box<Exchange>),
    /// Its scrape is too large to be written at once.
    Writing,
}

/// One target's loop on its shard.
#[derive(Debug)]
pub struct ScrapeLoop {
    /// Index of the pool on this shard.
    pub pool: u32,
    /// As the manager sent it.
    pub spec: TargetSpec,
    /// Marks, variables, layout.
    pub cache: ScrapeCache,
    /// The journal's memory of it.
    pub ledger: Ledger,
    /// The variables under which the journal knows it.
    pub journaled: Option<Rc<[Box<str>]>>,
    /// Where it is.
    pub cycle: Cycle,
    /// For the API.
    pub status: Status,
    /// Start of the previous cycle, monotonic; `None` before the first.
    pub last_start_mono_ns: Option<u64>,
    /// Time of the last scrape that went to the journal, milliseconds.
    pub written_ms: i64,
    /// Another target of equal public labels was on this shard at some time.
    pub has_twins: bool,
    /// Set exactly when the manager has removed the target: no further starts.
    pub ending: bool,
    addresses: Option<Box<Addresses>>,
}

impl ScrapeLoop {
    /// A loop that has not scraped yet.
    #[must_use]
    pub fn new(pool: u32, spec: TargetSpec, cache: ScrapeCache) -> Self {
        let addresses = match spec.host {
            Host::Addr(_) | Host::Nowhere(_) => None,
            Host::Name { .. } => Some(Box::default()),
        };
        Self {
            pool,
            spec,
            cache,
            ledger: Ledger::default(),
            journaled: None,
            cycle: Cycle::Resting,
            status: Status::default(),
            last_start_mono_ns: None,
            written_ms: i64::MIN,
            has_twins: false,
            ending: false,
            addresses,
        }
    }

    /// What the loop points to is needed soon.
    pub fn prefetch_rest(&self) {
        if let Cycle::InFlight(exchange) = &self.cycle {
            prefetch(&**exchange);
        }
        self.ledger.prefetch();
    }

    /// The target's URL as errors and the API show it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.spec.scheme.name(), self.spec.authority, self.spec.path)
    }

    /// Where to connect for attempt `index` of a cycle at the target's own URL.
    #[must_use]
    pub fn whereto(&self, index: usize, link: Link, mono_ns: u64) -> Whereto {
        match (&self.spec.host, &self.addresses) {
            (Host::Addr(a), _) if index == 0 => Whereto::Known(*a, 0),
            (Host::Addr(_) | Host::Nowhere(_), _) | (_, None) => Whereto::Exhausted,
            (Host::Name { .. }, Some(known)) => known.whereto(index, link, mono_ns),
        }
    }

    /// Of its name, where it was given by one.
    pub fn addresses(&mut self) -> Option<&mut Addresses> {
        self.addresses.as_deref_mut()
    }
}
