//! One target's life: where it is in its cycle, what its last scrape showed, what the journal knows of it.

use std::net::SocketAddr;
use std::rc::Rc;

use crate::scrape::exchange::Exchange;
use crate::scrape::{Host, TargetSpec};
use crate::series::ScrapeCache;
use crate::storage::journal::Ledger;

/// Looked-up addresses are used this long, nanoseconds.
const ADDRESS_TTL_NS: u64 = 30_000_000_000;

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

/// Addresses of a target that was given by name.
#[derive(Debug, Default)]
pub struct Addresses {
    found: Vec<SocketAddr>,
    expires_mono_ns: u64,
    asked: bool,
}

/// Where a target is in its cycle.
#[derive(Debug)]
pub enum Cycle {
    /// Until its next phase.
    Resting,
    /// Waiting for a name or credentials.
    AwaitingErrand(Box<Exchange>),
    /// Handed to the net.
    InFlight(Box<Exchange>),
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

/// What the loop knows about where to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereto {
    /// Dial this.
    Known(SocketAddr),
    /// A name must be looked up first.
    Lookup,
    /// All addresses were tried.
    Exhausted,
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

    /// The target's URL as errors and the API show it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}{}", self.spec.scheme.name(), self.spec.authority, self.spec.path)
    }

    /// Where to connect for attempt `index` of a cycle at the target's own URL.
    #[must_use]
    pub fn whereto(&self, index: usize, mono_ns: u64) -> Whereto {
        match (&self.spec.host, &self.addresses) {
            (Host::Addr(a), _) if index == 0 => Whereto::Known(*a),
            (Host::Addr(_) | Host::Nowhere(_), _) | (_, None) => Whereto::Exhausted,
            (Host::Name { .. }, Some(known)) => match known.found.get(index) {
                Some(a) if mono_ns < known.expires_mono_ns || index > 0 => Whereto::Known(*a),
                _ if index == 0 => Whereto::Lookup,
                _ => Whereto::Exhausted,
            },
        }
    }

    /// Whether a look-up should be sent now; says yes once until its answer came.
    pub fn should_ask_name(&mut self) -> bool {
        match &mut self.addresses {
            Some(a) if !a.asked => {
                a.asked = true;
                true
            }
            _ => false,
        }
    }

    /// The look-up could not be sent; the next start tries again.
    pub fn name_not_asked(&mut self) {
        if let Some(a) = &mut self.addresses {
            a.asked = false;
        }
    }

    /// Takes a look-up's answer. A failed one leaves nothing known, so that the next start asks again.
    pub fn on_resolved(&mut self, found: Vec<SocketAddr>, mono_ns: u64) {
        if let Some(a) = &mut self.addresses {
            **a = Addresses { found, expires_mono_ns: mono_ns + ADDRESS_TTL_NS, asked: false };
        }
    }
}
