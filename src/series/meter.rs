//! What the shared objects of a store weigh together.

use std::cell::Cell;
use std::rc::Rc;

/// What an interned object costs beside its own bytes: the handle in its table, the count of its users, the allocator.
const ENTRY_BYTES: usize = 96;

/// Heap bytes of a store's shared objects.
#[derive(Clone, Debug, Default)]
pub(super) struct Meter(Rc<Cell<usize>>);

/// One object's bytes on the meter, taken off when it is dropped.
#[derive(Debug)]
pub(super) struct Charge {
    meter: Meter,
    bytes: Cell<usize>,
}

impl Meter {
    /// Bytes of all that is alive.
    pub fn bytes(&self) -> usize {
        self.0.get()
    }

    /// Puts an object on the meter.
    pub fn charge(&self, bytes: usize) -> Charge {
        let charge = Charge { meter: self.clone(), bytes: Cell::new(0) };
        charge.grow(bytes + ENTRY_BYTES);
        charge
    }
}

impl Charge {
    /// The object has taken more memory since.
    pub fn grow(&self, bytes: usize) {
        self.bytes.set(self.bytes.get() + bytes);
        self.meter.0.set(self.meter.0.get() + bytes);
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.0.set(self.meter.0.get() - self.bytes.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_weighs_nothing() {
        let meter = Meter::default();
        let (one, two) = (meter.charge(100), meter.charge(10));
        one.grow(5);
        assert_eq!(meter.bytes(), 115 + 2 * ENTRY_BYTES);
        drop(one);
        assert_eq!(meter.bytes(), 10 + ENTRY_BYTES);
        drop(two);
        assert_eq!(meter.bytes(), 0);
    }
}
