//! When a target's layout is put to rest, how it settles at rest, and what wakes it.
//!
//! A cache at rest has no plan, layout or bindings: what it showed is what rests, all of it live and written. Whatever asks
//! for more than "the same body again?" wakes it first, and it goes on as if it had never slept.

use std::rc::Rc;

use super::ScrapeCache;
use super::chunk::Layout;
use super::outcome::{ScrapeTime, Scraped, Tallies};
use super::parse::Parse;
use super::passed_on::identity;
use super::plan::{Plan, Shown};
use super::resting::Resting;
use super::store::Store;
use crate::model::{ABSENT, Identity, IdentityHasher, Shape};

/// Scrapes of one body after which it may rest; doubled each time that it woke soon.
pub(super) const STEADY_SCRAPES: u16 = 3;
/// Doublings of [`STEADY_SCRAPES`].
const DOUBLINGS_MAX: u8 = 7;
/// A rest of so many scrapes was worth it.
const LONG_REST: u16 = 32;
/// Who may not rest now is looked at again after so many scrapes.
const LOOK_AGAIN: u16 = 64;
/// Bytes of a layout in the open that may rest: fewer are not worth the bookkeeping.
pub(super) const BYTES_MIN: usize = 1 << 10;
/// More take too long in one go.
const BYTES_MAX: usize = 256 << 10;

/// Bytes that are put to rest in a millisecond, on average: a twentieth of the time.
const BYTES_PER_MS: i64 = 4 << 10;
/// What may be saved up of it, milliseconds.
const SAVED_MS: i64 = 200;

/// How fast layouts are put to rest, so that many that become steady together hold up nobody.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Bytes that may be put to rest now; below zero after a large one.
    room_bytes: i64,
    /// When that was, wall clock milliseconds.
    at_ms: i64,
}

impl Pace {
    /// Whether this many bytes may be put to rest now.
    pub fn admits(&mut self, bytes: usize, now_ms: i64) -> bool {
        let passed_ms = now_ms.saturating_sub(std::mem::replace(&mut self.at_ms, now_ms)).clamp(0, SAVED_MS);
        self.room_bytes = (self.room_bytes + passed_ms * BYTES_PER_MS).min(SAVED_MS * BYTES_PER_MS);
        let admits = self.room_bytes > 0;
        if admits {
            self.room_bytes -= bytes as i64;
        }
        admits
    }
}

/// What rests, and its shape.
#[derive(Debug)]
pub(super) struct Asleep {
    pub resting: Rc<Resting>,
    pub shape: Rc<Shape>,
}

/// A target's way to its rest.
#[derive(Debug, Default)]
pub(super) struct Repose {
    pub asleep: Option<Asleep>,
    /// Scrapes since the body changed, or since it rests.
    pub steady: u16,
    /// How often it woke soon.
    pub doublings: u8,
}

impl Repose {
    fn is_due(&self, steady_scrapes: u16) -> bool {
        let wanted = steady_scrapes << self.doublings;
        self.steady == wanted || (self.steady > wanted && self.steady.is_multiple_of(LOOK_AGAIN))
    }

    /// One more scrape of the same body. Cycles below the top, so that it is looked at now and then for ever.
    fn count(&mut self) {
        self.steady = if self.steady == u16::MAX { u16::MAX - LOOK_AGAIN } else { self.steady + 1 };
    }

    /// The body is another one.
    pub fn stir(&mut self) {
        self.steady = 0;
    }
}

impl ScrapeCache {
    /// What rests, if it is what the target's next body is compared with: it is not after a change of rules.
    pub(super) fn resting(&self) -> Option<&Rc<Resting>> {
        self.repose.asleep.as_ref().map(|a| &a.resting).filter(|r| Rc::ptr_eq(&r.terms, &self.terms))
    }

    /// Counts a scrape that brought the body of before, and puts the layout to rest when it is time.
    pub(super) fn repose(&mut self, store: &mut Store, time: ScrapeTime) {
        self.repose.count();
        if !self.repose.is_due(store.steady_scrapes) {
            return;
        }
        let Some(shown) = self.plan.clone().filter(|shown| self.may_rest(store, shown)) else { return };
        let bytes = open_bytes(&shown.layout);
        if !store.pace.admits(bytes, time.now_ms) {
            // The next scrape asks again.
            self.repose.steady -= 1;
            return;
        }
        let resting = store.stow(&shown);
        store.count_freed(bytes);
        self.plan = None;
        self.live.plan = None;
        self.known.set_base(None);
        self.repose.asleep = Some(Asleep { shape: resting.shape(), resting });
        self.repose.steady = 0;
    }

