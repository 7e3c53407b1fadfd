//! What a scrape asks for, and which parser an answer gets.

use std::fmt;

use crate::config::{NameValidation, ScrapeConfig, ScrapeProtocol};

/// Number of protocols Prometheus knows; the first of a list gets a weight one above it.
const KNOWN_PROTOCOLS: usize = 5;

/// The `Accept` header of a job: what Prometheus sends, restricted to the text formats that are parsed here. A list
/// without any text format asks for both, so that a target can still answer. prometheus: scrape.go, acceptHeader.
#[must_use]
pub fn accept(config: &ScrapeConfig) -> String {
    let mut list: Vec<ScrapeProtocol> = config.scrape_protocols.iter().copied().filter(|p| p.is_text()).collect();
    if list.is_empty() {
        list = vec![ScrapeProtocol::Text100, ScrapeProtocol::Text004];
    }
    let escaping = match config.name_validation {
        NameValidation::Utf8 => "allow-utf-8",
        NameValidation::Legacy => "underscores",
    };
    let mut header = String::new();
    let mut weight = KNOWN_PROTOCOLS + 1;
    for protocol in list {
        header += match protocol {
            ScrapeProtocol::Text100 => "text/plain;version=1.0.0;escaping=",
            _ => "text/plain;version=0.0.4",
        };
        if protocol == ScrapeProtocol::Text100 {
            header += escaping;
        }
        header += &format!(";q=0.{weight},");
        weight -= 1;
    }
    header + &format!("*/*;q=0.{weight}")
}

/// What client libraries send, which needs no reading: it was 3 % of a scrape.
const USUAL: [&str; 4] = [
    "text/plain; version=0.0.4; charset=utf-8",
    "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
    "text/plain; version=0.0.4; charset=utf-8; escaping=values",
    "text/plain; version=0.0.4",
];

/// Why an answer gets no parser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentTypeError {
    /// No header, or an empty one, and no fallback.
    Blank,
    /// Not a media type, and no fallback.
    Unreadable(String),
    /// A media type that is no exposition format, and no fallback.
    Foreign(String),
    /// A format of Prometheus that is not parsed here.
    Unparsed(&'static str),
}

impl fmt::Display for ContentTypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blank => f.write_str(
                "non-compliant scrape target sending blank Content-Type and no fallback_scrape_protocol specified for target",
            ),
            Self::Unreadable(t) => {
                write!(f, "cannot parse Content-Type {t:?} and no fallback_scrape_protocol for target")
            }
            Self::Foreign(t) => write!(
                f,
                "received unsupported Content-Type {t:?} and no fallback_scrape_protocol specified for target"
            ),
            Self::Unparsed(t) => {
                write!(f, "the target answers in {t}, which is not supported; only text/plain is")
            }
        }
    }
}

impl std::error::Error for ContentTypeError {}

/// Whether an answer is parsed as text. All parameters are ignored; an empty body needs no verdict at all.
/// prometheus: textparse/interface.go, extractMediaType.
///
/// # Errors
/// The scrape fails with the error's text.
pub fn check(content_type: Option<&str>, fallback: Option<ScrapeProtocol>) -> Result<(), ContentTypeError> {
    let received = content_type.unwrap_or("");
    if USUAL.contains(&received) {
        return Ok(());
    }
    let verdict = match media_type(received) {
        _ if received.is_empty() => Err(ContentTypeError::Blank),
        None => Err(ContentTypeError::Unreadable(received.to_owned())),
        Some(t) => match t.as_str() {
            "text/plain" => return Ok(()),
            "application/openmetrics-text" => return Err(ContentTypeError::Unparsed("application/openmetrics-text")),
            "application/vnd.google.protobuf" => {
                return Err(ContentTypeError::Unparsed("application/vnd.google.protobuf"));
            }
            _ => Err(ContentTypeError::Foreign(received.to_owned())),
        },
    };
    match fallback {
        None => verdict,
        Some(ScrapeProtocol::Text004 | ScrapeProtocol::Text100) => Ok(()),
        Some(ScrapeProtocol::Proto) => Err(ContentTypeError::Unparsed("application/vnd.google.protobuf")),
        Some(_) => Err(ContentTypeError::Unparsed("application/openmetrics-text")),
    }
}

