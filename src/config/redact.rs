//! Parts of a file as they were read, written out again without their secrets.

use super::node::{Kind, Node};

/// Keys whose text never leaves the program.
const SECRET_KEYS: &[&str] = &[
    "application_credential_secret",
    "auth_token",
    "bearer_token",
    "client_certificate_key",
    "client_secret",
    "credentials",
    "password",
    "secret_key",
    "secrets",
    "token",
];
/// A header whose name contains one of these carries a secret.
const SECRET_HEADERS: &[&str] = &["auth", "cookie", "key", "pass", "secret", "session", "sign", "token"];

/// What may be shown of a value.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Plain,
    Secret,
    /// The values of a map of headers, by their names.
    Headers,
    /// A `tls_config`: its inline key is secret.
    Tls,
}

/// Whether a header of this name carries a secret.
pub(super) fn is_secret_header(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_HEADERS.iter().any(|part| lower.contains(part))
}

fn shown(key: &str, parent: Shown) -> Shown {
    match parent {
        Shown::Secret => Shown::Secret,
        Shown::Headers if is_secret_header(key) => Shown::Secret,
        Shown::Tls if key == "key" => Shown::Secret,
        _ if SECRET_KEYS.contains(&key) => Shown::Secret,
        _ if matches!(key, "headers" | "http_headers" | "proxy_connect_header") => Shown::Headers,
        _ if key == "tls_config" => Shown::Tls,
        _ => Shown::Plain,
    }
}

/// Writes a value after its key or dash: scalars on the same line, collections below.
pub(super) fn block(node: &Node, indent: usize, show: Shown, out: &mut String) {
    match &node.kind {
        Kind::Null => out.push_str(" null\n"),
        Kind::Scalar { .. } if show == Shown::Secret => out.push_str(" <secret>\n"),
        Kind::Scalar { text, quoted } => {
            out.push(' ');
            out.push_str(&scalar(text, *quoted));
            out.push('\n');
        }
        Kind::List(list) if list.is_empty() => out.push_str(" []\n"),
        Kind::Map(map) if map.is_empty() => out.push_str(" {}\n"),
        Kind::List(list) => {
            out.push('\n');
            for item in list {
                pad(indent, out);
                out.push('-');
                block(item, indent + 1, show, out);
            }
        }
        Kind::Map(map) => {
            let in_list = out.ends_with('-');
            out.push(if in_list { ' ' } else { '\n' });
            for (i, entry) in map.iter().enumerate() {
                if i > 0 || !in_list {
                    pad(indent, out);
                }
                out.push_str(&scalar(&entry.key, false));
                out.push(':');
                let deeper = usize::from(!matches!(entry.value.kind, Kind::List(_)));
                block(&entry.value, indent + deeper, shown(&entry.key, show), out);
            }
        }
    }
}

pub(super) fn pad(indent: usize, out: &mut String) {
    out.extend(std::iter::repeat_n("  ", indent));
}

/// As it stands when that reads back as the same text, else in double quotes, whose escapes JSON shares.
fn scalar(text: &str, quoted: bool) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || "_./-".contains(c);
    let safe = text.starts_with(|c: char| c.is_ascii_alphanumeric() || "_/.".contains(c)) && text.chars().all(word);
    let other_type = quoted && {
        let special = ["true", "false", "yes", "no", "on", "off", "y", "n", "null"];
        special.contains(&text.to_ascii_lowercase().as_str())
            || text.starts_with(|c: char| c.is_ascii_digit() || c == '.')
    };
    if safe && !other_type { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
