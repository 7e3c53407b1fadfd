//! Go's regular expression syntax, restated in the Rust dialect: exact, or refused with the construct's name.
//!
//! Every construct is parsed as Go parses it and written out again in a small, explicit subset of the Rust syntax, so
//! that nothing passes through that the two dialects read differently. Group names stay here: Go allows names that
//! Rust refuses, and only templates need them. prometheus: model/relabel/relabel.go, NewRegexp; go: regexp/syntax.

use std::fmt;
use std::fmt::Write;

use super::go_class::Class;

/// Go's bound on one repetition count and on the product of nested ones.
const REPEAT_MAX: u32 = 1000;
/// Deepest nesting of groups. Go stops at 1000; nobody comes near.
const DEPTH_MAX: usize = 200;

/// A pattern in the Rust dialect, with the names of its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Translation {
    /// For `regex-syntax` with Unicode on; not anchored.
    pub rust: String,
    /// By group index; entry 0 is the whole match.
    pub names: Vec<Option<String>>,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyntaxError {
    /// Ends in the middle of an escape.
    TrailingBackslash,
    /// An escape Go does not know.
    Escape(String),
    /// `\1`.
    Backreference(String),
    /// `(?=`, `(?!`, `(?<=`, `(?<!`.
    Lookaround(String),
    /// Not a flag group, name or `(?:`.
    Group(String),
    /// An invalid or repeated name.
    GroupName(String),
    /// A `(` without `)`.
    MissingClose,
    /// A `)` without `(`.
    UnexpectedClose,
    /// A `[` without `]`.
    MissingBracket,
    /// `[z-a]`.
    Range(String),
    /// `[[:foo:]]`.
    Posix(String),
    /// A property unknown to Go, or one whose meaning differs between Go and Rust.
    Property(String),
    /// `*` with nothing before it.
    NothingToRepeat(String),
    /// `a**`.
    DoubleRepeat(String),
    /// Above 1000, also as the product of nested repetitions.
    RepeatSize(String),
    /// `\Q` without `\E`.
    OpenQuote,
    /// A code point that is not a character.
    CodePoint(String),
    /// Groups nested too deep.
    Depth,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TrailingBackslash => f.write_str("ends in a single backslash"),
            Self::Escape(x) => write!(f, "invalid escape {x}"),
            Self::Backreference(x) => write!(f, "backreference {x} is not supported by Go's syntax"),
            Self::Lookaround(x) => write!(f, "lookaround {x} is not supported by Go's syntax"),
            Self::Group(x) => write!(f, "invalid group {x}"),
            Self::GroupName(x) => write!(f, "invalid or repeated group name {x:?}"),
            Self::MissingClose => f.write_str("missing closing )"),
            Self::UnexpectedClose => f.write_str("unexpected )"),
            Self::MissingBracket => f.write_str("missing closing ]"),
            Self::Range(x) => write!(f, "invalid character class range {x}"),
            Self::Posix(x) => write!(f, "unknown character class {x}"),
            Self::Property(x) => {
                write!(f, "character property {x} is unknown, or means different things in Go and here")
            }
            Self::NothingToRepeat(x) => write!(f, "nothing to repeat before {x}"),
            Self::DoubleRepeat(x) => write!(f, "{x} repeats a repetition; put the inner one into (?:...)"),
            Self::RepeatSize(x) => write!(f, "repetition {x} is invalid: counts ascend and stop at {REPEAT_MAX}"),
            Self::OpenQuote => f.write_str("\\Q without \\E"),
            Self::CodePoint(x) => write!(f, "{x} is not a character"),
            Self::Depth => write!(f, "groups are nested deeper than {DEPTH_MAX}"),
        }
    }
}

impl std::error::Error for SyntaxError {}

