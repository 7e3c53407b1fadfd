//! One relabelling rule: its checks and its effect.

use std::borrow::Cow;
use std::fmt;

use md5::{Digest, Md5};

use super::pattern::{Pattern, PatternError};
use super::template::{Template, has_variable};
use super::{Verdict, case};
use crate::config::{NameValidation, RelabelAction, RelabelConfig};
use crate::model::LabelsBuilder;

/// Why a rule does not compile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// `regex`.
    Regex(PatternError),
    /// `hashmod` without modulus.
    ModulusMissing,
    /// The action needs a `target_label`.
    TargetMissing(&'static str),
    /// Not a label name, or not a template of one.
    TargetInvalid(String),
    /// For `labelmap`: not a label name, or not a template of one.
    ReplacementInvalid(String),
    /// The named field has no meaning for the action.
    Superfluous {
        /// The field's key.
        field: &'static str,
        /// The action's name.
        action: &'static str,
        /// Keys that have a meaning.
        allowed: &'static str,
    },
}

impl RuleError {
    /// Key of the field at fault.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Regex(_) => "regex",
            Self::ModulusMissing => "modulus",
            Self::TargetMissing(_) | Self::TargetInvalid(_) => "target_label",
            Self::ReplacementInvalid(_) => "replacement",
            Self::Superfluous { field, .. } => field,
        }
    }
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Regex(e) => write!(f, "invalid regular expression: {e}"),
            Self::ModulusMissing => f.write_str("action hashmod needs a modulus above 0"),
            Self::TargetMissing(action) => write!(f, "action {action} needs a target_label"),
            Self::TargetInvalid(name) => write!(f, "{name:?} is not a valid label name"),
            Self::ReplacementInvalid(name) => write!(f, "{name:?} is not a valid label name or template of one"),
            Self::Superfluous { action, allowed, .. } => {
                write!(f, "has no meaning for action {action}, which takes only {allowed}")
            }
        }
    }
}

impl std::error::Error for RuleError {}

/// Whether a text may be a label name. prometheus: common/model, ValidationScheme.IsValidLabelName.
#[must_use]
pub fn is_valid_label_name(name: &str, validation: NameValidation) -> bool {
    match validation {
        NameValidation::Utf8 => !name.is_empty(),
        NameValidation::Legacy => {
            let mut bytes = name.bytes();
            bytes.next().is_some_and(|c| c.is_ascii_alphabetic() || c == b'_')
                && bytes.all(|c| c.is_ascii_alphanumeric() || c == b'_')
        }
    }
}

/// A compiled rule.
#[derive(Clone, Debug)]
pub struct Rule {
    source_labels: Vec<String>,
    separator: String,
    action: Action,
}

#[derive(Clone, Debug)]
enum Action {
    Replace(Replace),
    Keep(Pattern),
    Drop(Pattern),
    KeepEqual(String),
    DropEqual(String),
    HashMod { modulus: u64, target: String },
    LabelMap { pattern: Pattern, name: Template },
    LabelDrop(Pattern),
    LabelKeep(Pattern),
    Lowercase(String),
    Uppercase(String),
}

#[derive(Clone, Debug)]
struct Replace {
    pattern: Pattern,
    target: Template,
    value: Template,
    validation: NameValidation,
    /// Groups need not be captured: those referred to are the whole value.
    whole: bool,
}

impl Rule {
    /// Checks and compiles one rule. prometheus: relabel.go, Validate.
    ///
    /// # Errors
    /// See [`RuleError`]. That an explicitly given default is superfluous cannot be seen here.
    pub fn compile(config: &RelabelConfig) -> Result<Self, RuleError> {
        check(config)?;
        let pattern = || Pattern::new(&config.regex).map_err(RuleError::Regex);
        let target = || config.target_label.clone();
        let action = match config.action {
            RelabelAction::Replace => Action::Replace(Replace::new(pattern()?, config)),
            RelabelAction::Keep => Action::Keep(pattern()?),
            RelabelAction::Drop => Action::Drop(pattern()?),
            RelabelAction::KeepEqual => Action::KeepEqual(target()),
            RelabelAction::DropEqual => Action::DropEqual(target()),
            RelabelAction::HashMod => Action::HashMod { modulus: config.modulus, target: target() },
            RelabelAction::LabelMap => {
                let pattern = pattern()?;
                let name = Template::new(&config.replacement, pattern.names());
                Action::LabelMap { pattern, name }
            }
            RelabelAction::LabelDrop => Action::LabelDrop(pattern()?),
            RelabelAction::LabelKeep => Action::LabelKeep(pattern()?),
            RelabelAction::Lowercase => Action::Lowercase(target()),
            RelabelAction::Uppercase => Action::Uppercase(target()),
        };
        pattern()?;
        Ok(Self { source_labels: config.source_labels.clone(), separator: config.separator.clone(), action })
    }

