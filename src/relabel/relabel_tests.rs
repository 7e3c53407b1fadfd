//! Vectors for relabelling, most of them run against Prometheus.

use super::*;
use crate::config::{NameValidation, RelabelAction as A};
use crate::model::Labels;

fn rule(action: A) -> RelabelConfig {
    RelabelConfig {
        source_labels: Vec::new(),
        separator: ";".into(),
        regex: "(.*)".into(),
        modulus: 0,
        target_label: String::new(),
        replacement: "$1".into(),
        action,
        name_validation: NameValidation::Utf8,
    }
}

#[test]
fn hashmod_is_the_end_of_md5() {
    for (text, modulus, want) in [
        ("10.0.0.1:9100", 8, "5"),
        ("10.0.0.1:9100", 1000, "645"),
        ("10.0.0.1:9100", u64::MAX, "5548061184049187645"),
        ("", 8, "6"),
        ("", 1000, "958"),
        ("a;b", 8, "2"),
        ("a;b", 1000, "74"),
    ] {
        let rules = Rules::compile(&[RelabelConfig {
            source_labels: vec!["x".into()],
            target_label: "h".into(),
            modulus,
            ..rule(A::HashMod)
        }]);
        let mut b = LabelsBuilder::new(&Labels::from_pairs([("x", text)]));
        assert_eq!(rules.expect("valid").apply(&mut b), Verdict::Keep);
        assert_eq!(b.get("h"), want, "{text} mod {modulus}");
    }
}

fn apply(rules: &[RelabelConfig], labels: &[(&str, &str)]) -> Option<Vec<(String, String)>> {
    let rules = Rules::compile(rules).expect("valid rules");
    let mut b = LabelsBuilder::new(&Labels::from_pairs(labels.iter().copied()));
    match rules.apply(&mut b) {
        Verdict::Drop => None,
        Verdict::Keep => Some(b.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect()),
    }
}

fn assert_labels(rules: &[RelabelConfig], before: &[(&str, &str)], after: Option<&[(&str, &str)]>) {
    let want = after.map(|l| {
        let mut l: Vec<_> = l.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        l.sort();
        l
    });
    assert_eq!(apply(rules, before), want, "{rules:?}");
}

fn from(action: A, source: &[&str], regex: &str) -> RelabelConfig {
    RelabelConfig {
        source_labels: source.iter().map(|s| (*s).to_owned()).collect(),
        regex: regex.into(),
        ..rule(action)
    }
}

fn replace(source: &[&str], regex: &str, target: &str, replacement: &str) -> RelabelConfig {
    RelabelConfig { target_label: target.into(), replacement: replacement.into(), ..from(A::Replace, source, regex) }
}

const ABC: &[(&str, &str)] = &[("a", "foo"), ("b", "bar"), ("c", "baz")];

#[test]
fn replace_sets_joins_and_deletes() {
    let got = [("a", "foo"), ("b", "bar"), ("c", "baz"), ("d", "ch-ch")];
    assert_labels(&[replace(&["a"], "f(.*)", "d", "ch${1}-ch${1}")], ABC, Some(&[ABC, &[("d", "choo-choo")]].concat()));
    let joined = replace(&["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m");
    assert_labels(&[joined], ABC, Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz")]));
    assert_labels(&[replace(&[], "(.*)", "d", "ch-ch")], ABC, Some(&got));
    assert_labels(&[replace(&["a"], "f", "b", "bar2")], ABC, Some(ABC));
    assert_labels(&[replace(&["a"], "x|(foo)", "b", "$2")], ABC, Some(&[("a", "foo"), ("c", "baz")]));
    assert_labels(&[replace(&["missing"], "(.*)", "b", "$1")], ABC, Some(&[("a", "foo"), ("c", "baz")]));
    assert_labels(&[replace(&["a"], "foo", "b", "${bad")], ABC, Some(&[("a", "foo"), ("b", "${bad"), ("c", "baz")]));
    assert_labels(
        &[replace(&["a"], "(?P<n>f)oo", "b", "$n$1x$$9")],
        ABC,
        Some(&[("a", "foo"), ("b", "f$9"), ("c", "baz")]),
    );
}
