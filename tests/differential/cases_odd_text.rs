//! Behaviours of bodies nobody should send: one odd line after another, each in a scrape of its own.

use crate::case::{Case, case};
use crate::support::answer::Answer;

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [comments(), numbers(), clocks(), labels(), characters()].concat()
}

/// Two plain lines, then every text on its own line between them, a scrape each.
fn each(name: &str, lines: &[&[u8]]) -> Case {
    let body = |line: &&[u8]| Answer::ok([b"before 1\n", *line, b"\nafter 2\n"].concat());
    case(name, [&b"#"[..]].iter().chain(lines).map(body).collect())
}

fn texts(name: &str, lines: &[&str]) -> Case {
    each(name, &lines.iter().map(|l| l.as_bytes()).collect::<Vec<_>>())
}

fn comments() -> Vec<Case> {
    vec![
        texts(
            "odd-comments",
            &[
                "#",
                "# HELP",
                "# TYPE",
                "# HELP ",
                "# TYPE ",
                "# HELP  a x",
                "# HELP\ta\tx",
                "#\tTYPE a gauge",
                "#  HELP a x",
                "# HELP a",
                "# help a x",
                "# TYPE a",
                "#!",
                "##",
                " # x",
                "# HELPa b",
                "# TYPEa b",
            ],
        ),
        texts(
            "odd-types",
            &[
                "# TYPE a gauge # c",
                "# TYPE 1a gauge",
                "# TYPE a-b gauge",
                "# TYPE a gauges",
                "# TYPE a GAUGE",
                "# TYPE a\tgauge",
                "# TYPE\ta gauge",
                "# TYPE a gauge\t",
                "# TYPE a unknown",
                "# TYPE a info",
                "# TYPE a stateset",
                "# TYPE a gaugehistogram",
                "# TYPE a_b:c summary",
                "# TYPE a gauge counter",
                "# TYPE a \"gauge\"",
                "# TYPE a 1",
            ],
        ),
        texts(
            "odd-help",
            &[
                "# HELP 1a x",
                "# HELP a-b x",
                "# HELP a \"x\\\" y",
                "# HELP a \\",
                "# HELP a \\x\\n\\\\",
                "# HELP a x\r",
                "# HELP a  two blanks",
                "# HELP a:b x",
                "# HELP \u{17e} x",
                "# HELP a \u{17e}",
                "# HELP a {b=\"c\"} 1",
                "# HELP a # b",
                "# HELP a\tb c",
            ],
        ),
        texts(
            "type-repeated",
            &[
                "# TYPE a gauge\n# TYPE a counter\na 1",
                "a 1\n# TYPE a gauge",
                "# TYPE a gauge\na 1\n# TYPE a gauge\na{x=\"1\"} 2",
                "# HELP a x\n# HELP a y\na 1",
                "# EOF\na 1",
                "a 1\n# EOF\nb 2",
                "# UNIT a_s s\na_s 1",
            ],
        ),
    ]
}

fn numbers() -> Vec<Case> {
    vec![
        texts(
            "odd-values",
            &[
                "a 1e+",
                "a 0x1.8p1",
                "a 1e1_0",
                "a iNf",
                "a -inf",
                "a +nan",
                "a NaN1",
                "a 1d",
                "a 1f",
                "a \u{661}",
                "a 1e-5000",
                "a 00x1",
                "a - 1",
                "a +-1",
                "a 1e+-1",
                "a INFINITY",
                "a infinit",
            ],
        ),
        texts(
            "odd-values-more",
            &[
                "a .e1",
                "a 1.e1",
                "a 1.5.2",
                "a 1e5000",
                "a -1e5000",
                "a 0e99999999999",
                "a 1e-99999999999",
                "a 0.000000000000000000000000000001e30",
                "a 100000000000000000000000000000e-29",
                "a 1_",
                "a _1",
                "a 0b1",
                "a 0o7",
                "a 017",
                "a 1E5",
                "a \"1\"",
                "a {}",
            ],
        ),
        texts(
            "odd-values-edge",
            &[
                "a 1.7976931348623158e308",
                "a 1.7976931348623159e308",
                "a 179769313486231580793728971405301e276",
                "a 5e-324",
                "a 2.4703282292062327e-324",
                "a 2.4703282292062328e-324",
                "a 2.2250738585072014e-308",
                "a 9007199254740993",
                "a 9007199254740992.999999999999",
                "a 0.1e-1",
                "a 18446744073709551615",
                "a -9223372036854775809",
                "a 1e22",
                "a 1e23",
                "a 8.41e21",
                "a -0",
                "a -0.0e5",
            ],
        ),
        texts(
            "odd-values-blanks",
            &[
                "a\u{a0}1",
                "a 1\u{a0}",
                "a\u{b}1",
                "a \u{c}1",
                "a 1 \t ",
                "a{} 1",
                "a{}1",
                "a{}\t1",
                "a {} 1",
                "a\t{}\t1\t",
                "a=1",
                "a 1;",
                "a 1#",
                "a 1 #",
                "a 1 # x",
                "a  \t 1",
                "a",
            ],
        ),
    ]
}