/// Restates a Go pattern.
///
/// # Errors
/// When Go refuses the pattern, or its meaning here would not certainly be Go's.
pub fn translate(pattern: &str) -> Result<Translation, SyntaxError> {
    let mut t = Translator {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        names: vec![None],
        open: vec![1],
        last: Last::Nothing,
    };
    while let Some(c) = t.rest.chars().next() {
        t.step(c)?;
    }
    if t.open.len() > 1 {
        return Err(SyntaxError::MissingClose);
    }
    Ok(Translation { rust: t.out, names: t.names })
}

/// What a repetition operator would apply to.
#[derive(Clone, Copy)]
enum Last {
    /// Start of the pattern, of a group or of an alternative.
    Nothing,
    /// One item; the number is the largest product of nested repetition counts in it.
    Item(u32),
    /// An item that is repeated already.
    Repeated,
    /// `(?i)` or an empty quotation: Go repeats what stands before, Rust refuses, and nobody means it.
    Unclear,
}

struct Translator<'a> {
    rest: &'a str,
    out: String,
    names: Vec<Option<String>>,
    /// Per open group, the outermost first: the largest product of nested repetition counts so far.
    open: Vec<u32>,
    last: Last,
}

impl<'a> Translator<'a> {
    fn step(&mut self, c: char) -> Result<(), SyntaxError> {
        match c {
            '(' => self.group_open(),
            ')' => self.group_close(),
            '|' => {
                self.skip(1);
                self.out.push('|');
                self.last = Last::Nothing;
                Ok(())
            }
            '[' => {
                let (class, rest) = Class::parse(self.rest)?;
                self.rest = rest;
                class.write(&mut self.out);
                self.item(1);
                Ok(())
            }
            '*' | '+' | '?' => {
                let op = self.take(1);
                self.repeat(op, None)
            }
            '{' => match Bounds::parse(self.rest) {
                Some((bounds, len)) => {
                    let op = self.take(len);
                    self.repeat(op, Some(bounds))
                }
                None => self.literal_char(c),
            },
            '\\' => self.escape(),
            '.' | '^' | '$' => {
                self.skip(1);
                self.out.push(c);
                self.item(1);
                Ok(())
            }
            _ => self.literal_char(c),
        }
    }

    fn skip(&mut self, len: usize) {
        self.rest = &self.rest[len..];
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (head, rest) = self.rest.split_at(len);
        self.rest = rest;
        head
    }

    fn item(&mut self, weight: u32) {
        let open = self.open.last_mut().expect("the outermost level is never closed");
        *open = (*open).max(weight);
        self.last = Last::Item(weight);
    }

    fn literal_char(&mut self, c: char) -> Result<(), SyntaxError> {
        self.skip(c.len_utf8());
        write_literal(&mut self.out, c);
        self.item(1);
        Ok(())
    }

    fn repeat(&mut self, op: &str, bounds: Option<Bounds>) -> Result<(), SyntaxError> {
        let weight = match self.last {
            Last::Item(weight) => weight,
            Last::Repeated => return Err(SyntaxError::DoubleRepeat(op.to_owned())),
            Last::Nothing | Last::Unclear => return Err(SyntaxError::NothingToRepeat(op.to_owned())),
        };
        let weight = match &bounds {
            None => weight,
            Some(b) => b.weight(weight).ok_or_else(|| SyntaxError::RepeatSize(op.to_owned()))?,
        };
        self.out.push_str(op);
        if self.rest.starts_with('?') {
            self.skip(1);
            self.out.push('?');
        }
        self.item(weight);
        self.last = Last::Repeated;
        Ok(())
    }

    fn group_close(&mut self) -> Result<(), SyntaxError> {
        if self.open.len() == 1 {
            return Err(SyntaxError::UnexpectedClose);
        }
        let weight = self.open.pop().unwrap_or(1);
        self.skip(1);
        self.out.push(')');
        self.item(weight);
        Ok(())
    }

