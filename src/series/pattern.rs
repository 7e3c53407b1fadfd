//! Holes: whole quoted label values that differ between targets of one layout.

use std::borrow::Cow;
use std::rc::Rc;

use super::chunk::{Hole, Layout, Slot};
use super::parse::{Fresh, Parse};
use super::pool::PoolRules;
use crate::base::limits::VARIABLES_MAX;
use crate::exposition::labels::{Exposed, decode};
use crate::exposition::text::Kind;

/// Longest text of a variable, bytes; longer values stay part of the layout.
pub(super) const VARIABLE_BYTES_MAX: usize = 1024;

/// The texts of one target's variables, and where they may stand.
pub(super) struct Pattern<'a> {
    rules: &'a PoolRules,
    /// By variable; an empty text stands nowhere.
    texts: Vec<Box<str>>,
    /// By variable of the old layout, where that is not ours.
    old: Vec<Box<str>>,
}

/// A lead with its variables taken out.
#[derive(Debug, PartialEq)]
pub(super) struct Punched<'l> {
    pub lead: Cow<'l, [u8]>,
    pub slot: Slot,
    pub holes: Vec<Hole>,
}

impl<'a> Pattern<'a> {
    /// What a parse along a layout of these rules found its variables to be.
    pub fn of(rules: &'a PoolRules, parse: &Parse) -> Self {
        let texts = parse.variable_texts();
        match &parse.layout {
            Some(layout) if layout.owner == rules.id => Self { rules, texts, old: Vec::new() },
            _ => Self { rules, texts: Vec::new(), old: texts },
        }
    }

    /// Whose holes these are.
    pub fn owner(&self) -> u64 {
        self.rules.id
    }

    /// Texts for holes of an old layout of other rules.
    pub fn old(&self) -> &[Box<str>] {
        &self.old
    }

    /// Texts by variable.
    pub fn texts(&self) -> &[Box<str>] {
        &self.texts
    }

    /// Takes the variables out of a lead.
    pub fn punch<'l>(&self, lead: &'l [u8], slot: Slot) -> Punched<'l> {
        let whole = Punched { lead: Cow::Borrowed(lead), slot, holes: Vec::new() };
        if self.texts.is_empty() {
            return whole;
        }
        let (start, end) = (slot.series as usize, slot.series_end as usize);
        let mut out = lead[..start].to_vec();
        let mut done = start;
        let mut holes = Vec::new();
        let mut exposed: Vec<Exposed<'_>> = Vec::new();
        decode(&lead[start..end], Kind::None, &mut exposed);
        for label in &exposed {
            let (from, to) = (start + label.quoted.0 as usize, start + label.quoted.1 as usize);
            let value = &lead[from..to];
            let found = self.texts.iter().position(|t| !value.is_empty() && t.as_bytes() == value);
            let Some(variable) = found.filter(|_| is_eligible(self.rules, label, value)) else { continue };
            out.extend_from_slice(&lead[done..from]);
            holes.push(Hole { at: out.len() as u32, variable: variable as u8 });
            done = to;
        }
        if holes.is_empty() {
            return whole;
        }
        out.extend_from_slice(&lead[done..]);
        let less = (lead.len() - out.len()) as u32;
        let slot = Slot { end: slot.end - less, series_end: slot.series_end - less, ..slot };
        Punched { lead: Cow::Owned(out), slot, holes }
    }
}

/// Whether a label value, as written, may be a variable.
fn is_eligible(rules: &PoolRules, label: &Exposed<'_>, value: &[u8]) -> bool {
    is_plain(value) && !label.broken && rules.may_vary(&label.name)
}

/// Whether a text reads as it is written, so that it can be compared and captured as bytes.
pub(super) fn is_plain(value: &[u8]) -> bool {
    let odd = |c: &u8| matches!(c, b'"' | b'\\' | b'\n' | 0);
    !value.is_empty()
        && value.len() <= VARIABLE_BYTES_MAX
        && !value.iter().any(odd)
        && std::str::from_utf8(value).is_ok()
}

