//! What an encoder keeps between scrapes: prepared schemas, fragments of them, and plans for whole shapes.
//!
//! A *plan* is the fragments of a shape in order, or one fragment for all of it where several targets share the shape.
//!
//! A *class* is the set of targets that a fragment serves: equal lengths of the variables the schema uses, and equal
//! texts of those that write rules read. Everything is bounded in bytes by two generations: what was not used while
//! the young generation filled half the bound is forgotten.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::rc::Rc;

use rapidhash::fast::RandomState;

use super::fragment::Fragment;
use super::prepared::Prepared;
use super::rewrite::{Rewrite, text};
use crate::storage::journal::ReadSchema;

/// Length classes of one schema that get a fragment; further ones are compressed afresh each time. The same number of
/// prepared forms is kept; they differ in which variables are empty and in texts that rules read.
const CLASSES_MAX: usize = 64;
/// The same where rules read a variable's text, so that targets share less.
const TEXT_CLASSES_MAX: usize = 65_536;
/// A class gets a fragment at this use; before, it may be a passing one.
const USES_BEFORE_FRAGMENT: u8 = 3;
/// A plan that serves several targets gets one fragment for the whole shape at this use: half the bytes on the wire.
const USES_BEFORE_WHOLE: u8 = 8;
/// Bookkeeping of an entry, roughly.
const ENTRY_BYTES: usize = 256;

/// The fragments of a shape for one class, in schema order.
pub type Parts = Rc<[Rc<Fragment>]>;

/// Whether a shape is one target's or several targets'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// What is kept for it serves one target only.
    One,
    /// It serves all of them.
    Several,
}

/// How to encode a whole shape this time.
#[derive(Debug)]
pub enum Plan {
    /// One fragment for everything.
    Whole(Rc<Fragment>, Parts),
    /// One for each schema.
    Parts(Parts),
    /// The same, and it is time to build the whole ([`Templates::keep_whole`]).
    Ripe(Parts),
}

/// Names the shape of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PlanKey {
    /// Which reader.
    pub source: u32,
    /// Shape key in that reader.
    pub shape: u64,
}

/// How to encode a schema this time.
#[derive(Debug)]
pub enum Found {
    /// Patch and copy.
    Fragment(Rc<Fragment>),
    /// The same, for targets with these texts only: must not become part of a plan.
    ByText(Rc<Fragment>),
    /// Encode and compress.
    Ordinary,
}

