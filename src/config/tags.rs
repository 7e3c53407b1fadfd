//! What a scalar of YAML is, as written and under a tag: Prometheus's reading, go-yaml v2.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_saphyr::granit_parser::{ScalarStyle, Tag};

use super::node::Kind;

/// Where the tags that mean something live.
const NAMESPACE: &str = "tag:yaml.org,2002:";

/// A scalar. A tag that means nothing to go-yaml makes a text of it, as a quoted one is.
pub(super) fn scalar(text: String, style: ScalarStyle, tag: Option<&Tag>) -> Result<Kind, String> {
    let name = tag.filter(|tag| tag.original() != "!").map(|tag| tag.suffix_in_namespace(NAMESPACE));
    let Some(name) = name else {
        let is_plain = style == ScalarStyle::Plain;
        return Ok(if is_plain && is_null(&text) { Kind::Null } else { Kind::Scalar { text, quoted: !is_plain } });
    };
    let name = name.as_deref().unwrap_or_default();
    match name {
        "null" | "bool" | "int" | "float" | "timestamp" => {
            let found = found(&text, name);
            match found {
                _ if found != name && (name, found) != ("float", "int") => {
                    Err(format!("!!{name} {text:?}: it is a !!{found}"))
                }
                "null" => Ok(Kind::Null),
                _ => Ok(Kind::Scalar { text, quoted: name == "timestamp" }),
            }
        }
        "binary" => {
            let bytes = STANDARD.decode(text.replace(['\n', '\r'], "")).map_err(|e| format!("!!binary: {e}"))?;
            let text = String::from_utf8(bytes).map_err(|_| "!!binary: is not UTF-8".to_owned())?;
            Ok(Kind::Scalar { text, quoted: true })
        }
        // A merge key may say so.
        "merge" => Ok(Kind::Scalar { quoted: text != "<<", text }),
        _ => Ok(Kind::Scalar { text, quoted: true }),
    }
}

/// The words of YAML 1.1.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" | "y" | "Y" => Some(true),
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" | "n" | "N" => Some(false),
        _ => None,
    }
}

/// Whether a text may stand without quotes in a block, and is then read as a text by any version of YAML.
pub(super) fn is_plain_text(text: &str) -> bool {
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "_./-:*$|()+=?@,;&!<>[]{}^~\\%".contains(c);
    let is_begun = text.starts_with(|c: char| c.is_ascii_alphabetic() || "_/$(".contains(c));
    is_begun && text.chars().all(is_safe) && !text.ends_with(':') && !is_null(text) && truth(text).is_none()
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

/// What a text is by itself. Only where it is asked for is a date more than a text.
fn found(text: &str, asked: &str) -> &'static str {
    match text {
        _ if is_null(text) => "null",
        _ if truth(text).is_some() => "bool",
        _ if asked == "timestamp" && is_date(text) => "timestamp",
        _ if is_whole(text) => "int",
        _ if is_float(text) => "float",
        _ => "str",
    }
}

/// go: strconv.ParseInt with base 0.
fn is_whole(text: &str) -> bool {
    let plain = if text.starts_with('_') { return false } else { text.replace('_', "") };
    let digits = plain.strip_prefix(['+', '-']).unwrap_or(&plain);
    let (radix, digits) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (16, &digits[2..]),
        Some("0o") => (8, &digits[2..]),
        Some("0b") => (2, &digits[2..]),
        Some(two) if two.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    !digits.starts_with(['+', '-']) && u64::from_str_radix(digits, radix).is_ok()
}

fn is_float(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    let is_digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
    let unsigned = unsigned.replace('_', "");
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((&unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    is_digits(whole)
        && is_digits(fraction)
        && is_digits(exponent)
        && !exponent.is_empty()
        && whole.len() + fraction.len() > 0
}

/// `2001-12-14`, with or without a time of day.
fn is_date(text: &str) -> bool {
    let date = text.split(['T', 't', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split('-').collect();
    let is_number =
        |t: &str, least: usize, most: usize| (least..=most).contains(&t.len()) && t.bytes().all(|b| b.is_ascii_digit());
    matches!(parts[..], [year, month, day] if is_number(year, 4, 4) && is_number(month, 1, 2) && is_number(day, 1, 2))
}

#[cfg(test)]
mod tests {
    use super::super::node::Node;
    use super::*;

    fn kind(yaml: &str) -> Result<Kind, String> {
        Node::parse(yaml).map(|node| node.kind).map_err(|e| e[0].what.clone())
    }

    /// Each as `promtool check config` of 3.16 reads it where a text, a count or a flag is wanted.
    #[test]
    fn tags_are_read_as_by_go() {
        let scalar = |text: &str, quoted| Ok(Kind::Scalar { text: text.to_owned(), quoted });
        for (yaml, want) in [
            ("!foo 5", scalar("5", true)),
            ("!!foo 5", scalar("5", true)),
            ("!<x> ~", scalar("~", true)),
            ("%TAG !e! tag:example.com,2000:\n---\n!e!x 5", scalar("5", true)),
            ("! 5", scalar("5", false)),
            ("!!str 5", scalar("5", true)),
            ("!!int \"5\"", scalar("5", false)),
            ("!!int -0x1_F", scalar("-0x1_F", false)),
            ("!!float 5", scalar("5", false)),
            ("!!float -1.5e+3", scalar("-1.5e+3", false)),
            ("!!float .inf", scalar(".inf", false)),
            ("!!bool \"on\"", scalar("on", false)),
            ("!!null ~", Ok(Kind::Null)),
            ("!!null \"\"", Ok(Kind::Null)),
            ("!!binary YQ==", scalar("a", true)),
            ("!!timestamp 2001-1-14", scalar("2001-1-14", true)),
            ("!!merge x", scalar("x", true)),
        ] {
            assert_eq!(kind(yaml), want, "{yaml}");
        }
        for (yaml, want) in [
            ("!!int x", "!!int \"x\": it is a !!str"),
            ("!!int 1.5", "it is a !!float"),
            ("!!int 08", "it is a !!float"),
            ("!!int ''", "it is a !!null"),
            ("!!int true", "it is a !!bool"),
            ("!!float .", "it is a !!str"),
            ("!!float 1e", "it is a !!str"),
            ("!!bool 1", "it is a !!int"),
            ("!!null 5", "it is a !!int"),
            ("!!null x", "it is a !!str"),
            ("!!timestamp 2001", "it is a !!int"),
            ("!!binary '%%%'", "!!binary: "),
            ("!!binary /w==", "!!binary: is not UTF-8"),
        ] {
            assert!(kind(yaml).is_err_and(|e| e.contains(want)), "{yaml}: {:?}", kind(yaml));
        }
        assert!(matches!(kind("!foo [1]"), Ok(Kind::List(_))), "a list is one under any tag");
    }
}
