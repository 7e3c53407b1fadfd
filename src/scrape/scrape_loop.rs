//! One target's life: where it is in its cycle, what its last scrape showed, what the journal knows of it.

use std::borrow::Cow;
use std::net::{SocketAddr, SocketAddrV4};
use std::rc::Rc;

use crate::base::prefetch::prefetch;
use crate::model::OwnTexts;
use crate::net::Link;
use crate::scrape::addresses::{Addresses, Whereto};
use crate::scrape::exchange::Exchange;
use crate::scrape::rare::Rare;
use crate::scrape::spec::KeptSpec;
use crate::scrape::{Host, Manner, TargetSpec};
use crate::series::KeptCache;
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

/// Shown by the targets API, with the health and the last error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Status {
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

/// The label that mostly holds the target's address.
const INSTANCE: &str = "instance";

/// One target's loop on its shard. A fleet is made of these, so each byte counts.
#[derive(Debug)]
pub struct ScrapeLoop {
    /// Index of the pool on this shard.
    pub pool: u32,
    /// As the manager sent it.
    pub spec: KeptSpec,
    /// Labels, marks, layout.
    pub cache: KeptCache,
    /// The journal's memory of it.
    pub ledger: Ledger,
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
    /// Where to connect; `None`: `rare` says it.
    addr: Option<SocketAddrV4>,
    rare: Option<Box<Rare>>,
}

const _: () = assert!(size_of::<ScrapeLoop>() <= 184 + 8 * cfg!(debug_assertions) as usize, "a million of them");

impl ScrapeLoop {
    /// A loop that has not scraped yet.
    #[must_use]
    pub fn new(pool: u32, spec: TargetSpec, (manner, cache): (Rc<Manner>, KeptCache)) -> Self {
        let TargetSpec { hash, host, authority, offset_ns, .. } = spec;
        let mut rare = None;
        Rare::set(&mut rare, cache.label(INSTANCE) != Some(&*authority), |r| r.authority = Some(authority));
        let addr = match host {
            Host::Addr(SocketAddr::V4(addr)) => Some(addr),
            _ => None,
        };
        Rare::set(&mut rare, addr.is_none(), |r| {
            r.addresses = matches!(host, Host::Name { .. }).then(Addresses::default);
            r.host = Some(host);
        });
        Self {
            pool,
            spec: KeptSpec { hash, offset_ns, manner },
            cache,
            ledger: Ledger::default(),
            cycle: Cycle::Resting,
            status: Status::default(),
            health: Health::Unknown,
            written_ms: i64::MIN,
            has_started: false,
            has_twins: false,
            ending: false,
            addr,
            rare,
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
    pub fn journaled(&self) -> &OwnTexts {
        self.rare.as_ref().and_then(|r| r.journaled.as_ref()).unwrap_or(self.cache.variables())
    }

    /// Notes under which variables the journal knows it from now on.
    pub fn set_journaled(&mut self, variables: &OwnTexts) {
        let is_own = variables.is(self.cache.variables());
        Rare::set(&mut self.rare, !is_own, |r| r.journaled = (!is_own).then(|| variables.clone()));
    }

    /// `Host` header of its own URL.
    #[must_use]
    pub fn authority(&self) -> &str {
        let own = self.rare.as_ref().and_then(|r| r.authority.as_deref());
        own.or_else(|| self.cache.label(INSTANCE)).unwrap_or_default()
    }

    /// Where to connect.
    #[must_use]
    pub fn host(&self) -> Cow<'_, Host> {
        match self.addr {
            Some(addr) => Cow::Owned(Host::Addr(addr.into())),
            None => {
                let host = self.rare.as_ref().and_then(|r| r.host.as_ref());
                Cow::Borrowed(host.expect("a host that is not an IPv4 address is kept among what is rare"))
            }
        }
    }

    /// Why it is down; empty when up.
    #[must_use]
    pub fn last_error(&self) -> &str {
        self.rare.as_ref().map_or("", |r| &r.last_error)
    }

    /// Notes why it is down; empty when up.
    pub fn set_last_error(&mut self, text: String) {
        Rare::set(&mut self.rare, !text.is_empty(), |r| r.last_error = text.into());
    }

    /// Where to connect for attempt `index` of a cycle at the target's own URL.
    #[must_use]
    pub fn whereto(&self, index: usize, link: Link, mono_ns: u64) -> Whereto {
        let addresses = self.rare.as_ref().and_then(|r| r.addresses.as_ref());
        match (&*self.host(), addresses) {
            (Host::Addr(a), _) if index == 0 => Whereto::Known(*a, 0),
            (Host::Addr(_) | Host::Nowhere(_), _) | (_, None) => Whereto::Exhausted,
            (Host::Name { .. }, Some(known)) => known.whereto(index, link, mono_ns),
        }
    }

    /// Of its name, where it was given by one.
    pub fn addresses(&mut self) -> Option<&mut Addresses> {
        self.rare.as_mut()?.addresses.as_mut()
    }
}
