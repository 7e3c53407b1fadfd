//! Series text to labels: names, escapes, bounds in OpenMetrics spelling.

use std::borrow::Cow;

use memchr::{memchr, memchr2};

use super::text::{Kind, is_name};
use super::value;

/// Name of the label that holds the metric name.
pub const METRIC_NAME: &str = "__name__";

/// One exposed label, in body order; the metric name comes first as [`METRIC_NAME`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposed<'a> {
    /// Escapes resolved; bytes that are not UTF-8 replaced, see `broken`.
    pub name: Cow<'a, str>,
    /// Escapes resolved, `le` and `quantile` normalised. May be empty.
    pub value: Cow<'a, str>,
    /// Name (or the metric name) was not UTF-8: invalid under every validation scheme.
    pub broken: bool,
    /// Where the value stands between its quotes, as written; an empty range for an unquoted metric name.
    pub quoted: (u32, u32),
}

/// Appends the labels of a series text that [`super::text::step`] accepted, `kind` being the type in force.
pub fn decode<'a>(series: &'a [u8], kind: Kind, out: &mut Vec<Exposed<'a>>) {
    let first = out.len();
    let start = series.iter().take_while(|c| matches!(c, b' ' | b'\t')).count();
    out.push(Exposed { name: METRIC_NAME.into(), value: "".into(), broken: false, quoted: (0, 0) });
    let mut at = start;
    if series[start] != b'{' {
        let end = start + series[start..].iter().take_while(|&&c| is_name(c)).count();
        // Leading blanks are part of the name.
        let (value, broken) = text(&series[..end]);
        out[first].value = value;
        out[first].broken = broken;
        let Some(brace) = memchr(b'{', &series[end..]) else { return };
        at = end + brace;
    }
    at += 1;
    loop {
        at += series[at..].iter().take_while(|c| matches!(c, b' ' | b'\t' | b',')).count();
        if series[at] == b'}' {
            return;
        }
        let name = if series[at] == b'"' {
            let end = quote_end(series, at + 1);
            let name = &series[at + 1..end];
            at = end + 1;
            name
        } else {
            let end = at + series[at..].iter().take_while(|&&c| is_name(c)).count();
            let name = &series[at..end];
            at = end;
            name
        };
        at += series[at..].iter().take_while(|c| matches!(c, b' ' | b'\t')).count();
        if series[at] != b'=' {
            let (value, broken) = text(name);
            out[first].value = value;
            out[first].broken = broken;
            continue;
        }
        at += 1;
        at += series[at..].iter().take_while(|c| matches!(c, b' ' | b'\t' | 0)).count();
        let open = at + 1;
        let close = quote_end(series, open);
        // NUL bytes behind the closing quote belong to the lexer's token, whose last byte is cut as if it were the quote.
        let nuls = series[close + 1..].iter().take_while(|&&c| c == 0).count();
        at = close + 1 + nuls;
        let (name, broken) = text(name);
        let (value, _) = text(&series[open..close + nuls]);
        let value = normalised(kind, &name, value);
        out.push(Exposed { name, value, broken, quoted: (open as u32, (close + nuls) as u32) });
    }
}

/// The type, where it changes how a series text reads: [`Kind::Histogram`] with `le`, [`Kind::Summary`] with `quantile`.
#[must_use]
pub fn effective_kind(series: &[u8], kind: Kind) -> Kind {
    let bound: &[u8] = match kind {
        Kind::Histogram => b"le",
        Kind::Summary => b"quantile",
        _ => return Kind::None,
    };
    // Escapes cannot spell these letters, so a label of this name shows in the text.
    if memchr::memmem::find(series, bound).is_none() {
        return Kind::None;
    }
    let mut labels = Vec::new();
    decode(series, Kind::None, &mut labels);
    if labels.iter().any(|l| l.name.as_bytes() == bound) { kind } else { Kind::None }
}

/// Position of the quote that closes a text beginning at `at`.
fn quote_end(series: &[u8], mut at: usize) -> usize {
    loop {
        let i = memchr2(b'"', b'\\', &series[at..]).expect("the tokenizer saw the closing quote");
        at += i;
        if series[at] == b'"' {
            return at;
        }
        at += 1;
        at += series[at..].iter().take_while(|&&c| c == 0).count();
        at += 1;
    }
}

/// Resolves `\\`, `\"` and `\n`; every other backslash stays.
fn text(raw: &[u8]) -> (Cow<'_, str>, bool) {
    let (text, broken) = match std::str::from_utf8(raw) {
        Ok(t) => (Cow::Borrowed(t), false),
        Err(_) => (String::from_utf8_lossy(raw), true),
    };
    if !raw.contains(&b'\\') {
        return (text, broken);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let ahead = chars.clone().next();
        match ahead {
            Some('\\') => out.push('\\'),
            Some('"') => out.push('"'),
            Some('n') => out.push('\n'),
            _ => {
                out.push('\\');
                continue;
            }
        }
        chars.next();
    }
    (Cow::Owned(out), broken)
}

/// Resolves the escapes of a HELP text: `\\` and `\n` only.
#[must_use]
pub fn help(raw: &[u8]) -> String {
    let text = String::from_utf8_lossy(raw);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, chars.peek()) {
            ('\\', Some('\\')) => out.push('\\'),
            ('\\', Some('n')) => out.push('\n'),
            _ => {
                out.push(c);
                continue;
            }
        }
        chars.next();
    }
    out
}

fn normalised<'a>(kind: Kind, name: &str, text: Cow<'a, str>) -> Cow<'a, str> {
    let bound = match kind {
        Kind::Histogram => name == "le",
        Kind::Summary => name == "quantile",
        _ => false,
    };
    match if bound { value::parse_bound(text.as_bytes()) } else { None } {
        Some(v) => Cow::Owned(value::print_bound(v)),
        None => text,
    }
}
