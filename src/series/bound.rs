//! A chunk bound to a pool's rules and a target's terms: final label sets, computed once for all targets alike.

use std::rc::Rc;

use super::chunk::Chunk;
use super::compose::{Fate, Pairs, Value, compose};
use super::error::SeriesError;
use super::pool::Terms;
use crate::model::{Identity, IdentityHasher, LabelValue, Schema, next_key};

/// What a slot's final label set weighs without its variables, and which variables it carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    pub fixed: Identity,
    /// Index into [`Bound::carried`].
    pub carried: u32,
}

/// No column: the slot is dropped or fails.
pub(super) const NO_COLUMN: u32 = u32::MAX;

/// A bound chunk.
#[derive(Debug)]
pub(super) struct Bound {
    key: u64,
    pub chunk: Rc<Chunk>,
    terms: Rc<Terms>,
    /// By slot of the chunk.
    pub shares: Box<[Share]>,
    /// Distinct lists of (label name, variable).
    pub carried: Vec<Vec<(Box<str>, u16)>>,
    /// Column of each slot, [`NO_COLUMN`] where none; `None`: every slot is kept, in order.
    pub columns: Option<Box<[u32]>>,
    /// Kept slots.
    pub kept: usize,
    /// Slots that fail the scrape, in order.
    pub fails: Vec<(u32, SeriesError)>,
    /// Dropped slots.
    pub dropped: usize,
}

impl Bound {
    pub fn new(chunk: Rc<Chunk>, terms: Rc<Terms>, hasher: &IdentityHasher) -> Self {
        let mut shares = Vec::with_capacity(chunk.slots.len());
        let mut carried: Vec<Vec<(Box<str>, u16)>> = Vec::new();
        let mut columns = Vec::with_capacity(chunk.slots.len());
        let (mut kept, mut dropped, mut fails) = (0, 0, Vec::new());
        let mut pairs: Pairs<'_> = Vec::new();
        for (i, slot) in chunk.slots.iter().enumerate() {
            let fate = compose(&terms, chunk.series(i), slot.kind, &mut pairs);
            let mut share = Share { fixed: Identity::default(), carried: 0 };
            match fate {
                Fate::Keep => {
                    columns.push(kept as u32);
                    kept += 1;
                    share = weigh(&pairs, &mut carried, hasher);
                }
                Fate::Drop => {
                    columns.push(NO_COLUMN);
                    dropped += 1;
                }
                Fate::Fail(error) => {
                    columns.push(NO_COLUMN);
                    fails.push((i as u32, error));
                }
            }
            shares.push(share);
        }
        drop(pairs);
        let columns = (kept < chunk.slots.len()).then(|| columns.into_boxed_slice());
        Self { key: next_key(), chunk, terms, shares: shares.into(), carried, columns, kept, fails, dropped }
    }

    /// Column of a slot, if it is kept.
    pub fn column(&self, slot: usize) -> Option<u32> {
        match &self.columns {
            None => Some(slot as u32),
            Some(columns) => Some(columns[slot]).filter(|&c| c != NO_COLUMN),
        }
    }

    /// What each list of [`Self::carried`] weighs for a target.
    pub fn weights(&self, variables: &[Box<str>], hasher: &IdentityHasher, out: &mut Vec<Identity>) {
        out.clear();
        out.extend(self.carried.iter().map(|list| {
            let label = |(name, v): &(Box<str>, u16)| hasher.label(name, &variables[usize::from(*v)]);
            list.iter().fold(Identity::default(), |sum, l| sum + label(l))
        }));
    }
}

fn weigh(pairs: &Pairs<'_>, carried: &mut Vec<Vec<(Box<str>, u16)>>, hasher: &IdentityHasher) -> Share {
    let mut fixed = Identity::default();
    for (name, value) in pairs {
        if let Value::Text(text) = value {
            fixed += hasher.label(name, text);
        }
    }
    let list: Vec<(&str, u16)> =
        pairs.iter().filter_map(|(n, v)| if let Value::Var(v) = v { Some((&**n, *v)) } else { None }).collect();
    let same = |known: &Vec<(Box<str>, u16)>| known.iter().map(|(n, v)| (&**n, *v)).eq(list.iter().copied());
    let place = carried.iter().position(same).unwrap_or_else(|| {
        carried.push(list.iter().map(|&(n, v)| (n.into(), v)).collect());
        carried.len() - 1
    });
    Share { fixed, carried: place as u32 }
}

impl Schema for Bound {
    fn key(&self) -> u64 {
        self.key
    }

    fn series_count(&self) -> usize {
        self.kept
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        let mut pairs: Pairs<'_> = Vec::new();
        for (i, slot) in self.chunk.slots.iter().enumerate() {
            if self.column(i).is_none() {
                continue;
            }
            compose(&self.terms, self.chunk.series(i), slot.kind, &mut pairs);
            let labels: Vec<(&str, LabelValue<'_>)> = pairs.iter().map(|(n, v)| (&**n, v.as_label())).collect();
            each(&labels);
        }
    }
}
