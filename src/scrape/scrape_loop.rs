//! One target's life: where it is in its cycle, what its last scrape showed, what the journal knows of it.

use std::rc::Rc;

use crate::base::prefetch::prefetch;
use crate::net::Link;
use crate::scrape::addresses::{Addresses, Whereto};
use crate::scrape::exchange::Exchange;
use crate::scrape::spec::{Authority, KeptSpec};
use crate::scrape::{Host, Manner, TargetSpec};
use crate::series::RestingCache;
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
    /// `None` when up.
    pub last_error: Option<Box<LastError>>,
    /// Milliseconds; 0 before the first scrape.
    pub last_scrape_wall_ms: i64,
    /// Nanoseconds.
    pub last_duration_ns: u64,
}

/// Why a target is down. In a box of its own it takes one word where there is none.
#[derive(Debug)]
pub struct LastError(pub Box<str>);

impl Status {
    /// Empty when up.
    #[must_use]
    pub fn last_error(&self) -> &str {
        self.last_error.as_ref().map_or("", |e| &e.0)
    }
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

/// Variables of a target that has more of them than labels.
#[derive(Debug)]
struct Journaled(Rc<[Box<str>]>);

/// The label that mostly holds the target's address.
const INSTANCE: &str = "instance";

/// One target's loop on its shard. A fleet is made of these, so each byte counts.
#[derive(Debug)]
pub struct ScrapeLoop {
    /// Index of the pool on this shard.
    pub pool: u32,
    /// As the manager sent it; the labels are in `cache`.
    pub spec: KeptSpec,
    /// Labels, marks, layout.
    pub cache: RestingCache,
    /// The journal's memory of it.
    pub ledger: Ledger,
    /// The variables under which the journal knows it, where they are not those of `cache`.
    journaled_otherwise: Option<Box<Journaled>>,
    /// Where it is.
    pub cycle: Cycle,
    /// For the API.
    pub status: Status,
    /// Of the last scrape.
    pub health: Health,
    /// Time of the last scrape that went to the journal, milliseconds.
    pub written_ms: i64,
    /// A cycle was begun.
    pub has_started: bool,
    /// Another target of equal public labels was on this shard at some time.
    pub has_twins: bool,
    /// Set exactly when the manager has removed the target: no further starts.
    pub ending: bool,
    addresses: Option<Box<Addresses>>,
}

const _: () = assert!(size_of::<ScrapeLoop>() <= 232 + 8 * cfg!(debug_assertions) as usize, "a million of them");

impl ScrapeLoop {
    /// A loop that has not scraped yet.
    #[must_use]
    pub fn new(pool: u32, spec: TargetSpec, (manner, cache): (Rc<Manner>, RestingCache)) -> Self {
        let addresses = match spec.host {
            Host::Addr(_) | Host::Nowhere(_) => None,
            Host::Name { .. } => Some(Box::default()),
        };
        let TargetSpec { hash, host, authority, offset_ns, .. } = spec;
        let authority = (cache.label(INSTANCE) != Some(&*authority)).then(|| Box::new(Authority(authority)));
        Self {
            pool,
            spec: KeptSpec { hash, host, offset_ns, manner, authority },
            cache,
            ledger: Ledger::default(),
            journaled_otherwise: None,
            cycle: Cycle::Resting,
            status: Status::default(),
            health: Health::Unknown,
            written_ms: i64::MIN,
            has_started: false,
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
        format!("{}://{}{}", self.spec.scheme.name(), self.authority(), self.spec.path)
    }

    /// The variables under which the journal knows it, or will.
    #[must_use]
    pub fn journaled(&self) -> &Rc<[Box<str>]> {
        self.journaled_otherwise.as_ref().map_or(self.cache.variables(), |other| &other.0)
    }

    /// Notes under which variables the journal knows it from now on.
    pub fn set_journaled(&mut self, variables: &Rc<[Box<str>]>) {
        let is_own = Rc::ptr_eq(variables, self.cache.variables());
        self.journaled_otherwise = (!is_own).then(|| Box::new(Journaled(Rc::clone(variables))));
    }

    /// `Host` header of its own URL.
    #[must_use]
    pub fn authority(&self) -> &str {
        match &self.spec.authority {
            Some(own) => &own.0,
            None => self.cache.label(INSTANCE).unwrap_or_default(),
        }
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
