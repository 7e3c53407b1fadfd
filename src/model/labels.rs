//! Label sets: packed and sorted at rest, a plain list while being edited.

use std::fmt;
use std::ops::Range;

/// A sorted label set in one allocation: for each label `len name len value`, lengths as Prometheus's `stringlabels`
/// build packs them (one byte below 255, else 255 and three bytes little-endian), so that the hash of the bytes is
/// the hash Prometheus computes. No empty values, no duplicate names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Labels(pub(super) Box<[u8]>);

impl Labels {
    /// Sorts, drops empty values (Prometheus: an empty label is an absent label), keeps the last of equal names.
    #[must_use]
    pub fn from_pairs<N: AsRef<str>, V: AsRef<str>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut b = LabelsBuilder::default();
        for (n, v) in pairs {
            b.set(n.as_ref(), v.as_ref());
        }
        b.labels()
    }

    /// The set of one label; without it, when the value is empty. Target lists are mostly such sets.
    #[must_use]
    pub fn one(name: &str, value: &str) -> Self {
        if value.is_empty() {
            return Self::default();
        }
        let mut out = Vec::with_capacity(name.len() + value.len() + 2);
        pack(&mut out, name);
        pack(&mut out, value);
        Self(out.into_boxed_slice())
    }

    /// Labels in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        let mut at = 0;
        std::iter::from_fn(move || {
            if at >= self.0.len() {
                return None;
            }
            let name = self.text(&mut at);
            let value = self.text(&mut at);
            Some((name, value))
        })
    }

    /// Value of a label.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Number of labels.
    #[must_use]
    pub fn count(&self) -> usize {
        self.iter().count()
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// xxHash64 with seed 0 of the packed bytes. prometheus: labels_stringlabels.go, Hash.
    #[must_use]
    pub fn prometheus_hash(&self) -> u64 {
        xxhash_rust::xxh64::xxh64(&self.0, 0)
    }

    /// Heap bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.len()
    }

    fn text(&self, at: &mut usize) -> &str {
        let b = &self.0;
        let mut len = usize::from(b[*at]);
        *at += 1;
        if len == 255 {
            len = usize::from(b[*at]) | usize::from(b[*at + 1]) << 8 | usize::from(b[*at + 2]) << 16;
            *at += 3;
        }
        let s = &b[*at..*at + len];
        *at += len;
        std::str::from_utf8(s).expect("labels are packed from text")
    }
}

impl fmt::Debug for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `{a="b", c="d"}` as Prometheus prints it: the text that also seeds the jitter.
impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (i, (n, v)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if is_legacy_name(n) {
                write!(f, "{n}=")?;
            } else {
                write!(f, "{n:?}=")?;
            }
            write!(f, "{v:?}")?;
        }
        f.write_str("}")
    }
}

fn is_legacy_name(n: &str) -> bool {
    let mut bytes = n.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
}

/// Longest name or value that a packed set can hold.
pub const TEXT_BYTES_MAX: usize = (1 << 24) - 1;
/// Texts of a builder that were replaced and still take memory; above this, and above half of all, the rest moves together.
const WASTE_BYTES_MAX: usize = 64 << 10;
/// Labels of a set that are looked at one by one.
const SCANNED_MAX: usize = 32;

/// A label set being edited, sorted by name at all times. An empty value is an absent label.
///
/// All texts lie in one buffer in the order in which they were set, so that making a target costs two allocations and
/// not two for each label.
#[derive(Clone, Default)]
pub struct LabelsBuilder {
    texts: String,
    pairs: Vec<Pair>,
    /// Bytes of `texts` that no pair needs any more.
    waste: usize,
}

/// Where a label's name and value lie.
#[derive(Clone)]
struct Pair {
    name: Range<usize>,
    value: Range<usize>,
}

impl LabelsBuilder {
    /// Starts from a label set.
    #[must_use]
    pub fn new(labels: &Labels) -> Self {
        let mut builder = Self::default();
        builder.texts.reserve(labels.bytes());
        for (name, value) in labels.iter() {
            let (name, value) = (builder.append(name), builder.append(value));
            builder.pairs.push(Pair { name, value });
        }
        builder
    }