/// See the file's caption.
#[derive(Debug)]
pub struct Templates {
    young: HashMap<u128, Entry, RandomState>,
    old: HashMap<u128, Entry, RandomState>,
    young_bytes: usize,
    old_bytes: usize,
    bytes_max: usize,
    plans: HashMap<u64, KeptPlan, RandomState>,
    plan_bytes: usize,
    hasher: RandomState,
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct KeptPlan {
    key: PlanKey,
    class: Box<[u8]>,
    parts: Parts,
    whole: Option<Rc<Fragment>>,
    /// Uses while several targets share the shape; at the most when the whole was built, or cannot be.
    shared_uses: u8,
}

/// Of one schema.
#[derive(Debug)]
struct Entry {
    /// Variables in use, each with whether rules read its text.
    used: Box<[(u16, bool)]>,
    read: Box<[u16]>,
    prepared: HashMap<Box<[u8]>, Rc<Prepared>, RandomState>,
    classes: HashMap<Box<[u8]>, Class, RandomState>,
    bytes: usize,
}

#[derive(Debug)]
enum Class {
    Seen(u8),
    Built(Rc<Fragment>),
    /// Too large to be patchable.
    Unpatchable,
}

/// Writes the class of a whole target: lengths of all variables. Targets of equal key are served by the same plan.
pub fn class_key(variables: &[&str], out: &mut Vec<u8>) {
    out.clear();
    for variable in variables {
        out.extend_from_slice(&(variable.len() as u32).to_le_bytes());
    }
}

impl Templates {
    /// Empty.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            young_bytes: 0,
            old_bytes: 0,
            bytes_max,
            plans: HashMap::default(),
            plan_bytes: 0,
            hasher: RandomState::default(),
            scratch: Vec::new(),
        }
    }

    /// Bytes kept, roughly.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.young_bytes + self.old_bytes + self.plan_bytes
    }

    /// Whether there is room for what serves one target only: a quarter of the whole, so that it never drives out what
    /// is shared.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bytes() < self.bytes_max / 4
    }

    /// The plan of a shape for a class.
    #[must_use]
    pub fn plan(&mut self, key: PlanKey, class: &[u8], sharing: Sharing) -> Option<Plan> {
        let hash = self.plan_hash(key, class);
        let kept = self.plans.get_mut(&hash).filter(|kept| kept.key == key && *kept.class == *class)?;
        let parts = Rc::clone(&kept.parts);
        if let Some(whole) = &kept.whole {
            return Some(Plan::Whole(Rc::clone(whole), parts));
        }
        if sharing == Sharing::Several && kept.shared_uses < USES_BEFORE_WHOLE {
            kept.shared_uses += 1;
            if kept.shared_uses == USES_BEFORE_WHOLE {
                return Some(Plan::Ripe(parts));
            }
        }
        Some(Plan::Parts(parts))
    }

    /// Remembers a plan until entries are forgotten.
    pub fn keep_plan(&mut self, key: PlanKey, class: &[u8], parts: Vec<Rc<Fragment>>) {
        self.grow_plans(ENTRY_BYTES + class.len() + parts.len() * size_of::<Rc<Fragment>>());
        let hash = self.plan_hash(key, class);
        let kept = KeptPlan { key, class: class.into(), parts: parts.into(), whole: None, shared_uses: 0 };
        self.plans.insert(hash, kept);
    }

    /// Adds the fragment of the whole shape to a plan that was kept.
    pub fn keep_whole(&mut self, key: PlanKey, class: &[u8], whole: Fragment) {
        self.grow_plans(whole.bytes());
        let hash = self.plan_hash(key, class);
        if let Some(kept) = self.plans.get_mut(&hash).filter(|kept| kept.key == key && *kept.class == *class) {
            kept.whole = Some(Rc::new(whole));
        }
    }

    fn grow_plans(&mut self, bytes: usize) {
        self.plan_bytes += bytes;
        if self.plan_bytes > self.bytes_max / 2 {
            self.forget_plans();
            self.plan_bytes += bytes;
        }
    }

    /// Counts a use of the schema by a target, and builds the fragment when it is worth it.
    pub fn find(&mut self, schema: &ReadSchema, variables: &[&str], rewrite: &Rewrite) -> Found {
        let mut scratch = std::mem::take(&mut self.scratch);
        let entry = self.entry(schema, rewrite);
        entry.class_key(variables, &mut scratch);
        let by_text = !entry.read.is_empty();
        let found = match entry.classes.get_mut(&*scratch) {
            Some(Class::Built(fragment)) => Found::new(fragment, by_text),
            Some(Class::Unpatchable) => Found::Ordinary,
            Some(Class::Seen(uses)) if *uses + 1 < USES_BEFORE_FRAGMENT => {
                *uses += 1;
                Found::Ordinary
            }
            Some(Class::Seen(_)) => self.build(schema, variables, rewrite, &scratch),
            None => {
                if entry.classes.len() < entry.classes_max() {
                    entry.classes.insert(scratch.as_slice().into(), Class::Seen(1));
                    self.grow(schema.fingerprint(), ENTRY_BYTES / 2 + scratch.len());
                }
                Found::Ordinary
            }
        };
        self.scratch = scratch;
        found
    }

    fn build(&mut self, schema: &ReadSchema, variables: &[&str], rewrite: &Rewrite, class: &[u8]) -> Found {
        let entry = self.entry(schema, rewrite);
        let prepared = Prepared::new(schema, rewrite, variables, &entry.read);
        let fragment = Fragment::new(&[&prepared], variables).map(Rc::new);
        let by_text = !entry.read.is_empty();
        let (made, found, bytes) = match fragment {
            Some(f) => (Class::Built(Rc::clone(&f)), Found::new(&f, by_text), f.bytes()),
            None => (Class::Unpatchable, Found::Ordinary, 0),
        };
        entry.classes.insert(class.into(), made);
        self.grow(schema.fingerprint(), bytes);
        found
    }

    /// The uncompressed form of a schema for a target.
    pub fn prepared(&mut self, schema: &ReadSchema, variables: &[&str], rewrite: &Rewrite) -> Rc<Prepared> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let entry = self.entry(schema, rewrite);
        entry.prepared_key(variables, &mut scratch);
        if let Some(found) = entry.prepared.get(&*scratch) {
            let found = Rc::clone(found);
            self.scratch = scratch;
            return found;
        }
        let made = Rc::new(Prepared::new(schema, rewrite, variables, &entry.read));
        if entry.prepared.len() >= entry.classes_max() {
            let gone = entry.prepared.drain().map(|(key, p)| p.bytes() + ENTRY_BYTES + key.len()).sum::<usize>();
            entry.bytes -= gone;
            self.young_bytes -= gone;
        }
        let bytes = made.bytes() + ENTRY_BYTES + scratch.len();
        let entry = self.entry(schema, rewrite);
        entry.prepared.insert(scratch.as_slice().into(), Rc::clone(&made));
        self.grow(schema.fingerprint(), bytes);
        self.scratch = scratch;
        made
    }

    fn entry(&mut self, schema: &ReadSchema, rewrite: &Rewrite) -> &mut Entry {
        if !self.young.contains_key(&schema.fingerprint()) {
            let entry = match self.old.remove(&schema.fingerprint()) {
                Some(entry) => {
                    self.old_bytes -= entry.bytes;
                    entry
                }
                None => Entry::new(schema, rewrite),
            };
            self.young_bytes += entry.bytes;
            self.young.insert(schema.fingerprint(), entry);
        }
        self.young.get_mut(&schema.fingerprint()).expect("just put there")
    }

    /// Accounts for growth of a young entry; turns the generations when the young one is full.
    fn grow(&mut self, fingerprint: u128, bytes: usize) {
        self.young_bytes += bytes;
        if let Some(entry) = self.young.get_mut(&fingerprint) {
            entry.bytes += bytes;
        }
        if self.young_bytes > self.bytes_max / 2 {
            self.old = std::mem::take(&mut self.young);
            self.old_bytes = std::mem::take(&mut self.young_bytes);
            self.forget_plans();
        }
    }

    /// Plans hold fragments, so they go when fragments should.
    fn forget_plans(&mut self) {
        self.plans.clear();
        self.plan_bytes = 0;
    }

    fn plan_hash(&self, key: PlanKey, class: &[u8]) -> u64 {
        let mut h = self.hasher.build_hasher();
        key.hash(&mut h);
        h.write(class);
        h.finish()
    }
}

