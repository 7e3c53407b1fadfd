//! Behaviours of sets of targets: shared layouts, variables, changes of target files, moves between jobs.

use crate::case::{Case, bare, bodies, case};
use crate::support::answer::Answer;

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [sharing(), changing()].concat()
}

const A: &str = "# TYPE m gauge\nm{k=\"1\"} 1\nm{k=\"2\"} 2\nn 3\n";

fn sharing() -> Vec<Case> {
    let node = |name: &str, v: &str| {
        format!("m{{node=\"{name}\",k=\"1\"}} {v}\nm{{node=\"{name}\",k=\"2\"}} 2\nn{{node=\"{name}\"}} 3\n")
    };
    vec![
        case("shared-layout-diverges", bodies(&[A, A, A, A]))
            .targets(&[("/shared-layout-diverges", ", node: a"), ("/shared-layout-diverges/other", ", node: b")])
            .script("/shared-layout-diverges/other", bodies(&[A, "# TYPE m gauge\nm{k=\"1\"} 1\nn 3\n", A, "# TYPE m gauge\nm{k=\"1\"} 1\nm{k=\"3\"} 2\nn 4\n"]))
            .scrapes(5),
        case("body-names-its-target", bodies(&[node("x1", "1"), node("x1", "2"), node("x1", "3")]))
            .targets(&[("/body-names-its-target", ", zone: a"), ("/body-names-its-target/other", ", zone: b"), ("/body-names-its-target/third", ", zone: c")])
            .script("/body-names-its-target/other", bodies(&[node("x2", "5"), node("x22", "6"), node("x2", "7")]))
            .script("/body-names-its-target/third", bodies(&[node("", "5"), node("a\\\"b", "6"), node("x1", "7")])),
        case("body-variable-splits", bodies(&[node("p", "1"), node("p", "2"), node("p", "3").replacen("\"p\"", "\"q\"", 1), node("q", "4")])),
        case("body-variable-meets-rule", bodies(&[node("p", "1"), node("q", "2"), node("p", "3")]))
            .with("metric_relabel_configs:\n- {source_labels: [node, k], regex: 'q;2', action: drop}\n- {source_labels: [node], target_label: copy, replacement: 'c-$1'}")
            .targets(&[("/body-variable-meets-rule", ", zone: a"), ("/body-variable-meets-rule/other", ", zone: b")])
            .script("/body-variable-meets-rule/other", bodies(&[node("q", "1"), node("q", "2"), node("r", "3")])),
        case("same-target-twice", bodies(&[A, A])).with("static_configs:\n- targets: ['@ADDR@', '@ADDR@']\n  labels: {case: same-target-twice}"),
        case("no-targets-beside", bodies(&[A])).with("relabel_configs:\n- {source_labels: [node], regex: gone, action: drop}").targets(&[("/no-targets-beside", ", node: a"), ("/nowhere", ", node: gone")]).reporting(1),
    ]
}

/// A target file with one group.
fn file(case: &str, path: &str, labels: &str) -> String {
    format!(r#"[{{"targets":["@ADDR@"],"labels":{{"case":"{case}","__metrics_path__":"/@S@{path}"{labels}}}}}]"#)
}

/// A job over one target file.
fn from_file(name: &str) -> String {
    format!("file_sd_configs:\n- files: ['{name}.json']")
}

fn changing() -> Vec<Case> {
    let job = |case: Case, name: &str, contents: &str| {
        case.job(name, &from_file(name), Some((&format!("{name}.json"), contents)))
    };
    let one = |name: &str, before: &str, after: &str| {
        job(bare(name, 0), name, before).then_file(&format!("{name}.json"), after)
    };
    vec![
        one("sd-vanishes", &file("sd-vanishes", "/sd-vanishes", ""), "[]").script("/sd-vanishes", bodies(&[A])),
        one(
            "sd-path-changes",
            &file("sd-path-changes", "/sd-path-changes/1", ""),
            &file("sd-path-changes", "/sd-path-changes/2", ""),
        )
        .script("/sd-path-changes/1", bodies(&[A]))
        .script("/sd-path-changes/2", bodies(&["m{k=\"2\"} 2\nz 9\n"])),
        one("sd-same-body", &file("sd-same-body", "/sd-same-body/1", ""), &file("sd-same-body", "/sd-same-body/2", ""))
            .script("/sd-same-body/1", bodies(&[A]))
            .script("/sd-same-body/2", bodies(&[A])),
        one(
            "sd-label-changes",
            &file("sd-label-changes", "/sd-label-changes", r#","v":"1""#),
            &file("sd-label-changes", "/sd-label-changes", r#","v":"2""#),
        )
        .script("/sd-label-changes", bodies(&[A])),
        one(
            "sd-to-failing",
            &file("sd-to-failing", "/sd-to-failing/1", ""),
            &file("sd-to-failing", "/sd-to-failing/2", ""),
        )
        .script("/sd-to-failing/1", bodies(&[A]))
        .script("/sd-to-failing/2", vec![Answer::status("500 No", "")]),
        one(
            "sd-unchanged",
            &file("sd-unchanged", "/sd-unchanged", ""),
            &format!("{}\n", file("sd-unchanged", "/sd-unchanged", "")),
        )
        .script("/sd-unchanged", bodies(&[A])),
        one("sd-broken-file", &file("sd-broken-file", "/sd-broken-file", ""), "[{")
            .script("/sd-broken-file", bodies(&[A])),
        one("sd-failing-vanishes", &file("sd-failing-vanishes", "/sd-failing-vanishes", ""), "[]")
            .script("/sd-failing-vanishes", vec![Answer::status("500 No", "")]),
        one("sd-times-vanish", &file("sd-times-vanish", "/sd-times-vanish", ""), "[]")
            .script("/sd-times-vanish", bodies(&["a 1\nb 2 @T0000005000@\n"])),
        job(
            job(bare("sd-moves", 0), "sd-moves-from", &file("sd-moves", "/sd-moves", r#","job":"moved""#)),
            "sd-moves-to",
            "[]",
        )
        .then_file("sd-moves-from.json", "[]")
        .then_file("sd-moves-to.json", &file("sd-moves", "/sd-moves", r#","job":"moved""#))
        .script("/sd-moves", bodies(&[A])),
        one(
            "sd-one-of-two",
            &two_targets("sd-one-of-two"),
            &file("sd-one-of-two", "/sd-one-of-two/1", r#","node":"1""#),
        )
        .script("/sd-one-of-two/1", bodies(&[A]))
        .script("/sd-one-of-two/2", bodies(&[A]))
        .reporting(2),
        one("sd-one-more", &file("sd-one-more", "/sd-one-more/1", r#","node":"1""#), &two_targets("sd-one-more"))
            .script("/sd-one-more/1", bodies(&[A]))
            .script("/sd-one-more/2", bodies(&[A])),
    ]
}

/// A target file with two groups of one target.
fn two_targets(case: &str) -> String {
    let group = |n: u32| file(case, &format!("/{case}/{n}"), &format!(r#","node":"{n}""#));
    let (first, second) = (group(1), group(2));
    format!("{},{}", first.trim_end_matches(']'), second.trim_start_matches('[')).replace("]]", "]")
}
