//! Which host names are looked up next and for whom, and what is remembered of them: the names' service without its threads.
//!
//! Those who ask for one name share a look-up, and what it found serves others for a while. A name waits in one of three
//! lanes. In the slow one are names whose last look-up took a second or more, and names of a *zone* (what follows the first
//! dot) of which many did, and none has given an address sooner since. In the proven one are names whose last look-up gave
//! addresses at once; new ones, and those that failed at once, are in the lane between. A look-up that turns out to be slow
//! while it runs is counted to the slow lane from then on, so that its place is free again, and the others of its zone follow
//! it when it is their turn.
//!
//! So a dead zone holds up names of others for about a second when it is first met, however many names it has, and not at all
//! later. Several dead zones may do so one after the other, until all threads hang that there are for new and slow names:
//! then other new names wait for one of them, while proven ones have threads of their own.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::scrape::addresses::TTL_NS;
use crate::shard::errands::Mailer;

/// Look-ups under way at once in each lane: a system's resolver serves 24 at once well, and a third of that is enough for
/// names that will most likely time out.
const BUSY_MAX: [usize; 3] = [24, 24, 8];
/// Look-ups under way at once in all lanes, when another one of each lane begins: one that hangs gives its place in its lane
/// back, but not its thread, so some threads are for proven names alone.
const RUNNING_MAX: [usize; 3] = [THREADS_MAX, THREADS_MAX - BUSY_MAX[0], THREADS_MAX - BUSY_MAX[0]];
/// Threads at most: a round of each of the first two lanes may hang while another one is under way.
pub(super) const THREADS_MAX: usize = 64;
const _: () = assert!(THREADS_MAX >= BUSY_MAX[0] + BUSY_MAX[1] + BUSY_MAX[2]);
/// Those who wait in each lane; any more are refused. A million targets of few names do not ask at once: starts are spread
/// over the interval.
const ASKERS_MAX: usize = 131_072;
/// A look-up that takes longer is slow, nanoseconds: a healthy one ends in much less, even over several servers, and a
/// resolver that waits for a dead server waits for 5 s before it tries again.
const SLOW_NS: u64 = 1_000_000_000;
/// Slow look-ups of a zone one after the other that make all of it slow: one slow name says nothing about its neighbours.
const SLOW_OF_ZONE: u32 = 8;
/// A failed look-up serves this long, nanoseconds: targets that share a name are due within the same second or so, and no
/// target is due again that soon, so each of its scrapes asks anew. prometheus: net, Resolver remembers no failure.
const FAILED_NS: u64 = 1_000_000_000;
/// Names, and zones, that are remembered, at least; twice as many at most. Of the others nothing is known: they are looked
/// up for everyone who asks, as new ones.
const REMEMBERED: usize = 16_384;
/// Names passed over in one go, because nobody waits for them any more or their zone is slow: then others have the lock.
const PASSED_OVER_MAX: usize = 256;

/// Who waits for a name.
#[derive(Clone, Debug)]
pub struct Asker {
    /// The target.
    pub token: u32,
    /// Goes into the answer.
    pub port: u16,
    /// Until when the answer is of use, monotonic ns.
    pub deadline_mono_ns: u64,
    /// The way to its shard.
    pub mailer: Arc<Mailer>,
}

/// What a look-up found.
#[derive(Clone, Debug)]
pub struct Found {
    /// At least one address, all with port 0, or the error text.
    pub result: Result<Arc<[SocketAddr]>, Arc<str>>,
    /// When it ended, monotonic ns.
    pub at_mono_ns: u64,
}

impl Found {
    fn serves(&self, mono_ns: u64) -> bool {
        let for_ns = if self.result.is_ok() { TTL_NS } else { FAILED_NS };
        mono_ns < self.at_mono_ns + for_ns
    }

    /// The addresses with this port; none where the look-up failed.
    #[must_use]
    pub fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        let mut all = self.result.as_ref().map_or_else(|_| Vec::new(), |found| found.to_vec());
        all.iter_mut().for_each(|a| a.set_port(port));
        all
    }
}

/// What becomes of a question.
#[derive(Debug)]
pub enum Asked {
    /// It was looked up lately.
    Known(Found),
    /// The answer will come.
    Waiting,
    /// Too many wait; nothing will come.
    Full,
}

