//! Character classes of Go's regular expressions: brackets, Perl and POSIX classes, Unicode properties.

use super::go_syntax::{SyntaxError, character_escape, start_of, write_literal};

/// One member of a bracket.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Member {
    /// Inclusive.
    Range(char, char),
    /// A set in the Rust dialect, complete with its own brackets.
    Set(&'static str),
    /// A property in the Rust dialect.
    Property(String),
}

/// A class as Go understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Class {
    negated: bool,
    members: Vec<Member>,
}

impl Class {
    /// A bracketed class at the start of the text, and what follows.
    pub(super) fn parse(text: &str) -> Result<(Self, &str), SyntaxError> {
        let mut rest = &text[1..];
        let negated = rest.starts_with('^');
        if negated {
            rest = &rest[1..];
        }
        let mut members = Vec::new();
        loop {
            if rest.starts_with(']') && !members.is_empty() {
                return Ok((Self { negated, members }, &rest[1..]));
            }
            let (member, after) = member(rest)?;
            members.push(member);
            rest = after;
        }
    }

    /// `\d`, `\pL` and their kin at the start of the text, and what follows.
    pub(super) fn parse_escape(text: &str) -> Result<(Self, &str), SyntaxError> {
        let (member, rest) = escaped_set(text)?.ok_or_else(|| SyntaxError::Escape(start_of(text)))?;
        Ok((Self { negated: false, members: vec![member] }, rest))
    }

    /// Appends the class in the Rust dialect. Case folding is left to the flags: both dialects fold the members
    /// first and negate afterwards.
    pub(super) fn write(&self, out: &mut String) {
        out.push_str(if self.negated { "[^" } else { "[" });
        for m in &self.members {
            match m {
                Member::Range(lo, hi) => {
                    write_literal(out, *lo);
                    if lo != hi {
                        out.push('-');
                        write_literal(out, *hi);
                    }
                }
                Member::Set(set) => out.push_str(set),
                Member::Property(p) => out.push_str(p),
            }
        }
        out.push(']');
    }
}

fn member(text: &str) -> Result<(Member, &str), SyntaxError> {
    if text.starts_with("[:") {
        if let Some(end) = text[2..].find(":]") {
            let name = &text[..end + 4];
            let set = posix(name).ok_or_else(|| SyntaxError::Posix(name.to_owned()))?;
            return Ok((Member::Set(set), &text[end + 4..]));
        }
    }
    if let Some(found) = escaped_set(text)? {
        return Ok(found);
    }
    let (lo, rest) = class_char(text)?;
    match rest.strip_prefix('-') {
        Some(after) if !after.is_empty() && !after.starts_with(']') => {
            let (hi, rest) = class_char(after)?;
            if hi < lo {
                return Err(SyntaxError::Range(text[..text.len() - rest.len()].to_owned()));
            }
            Ok((Member::Range(lo, hi), rest))
        }
        _ => Ok((Member::Range(lo, lo), rest)),
    }
}

fn class_char(text: &str) -> Result<(char, &str), SyntaxError> {
    match text.chars().next() {
        None => Err(SyntaxError::MissingBracket),
        Some('\\') => character_escape(text),
        Some(c) => Ok((c, &text[c.len_utf8()..])),
    }
}

fn escaped_set(text: &str) -> Result<Option<(Member, &str)>, SyntaxError> {
    let Some(c) = text.strip_prefix('\\').and_then(|t| t.chars().next()) else { return Ok(None) };
    let set = match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        's' => "[\\t\\n\\x0C\\r\\x20]",
        'S' => "[^\\t\\n\\x0C\\r\\x20]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        'p' | 'P' => return property(text).map(Some),
        _ => return Ok(None),
    };
    Ok(Some((Member::Set(set), &text[2..])))
}

