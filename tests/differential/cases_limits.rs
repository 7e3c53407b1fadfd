//! Behaviours of limits: hit in the middle, then back.

use crate::case::{Case, bodies, case};
use crate::cases_text::series;
use crate::support::answer::{Answer, gzip};

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [sample_limit(), label_limits(), other_limits()].concat()
}

fn sample_limit() -> Vec<Case> {
    let m = |n| series(n, |_| true);
    vec![
        case("sample-limit", bodies(&[m(5), m(6), m(5), m(7), m(3), m(5)])).with("sample_limit: 5"),
        case("sample-limit-twice-over", bodies(&[m(5), m(8), m(8), m(5)])).with("sample_limit: 5"),
        case("sample-limit-others", bodies(&[m(4), format!("x 1\ny 2\n{}", m(4)), m(4)])).with("sample_limit: 5"),
        case("sample-limit-first", bodies(&[m(9), m(5)])).with("sample_limit: 5"),
        case("sample-limit-relabelled", bodies(&[m(8), m(9), m(8)]))
            .with("sample_limit: 5\nmetric_relabel_configs:\n- {source_labels: [i], regex: '[0-2]', action: drop}"),
        case("sample-limit-duplicates", bodies(&[m(5), format!("{}m{{i=\"4\"}} 4\n", m(5)), m(5)]))
            .with("sample_limit: 5"),
        case("sample-limit-times", bodies(&["a 1 @T0000001000@\nb 2\n", "a 1 @T0000002000@\nb 2\nc 3\n", "b 2\n"]))
            .with("sample_limit: 2"),
        case("sample-limit-and-error", bodies(&[m(5), format!("{}?\n", m(6)), m(5)])).with("sample_limit: 5"),
    ]
}

fn label_limits() -> Vec<Case> {
    let ok = "a 1\nb{x=\"y\"} 2\n";
    vec![
        case("label-limit", bodies(&[ok, "a 1\nb{x=\"y\",z=\"1\",w=\"2\"} 2\n", ok])).with("label_limit: 5"),
        case(
            "label-limit-cached",
            bodies(&["a 1\n", "b{x=\"y\",z=\"1\",w=\"2\"} 2\na 1\n", "b{x=\"y\",z=\"1\",w=\"2\"} 2\n", ok]),
        )
        .with("label_limit: 5"),
        case("label-name-length", bodies(&[ok, "a 1\nb{eleven_long=\"y\"} 2\n", ok]))
            .with("label_name_length_limit: 10"),
        case("label-value-length", bodies(&[ok, &format!("a 1\nb{{x=\"{}\"}} 2\n", "v".repeat(41)), ok]))
            .with("label_value_length_limit: 40"),
        case("label-value-length-name", bodies(&[ok, &format!("a 1\n{} 2\n", "n".repeat(41)), ok]))
            .with("label_value_length_limit: 40"),
        case("label-limit-after-rules", bodies(&[ok, "b{x=\"y\",z=\"1\",w=\"2\"} 2\n", ok]))
            .with("label_limit: 5\nmetric_relabel_configs:\n- {regex: 'z|w', action: labeldrop}"),
        case("label-limit-report", bodies(&["a 1\n"])).with("label_limit: 3"),
    ]
}

fn other_limits() -> Vec<Case> {
    let body = |n: usize| format!("a 1\n#{}\n", "c".repeat(n - 6));
    vec![
        case("body-limit", bodies(&[body(99), body(100), body(99), body(101), body(50)])).with("body_size_limit: 100B"),
        case(
            "body-limit-gzip",
            vec![
                Answer::encoded("gzip", gzip(body(90))),
                Answer::encoded("gzip", gzip(body(5_000))),
                Answer::encoded("gzip", gzip(body(90))),
            ],
        )
        .with("body_size_limit: 100B"),
        case(
            "body-limit-chunked",
            vec![
                Answer::chunked(body(90), 20, "", "0\r\n\r\n"),
                Answer::chunked(body(200), 20, "", "0\r\n\r\n"),
                Answer::ok(body(90)),
            ],
        )
        .with("body_size_limit: 100B"),
        case("target-limit", bodies(&["a 1\n"]))
            .with("target_limit: 1")
            .targets(&[("/target-limit", ", node: a"), ("/target-limit/other", ", node: b")])
            .script("/target-limit/other", bodies(&["a 1\n"])),
        case("target-limit-met", bodies(&["a 1\n"]))
            .with("target_limit: 2")
            .targets(&[("/target-limit-met", ", node: a"), ("/target-limit-met/other", ", node: b")])
            .script("/target-limit-met/other", bodies(&["a 2\n"])),
    ]
}