    fn group_open(&mut self) -> Result<(), SyntaxError> {
        let Some(inner) = self.rest.strip_prefix("(?") else {
            self.skip(1);
            return self.enter("(", Some(None));
        };
        for look in ["<=", "<!", "=", "!"] {
            if inner.starts_with(look) {
                return Err(SyntaxError::Lookaround(format!("(?{look}")));
            }
        }
        if let Some(named) = inner.strip_prefix("P<").or_else(|| inner.strip_prefix('<')) {
            let (name, rest) = named.split_once('>').ok_or_else(|| SyntaxError::Group(start_of(self.rest)))?;
            let valid = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !valid || self.names.iter().flatten().any(|n| n == name) {
                return Err(SyntaxError::GroupName(name.to_owned()));
            }
            self.rest = rest;
            return self.enter("(", Some(Some(name.to_owned())));
        }
        self.flags(inner)
    }

    /// `captured`: `None` for a plain group, else the name, if any.
    fn enter(&mut self, text: &str, captured: Option<Option<String>>) -> Result<(), SyntaxError> {
        if self.open.len() > DEPTH_MAX {
            return Err(SyntaxError::Depth);
        }
        self.names.extend(captured);
        self.out.push_str(text);
        self.open.push(1);
        self.last = Last::Nothing;
        Ok(())
    }

    /// `(?flags)` and `(?flags:`; of a repeated flag the last mention counts.
    fn flags(&mut self, inner: &'a str) -> Result<(), SyntaxError> {
        let bad = || SyntaxError::Group(start_of(self.rest));
        let end = inner.find([':', ')']).ok_or_else(bad)?;
        let (mut on, mut off) = (String::new(), String::new());
        let (mut negative, mut seen) = (false, false);
        for c in inner[..end].chars() {
            match c {
                'i' | 'm' | 's' | 'U' => {
                    on.retain(|x| x != c);
                    off.retain(|x| x != c);
                    if negative {
                        off.push(c)
                    } else {
                        on.push(c)
                    }
                    seen = true;
                }
                '-' if !negative => (negative, seen) = (true, false),
                _ => return Err(bad()),
            }
        }
        if negative && !seen {
            return Err(bad());
        }
        let dash = if off.is_empty() { "" } else { "-" };
        let scoped = inner.as_bytes()[end] == b':';
        self.rest = &inner[end + 1..];
        if scoped {
            return self.enter(&format!("(?{on}{dash}{off}:"), None);
        }
        if !(on.is_empty() && off.is_empty()) {
            let _ = write!(self.out, "(?{on}{dash}{off})");
        }
        if !matches!(self.last, Last::Nothing) {
            self.last = Last::Unclear;
        }
        Ok(())
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        let c = self.rest[1..].chars().next().ok_or(SyntaxError::TrailingBackslash)?;
        match c {
            'Q' => return self.quotation(),
            'A' | 'z' => {
                let text = self.take(2);
                self.out.push_str(text);
            }
            'b' | 'B' => {
                // Go's word boundaries know ASCII words only.
                let text = self.take(2);
                let _ = write!(self.out, "(?-u:{text})");
            }
            'd' | 'D' | 's' | 'S' | 'w' | 'W' | 'p' | 'P' => {
                let (class, rest) = Class::parse_escape(self.rest)?;
                self.rest = rest;
                class.write(&mut self.out);
            }
            _ => {
                let (c, rest) = character_escape(self.rest)?;
                self.rest = rest;
                write_literal(&mut self.out, c);
            }
        }
        self.item(1);
        Ok(())
    }

    fn quotation(&mut self) -> Result<(), SyntaxError> {
        let (text, rest) = self.rest[2..].split_once("\\E").ok_or(SyntaxError::OpenQuote)?;
        self.rest = rest;
        for c in text.chars() {
            write_literal(&mut self.out, c);
        }
        if !text.is_empty() {
            self.item(1);
        } else if !matches!(self.last, Last::Nothing) {
            self.last = Last::Unclear;
        }
        Ok(())
    }
}

/// `{n}`, `{n,}`, `{n,m}`.
struct Bounds {
    min: Option<u32>,
    max: Option<u32>,
    open_ended: bool,
}

