//! A layout bound as a whole: its shape, and the slots that share a text or a label set.

use std::rc::Rc;

use super::bound::Bound;
use super::chunk::Layout;
use super::error::SeriesError;
use super::fingerprint::{FingerprintMap, FingerprintSet};
use super::meter::{Charge, Meter, Thing};
use super::pool::Terms;
use super::resting::Resting;
use super::shares::half;
use super::texts::{TextKey, Texts};
use crate::model::{Identity, IdentityHasher, OwnTexts, Schema, Shape};

/// Bodies with more series are looked through by sorting first, which takes a quarter of the memory of a table.
const SORTED_FROM: usize = 256 << 10;

/// A slot whose final label set an earlier slot has too. Report series count as slots behind the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Clash {
    pub slot: u32,
    /// The first slot with this label set.
    pub root: u32,
    /// The first slot with the same text, if there is one: a duplicate. Otherwise a twin.
    pub same_text: Option<u32>,
}

/// A bound layout.
#[derive(Debug)]
pub(super) struct Plan {
    pub layout: Rc<Layout>,
    pub terms: Rc<Terms>,
    pub bounds: Vec<Rc<Bound>>,
    /// By slot.
    pub clashes: Vec<Clash>,
    /// Kept slots, then the report.
    pub shape: Rc<Shape>,
    /// Columns before each chunk, and of all chunks.
    pub columns: Vec<u32>,
    /// Clashes that are duplicates, report series apart.
    pub duplicates: u32,
    /// Clashes that are twins, report series apart.
    pub twins: u32,
    /// Whether any slot fails the scrape.
    pub fails: bool,
    /// Slots that rules drop.
    pub dropped: usize,
    /// Its bytes on the store's meter.
    _charge: Charge,
}

/// A plan with one target's texts for its variables.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub plan: Rc<Plan>,
    /// Target labels in name order, then what the body's holes hold.
    pub variables: OwnTexts,
}

impl std::ops::Deref for Shown {
    type Target = Plan;
    fn deref(&self) -> &Plan {
        &self.plan
    }
}

impl Shown {
    /// Whether both show the same series.
    pub fn is(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.plan, &other.plan) && self.has_texts_of(other)
    }

    /// Whether both have the same texts.
    pub fn has_texts_of(&self, other: &Self) -> bool {
        self.variables.is(&other.variables) || self.variables == other.variables
    }

    /// The texts, to be read.
    pub fn texts(&self, hasher: &IdentityHasher) -> Texts<'_> {
        Texts::new(&self.layout, &self.variables, self.terms.names.len(), hasher)
    }

    /// Calls `each` with chunk, slot within it and identity, for every kept slot of the bounds that are `wanted`.
    pub fn identities(
        &self,
        hasher: &IdentityHasher,
        wanted: impl Fn(&Rc<Bound>) -> bool,
        each: impl FnMut(usize, usize, Identity),
    ) {
        identities(&self.bounds, wanted, (&self.variables, hasher), each);
    }

    /// Has the identities at hand from now on.
    pub fn hold_identities(&self, hasher: &IdentityHasher) {
        self.bounds.iter().for_each(|bound| bound.hold_shares(hasher));
    }

    /// Texts of the body's variables.
    pub fn fill(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().skip(self.terms.names.len())
    }
}

impl Plan {
    /// `before`: what rested of it, whose shape it is if it has the same schemas.
    pub fn new(
        layout: Rc<Layout>,
        terms: Rc<Terms>,
        bounds: Vec<Rc<Bound>>,
        (clashes, meter): (Vec<Clash>, &Meter),
        before: Option<&Resting>,
    ) -> Self {
        let mut schemas: Vec<Rc<dyn Schema>> = Vec::new();
        let mut columns = vec![0u32];
        for bound in &bounds {
            columns.push(columns[columns.len() - 1] + bound.kept as u32);
            if bound.kept > 0 {
                schemas.push(Rc::clone(bound) as Rc<dyn Schema>);
            }
        }
        schemas.push(Rc::clone(&terms.report) as Rc<dyn Schema>);
        let bytes = size_of::<Self>()
            + size_of::<Shape>()
            + bounds.capacity() * size_of::<Rc<Bound>>()
            + schemas.capacity() * size_of::<Rc<dyn Schema>>()
            + columns.capacity() * size_of::<u32>()
            + clashes.capacity() * size_of::<Clash>();
        let exposed = || clashes.iter().filter(|c| (c.slot as usize) < layout.slot_count());
        Self {
            shape: Rc::new(shape(schemas, before)),
            columns,
            duplicates: exposed().filter(|c| c.same_text.is_some()).count() as u32,
            twins: exposed().filter(|c| c.same_text.is_none()).count() as u32,
            fails: bounds.iter().any(|b| !b.fails.is_empty()),
            dropped: bounds.iter().map(|b| b.dropped).sum(),
            _charge: meter.charge(Thing::Plan, bytes),
            layout,
            terms,
            bounds,
            clashes,
        }
    }