/// What a thread does next.
#[derive(Debug)]
pub enum Next {
    /// Looks this name up.
    LookUp(Arc<str>),
    /// Lets others have the lock, and asks again.
    Again,
    /// Rests until it is woken, or until then, monotonic ns.
    Rest(Option<u64>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Lane {
    Proven,
    New,
    Slow,
}

impl Lane {
    /// In the order in which they are served: what is in the slow one will hardly end in time.
    const ALL: [Self; 3] = [Self::Proven, Self::New, Self::Slow];
}

/// A name that somebody waits for.
#[derive(Debug)]
struct Pending {
    lane: Lane,
    askers: Vec<Asker>,
}

#[derive(Debug)]
struct Running {
    name: Arc<str>,
    begun_mono_ns: u64,
    lane: Lane,
    /// It was seen to be slow, and is counted for its zone.
    is_slow: bool,
}

#[derive(Debug)]
struct Record {
    found: Found,
    is_slow: bool,
}

impl Record {
    fn lane(&self) -> Lane {
        match self.found.result {
            _ if self.is_slow => Lane::Slow,
            Ok(_) => Lane::Proven,
            Err(_) => Lane::New,
        }
    }
}

/// Names of the lanes.
pub const LANES: [&str; 3] = ["proven", "new", "slow"];

/// What became of look-ups so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tallies {
    /// That ended.
    pub ended: u64,
    /// Of these without an address.
    pub failed: u64,
    /// That took a second or more, or do so now.
    pub slow: u64,
    /// Questions refused because too many wait.
    pub refused: u64,
    /// Scrapes that wait in each of [`LANES`].
    pub waiting: [usize; 3],
}

/// See the module page.
#[derive(Debug, Default)]
pub struct LookUps {
    /// Queued and running ones.
    pending: HashMap<Arc<str>, Pending>,
    queues: [VecDeque<Arc<str>>; 3],
    /// Askers by lane.
    waiting: [usize; 3],
    running: Vec<Running>,
    names: Recent<Record>,
    /// Slow look-ups one after the other.
    zones: Recent<u32>,
    /// But for those who wait.
    tallies: Tallies,
}

impl LookUps {
    /// What became of look-ups so far.
    #[must_use]
    pub fn tallies(&self) -> Tallies {
        Tallies { waiting: self.waiting, ..self.tallies }
    }

    /// Somebody wants to know a name.
    pub fn ask(&mut self, name: &str, asker: Asker, mono_ns: u64) -> Asked {
        if let Some(pending) = self.pending.get_mut(name) {
            let waiting = &mut self.waiting[pending.lane as usize];
            if *waiting >= ASKERS_MAX {
                self.tallies.refused += 1;
                return Asked::Full;
            }
            // Before it grows: a name that is never reached is asked for again at each scrape.
            if pending.askers.len() == pending.askers.capacity() {
                *waiting -= pending.drop_late(mono_ns);
            }
            *waiting += 1;
            pending.askers.push(asker);
            return Asked::Waiting;
        }
        if let Some(record) = self.names.find(name).filter(|r| r.found.serves(mono_ns)) {
            return Asked::Known(record.found.clone());
        }
        let lane = self.lane_of(name);
        if self.waiting[lane as usize] >= ASKERS_MAX {
            self.tallies.refused += 1;
            return Asked::Full;
        }
        let name: Arc<str> = name.into();
        self.waiting[lane as usize] += 1;
        self.queues[lane as usize].push_back(Arc::clone(&name));
        self.pending.insert(name, Pending { lane, askers: vec![asker] });
        Asked::Waiting
    }

    /// What a thread is to do.
    pub fn next(&mut self, mono_ns: u64) -> Next {
        self.notice_slow(mono_ns);
        for _ in 0..PASSED_OVER_MAX {
            let Some(lane) = self.open_lane() else { return Next::Rest(self.slow_at()) };
            let Some(name) = self.queues[lane as usize].pop_front() else { unreachable!("an open lane has a name") };
            // Since it was queued, its zone may have become slow.
            let is_slow = lane < Lane::Slow && self.lane_of(&name) == Lane::Slow;
            let pending = self.pending.get_mut(&name).expect("a queued name is pending");
            self.waiting[lane as usize] -= pending.drop_late(mono_ns);
            if pending.askers.is_empty() {
                self.pending.remove(&name);
            } else if is_slow {
                self.slow_down(&name);
                self.queues[Lane::Slow as usize].push_back(name);
            } else {
                self.running.push(Running { name: Arc::clone(&name), begun_mono_ns: mono_ns, lane, is_slow: false });
                return Next::LookUp(name);
            }
        }
        Next::Again
    }

    /// Whether another thread would find a name to look up.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.open_lane().is_some()
    }

