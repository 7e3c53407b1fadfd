//! Vanished and added series, computed on sets of identities and of texts.

use std::rc::Rc;

use super::bits::Bits;
use super::bound::Bound;
use super::fingerprint::FingerprintSet;
use super::plan::{Plan, Shown};
use super::texts::TextKey;
use crate::model::{Identity, IdentityHasher};

/// What the last scrape showed, for staleness.
#[derive(Clone, Debug, Default)]
pub(super) struct Live {
    /// `None`: nothing.
    pub plan: Option<Shown>,
    /// Slots that count; `None`: every kept one.
    pub tracked: Option<Bits>,
    /// Time of the last sample of these series, milliseconds.
    pub written_ms: i64,
    /// Slots whose series were shown by failed scrapes only, so that they have no sample yet.
    pub unwritten: Option<Bits>,
}

impl Live {
    /// Every kept slot of a plan, written now.
    pub fn all(plan: &Shown, written_ms: i64) -> Self {
        Self { plan: Some(plan.clone()), written_ms, ..Self::default() }
    }

    /// These slots of a plan.
    pub fn some(plan: &Shown, tracked: Bits, written_ms: i64) -> Self {
        if tracked.is_empty() {
            return Self { written_ms, ..Self::default() };
        }
        Self { plan: Some(plan.clone()), tracked: Some(tracked), written_ms, unwritten: None }
    }

    /// Whether every kept slot counts, each for a series of its own that is not one of the report.
    pub fn is_whole(&self) -> bool {
        self.tracked.is_none() && self.plan.as_ref().is_some_and(|p| p.clashes.is_empty())
    }

    /// Whether every kept slot counts and is written.
    pub fn is_all(&self) -> bool {
        self.plan.is_some() && self.tracked.is_none() && self.unwritten.is_none()
    }

    /// Calls `each` with slot and identity.
    pub fn for_each(&self, hasher: &IdentityHasher, each: impl FnMut(usize, Identity)) {
        self.for_each_beside(&FingerprintSet::default(), hasher, each);
    }

    /// The same without the slots of some bounds.
    fn for_each_beside(
        &self,
        without: &FingerprintSet<*const Bound>,
        hasher: &IdentityHasher,
        mut each: impl FnMut(usize, Identity),
    ) {
        let Some(plan) = &self.plan else { return };
        let wanted = |bound: &Rc<Bound>| without.is_empty() || !without.contains(&Rc::as_ptr(bound));
        plan.identities(hasher, wanted, |chunk, slot, identity| {
            let slot = plan.layout.starts[chunk] as usize + slot;
            if self.tracked.as_ref().is_none_or(|t| t.has(slot)) {
                each(slot, identity);
            }
        });
    }

    /// Whether a slot's series has a sample.
    pub fn is_written(&self, slot: usize) -> bool {
        self.unwritten.as_ref().is_none_or(|u| !u.has(slot))
    }
}

/// Slots of `old` whose series are not in `new`, with their identities; one slot per series.
pub(super) fn gone(old: &Live, new: &Live, hasher: &IdentityHasher) -> Vec<(usize, Identity)> {
    let Some(old_plan) = &old.plan else { return Vec::new() };
    let whole = old.tracked.is_none() && new.tracked.is_none();
    let mut shared: FingerprintSet<*const Bound> = FingerprintSet::default();
    if let (true, Some(new_plan)) = (whole, &new.plan) {
        if old_plan.is(new_plan) {
            return Vec::new();
        }
        // A series of an unshared chunk may live on in a shared one only if it was there before, as a clash.
        if old_plan.clashes.is_empty() && old_plan.has_texts_of(new_plan) {
            shared = shared_bounds(old_plan, new_plan);
        }
    }
    let slots = |live: &Live| live.plan.as_ref().map_or(0, |p| unshared_slots(p, &shared));
    let mut present: FingerprintSet<Identity> = FingerprintSet::default();
    present.reserve(slots(new).max(slots(old)));
    new.for_each_beside(&shared, hasher, |_, identity| {
        present.insert(identity);
    });
    let mut list = Vec::new();
    old.for_each_beside(&shared, hasher, |slot, identity| {
        if present.insert(identity) {
            list.push((slot, identity));
        }
    });
    list
}

fn shared_bounds(a: &Plan, b: &Plan) -> FingerprintSet<*const Bound> {
    let of_a: FingerprintSet<*const Bound> = a.bounds.iter().map(Rc::as_ptr).collect();
    b.bounds.iter().map(Rc::as_ptr).filter(|p| of_a.contains(p)).collect()
}

/// Distinct kept texts of `new` that `old`, a whole plan, does not have.
pub(super) fn added(old: &Shown, new: &Shown, hasher: &IdentityHasher) -> usize {
    let shared = if old.has_texts_of(new) { shared_bounds(old, new) } else { FingerprintSet::default() };
    let mut before: FingerprintSet<TextKey> = FingerprintSet::default();
    before.reserve(unshared_slots(old, &shared));
    let mut texts = old.texts(hasher);
    unshared(old, &shared, |slot| {
        before.insert(texts.key(slot));
    });
    let mut fresh: Vec<usize> = Vec::new();
    let mut texts = new.texts(hasher);
    unshared(new, &shared, |slot| {
        let repeated = new.clash(slot).is_some_and(|c| c.same_text.is_some());
        if !repeated && !before.contains(&texts.key(slot)) {
            fresh.push(slot);
        }
    });
    // A text that a shared chunk repeats was there before.
    for clash in &new.clashes {
        let Some(first) = clash.same_text else { continue };
        if shared.contains(&Rc::as_ptr(&new.bounds[new.layout.locate(clash.slot as usize).0])) {
            fresh.retain(|&slot| slot != first as usize);
        }
    }
    fresh.len()
}

fn unshared_slots(plan: &Plan, shared: &FingerprintSet<*const Bound>) -> usize {
    plan.bounds.iter().filter(|b| !shared.contains(&Rc::as_ptr(b))).map(|b| b.chunk.count()).sum()
}

fn unshared(plan: &Plan, shared: &FingerprintSet<*const Bound>, mut each: impl FnMut(usize)) {
    for (i, bound) in plan.bounds.iter().enumerate() {
        if shared.contains(&Rc::as_ptr(bound)) {
            continue;
        }
        for slot in (0..bound.chunk.count()).filter(|&s| bound.column(s).is_some()) {
            each(plan.layout.starts[i] as usize + slot);
        }
    }
}