impl Found {
    fn new(fragment: &Rc<Fragment>, by_text: bool) -> Self {
        if by_text { Self::ByText(Rc::clone(fragment)) } else { Self::Fragment(Rc::clone(fragment)) }
    }
}

impl Entry {
    fn new(schema: &ReadSchema, rewrite: &Rewrite) -> Self {
        let used = rewrite.variables(schema);
        let read = used.iter().filter(|u| u.1).map(|u| u.0).collect();
        Self { used: used.into(), read, prepared: HashMap::default(), classes: HashMap::default(), bytes: ENTRY_BYTES }
    }

    fn classes_max(&self) -> usize {
        if self.read.is_empty() { CLASSES_MAX } else { TEXT_CLASSES_MAX }
    }

    fn class_key(&self, variables: &[&str], out: &mut Vec<u8>) {
        out.clear();
        for &(n, read) in &self.used {
            let text = text(variables, n);
            out.extend_from_slice(&(text.len() as u32).to_le_bytes());
            if read {
                out.extend_from_slice(text.as_bytes());
            }
        }
    }

    fn prepared_key(&self, variables: &[&str], out: &mut Vec<u8>) {
        out.clear();
        for &(n, read) in &self.used {
            let text = text(variables, n);
            if read {
                out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                out.extend_from_slice(text.as_bytes());
            } else {
                out.push(u8::from(text.is_empty()));
            }
        }
    }
}
