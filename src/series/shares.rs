//! What the label sets of a chunk's slots weigh without their variables: by slot, whole or in halves.
//!
//! Half of an identity tells that nothing clashes, which is all that most scrapes ask. Packed chunks keep no more than
//! that, and their texts tell the rest: always for what is asked of a few chunks now and then, once for all where a
//! target's explicit timestamps ask it of every series at every scrape.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::rc::Rc;

use super::bound::series_texts;
use super::chunk::Chunk;
use super::compose::{Fate, Pairs, Value, compose};
use super::pool::Terms;
use crate::model::{Identity, IdentityHasher};

/// By slot; nothing for slots that are not kept.
#[derive(Debug)]
pub(super) enum Shares {
    Whole(Box<[Identity]>),
    Halves {
        low: Box<[u64]>,
        /// Once they were asked for to stay.
        whole: OnceCell<Box<[Identity]>>,
    },
}

impl Shares {
    /// In the form that suits the chunk.
    pub fn new(shares: Vec<Identity>, chunk: &Chunk) -> Self {
        match chunk.packed {
            None => Self::Whole(shares.into()),
            Some(_) => Self::Halves { low: shares.iter().map(|i| half(*i)).collect(), whole: OnceCell::new() },
        }
    }

    /// Heap bytes.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Whole(shares) => size_of_val(&**shares),
            Self::Halves { low, whole } => size_of_val(&**low) + whole.get().map_or(0, |w| size_of_val(&**w)),
        }
    }

    /// The whole ones if they are at hand.
    pub fn whole(&self) -> Option<&[Identity]> {
        match self {
            Self::Whole(shares) => Some(shares),
            Self::Halves { whole, .. } => whole.get().map(|w| &**w),
        }
    }

    /// The whole ones, read from the chunk's texts where they are not at hand.
    pub fn read(&self, chunk: &Rc<Chunk>, terms: &Terms, hasher: &IdentityHasher) -> Cow<'_, [Identity]> {
        self.whole().map_or_else(|| Cow::Owned(weigh_all(chunk, terms, hasher)), Cow::Borrowed)
    }

    /// Has the whole ones at hand from now on. Returns the bytes it took.
    pub fn hold(&self, chunk: &Rc<Chunk>, terms: &Terms, hasher: &IdentityHasher) -> usize {
        match self {
            Self::Halves { whole, .. } if whole.get().is_none() => {
                size_of_val(&**whole.get_or_init(|| weigh_all(chunk, terms, hasher).into()))
            }
            _ => 0,
        }
    }

    /// Calls `each` with slot and half.
    pub fn for_each_half(&self, mut each: impl FnMut(usize, u64)) {
        match self {
            Self::Whole(shares) => shares.iter().enumerate().for_each(|(slot, share)| each(slot, half(*share))),
            Self::Halves { low, .. } => low.iter().enumerate().for_each(|(slot, low)| each(slot, *low)),
        }
    }
}

/// The half that is kept. Halves add up as wholes do.
pub(super) fn half(identity: Identity) -> u64 {
    identity.0 as u64
}

/// What a label set weighs; its variables go to `carried`.
pub(super) fn weigh<'p>(pairs: &'p Pairs<'_>, hasher: &IdentityHasher, carried: &mut Vec<(&'p str, u16)>) -> Identity {
    carried.clear();
    let mut share = Identity::default();
    for (name, value) in pairs {
        match value {
            Value::Text(text) => share += hasher.label(name, text),
            Value::Var(v) => carried.push((&**name, *v)),
        }
    }
    share
}

fn weigh_all(chunk: &Rc<Chunk>, terms: &Terms, hasher: &IdentityHasher) -> Vec<Identity> {
    let open = chunk.open();
    let series = series_texts(&open, terms);
    let mut pairs: Pairs<'_> = Vec::new();
    let mut shares = Vec::with_capacity(series.len());
    for (text, slot) in series.iter().zip(&open.slots) {
        let fate = compose(terms, text, slot.spelled, &mut pairs);
        shares.push(if fate == Fate::Keep { weigh(&pairs, hasher, &mut Vec::new()) } else { Identity::default() });
    }
    shares
}
