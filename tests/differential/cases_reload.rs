//! Behaviours of reloads: what a changed job does to its series, and to nobody else's.

use crate::case::{Case, bare, bodies, case};
use crate::support::answer::Answer;

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [jobs(), rules(), limits(), requests(), targets()].concat()
}

/// What 2.42 has no settings for.
pub fn newer_cases() -> Vec<Case> {
    vec![
        case("reload-track-timestamps", bodies(&[TIMED]))
            .then_jobs(&[("reload-track-timestamps", "track_timestamps_staleness: true")]),
        echo("reload-compression", "enable_compression: false"),
        one("reload-fallback", "", "fallback_scrape_protocol: PrometheusText0.0.4"),
        bare("reload-no-targets", 0)
            .job("reload-no-targets", "", None)
            .script("/reload-no-targets", bodies(&[A]))
            .then_jobs(&[("reload-no-targets", "file_sd_configs:\n- files: [nothing-here.json]")]),
        one("reload-validation", "", "metric_name_validation_scheme: legacy"),
        there_and_back("reload-extra-metrics", "extra_scrape_metrics: true", "extra_scrape_metrics: false"),
        there_and_back("reload-fewer-limits", "extra_scrape_metrics: true\nsample_limit: 9", "sample_limit: 9"),
        case("reload-extra-metrics-down", vec![Answer::status("500 Internal Server Error", "no")])
            .with("extra_scrape_metrics: true")
            .then_jobs(&[("reload-extra-metrics-down", "")]),
    ]
}

const A: &str = "m{k=\"1\"} 1\nm{k=\"2\",job=\"j\"} 2\nn 3\n";
const TIMED: &str = "m 1\nt 2 @T0000001000@\n";

/// A job whose lines become these with a reload.
fn one(name: &str, before: &str, after: &str) -> Case {
    case(name, bodies(&[A])).with(before).then_jobs(&[(name, after)])
}

/// The same, and then back to what it was.
fn there_and_back(name: &str, before: &str, after: &str) -> Case {
    one(name, before, after).later().then_jobs(&[(name, before)])
}

fn jobs() -> Vec<Case> {
    let fixed = "relabel_configs:\n- {target_label: job, replacement: fixed}";
    vec![
        one("reload-same", "", ""),
        case("reload-renamed", bodies(&[A])).then_jobs(&[("reload-renamed-new", "")]),
        case("reload-renamed-same-labels", bodies(&[A]))
            .with(fixed)
            .then_jobs(&[("reload-renamed-same-labels-new", fixed)]),
        case("reload-removed", bodies(&[A])).then_jobs(&[]),
        case("reload-removed-and-back", bodies(&[A]))
            .then_jobs(&[])
            .later()
            .then_jobs(&[("reload-removed-and-back", "")]),
        case("reload-one-more", bodies(&[A])).then_jobs(&[("reload-one-more", ""), ("reload-one-more-new", "")]),
        case("reload-moves-slower", bodies(&[A])).with(fixed).then_jobs(&[(
            "reload-moves-slower-new",
            "scrape_interval: 3s\nrelabel_configs:\n- {target_label: job, replacement: fixed}",
        )]),
        case("reload-moves-faster", bodies(&[A]))
            .with("scrape_interval: 3s\nrelabel_configs:\n- {target_label: job, replacement: fixed}")
            .then_jobs(&[("reload-moves-faster-new", fixed)]),
        one("reload-interval", "scrape_interval: 2s", "scrape_interval: 1s"),
        one("reload-timeout", "", "scrape_timeout: 500ms"),
    ]
}

