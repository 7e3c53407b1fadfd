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

#[test]
fn replace_with_two_rules_and_templates_of_names() {
    let rules = [
        replace(&["a", "b"], "f(.*);(.*)r", "a", "b${1}${2}m"),
        replace(&["c", "a"], "(b).*b(.*)ba(.*)", "d", "$1$2$2$3"),
    ];
    assert_labels(&rules, ABC, Some(&[("a", "boobam"), ("b", "bar"), ("c", "baz"), ("d", "boooom")]));
    let name = &[("a", "some-name-value")];
    let two = "some-([^-]+)-([^,]+)";
    assert_labels(&[replace(&["a"], two, "${1}", "${2}")], name, Some(&[("a", "some-name-value"), ("name", "value")]));
    assert_labels(&[replace(&["a"], two, "${1}", "${3}")], name, Some(name));
    assert_labels(&[replace(&["a"], two, "${3}", "${1}")], name, Some(name));
    let blank = replace(&["a"], "(f).*", "$1", "$2");
    assert_labels(&[blank], &[("a", "foo"), ("f", "baz")], Some(&[("a", "foo")]));
    let named = replace(&["a"], "(line1).*(?<second>line2)", "label_$1", "val_${second}");
    let lines = ("a", "line1\nline2");
    assert_labels(&[named], &[lines], Some(&[lines, ("label_line1", "val_line2")]));
    let utf8 = replace(&["a"], "line1.*line2", "utf-8.label${1}", "match${1}");
    assert_labels(&[utf8.clone()], &[lines], Some(&[lines, ("utf-8.label", "match")]));
    let legacy = RelabelConfig { name_validation: NameValidation::Legacy, ..replace(&["a"], "(.*)", "x_$1", "v") };
    assert_labels(&[legacy.clone()], &[("a", "b.c")], Some(&[("a", "b.c")]));
    assert_labels(&[legacy], &[("a", "b_c")], Some(&[("a", "b_c"), ("x_b_c", "v")]));
}

#[test]
fn tags_of_a_registry() {
    let tags = ("__meta_sd_tags", "path:/secret,job:some-job,label:foo=bar");
    let rules = [
        replace(&["__meta_sd_tags"], "(?:.+,|^)path:(/[^,]+).*", "__metrics_path__", "${1}"),
        replace(&["__meta_sd_tags"], "(?:.+,|^)job:([^,]+).*", "job", "${1}"),
        replace(&["__meta_sd_tags"], "(?:.+,|^)label:([^=]+)=([^,]+).*", "${1}", "${2}"),
    ];
    let want = [tags, ("__metrics_path__", "/secret"), ("job", "some-job"), ("foo", "bar")];
    assert_labels(&rules, &[tags], Some(&want));
}

#[test]
fn keep_and_drop_match_the_whole_joined_value() {
    for (action, regex, kept) in [
        (A::Drop, ".*o.*", false),
        (A::Drop, "no-match", true),
        (A::Drop, "f|o", true),
        (A::Drop, "f|foo;bar", false),
        (A::Keep, "no-match", false),
        (A::Keep, "f.*", true),
        (A::Keep, "(?i)FOO;BAR", true),
        (A::Keep, "", false),
    ] {
        let rules = [from(action, &["a", "b"], regex)];
        assert_labels(&rules, ABC, kept.then_some(ABC));
    }
    assert_labels(&[from(A::Keep, &["none"], "")], ABC, Some(ABC));
    let after_drop = [from(A::Drop, &["a"], "foo"), replace(&["a"], "(.*)", "d", "$1")];
    assert_labels(&after_drop, ABC, None);
}

#[test]
fn equality_counts_absent_as_empty() {
    let ports = &[("__tmp_port", "1234"), ("__port1", "1234"), ("__port2", "5678")];
    for (action, target, kept) in [
        (A::KeepEqual, "__port1", true),
        (A::KeepEqual, "__port2", false),
        (A::DropEqual, "__port1", false),
        (A::DropEqual, "__port2", true),
    ] {
        let rule = RelabelConfig { target_label: target.into(), ..from(action, &["__tmp_port"], "(.*)") };
        assert_labels(&[rule], ports, kept.then_some(ports));
    }
    let absent = RelabelConfig { target_label: "x".into(), ..from(A::KeepEqual, &["y"], "(.*)") };
    assert_labels(&[absent], ports, Some(ports));
}

