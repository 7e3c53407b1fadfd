//! A body that is expected to be the one that rests, again: its values are read without any text to compare with.
//!
//! The lengths of the leads say where values stand, and a group of lines counts when the hash of its leads is the one
//! that rests. So no text need be at hand, and none is touched; a group whose hash differs is read again as any other.
//! Only a target's own body is read so, under a seeded hash: a target can fool nobody but itself.

use std::rc::Rc;

use super::chunk::LeadHasher;
use super::parse::exact;
use super::plain::take_number;
use super::resting::Resting;
use crate::exposition::text::{Halt, Rest, TextError, tail};
use crate::exposition::value;

/// How far a body was what rests.
#[derive(Debug)]
pub(super) struct Foretold {
    pub resting: Rc<Resting>,
    /// The next group, where its lengths stand, and its first slot.
    group: usize,
    lengths_at: usize,
    pub slot: usize,
    /// A line was another one: nothing is foretold any more.
    pub is_off: bool,
}

/// What became of a group.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Followed {
    /// It came; where the next one starts.
    Group(usize),
    /// The buffer ends within it.
    Part,
    /// Something else came.
    Other,
    /// There is none left.
    End,
}

/// Where lines are put that came.
pub(super) struct Lines<'p> {
    pub values: &'p mut Vec<f64>,
    pub times: &'p mut Vec<(u32, i64)>,
}

/// Hash of leads, one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeadsHash(u64);

impl LeadsHash {
    #[inline(always)]
    pub fn add(&mut self, lead: &[u8], hasher: LeadHasher) {
        self.0 = (self.0.rotate_left(23) ^ hasher.hash(lead)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    pub fn bits(self) -> u64 {
        self.0
    }
}

impl Foretold {
    /// From the start of a body.
    pub fn new(resting: Rc<Resting>) -> Self {
        Self { resting, group: 0, lengths_at: 0, slot: 0, is_off: false }
    }

    /// Whether all lines came.
    pub fn is_done(&self) -> bool {
        !self.is_off && self.group == self.resting.groups.len()
    }

    /// Reads the next group at `at`.
    pub fn follow(&mut self, buf: &[u8], at: usize, rest: Rest, hasher: LeadHasher, lines: &mut Lines<'_>) -> Followed {
        let Some(group) = self.resting.groups.get(self.group) else { return Followed::End };
        let (values, times) = (lines.values.len(), lines.times.len());
        let mut lengths_at = self.lengths_at;
        let read = read_group(buf, at, (group.count, self.resting.lengths(), &mut lengths_at), hasher, lines);
        if let Ok((next, hash)) = read
            && hash == group.hash
        {
            self.group += 1;
            self.slot += group.count as usize;
            self.lengths_at = lengths_at;
            return Followed::Group(next);
        }
        lines.values.truncate(values);
        lines.times.truncate(times);
        match (read, rest) {
            (Err(Halt::Incomplete), Rest::MayFollow) => Followed::Part,
            _ => Followed::Other,
        }
    }
}

/// Reads as many lines as the group has, wherever that leads.
fn read_group(
    buf: &[u8],
    mut at: usize,
    (count, lengths, lengths_at): (u32, &[u8], &mut usize),
    hasher: LeadHasher,
    lines: &mut Lines<'_>,
) -> Result<(usize, LeadsHash), Halt> {
    let mut hash = LeadsHash::default();
    for _ in 0..count {
        let value_at = at + take_number(lengths, lengths_at) as usize;
        let lead = buf.get(at..value_at).ok_or(Halt::Incomplete)?;
        hash.add(lead, hasher);
        let Some((value, end)) = value::scan(buf, value_at).or_else(|| exact(buf, value_at)) else {
            return Err(not_plain(&buf[value_at..]));
        };
        at = end + 1;
        if buf[end] != b'\n' {
            let (time, after) = tail(buf, end, Rest::MayFollow)?;
            at = after;
            if let Some(time) = time {
                lines.times.push((lines.values.len() as u32, time));
            }
        }
        lines.values.push(value);
    }
    Ok((at, hash))
}

/// Why no value could be read.
#[cold]
fn not_plain(buf: &[u8]) -> Halt {
    if buf.iter().copied().any(value::ends) { Halt::Error(TextError::ValueMissing) } else { Halt::Incomplete }
}
