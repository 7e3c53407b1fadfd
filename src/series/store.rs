//! What the targets of a shard share: chunks, layouts, bindings and plans, each kept once and only while in use.

use std::rc::Rc;

use super::ScrapeCache;
use super::bound::{Bound, Origins};
use super::chunk::{Chunk, Hole, Layout, LeadHasher, Slot};
use super::interned::Interned;
use super::meter::{Meter, Thing};
use super::outcome::Scraped;
use super::packed::{Cut, Means};
use super::parse::Parse;
use super::plan::{Plan, Shown};
use super::pool::{PoolSeries, Terms};
use super::resolve::Form;
use super::rest::{BYTES_MIN, Pace, STEADY_SCRAPES};
use super::resting::Resting;
use crate::base::limits::{LAYOUT_BODY_BYTES_MAX, LAYOUT_BYTES_PER_SHARD, PACKED_BYTES_PER_SHARD};
use crate::exposition::text::Kind;
use crate::model::{IdentityHasher, OwnTexts, next_key};

/// New text after which a body is packed while it comes, where there is no room.
const FULL_BYTES: usize = 256 << 10;
/// See [`Store::has_freed_much`].
const FREED_BYTES: usize = 512 << 10;
/// See [`Store::has_freed_much`].
const FREED_ASKED: u8 = 10;
/// Largest buffer that is kept, in values.
const SPARE_VALUES_MAX: usize = 64 << 10;
/// Buffers kept for the next scrape.
const SPARE_BUFFERS: usize = 8;

/// Interned layouts and what belongs to them. One per shard, never shared between threads.
#[derive(Debug)]
pub struct Store {
    pub(super) hasher: IdentityHasher,
    pub(super) leads: LeadHasher,
    meter: Meter,
    /// Of what is packed.
    packed_meter: Meter,
    /// From which on bodies are packed.
    pub(super) bytes_max: usize,
    /// New text in one body, past which it is packed.
    pub(super) body_bytes_max: usize,
    /// Of what is packed, past which bodies are refused.
    pub(super) packed_bytes_max: usize,
    /// Sizes of packed chunks.
    pub(super) cut: Cut,
    chunks: Interned<u64, Chunk>,
    layouts: Interned<u64, Layout>,
    bounds: Interned<(u64, u64), Bound>,
    plans: Interned<(u64, u64), Plan>,
    rests: Interned<u64, Resting>,
    /// Scrapes of one body after which it may rest.
    pub(super) steady_scrapes: u16,
    /// Bytes of a layout from which on it may.
    pub(super) rest_bytes_min: usize,
    pub(super) pace: Pace,
    /// Bytes put to rest since memory was given back, and how often it was asked since then.
    freed_bytes: usize,
    freed_asked: u8,
    spare_values: Vec<Vec<f64>>,
}

/// What a store holds, for status pages and our own metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreStats {
    /// Distinct layouts.
    pub layouts: usize,
    /// Distinct chunks.
    pub chunks: usize,
    /// Distinct bindings.
    pub bindings: usize,
    /// Bytes of all that targets share: chunks, layouts with their indexes, bindings, plans, and what rests.
    pub bytes: usize,
    /// Where bodies of new targets are packed from then on.
    pub bytes_max: usize,
    /// Layouts at rest: compressed until their bodies change.
    pub resting: usize,
    /// Bytes of packed layouts and what belongs to them.
    pub packed_bytes: usize,
    /// Where bodies are refused.
    pub packed_bytes_max: usize,
}

impl Store {
    /// An empty store. The hasher is a value so that tests and the simulator are deterministic.
    #[must_use]
    pub fn new(hasher: IdentityHasher) -> Self {
        Self::with_bytes_max(hasher, LAYOUT_BYTES_PER_SHARD)
    }

