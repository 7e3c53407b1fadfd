//! Reading a map key by key: every key is asked for, what was not asked for is an error.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::errors::{At, NoteKind};
use super::node::{Entry, Kind, Node};
use super::tags::truth;
use super::types::{Secret, SecretSource};
use super::{duration, size};

/// A map being decoded. A value of the wrong kind is reported and then treated as absent, so that one pass finds
/// everything.
pub(super) struct Fields<'a> {
    pub(super) at: &'a At<'a>,
    entries: &'a [Entry],
    asked: RefCell<Vec<&'static str>>,
}

/// A value and its place.
#[derive(Clone, Copy)]
pub(super) struct Item<'a> {
    pub(super) node: &'a Node,
    pub(super) at: At<'a>,
}

impl<'a> Fields<'a> {
    /// The map at a place; nothing counts as an empty map.
    pub(super) fn new(at: &'a At<'a>, node: &'a Node) -> Option<Self> {
        let entries = match &node.kind {
            Kind::Map(entries) => entries.as_slice(),
            Kind::Null => &[],
            _ => {
                at.error(format!("must be a map, found {}", node.describe()));
                return None;
            }
        };
        Some(Self { at, entries, asked: RefCell::default() })
    }

    pub(super) fn item(&self, key: &'static str) -> Option<Item<'a>> {
        self.asked.borrow_mut().push(key);
        let entry = self.entries.iter().find(|e| e.key == key)?;
        Some(Item { node: &entry.value, at: self.at.key(&entry.key, entry.line) })
    }

    /// A value that is not nothing.
    pub(super) fn value(&self, key: &'static str) -> Option<Item<'a>> {
        self.item(key).filter(|i| i.node.kind != Kind::Null)
    }

    /// An error at a key, also when the key is missing.
    pub(super) fn error(&self, key: &'a str, what: impl Into<String>) {
        let line = self.entries.iter().find(|e| e.key == key).map(|e| e.line);
        match line {
            Some(line) => self.at.key(key, line).error(what),
            None => self.at.key(key, self.at.line()).error(what),
        }
    }

    /// Nothing counts as the empty text, as in Prometheus.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.item(key)?.text()
    }

    pub(super) fn text_or(&self, key: &'static str, default: &str) -> String {
        self.text(key).unwrap_or_else(|| default.to_owned())
    }

    pub(super) fn flag(&self, key: &'static str) -> Option<bool> {
        self.item(key)?.flag()
    }

    /// Nothing counts as 0, as in Prometheus.
    pub(super) fn count(&self, key: &'static str) -> Option<u64> {
        self.item(key)?.count()
    }

    /// Nothing and zero are the same as absent.
    pub(super) fn limit(&self, key: &'static str) -> Option<u64> {
        self.count(key).filter(|n| *n > 0)
    }

    /// Nothing counts as 0, as in Prometheus.
    pub(super) fn duration(&self, key: &'static str) -> Option<Duration> {
        let item = self.item(key)?;
        if item.node.kind == Kind::Null {
            return Some(Duration::ZERO);
        }
        let text = item.text()?;
        duration::parse(&text).map_err(|e| item.at.error(format!("{text:?} {e}"))).ok()
    }

    pub(super) fn size(&self, key: &'static str) -> Option<u64> {
        let item = self.value(key)?;
        let text = item.text()?;
        let size = size::parse(&text);
        if size.is_none() {
            item.at.error(format!("{text:?} is not a size: a number with a unit, for example 10MB"));
        }
        size
    }

    /// A list of anything; nothing is the empty list.
    pub(super) fn list(&self, key: &'static str) -> Option<(At<'a>, &'a [Node])> {
        let item = self.item(key)?;
        match &item.node.kind {
            Kind::List(list) => Some((item.at, list)),
            Kind::Null => Some((item.at, &[])),
            _ => {
                item.at.error(format!("must be a list, found {}", item.node.describe()));
                None
            }
        }
    }

    pub(super) fn texts(&self, key: &'static str) -> Option<Vec<String>> {
        let (at, list) = self.list(key)?;
        Some(list.iter().enumerate().filter_map(|(i, node)| Item { node, at: at.index(i, node.line) }.text()).collect())
    }

    /// A map of texts, in key order.
    pub(super) fn text_map(&self, key: &'static str) -> BTreeMap<String, String> {
        let Some(item) = self.item(key) else { return BTreeMap::new() };
        let Some(fields) = Fields::new(&item.at, item.node) else { return BTreeMap::new() };
        fields.all().filter_map(|(key, item)| Some((key.to_owned(), item.text()?))).collect()
    }

    /// Of a map whose keys are free: there a merge must not give one that is there. go-yaml: setMapIndex.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'a str, Item<'a>)> + '_ {
        self.entries.iter().map(|e| {
            let at = self.at.key(&e.key, e.line);
            if e.repeated {
                at.error("is there twice, once by a merge (<<)");
            }
            (e.key.as_str(), Item { node: &e.value, at })
        })
    }

    /// Whether the key is there with a value.
    pub(super) fn has(&self, key: &'static str) -> bool {
        self.value(key).is_some()
    }

