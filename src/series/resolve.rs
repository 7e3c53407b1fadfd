//! From what was parsed to a plan: the layout that is there already, one with holes, a new one, or a packed one.

use std::rc::Rc;

use super::ScrapeCache;
use super::assemble::assemble;
use super::chunk::Layout;
use super::error::SeriesError;
use super::parse::Parse;
use super::pattern::{Pattern, generalise};
use super::permutation::{is_permutation, reorder};
use super::plan::{Plan, Shown};
use super::store::Store;

/// How the texts of a layout are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Open,
    Packed,
}

impl ScrapeCache {
    /// The plan of what was parsed, with `parse.values` by slot from its start; `None` if there is no memory for it.
    pub(super) fn resolve(&mut self, store: &mut Store, parse: &mut Parse) -> Option<Shown> {
        if parse.packing.is_some() {
            return self.pack(store, parse);
        }
        self.known.respell(&mut parse.fresh, &store.hasher);
        let trailer = parse.fresh.lead();
        let rules = Rc::clone(&self.terms.rules);
        let pattern = Pattern::of(&rules, parse);
        let old = parse.layout.clone();
        let ours = |l: &&Rc<Layout>| l.owner == 0 || l.owner == rules.id;
        if let Some(layout) = old.as_ref().filter(ours) {
            let whole = parse.values.len() == layout.slot_count() && *layout.trailer == *trailer;
            if parse.is_prefix() && (whole || parse.error.is_some()) {
                return Some(self.show(store, layout, pattern.texts(), None));
            }
            let timed = !parse.times.is_empty() && rules.honor_timestamps;
            if whole && parse.error.is_none() && !timed && is_permutation(parse, layout) {
                let shown = self.show(store, layout, pattern.texts(), None);
                if shown.clashes.is_empty() && !shown.fails {
                    reorder(parse, store);
                    return Some(shown);
                }
            }
        }
        if parse.fresh.text.len() > store.body_bytes_max || store.is_full(self.holds(Form::Open)) {
            return self.pack(store, parse);
        }
        // A new target that differs from a known layout in some label values only.
        let pattern = match (&old, &self.plan) {
            (Some(layout), None) => generalise(&rules, layout, parse).unwrap_or(pattern),
            _ => pattern,
        };
        let trailer = if parse.error.is_some() { &[] } else { trailer };
        let (layout, origins) = assemble(store, old.as_ref(), &parse.script, &parse.fresh, &pattern, trailer);
        let before = self.plan.clone().filter(|p| old.as_ref().is_some_and(|old| Rc::ptr_eq(&p.layout, old)));
        let before = before.as_ref().map(|shown| (&*shown.plan, &*origins));
        Some(self.show(store, &layout, pattern.texts(), before))
    }

    /// The plan of a body whose texts are packed; `None` if there is no memory even for that.
    fn pack(&self, store: &mut Store, parse: &mut Parse) -> Option<Shown> {
        let mut packer = parse.packed();
        if packer.is_full() || matches!(parse.error, Some(SeriesError::LayoutMemory)) {
            return None;
        }
        let shown = self.plan.as_ref();
        self.known.respell_packed(&mut packer, shown, &store.hasher);
        store.adopt(&packer.bounds);
        let trailer = if parse.error.is_some() { &[] } else { parse.fresh.lead() };
        let layout = store.layout(packer.chunks, trailer, 0);
        Some(self.show(store, &layout, &[], None))
    }

    /// Whether the last layout is kept in this form.
    pub(super) fn holds(&self, form: Form) -> bool {
        self.plan.as_ref().is_some_and(|p| p.layout.is_packed() == (form == Form::Packed))
    }

    /// The plan of a layout with these texts in its holes.
    fn show(
        &self,
        store: &mut Store,
        layout: &Rc<Layout>,
        texts: &[Box<str>],
        before: Option<(&Plan, &[Vec<u32>])>,
    ) -> Shown {
        let count = layout.variable_count();
        let used = |i: usize| layout.variables >> i & 1 == 1;
        let text = |i: usize| texts.get(i).filter(|_| used(i)).map_or("", |t| &**t);
        if let Some(shown) = self.plan.as_ref().filter(|p| Rc::ptr_eq(&p.layout, layout)) {
            if shown.fill().eq((0..count).map(text)) {
                return shown.clone();
            }
        }
        let variables = match count {
            0 => self.variables.clone(),
            _ => self.variables.iter().chain((0..count).map(text)).collect(),
        };
        Shown { plan: store.plan(layout, &self.terms, (&variables, self.plan.as_ref()), before), variables }
    }
}
