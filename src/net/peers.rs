//! Peers of kept connections: eight bytes a target, and room for longer addresses only once there is one.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// The peer of a target's kept connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kept {
    /// None is kept.
    #[default]
    Nothing,
    /// This one.
    V4(SocketAddrV4),
    /// The one in [`LongPeers`].
    V6,
}

const _: () = assert!(size_of::<Kept>() == 8, "a million of them");

/// Peers that do not fit in a [`Kept`], by token.
#[derive(Debug, Default)]
pub(super) struct LongPeers(Vec<SocketAddrV6>);

impl LongPeers {
    /// Notes the peer of a token's connection.
    pub(super) fn keep(&mut self, token: u32, peer: SocketAddr) -> Kept {
        match peer {
            SocketAddr::V4(peer) => Kept::V4(peer),
            SocketAddr::V6(peer) => {
                if token as usize >= self.0.len() {
                    self.0.resize(token as usize + 1, SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 0, 0, 0));
                }
                self.0[token as usize] = peer;
                Kept::V6
            }
        }
    }

    /// Whether this is what was noted.
    pub(super) fn is(&self, token: u32, kept: Kept, peer: SocketAddr) -> bool {
        match (kept, peer) {
            (Kept::V4(kept), SocketAddr::V4(peer)) => kept == peer,
            (Kept::V6, SocketAddr::V6(peer)) => self.0[token as usize] == peer,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_the_one_that_was_kept_last() {
        let mut peers = LongPeers::default();
        let all: [SocketAddr; 4] =
            ["10.0.0.1:80", "10.0.0.1:81", "[2001:db8::1]:80", "[2001:db8::2]:80"].map(|a| a.parse().unwrap());
        for token in [3, 0, 9] {
            for one in all {
                let kept = peers.keep(token, one);
                assert!(all.iter().all(|&other| peers.is(token, kept, other) == (one == other)), "{one}");
                assert!(!peers.is(token, Kept::Nothing, one));
            }
        }
    }
}