/// Finds out whether a body is a known layout with other texts in some label values: a consistent substitution of at
/// most [`VARIABLES_MAX`]. Gives the variables' texts in this body; the layout of the body punched by them then serves
/// both. The body must have as many lines as the layout.
pub(super) fn generalise<'a>(rules: &'a PoolRules, layout: &Rc<Layout>, parse: &Parse) -> Option<Pattern<'a>> {
    let ours = layout.owner == 0 || layout.owner == rules.id;
    if !ours || parse.values.len() != layout.slot_count() || layout.variable_count() > 0 || parse.error.is_some() {
        return None;
    }
    let mut pairs: Vec<(Box<str>, Box<str>)> = Vec::new();
    let lines = || Lines::new(layout, parse);
    for (known, (lead, slot)) in lines() {
        let (old, old_slot) = layout_line(layout, known);
        if lead == old {
            continue;
        }
        differences(rules, (old, old_slot), (lead, slot), &mut pairs)?;
    }
    if pairs.is_empty() || pairs.len() > VARIABLES_MAX {
        return None;
    }
    let (before, after): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let before = Pattern { rules, texts: before, old: Vec::new() };
    let after = Pattern { rules, texts: after, old: Vec::new() };
    let consistent = lines().all(|(known, (lead, slot))| {
        let (old, old_slot) = layout_line(layout, known);
        after.punch(lead, slot) == before.punch(old, old_slot)
    });
    consistent.then_some(after)
}

fn layout_line(layout: &Layout, slot: usize) -> (&[u8], Slot) {
    let (chunk, slot) = layout.locate(slot);
    let chunk = &layout.chunks[chunk];
    let start = chunk.start(slot) as u32;
    let s = chunk.slots[slot];
    let relative = Slot { end: s.end - start, series: s.series - start, series_end: s.series_end - start, ..s };
    (chunk.lead(slot), relative)
}

/// Adds the values in which two leads differ; `None` if they differ in anything else, or inconsistently.
fn differences(
    rules: &PoolRules,
    (old, old_slot): (&[u8], Slot),
    (new, new_slot): (&[u8], Slot),
    pairs: &mut Vec<(Box<str>, Box<str>)>,
) -> Option<()> {
    if old_slot.kind != new_slot.kind || old_slot.spelled != new_slot.spelled || old_slot.series != new_slot.series {
        return None;
    }
    let series = old_slot.series as usize;
    let (mut of_old, mut of_new) = (Vec::new(), Vec::new());
    decode(&old[series..old_slot.series_end as usize], Kind::None, &mut of_old);
    decode(&new[series..new_slot.series_end as usize], Kind::None, &mut of_new);
    if of_old.len() != of_new.len() {
        return None;
    }
    let (mut at_old, mut at_new) = (0, 0);
    let range = |l: &Exposed<'_>| (series + l.quoted.0 as usize, series + l.quoted.1 as usize);
    for (a, b) in of_old.iter().zip(&of_new).filter(|(a, _)| a.quoted.1 > 0) {
        let ((a0, a1), (b0, b1)) = (range(a), range(b));
        if b.quoted.1 == 0 || old[at_old..a0] != new[at_new..b0] {
            return None;
        }
        (at_old, at_new) = (a1, b1);
        let (x, y) = (&old[a0..a1], &new[b0..b1]);
        if x == y {
            continue;
        }
        if !is_eligible(rules, a, x) || !is_eligible(rules, b, y) {
            return None;
        }
        let (x, y) = (std::str::from_utf8(x).ok()?, std::str::from_utf8(y).ok()?);
        match pairs.iter().find(|(p, q)| **p == *x || **q == *y) {
            Some((p, q)) if **p == *x && **q == *y => {}
            Some(_) => return None,
            None if pairs.len() == VARIABLES_MAX => return None,
            None => pairs.push((x.into(), y.into())),
        }
    }
    (old[at_old..] == new[at_new..]).then_some(())
}

/// The lines of a parse in body order, each with its number.
struct Lines<'p> {
    layout: &'p Layout,
    fresh: &'p Fresh,
    runs: std::slice::Iter<'p, super::parse::Run>,
    run: Option<super::parse::Run>,
    line: usize,
}

impl<'p> Lines<'p> {
    fn new(layout: &'p Layout, parse: &'p Parse) -> Self {
        Self { layout, fresh: &parse.fresh, runs: parse.script.iter(), run: None, line: 0 }
    }
}

impl<'p> Iterator for Lines<'p> {
    type Item = (usize, (&'p [u8], Slot));

    fn next(&mut self) -> Option<Self::Item> {
        let mut run = match self.run.take() {
            Some(run) => run,
            None => *self.runs.next()?,
        };
        let line =
            if run.fresh { self.fresh.line(run.from as usize) } else { layout_line(self.layout, run.from as usize) };
        run.from += 1;
        run.count -= 1;
        self.run = Some(run).filter(|r| r.count > 0);
        self.line += 1;
        Some((self.line - 1, line))
    }
}