    /// Kept slots.
    pub fn kept(&self) -> usize {
        self.columns[self.columns.len() - 1] as usize
    }

    /// Bytes of a body's values.
    pub fn expected_bytes(&self) -> usize {
        self.layout.slot_count() * size_of::<f64>()
    }

    /// Column of a slot, if it is kept.
    pub fn column(&self, slot: usize) -> Option<u32> {
        let (chunk, slot) = self.layout.locate(slot);
        self.bounds[chunk].column(slot).map(|c| c + self.columns[chunk])
    }

    /// The error a slot fails the scrape with.
    pub fn fail(&self, slot: usize) -> Option<&SeriesError> {
        let (chunk, slot) = self.layout.locate(slot);
        self.bounds[chunk].fails.iter().find(|(s, _)| *s as usize == slot).map(|(_, e)| e)
    }

    /// The clash of a slot.
    pub fn clash(&self, slot: usize) -> Option<&Clash> {
        self.clashes.binary_search_by_key(&(slot as u32), |c| c.slot).ok().map(|i| &self.clashes[i])
    }

    /// Whether a body clashes nowhere, as the one before it: only what is new in it can. Looked for in what is old, which
    /// needs no table of all series. A wrong "no" is possible: halves of identities are compared.
    pub fn is_clear_still(&self, bounds: &[Rc<Bound>], variables: &OwnTexts, hasher: &IdentityHasher) -> bool {
        let old: FingerprintSet<*const Bound> = self.bounds.iter().map(Rc::as_ptr).collect();
        let mut seen: FingerprintSet<*const Bound> = FingerprintSet::default();
        let mut fresh: FingerprintSet<u64> = FingerprintSet::default();
        let is_old = |b: &Rc<Bound>| old.contains(&Rc::as_ptr(b));
        fresh.reserve(bounds.iter().filter(|b| !is_old(b)).map(|b| b.kept).sum());
        let mut clear = self.clashes.is_empty();
        halves(bounds, |b| !is_old(b), (variables, hasher), |half| clear &= fresh.insert(half));
        clear &= bounds.iter().all(|b| seen.insert(Rc::as_ptr(b)));
        let report = self.terms.report.identities(variables, hasher);
        clear &= report.iter().all(|&identity| !fresh.contains(&half(identity)));
        if !clear || fresh.is_empty() {
            return clear;
        }
        let filter = Filter::new(&fresh);
        let clashes = |half| filter.may_have(half) && fresh.contains(&half);
        halves(bounds, is_old, (variables, hasher), |half| clear &= !clashes(half));
        clear
    }

    /// The slots that share a label set, report series included. Depends on the variables' texts, so that two targets
    /// of one layout may differ in it.
    pub fn clashes(
        layout: &Layout,
        terms: &Terms,
        bounds: &[Rc<Bound>],
        variables: &OwnTexts,
        hasher: &IdentityHasher,
    ) -> Vec<Clash> {
        let report = terms.report.identities(variables, hasher);
        let kept: usize = bounds.iter().map(|b| b.kept).sum();
        let is_costly = kept > SORTED_FROM || bounds.iter().any(|b| b.is_halved());
        if is_costly && are_distinct(bounds, &report, variables, hasher) {
            return Vec::new();
        }
        let mut table = Table::new(kept + report.len());
        let mut found: Vec<(u32, u32)> = Vec::new();
        identities(
            bounds,
            |_| true,
            (variables, hasher),
            |chunk, slot, identity| {
                let slot = layout.starts[chunk] + slot as u32;
                if let Some(root) = table.insert(identity, slot) {
                    found.push((slot, root));
                }
            },
        );
        for (i, identity) in report.into_iter().enumerate() {
            let slot = (layout.slot_count() + i) as u32;
            if let Some(root) = table.insert(identity, slot) {
                found.push((slot, root));
            }
        }
        // Texts are only looked at where label sets are equal.
        let mut first_of: FingerprintMap<TextKey, u32> = FingerprintMap::default();
        let mut texts = Texts::new(layout, variables, terms.names.len(), hasher);
        let mut clashes = Vec::with_capacity(found.len());
        for (slot, root) in found {
            if slot as usize >= layout.slot_count() {
                clashes.push(Clash { slot, root, same_text: None });
                continue;
            }
            first_of.entry(texts.key(root as usize)).or_insert(root);
            let first = *first_of.entry(texts.key(slot as usize)).or_insert(slot);
            clashes.push(Clash { slot, root, same_text: (first != slot).then_some(first) });
        }
        clashes
    }
}