fn clocks() -> Vec<Case> {
    let odd = [
        "a 1 0",
        "a 1 00123",
        "a 1 +5",
        "a 1 9223372036854775807",
        "a 1 9223372036854775808",
        "a 1 0x5",
        "a 1 5e3",
        "a 1 1_0",
        "a 1\t5",
        "a 1 6 ",
        "a 1 7\t#",
        "a 1 8 9",
        "a 1 NaN",
        "a 1 \"5\"",
        "a 1 -0",
        "a 1 10x",
    ];
    vec![texts("odd-times", &odd), texts("odd-times-ignored", &odd).with("honor_timestamps: false")]
}

fn labels() -> Vec<Case> {
    vec![
        texts(
            "odd-names",
            &[
                "{__name__=\"x\"} 1",
                "{__name__=\"x\",__name__=\"y\"} 1",
                "m{__name__=\"\"} 1",
                "m{__name__=\"m\"} 1",
                "m{__name__=\"x\"} 1",
                "__name__ 1",
                "m{__name__x=\"1\"} 2",
                "m{__x__=\"1\"} 3",
                "m{_=\"1\"} 4",
                "m{__=\"1\"} 5",
                "m{le=\"\",quantile=\"\"} 6",
                "m{case=\"other\"} 7",
                "m{fleet=\"mine\"} 8",
                "m{a=\"1\",a=\"1\"} 9",
                "m{a=\"\",a=\"1\"} 10",
                "m{a=\"1\",b=\"2\",a=\"\"} 11",
            ],
        ),
        texts(
            "odd-labels",
            &[
                "m{a =\"1\"} 1",
                "m{a= \"1\"} 2",
                "m{ a=\"1\"} 3",
                "m{a=\"1\" } 4",
                "m{a=\"1\" ,b=\"2\"} 5",
                "m{a=\"1\", b=\"2\"} 6",
                "m{a=\"1\",\tb=\"2\"} 7",
                "m{a=\"1\",b=\"2\",} 8",
                "m{a=\"1\";b=\"2\"} 9",
                "m{a:b=\"1\"} 10",
                "m{a-b=\"1\"} 11",
                "m{=\"1\"} 12",
                "m{a} 13",
                "m{a=} 14",
                "m{a=1} 15",
                "m{a=\"1\"}} 16",
                "m{{a=\"1\"} 17",
            ],
        ),
        texts(
            "odd-escapes",
            &[
                "m{a=\"\\t\\r\\0\"} 1",
                "m{a=\"\\\\n\"} 2",
                "m{a=\"\\\\\\n\"} 3",
                "m{a=\"\\\"\"} 4",
                "m{a=\"\\\\\"} 5",
                "m{a=\"\\\\\\\"} 6",
                "m{a=\"x\\\ny\"} 7",
                "m{a=\"\\u00e9\\x41\"} 8",
                "m{a=\"'\"} 9",
                "m{a=\"}\"} 10",
                "m{a=\"{\",b=\",\"} 11",
                "m{a=\"# \"} 12",
                "m{a=\"\n\"} 13",
                "m{a=\"\r\n\"} 14",
                "m{a=\"\t\"} 15",
                "m{a=\"\\",
                "m{a=\"\"\"} 16",
            ],
        ),
    ]
}

fn characters() -> Vec<Case> {
    let values: [&[u8]; 16] = [
        b"m{a=\"\xed\xa0\x80\"} 1",
        b"m{a=\"\xc0\x80\"} 2",
        b"m{a=\"\xf4\x90\x80\x80\"} 3",
        b"m{a=\"\xf4\x8f\xbf\xbf\"} 4",
        b"m{a=\"\xef\xbf\xbd\"} 5",
        b"m{a=\"\xef\xbb\xbf\"} 6",
        b"m{a=\"\xc3\"} 7",
        b"m{a=\"\xc3\xa9\"} 8",
        b"m{a=\"\x01\x7f\"} 9",
        b"m{a=\"\xe2\x80\xa8\"} 10",
        b"m\xc2\xa0 11",
        b"\xef\xbb\xbfm 12",
        b"m{a=\"\xf0\x9f\x98\x80\"} 13",
        b"m{a=\"\xf8\x88\x80\x80\x80\"} 14",
        b"m{\xc3\xa9=\"1\"} 15",
        b"# \xff",
    ];
    let nuls: [&[u8]; 12] = [
        b"\0",
        b"m 1\0",
        b"m\0 1",
        b"m{a=\"\0\"} 1",
        b"m{\0} 1",
        b"m{a\0=\"1\"} 1",
        b"m 1 \0",
        b"# HELP m \0",
        b"# TYPE m gauge\0",
        b"#\0",
        b"\n\0\nx",
        b" \0",
    ];
    vec![
        each("odd-utf8", &values),
        each("odd-nuls", &nuls),
        case(
            "odd-bodies",
            [
                &b"\0"[..],
                b"\n",
                b"\r\n",
                b" ",
                b"\t\n",
                b"#",
                b"a",
                b"a ",
                b"a 1",
                b"\xef\xbb\xbf",
                b"\xef\xbb\xbfa 1\n",
                b"a 1\n\n\n",
                b"a 1\n\0",
                b"a 1\n ",
                b"a 1\n#",
                b"a 1\n{",
            ]
            .iter()
            .map(Answer::ok)
            .collect(),
        ),
    ]
}
