//! Verdicts of the text format, case by case, as they were observed on Prometheus's own parser.

use super::labels::{Exposed, decode, effective_kind, help};
use super::text::{Entry, Halt, Kind, Rest, TextError, step};
use super::value::{parse, parse_bound, print_bound, scan};
use crate::model::NORMAL_NAN;

/// What a body gives: one text per sample, `END` where the input ends early, or the error.
fn read(body: &[u8]) -> Result<Vec<String>, TextError> {
    let body = [body, b"\n"].concat();
    let (mut at, mut kind, mut out) = (0, Kind::None, Vec::new());
    while at < body.len() {
        let (entry, next) = match step(&body, at, Rest::Nothing) {
            Ok(found) => found,
            Err(Halt::Error(error)) => return Err(error),
            Err(Halt::Incomplete) => panic!("nothing follows"),
        };
        at = next;
        match entry {
            Entry::Type(_, k) => kind = k,
            Entry::Sample(s) => {
                let mut labels: Vec<Exposed<'_>> = Vec::new();
                decode(&body[s.series], kind, &mut labels);
                let list: Vec<String> = labels.iter().map(|l| format!("{}={}", l.name, l.value)).collect();
                let time = s.time_ms.map_or(String::new(), |t| format!(" @{t}"));
                out.push(format!("{} {}{time}", list.join(","), s.value));
            }
            Entry::End => {
                out.push("END".into());
                break;
            }
            Entry::Help(..) | Entry::Other => {}
        }
    }
    Ok(out)
}

