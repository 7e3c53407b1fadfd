//! A farm of exporters in one thread: real HTTP over TCP on 127/8, the load of `demo` and of perf/.
//!
//! [`Spec`] describes it: [`Population`]s with a [`Source`] of bodies, a [`Vary`] and a [`Manner`]; [`Farm::spawn`] serves
//! it until dropped. `Exporters` is all of HTTP without sockets, `Seals` all of TLS; two servers drive them: rings with direct
//! descriptors, so that a million connections need no descriptors, and epoll where the ring is refused.
//! Invariants: a connection's target is the one that its Host header names; its first byte says whether it is one over TLS;
//! the kernel places a target's connections on the ring that has a slot for it; bytes that targets share are kept once;
//! nothing waits for a slow target.
//! The farm measures nothing and knows nothing of the scraper. Absent: chunked answers, several threads.

mod body;
mod epoll;
mod exporters;
#[cfg(test)]
mod farm_tests;
mod listen;
mod press;
mod ring;
mod rings;
mod seal;
mod server;
mod spec;
mod template;

pub use body::Body;
pub use server::Farm;
pub use spec::{Churn, Engine, Manner, Population, Source, Spec, Vary};

use std::net::Ipv4Addr;

/// First address of the farm.
pub const FIRST: u32 = 0x7f01_0000;

/// Address of target `index`.
#[must_use]
pub fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + index)
}

/// A well-mixed number, the same for the same input.
fn hash(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_add(0x9e37_79b9_7f4a_7c15).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
