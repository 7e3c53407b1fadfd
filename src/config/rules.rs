//! Relabelling rules out of YAML; they are compiled here so that errors carry their place.

use super::errors::At;
use super::fields::{Fields, suggestion};
use super::node::{Kind, Node};
use super::types::{NameValidation, RelabelAction, RelabelConfig};
use crate::relabel::Rule;

pub(super) const ACTIONS: [(&str, RelabelAction); 11] = [
    ("drop", RelabelAction::Drop),
    ("dropequal", RelabelAction::DropEqual),
    ("hashmod", RelabelAction::HashMod),
    ("keep", RelabelAction::Keep),
    ("keepequal", RelabelAction::KeepEqual),
    ("labeldrop", RelabelAction::LabelDrop),
    ("labelkeep", RelabelAction::LabelKeep),
    ("labelmap", RelabelAction::LabelMap),
    ("lowercase", RelabelAction::Lowercase),
    ("replace", RelabelAction::Replace),
    ("uppercase", RelabelAction::Uppercase),
];

/// The list of rules under a key. prometheus: relabel.go, UnmarshalYAML and Validate.
pub(super) fn rules(f: &Fields<'_>, key: &'static str, validation: NameValidation) -> Vec<RelabelConfig> {
    let Some((at, list)) = f.list(key) else { return Vec::new() };
    list.iter().enumerate().filter_map(|(i, node)| rule(&at.index(i, node.line), node, validation)).collect()
}

fn rule(at: &At<'_>, node: &Node, validation: NameValidation) -> Option<RelabelConfig> {
    if node.kind == Kind::Null {
        at.error("is empty; a rule is a map, for example {source_labels: [a], target_label: b}");
        return None;
    }
    let f = Fields::new(at, node)?;
    let source_labels = f.texts("source_labels");
    if source_labels.iter().flatten().any(String::is_empty) {
        f.error("source_labels", "a label name is empty");
    }
    let action = action(&f);
    let config = RelabelConfig {
        source_labels: source_labels.unwrap_or_default(),
        separator: f.text_or("separator", ";"),
        regex: f.text_or("regex", "(.*)"),
        modulus: f.count("modulus").unwrap_or(0),
        target_label: f.text_or("target_label", ""),
        replacement: f.text_or("replacement", "$1"),
        action: action.unwrap_or_default(),
        name_validation: validation,
    };
    match Rule::compile(&config) {
        _ if action.is_none() => {}
        Err(e) => {
            let field = e.field();
            let found = if field == "regex" { format!("{:?}: ", config.regex) } else { String::new() };
            f.error(field, format!("{found}{e}"));
        }
        Ok(_) => explicit_defaults(&f, config.action),
    }
    f.finish(|_| None);
    Some(config)
}

/// A superfluous field is refused even when it spells out the default.
fn explicit_defaults(f: &Fields<'_>, action: RelabelAction) {
    let forbidden = match action {
        RelabelAction::KeepEqual | RelabelAction::DropEqual => "regex",
        RelabelAction::LabelDrop | RelabelAction::LabelKeep => "source_labels",
        _ => return,
    };
    if f.has(forbidden) {
        f.error(forbidden, "has no meaning for this action; remove it");
    }
}

/// `None`: reported; what the other fields should be is then unknown.
fn action(f: &Fields<'_>) -> Option<RelabelAction> {
    let Some(item) = f.item("action") else { return Some(RelabelAction::Replace) };
    let text = item.text()?;
    let lower = text.to_lowercase();
    match ACTIONS.iter().find(|(name, _)| *name == lower) {
        Some((_, action)) => Some(*action),
        None => {
            let names = ACTIONS.map(|(name, _)| name);
            let near = suggestion(&lower, &names);
            item.at.error(format!("unknown action {text:?}, one of {}{near}", names.join(", ")));
            None
        }
    }
}
