//! Objects that are kept once while somebody has them.

use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::rc::{Rc, Weak};

use super::fingerprint::FingerprintMap;

/// Weak handles by key; dead ones are swept when the map has doubled.
#[derive(Debug)]
pub(super) struct Interned<K, T> {
    map: FingerprintMap<K, Handles<T>>,
    sweep_at: usize,
}

/// Objects of one key. Nearly always there is one, and its handle needs no memory of its own: a small block among large
/// ones would pin a page when those are freed.
#[derive(Debug)]
enum Handles<T> {
    One(Weak<T>),
    Several(Vec<Weak<T>>),
}

impl<T> Handles<T> {
    fn all(&self) -> &[Weak<T>] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Several(all) => all,
        }
    }

    fn add(&mut self, more: Weak<T>) {
        let mut alive: Vec<Weak<T>> = self.all().iter().filter(|t| t.strong_count() > 0).cloned().collect();
        *self = if alive.is_empty() {
            Self::One(more)
        } else {
            alive.push(more);
            Self::Several(alive)
        };
    }

    /// Lets go of what is dead; whether anything is left.
    fn sweep(&mut self) -> bool {
        if let Self::Several(all) = self {
            all.retain(|t| t.strong_count() > 0);
        }
        self.all().iter().any(|t| t.strong_count() > 0)
    }
}

impl<K: Eq + Hash, T> Interned<K, T> {
    pub fn new() -> Self {
        Self { map: FingerprintMap::default(), sweep_at: 64 }
    }

    /// Entries, dead ones included.
    pub fn len(&self) -> usize {
        self.map.len()
    }

    pub fn find(&self, key: &K, same: impl Fn(&T) -> bool) -> Option<Rc<T>> {
        self.map.get(key)?.all().iter().filter_map(Weak::upgrade).find(|t| same(t))
    }

    pub fn insert(&mut self, key: K, value: &Rc<T>) {
        if self.map.len() >= self.sweep_at {
            self.sweep();
        }
        let handle = Rc::downgrade(value);
        match self.map.entry(key) {
            Entry::Occupied(mut there) => there.get_mut().add(handle),
            Entry::Vacant(place) => {
                place.insert(Handles::One(handle));
            }
        }
    }

    /// Lets go of what is dead.
    pub fn sweep(&mut self) {
        self.map.retain(|_, handles| handles.sweep());
        self.map.shrink_to(self.map.len() * 2);
        self.sweep_at = (self.map.len() * 2).max(64);
    }
}