/// The lower-case media type; `None` where Go's `mime.ParseMediaType` fails.
fn media_type(header: &str) -> Option<String> {
    let (base, mut rest) = header.split_at(header.find(';').unwrap_or(header.len()));
    let base = base.trim().to_lowercase();
    let (kind, sub) = base.split_once('/').map_or((base.as_str(), None), |(k, s)| (k, Some(s)));
    if !is_token(kind) || !sub.is_none_or(is_token) {
        return None;
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    loop {
        rest = rest.trim();
        // One semicolon at the end is nothing, two are too many.
        if rest.is_empty() || rest == ";" {
            return Some(base);
        }
        let (name, value, after) = parameter(rest.strip_prefix(';')?.trim_start())?;
        if seen.iter().any(|(n, v)| *n == name && *v != value) {
            return None;
        }
        seen.push((name, value));
        rest = after;
    }
}

/// Reads `name=value`; gives the lower-case name, the value, and what follows.
fn parameter(text: &str) -> Option<(String, String, &str)> {
    let (name, after) = text.split_once('=')?;
    let name = name.trim_end();
    if !is_token(name) {
        return None;
    }
    let after = after.trim_start();
    let (value, rest) = if let Some(quoted) = after.strip_prefix('"') {
        let (mut escaped, mut value) = (false, String::new());
        let end = quoted.find(|c: char| {
            let stop = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            if !escaped && !stop {
                value.push(c);
            }
            stop
        })?;
        (value, &quoted[end + 1..])
    } else {
        let end = after.find(|c: char| !is_token_char(c)).unwrap_or(after.len());
        if end == 0 {
            return None;
        }
        (after[..end].to_owned(), &after[end..])
    };
    Some((name.to_lowercase(), value, rest))
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?=".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_offers_text_with_prometheus_weights() {
        use ScrapeProtocol::{OpenMetrics001, OpenMetrics100, Text004, Text100};
        let mut config = ScrapeConfig {
            scrape_protocols: vec![OpenMetrics100, OpenMetrics001, Text100, Text004],
            ..ScrapeConfig::default()
        };
        let both = "text/plain;version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.4";
        assert_eq!(accept(&config), both);
        config.scrape_protocols = vec![Text004];
        assert_eq!(accept(&config), "text/plain;version=0.0.4;q=0.6,*/*;q=0.5");
        config.scrape_protocols = vec![OpenMetrics100];
        assert_eq!(accept(&config), both);
        config.name_validation = NameValidation::Legacy;
        assert!(accept(&config).contains("escaping=underscores"));
    }

    #[test]
    fn content_types_get_prometheus_verdicts() {
        let text = Some(ScrapeProtocol::Text004);
        for good in [
            "text/plain",
            "text/plain; version=0.0.4; charset=utf-8",
            "TEXT/Plain;x=\"a;b\"",
            "text/plain;",
            "text/plain; a=1; ",
            "text/plain; a=1;a=\"1\";",
        ] {
            assert_eq!(check(Some(good), None), Ok(()), "{good}");
        }
        assert_eq!(check(None, None), Err(ContentTypeError::Blank));
        assert_eq!(check(Some(""), text), Ok(()));
        assert!(matches!(check(Some("text/html"), None), Err(ContentTypeError::Foreign(_))));
        assert_eq!(check(Some("text/html"), text), Ok(()));
        for bad in [
            "text/plain; version",
            "text/plain; a=1; a=2",
            "te xt/plain",
            "/",
            "text/plain; =1",
            "text/plain;;",
            "text/plain; ;",
            "text/plain; a=1;;",
            "text/plain;; a=1",
            "text/plain; a=1 b=1",
        ] {
            assert!(matches!(check(Some(bad), None), Err(ContentTypeError::Unreadable(_))), "{bad}");
            assert_eq!(check(Some(bad), text), Ok(()), "{bad}");
        }
        let open = "application/openmetrics-text; version=1.0.0";
        assert!(matches!(check(Some(open), text), Err(ContentTypeError::Unparsed(_))));
    }
}