/// Whether no two identities are equal; a wrong "no" is possible.
fn are_distinct(bounds: &[Rc<Bound>], report: &[Identity], variables: &OwnTexts, hasher: &IdentityHasher) -> bool {
    let mut list: Vec<u64> = report.iter().map(|&i| half(i)).collect();
    list.reserve_exact(bounds.iter().map(|b| b.kept).sum());
    halves(bounds, |_| true, (variables, hasher), |half| list.push(half));
    list.sort_unstable();
    list.windows(2).all(|pair| pair[0] != pair[1])
}

/// Which halves a small set surely does not have.
struct Filter(Vec<u64>);

impl Filter {
    fn new(set: &FingerprintSet<u64>) -> Self {
        let mut bits = vec![0; (set.len() / 4).next_power_of_two().max(64)];
        for half in set {
            let (word, bit) = Self::place(&bits, *half);
            bits[word] |= bit;
        }
        Self(bits)
    }

    fn place(bits: &[u64], half: u64) -> (usize, u64) {
        let hash = (half >> 20) as usize;
        (hash >> 6 & (bits.len() - 1), 1 << (hash & 63))
    }

    fn may_have(&self, half: u64) -> bool {
        let (word, bit) = Self::place(&self.0, half);
        self.0[word] & bit != 0
    }
}

/// A shape of these schemas, with the key of the one before if it had the same.
fn shape(schemas: Vec<Rc<dyn Schema>>, before: Option<&Resting>) -> Shape {
    match before.filter(|b| b.has_schemas(&schemas)) {
        Some(before) => Shape::with_key(before.shape_key, schemas),
        None => Shape::new(schemas),
    }
}

fn identities(
    bounds: &[Rc<Bound>],
    wanted: impl Fn(&Rc<Bound>) -> bool,
    (variables, hasher): (&OwnTexts, &IdentityHasher),
    mut each: impl FnMut(usize, usize, Identity),
) {
    let (mut weights, variables) = (Vec::new(), variables.open());
    for (chunk, bound) in bounds.iter().enumerate().filter(|(_, b)| wanted(b)) {
        bound.weights(&variables, hasher, &mut weights);
        for (slot, &share) in bound.shares(hasher).iter().enumerate() {
            if bound.column(slot).is_some() {
                each(chunk, slot, share + weights[bound.carries(slot)]);
            }
        }
    }
}

fn halves(
    bounds: &[Rc<Bound>],
    wanted: impl Fn(&Rc<Bound>) -> bool,
    (variables, hasher): (&OwnTexts, &IdentityHasher),
    mut each: impl FnMut(u64),
) {
    let (mut weights, variables) = (Vec::new(), variables.open());
    for bound in bounds.iter().filter(|b| wanted(b)) {
        bound.weights(&variables, hasher, &mut weights);
        bound.for_each_half(|slot, share| each(share.wrapping_add(half(weights[bound.carries(slot)]))));
    }
}

/// First slot by identity: open addressing over positions in the list of identities, counted from 1.
struct Table {
    entries: Vec<u32>,
    list: Vec<(Identity, u32)>,
    mask: usize,
}

impl Table {
    fn new(count: usize) -> Self {
        let size = (count * 2).next_power_of_two().max(2);
        Self { entries: vec![0; size], list: Vec::with_capacity(count), mask: size - 1 }
    }

    /// The slot that was there before; the first one stays.
    fn insert(&mut self, identity: Identity, slot: u32) -> Option<u32> {
        let mut at = (identity.0 >> 17) as usize & self.mask;
        loop {
            let entry = self.entries[at] as usize;
            if entry == 0 {
                self.list.push((identity, slot));
                self.entries[at] = self.list.len() as u32;
                return None;
            }
            if self.list[entry - 1].0 == identity {
                return Some(self.list[entry - 1].1);
            }
            at = (at + 1) & self.mask;
        }
    }
}