    /// Takes what the look-up of a name found; gives those who wait for it.
    pub fn finish(
        &mut self,
        name: &Arc<str>,
        result: Result<Vec<SocketAddr>, String>,
        mono_ns: u64,
    ) -> (Found, Vec<Asker>) {
        self.notice_slow(mono_ns);
        let at = self.running.iter().position(|r| r.name == *name).expect("what ends was begun");
        let is_slow = self.running.swap_remove(at).is_slow;
        // A failure proves nothing: servers under load refuse some questions at once.
        let is_proven = !is_slow && result.is_ok();
        if let Some(zone) = zone_of(name).filter(|z| is_proven && self.zones.find(z).is_some()) {
            self.zones.put(zone.into(), 0);
        }
        let mut pending = self.pending.remove(name).expect("a look-up under way is pending");
        self.waiting[pending.lane as usize] -= pending.askers.len();
        pending.drop_late(mono_ns);
        self.tallies.ended += 1;
        self.tallies.failed += u64::from(result.is_err());
        let found = Found { result: result.map(Into::into).map_err(Into::into), at_mono_ns: mono_ns };
        self.names.put(Arc::clone(name), Record { found: found.clone(), is_slow });
        (found, pending.askers)
    }

    fn lane_of(&self, name: &str) -> Lane {
        let of_zone = zone_of(name).and_then(|z| self.zones.find(z)).is_some_and(|&slow| slow >= SLOW_OF_ZONE);
        if of_zone { Lane::Slow } else { self.names.find(name).map_or(Lane::New, Record::lane) }
    }

    /// The first lane with a name and a place.
    fn open_lane(&self) -> Option<Lane> {
        let busy = |lane| self.running.iter().filter(|r| r.lane == lane).count();
        let has_place = |lane| self.running.len() < RUNNING_MAX[lane as usize] && busy(lane) < BUSY_MAX[lane as usize];
        Lane::ALL.into_iter().find(|&lane| !self.queues[lane as usize].is_empty() && has_place(lane))
    }

    /// When the next look-up will be seen to be slow, if anybody waits for its place.
    fn slow_at(&self) -> Option<u64> {
        let is_awaited = |lane| lane < Lane::Slow && !self.queues[lane as usize].is_empty();
        self.running.iter().filter(|r| is_awaited(r.lane)).map(|r| r.begun_mono_ns + SLOW_NS).min()
    }

    fn notice_slow(&mut self, mono_ns: u64) {
        for i in 0..self.running.len() {
            let running = &mut self.running[i];
            if running.is_slow || mono_ns < running.begun_mono_ns + SLOW_NS {
                continue;
            }
            running.is_slow = true;
            self.tallies.slow += 1;
            running.lane = Lane::Slow;
            let name = Arc::clone(&running.name);
            self.slow_down(&name);
            if let Some(zone) = zone_of(&name) {
                let slow = self.zones.find(zone).copied().unwrap_or(0);
                self.zones.put(zone.into(), slow.saturating_add(1));
            }
        }
    }

    /// Counts those who wait for a name to the slow lane.
    fn slow_down(&mut self, name: &str) {
        let pending = self.pending.get_mut(name).expect("a name in a lane is pending");
        self.waiting[pending.lane as usize] -= pending.askers.len();
        pending.lane = Lane::Slow;
        self.waiting[Lane::Slow as usize] += pending.askers.len();
    }
}

impl Pending {
    /// Drops those whose time is up; how many they were. They have failed by now, and the next scrape asks again.
    fn drop_late(&mut self, mono_ns: u64) -> usize {
        let before = self.askers.len();
        self.askers.retain(|a| mono_ns < a.deadline_mono_ns);
        before - self.askers.len()
    }
}

/// What follows the first dot; names without one have nothing in common.
fn zone_of(name: &str) -> Option<&str> {
    name.split_once('.').map(|(_, zone)| zone).filter(|zone| !zone.is_empty())
}

/// The last so many things by name, roughly: when the young ones are many, they become the old ones, and those are forgotten.
#[derive(Debug)]
struct Recent<V> {
    young: HashMap<Arc<str>, V>,
    old: HashMap<Arc<str>, V>,
}

impl<V> Default for Recent<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V> Recent<V> {
    fn find(&self, name: &str) -> Option<&V> {
        self.young.get(name).or_else(|| self.old.get(name))
    }

    fn put(&mut self, name: Arc<str>, value: V) {
        if self.young.len() >= REMEMBERED && !self.young.contains_key(&name) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, value);
    }
}

#[cfg(test)]
#[path = "look_ups_tests.rs"]
mod tests;
