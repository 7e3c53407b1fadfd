//! A farm of exporters in one thread: real HTTP over TCP on 127/8, the load of `demo` and of perf/.
//!
//! Target `i` is address 127.1.0.0 + i. [`Spec`] describes them: [`Population`]s with a [`Source`] of bodies, a
//! [`Vary`] and a [`Manner`]; [`Farm::spawn`] serves them until dropped. The farm measures nothing and knows nothing of the scraper.
//! Connections whose local address is not 127/8 are closed at once. Absent: TLS, a million connections (descriptors).

mod body;
mod server;
mod spec;

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
