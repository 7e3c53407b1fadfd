//! A chunk bound to a pool's rules and a target's terms: final label sets, computed once for all targets alike.

use std::borrow::Cow;
use std::rc::Rc;

use super::chunk::Chunk;
use super::compose::{Fate, Pairs, compose};
use super::error::SeriesError;
use super::meter::{Charge, Meter, Thing};
use super::plan::Plan;
use super::pool::Terms;
use super::shares::{Shares, weigh};
use crate::model::{Identity, IdentityHasher, LabelValue, Schema, next_key};

/// No column: the slot is dropped or fails.
pub(super) const NO_COLUMN: u32 = u32::MAX;

/// A bound chunk.
#[derive(Debug)]
pub(super) struct Bound {
    key: u64,
    pub chunk: Rc<Chunk>,
    terms: Rc<Terms>,
    /// What each slot's final label set weighs without its variables.
    shares: Shares,
    /// Distinct lists of (label name, variable).
    carried: Vec<Vec<(Box<str>, u16)>>,
    /// Which of them each slot carries; `None`: all the first.
    carries: Option<Box<[u16]>>,
    /// Column of each slot, [`NO_COLUMN`] where none; `None`: every slot is kept, in order.
    pub columns: Option<Box<[u32]>>,
    /// Kept slots.
    pub kept: usize,
    /// Slots that fail the scrape, in order.
    pub fails: Vec<(u32, SeriesError)>,
    /// Dropped slots.
    pub dropped: usize,
    /// Its bytes on the store's meter.
    charge: Charge,
}

/// Where the lines of a new chunk stood before, so that they need not be composed again.
#[derive(Clone, Copy)]
pub(super) struct Origins<'a> {
    pub plan: &'a Plan,
    /// Slot of the plan by slot of the chunk; [`NO_ORIGIN`] for a fresh line.
    pub slots: &'a [u32],
}

/// The line is fresh.
pub(super) const NO_ORIGIN: u32 = u32::MAX;

/// A bound chunk in the making.
#[derive(Default)]
struct Binder {
    shares: Vec<Identity>,
    carried: Vec<Vec<(Box<str>, u16)>>,
    carries: Vec<u16>,
    columns: Vec<u32>,
    kept: usize,
    dropped: usize,
    fails: Vec<(u32, SeriesError)>,
}

impl Binder {
    fn line(&mut self, fate: Fate, share: Identity, carried: &[(&str, u16)]) {
        let keeps = fate == Fate::Keep;
        self.columns.push(if keeps { self.kept as u32 } else { NO_COLUMN });
        self.kept += usize::from(keeps);
        self.dropped += usize::from(fate == Fate::Drop);
        if let Fate::Fail(error) = fate {
            self.fails.push((self.shares.len() as u32, error));
        }
        self.shares.push(if keeps { share } else { Identity::default() });
        let place = if keeps { self.place(carried) } else { 0 };
        self.carries.push(place);
    }

    fn place(&mut self, carried: &[(&str, u16)]) -> u16 {
        let same = |known: &Vec<(Box<str>, u16)>| known.iter().map(|(n, v)| (&**n, *v)).eq(carried.iter().copied());
        let place = self.carried.iter().position(same).unwrap_or_else(|| {
            self.carried.push(carried.iter().map(|&(n, v)| (n.into(), v)).collect());
            self.carried.len() - 1
        });
        place as u16
    }

    /// Takes a line over from another chunk bound under the same terms, whose shares these are.
    fn copy(&mut self, old: &Bound, shares: &[Identity], slot: usize) {
        let fate = match old.fails.iter().find(|(s, _)| *s as usize == slot) {
            Some((_, error)) => Fate::Fail(error.clone()),
            None if old.column(slot).is_some() => Fate::Keep,
            None => Fate::Drop,
        };
        let carried = old.carried.get(old.carries(slot)).map_or(&[][..], |list| list);
        let carried: Vec<(&str, u16)> = carried.iter().map(|(n, v)| (&**n, *v)).collect();
        self.line(fate, shares[slot], &carried);
    }
}

impl Bound {
    pub fn new(
        chunk: Rc<Chunk>,
        terms: Rc<Terms>,
        origins: Option<Origins<'_>>,
        (hasher, meter): (&IdentityHasher, &Meter),
    ) -> Self {
        Self::with_key(next_key(), chunk, terms, origins, (hasher, meter))
    }

