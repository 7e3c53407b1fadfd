//! A whole appliance in one thread from one seed: scripted targets, virtual time, a disk that forgets, an oracle.
//!
//! [`simulate`] runs three shards of the product ([`Shard`](crate::shard::Shard) over the simulated network) for half an
//! hour of virtual time: a reload, targets that go from shard to shard, a step of the wall clock, a pause of the process, a crash with a torn journal and a
//! restart, files whose writes and syncs fail now and then, a receiver that is away for a while, and answers that are refused, reset, late, cut or split anywhere. A
//! [`Script`] decides everything before it happens, so the [`oracle`] can compute the exact sample log from it, on plain
//! hash maps and without any code of the series room. [`Planted`] bugs prove that the oracle can find something.
//! Invariants: time moves only here and in the network; one seed gives one script. Absent on purpose: threads, sockets, the
//! manager (its commands are scripted) and the sender's requests (the receiver reads the journal as a sender does).

pub mod appliance;
pub mod disk;
mod log;
mod oracle;
mod oracle_series;
pub mod peer;
mod planted;
mod receiver;
mod run;
pub mod scenario;
mod scene;
mod script;
mod timeline;

pub use planted::Planted;
pub use run::{Finding, Tally, simulate};
pub use script::Script;

/// Maps and sets whose keys nobody hostile chooses.
type HashMap<K, V> = std::collections::HashMap<K, V, rapidhash::fast::RandomState>;
type HashSet<K> = std::collections::HashSet<K, rapidhash::fast::RandomState>;

/// Numbers from a seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A sequence of its own for each seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// Below `n`; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.draw() % n }
    }
}

/// One number from several, as if drawn.
#[must_use]
pub fn hash(parts: &[u64]) -> u64 {
    parts.iter().fold(0x51_7c_c1_b7_27_22_0a_95, |h, &p| mix(h ^ p.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
