//! Leads with holes, matched against bytes: what stands in a hole is the target's, and the same all over its body.

use super::chunk::{Chunk, Hole};
use super::pattern::{VARIABLE_BYTES_MAX, is_plain};
use crate::base::limits::VARIABLES_MAX;

/// What stands in the holes of one variable.
#[derive(Debug)]
pub(super) struct Variable {
    pub text: Vec<u8>,
    /// In this body; until then the text is the last body's, and another one may take its place.
    pub is_met: bool,
}

/// A lead with holes.
pub(super) struct HoledLead<'c> {
    pub text: &'c [u8],
    /// Where it starts in its chunk: what the holes are counted from.
    pub offset: usize,
    pub holes: &'c [Hole],
}

impl<'c> HoledLead<'c> {
    pub fn of(chunk: &'c Chunk, slot: usize) -> Self {
        Self { text: chunk.lead(slot), offset: chunk.start(slot), holes: chunk.holes_of(slot) }
    }
}

/// How many bytes of `buf` are this lead. A variable not met yet takes the text it finds.
pub(super) fn match_lead(lead: &HoledLead<'_>, buf: &[u8], variables: &mut [Variable]) -> Option<usize> {
    let (mut at, mut done) = (0, 0);
    let mut found: [Option<(usize, usize)>; VARIABLES_MAX] = [None; VARIABLES_MAX];
    for hole in lead.holes {
        let until = hole.at as usize - lead.offset;
        let piece = &lead.text[done..until];
        let rest = buf[at..].strip_prefix(piece)?;
        at += piece.len();
        done = until;
        let variable = &variables[usize::from(hole.variable)];
        let place = &mut found[usize::from(hole.variable)];
        let length = match *place {
            Some((from, to)) => rest.starts_with(&buf[from..to]).then_some(to - from)?,
            None if variable.is_met => rest.starts_with(&variable.text).then_some(variable.text.len())?,
            None => {
                let near = &rest[..rest.len().min(VARIABLE_BYTES_MAX + 1)];
                let length = memchr::memchr(b'"', near).filter(|&l| is_plain(&rest[..l]))?;
                *place = Some((at, at + length));
                length
            }
        };
        at += length;
    }
    let piece = &lead.text[done..];
    if !buf[at..].starts_with(piece) {
        return None;
    }
    for (variable, place) in variables.iter_mut().zip(found) {
        if let Some((from, to)) = place {
            variable.text.clear();
            variable.text.extend_from_slice(&buf[from..to]);
            variable.is_met = true;
        }
    }
    Some(at + piece.len())
}