    /// Whether all that is known of the target is its plan, and nobody else has that.
    fn may_rest(&self, store: &Store, shown: &Shown) -> bool {
        let own = [self.plan.as_ref(), self.live.plan.as_ref(), self.known.only_base()];
        let is_plain = own.iter().all(|p| p.is_some_and(|p| p.is(shown)))
            && self.live.is_whole()
            && self.live.unwritten.is_none()
            && self.before.is_none()
            && self.last.is_none()
            && self.former.is_none();
        // Ours are the three, and the one at hand; the layout is its plan's.
        is_plain
            && Rc::strong_count(&shown.plan) <= own.len() + 1
            && Rc::strong_count(&shown.layout) == 1
            && is_own(store, shown)
    }

    /// The layout is needed: takes what rests back into its place. Gives the layout.
    pub(super) fn wake(&mut self, store: &mut Store) -> Option<Rc<Layout>> {
        let Asleep { resting, .. } = self.repose.asleep.take()?;
        let plan = store.unstow(&resting);
        let layout = Rc::clone(&plan.layout);
        let shown = Shown { plan, variables: self.variables.clone() };
        self.live.plan = Some(shown.clone());
        if Rc::ptr_eq(&resting.terms, &self.terms) {
            self.known.set_base(Some(&shown));
            self.plan = Some(shown);
        }
        self.repose.doublings = match self.repose.steady {
            LONG_REST.. => 0,
            _ => (self.repose.doublings + 1).min(DOUBLINGS_MAX),
        };
        self.repose.steady = 0;
        Some(layout)
    }

    /// Before a body is settled: whether it is what rests. If not, the layout is back, for the target and for the parse.
    pub(super) fn is_again(&mut self, store: &mut Store, parse: &mut Parse, time: ScrapeTime) -> bool {
        let rules = &self.terms.rules;
        let is_plain = parse.times.is_empty() || !rules.honor_timestamps;
        let limit = rules.sample_limit.get();
        let fits = |r: &Resting| limit == 0 || r.kept_count as u64 <= limit;
        if is_plain && self.is_later(time) && self.resting().is_some_and(|r| parse.is_again(r) && fits(r)) {
            return true;
        }
        let layout = self.wake(store).filter(|_| self.plan.is_some());
        parse.take_layout(layout);
        false
    }

    /// Settles the body that rests, come again.
    pub(super) fn settle_again(&mut self, store: &mut Store, parse: Parse, time: ScrapeTime) -> Scraped {
        let asleep = self.repose.asleep.as_ref().expect("what came again rests");
        let (resting, shape) = (&asleep.resting, Rc::clone(&asleep.shape));
        let mut values = parse.values;
        if let Some(kept) = &resting.kept {
            let mut compact = store.values();
            compact.extend(values.iter().enumerate().filter(|(slot, _)| kept.has(*slot)).map(|(_, value)| value));
            store.give(std::mem::replace(&mut values, compact));
        }
        let tallies =
            Tallies { scraped: resting.count as u64, post_relabel: resting.kept_count as u64, ..Tallies::default() };
        values.resize(shape.series_count, ABSENT);
        let report_at = resting.kept_count;
        self.live.written_ms = time.time_ms;
        self.reported_ms = Some(time.time_ms);
        self.repose.count();
        Scraped {
            shape,
            variables: self.variables.clone(),
            values,
            times: Vec::new(),
            stale: Vec::new(),
            tallies,
            error: None,
            report_at,
            lost: Vec::new(),
        }
    }

    /// Column and identity of every series that rests.
    pub(super) fn resting_identities(&self, hasher: &IdentityHasher, mut each: impl FnMut(u32, Identity)) {
        let Some(Asleep { shape, .. }) = &self.repose.asleep else { return };
        let (mut column, variables) = (0, self.variables.open());
        // The last schema is the report's.
        let schemas = shape.schemas();
        for schema in &schemas[..schemas.len() - 1] {
            schema.for_each(&mut |labels| {
                each(column, identity(hasher, labels, &variables));
                column += 1;
            });
        }
    }
}

/// Whether a plan can be put away, and most of its bytes are in nobody else's layout.
fn is_own(store: &Store, plan: &Plan) -> bool {
    let layout = &plan.layout;
    let is_simple = !layout.is_odd() && layout.owner == 0 && !plan.fails && plan.clashes.is_empty();
    let glued = || layout.chunks.iter().any(|c| c.slots.iter().any(|s| s.glued));
    let bytes = open_bytes(layout);
    // A chunk is its layout's and its binding's.
    let own: usize = layout.chunks.iter().filter(|c| Rc::strong_count(c) == 2).map(|c| c.text.len()).sum();
    let all: usize = layout.chunks.iter().map(|c| c.text.len()).sum();
    is_simple
        && (store.rest_bytes_min..=BYTES_MAX).contains(&bytes)
        && own * 2 >= all
        && layout.slot_count() > 0
        && !glued()
}

fn open_bytes(layout: &Layout) -> usize {
    layout.chunks.iter().map(|c| c.text.len() + size_of_val(&*c.slots)).sum()
}
