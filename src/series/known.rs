//! The texts a scrape cache holds: what decides which series count as added.

use std::rc::Rc;

use super::bits::Bits;
use super::chunk::Chunk;
use super::diff::added;
use super::fingerprint::{FingerprintMap, FingerprintSet};
use super::packed::{Packed, Packer};
use super::parse::Fresh;
use super::plan::{Plan, Shown};
use super::settle::Settled;
use super::texts::TextKey;
use crate::exposition::labels::effective_kind;
use crate::exposition::text::Kind;
use crate::model::IdentityHasher;

/// Texts in Prometheus's cache. prometheus: scrape.go, scrapeCache.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Of the last successful body.
    base: Option<Shown>,
    /// Kept slots of `base` whose text is not in the cache, since storage refused them from the start.
    missing: Option<Bits>,
    /// Of failed bodies since.
    extra: Option<Box<Extra>>,
    /// Entries after the last success.
    count: usize,
}

#[derive(Debug, Default)]
struct Extra {
    /// With the type under which their labels were read.
    kept: FingerprintMap<TextKey, Kind>,
    dropped: FingerprintSet<TextKey>,
}

impl Known {
    /// All texts of a successful body, which made so many entries.
    pub fn of(base: Shown, count: usize) -> Self {
        Self { base: Some(base), count, ..Self::default() }
    }

    /// What [`Self::of`] makes this from, if there is no more to it.
    pub fn plain(&self) -> Option<(&Shown, usize)> {
        let is_plain = self.missing.is_none() && self.extra.is_none();
        self.base.as_ref().filter(|_| is_plain).map(|base| (base, self.count))
    }

    /// Whether there was no body yet.
    pub fn is_new(&self) -> bool {
        self.base.is_none() && self.extra.is_none() && self.count == 0
    }

    /// Kept texts of a successful body that are not in the cache.
    pub fn added(&self, plan: &Shown, hasher: &IdentityHasher) -> usize {
        if let (Some(base), None, None) = (&self.base, &self.missing, &self.extra) {
            return if base.is(plan) { 0 } else { added(base, plan, hasher) };
        }
        let texts = plan.kept() - plan.duplicates as usize;
        if self.base.is_none() && self.extra.is_none() {
            return texts;
        }
        texts - self.bits(plan, hasher).count()
    }

    /// Which kept texts of a body are in the cache, by their first slot.
    pub fn bits(&self, plan: &Shown, hasher: &IdentityHasher) -> Bits {
        let keys = self.keys(hasher);
        let mut bits = Bits::none(plan.layout.slot_count());
        let mut texts = plan.texts(hasher);
        for slot in 0..plan.layout.slot_count() {
            let first = plan.column(slot).is_some() && plan.clash(slot).is_none_or(|c| c.same_text.is_none());
            if first && keys.contains(&texts.key(slot)) {
                bits.set(slot);
            }
        }
        bits
    }

    fn keys(&self, hasher: &IdentityHasher) -> FingerprintSet<TextKey> {
        let mut keys: FingerprintSet<TextKey> = self.extra.iter().flat_map(|e| e.kept.keys().copied()).collect();
        if let Some(base) = &self.base {
            let there = |&slot: &usize| {
                let first = base.clash(slot).is_none_or(|c| c.same_text.is_none());
                first && base.column(slot).is_some() && self.missing.as_ref().is_none_or(|m| !m.has(slot))
            };
            let mut texts = base.texts(hasher);
            keys.extend((0..base.layout.slot_count()).filter(there).map(|slot| texts.key(slot)));
        }
        keys
    }

    /// The plan whose texts are in the cache, if those are all.
    pub fn only_base(&self) -> Option<&Shown> {
        self.base.as_ref().filter(|_| self.missing.is_none() && self.extra.is_none())
    }

    /// The plan goes to its rest, or comes back: the texts stay the same.
    pub fn set_base(&mut self, base: Option<&Shown>) {
        self.base = base.cloned();
    }

    /// Sets under which type the labels of fresh lines are read: a text in the cache keeps the one it was taken in
    /// under, whatever TYPE line stands before it now, and a text that comes twice in a body that of its first place.
    /// Only `le` and `quantile` read differently. prometheus: scrape.go, append: labels are decoded on a miss only.
    pub fn respell(&self, fresh: &mut Fresh, hasher: &IdentityHasher) {
        let mut texts: FingerprintMap<TextKey, Kind> = FingerprintMap::default();
        let mut touched = Vec::new();
        for (i, slot) in fresh.slots.iter().enumerate() {
            let text = &fresh.text[slot.series as usize..slot.series_end as usize];
            if [Kind::Histogram, Kind::Summary].iter().any(|&k| effective_kind(text, k) != Kind::None) {
                let key = TextKey::of(text, hasher);
                texts.entry(key).or_insert(slot.spelled);
                touched.push((i, key));
            }
        }
        if texts.is_empty() {
            return;
        }
        self.recall(&mut texts, hasher);
        for (i, key) in touched {
            fresh.slots[i].spelled = texts[&key];
        }
    }