fn rules() -> Vec<Case> {
    vec![
        there_and_back(
            "reload-metric-drop",
            "",
            "metric_relabel_configs:\n- {source_labels: [__name__], regex: n, action: drop}",
        ),
        there_and_back(
            "reload-metric-rename",
            "",
            "metric_relabel_configs:\n- {source_labels: [__name__], regex: n, target_label: __name__, replacement: o}",
        ),
        one(
            "reload-metric-same-result",
            "",
            "metric_relabel_configs:\n- {source_labels: [__name__], regex: z, action: drop}",
        ),
        there_and_back("reload-honor-labels", "", "honor_labels: true"),
        one("reload-target-label", "", "relabel_configs:\n- {target_label: zone, replacement: z}"),
        one("reload-target-drop", "", "relabel_configs:\n- {action: drop, source_labels: [case], regex: '.*'}"),
        one(
            "reload-target-same-result",
            "",
            "relabel_configs:\n- {action: drop, source_labels: [case], regex: nothing}",
        ),
        one("reload-target-meta", "", "relabel_configs:\n- {target_label: __tmp_x, replacement: y}"),
        one(
            "reload-target-broken",
            "",
            "relabel_configs:\n- {target_label: __scrape_interval__, replacement: nonsense}",
        ),
        case("reload-honor-timestamps", bodies(&[TIMED]))
            .then_jobs(&[("reload-honor-timestamps", "honor_timestamps: false")]),
    ]
}

fn limits() -> Vec<Case> {
    let two = |limit: &str| {
        format!(
            "{limit}static_configs:\n- targets: ['@ADDR@']\n  labels: {{case: reload-target-limit, node: a}}\n- targets: ['@ADDR@']\n  labels: {{case: reload-target-limit, node: b}}\n"
        )
    };
    vec![
        there_and_back("reload-sample-limit", "", "sample_limit: 2"),
        there_and_back("reload-label-limit", "", "label_limit: 4"),
        there_and_back("reload-body-limit", "", "body_size_limit: 10B"),
        one("reload-label-limit-wide", "", "label_limit: 40"),
        case("reload-target-limit", bodies(&[A]))
            .with(&two(""))
            .then_jobs(&[("reload-target-limit", &two("target_limit: 1\n"))])
            .later()
            .then_jobs(&[("reload-target-limit", &two(""))])
            .reporting(2),
    ]
}

/// A job that is asked otherwise after a reload.
fn echo(name: &str, after: &str) -> Case {
    case(name, vec![Answer::echo(&["authorization", "accept-encoding"])]).then_jobs(&[(name, after)])
}

fn requests() -> Vec<Case> {
    vec![
        echo("reload-params", "params: {a: [b]}"),
        echo("reload-auth", "basic_auth: {username: u, password: p}"),
        one("reload-path", "", "metrics_path: '/@S@/reload-path/other'")
            .script("/reload-path/other", bodies(&["n 4\nz 1\n"])),
        one("reload-scheme", "", "scheme: https"),
        one("reload-failing", "", "metrics_path: '/@S@/nowhere'"),
    ]
}

fn targets() -> Vec<Case> {
    let groups = |name: &str, nodes: &[&str]| {
        let mut yaml = String::from("static_configs:\n");
        for node in nodes {
            yaml.push_str(&format!("- targets: ['@ADDR@']\n  labels: {{case: {name}, node: {node}}}\n"));
        }
        yaml
    };
    let from_to = |name: &str, before: &[&str], after: &[&str]| {
        case(name, bodies(&[A])).with(&groups(name, before)).then_jobs(&[(name, &groups(name, after))])
    };
    let file = |name: &str| format!(r#"[{{"targets":["@ADDR@"],"labels":{{"case":"{name}"}}}}]"#);
    vec![
        from_to("reload-target-added", &["a"], &["a", "b"]),
        from_to("reload-target-removed", &["a", "b"], &["a"]).reporting(2),
        from_to("reload-target-replaced", &["a"], &["b"]),
        from_to("reload-target-order", &["a", "b"], &["b", "a"]).reporting(2),
        from_to("reload-target-and-back", &["a"], &["b"])
            .later()
            .then_jobs(&[("reload-target-and-back", &groups("reload-target-and-back", &["a"]))]),
        bare("reload-static-to-file", 0)
            .job("reload-static-to-file", "", Some(("reload-static-to-file.json", &file("reload-static-to-file"))))
            .script("/reload-static-to-file", bodies(&[A]))
            .then_jobs(&[("reload-static-to-file", "file_sd_configs:\n- files: [reload-static-to-file.json]")]),
    ]
}