fn property(text: &str) -> Result<(Member, &str), SyntaxError> {
    let bad = || SyntaxError::Property(start_of(text));
    let mut negated = text.as_bytes()[1] == b'P';
    let first = text[2..].chars().next().ok_or_else(bad)?;
    let (mut name, rest) = match text[2..].strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or_else(bad)?,
        None => text[2..].split_at(first.len_utf8()),
    };
    if let Some(inner) = name.strip_prefix('^') {
        negated = !negated;
        name = inner;
    }
    let sign = if negated { 'P' } else { 'p' };
    if name == "Any" {
        return Ok((Member::Set(if negated { "[^\\x00-\\x{10FFFF}]" } else { "[\\x00-\\x{10FFFF}]" }), rest));
    }
    if CATEGORIES.contains(&name) {
        return Ok((Member::Property(format!("\\{sign}{{gc={name}}}")), rest));
    }
    if SCRIPTS.contains(&name) {
        return Ok((Member::Property(format!("\\{sign}{{sc={name}}}")), rest));
    }
    Err(bad())
}

/// General categories on which Go and Rust agree. `C` and `Cs` are left out: Go's `C` has no unassigned code points
/// in it, and surrogates do not exist in text.
const CATEGORIES: &[&str] = &[
    "Cc", "Cf", "Co", "L", "Ll", "Lm", "Lo", "Lt", "Lu", "M", "Mc", "Me", "Mn", "N", "Nd", "Nl", "No", "P", "Pc", "Pd",
    "Pe", "Pf", "Pi", "Po", "Ps", "S", "Sc", "Sk", "Sm", "So", "Z", "Zl", "Zp", "Zs",
];

/// Scripts in wide use; the others are refused rather than guessed.
const SCRIPTS: &[&str] = &[
    "Arabic",
    "Armenian",
    "Bengali",
    "Bopomofo",
    "Braille",
    "Cherokee",
    "Common",
    "Cyrillic",
    "Devanagari",
    "Ethiopic",
    "Georgian",
    "Greek",
    "Gujarati",
    "Gurmukhi",
    "Han",
    "Hangul",
    "Hebrew",
    "Hiragana",
    "Inherited",
    "Kannada",
    "Katakana",
    "Khmer",
    "Lao",
    "Latin",
    "Malayalam",
    "Mongolian",
    "Myanmar",
    "Oriya",
    "Sinhala",
    "Tamil",
    "Telugu",
    "Thai",
    "Tibetan",
];

fn posix(name: &str) -> Option<&'static str> {
    const NAMES: [(&str, &str, &str); 14] = [
        ("[:alnum:]", "[0-9A-Za-z]", "[^0-9A-Za-z]"),
        ("[:alpha:]", "[A-Za-z]", "[^A-Za-z]"),
        ("[:ascii:]", "[\\x00-\\x7F]", "[^\\x00-\\x7F]"),
        ("[:blank:]", "[\\t\\x20]", "[^\\t\\x20]"),
        ("[:cntrl:]", "[\\x00-\\x1F\\x7F]", "[^\\x00-\\x1F\\x7F]"),
        ("[:digit:]", "[0-9]", "[^0-9]"),
        ("[:graph:]", "[\\x21-\\x7E]", "[^\\x21-\\x7E]"),
        ("[:lower:]", "[a-z]", "[^a-z]"),
        ("[:print:]", "[\\x20-\\x7E]", "[^\\x20-\\x7E]"),
        (
            "[:punct:]",
            "[\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]",
            "[^\\x21-\\x2F\\x3A-\\x40\\x5B-\\x60\\x7B-\\x7E]",
        ),
        ("[:space:]", "[\\t\\n\\x0B\\x0C\\r\\x20]", "[^\\t\\n\\x0B\\x0C\\r\\x20]"),
        ("[:upper:]", "[A-Z]", "[^A-Z]"),
        ("[:word:]", "[0-9A-Za-z_]", "[^0-9A-Za-z_]"),
        ("[:xdigit:]", "[0-9A-Fa-f]", "[^0-9A-Fa-f]"),
    ];
    let plain = name.replacen("[:^", "[:", 1);
    let (_, set, complement) = NAMES.iter().find(|(n, _, _)| *n == plain)?;
    Some(if name.len() == plain.len() { set } else { complement })
}