    /// Value of a label; empty when absent.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.position(name).map_or("", |i| &self.texts[self.pairs[i].value.clone()])
    }

    /// Sets a label; an empty value removes it.
    pub fn set(&mut self, name: &str, value: &str) {
        match (self.position(name), value.is_empty()) {
            (Some(i), true) => {
                let Pair { name, value } = self.pairs.remove(i);
                self.waste += name.len() + value.len();
            }
            (Some(i), false) => {
                self.waste += self.pairs[i].value.len();
                self.pairs[i].value = self.append(value);
            }
            (None, true) => {}
            (None, false) => {
                let i = self.pairs.partition_point(|p| self.texts[p.name.clone()] < *name);
                let (name, value) = (self.append(name), self.append(value));
                self.pairs.insert(i, Pair { name, value });
            }
        }
        if self.waste > WASTE_BYTES_MAX && self.waste > self.texts.len() / 2 {
            self.move_together();
        }
    }

    /// Sets those of `defaults`, in name order and without empty values, whose names are absent.
    pub fn set_absent(&mut self, defaults: &[(String, String)]) {
        let mut at = 0;
        for (name, value) in defaults {
            at += self.pairs[at..].iter().take_while(|p| self.texts[p.name.clone()] < **name).count();
            if self.pairs.get(at).is_none_or(|p| self.texts[p.name.clone()] != **name) {
                let (name, value) = (self.append(name), self.append(value));
                self.pairs.insert(at, Pair { name, value });
            }
        }
    }

    /// Removes a label.
    pub fn remove(&mut self, name: &str) {
        self.set(name, "");
    }

    /// Keeps the labels for which `keep` holds.
    pub fn retain(&mut self, mut keep: impl FnMut(&str, &str) -> bool) {
        let (texts, waste) = (&self.texts, &mut self.waste);
        self.pairs.retain(|Pair { name, value }| {
            let stays = keep(&texts[name.clone()], &texts[value.clone()]);
            *waste += if stays { 0 } else { name.len() + value.len() };
            stays
        });
    }

    /// Labels in name order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + '_ {
        self.pairs.iter().map(|p| (&self.texts[p.name.clone()], &self.texts[p.value.clone()]))
    }

    /// Whether there is no label.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// Removes all labels, keeps the allocations.
    pub fn clear(&mut self) {
        self.texts.clear();
        self.pairs.clear();
        self.waste = 0;
    }

    /// Packs the set.
    #[must_use]
    pub fn labels(&self) -> Labels {
        let mut out = Vec::with_capacity(self.pairs.iter().map(|p| p.name.len() + p.value.len() + 2).sum());
        for (n, v) in self.iter() {
            pack(&mut out, n);
            pack(&mut out, v);
        }
        Labels(out.into_boxed_slice())
    }

    /// Where a label is. Few names of a set have the same length, so that looking at all lengths beats a binary search.
    fn position(&self, name: &str) -> Option<usize> {
        if self.pairs.len() > SCANNED_MAX {
            return self.pairs.binary_search_by(|p| self.texts[p.name.clone()].cmp(name)).ok();
        }
        self.pairs.iter().position(|p| p.name.len() == name.len() && self.texts[p.name.clone()] == *name)
    }

    fn append(&mut self, text: &str) -> Range<usize> {
        let from = self.texts.len();
        self.texts.push_str(text);
        from..self.texts.len()
    }

    /// Lets go of texts that were replaced.
    fn move_together(&mut self) {
        let mut texts = String::with_capacity(self.texts.len() - self.waste);
        for pair in &mut self.pairs {
            for text in [&mut pair.name, &mut pair.value] {
                let from = texts.len();
                texts.push_str(&self.texts[text.clone()]);
                *text = from..texts.len();
            }
        }
        (self.texts, self.waste) = (texts, 0);
    }
}

/// Equal labels, whatever way they were set.
impl PartialEq for LabelsBuilder {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for LabelsBuilder {}

impl fmt::Debug for LabelsBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

fn pack(out: &mut Vec<u8>, text: &str) {
    let len = text.len();
    assert!(len <= TEXT_BYTES_MAX, "a label text of 16 MiB cannot pass the line limit");
    if len < 255 {
        out.push(len as u8);
    } else {
        out.extend_from_slice(&[255, len as u8, (len >> 8) as u8, (len >> 16) as u8]);
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_the_one_prometheus_computes() {
        let l = Labels::from_pairs([
            ("__address__", "10.0.0.1:9100"),
            ("__metrics_path__", "/metrics"),
            ("__scheme__", "http"),
            ("__scrape_interval__", "15s"),
            ("__scrape_timeout__", "10s"),
            ("__convert_classic_histograms_to_nhcb__", "false"),
            ("__always_scrape_classic_histograms__", "false"),
            ("__scrape_native_histograms__", "false"),
            ("instance", "10.0.0.1:9100"),
            ("job", "node"),
        ]);
        assert_eq!(l.prometheus_hash(), 14_796_828_021_444_650_461);
    }

    #[test]
    fn long_values_survive_packing() {
        let long = "x".repeat(70_000);
        let l = Labels::from_pairs([("a", long.as_str()), ("b", ""), ("c", "1")]);
        assert_eq!(l.get("a"), Some(long.as_str()));
        assert_eq!(l.get("b"), None);
        assert_eq!(l.count(), 2);
        for value in ["", "v", long.as_str()] {
            assert_eq!(Labels::one("a", value), Labels::from_pairs([("a", value)]));
        }
    }

    #[test]
    fn prints_as_prometheus() {
        let l = Labels::from_pairs([("foo", "bar"), ("monitor", "code\"lab")]);
        assert_eq!(l.to_string(), "{foo=\"bar\", monitor=\"code\\\"lab\"}");
        assert_eq!(Labels::default().to_string(), "{}");
    }

    #[test]
    fn large_sets_are_searched_too_and_absent_labels_are_set_in_order() {
        let names: Vec<String> = (0..3 * SCANNED_MAX).map(|i| format!("n{i:03}")).collect();
        let mut b = LabelsBuilder::default();
        for name in names.iter().rev().step_by(2) {
            b.set(name, "set");
        }
        let defaults: Vec<_> = names.iter().map(|n| (n.clone(), "default".to_owned())).collect();
        b.set_absent(&defaults);
        let values: Vec<_> = names.iter().map(|n| b.get(n).to_owned()).collect();
        assert_eq!(values.chunks(2).collect::<Vec<_>>(), vec![["default", "set"]; names.len() / 2]);
        assert_eq!(b.iter().map(|(n, _)| n).collect::<Vec<_>>(), names);
        assert_eq!(b.get("absent"), "");
    }

    #[test]
    fn a_label_set_often_and_long_keeps_no_old_value() {
        let mut b = LabelsBuilder::default();
        b.set("kept", "1");
        for i in 0..1_000 {
            b.set("a", &format!("{i}").repeat(1_000));
            b.set(&format!("passing_{i}"), "x");
            b.retain(|name, _| !name.starts_with("passing_"));
        }
        assert_eq!(b.labels(), Labels::from_pairs([("a", "999".repeat(1_000).as_str()), ("kept", "1")]));
        assert!(b.texts.len() < 4 * WASTE_BYTES_MAX, "{}", b.texts.len());
    }
}
