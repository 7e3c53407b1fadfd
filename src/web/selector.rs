//! A series selector such as `up{job="node",instance!~"10\\..*"}`, matched against label sets.

use std::fmt;

use regex_automata::meta::Regex;

use crate::model::Labels;

/// Matchers that must all hold; none = everything matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selector {
    matchers: Vec<Matcher>,
}

#[derive(Clone, Debug)]
struct Matcher {
    name: String,
    op: Op,
    value: String,
    /// Exactly when `op` is a regular expression's.
    regex: Option<Regex>,
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Equal,
    NotEqual,
    Match,
    NotMatch,
}

/// What is wrong with a selector, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    /// Byte offset in the text.
    pub at: usize,
    /// What was expected there.
    pub expected: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: expected {}", self.at, self.expected)
    }
}

impl std::error::Error for SelectorError {}

impl Selector {
    /// Unlike that of a query it may match everything, as `{}` does. prometheus: promql/parser, ParseMetricSelector.
    ///
    /// # Errors
    /// [`SelectorError`]
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut reader = Reader { text, at: 0 };
        let mut matchers = Vec::new();
        reader.spaces();
        if let Some(name) = reader.name(|c| c == ':') {
            matchers.push(Matcher::new("__name__", Op::Equal, name.to_owned()).map_err(|e| reader.error(e))?);
        }
        reader.spaces();
        if matchers.is_empty() && !reader.rest().starts_with('{') {
            return Err(reader.error("a metric name or `{`"));
        }
        if reader.take("{") {
            reader.spaces();
            while !reader.take("}") {
                matchers.push(reader.matcher()?);
                reader.spaces();
                if !reader.take(",") && !reader.rest().starts_with('}') {
                    return Err(reader.error("`,` or `}`"));
                }
                reader.spaces();
            }
        }
        reader.spaces();
        if !reader.rest().is_empty() {
            return Err(reader.error("the end"));
        }
        Ok(Self { matchers })
    }

    /// Whether all matchers hold; an absent label is the empty text.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.matchers.iter().all(|m| m.holds(labels.get(&m.name).unwrap_or_default()))
    }
}

impl Matcher {
    fn new(name: &str, op: Op, value: String) -> Result<Self, String> {
        let regex = match op {
            Op::Equal | Op::NotEqual => None,
            Op::Match | Op::NotMatch => {
                let config = Regex::config().nfa_size_limit(Some(10 << 20));
                let built = Regex::builder().configure(config).build(&format!("^(?s:{value})$"));
                Some(built.map_err(|e| format!("a regular expression ({e})"))?)
            }
        };
        Ok(Self { name: name.to_owned(), op, value, regex })
    }

    fn holds(&self, value: &str) -> bool {
        let equal = self.regex.as_ref().map_or_else(|| self.value == value, |regex| regex.is_match(value));
        equal == matches!(self.op, Op::Equal | Op::Match)
    }
}

/// Reads a selector from left to right.
struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn error(&self, expected: impl Into<String>) -> SelectorError {
        SelectorError { at: self.at, expected: expected.into() }
    }

    fn spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn take(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn name(&mut self, also: impl Fn(char) -> bool) -> Option<&'a str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || also(c))).unwrap_or(rest.len());
        if end == 0 || rest.starts_with(|c: char| c.is_ascii_digit()) {
            return None;
        }
        self.at += end;
        Some(&rest[..end])
    }

    fn matcher(&mut self) -> Result<Matcher, SelectorError> {
        let name = match self.rest().starts_with(['"', '\'']) {
            true => self.quoted()?,
            false => self.name(|_| false).ok_or_else(|| self.error("a label name"))?.to_owned(),
        };
        self.spaces();
        // The two-character operators come first: `=` is a prefix of `=~`.
        let ops = [("=~", Op::Match), ("!~", Op::NotMatch), ("!=", Op::NotEqual), ("=", Op::Equal)];
        let op = ops.into_iter().find(|(token, _)| self.take(token)).map(|(_, op)| op);
        self.spaces();
        match op {
            Some(op) => {
                let value = self.quoted()?;
                Matcher::new(&name, op, value).map_err(|e| self.error(e))
            }
            // `{"metric name"}` is the name itself.
            None if self.rest().starts_with([',', '}']) => {
                Matcher::new("__name__", Op::Equal, name).map_err(|e| self.error(e))
            }
            None => Err(self.error("`=`, `!=`, `=~` or `!~`")),
        }
    }

    /// A text in any of PromQL's quotes; within backquotes a backslash stands for itself.
    fn quoted(&mut self) -> Result<String, SelectorError> {
        let quote = self.rest().chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quote = quote.ok_or_else(|| self.error("a quoted text"))?;
        let mut out = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((i, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.at += i + 1;
                    return Ok(out);
                }
                '\\' if quote != '`' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c @ ('\\' | '"' | '\'')) => out.push(c),
                    _ => return Err(self.error(r#"one of \n \t \r \\ \" \' after a backslash"#)),
                },
                c => out.push(c),
            }
        }
        Err(self.error("a closing quote"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        Selector::parse(selector).unwrap().matches(&Labels::from_pairs(labels.iter().copied()))
    }

    #[test]
    fn all_matchers_must_hold() {
        let node = [("job", "node"), ("instance", "10.0.0.1:9100")];
        assert!(matches(r#"{job="node"}"#, &node));
        assert!(matches(r#"{ job = "node" , instance=~"10\\.0.*" , }"#, &node));
        assert!(!matches(r#"{job="node",instance!~`10\.0.*`}"#, &node));
        assert!(!matches(r#"{job=~"nod"}"#, &node), "anchored");
        assert!(matches(r#"{job="node",zone=""}"#, &node), "an absent label is empty");
        assert!(matches(r#"{'job'='node'}"#, &node));
        assert!(matches(r#"up{job="a\"b"}"#, &[("__name__", "up"), ("job", "a\"b")]));
        assert!(matches("a:b", &[("__name__", "a:b")]));
        assert!(matches(r#"{"with space"}"#, &[("__name__", "with space")]));
        assert!(Selector::default().matches(&Labels::default()));
        assert!(matches("{}", &node) && matches(r#"{job!="a"}"#, &node) && !matches(r#"{job=""}"#, &node));
    }

    #[test]
    fn what_is_no_selector_is_refused_with_a_place() {
        for (wrong, at) in [
            ("", 0),
            (" ", 1),
            ("{", 1),
            ("{,}", 1),
            (r#"{a="b""#, 6),
            (r#"{a="b"#, 3),
            ("{a b}", 3),
            (r#"{1a="b"}"#, 1),
            (r#"{a="b"} x"#, 8),
            (r#"{a=~"("}"#, 7),
            (r#"{a="\q"}"#, 3),
        ] {
            assert_eq!(Selector::parse(wrong).map_err(|e| e.at), Err(at), "{wrong}");
        }
    }
}