    /// An empty store with another ceiling on the bytes of layouts; past it, bodies of unknown targets are packed.
    #[must_use]
    pub fn with_bytes_max(hasher: IdentityHasher, bytes_max: usize) -> Self {
        Self {
            hasher,
            leads: LeadHasher(hasher.bytes(b"leads").0 as u64),
            meter: Meter::default(),
            packed_meter: Meter::default(),
            bytes_max,
            body_bytes_max: LAYOUT_BODY_BYTES_MAX,
            packed_bytes_max: PACKED_BYTES_PER_SHARD,
            cut: Cut::default(),
            chunks: Interned::new(),
            layouts: Interned::new(),
            bounds: Interned::new(),
            plans: Interned::new(),
            rests: Interned::new(),
            steady_scrapes: STEADY_SCRAPES,
            rest_bytes_min: BYTES_MIN,
            pace: Pace::default(),
            freed_bytes: 0,
            freed_asked: 0,
            spare_values: Vec::new(),
        }
    }

    /// Starts on a target's next body.
    #[must_use]
    pub fn begin(&mut self, pool: &PoolSeries, cache: &ScrapeCache) -> Parse {
        if let Some(resting) = cache.resting() {
            let means = (self.means(cache), self.body_bytes_max);
            return Parse::new(None, &[], self.values(), means).along(Rc::clone(resting));
        }
        let (layout, fill) = match cache.shown() {
            Some(shown) if shown.layout.is_packed() => (None, None),
            Some(shown) => (Some(Rc::clone(&shown.layout)), Some(shown).filter(|s| s.layout.variable_count() > 0)),
            None => (pool.guess.borrow().clone(), None),
        };
        let fill: Vec<&str> = fill.into_iter().flat_map(|shown| shown.fill()).collect();
        let is_full = self.is_full(cache.holds(Form::Open));
        let fresh_bytes_max = if is_full { self.body_bytes_max.min(FULL_BYTES) } else { self.body_bytes_max };
        let parse = Parse::new(layout, &fill, self.values(), (self.means(cache), fresh_bytes_max));
        match cache.shown() {
            Some(shown) if shown.layout.is_packed() => {
                let is_large = shown.layout.plain_bytes() > self.body_bytes_max;
                parse.after(Rc::clone(&shown.layout), is_full || is_large)
            }
            _ => parse,
        }
    }

    /// Takes an outcome's buffers back.
    pub fn recycle(&mut self, scraped: Scraped) {
        self.give(scraped.values);
    }

    /// A dead object takes its place until its handles are gone, and pins the page that it is on.
    fn sweep(&mut self) {
        if self.chunks.len() > self.meter.alive(Thing::Chunk) * 3 / 2 {
            self.chunks.sweep();
            self.layouts.sweep();
            self.bounds.sweep();
            self.plans.sweep();
        }
    }

    pub(super) fn count_freed(&mut self, bytes: usize) {
        self.freed_bytes += bytes;
    }

    /// Whether so much was put to rest since the last time this was so that it is worth giving back. To be asked once a second.
    pub fn has_freed_much(&mut self) -> bool {
        self.freed_asked = self.freed_asked.saturating_add(1);
        let is_much = self.freed_bytes >= FREED_BYTES && self.freed_asked >= FREED_ASKED;
        if is_much {
            (self.freed_bytes, self.freed_asked) = (0, 0);
            self.sweep();
        }
        is_much
    }

