//! From a series text to the final label set: target labels, conflicts, metric relabelling, checks and limits.

use std::borrow::Cow;

use super::error::{SeriesError, cut};
use super::pool::{PoolRules, Terms};
use crate::config::NameValidation;
use crate::exposition::labels::{Exposed, METRIC_NAME, decode};
use crate::exposition::text::Kind;
use crate::model::{LabelValue, LabelsBuilder};
use crate::relabel::{Verdict, is_valid_label_name};

/// A value of a final label set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Text(Cow<'a, str>),
    Var(u16),
}

impl Value<'_> {
    pub fn as_label(&self) -> LabelValue<'_> {
        match self {
            Self::Text(t) => LabelValue::Text(t),
            Self::Var(v) => LabelValue::Var(*v),
        }
    }
}

/// A final label set, sorted by name.
pub(super) type Pairs<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// What becomes of a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Drop,
    Fail(SeriesError),
}

/// Facts about exposed labels that a sorted list of unique names cannot hold.
#[derive(Default)]
struct Oddities {
    /// Names that occur more than once.
    twice: Vec<String>,
    /// Names, or the metric name, that were not UTF-8.
    broken: Vec<String>,
}

/// Composes the final label set of a series into `out`. prometheus: scrape.go, mutateSampleLabels and append.
pub(super) fn compose<'a>(terms: &'a Terms, series: &'a [u8], kind: Kind, out: &mut Pairs<'a>) -> Fate {
    let mut exposed = Vec::new();
    decode(series, kind, &mut exposed);
    let mut odd = Oddities::default();
    let present = gather(exposed, out, &mut odd);
    for (_, value) in out.iter_mut() {
        if let Value::Text(text) = value
            && let Some(variable) = terms.variable_of(text)
        {
            *value = Value::Var(variable);
        }
    }
    attach(terms, &present, out);
    let rules = &*terms.rules;
    if !rules.rules.is_empty() && !relabel(terms, out, &mut odd) {
        return Fate::Drop;
    }
    if out.is_empty() {
        return Fate::Drop;
    }
    match check(rules, out, &odd) {
        Ok(()) => Fate::Keep,
        Err(e) => Fate::Fail(e),
    }
}

/// Sorts exposed labels into `out` without empty ones; gives the names that were present but empty.
/// prometheus: labels.Builder, Reset deletes every name that has an empty value.
fn gather<'a>(mut exposed: Vec<Exposed<'a>>, out: &mut Pairs<'a>, odd: &mut Oddities) -> Vec<Cow<'a, str>> {
    out.clear();
    exposed.sort_by(|a, b| a.name.cmp(&b.name));
    let mut empty: Vec<Cow<'a, str>> = Vec::new();
    let mut i = 0;
    while i < exposed.len() {
        let run = exposed[i..].iter().take_while(|e| e.name == exposed[i].name).count();
        let same = &mut exposed[i..i + run];
        i += run;
        for e in same.iter().filter(|e| e.broken) {
            odd.broken.push(if e.name == METRIC_NAME { e.value.to_string() } else { e.name.to_string() });
        }
        let name = same[0].name.clone();
        if same.iter().any(|e| e.value.is_empty()) {
            empty.push(name);
            continue;
        }
        if run > 1 {
            odd.twice.push(name.to_string());
        }
        let value = std::mem::take(&mut same[0].value);
        out.push((name, Value::Text(value)));
    }
    empty
}

fn place(out: &Pairs<'_>, name: &str) -> Result<usize, usize> {
    out.binary_search_by(|(n, _)| (**n).cmp(name))
}

/// Adds the target labels. prometheus: scrape.go, mutateSampleLabels, resolveConflictingExposedLabels.
fn attach<'a>(terms: &'a Terms, empty: &[Cow<'a, str>], out: &mut Pairs<'a>) {
    let value = |i: usize| match &terms.fixed[i] {
        Some(text) => Value::Text(Cow::Borrowed(&**text)),
        None => Value::Var(i as u16),
    };
    let mut conflicts: Vec<(&'a str, Value<'a>)> = Vec::new();
    for (i, name) in terms.names.iter().enumerate() {
        match place(out, name) {
            Ok(at) if !terms.rules.honor_labels => {
                let exposed = std::mem::replace(&mut out[at].1, value(i));
                conflicts.push((name, exposed));
            }
            Ok(_) => {}
            Err(_) if terms.rules.honor_labels && empty.iter().any(|e| **e == **name) => {}
            Err(at) => out.insert(at, (Cow::Borrowed(&**name), value(i))),
        }
    }
    conflicts.sort_by_key(|(name, _)| name.len());
    for (name, exposed) in conflicts {
        let mut renamed = format!("exported_{name}");
        loop {
            match place(out, &renamed) {
                Ok(_) => renamed.insert_str(0, "exported_"),
                Err(at) => {
                    out.insert(at, (Cow::Owned(renamed), exposed));
                    break;
                }
            }
        }
    }
}