    /// Edits a label set or drops it.
    pub fn apply(&self, labels: &mut LabelsBuilder) -> Verdict {
        let drop_if = |condition| if condition { Verdict::Drop } else { Verdict::Keep };
        match &self.action {
            Action::Drop(pattern) => return drop_if(pattern.is_match(&self.input(labels))),
            Action::Keep(pattern) => return drop_if(!pattern.is_match(&self.input(labels))),
            Action::DropEqual(target) => return drop_if(labels.get(target) == self.input(labels)),
            Action::KeepEqual(target) => return drop_if(labels.get(target) != self.input(labels)),
            Action::Replace(replace) => {
                if let Some((name, value)) = replace.run(&self.input(labels)) {
                    labels.set(&name, &value);
                }
            }
            Action::Lowercase(target) => {
                let value = case::lower(&self.input(labels));
                labels.set(target, &value);
            }
            Action::Uppercase(target) => {
                let value = case::upper(&self.input(labels));
                labels.set(target, &value);
            }
            Action::HashMod { modulus, target } => {
                let value = hash(&self.input(labels)) % modulus;
                labels.set(target, &value.to_string());
            }
            Action::LabelMap { pattern, name } => map(labels, pattern, name),
            Action::LabelDrop(pattern) => labels.retain(|n, _| !pattern.is_match(n)),
            Action::LabelKeep(pattern) => labels.retain(|n, _| pattern.is_match(n)),
        }
        Verdict::Keep
    }

    /// Whether the rule looks at the value of this label.
    #[must_use]
    pub fn reads_value_of(&self, name: &str) -> bool {
        let compares = match &self.action {
            Action::KeepEqual(target) | Action::DropEqual(target) => target == name,
            Action::LabelMap { .. } | Action::LabelDrop(_) | Action::LabelKeep(_) => return false,
            _ => false,
        };
        compares || self.source_labels.iter().any(|s| s == name)
    }

    /// The name to which the rule copies this label without looking at its value.
    #[must_use]
    pub fn copies_to(&self, name: &str) -> Option<String> {
        match &self.action {
            Action::LabelMap { pattern, name: template } => mapped_name(pattern, template, name),
            _ => None,
        }
    }

    /// Values of the source labels, joined; absent labels count as empty.
    fn input<'a>(&self, labels: &'a LabelsBuilder) -> Cow<'a, str> {
        match self.source_labels.as_slice() {
            [] => Cow::Borrowed(""),
            [one] => Cow::Borrowed(labels.get(one)),
            [first, others @ ..] => {
                let mut joined = labels.get(first).to_owned();
                for name in others {
                    joined.push_str(&self.separator);
                    joined.push_str(labels.get(name));
                }
                Cow::Owned(joined)
            }
        }
    }
}

impl Replace {
    fn new(pattern: Pattern, config: &RelabelConfig) -> Self {
        let target = Template::new(&config.target_label, pattern.names());
        let value = Template::new(&config.replacement, pattern.names());
        let whole = pattern.groups_are_whole(target.highest_group().max(value.highest_group()));
        Self { pattern, target, value, validation: config.name_validation, whole }
    }

    /// Name and value to set; an empty value deletes. `None`: no match, or no valid name.
    fn run(&self, input: &str) -> Option<(String, String)> {
        let (mut name, mut value) = (String::new(), String::new());
        if self.whole {
            if !self.pattern.is_match(input) {
                return None;
            }
            self.target.expand_whole(input, &mut name);
            self.value.expand_whole(input, &mut value);
        } else {
            let captures = self.pattern.captures(input)?;
            self.target.expand(input, &captures, &mut name);
            self.value.expand(input, &captures, &mut value);
        }
        is_valid_label_name(&name, self.validation).then_some((name, value))
    }
}

fn mapped_name(pattern: &Pattern, template: &Template, name: &str) -> Option<String> {
    let captures = if pattern.is_match(name) { pattern.captures(name)? } else { return None };
    let mut out = String::new();
    template.expand(name, &captures, &mut out);
    Some(out)
}

