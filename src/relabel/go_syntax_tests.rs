//! Verdicts on patterns, compared with Go's.

use super::pattern::Pattern;

#[test]
fn patterns_on_which_the_dialects_differ() {
    for (pattern, yes, no) in [
        (r"\Qa.b\E", &["a.b"][..], &["axb"][..]),
        (r"\07", &["\x07"], &["07"]),
        ("{", &["{"], &[]),
        ("a{", &["a{"], &[]),
        ("x{,3}", &["x{,3}"], &["xx"]),
        ("a{01}", &["a{01}"], &["a"]),
        (r"[\d-a]", &["1", "-", "a"], &["b"]),
        (r"\<", &["<"], &[""]),
        ("[a&&b]", &["a", "b", "&"], &["a&&b"]),
        ("[a~~b]", &["a", "b", "~"], &[]),
        ("[[a]b]", &["[b]", "ab]"], &["a", "b"]),
        (r"\d+", &["12"], &["٣"]),
        (r"\w+", &["a_1"], &["é"]),
        (r"\s", &[" ", "\n", "\x0c"], &["\u{a0}", "\x0b"]),
        (r"(?i)k", &["k", "K", "\u{212a}"], &[]),
        (r"(?ii)k", &["K"], &[]),
        (r"é\b.*", &["ée"], &["é"]),
        ("(?P<1x>a)", &["a"], &[]),
        (".", &["\n", "é", "😀"], &["", "ab"]),
        ("(?-s).", &["é"], &["\n"]),
    ] {
        let p = Pattern::new(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
        for text in yes {
            assert!(p.is_match(text), "{pattern} must match {text:?}");
        }
        for text in no {
            assert!(!p.is_match(text), "{pattern} must not match {text:?}");
        }
    }
}

#[test]
fn refused_with_a_reason() {
    for (pattern, reason) in [
        ("a**", "** repeats"),
        ("a{1001}", "repetition {1001} is invalid"),
        ("(a{100}){11}", "repetition {11} is invalid"),
        ("[a--b]", "invalid character class range a--"),
        ("(?=a)", "lookaround (?="),
        (r"(a)\1", r"backreference \1"),
        ("a)(b", "unexpected )"),
        ("(a", "missing closing )"),
        ("[a", "missing closing ]"),
        ("*a", "nothing to repeat before *"),
        (r"\Qa", r"\Q without \E"),
        (r"\pC", "property"),
        (r"\y", r"invalid escape \y"),
        ("a\\", "single backslash"),
    ] {
        let error = Pattern::new(pattern).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(error.contains(reason.trim_start_matches('*')), "{pattern}: {error:?}");
    }
}
