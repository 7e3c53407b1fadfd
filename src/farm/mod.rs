//! A farm of exporters in one thread: real HTTP over TCP on 127/8, the load of `demo` and of perf/.
//!
//! Target `i` is address 127.1.0.0 + i. [`Spec`] says how many, which [`Population`] of bodies and which [`Manner`]s;
//! [`Farm::spawn`] serves them until dropped. The farm measures nothing and knows nothing of the scraper.
//! Connections whose local address is not 127/8 are closed at once. Absent: TLS, a million connections (descriptors).

mod body;
mod server;

pub use body::{Body, Population};
pub use server::{Farm, Manner, Spec};

use std::net::Ipv4Addr;

/// First address of the farm.
pub const FIRST: u32 = 0x7f01_0000;

/// Address of target `index`.
#[must_use]
pub fn address(index: u32) -> Ipv4Addr {
    Ipv4Addr::from(FIRST + index)
}
