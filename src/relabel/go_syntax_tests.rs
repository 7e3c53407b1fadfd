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

#[test]
fn verdicts_are_gos() {
    for (pattern, want) in VERDICTS {
        match (Pattern::new(pattern), want) {
            (Err(_), None) => {}
            (Err(e), Some(_)) => panic!("{pattern} is good in Go: {e}"),
            (Ok(_), None) => panic!("Go refuses {pattern}"),
            (Ok(p), Some(matching)) => {
                let got: Vec<_> = TEXTS.iter().filter(|t| p.is_match(t)).collect();
                assert_eq!(got, matching.iter().collect::<Vec<_>>(), "{pattern}");
            }
        }
    }
}

mod shortcuts {
    use proptest::prelude::*;

    use super::*;

    fn piece() -> impl Strategy<Value = String> {
        prop::sample::select(vec![
            "a",
            "b",
            "ab",
            "(a|b)",
            "(?:ab|a|)",
            ".*",
            ".+",
            "(.*)",
            "[ab]",
            "é",
            "(?i:a)",
            "a?",
            "^",
            ".",
        ])
        .prop_map(str::to_owned)
    }

    proptest! {
        /// The automaton is the naive twin of the shortcuts.
        #[test]
        fn agree_with_the_automaton(
            pieces in prop::collection::vec(piece(), 0..4),
            texts in prop::collection::vec("[abé\n]{0,4}", 8),
        ) {
            let p = Pattern::new(&pieces.concat()).expect("valid");
            for text in &texts {
                prop_assert_eq!(p.is_match(text), p.is_match_by_engine(text), "{:?} on {:?}", &pieces, text);
            }
        }
    }

    #[test]
    fn are_taken() {
        for pattern in ["", "a", "a|b|cd", "(foo|bar)baz", "foo.*", "(?:a|b).+", ".*", "(.+)", ".*_total", "[ab]c"] {
            assert!(Pattern::new(pattern).expect("valid").has_shortcut(), "{pattern}");
        }
        assert!(!Pattern::new("a.*b").expect("valid").has_shortcut());
    }
}

/// Texts that the verdicts below are about.
const TEXTS: &[&str] = &[
    "", "a", "b", "k", "K", "\u{212a}", "ab", "aa", "aaa", "foo", "bar", "foobar", "a.b", "a\nb", "\n", "é", "٣", "1",
    "12", "-", "&", "~", "<", "[", "[b]", "ab]", "{", "a{", "x{,3}", "a{,3}", "a{01}", "A", "_", " ", "\t", "\u{a0}",
    "\x0b", "\x07", "Σ", "σ", "aé", "éa", "*",
];