/// Reads a snapshot: labels made here are not mapped again.
fn map(labels: &mut LabelsBuilder, pattern: &Pattern, template: &Template) {
    let made: Vec<(String, String)> = labels
        .iter()
        .filter_map(|(name, value)| Some((mapped_name(pattern, template, name)?, value.to_owned())))
        .collect();
    for (name, value) in made {
        labels.set(&name, &value);
    }
}

/// The last eight bytes of the MD5, big-endian. prometheus: relabel.go, HashMod.
fn hash(text: &str) -> u64 {
    let digest: [u8; 16] = Md5::digest(text.as_bytes()).into();
    u128::from_be_bytes(digest) as u64
}

fn check(c: &RelabelConfig) -> Result<(), RuleError> {
    use RelabelAction as A;
    let action = action_name(c.action);
    if c.action == A::HashMod && c.modulus == 0 {
        return Err(RuleError::ModulusMissing);
    }
    let needs_target =
        matches!(c.action, A::Replace | A::HashMod | A::Lowercase | A::Uppercase | A::KeepEqual | A::DropEqual);
    if needs_target {
        if c.target_label.is_empty() {
            return Err(RuleError::TargetMissing(action));
        }
        let template = c.action == A::Replace && has_variable(&c.target_label);
        let valid = if template {
            is_name_template(&c.target_label, c.name_validation)
        } else {
            is_valid_label_name(&c.target_label, c.name_validation)
        };
        if !valid {
            return Err(RuleError::TargetInvalid(c.target_label.clone()));
        }
    }
    if c.action == A::LabelMap && !is_name_template(&c.replacement, c.name_validation) {
        return Err(RuleError::ReplacementInvalid(c.replacement.clone()));
    }
    superfluous(c, action)
}

fn superfluous(c: &RelabelConfig, action: &'static str) -> Result<(), RuleError> {
    use RelabelAction as A;
    let set = [
        ("source_labels", !c.source_labels.is_empty()),
        ("target_label", !c.target_label.is_empty()),
        ("regex", c.regex != "(.*)"),
        ("modulus", c.modulus != 0),
        ("separator", c.separator != ";"),
        ("replacement", c.replacement != "$1"),
    ];
    let (forbidden, allowed): (&[&str], &str) = match c.action {
        A::Lowercase | A::Uppercase => (&["replacement"], "source_labels, separator and target_label"),
        A::KeepEqual | A::DropEqual => {
            (&["regex", "modulus", "separator", "replacement"], "source_labels and target_label")
        }
        A::LabelDrop | A::LabelKeep => {
            (&["source_labels", "target_label", "modulus", "separator", "replacement"], "regex")
        }
        _ => return Ok(()),
    };
    match set.iter().find(|(field, is_set)| *is_set && forbidden.contains(field)) {
        Some((field, _)) => Err(RuleError::Superfluous { field, action, allowed }),
        None => Ok(()),
    }
}

/// Under the old rules: letters, digits and `$name` or `${name}`, not starting with a digit.
/// prometheus: relabel.go, relabelTargetLegacy.
fn is_name_template(text: &str, validation: NameValidation) -> bool {
    if validation == NameValidation::Utf8 {
        return !text.is_empty();
    }
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let starts_with_digit = text.starts_with(|c: char| c.is_ascii_digit());
    let mut pieces = text.split('$');
    let head_ok = pieces.next().unwrap_or("").bytes().all(word);
    let variable_ok = |piece: &str| match piece.strip_prefix('{') {
        Some(braced) => braced
            .split_once('}')
            .is_some_and(|(name, rest)| !name.is_empty() && name.bytes().all(word) && rest.bytes().all(word)),
        None => !piece.is_empty() && piece.bytes().all(word),
    };
    !text.is_empty() && !starts_with_digit && head_ok && pieces.all(variable_ok)
}

/// The field's spelling of an action.
fn action_name(action: RelabelAction) -> &'static str {
    match action {
        RelabelAction::Drop => "drop",
        RelabelAction::DropEqual => "dropequal",
        RelabelAction::HashMod => "hashmod",
        RelabelAction::Keep => "keep",
        RelabelAction::KeepEqual => "keepequal",
        RelabelAction::LabelDrop => "labeldrop",
        RelabelAction::LabelKeep => "labelkeep",
        RelabelAction::LabelMap => "labelmap",
        RelabelAction::Lowercase => "lowercase",
        RelabelAction::Replace => "replace",
        RelabelAction::Uppercase => "uppercase",
    }
}
