//! What a destination makes of a series' labels: external labels, then its write relabelling rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::RelabelConfig;
use crate::model::{LabelValue, Labels, LabelsBuilder};
use crate::relabel::{RelabelError, Rules, Verdict};
use crate::storage::journal::{ReadLabels, ReadSchema};

/// External labels and rules of one destination.
#[derive(Debug)]
pub struct Rewrite {
    external: Vec<(Box<str>, Box<str>)>,
    rules: Rules,
}

/// Labels of one series as sent: sorted by name, no empty text.
pub type SeriesLabels = Vec<(Box<str>, SentValue)>;

/// One label value as sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SentValue {
    /// Fixed text.
    Text(Box<str>),
    /// The target's n-th variable.
    Var(u16),
}

impl Rewrite {
    /// # Errors
    /// The first rule that does not compile.
    pub fn new(external: &Labels, configs: &[RelabelConfig]) -> Result<Self, RelabelError> {
        let external = external.iter().map(|(n, v)| (n.into(), v.into())).collect();
        Ok(Self { external, rules: Rules::compile(configs)? })
    }

    /// External labels in name order, where they are all there is to it: no rule looks at any label.
    #[must_use]
    pub fn external_only(&self) -> Option<&[(Box<str>, Box<str>)]> {
        self.rules.is_empty().then_some(&self.external)
    }

    /// The variables a schema uses, ascending, each with whether the outcome depends on its text.
    #[must_use]
    pub fn variables(&self, schema: &ReadSchema) -> Vec<(u16, bool)> {
        let mut labels = BTreeSet::<(u16, String)>::new();
        schema.for_each(&mut Vec::new(), |_, series| {
            labels.extend(series.iter().filter_map(|(name, value)| match value {
                LabelValue::Var(n) => Some((n, name.to_owned())),
                LabelValue::Text(_) => None,
            }));
        });
        let mut used = BTreeMap::<u16, bool>::new();
        for (n, name) in labels {
            *used.entry(n).or_default() |= self.rules.reads().of_value(&name);
        }
        used.into_iter().collect()
    }

    /// The labels to send for a series, or `None` when the rules drop it. `read` are the variables that
    /// [`Self::variables`] marked as read; their texts must be these in every use of the result, and the other
    /// variables must be empty exactly where they are empty here.
    #[must_use]
    pub fn series(&self, labels: ReadLabels<'_>, variables: &[&str], read: &[u16]) -> Option<SeriesLabels> {
        let mut kept = SeriesLabels::new();
        for (name, value) in labels.iter() {
            let value = match value {
                LabelValue::Var(n) if text(variables, n).is_empty() => continue,
                LabelValue::Var(n) if read.contains(&n) => SentValue::Text(text(variables, n).into()),
                LabelValue::Var(n) => SentValue::Var(n),
                LabelValue::Text(text) => SentValue::Text(text.into()),
            };
            kept.push((name.into(), value));
        }
        for (name, value) in &self.external {
            if let Err(at) = kept.binary_search_by(|(n, _)| n.cmp(name)) {
                kept.insert(at, (name.clone(), SentValue::Text(value.clone())));
            }
        }
        let kept = if self.rules.is_empty() { kept } else { self.relabelled(&kept)? };
        (!kept.is_empty()).then_some(kept)
    }

    /// Unread variables pass the rules as a stand-in text: no rule looks at it, so it can only stay, go or be replaced.
    fn relabelled(&self, labels: &[(Box<str>, SentValue)]) -> Option<SeriesLabels> {
        let mut builder = LabelsBuilder::default();
        for (name, value) in labels {
            match value {
                SentValue::Text(v) => builder.set(name, v),
                SentValue::Var(n) => builder.set(name, &stand_in(*n)),
            }
        }
        if self.rules.apply(&mut builder) == Verdict::Drop {
            return None;
        }
        let back = |value: &str| {
            let carried = |v: &&SentValue| matches!(v, SentValue::Var(n) if stand_in(*n) == value);
            labels.iter().map(|l| &l.1).find(carried).cloned().unwrap_or_else(|| SentValue::Text(value.into()))
        };
        Some(builder.iter().map(|(n, v)| (n.into(), back(v))).collect())
    }
}

/// The text of a variable; a number beyond the target's list is an absent label.
#[must_use]
pub fn text<'v>(variables: &[&'v str], n: u16) -> &'v str {
    variables.get(usize::from(n)).copied().unwrap_or_default()
}

/// A noncharacter keeps it apart from whatever a rule writes as fixed text.
fn stand_in(n: u16) -> String {
    format!("\u{ffff}{n}\u{ffff}")
}