#[test]
fn labelmap_reads_a_snapshot() {
    let map = |regex: &str, replacement: &str| RelabelConfig {
        replacement: replacement.into(),
        ..from(A::LabelMap, &[], regex)
    };
    let before = &[("a", "foo"), ("b1", "bar"), ("b2", "baz")];
    let after = [("a", "foo"), ("b1", "bar"), ("b2", "baz"), ("bar_b1", "bar"), ("bar_b2", "baz")];
    assert_labels(&[map("(b.*)", "bar_${1}")], before, Some(&after));
    let chain = &[("x", "1"), ("xx", "2")];
    assert_labels(&[map("(x+)", "${1}x")], chain, Some(&[("x", "1"), ("xx", "1"), ("xxx", "2")]));
}

#[test]
fn labels_are_kept_and_dropped_by_name() {
    let before = &[("a", "foo"), ("b1", "bar"), ("b2", "baz")];
    assert_labels(&[from(A::LabelKeep, &[], "(b.*)")], before, Some(&before[1..]));
    assert_labels(&[from(A::LabelDrop, &[], "(b.*)")], before, Some(&before[..1]));
    assert_labels(&[from(A::LabelDrop, &[], "^b1$")], before, Some(&[("a", "foo"), ("b2", "baz")]));
}

#[test]
fn case_is_mapped_character_by_character() {
    for (text, lower, upper) in [
        ("bAr123Foo", "bar123foo", "BAR123FOO"),
        ("ΑΣ", "ασ", "ΑΣ"),
        ("straße", "straße", "STRAßE"),
        ("İ", "i", "İ"),
        ("ᾳ", "ᾳ", "ᾼ"),
        ("ᾀ", "ᾀ", "ᾈ"),
        ("ŉ", "ŉ", "ŉ"),
    ] {
        assert_eq!(super::case::lower(text), lower, "{text}");
        assert_eq!(super::case::upper(text), upper, "{text}");
    }
    let lower = RelabelConfig { target_label: "l".into(), ..from(A::Lowercase, &["a", "b"], "(.*)") };
    assert_labels(&[lower], &[("a", "X"), ("b", "Y")], Some(&[("a", "X"), ("b", "Y"), ("l", "x;y")]));
}