    pub(super) fn path_of(&self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key).filter(|t| !t.is_empty())?;
        Some(self.at.directory().join(text))
    }

    /// `KEY`, `KEY_file` or `KEY_ref`: at most one.
    pub(super) fn secret(&self, keys: [&'static str; 3]) -> Option<SecretSource> {
        let [inline, file, reference] = keys;
        let given: Vec<_> = keys.into_iter().filter(|k| self.text(k).is_some_and(|t| !t.is_empty())).collect();
        if given.len() > 1 {
            self.error(given[1], format!("at most one of {inline} and {file} may be given"));
        }
        if given.contains(&reference) {
            self.error(reference, format!("needs a secret manager, which there is none; use {file}"));
        }
        let text = self.text(inline).filter(|t| !t.is_empty());
        text.map(|t| SecretSource::Inline(Secret::new(t))).or_else(|| self.path_of(file).map(SecretSource::File))
    }

    /// Keys of Prometheus without a meaning for a scraper.
    pub(super) fn no_effect(&self, keys: &[&'static str]) {
        for key in keys {
            if let Some(item) = self.item(key) {
                item.at.note(NoteKind::NoEffect, "");
            }
        }
    }

    /// Keys of Prometheus that this program does not do: their default is accepted, anything else is an error.
    pub(super) fn unsupported(&self, keys: &[&'static str], remedy: &str) {
        for key in keys {
            let Some(item) = self.item(key) else { continue };
            if !item.node.is_zero() {
                item.at.error(format!("unsupported: {remedy}"));
            }
        }
    }

    /// Reports every key that nobody asked for. `foreign` explains keys Prometheus knows but this program does not.
    pub(super) fn finish(self, foreign: impl Fn(&str) -> Option<String>) {
        let asked = self.asked.borrow();
        for entry in self.entries {
            if asked.contains(&entry.key.as_str()) {
                continue;
            }
            let at = self.at.key(&entry.key, entry.line);
            match foreign(&entry.key) {
                Some(why) => at.error(format!("unsupported: {why}")),
                None => at.error(format!("unknown key{}", suggestion(&entry.key, &asked))),
            }
        }
    }
}

impl Node {
    /// Nothing, `false`, `0` and the empty text, list or map.
    fn is_zero(&self) -> bool {
        match &self.kind {
            Kind::Null => true,
            Kind::Scalar { text, .. } => matches!(text.as_str(), "" | "false" | "no" | "off" | "0" | "0s"),
            Kind::List(list) => list.is_empty(),
            Kind::Map(map) => map.is_empty(),
        }
    }
}

impl<'a> Item<'a> {
    pub(super) fn text(&self) -> Option<String> {
        match &self.node.kind {
            Kind::Scalar { text, .. } => Some(text.clone()),
            Kind::Null => Some(String::new()),
            _ => {
                self.at.error(format!("must be a text, found {}", self.node.describe()));
                None
            }
        }
    }

    /// The words of YAML 1.1, as in Prometheus; nothing counts as false.
    fn flag(&self) -> Option<bool> {
        match &self.node.kind {
            Kind::Null => return Some(false),
            Kind::Scalar { text, quoted: false } => {
                if let Some(flag) = truth(text) {
                    return Some(flag);
                }
            }
            _ => {}
        }
        self.at.error(format!("must be true or false, found {}", self.node.describe()));
        None
    }

    fn count(&self) -> Option<u64> {
        if self.node.kind == Kind::Null {
            return Some(0);
        }
        if let Kind::Scalar { text, quoted: false } = &self.node.kind
            && !text.starts_with('_')
        {
            let digits = text.replace('_', "");
            let parsed = match digits.get(..2) {
                Some("0x") => u64::from_str_radix(&digits[2..], 16).ok(),
                Some("0o") => u64::from_str_radix(&digits[2..], 8).ok(),
                Some("0b") => u64::from_str_radix(&digits[2..], 2).ok(),
                _ if digits.len() > 1 && digits.starts_with('0') => u64::from_str_radix(&digits, 8).ok(),
                _ => digits.strip_prefix('+').unwrap_or(&digits).parse().ok().or_else(|| whole_float(&digits)),
            };
            if parsed.is_some() {
                return parsed;
            }
        }
        self.at.error(format!("must be a whole number, 0 or more, without quotes; found {}", self.node.describe()));
        None
    }
}

/// `1e6` is a whole number too, as in Prometheus.
fn whole_float(text: &str) -> Option<u64> {
    let float = text.contains(['e', 'E', '.']);
    let value: f64 = if float { text.parse().ok()? } else { return None };
    (value.fract() == 0.0 && (0.0..9e15).contains(&value)).then_some(value as u64)
}

/// `; did you mean X?` when a known key is near.
pub(super) fn suggestion(key: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (distance(key, k), *k)).filter(|(d, k)| *d <= 1 + k.len() / 5).min();
    near.map_or_else(String::new, |(_, k)| format!("; did you mean {k}?"))
}

/// Edit distance, by bytes; transpositions count two.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
