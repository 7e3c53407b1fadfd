//! What a destination makes of a series' labels: external labels, then its write relabelling rules.

use std::collections::BTreeSet;

use super::rules::{Rules, Verdict};
use crate::config::{RelabelAction, RelabelConfig};
use crate::model::{Labels, LabelsBuilder};
use crate::storage::journal::{ReadSchema, ReadValue};

/// External labels and rules of one destination.
#[derive(Debug)]
pub struct Rewrite {
    external: Vec<(Box<str>, Box<str>)>,
    rules: Rules,
    reads: Reads,
}

/// Labels whose values the rules look at.
#[derive(Debug)]
enum Reads {
    Names(BTreeSet<String>),
    /// A labelmap moves values to names that a later rule may look at.
    All,
}

/// Labels of one series as sent: sorted by name, no empty text.
pub type SeriesLabels = Vec<(Box<str>, ReadValue)>;

impl Rewrite {
    /// # Errors
    /// The rules' own, worded for the operator.
    pub fn new(external: &Labels, configs: &[RelabelConfig]) -> Result<Self, String> {
        let rules = Rules::compile(configs).map_err(|e| e.to_string())?;
        let external = external.iter().map(|(n, v)| (n.into(), v.into())).collect();
        Ok(Self { external, rules, reads: Reads::of(configs) })
    }

    /// Whether the outcome may depend on the text of a variable at all.
    #[must_use]
    pub fn reads_values(&self) -> bool {
        match &self.reads {
            Reads::All => true,
            Reads::Names(names) => !names.is_empty(),
        }
    }

    /// The variables a schema uses, ascending, each with whether the outcome depends on its text.
    #[must_use]
    pub fn variables(&self, schema: &ReadSchema) -> Vec<(u16, bool)> {
        let mut used = std::collections::BTreeMap::<u16, bool>::new();
        for (name, value) in schema.series.iter().flat_map(|s| s.iter()) {
            if let ReadValue::Var(n) = value {
                let read = match &self.reads {
                    Reads::All => true,
                    Reads::Names(names) => names.contains(&**name),
                };
                *used.entry(*n).or_default() |= read;
            }
        }
        used.into_iter().collect()
    }

    /// The labels to send for a series, or `None` when the rules drop it. `read` are the variables that
    /// [`Self::variables`] marked as read; their texts must be these in every use of the result, and the other
    /// variables must be empty exactly where they are empty here.
    #[must_use]
    pub fn series(
        &self,
        labels: &[(Box<str>, ReadValue)],
        variables: &[Box<str>],
        read: &[u16],
    ) -> Option<SeriesLabels> {
        let mut kept = SeriesLabels::with_capacity(labels.len() + self.external.len());
        for (name, value) in labels {
            match value {
                ReadValue::Var(n) if text(variables, *n).is_empty() => {}
                ReadValue::Var(n) if read.contains(n) => {
                    kept.push((name.clone(), ReadValue::Text(text(variables, *n).into())));
                }
                value => kept.push((name.clone(), value.clone())),
            }
        }
        for (name, value) in &self.external {
            if let Err(at) = kept.binary_search_by(|(n, _)| n.cmp(name)) {
                kept.insert(at, (name.clone(), ReadValue::Text(value.clone())));
            }
        }
        let kept = if self.rules.is_empty() { kept } else { self.relabelled(&kept)? };
        (!kept.is_empty()).then_some(kept)
    }

    /// Unread variables pass the rules as a stand-in text: no rule looks at it, so it can only stay, go or be replaced.
    fn relabelled(&self, labels: &[(Box<str>, ReadValue)]) -> Option<SeriesLabels> {
        let mut builder = LabelsBuilder::default();
        for (name, value) in labels {
            match value {
                ReadValue::Text(v) => builder.set(name, v),
                ReadValue::Var(n) => builder.set(name, &stand_in(*n)),
            }
        }
        if self.rules.apply(&mut builder) == Verdict::Drop {
            return None;
        }
        let back = |name: &str, value: &str| match labels.binary_search_by(|(n, _)| (**n).cmp(name)) {
            Ok(i) if matches!(labels[i].1, ReadValue::Var(n) if stand_in(n) == value) => labels[i].1.clone(),
            _ => ReadValue::Text(value.into()),
        };
        Some(builder.iter().map(|(n, v)| (n.into(), back(n, v))).collect())
    }
}

impl Reads {
    fn of(configs: &[RelabelConfig]) -> Self {
        use RelabelAction as A;
        let mut names = BTreeSet::new();
        for config in configs {
            match config.action {
                A::LabelMap => return Self::All,
                A::LabelDrop | A::LabelKeep => {}
                A::KeepEqual | A::DropEqual => {
                    names.extend(config.source_labels.iter().cloned());
                    names.insert(config.target_label.clone());
                }
                A::Drop | A::HashMod | A::Keep | A::Lowercase | A::Replace | A::Uppercase => {
                    names.extend(config.source_labels.iter().cloned());
                }
            }
        }
        Self::Names(names)
    }
}

/// The text of a variable; a number beyond the target's list is an absent label.
#[must_use]
pub fn text(variables: &[Box<str>], n: u16) -> &str {
    variables.get(usize::from(n)).map_or("", |v| v)
}

/// A noncharacter keeps it apart from whatever a rule writes as fixed text.
fn stand_in(n: u16) -> String {
    format!("\u{ffff}{n}\u{ffff}")
}