#[test]
fn bad_rules_name_the_field() {
    let target = |action, target: &str| RelabelConfig { target_label: target.into(), ..rule(action) };
    let legacy = |c: RelabelConfig| RelabelConfig { name_validation: NameValidation::Legacy, ..c };
    for (config, field, text) in [
        (rule(A::Replace), "target_label", "action replace needs a target_label"),
        (target(A::HashMod, "x"), "modulus", "needs a modulus above 0"),
        (rule(A::Lowercase), "target_label", "action lowercase needs"),
        (legacy(target(A::Replace, "a.b")), "target_label", "\"a.b\" is not a valid label name"),
        (legacy(target(A::Replace, "1${a}")), "target_label", "not a valid label name"),
        (legacy(target(A::Replace, "a${}")), "target_label", "not a valid label name"),
        (legacy(RelabelConfig { replacement: "a-$1".into(), ..rule(A::LabelMap) }), "replacement", "template"),
        (RelabelConfig { replacement: String::new(), ..rule(A::LabelMap) }, "replacement", "template"),
        (RelabelConfig { replacement: "x".into(), ..target(A::Uppercase, "x") }, "replacement", "no meaning"),
        (RelabelConfig { regex: "x".into(), ..target(A::KeepEqual, "x") }, "regex", "source_labels and target_label"),
        (RelabelConfig { separator: "".into(), ..target(A::DropEqual, "x") }, "separator", "no meaning"),
        (target(A::LabelDrop, "x"), "target_label", "takes only regex"),
        (RelabelConfig { source_labels: vec!["a".into()], ..rule(A::LabelKeep) }, "source_labels", "takes only regex"),
        (from(A::Keep, &["a"], "("), "regex", "invalid regular expression: missing closing )"),
        (RelabelConfig { regex: "(".into(), ..target(A::Uppercase, "x") }, "regex", "missing closing )"),
    ] {
        let error = Rules::compile(&[rule(A::LabelMap), config.clone()]).expect_err("bad");
        assert_eq!((error.index, error.error.field()), (1, field), "{config:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
    for good in ["a", "a${1}", "$a", "${a}b1", "_$1$2"] {
        assert!(Rules::compile(&[legacy(target(A::Replace, good))]).is_ok(), "{good}");
    }
}

#[test]
fn reads_follow_values_through_copies() {
    let rules = Rules::compile(&[
        from(A::LabelMap, &[], "m_(.+)"),
        from(A::LabelDrop, &[], "z"),
        from(A::Keep, &["a", "b"], "x.*"),
        RelabelConfig { target_label: "c".into(), ..from(A::KeepEqual, &["d"], "(.*)") },
        RelabelConfig { replacement: "late_$1".into(), ..from(A::LabelMap, &[], "(e)") },
    ])
    .expect("valid");
    let reads = rules.reads();
    for (name, want) in [
        ("a", true),
        ("b", true),
        ("c", true),
        ("d", true),
        ("m_a", true),
        ("m_z", false),
        ("m_m_a", false),
        ("e", false),
        ("z", false),
        ("late_e", false),
    ] {
        assert_eq!(reads.of_value(name), want, "{name}");
    }
    assert!(!Rules::default().reads().of_value("a"));
    assert!(Rules::default().is_empty());
}

mod symbolic {
    use proptest::prelude::*;

    use super::*;

    fn any_rule() -> impl Strategy<Value = RelabelConfig> {
        let name = || prop::sample::select(vec!["a", "b", "c", "x_a", "x_b"]);
        let action = prop::sample::select(vec![
            A::Replace,
            A::Keep,
            A::Drop,
            A::KeepEqual,
            A::DropEqual,
            A::HashMod,
            A::LabelMap,
            A::LabelDrop,
            A::LabelKeep,
            A::Lowercase,
        ]);
        let regex = prop::sample::select(vec!["(.*)", "x_(.+)", "(a|b)", "v[0-4]", "(.).*", "a", "[^b]*"]);
        (action, name(), name(), regex).prop_map(|(action, source, target, regex)| {
            let mut c = rule(action);
            let by_name = matches!(action, A::LabelMap | A::LabelDrop | A::LabelKeep);
            if !by_name {
                c.source_labels = vec![source.into()];
                c.target_label = if matches!(action, A::Keep | A::Drop) { String::new() } else { target.into() };
            }
            if !matches!(action, A::KeepEqual | A::DropEqual) {
                c.regex = regex.into();
            }
            c.modulus = if action == A::HashMod { 3 } else { 0 };
            c
        })
    }

    proptest! {
        /// A value that no rule reads may be any other value: the outcome differs only where it was carried along.
        #[test]
        fn unread_values_are_only_carried(
            rules in prop::collection::vec(any_rule(), 1..6),
            name in prop::sample::select(vec!["a", "b", "c", "x_a", "x_b"]),
        ) {
            let rules = Rules::compile(&rules).expect("valid");
            prop_assume!(!rules.reads().of_value(name));
            let run = |value: &str| {
                let mut b = LabelsBuilder::default();
                for n in ["a", "b", "c", "x_a", "x_b"] {
                    b.set(n, "v3");
                }
                b.set(name, value);
                let verdict = rules.apply(&mut b);
                let labels: Vec<_> = b.iter().map(|(n, v)| (n.to_owned(), v.replace(value, "carried"))).collect();
                (verdict, labels)
            };
            prop_assert_eq!(run("first \u{1}"), run("second \u{2}"));
        }
    }
}
