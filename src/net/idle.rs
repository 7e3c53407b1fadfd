//! Kept connections that wait for their next job, oldest first.

use crate::base::prefetch::prefetch;

const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Place {
    next: u32,
    prev: u32,
    /// Monotonic ns since when; 0 when the token is not in the list.
    since_ns: u64,
}

/// A list of tokens in the order in which they fell idle. Constant time throughout; 16 bytes a token.
#[derive(Debug)]
pub(super) struct Idle {
    places: Vec<Place>,
    head: u32,
    tail: u32,
    len: usize,
}

impl Default for Idle {
    fn default() -> Self {
        Self { places: Vec::new(), head: NONE, tail: NONE, len: 0 }
    }
}

impl Idle {
    /// The place of a token is needed soon.
    pub(super) fn prefetch(&self, token: u32) {
        if let Some(place) = self.places.get(token as usize) {
            prefetch(place);
        }
    }

    /// Puts a token at the end.
    pub(super) fn push(&mut self, token: u32, now_ns: u64) {
        if token as usize >= self.places.len() {
            self.places.resize(token as usize + 1, Place { next: NONE, prev: NONE, since_ns: 0 });
        }
        assert!(self.places[token as usize].since_ns == 0, "a token is idle once");
        self.places[token as usize] = Place { next: NONE, prev: self.tail, since_ns: now_ns.max(1) };
        match self.tail {
            NONE => self.head = token,
            tail => self.places[tail as usize].next = token,
        }
        self.tail = token;
        self.len += 1;
    }

    /// Takes a token out; false if it was not in.
    pub(super) fn remove(&mut self, token: u32) -> bool {
        let Some(place) = self.places.get_mut(token as usize).filter(|p| p.since_ns != 0) else { return false };
        let Place { next, prev, .. } = std::mem::replace(place, Place { next: NONE, prev: NONE, since_ns: 0 });
        match prev {
            NONE => self.head = next,
            prev => self.places[prev as usize].next = next,
        }
        match next {
            NONE => self.tail = prev,
            next => self.places[next as usize].prev = prev,
        }
        self.len -= 1;
        true
    }

    /// The token that has been idle longest, and since when.
    pub(super) fn oldest(&self) -> Option<(u32, u64)> {
        (self.head != NONE).then(|| (self.head, self.places[self.head as usize].since_ns))
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive twin is a queue that is searched.
        #[test]
        fn list_agrees_with_a_queue(steps in prop::collection::vec((0..8u32, any::<bool>()), 1..200)) {
            let (mut idle, mut queue) = (Idle::default(), VecDeque::<u32>::new());
            for (i, (token, take)) in steps.into_iter().enumerate() {
                let there = queue.contains(&token);
                if take || there {
                    prop_assert_eq!(idle.remove(token), there);
                    queue.retain(|t| *t != token);
                } else {
                    idle.push(token, i as u64);
                    queue.push_back(token);
                }
                prop_assert_eq!(idle.oldest().map(|o| o.0), queue.front().copied());
                prop_assert_eq!(idle.len(), queue.len());
            }
        }
    }
}
