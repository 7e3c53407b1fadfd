//! What the shared objects of a store weigh together.

use std::cell::Cell;
use std::rc::Rc;

/// What an interned object costs beside its own bytes: the handle in its table, the count of its users, the allocator.
const ENTRY_BYTES: usize = 96;

/// What kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Thing {
    Chunk,
    Layout,
    Binding,
    Plan,
    Resting,
}

#[derive(Debug, Default)]
struct Totals {
    bytes: Cell<usize>,
    /// By [`Thing`].
    alive: [Cell<usize>; 5],
}

/// Number and heap bytes of a store's shared objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Rc<Totals>);

/// One object on the meter, taken off when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    meter: Meter,
    thing: Thing,
    bytes: Cell<usize>,
}

impl Meter {
    /// Bytes of all that is alive.
    pub fn bytes(&self) -> usize {
        self.0.bytes.get()
    }

    /// How many of a kind are alive.
    pub fn alive(&self, thing: Thing) -> usize {
        self.0.alive[thing as usize].get()
    }

    /// Puts an object on the meter.
    pub fn charge(&self, thing: Thing, bytes: usize) -> Charge {
        let alive = &self.0.alive[thing as usize];
        alive.set(alive.get() + 1);
        let charge = Charge { meter: self.clone(), thing, bytes: Cell::new(0) };
        charge.grow(bytes + ENTRY_BYTES);
        charge
    }
}

impl Charge {
    /// The object has taken more memory since.
    pub fn grow(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        let total = &self.meter.0.bytes;
        total.set(total.get() + bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let Totals { bytes, alive } = &*self.meter.0;
        bytes.set(bytes.get() - self.bytes.get());
        let alive = &alive[self.thing as usize];
        alive.set(alive.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_weighs_nothing() {
        let meter = Meter::default();
        let (one, two) = (meter.charge(Thing::Chunk, 100), meter.charge(Thing::Plan, 10));
        one.grow(5);
        assert_eq!(meter.bytes(), 115 + 2 * ENTRY_BYTES);
        assert_eq!((meter.alive(Thing::Chunk), meter.alive(Thing::Plan), meter.alive(Thing::Layout)), (1, 1, 0));
        drop(one);
        assert_eq!(meter.bytes(), 10 + ENTRY_BYTES);
        assert_eq!((meter.alive(Thing::Chunk), meter.alive(Thing::Plan)), (0, 1));
        drop(two);
        assert_eq!(meter.bytes(), 0);
    }
}