impl Bounds {
    /// The bounds at the start of the text and their length; `None` means that `{` is a literal, as in Go.
    fn parse(text: &str) -> Option<(Self, usize)> {
        let inner = &text[1..text.find('}')?];
        let (min, max) = match inner.split_once(',') {
            None => (inner, None),
            Some((min, max)) => (min, Some(max)),
        };
        let low = count(min)?;
        let (high, open_ended) = match max {
            None => (low, false),
            Some("") => (None, true),
            Some(max) => (count(max)?, false),
        };
        Some((Self { min: low, max: high, open_ended }, inner.len() + 2))
    }

    /// Product of nested counts with this repetition around an item; `None` when Go refuses it.
    fn weight(&self, item: u32) -> Option<u32> {
        let min = self.min.filter(|n| *n <= REPEAT_MAX)?;
        let max = if self.open_ended { None } else { Some(self.max.filter(|n| *n <= REPEAT_MAX && *n >= min)?) };
        let most = match max {
            Some(0) => return Some(1),
            Some(max) => max,
            None => min.max(1),
        };
        let product = most.checked_mul(item)?;
        (most < 2 || product <= REPEAT_MAX).then_some(product)
    }
}

/// A count without leading zeros; the inner `None` stands for one too large to matter.
fn count(text: &str) -> Option<Option<u32>> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    Some(text.parse().ok().filter(|n| *n < 100_000_000))
}

/// The character named by an escape at the start of the text, and what follows. prometheus relies on go:
/// regexp/syntax/parse.go, parser.unescape.
pub(super) fn character_escape(text: &str) -> Result<(char, &str), SyntaxError> {
    let c = text[1..].chars().next().ok_or(SyntaxError::TrailingBackslash)?;
    let rest = &text[1 + c.len_utf8()..];
    let octal_follows = rest.starts_with(|d: char| ('0'..='7').contains(&d));
    match c {
        '1'..='7' if !octal_follows => Err(SyntaxError::Backreference(format!("\\{c}"))),
        '0'..='7' => {
            let mut value = c.to_digit(8).unwrap_or(0);
            let mut rest = rest;
            for _ in 0..2 {
                let Some(d) = rest.chars().next().and_then(|d| d.to_digit(8)) else { break };
                value = value * 8 + d;
                rest = &rest[1..];
            }
            Ok((char::from_u32(value).ok_or_else(|| SyntaxError::CodePoint(start_of(text)))?, rest))
        }
        'x' => hex_escape(text, rest),
        'a' => Ok(('\x07', rest)),
        'f' => Ok(('\x0c', rest)),
        'n' => Ok(('\n', rest)),
        'r' => Ok(('\r', rest)),
        't' => Ok(('\t', rest)),
        'v' => Ok(('\x0b', rest)),
        c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok((c, rest)),
        c => Err(SyntaxError::Escape(format!("\\{c}"))),
    }
}

fn hex_escape<'a>(text: &str, rest: &'a str) -> Result<(char, &'a str), SyntaxError> {
    let bad = || SyntaxError::Escape(start_of(text));
    let (digits, rest) = match rest.strip_prefix('{') {
        Some(braced) => braced.split_once('}').ok_or_else(bad)?,
        None => rest.split_at_checked(2).ok_or_else(bad)?,
    };
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    let value = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
    Ok((char::from_u32(value).ok_or_else(|| SyntaxError::CodePoint(start_of(text)))?, rest))
}

/// One character that stands for itself in the Rust dialect, also inside brackets.
pub(super) fn write_literal(out: &mut String, c: char) {
    if c.is_ascii_alphanumeric() || c == '_' || !c.is_ascii() {
        out.push(c);
    } else {
        let _ = write!(out, "\\x{:02X}", u32::from(c));
    }
}

/// The first few characters, for an error text.
pub(super) fn start_of(text: &str) -> String {
    text.chars().take(12).collect()
}
