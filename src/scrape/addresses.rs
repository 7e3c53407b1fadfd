//! Addresses of a target that was given by name: what it meant last, and which one answered.

use std::net::SocketAddr;

use crate::net::Link;

/// Looked-up addresses are used this long, nanoseconds.
pub const TTL_NS: u64 = 30_000_000_000;

/// What the loop knows about where to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereto {
    /// Dial this; so many more addresses may follow.
    Known(SocketAddr, usize),
    /// A connection to this is used if it was kept; if not, it is not dialled: the name may mean another by now.
    Kept(SocketAddr),
    /// A name must be looked up first.
    Lookup,
    /// All addresses were tried.
    Exhausted,
}

/// Addresses of one name.
#[derive(Debug, Default)]
pub struct Addresses {
    found: Vec<SocketAddr>,
    expires_mono_ns: u64,
    /// The one that answered last: its connection may have been kept.
    answered: Option<SocketAddr>,
}

impl Addresses {
    /// Where to connect for attempt `index` of a cycle. prometheus: net/http, Transport: a kept connection first, and only
    /// without one the name is looked up.
    #[must_use]
    pub fn whereto(&self, index: usize, link: Link, mono_ns: u64) -> Whereto {
        if let (0, Link::Keep, Some(answered)) = (index, link, self.answered) {
            return Whereto::Kept(answered);
        }
        match self.found.get(index) {
            Some(&addr) if mono_ns < self.expires_mono_ns || index > 0 => {
                Whereto::Known(addr, self.found.len() - index - 1)
            }
            _ if index == 0 => Whereto::Lookup,
            _ => Whereto::Exhausted,
        }
    }

    /// Notes which address answered; `None`: its connection is not kept.
    pub fn on_answered(&mut self, addr: Option<SocketAddr>) {
        self.answered = addr;
    }

    /// Takes the answer of a look-up that ended then. A failed one leaves nothing known, so that the next start asks again.
    pub fn on_resolved(&mut self, found: Vec<SocketAddr>, mono_ns: u64) {
        (self.found, self.expires_mono_ns) = (found, mono_ns + TTL_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_looked_up_only_where_no_connection_may_be_kept() {
        let (one, two) = (SocketAddr::from(([127, 0, 0, 1], 80)), SocketAddr::from(([127, 0, 0, 2], 80)));
        let later = 10 * TTL_NS;
        let mut known = Addresses::default();
        assert_eq!(known.whereto(0, Link::Keep, 0), Whereto::Lookup);
        known.on_resolved(vec![one, two], 5);
        assert_eq!(known.whereto(0, Link::Keep, 6), Whereto::Known(one, 1));
        assert_eq!(known.whereto(1, Link::Keep, 6), Whereto::Known(two, 0));
        assert_eq!(known.whereto(2, Link::Keep, 6), Whereto::Exhausted);
        known.on_answered(Some(two));
        assert_eq!(known.whereto(0, Link::Keep, later), Whereto::Kept(two), "whatever the name means by now");
        assert_eq!(known.whereto(0, Link::Fresh, 6), Whereto::Known(one, 1));
        assert_eq!(known.whereto(0, Link::Fresh, later), Whereto::Lookup);
        known.on_answered(None);
        assert_eq!(known.whereto(0, Link::Keep, later), Whereto::Lookup);
        known.on_resolved(Vec::new(), later);
        assert_eq!(known.whereto(0, Link::Keep, later), Whereto::Lookup, "a failed look-up leaves nothing known");
    }
}
