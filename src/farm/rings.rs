//! The farm's sockets by io_uring: as many rings as the limit of descriptors makes necessary, one thread.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::Spec;
use super::exporters::{Exporters, Order};
use super::listen::Listeners;
use super::press::Press;
use super::ring::{Floor, Pool, Ring};
use crate::base::limits::REAP_TICK_NS;
use crate::base::mailbox::Waker;
use crate::base::time::Now;
use crate::engine::{Refusal, Sleeper};

/// Largest slot table of a ring there is.
const SLOTS_MAX: u32 = 1 << 20;
/// Slots beyond one for each target: connections that are closing while their successors open.
const SLOTS_SPARE: u32 = 1024;
/// Completions in one round from which the next follows at once: saturated, there is nothing to gather by waiting.
const BUSY: u32 = 256;

/// Why there are no rings.
#[derive(Debug)]
pub(super) enum Failure {
    /// The ring is refused on this host.
    Refused(Refusal),
    /// The farm itself cannot be.
    System(io::Error),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::System(e)
    }
}

/// Serves exporters.
pub(super) struct Server {
    /// Dropped first: the kernel may read what the exporters keep until the rings are gone.
    rings: Vec<Ring>,
    pool: Pool,
    exporters: Exporters,
    slots: u32,
    orders: Vec<Order>,
    mine: Vec<Order>,
    listeners: Listeners,
    sleeper: Sleeper,
    bell: Waker,
}

impl Server {
    /// Listens at what the description says.
    pub(super) fn new(spec: &Spec, served: &Arc<AtomicU64>) -> Result<Self, Failure> {
        let press = Press::new(spec)?;
        let (rings, slots) = tables(spec.numbers(), descriptors_max());
        let listeners = Listeners::open(spec, rings)?;
        let pool = Pool::new().map_err(Failure::Refused)?;
        let bell = Waker::new()?;
        let ring = |(i, doors): (usize, &Vec<_>)| Ring::new(slots, i as u32 * slots, doors, &pool, &bell);
        let rings =
            listeners.groups.iter().enumerate().map(ring).collect::<Result<_, _>>().map_err(Failure::Refused)?;
        let exporters = Exporters::new(spec, listeners.port, press, Arc::clone(served))?;
        let (orders, mine, sleeper) = (Vec::new(), Vec::new(), Sleeper::default());
        Ok(Self { rings, pool, exporters, slots, orders, mine, listeners, sleeper, bell })
    }

    pub(super) fn port(&self) -> u16 {
        self.listeners.port
    }

    pub(super) fn rings(&self) -> usize {
        self.rings.len()
    }

    /// Does one round, then sleeps: a tick, and on until there is something to do, `until_ns` at most.
    pub(super) fn turn(&mut self, until_ns: u64) {
        let now = Now::read();
        let mut taken = 0;
        for ring in &mut self.rings {
            if ring.has_work() {
                let (exporters, pool, orders) = (&mut self.exporters, &self.pool, &mut self.orders);
                taken += ring.run(&mut Floor { exporters, pool, orders, now_ns: now.mono_ns });
            }
        }
        if self.exporters.next_due().is_some_and(|due| due <= now.mono_ns) {
            self.release(now.mono_ns);
        }
        if taken < BUSY {
            self.rest(now, until_ns);
        }
    }

    /// Sends the delayed answers that are due.
    fn release(&mut self, now_ns: u64) {
        self.exporters.release(now_ns, &mut self.mine);
        self.mine.sort_unstable_by_key(Order::conn);
        while let Some(last) = self.mine.last() {
            let at = last.conn() / self.slots;
            let first = self.mine.partition_point(|o| o.conn() / self.slots < at);
            self.orders.extend(self.mine.drain(first..));
            let (exporters, pool, orders) = (&mut self.exporters, &self.pool, &mut self.orders);
            let mut floor = Floor { exporters, pool, orders, now_ns };
            self.rings[at as usize].carry(&mut floor);
            self.rings[at as usize].run(&mut floor);
        }
    }

    fn rest(&mut self, now: Now, until_ns: u64) {
        let until = Some(self.exporters.next_due().map_or(until_ns, |due| due.min(until_ns)));
        let (after, more) = Sleeper::tick(now, until, REAP_TICK_NS);
        if !more || self.rings.iter_mut().any(Ring::has_work) {
            return;
        }
        // Only while nothing is there at a tick do the rings signal the bell, so a busy farm never pays for it.
        let quiet = self.rings.iter_mut().fold(true, |quiet, ring| !ring.listen() && quiet);
        if quiet {
            self.sleeper.readable_or(self.bell.fd(), after, until);
        }
        self.rings.iter_mut().for_each(Ring::unlisten);
        self.bell.clear();
    }
}

/// How many rings of how many slots hold a connection for each of so many targets.
fn tables(targets: u32, descriptors_max: u64) -> (u32, u32) {
    let limit = u32::try_from(descriptors_max).unwrap_or(SLOTS_MAX).clamp(16, SLOTS_MAX);
    let wanted = targets.saturating_mul(2).saturating_add(SLOTS_SPARE);
    if wanted <= limit || targets <= limit / 8 * 7 {
        return (1, wanted.min(limit));
    }
    (targets.div_ceil(limit / 8 * 7), limit)
}

/// Soft limit on open descriptors of this process, which also limits a ring's slots.
fn descriptors_max() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid to write to.
    let r = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if r < 0 { 1024 } else { limit.rlim_cur }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_hold_every_target_with_room_to_spare() {
        assert_eq!(tables(10, 20_000), (1, 1_044));
        assert_eq!(tables(15_000, 20_000), (1, 20_000));
        assert_eq!(tables(900_000, 1 << 30), (1, 1 << 20));
        for targets in [17_501, 100_000, 1_000_000, 16_000_000] {
            let (rings, slots) = tables(targets, 20_000);
            assert!(slots <= 20_000 && targets.div_ceil(rings) <= slots / 8 * 7, "{targets}: {rings} of {slots}");
        }
    }
}