    /// What is held. Costs nothing: it is asked once a second.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        StoreStats {
            layouts: self.meter.alive(Thing::Layout) + self.packed_meter.alive(Thing::Layout),
            chunks: self.meter.alive(Thing::Chunk) + self.packed_meter.alive(Thing::Chunk),
            bindings: self.meter.alive(Thing::Binding) + self.packed_meter.alive(Thing::Binding),
            bytes: self.meter.bytes(),
            bytes_max: self.bytes_max,
            resting: self.meter.alive(Thing::Resting),
            packed_bytes: self.packed_meter.bytes(),
            packed_bytes_max: self.packed_bytes_max,
        }
    }

    /// A buffer for values, maybe used before.
    pub(super) fn values(&mut self) -> Vec<f64> {
        self.spare_values.pop().unwrap_or_default()
    }

    pub(super) fn give(&mut self, mut values: Vec<f64>) {
        if self.spare_values.len() < SPARE_BUFFERS && values.capacity() <= SPARE_VALUES_MAX {
            values.clear();
            self.spare_values.push(values);
        }
    }

    /// Whether the ceiling on layouts is passed. It is a quarter higher for targets that are known already, so that
    /// those go on with small changes when there is no room for more targets.
    pub(super) fn is_full(&self, is_known: bool) -> bool {
        self.meter.bytes() > self.bytes_max.saturating_add(if is_known { self.bytes_max / 4 } else { 0 })
    }

    /// What packing a target's body needs.
    fn means(&self, cache: &ScrapeCache) -> Means {
        let more = if cache.holds(Form::Packed) { self.packed_bytes_max / 4 } else { 0 };
        Means {
            hasher: self.hasher,
            leads: self.leads,
            cut: self.cut,
            meter: self.packed_meter.clone(),
            bytes_max: self.packed_bytes_max.saturating_add(more),
            terms: Rc::clone(&cache.terms),
        }
    }

    /// Knows what a packer bound, as long as somebody holds it.
    pub(super) fn adopt(&mut self, bounds: &[Rc<Bound>]) {
        for bound in bounds {
            self.bounds.insert(bound.place(), bound);
        }
    }

    fn meter_of(&self, is_packed: bool) -> &Meter {
        if is_packed { &self.packed_meter } else { &self.meter }
    }

    pub(super) fn chunk(&mut self, entry: Kind, text: &[u8], slots: &[Slot], holes: &[Hole]) -> Rc<Chunk> {
        let hash = self.leads.hash(text);
        let same = |c: &Chunk| c.entry == entry && *c.text == *text && *c.slots == *slots && *c.holes == *holes;
        if let Some(chunk) = self.chunks.find(&hash, same) {
            return chunk;
        }
        let charge = self.meter.charge(Thing::Chunk, Chunk::bytes(text, slots, holes));
        let chunk = Rc::new(Chunk {
            id: next_key(),
            entry,
            text: text.into(),
            slots: slots.into(),
            holes: holes.into(),
            packed: None,
            _charge: Some(charge),
        });
        self.chunks.insert(hash, &chunk);
        chunk
    }

    pub(super) fn layout(&mut self, chunks: Vec<Rc<Chunk>>, trailer: &[u8], owner: u64) -> Rc<Layout> {
        let ids = chunks
            .iter()
            .fold(self.leads.hash(trailer), |h, c| h.rotate_left(5).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ c.id);
        let same = |l: &Layout| {
            *l.trailer == *trailer
                && (l.owner == owner || l.owner == 0)
                && l.chunks.len() == chunks.len()
                && l.chunks.iter().zip(&chunks).all(|(a, b)| Rc::ptr_eq(a, b))
        };
        if let Some(layout) = self.layouts.find(&ids, same) {
            return layout;
        }
        let meter = self.meter_of(chunks.first().is_some_and(|c| c.packed.is_some()));
        let layout = Rc::new(Layout::new(next_key(), chunks, trailer.into(), (owner, meter)));
        self.layouts.insert(ids, &layout);
        layout
    }

    fn bound(&mut self, chunk: &Rc<Chunk>, terms: &Rc<Terms>, origins: Option<Origins<'_>>) -> Rc<Bound> {
        let key = (chunk.id, terms.id);
        if let Some(bound) = self.bounds.find(&key, |_| true) {
            return bound;
        }
        let meter = self.meter_of(chunk.packed.is_some());
        let bound = Rc::new(Bound::new(Rc::clone(chunk), Rc::clone(terms), origins, (&self.hasher, meter)));
        self.bounds.insert(key, &bound);
        bound
    }

    /// Puts a plan away that one target has, or finds what another one of the same bodies put away.
    pub(super) fn stow(&mut self, plan: &Plan) -> Rc<Resting> {
        let resting = Resting::of(plan, self.leads, &self.meter);
        let key = resting.fingerprint();
        if let Some(there) = self.rests.find(&key, |r| r.is_like(&resting)) {
            return there;
        }
        let resting = Rc::new(resting);
        self.rests.insert(key, &resting);
        resting
    }

    /// The plan that was put away, under the keys that it had.
    pub(super) fn unstow(&mut self, resting: &Resting) -> Rc<Plan> {
        let opened = resting.open();
        let chunks: Vec<Rc<Chunk>> = opened.iter().map(|o| self.chunk(o.entry, &o.text, &o.slots, &[])).collect();
        let layout = self.layout(chunks, resting.trailer(), 0);
        let terms = &resting.terms;
        let mut keys = resting.keys();
        let mut bounds = Vec::with_capacity(layout.chunks.len());
        for (i, chunk) in layout.chunks.iter().enumerate() {
            let mut slots = layout.starts[i] as usize..layout.starts[i + 1] as usize;
            let has_schema = slots.any(|slot| resting.kept.as_ref().is_none_or(|kept| kept.has(slot)));
            let key = if has_schema { keys.next() } else { None };
            bounds.push(self.bound_again(chunk, terms, key));
        }
        if let Some(plan) = self.plans.find(&(layout.id, terms.id), |p| p.clashes.is_empty()) {
            return plan;
        }
        let plan = Plan::new(Rc::clone(&layout), Rc::clone(terms), bounds, (Vec::new(), &self.meter), Some(resting));
        let plan = Rc::new(plan);
        self.plans.insert((layout.id, terms.id), &plan);
        plan
    }

    fn bound_again(&mut self, chunk: &Rc<Chunk>, terms: &Rc<Terms>, key: Option<u64>) -> Rc<Bound> {
        let place = (chunk.id, terms.id);
        if let Some(bound) = self.bounds.find(&place, |_| true) {
            return bound;
        }
        let key = key.unwrap_or_else(next_key);
        let means = (&self.hasher, &self.meter);
        let bound = Rc::new(Bound::with_key(key, Rc::clone(chunk), Rc::clone(terms), None, means));
        self.bounds.insert(place, &bound);
        bound
    }

    /// The plan of a layout under a target's terms and variables. `last` is the target's last plan; `before` that plan and
    /// where the lines of each chunk stood in it, if the layout was made from its layout.
    pub(super) fn plan(
        &mut self,
        layout: &Rc<Layout>,
        terms: &Rc<Terms>,
        (variables, last): (&OwnTexts, Option<&Shown>),
        before: Option<(&Plan, &[Vec<u32>])>,
    ) -> Rc<Plan> {
        let origins = |i: usize| before.map(|(plan, slots)| Origins { plan, slots: &slots[i] });
        let chunks = layout.chunks.iter().enumerate();
        let bounds: Vec<Rc<Bound>> = chunks.map(|(i, c)| self.bound(c, terms, origins(i))).collect();
        let clear = last.is_some_and(|last| {
            Rc::ptr_eq(&last.terms, terms)
                && last.variables == *variables
                && last.is_clear_still(&bounds, variables, &self.hasher)
        });
        let clashes = if clear { Vec::new() } else { Plan::clashes(layout, terms, &bounds, variables, &self.hasher) };
        let key = (layout.id, terms.id);
        if let Some(plan) = self.plans.find(&key, |p| p.clashes == clashes) {
            return plan;
        }
        let meter = self.meter_of(layout.is_packed());
        let plan = Rc::new(Plan::new(Rc::clone(layout), Rc::clone(terms), bounds, (clashes, meter), None));
        self.plans.insert(key, &plan);
        plan
    }
}
