//! What a destination makes of a series' labels: external labels, then its write relabelling rules.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::RelabelConfig;
use crate::model::{Labels, LabelsBuilder};
use crate::relabel::{RelabelError, Rules, Verdict};
use crate::storage::journal::{ReadSchema, ReadValue};

/// External labels and rules of one destination.
#[derive(Debug)]
pub struct Rewrite {
    external: Vec<(Box<str>, Box<str>)>,
    rules: Rules,
}

/// Labels of one series as sent: sorted by name, no empty text.
pub type SeriesLabels = Vec<(Box<str>, ReadValue)>;

impl Rewrite {
    /// # Errors
    /// The first rule that does not compile.
    pub fn new(external: &Labels, configs: &[RelabelConfig]) -> Result<Self, RelabelError> {
        let external = external.iter().map(|(n, v)| (n.into(), v.into())).collect();
        Ok(Self { external, rules: Rules::compile(configs)? })
    }

    /// The variables a schema uses, ascending, each with whether the outcome depends on its text.
    #[must_use]
    pub fn variables(&self, schema: &ReadSchema) -> Vec<(u16, bool)> {
        let mut labels = BTreeSet::<(u16, &str)>::new();
        for (name, value) in schema.series.iter().flat_map(|s| s.iter()) {
            if let ReadValue::Var(n) = value {
                labels.insert((*n, name));
            }
        }
        let mut used = BTreeMap::<u16, bool>::new();
        for (n, name) in labels {
            *used.entry(n).or_default() |= self.rules.reads().of_value(name);
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
        let back = |value: &str| {
            let carried = |v: &&ReadValue| matches!(v, ReadValue::Var(n) if stand_in(*n) == value);
            labels.iter().map(|l| &l.1).find(carried).cloned().unwrap_or_else(|| ReadValue::Text(value.into()))
        };
        Some(builder.iter().map(|(n, v)| (n.into(), back(v))).collect())
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