    /// Gives texts that are in the cache the type they were taken in under.
    fn recall(&self, texts: &mut FingerprintMap<TextKey, Kind>, hasher: &IdentityHasher) {
        if let Some(base) = &self.base {
            let mut there = base.texts(hasher);
            for slot in (0..base.layout.slot_count()).filter(|&s| self.missing.as_ref().is_none_or(|m| !m.has(s))) {
                if let Some(known) = texts.get_mut(&there.key(slot)) {
                    *known = base.layout.spelled(slot);
                }
            }
        }
        for (key, &spelled) in self.extra.iter().flat_map(|e| &e.kept) {
            if let Some(known) = texts.get_mut(key) {
                *known = spelled;
            }
        }
    }

    /// The same for packed chunks. `shown` is the plan whose chunks were taken over; where the cache holds just its texts,
    /// those have their types already.
    pub fn respell_packed(&self, packer: &mut Packer, shown: Option<&Shown>, hasher: &IdentityHasher) {
        let is_whole = self.missing.is_none() && self.extra.is_none();
        let is_settled = is_whole && self.base.as_ref().zip(shown).is_some_and(|(base, shown)| base.is(shown));
        let open: Vec<usize> = if is_settled { packer.fresh.clone() } else { (0..packer.chunks.len()).collect() };
        let mut texts: FingerprintMap<TextKey, Kind> = FingerprintMap::default();
        for &at in &open {
            let chunk = &packer.chunks[at];
            for (slot, key) in touched(chunk, hasher) {
                texts.entry(key).or_insert(chunk.kind(slot));
            }
        }
        if texts.is_empty() {
            return;
        }
        self.recall(&mut texts, hasher);
        for at in open {
            let chunk = Rc::clone(&packer.chunks[at]);
            let mut read: Vec<Kind> = (0..chunk.count()).map(|slot| chunk.kind(slot)).collect();
            for (slot, key) in touched(&chunk, hasher) {
                read[slot] = texts.get(&key).copied().unwrap_or(read[slot]);
            }
            if (0..chunk.count()).any(|slot| read[slot] != chunk.spelled(slot)) {
                packer.respell(at, read.into_iter());
            }
        }
    }

    /// A successful body replaces everything.
    pub fn settle(&mut self, plan: &Shown, missing: Option<Bits>, reports: usize) {
        let absent = missing.as_ref().map_or(0, Bits::count);
        let count = plan.kept() - plan.duplicates as usize - absent + plan.dropped + reports;
        *self = Self { base: Some(plan.clone()), missing, extra: None, count };
    }

    /// A failed body adds the texts before its error; what has grown beyond twice the last success and a thousand is
    /// cut to those. prometheus: scrape.go, iterDone.
    pub fn fail(&mut self, plan: &Shown, settled: &Settled, reports: usize, hasher: &IdentityHasher) {
        let known = self.keys(hasher);
        let mut extra = self.extra.take().unwrap_or_default();
        let mut current = Extra::default();
        let mut texts = plan.texts(hasher);
        for slot in 0..settled.lines {
            if plan.fail(slot).is_some() {
                continue;
            }
            let key = texts.key(slot);
            if plan.column(slot).is_none() {
                current.dropped.insert(key);
            } else if known.contains(&key) || settled.known.has(slot) {
                current.kept.insert(key, plan.layout.spelled(slot));
            }
        }
        extra.kept.extend(current.kept.iter().filter(|(k, _)| !known.contains(k)));
        let base_dropped: FingerprintSet<TextKey> = match &self.base {
            Some(base) => {
                let dropped = |&s: &usize| base.column(s).is_none() && base.fail(s).is_none();
                let mut texts = base.texts(hasher);
                (0..base.layout.slot_count()).filter(dropped).map(|s| texts.key(s)).collect()
            }
            None => FingerprintSet::default(),
        };
        extra.dropped.extend(current.dropped.iter().filter(|k| !base_dropped.contains(k)));
        let count = known.len() + extra.kept.keys().filter(|k| !known.contains(k)).count();
        let count = count + base_dropped.len() + extra.dropped.len() + reports;
        if count > self.count * 2 + 1000 {
            *self = Self { base: None, missing: None, extra: Some(Box::new(current)), count: self.count };
        } else {
            self.extra = Some(extra).filter(|e| !e.kept.is_empty() || !e.dropped.is_empty());
        }
    }
}

/// Slots of a packed chunk whose labels read differently under some type, with the keys of their texts.
fn touched(chunk: &Rc<Chunk>, hasher: &IdentityHasher) -> Vec<(usize, TextKey)> {
    let slots: Vec<usize> = chunk.packed.iter().flat_map(Packed::touched).collect();
    if slots.is_empty() {
        return Vec::new();
    }
    let open = chunk.open();
    slots.into_iter().map(|slot| (slot, TextKey::of(&open.series::<&str>(slot, &[]), hasher))).collect()
}

/// Kept texts that did not get into the cache.
pub(super) fn missing(plan: &Plan, known: &Bits) -> Option<Bits> {
    let mut missing = Bits::none(plan.layout.slot_count());
    for slot in 0..plan.layout.slot_count() {
        if plan.column(slot).is_some() {
            let first = plan.clash(slot).and_then(|c| c.same_text).map_or(slot, |s| s as usize);
            if first == slot && !known.has(slot) {
                missing.set(slot);
            }
        }
    }
    (!missing.is_empty()).then_some(missing)
}