#[test]
fn accepted_bodies() {
    let cases: &[(&str, &[&str])] = &[
        ("a 1", &["__name__=a 1"]),
        ("\n  \n a 1\n", &["__name__= a 1"]),
        ("foo{a=\"b\"}1", &["__name__=foo,a=b 1"]),
        ("foo-1", &["__name__=foo -1"]),
        ("foo {a=\"b\"} 1 23 \n", &["__name__=foo,a=b 1 @23"]),
        ("foo{a=\"b\",} 1", &["__name__=foo,a=b 1"]),
        ("foo{a=\"b\" c=\"d\"} 1", &["__name__=foo,a=b,c=d 1"]),
        ("foo{ a = \"b\" , c=\"d\" } 1", &["__name__=foo,a=b,c=d 1"]),
        ("foo{a=\"x\ny\"} 1", &["__name__=foo,a=x\ny 1"]),
        (r#"foo{a="\\\"\n\t"} 1"#, &["__name__=foo,a=\\\"\n\\t 1"]),
        ("{\"n m\"} 1", &["__name__=n m 1"]),
        ("{a=\"b\",\"n\"} 1", &["__name__=n,a=b 1"]),
        ("{\"n\",\"x y\"=\"b\"} 1", &["__name__=n,x y=b 1"]),
        ("a 1\n\0garbage {{{", &["__name__=a 1", "END"]),
        ("# c\0\nb 1\n#\0", &["__name__=b 1", "END"]),
        ("foo{a=\"b\"\0} 1", &["__name__=foo,a=b\" 1"]),
        (
            "# TYPE h histogram\nh{le=\"1\"} 1\nx{le=\"0.50\"} 2\n# TYPE g gauge\ny{le=\"1\"} 3",
            &["__name__=h,le=1.0 1", "__name__=x,le=0.5 2", "__name__=y,le=1 3"],
        ),
        ("# HELP a\n# HELP a \n# HELP \"b c\" d\n# TYPE a-counter\n# UNIT a s\n#HELP\n# EOF\na 1", &["__name__=a 1"]),
    ];
    for (body, want) in cases {
        assert_eq!(
            read(body.as_bytes()).as_deref(),
            Ok(&want.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
            "{body:?}"
        );
    }
}

#[test]
fn refused_bodies() {
    use TextError as E;
    let cases: &[(&[u8], E)] = &[
        (b"a", E::ValueMissing),
        (b"a 1\r", E::Value),
        (b"a 1 2 3", E::Tail),
        (b"a 1 -2", E::Tail),
        (b"a 1 2.5", E::Tail),
        (b"a 1 9223372036854775808", E::Timestamp),
        (b"a{b='c'} 1", E::LabelValue),
        (b"a{b=\"c\",,} 1", E::LabelName),
        (b"a{,} 1", E::LabelName),
        (b"a{b} 1", E::LabelEqual),
        (b"a{b=\"\xff\"} 1", E::LabelUtf8),
        (b"a{b=\"c} 1", E::LabelValue),
        (b"a{\"b\"} 1", E::NameTwice),
        (b"{\"a\",\"b\"} 1", E::NameTwice),
        (b"{a=\"b\"} 1", E::NameMissing),
        (b"\"a\" 1", E::Start),
        (b"\xc3\xa9 1", E::Start),
        (b"# TYPE a counter ", E::Type),
        (b"# TYPE a  counter", E::Type),
        (b"# TYPE a Counter", E::Type),
        (b"# TYPE \n", E::MetadataName),
        (b"# HELP a \xff", E::HelpUtf8),
        (b"# HELP a\0", E::MetadataEnd),
        (b"a 1e999", E::Value),
        (b"a 0x1p2", E::Value),
        (b"a 1_0", E::Value),
        (b"a -nan", E::Value),
    ];
    for (body, want) in cases {
        assert_eq!(read(body), Err(*want), "{:?}", String::from_utf8_lossy(body));
    }
}

#[test]
fn values_are_those_of_go() {
    for (text, want) in [
        ("1", 1.0),
        ("+5", 5.0),
        ("-0", -0.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("1e3", 1e3),
        ("1E+3", 1e3),
        ("inf", f64::INFINITY),
        ("-INFINITY", f64::NEG_INFINITY),
        ("1e-400", 0.0),
        ("17976931348623157e292", f64::MAX),
        ("nan", NORMAL_NAN),
        ("0.1", 0.1),
        ("9007199254740993", 9_007_199_254_740_992.0),
        ("123456789012345678901234567890", 1.234_567_890_123_456_8e29),
        ("0000000000000000000000000001", 1.0),
        ("4.35", 4.35),
        ("1e23", 1e23),
    ] {
        assert_eq!(parse(text.as_bytes()).map(f64::to_bits), Some(want.to_bits()), "{text}");
        let line = format!("{text}\n");
        if let Some((value, end)) = scan(line.as_bytes(), 0) {
            assert_eq!((value.to_bits(), end), (want.to_bits(), text.len()), "{text}");
        }
    }
    for text in ["", "+", ".", "e5", "1e", "1e+", "+nan", "infinit", "0x10", "1_000", "1e400", "1 ", "--1", "1.2.3"] {
        assert_eq!(parse(text.as_bytes()), None, "{text:?}");
    }
}

#[test]
fn bounds_are_read_and_printed_as_go_does() {
    for (text, want) in [
        ("1", "1.0"),
        ("1e3", "1000.0"),
        ("0.50", "0.5"),
        ("+Inf", "+Inf"),
        ("-inf", "-Inf"),
        ("nan", "NaN"),
        ("0", "0.0"),
        ("-0", "0.0"),
        ("-1", "-1.0"),
        ("1e6", "1e+06"),
        ("123456", "123456.0"),
        ("1234567", "1.234567e+06"),
        ("0.00001", "1e-05"),
        ("0.0001", "0.0001"),
        ("1e100", "1e+100"),
        ("1_000.5e-3", "1.0005"),
        ("0x1p-2", "0.25"),
        ("0x_1.8P1", "3.0"),
        ("0x1.fffffffffffff8p0", "2.0"),
        ("0x1p-1074", "5e-324"),
        ("0x1p-1075", "0.0"),
    ] {
        assert_eq!(parse_bound(text.as_bytes()).map(print_bound).as_deref(), Some(want), "{text}");
    }
    for text in ["0x1", "0x.p1", "1__0", "_1", "1_", "0b1", "0x1p1024", "x"] {
        assert_eq!(parse_bound(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn kind_matters_only_where_it_changes_the_labels() {
    assert_eq!(effective_kind(b"a{le=\"1\"}", Kind::Histogram), Kind::Histogram);
    assert_eq!(effective_kind(b"a{le=\"1\"}", Kind::Summary), Kind::None);
    assert_eq!(effective_kind(b"table{x=\"le\"}", Kind::Histogram), Kind::None);
    assert_eq!(effective_kind(b"a{quantile=\"1\"}", Kind::Summary), Kind::Summary);
    assert_eq!(help(br"a\\b\nc\d\"), "a\\b\nc\\d\\");
}

#[test]
fn no_cut_changes_a_verdict() {
    let body = b"# HELP a b\n# TYPE a histogram\n# H\0ELP x y\na{le=\"\\\\1\0\",b=\"\"\0} 1.5e3 17 \n {\"q\" , x= \0\"1\"} NaN\n\n#x\na-1\n";
    let mut at = 0;
    while at < body.len() {
        let whole = step(body, at, Rest::Nothing);
        for end in at..body.len() {
            match step(&body[..end], at, Rest::MayFollow) {
                Err(Halt::Incomplete) => {}
                early => {
                    assert_eq!(format!("{early:?}"), format!("{whole:?}"), "cut at {end}");
                    break;
                }
            }
        }
        match whole {
            Ok((entry, next)) if entry != Entry::End => at = next,
            _ => return,
        }
    }
}