    /// The same under a key that such a binding had before.
    pub fn with_key(
        key: u64,
        chunk: Rc<Chunk>,
        terms: Rc<Terms>,
        origins: Option<Origins<'_>>,
        (hasher, meter): (&IdentityHasher, &Meter),
    ) -> Self {
        let mut binder = Binder::default();
        let open = chunk.open();
        let series = series_texts(&open, &terms);
        let mut pairs: Pairs<'_> = Vec::new();
        for (i, slot) in open.slots.iter().enumerate() {
            let stood = origins.and_then(|o| o.bound(i, &terms));
            if let Some((old, slot, shares)) = stood.and_then(|(old, slot)| Some((old, slot, old.shares.whole()?))) {
                binder.copy(old, shares, slot);
                continue;
            }
            let fate = compose(&terms, &series[i], slot.spelled, &mut pairs);
            let mut carried = Vec::new();
            let share = weigh(&pairs, hasher, &mut carried);
            binder.line(fate, share, &carried);
        }
        drop(pairs);
        drop(series);
        let Binder { shares, carried, carries, columns, kept, dropped, fails } = binder;
        let columns = (kept < chunk.count()).then(|| columns.into_boxed_slice());
        let carries = carries.iter().any(|&c| c != 0).then(|| carries.into_boxed_slice());
        let carried_bytes: usize =
            carried.iter().flatten().map(|(n, v)| n.len() + size_of_val(n) + size_of_val(v)).sum();
        let shares = Shares::new(shares, &chunk);
        let bytes = size_of::<Self>()
            + shares.bytes()
            + columns.as_ref().map_or(0, |c| size_of_val(&**c))
            + carries.as_ref().map_or(0, |c| size_of_val(&**c))
            + carried_bytes
            + fails.capacity() * size_of::<(u32, SeriesError)>();
        Self {
            key,
            chunk,
            terms,
            shares,
            carried,
            carries,
            columns,
            kept,
            fails,
            dropped,
            charge: meter.charge(Thing::Binding, bytes),
        }
    }

    /// What it is interned by: chunk and terms.
    pub fn place(&self) -> (u64, u64) {
        (self.chunk.id, self.terms.id)
    }

    /// What the slots weigh without their variables.
    pub fn shares(&self, hasher: &IdentityHasher) -> Cow<'_, [Identity]> {
        self.shares.read(&self.chunk, &self.terms, hasher)
    }

    /// Has [`Self::shares`] at hand from now on: they are asked for at every scrape.
    pub fn hold_shares(&self, hasher: &IdentityHasher) {
        self.charge.grow(self.shares.hold(&self.chunk, &self.terms, hasher));
    }

    /// Calls `each` with the kept slots, and the half of what they weigh without their variables.
    pub fn for_each_half(&self, mut each: impl FnMut(usize, u64)) {
        self.shares.for_each_half(|slot, half| {
            if self.column(slot).is_some() {
                each(slot, half);
            }
        });
    }

    /// Whether no more than halves are at hand.
    pub fn is_halved(&self) -> bool {
        self.shares.whole().is_none()
    }

    /// Index into the weights of a slot's variables.
    pub fn carries(&self, slot: usize) -> usize {
        self.carries.as_ref().map_or(0, |c| usize::from(c[slot]))
    }

    /// Column of a slot, if it is kept.
    pub fn column(&self, slot: usize) -> Option<u32> {
        match &self.columns {
            None => Some(slot as u32),
            Some(columns) => Some(columns[slot]).filter(|&c| c != NO_COLUMN),
        }
    }

    /// What each list of [`Self::carried`] weighs for a target.
    pub fn weights(&self, variables: &[&str], hasher: &IdentityHasher, out: &mut Vec<Identity>) {
        out.clear();
        out.extend(self.carried.iter().map(|list| {
            let label = |(name, v): &(Box<str>, u16)| hasher.label(name, variables[usize::from(*v)]);
            list.iter().fold(Identity::default(), |sum, l| sum + label(l))
        }));
    }
}

/// Series texts of a chunk, sentinels in the holes.
pub(super) fn series_texts<'a>(chunk: &'a Chunk, terms: &Terms) -> Vec<Cow<'a, [u8]>> {
    let fill = &terms.sentinels[terms.names.len()..];
    (0..chunk.slots.len()).map(|i| chunk.series(i, fill)).collect()
}

impl<'a> Origins<'a> {
    /// Where a line stood, if under the same terms.
    fn bound(self, slot: usize, terms: &Rc<Terms>) -> Option<(&'a Bound, usize)> {
        let origin = *self.slots.get(slot)?;
        if origin == NO_ORIGIN || !Rc::ptr_eq(&self.plan.terms, terms) {
            return None;
        }
        let (chunk, slot) = self.plan.layout.locate(origin as usize);
        Some((&self.plan.bounds[chunk], slot))
    }
}

impl Schema for Bound {
    fn key(&self) -> u64 {
        self.key
    }

    fn series_count(&self) -> usize {
        self.kept
    }

    fn for_each(&self, each: &mut dyn FnMut(&[(&str, LabelValue<'_>)])) {
        let open = self.chunk.open();
        let series = series_texts(&open, &self.terms);
        let mut pairs: Pairs<'_> = Vec::new();
        for (i, slot) in open.slots.iter().enumerate() {
            if self.column(i).is_none() {
                continue;
            }
            compose(&self.terms, &series[i], slot.spelled, &mut pairs);
            let labels: Vec<(&str, LabelValue<'_>)> = pairs.iter().map(|(n, v)| (&**n, v.as_label())).collect();
            each(&labels);
        }
    }
}
