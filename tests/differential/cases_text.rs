//! Behaviours of the body: text format, values, timestamps, staleness, identity.

use crate::case::{Case, bodies, case};
use crate::support::answer::Answer;

/// All cases of this file.
pub fn cases() -> Vec<Case> {
    [plain(), spelling(), values(), times(), vanishing(), identity(), errors(), sizes()].concat()
}

const PLAIN: &str = "# HELP go_x Help text.\n# TYPE go_x counter\ngo_x{a=\"1\",b=\"two\"} 5\ngo_x{a=\"2\",b=\"two\"} 6.5\n\
    # TYPE g gauge\ng 17\n# TYPE u untyped\nu{l=\"v\"} -3e5\n";
const HISTOGRAM: &str = "# TYPE h histogram\nh_bucket{le=\"0.1\"} 3\nh_bucket{le=\"2.5\"} 4\nh_bucket{le=\"+Inf\"} 7\nh_sum 11.5\n\
    h_count 7\n# TYPE s summary\ns{quantile=\"0.5\"} 1.25\ns{quantile=\"0.99\"} NaN\ns_sum 8\ns_count 4\n";

fn plain() -> Vec<Case> {
    vec![
        case("plain", bodies(&[PLAIN, PLAIN, &PLAIN.replace("17", "18")])),
        case("histogram", bodies(&[HISTOGRAM, &HISTOGRAM.replace("7\n", "9\n")])),
        case("label-escapes", bodies(&[r#"m{a="x\\y\"z\nw",b="\t\q\u00e9",c="{,}=#",d=""} 1"#])),
        case("label-spacing", bodies(&["m { a = \"1\" , b=\"2\" , } 3\nn\t{a=\"1\"}\t4\nk{a=\"b\"}1\nj{} 9\n"])),
        case("missing-comma", bodies(&["m{a=\"1\" b=\"2\"} 3\n"])),
        case("unicode-values", bodies(&["m{a=\"žluťoučký 🐴 \u{301}\",b=\"日本\"} 1\n# HELP m ünï\n"])),
        case("unicode-name-bare", bodies(&["m 1\n", "m 1\nžluť 2\n", "m 1\n"])),
        case("colons", bodies(&["a:b:c{d=\"e\"} 1\n:x 2\n_ 3\n"])),
        case("label-name-colon", bodies(&["m 1\nm{a:b=\"c\"} 1\n"])),
        case("newline-in-value", bodies(&["m{a=\"x\ny\"} 1\nn 2\n"])),
        case("help-escapes", bodies(&["# HELP m a\\\\b\\nc \\x\n# TYPE m gauge\nm 1\n", "# HELP m other\nm 1\n"])),
        case("reserved-names", bodies(&["m{__a=\"1\",__name=\"x\"} 1\nn{job=\"\",instance=\"\"} 2\n"])),
        case("name-label-in-braces", bodies(&["m{__name__=\"other\"} 1\n", "m 1\n"])),
    ]
}

fn spelling() -> Vec<Case> {
    vec![
        case("no-final-newline", bodies(&["a 1\nb 2", "a 1\nb 3", "a 1\nb 3\n"])),
        case("only-comment-no-newline", bodies(&["a 1\n# the end", "a 1\n#", "a 1\n# EOF"])),
        case("blank-lines", bodies(&["\n\na 1\n\n\nb 2\n\n", "a 1\nb 2\n", "\n"])),
        case("lines-of-blanks", bodies(&["a 1\n  \nb 2\n", "a 1\nb 2\n", "a 1\n\t\nb 2\n"])),
        case("crlf", bodies(&["a 1\nb 2\n", "a 1\r\nb 2\r\n", "a 1\nb 2\n", "a 1\n\r\nb 2\n"])),
        case("nul-at-line-start", bodies(&["a 1\nb 2\nc 3\n", "a 1\n\0b 2\nc 3\n", "a 1\nb 2\nc 3\n"])),
        case(
            "nul-in-line",
            bodies(&["a 1\nb 2\n", "a 1\nb\0 2\n", "a 1\nb{x=\"\0\"} 2\n", "a 1\0\nb 2\n", "a 1\nb 2\n"]),
        ),
        case("leading-blank", bodies(&["a 1\n", " a 1\n\tb 2\n", "a 1\n"])),
        case("trailing-blank", bodies(&["a 1 \nb 2\t\n", "a 1\nb 2\n"])),
        case("double-blank", bodies(&["a  1\nb \t 2\nc  1  @T0000000100@\n"])),
        case("comments-change", bodies(&["# one\na 1\nb 2\n", "# two\na 1\n# three\nb 2\n", "a 1\nb 2\n#four\n"])),
        case(
            "help-changes",
            bodies(&["# HELP a x\na 1\n", "# HELP a y\na 1\n", "a 1\n", "# HELP a\na 1\n# HELP a \n"]),
        ),
        case(
            "type-later",
            bodies(&["a 1\nh_bucket{le=\"1\"} 1\n", "# TYPE a gauge\na 1\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\n"]),
        ),
        case("type-changes", bodies(&["# TYPE a gauge\na 1\n", "# TYPE a counter\na 2\n", "# TYPE a untyped\na 3\n"])),
        case(
            "type-vanishes",
            bodies(&["# TYPE h histogram\nh_bucket{le=\"0.5\"} 1\nx 1\n", "h_bucket{le=\"0.5\"} 1\nx 1\n"]),
        ),
        case(
            "type-bad",
            bodies(&[
                "# TYPE a gauge\na 1\n",
                "# TYPE a bogus\na 1\n",
                "# TYPE a gauge \na 1\n",
                "# TYPE a Gauge\na 1\n",
                "a 1\n",
            ]),
        ),
        case(
            "type-blank",
            bodies(&["# TYPE a  gauge\na 1\n", "#TYPE a gauge\na 1\n", "#  TYPE a gauge\na 1\n", "# TYPE a\na 1\n"]),
        ),
        case("unit-line", bodies(&["# TYPE a_seconds gauge\n# UNIT a_seconds seconds\na_seconds 1\n"])),
        case(
            "le-spelling",
            bodies(&[
                "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1e3\"} 2\nh_bucket{le=\"+Inf\"} 3\n",
                "# TYPE h histogram\nh_bucket{le=\"1.0\"} 1\nh_bucket{le=\"1000\"} 2\nh_bucket{le=\"+Inf\"} 3\n",
            ]),
        ),
        case(
            "quantile-spelling",
            bodies(&[
                "# TYPE s summary\ns{quantile=\"0.50\"} 1\ns{quantile=\"1\"} 2\ns{quantile=\"x\"} 3\ns{le=\"1\"} 4\n",
            ]),
        ),
        case(
            "le-sticky-type",
            bodies(&["# TYPE h histogram\nh_bucket{le=\"1\"} 1\nother{le=\"5\"} 2\n# TYPE g gauge\ng{le=\"6\"} 3\n"]),
        ),
        case(
            "quoted-name",
            bodies(&["a 1\n", "a 1\n{\"my.name\",x=\"1\"} 2\n", "a 1\n{\"a\"} 2\nm{\"l.x\"=\"1\"} 3\n", "a 1\n"]),
        ),
    ]
}

fn values() -> Vec<Case> {
    vec![
        case(
            "nan-inf",
            bodies(&["a NaN\nb +Inf\nc -Inf\nd Inf\ne nan\nf inf\ng infinity\nh -infinity\n", "a 1\nb 2\n"]),
        ),
        case("nan-signed", bodies(&["a 1\n", "a -NaN\n", "a +NaN\n", "a 1\n"])),
        case("hex", bodies(&["a 1\n", "a 0x1p-2\n", "a 0x10\n", "a 1\n"])),
        case("underscore", bodies(&["a 1\n", "a 1_000\n", "a 1\n"])),
        case("overflow", bodies(&["a 1\n", "a 1e999\n", "a -1e309\n", "a 1\n"])),
        case("underflow", bodies(&["a 1e-999\nb -1e-400\nc 4.9e-324\nd 2e-324\n"])),
        case(
            "float-shapes",
            bodies(&["a .5\nb 5.\nc +5\nd 1E3\ne 1e+3\nf 00012\ng -0\nh 0\n", "a .\n", "a 1e\n", "a +\n"]),
        ),
        case(
            "float-precision",
            bodies(&["a 0.1\nb 123456789012345678\nc 9007199254740993\nd 1.7976931348623157e308\n\
            e 2.2250738585072011e-308\nf 0.30000000000000004\ng 123456789.123456789123456789\n"]),
        ),
        case("value-missing", bodies(&["a 1\nb 2\n", "a 1\nb\n", "a 1\nb \n", "a 1\nb{} \n", "a 1\nb 2\n"])),
        case("value-garbage", bodies(&["a 1\n", "a 1x\n", "a one\n", "a 1,5\n", "a 1\n"])),
        case("changing-values", bodies(&["c 1\nd 2\n", "c 2\nd 2\n", "c 3\nd NaN\n", "c 4\nd -0\n", "c 5\nd 0\n"])),
    ]
}

fn times() -> Vec<Case> {
    vec![
        case(
            "times-rising",
            bodies(&["a 1 @T0000001000@\nb 2\n", "a 2 @T0000002000@\nb 2\n", "a 3 @T0000003000@\nb 2\n"]),
        ),
        case(
            "times-twice",
            bodies(&["a 1 @T0000001000@\n", "a 1 @T0000001000@\n", "a 2 @T0000001000@\n", "a 3 @T0000001001@\n"]),
        ),
        case("times-falling", bodies(&["a 3 @T0000003000@\n", "a 2 @T0000002000@\n", "a 4 @T0000004000@\n"])),
        case(
            "times-two-in-body",
            bodies(&["a 1 @T0000001000@\na 2 @T0000002000@\n", "a 3 @T0000003000@\na 2 @T0000002500@\n"]),
        ),
        case("times-same-in-body", bodies(&["a 1 @T0000001000@\na 1 @T0000001000@\na 2 @T0000001000@\n"])),
        case("times-future", bodies(&["a 1\nb 2 @T0000900000@\nc 3\n", "a 1\nb 2 @T0000900001@\nc 3\n"])),
        case("times-come-and-go", bodies(&["a 1 @T0000001000@\n", "a 2\n", "a 3 @T0000003000@\n", "a 4\n", "b 1\n"])),
        case("times-vanish", bodies(&["a 1 @T0000001000@\nb 1\n", "b 1\n", "a 1 @T0000002000@\nb 1\n", "\n"])),
        case(
            "times-return-older",
            bodies(&[
                "a 1 @T0000002000@\nb 1\n",
                "b 1\n",
                "a 2 @T0000001000@\nb 1\n",
                "?\n",
                "a 3 @T0000001500@\nb 1\n",
                "a 4 @T0000003000@\nb 1\n",
            ]),
        ),
        case(
            "times-ahead-then-none",
            bodies(&["a 1 @T0000001000@\nb 1\n", "a 2\nb 1\n", "a 3\nb 1\n", "b 1\n", "a 4\nb 1\n"]),
        ),
        case("times-past", bodies(&["a 1 1000\nb 2\n", "a 1 2000\nb 2\n", "b 2\n"])),
        case(
            "times-bad",
            bodies(&[
                "a 1\n",
                "a 1 1.5\n",
                "a 1 -5\n",
                "a 1 12x\n",
                "a 1 99999999999999999999\n",
                "a 1 2 3\n",
                "a 1\n",
            ]),
        ),
        case(
            "times-ignored",
            bodies(&["a 1 @T0000001000@\nb 2\n", "a 2 @T0000001000@\n", "a 2 @T0000900000@\n", "b 1\n"]),
        )
        .with("honor_timestamps: false"),
        case("exemplar-in-text", bodies(&["a_total 1\n", "a_total 1 # {t=\"x\"} 1\n", "a_total 1\n"])),
    ]
}

fn vanishing() -> Vec<Case> {
    vec![
        case("vanish-return", bodies(&["a 1\nb 2\nc 3\n", "a 1\nc 3\n", "a 1\nb 4\nc 3\n", "c 3\n", "d 1\n"])),
        case("empty-then-same", bodies(&["a 1\nb 2\n", "", "a 1\nb 2\n", "", "", "a 1\nb 2\n"])),
        case("starts-empty", bodies(&["", "a 1\n", "a 1\n"])),
        case("only-comments", bodies(&["a 1\n", "# nothing\n", "a 1\n", "# TYPE a gauge\n", "a 1\n"])),
        case(
            "label-churn",
            bodies(&["a{v=\"1\"} 1\nb 1\n", "a{v=\"2\"} 1\nb 1\n", "a{v=\"3\"} 1\nb 1\n", "a{v=\"1\"} 1\nb 1\n"]),
        ),
        case(
            "family-order",
            bodies(&[
                "# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n# TYPE c gauge\nc{x=\"1\"} 3\nc{x=\"2\"} 4\n",
                "# TYPE c gauge\nc{x=\"2\"} 4\nc{x=\"1\"} 3\n# TYPE a gauge\na 1\n# TYPE b gauge\nb 2\n",
                "# TYPE b gauge\nb 2\n# TYPE c gauge\nc{x=\"1\"} 3\n# TYPE a gauge\na 1\n",
            ]),
        ),
        case(
            "insert-delete",
            bodies(&[
                &series(100, |i| i % 7 != 0),
                &series(100, |i| i % 5 != 0),
                &series(100, |_| true),
                &series(50, |_| true),
            ]),
        ),
    ]
}

/// Lines `m{i="n"} n` for the numbers that `keep` wants.
pub fn series(count: usize, keep: impl Fn(usize) -> bool) -> String {
    (0..count).filter(|i| keep(*i)).map(|i| format!("m{{i=\"{i}\"}} {i}\n")).collect()
}

fn identity() -> Vec<Case> {
    vec![
        case("duplicates-same", bodies(&["a 1\na 1\nb 2\n", "a 1\nb 2\n", "b 2\nb 2\n"])),
        case("duplicates-differ", bodies(&["a 1\na 2\nb 2\n", "a 1\na 3\nb 2\n", "b 2\n"])),
        case(
            "two-texts-order",
            bodies(&["m{a=\"1\",b=\"2\"} 1\n", "m{b=\"2\",a=\"1\"} 2\n", "m{a=\"1\",b=\"2\"} 3\n", "x 1\n"]),
        ),
        case("two-texts-spacing", bodies(&["m{a=\"1\"} 1\n", "m{a=\"1\",} 2\n", "m { a=\"1\" } 3\n", "x 1\n"])),
        case("two-texts-empty-label", bodies(&["m{a=\"\"} 1\n", "m 2\n", "m{} 3\n", "m{b=\"\"} 4\n"])),
        case(
            "twins-in-body",
            bodies(&[
                "m{a=\"1\",b=\"2\"} 1\nm{b=\"2\",a=\"1\"} 1\n",
                "m{b=\"2\",a=\"1\"} 2\n",
                "m{a=\"1\",b=\"2\"} 3\nm{b=\"2\",a=\"1\"} 4\n",
                "x 1\n",
            ]),
        ),
        case("le-two-texts", bodies(&["h{le=\"1\"} 1\n", "h{le=\"1.0\"} 1\n", "h{le=\"1\"} 1\nh{le=\"1.0\"} 1\n"])),
        case(
            "le-two-texts-typed",
            bodies(&[
                "# TYPE h histogram\nh_bucket{le=\"1\"} 1\n",
                "# TYPE h histogram\nh_bucket{le=\"1.0\"} 2\n",
                "# TYPE h histogram\nh_bucket{le=\"1\"} 3\nh_bucket{le=\"1.0\"} 4\n",
                "x 1\n",
            ]),
        ),
        case("duplicate-label", bodies(&["a 1\n", "a 1\nm{x=\"1\",x=\"2\"} 1\n", "a 1\n"])),
        case("exposes-up", bodies(&["up 5\na 1\n", "up{x=\"1\"} 5\n", "a 1\n"])),
        case(
            "exposes-report-series",
            bodies(&["scrape_samples_scraped 99\nscrape_series_added{a=\"b\"} 5\n", "a 1\n"]),
        ),
    ]
}

fn errors() -> Vec<Case> {
    let ok = "a 1\nb 2\nc 3\n";
    vec![
        case("error-first-line", bodies(&[ok, "a{ 1\nb 2\nc 3\n", ok])),
        case("error-middle-line", bodies(&[ok, "a 1\nb{x=} 2\nc 3\n", ok])),
        case("error-last-line", bodies(&[ok, "a 1\nb 2\nc c\n", "a 1\nb 2\nc 3\n=\n", ok])),
        case("error-new-before", bodies(&[ok, "new 1\na 1\nb\nc 3\n", ok])),
        case("error-twice", bodies(&[ok, "a 1\n?\n", "b 2\n?\n", "?\n", ok])),
        case("error-at-start", bodies(&["a 1\n?\n", ok, ok])),
        case(
            "label-syntax",
            bodies(&[
                "a{,} 1\n",
                "a{x=\"1\",,} 1\n",
                "a{x='1'} 1\n",
                "a{x=\"1\" 1\n",
                "a{x=\"1} 1\n",
                "a{1x=\"\"} 1\n",
                ok,
            ]),
        ),
        case("name-syntax", bodies(&["1a 1\n", "a-b 1\n", "a.b 1\n", "{x=\"1\"} 1\n", "{} 1\n", "\"a\" 1\n", ok])),
        case(
            "bad-utf8",
            vec![
                Answer::ok(ok),
                Answer::ok(b"a 1\nb{x=\"\xff\xfe\"} 2\n"),
                Answer::ok(b"a 1\n# HELP b \xff\xfe\nb 2\n"),
                Answer::ok(b"a 1\n# plain \xff\xfe\nb 2\n"),
                Answer::ok(b"a 1\n\xc5\xbe 2\n"),
                Answer::ok(ok),
            ],
        ),
        case("html", vec![Answer::ok(ok), Answer::ok("<html><body>Login</body></html>"), Answer::ok(ok)]),
        case("json", bodies(&["{\"a\": 1}", "[]", ok])),
    ]
}

fn sizes() -> Vec<Case> {
    let long = "x".repeat(70_000);
    vec![
        case(
            "long-value",
            bodies(&[format!("a{{v=\"{long}\"}} 1\nb 2\n"), format!("a{{v=\"{long}y\"}} 1\nb 2\n"), "b 2\n".into()]),
        ),
        case("long-comment", bodies(&[format!("# {long}\na 1\n# HELP a {long}\n"), "a 1\n".into()])),
        case("long-name", bodies(&[format!("{} 1\n", "n".repeat(5_000)), "a 1\n".into()])),
        case(
            "two-thousand",
            bodies(&[series(2_000, |_| true), series(2_000, |i| i != 1_000), series(2_000, |_| true)]),
        ),
        case(
            "many-labels",
            bodies(&[format!("m{{{}}} 1\n", (0..120).map(|i| format!("l{i}=\"{i}\"")).collect::<Vec<_>>().join(","))]),
        ),
    ]
}
