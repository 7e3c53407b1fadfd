//! Deadlines by number on a hashed wheel of one-millisecond slots: set, clear and expire in constant time each.

use crate::base::limits::REAP_TICK_NS;

/// Slots of the wheel; a deadline further away is met again once a lap (about four seconds).
const SLOTS: usize = 4096;
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    prev: u32,
    /// The tick at which it expires; 0 when it is not set.
    tick: u64,
}

/// The wheel. Numbers should be dense: memory is 16 bytes a number seen.
#[derive(Debug)]
pub(super) struct Deadlines {
    heads: Vec<u32>,
    occupied: [u64; SLOTS / 64],
    nodes: Vec<Node>,
    /// Everything up to this tick has expired.
    done: u64,
    count: usize,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self { heads: vec![NONE; SLOTS], occupied: [0; SLOTS / 64], nodes: Vec::new(), done: 0, count: 0 }
    }
}

impl Deadlines {
    /// Sets the deadline of a number that has none. It expires at the first tick not before `at_ns`.
    pub(super) fn set(&mut self, id: u32, at_ns: u64) {
        if id as usize >= self.nodes.len() {
            self.nodes.resize(id as usize + 1, Node { next: NONE, prev: NONE, tick: 0 });
        }
        assert!(self.nodes[id as usize].tick == 0, "a deadline is set once");
        let tick = at_ns.div_ceil(REAP_TICK_NS).max(self.done + 1);
        let slot = tick as usize % SLOTS;
        let next = std::mem::replace(&mut self.heads[slot], id);
        self.nodes[id as usize] = Node { next, prev: NONE, tick };
        if next != NONE {
            self.nodes[next as usize].prev = id;
        }
        self.occupied[slot / 64] |= 1 << (slot % 64);
        self.count += 1;
    }

    /// Forgets the deadline of a number, if it has one.
    pub(super) fn clear(&mut self, id: u32) {
        let Some(node) = self.nodes.get_mut(id as usize).filter(|n| n.tick != 0) else { return };
        let Node { next, prev, tick } = std::mem::replace(node, Node { next: NONE, prev: NONE, tick: 0 });
        let slot = tick as usize % SLOTS;
        if next != NONE {
            self.nodes[next as usize].prev = prev;
        }
        if prev != NONE {
            self.nodes[prev as usize].next = next;
        } else {
            self.heads[slot] = next;
            if next == NONE {
                self.occupied[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.count -= 1;
    }

    /// Clears and lists everything whose deadline has come.
    pub(super) fn expire(&mut self, now_ns: u64, expired: &mut Vec<u32>) {
        let now = now_ns / REAP_TICK_NS;
        let from = self.done + 1;
        let slots = (now + 1).saturating_sub(from).min(SLOTS as u64);
        if now > self.done {
            self.done = now;
        }
        if self.count == 0 {
            return;
        }
        for slot in (from..from + slots).map(|t| t as usize % SLOTS) {
            let mut id = self.heads[slot];
            while id != NONE {
                let Node { next, tick, .. } = self.nodes[id as usize];
                if tick <= now {
                    self.clear(id);
                    expired.push(id);
                }
                id = next;
            }
        }
    }

    /// A time before which nothing expires, and at which something may; `None` when no deadline is set.
    pub(super) fn next_ns(&self) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        let first = self.done + 1;
        let (word, bit) = (first as usize % SLOTS / 64, first as usize % 64);
        for i in 0..=SLOTS / 64 {
            let w = (word + i) % (SLOTS / 64);
            let mask = if i == 0 { u64::MAX << bit } else { u64::MAX };
            let found = self.occupied[w] & mask;
            if found != 0 {
                let ahead = (i * 64 + found.trailing_zeros() as usize) as u64 - bit as u64;
                return Some((first + ahead) * REAP_TICK_NS);
            }
        }
        unreachable!("a set deadline occupies a slot")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u32, u64),
        Clear(u32),
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..20u32, 0..30_000_000_000u64).prop_map(|(id, ns)| Step::Set(id, ns)),
            (0..20u32).prop_map(Step::Clear),
            (0..9_000_000_000u64).prop_map(Step::Pass),
            (0..3_000_000u64).prop_map(Step::Pass),
        ]
    }

    proptest! {
        /// The naive twin is a map that is searched from end to end.
        #[test]
        fn wheel_agrees_with_a_map(steps in prop::collection::vec(step(), 1..80)) {
            let (mut wheel, mut map) = (Deadlines::default(), BTreeMap::new());
            let mut now = 77_000_000_123u64;
            let mut seen = 0;
            wheel.expire(now, &mut Vec::new());
            for s in steps {
                match s {
                    Step::Set(id, after) => if !map.contains_key(&id) {
                        wheel.set(id, now + after);
                        // Rounded up to a tick, and never in a tick that is over.
                        map.insert(id, (now + after).div_ceil(REAP_TICK_NS).max(now / REAP_TICK_NS + 1));
                    },
                    Step::Clear(id) => { map.remove(&id); wheel.clear(id); }
                    Step::Pass(ns) => {
                        let next = wheel.next_ns();
                        prop_assert_eq!(next.is_none(), map.is_empty());
                        if let (Some(next), Some(first)) = (next, map.values().min()) {
                            prop_assert!(next <= first * REAP_TICK_NS && next > now);
                        }
                        now += ns;
                        let mut got = Vec::new();
                        wheel.expire(now, &mut got);
                        got.sort_unstable();
                        let due: Vec<u32> =
                            map.iter().filter(|(_, t)| **t <= now / REAP_TICK_NS).map(|(id, _)| *id).collect();
                        map.retain(|_, t| *t > now / REAP_TICK_NS);
                        seen += due.len();
                        prop_assert_eq!(got, due);
                    }
                }
            }
            let mut rest = Vec::new();
            wheel.expire(now + 60_000_000_000, &mut rest);
            prop_assert_eq!(rest.len(), map.len());
            prop_assert!(seen + rest.len() <= 80);
        }
    }
}