/// What Go makes of `^(?s:PATTERN)$`: refused, or matching these and no other of the texts.
const VERDICTS: &[(&str, Option<&[&str]>)] = &[
    ("$", Some(&[""])),
    ("(", None),
    (
        "(.*)",
        Some(&[
            "", "a", "b", "k", "K", "\u{212a}", "ab", "aa", "aaa", "foo", "bar", "foobar", "a.b", "a\nb", "\n", "é",
            "٣", "1", "12", "-", "&", "~", "<", "[", "[b]", "ab]", "{", "a{", "x{,3}", "a{,3}", "a{01}", "A", "_", " ",
            "\t", "\u{a0}", "\x0b", "\x07", "Σ", "σ", "aé", "éa", "*",
        ]),
    ),
    ("(?)", Some(&[""])),
    ("(?-)", None),
    ("(?:a|b)", Some(&["a", "b"])),
    ("(?<=a)", None),
    ("(?<n>a)", Some(&["a"])),
    ("(?=a)", None),
    ("(?P<1x>b)", Some(&["b"])),
    ("(?P<n>", None),
    ("(?P<n>a)", Some(&["a"])),
    ("(?i:k)", Some(&["k", "K", "\u{212a}"])),
    ("(a{30}){30}", Some(&[])),
    ("(a{40}){30}", None),
    (")", None),
    ("*", None),
    (
        ".*",
        Some(&[
            "", "a", "b", "k", "K", "\u{212a}", "ab", "aa", "aaa", "foo", "bar", "foobar", "a.b", "a\nb", "\n", "é",
            "٣", "1", "12", "-", "&", "~", "<", "[", "[b]", "ab]", "{", "a{", "x{,3}", "a{,3}", "a{01}", "A", "_", " ",
            "\t", "\u{a0}", "\x0b", "\x07", "Σ", "σ", "aé", "éa", "*",
        ]),
    ),
    (
        ".+",
        Some(&[
            "a", "b", "k", "K", "\u{212a}", "ab", "aa", "aaa", "foo", "bar", "foobar", "a.b", "a\nb", "\n", "é", "٣",
            "1", "12", "-", "&", "~", "<", "[", "[b]", "ab]", "{", "a{", "x{,3}", "a{,3}", "a{01}", "A", "_", " ",
            "\t", "\u{a0}", "\x0b", "\x07", "Σ", "σ", "aé", "éa", "*",
        ]),
    ),
    ("[-a]", Some(&["a", "-"])),
    ("[[:", None),
    (
        "[[:^digit:]]",
        Some(&[
            "a", "b", "k", "K", "\u{212a}", "\n", "é", "٣", "-", "&", "~", "<", "[", "{", "A", "_", " ", "\t",
            "\u{a0}", "\x0b", "\x07", "Σ", "σ", "*",
        ]),
    ),
    ("[[:alpha:]]", Some(&["a", "b", "k", "K", "A"])),
    ("[[:foo:]]", None),
    ("[[a]", Some(&["a", "["])),
    ("[\\]]", Some(&[])),
    ("[\\b]", None),
    ("[\\d-a]", Some(&["a", "1", "-"])),
    (
        "[\\w\\D]",
        Some(&[
            "a", "b", "k", "K", "\u{212a}", "\n", "é", "٣", "1", "-", "&", "~", "<", "[", "{", "A", "_", " ", "\t",
            "\u{a0}", "\x0b", "\x07", "Σ", "σ", "*",
        ]),
    ),
    ("[]a]", Some(&["a"])),
    (
        "[^]a]",
        Some(&[
            "b", "k", "K", "\u{212a}", "\n", "é", "٣", "1", "-", "&", "~", "<", "[", "{", "A", "_", " ", "\t",
            "\u{a0}", "\x0b", "\x07", "Σ", "σ", "*",
        ]),
    ),
    (
        "[^a-c]",
        Some(&[
            "k", "K", "\u{212a}", "\n", "é", "٣", "1", "-", "&", "~", "<", "[", "{", "A", "_", " ", "\t", "\u{a0}",
            "\x0b", "\x07", "Σ", "σ", "*",
        ]),
    ),
    ("[a&&b]", Some(&["a", "b", "&"])),
    ("[a--b]", None),
    ("[a-\\d]", None),
    ("[a-]", Some(&["a", "-"])),
    ("[a-c]", Some(&["a", "b"])),
    ("[a~~b]", Some(&["a", "b", "~"])),
    ("\\", None),
    ("\\-", Some(&["-"])),
    ("\\0", Some(&[])),
    ("\\07", Some(&["\x07"])),
    ("\\1", None),
    ("\\101", Some(&["A"])),
    ("\\12", Some(&["\n"])),
    ("\\8", None),
    ("\\<", Some(&["<"])),
    ("\\C", None),
    (
        "\\D",
        Some(&[
            "a", "b", "k", "K", "\u{212a}", "\n", "é", "٣", "-", "&", "~", "<", "[", "{", "A", "_", " ", "\t",
            "\u{a0}", "\x0b", "\x07", "Σ", "σ", "*",
        ]),
    ),
    (
        "\\P{Lu}",
        Some(&[
            "a", "b", "k", "\n", "é", "٣", "1", "-", "&", "~", "<", "[", "{", "_", " ", "\t", "\u{a0}", "\x0b", "\x07",
            "σ", "*",
        ]),
    ),
    ("\\Q", None),
    ("\\Q*\\E", Some(&["*"])),
    ("\\Qa.b\\E", Some(&["a.b"])),
    (
        "\\S",
        Some(&[
            "a", "b", "k", "K", "\u{212a}", "é", "٣", "1", "-", "&", "~", "<", "[", "{", "A", "_", "\u{a0}", "\x0b",
            "\x07", "Σ", "σ", "*",
        ]),
    ),
    (
        "\\W",
        Some(&[
            "\u{212a}", "\n", "é", "٣", "-", "&", "~", "<", "[", "{", " ", "\t", "\u{a0}", "\x0b", "\x07", "Σ", "σ",
            "*",
        ]),
    ),
    ("\\Z", None),
    ("\\_", Some(&["_"])),
    ("\\d", Some(&["1"])),
    ("\\pN", Some(&["٣", "1"])),
    ("\\p{Greek}", Some(&["Σ", "σ"])),
    (
        "\\p{^Lu}",
        Some(&[
            "a", "b", "k", "\n", "é", "٣", "1", "-", "&", "~", "<", "[", "{", "_", " ", "\t", "\u{a0}", "\x0b", "\x07",
            "σ", "*",
        ]),
    ),
    ("\\p{foo}", None),
    ("\\s", Some(&["\n", " ", "\t"])),
    ("\\w", Some(&["a", "b", "k", "K", "1", "A", "_"])),
    ("\\x4", None),
    ("\\x41", Some(&["A"])),
    ("\\x{41}", Some(&["A"])),
    ("\\é", None),
    ("^", Some(&[""])),
    ("a**", None),
    ("a*?", Some(&["", "a", "aa", "aaa"])),
    ("a+*", None),
    ("a{,3}", Some(&["a{,3}"])),
    ("a{01}", Some(&["a{01}"])),
    ("a{1,2}", Some(&["a", "aa"])),
    ("a{1001}", None),
    ("a{2,1}", None),
    ("a{2,}", Some(&["aa", "aaa"])),
    ("a{2}", Some(&["aa"])),
    ("a{2}{3}", None),
    ("x{,3}", Some(&["x{,3}"])),
    ("{", Some(&["{"])),
    ("}", Some(&[])),
];