/// Runs the rules with sentinels in place of variables; `false`: dropped.
fn relabel<'a>(terms: &'a Terms, out: &mut Pairs<'a>, odd: &mut Oddities) -> bool {
    let mut builder = LabelsBuilder::default();
    for (name, value) in out.iter() {
        match value {
            Value::Text(t) => builder.set(name, t),
            Value::Var(v) => builder.set(name, &terms.sentinels[usize::from(*v)]),
        }
    }
    for rule in terms.rules.rules.rules() {
        if rule.apply(&mut builder) == Verdict::Drop {
            return false;
        }
        // Deleting a name deletes all its values, even if a later rule sets it again.
        odd.twice.retain(|name| !builder.get(name).is_empty());
    }
    out.clear();
    out.extend(builder.iter().map(|(n, v)| {
        let value = terms.variable_of(v).map_or_else(|| Value::Text(Cow::Owned(v.to_owned())), Value::Var);
        (Cow::Owned(n.to_owned()), value)
    }));
    true
}

fn check(rules: &PoolRules, out: &Pairs<'_>, odd: &Oddities) -> Result<(), SeriesError> {
    let Ok(at) = place(out, METRIC_NAME) else { return Err(SeriesError::NameMissing) };
    // `labelmap` may copy a target label there; its text is then taken as it is.
    let (metric, known) = match &out[at].1 {
        Value::Text(t) => (&**t, true),
        Value::Var(_) => ("", false),
    };
    let broken = |text: &str| odd.broken.iter().any(|b| b == text);
    let valid_metric = match rules.validation {
        NameValidation::Utf8 => true,
        NameValidation::Legacy => !known || is_legacy_metric(metric),
    };
    let names_valid = out.iter().all(|(n, _)| is_valid_label_name(n, rules.validation) && !broken(n));
    if !valid_metric || broken(metric) || !names_valid {
        return Err(SeriesError::InvalidName { series: cut(&print(out)) });
    }
    limits(rules, metric, out)?;
    match odd.twice.first() {
        Some(name) => Err(SeriesError::DuplicateLabel { name: name.clone() }),
        None => Ok(()),
    }
}

fn is_legacy_metric(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_' || c == b':')
        && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_' || c == b':')
}

/// prometheus: scrape.go, verifyLabelLimits.
fn limits(rules: &PoolRules, metric: &str, out: &Pairs<'_>) -> Result<(), SeriesError> {
    let over = |length: usize, limit: u64| limit > 0 && length as u64 > limit;
    if over(out.len(), rules.label_limit) {
        return Err(SeriesError::LabelLimit { metric: cut(metric), count: out.len(), limit: rules.label_limit });
    }
    for (name, value) in out {
        if over(name.len(), rules.name_length_limit) {
            let limit = rules.name_length_limit;
            return Err(SeriesError::LabelNameLength {
                metric: cut(metric),
                name: cut(name),
                length: name.len(),
                limit,
            });
        }
        // Variables are within the limit: longer target labels are not variables.
        let Value::Text(text) = value else { continue };
        if over(text.len(), rules.value_length_limit) {
            return Err(SeriesError::LabelValueLength {
                metric: cut(metric),
                name: cut(name),
                value: cut(text),
                length: text.len(),
                limit: rules.value_length_limit,
            });
        }
    }
    Ok(())
}

fn print(out: &Pairs<'_>) -> String {
    let list: Vec<String> = out
        .iter()
        .map(|(n, v)| match v {
            Value::Text(t) => format!("{n}={t:?}"),
            Value::Var(_) => format!("{n}=.."),
        })
        .collect();
    format!("{{{}}}", list.join(", "))
}
