//! Sockets that outlive their connections, so that a dial for one exchange finds one made.
//!
//! Making and destroying a socket is a sixth of what a scrape over a fresh connection costs the kernel. A connection that is
//! meant for one exchange has its socket in a place behind those of the numbered connections. Where the peer has closed first,
//! what is left of the connection is dissolved (`connect` to no address), and the socket serves the next one.

use std::net::SocketAddr;
use std::num::NonZeroU16;

/// One of the places, from one.
pub(super) type Spare = NonZeroU16;

/// A socket makes connections of its own family only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(addr: &SocketAddr) -> Self {
        if addr.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// What there is for a dial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A place with a socket that has no connection.
    Socket(Spare),
    /// A place without a socket.
    Place(Spare),
    /// All are in use.
    Nothing,
}

/// The spare places of one ring. What was used last is used first, while the cache has it.
#[derive(Debug)]
pub(super) struct Spares {
    /// The place before the first.
    before: u32,
    /// Places without a socket.
    bare: Vec<Spare>,
    /// Places with a socket, by its family.
    sockets: [Vec<Spare>; 2],
    /// By place: the family of its socket, if it has one.
    families: Vec<Family>,
}

impl Spares {
    /// So many places behind those of so many connections.
    pub(super) fn new(connections: u32, places: u16) -> Self {
        assert!(connections > 0, "a ring has connections");
        Self {
            before: connections - 1,
            bare: (1..=places).rev().filter_map(Spare::new).collect(),
            sockets: [Vec::new(), Vec::new()],
            families: vec![Family::V4; usize::from(places)],
        }
    }

    /// The place in the table of the ring.
    pub(super) fn place(&self, spare: Spare) -> u32 {
        self.before + u32::from(spare.get())
    }

    /// Takes a place for a dial.
    pub(super) fn find(&mut self, family: Family) -> Found {
        if let Some(spare) = self.sockets[family as usize].pop() {
            return Found::Socket(spare);
        }
        let Some(spare) = self.bare.pop() else { return Found::Nothing };
        self.families[usize::from(spare.get()) - 1] = family;
        Found::Place(spare)
    }

    /// Its connection has ended; the socket is still there.
    pub(super) fn ended(&mut self, spare: Spare) {
        self.sockets[self.families[usize::from(spare.get()) - 1] as usize].push(spare);
    }

    /// Its socket is closed.
    pub(super) fn closed(&mut self, spare: Spare) {
        self.bare.push(spare);
    }

    /// Sockets without a connection.
    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.sockets.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_go_to_dials_of_their_family() {
        let mut spares = Spares::new(10, 2);
        let [Found::Place(a), Found::Place(b)] = [Family::V4, Family::V6].map(|f| spares.find(f)) else { panic!() };
        assert_eq!((spares.place(a), spares.place(b)), (10, 11));
        assert_eq!(spares.find(Family::V4), Found::Nothing);
        spares.ended(b);
        assert_eq!(spares.find(Family::V4), Found::Nothing, "a socket of the other family is none");
        assert_eq!(spares.find(Family::V6), Found::Socket(b));
        spares.closed(a);
        assert_eq!(spares.find(Family::V6), Found::Place(a));
        spares.ended(a);
        assert_eq!(spares.find(Family::V6), Found::Socket(a), "its family is that of its last socket");
    }
}
