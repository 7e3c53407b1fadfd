//! Bodies whose lines are a layout's in another order: the layout stays, the values change places.

use super::bits::Bits;
use super::chunk::Layout;
use super::parse::Parse;
use super::store::Store;
use crate::model::ABSENT;

/// Whether the lines are the layout's, each once, in another order.
pub(super) fn is_permutation(parse: &Parse, layout: &Layout) -> bool {
    let mut seen = Bits::none(layout.slot_count());
    let runs = || parse.script.iter();
    if runs().any(|r| r.fresh) || runs().map(|r| r.count as usize).sum::<usize>() != layout.slot_count() {
        return false;
    }
    for slot in runs().flat_map(|r| r.from..r.from + r.count) {
        seen.set(slot as usize);
    }
    seen == Bits::all(layout.slot_count())
}

/// Brings the values into slot order.
pub(super) fn reorder(parse: &mut Parse, store: &mut Store) {
    let mut values = store.values();
    values.resize(parse.values.len(), ABSENT);
    let mut line = 0;
    for run in &parse.script {
        let (from, count) = (run.from as usize, run.count as usize);
        values[from..from + count].copy_from_slice(&parse.values[line..line + count]);
        line += count;
    }
    store.give(std::mem::replace(&mut parse.values, values));
}
