//! Relabelling: rules that edit a label set or drop it, exactly as Prometheus 3.x does.
//!
//! [`Rules`] is a compiled list, applied to a `LabelsBuilder` in order; [`Reads`] tells which labels' *values* a list
//! may look at, so that everything else can be relabelled symbolically. `go_syntax` restates Go's regular expressions
//! in the Rust dialect, exactly or not at all; [`Pattern`] compiles them.
//!
//! Invariants: patterns match the whole text; a rule never leaves an empty value; rules know nothing of where the
//! labels come from. Deliberately absent: reading YAML (see `config`) and caching of results (see `series`).

mod case;
mod go_class;
mod go_syntax;
mod pattern;
mod rule;
mod template;

#[cfg(test)]
mod go_syntax_tests;
#[cfg(test)]
mod relabel_tests;

use std::fmt;

use crate::config::RelabelConfig;
use crate::model::LabelsBuilder;

pub use go_syntax::SyntaxError;
pub use pattern::{Pattern, PatternError};
pub use rule::{Rule, RuleError, is_valid_label_name};

/// What a list of rules decides about a label set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on, as edited.
    Keep,
    /// Is dropped; the builder is left as the dropping rule found it.
    Drop,
}

/// A compiled list of rules.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    rules: Vec<Rule>,
}

/// A rule that does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelabelError {
    /// Position in the list.
    pub index: usize,
    /// What is wrong with it.
    pub error: RuleError,
}

impl fmt::Display for RelabelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {}: {}: {}", self.index, self.error.field(), self.error)
    }
}

impl std::error::Error for RelabelError {}

impl Rules {
    /// Compiles a list.
    ///
    /// # Errors
    /// The first rule that does not compile; [`Rule::compile`] tells about each.
    pub fn compile(configs: &[RelabelConfig]) -> Result<Self, RelabelError> {
        let compile = |(index, c)| Rule::compile(c).map_err(|error| RelabelError { index, error });
        Ok(Self { rules: configs.iter().enumerate().map(compile).collect::<Result<_, _>>()? })
    }

    /// Whether there is no rule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The rules in order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Edits a label set, rule by rule, until one drops it. prometheus: relabel.go, ProcessBuilder.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> Verdict {
        for rule in &self.rules {
            if rule.apply(labels) == Verdict::Drop {
                return Verdict::Drop;
            }
        }
        Verdict::Keep
    }

    /// Which values the list looks at.
    #[must_use]
    pub fn reads(&self) -> Reads<'_> {
        Reads { rules: &self.rules }
    }
}

/// Tells whose values a list of rules may look at; names are always looked at.
#[derive(Clone, Copy, Debug)]
pub struct Reads<'a> {
    rules: &'a [Rule],
}

impl Reads<'_> {
    /// Whether the outcome may depend on the value of the label of this name, other than by carrying it along
    /// unchanged (under its own name, or copied by `labelmap`). Two non-empty values never differ in effect when this
    /// is `false`; an absent label may differ from a present one.
    #[must_use]
    pub fn of_value(&self, name: &str) -> bool {
        let mut carriers = vec![name.to_owned()];
        for rule in self.rules {
            if carriers.iter().any(|c| rule.reads_value_of(c)) {
                return true;
            }
            for i in 0..carriers.len() {
                if let Some(copy) = rule.copies_to(&carriers[i]).filter(|copy| !carriers.contains(copy)) {
                    carriers.push(copy);
                }
            }
        }
        false
    }
}
