//! Block-style YAML, written key by key; see `expanded` for what is written.

use std::fmt::Display;

use super::redact::{self, Shown};
use super::tags::is_plain_text;

/// What stands for a secret.
pub(super) const SECRET: &str = "<secret>";

/// The text so far, and where the next key goes.
#[derive(Default)]
pub(super) struct YamlOut {
    text: String,
    indent: usize,
    /// The next key is the first of a list's item.
    at_dash: bool,
}

impl YamlOut {
    pub(super) fn finish(self) -> String {
        self.text
    }

    fn key(&mut self, key: &str) {
        let indent = if self.at_dash { self.indent - 1 } else { self.indent };
        redact::pad(indent, &mut self.text);
        if std::mem::take(&mut self.at_dash) {
            self.text.push_str("- ");
        }
        self.text.push_str(&quoted(key));
        self.text.push(':');
    }

    /// A number, a flag, a duration: what needs no quotes.
    pub(super) fn word(&mut self, key: &str, value: impl Display) {
        self.key(key);
        self.text.push_str(&format!(" {value}\n"));
    }

    /// A text, in quotes where it could be read as anything else.
    pub(super) fn string(&mut self, key: &str, value: &str) {
        self.word(key, quoted(value));
    }

    /// The same unless it is empty.
    pub(super) fn some_string(&mut self, key: &str, value: &str) {
        if !value.is_empty() {
            self.string(key, value);
        }
    }

    /// A number unless it is 0.
    pub(super) fn some_count(&mut self, key: &str, value: u64) {
        if value > 0 {
            self.word(key, value);
        }
    }

    pub(super) fn strings<T: AsRef<str>>(&mut self, key: &str, values: &[T]) {
        if values.is_empty() {
            return self.word(key, "[]");
        }
        self.key(key);
        self.text.push('\n');
        for value in values {
            redact::pad(self.indent, &mut self.text);
            self.text.push_str(&format!("- {}\n", quoted(value.as_ref())));
        }
    }

    /// A map.
    pub(super) fn section(&mut self, key: &str, write: impl FnOnce(&mut Self)) {
        self.key(key);
        self.text.push('\n');
        let before = self.text.len();
        self.indent += 1;
        write(self);
        self.indent -= 1;
        if self.text.len() == before {
            self.text.truncate(before - 1);
            self.text.push_str(" {}\n");
        }
    }

    /// A list of maps, left out when there is none. Each must write a key.
    pub(super) fn items<T>(&mut self, key: &str, items: &[T], mut write: impl FnMut(&mut Self, &T)) {
        if items.is_empty() {
            return;
        }
        self.key(key);
        self.text.push('\n');
        self.indent += 1;
        for item in items {
            self.at_dash = true;
            write(self, item);
            assert!(!self.at_dash, "an item has a key");
        }
        self.indent -= 1;
    }

    /// A value as it was read, without its secrets.
    pub(super) fn as_read(&mut self, key: &str, node: &super::node::Node) {
        self.key(key);
        let deeper = usize::from(!matches!(node.kind, super::node::Kind::List(_)));
        redact::block(node, self.indent + deeper, Shown::Plain, &mut self.text);
    }
}

/// As it stands when that reads back as the same text, else in double quotes, whose escapes JSON shares.
fn quoted(text: &str) -> String {
    if is_plain_text(text) { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}
