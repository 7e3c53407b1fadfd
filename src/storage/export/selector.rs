//! Series selectors: `name{a="b",c!="d",e=~"..",f!~".."}`.

use regex_automata::meta::Regex;
use std::fmt;

/// Why a selector is not one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelectorError {
    text: String,
    what: String,
}

impl fmt::Display for SelectorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "bad selector {:?}: {}; wanted is for example up{{job=\"node\",instance=~\"10\\\\..*\"}}",
            self.text, self.what
        )
    }
}

impl std::error::Error for SelectorError {}

/// A conjunction of conditions on labels. An absent label counts as empty, as in Prometheus.
#[derive(Debug)]
pub struct Selector {
    conditions: Vec<(String, Condition)>,
}

#[derive(Debug)]
enum Condition {
    Is(String),
    IsNot(String),
    Matches(Box<Regex>),
    MatchesNot(Box<Regex>),
}

impl Selector {
    /// Reads a selector. Patterns are anchored at both ends.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut p = Parser { rest: text.trim() };
        p.selector().map_err(|what| SelectorError { text: text.to_owned(), what })
    }

    /// Whether a series with these labels is selected.
    pub fn selects<'a>(&self, mut value_of: impl FnMut(&str) -> &'a str) -> bool {
        self.conditions.iter().all(|(name, c)| {
            let value = value_of(name);
            match c {
                Condition::Is(v) => v == value,
                Condition::IsNot(v) => v != value,
                Condition::Matches(r) => r.is_match(value),
                Condition::MatchesNot(r) => !r.is_match(value),
            }
        })
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn selector(&mut self) -> Result<Selector, String> {
        let mut conditions = Vec::new();
        let name = self.name(&[':']);
        if !name.is_empty() {
            conditions.push(("__name__".to_owned(), Condition::Is(name)));
        }
        if self.eat("{") {
            while !self.eat("}") {
                conditions.push(self.condition()?);
                if !self.eat(",") && !self.rest.starts_with('}') {
                    return Err("a comma or a closing brace is missing".to_owned());
                }
            }
        }
        match (self.rest.is_empty(), conditions.is_empty()) {
            (false, _) => Err(format!("unexpected {:?}", self.rest)),
            (_, true) => Err("it selects everything; leave it out instead".to_owned()),
            _ => Ok(Selector { conditions }),
        }
    }

    fn condition(&mut self) -> Result<(String, Condition), String> {
        let name = if self.rest.starts_with('"') { self.quoted()? } else { self.name(&[]) };
        if name.is_empty() {
            return Err("a label name is missing".to_owned());
        }
        // A quoted name without an operator is the metric name, as in Prometheus since UTF-8 names.
        let operator = ["=~", "!~", "!=", "="].into_iter().find(|o| self.eat(o));
        let Some(operator) = operator else {
            return Ok(("__name__".to_owned(), Condition::Is(name)));
        };
        let value = self.quoted()?;
        Ok((
            name,
            match operator {
                "=~" => Condition::Matches(pattern(&value)?),
                "!~" => Condition::MatchesNot(pattern(&value)?),
                "!=" => Condition::IsNot(value),
                _ => Condition::Is(value),
            },
        ))
    }

    fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest).trim_start();
        found.is_some()
    }

    fn name(&mut self, also: &[char]) -> String {
        let end = self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || also.contains(&c)));
        let (name, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        self.rest = rest.trim_start();
        name.to_owned()
    }

    fn quoted(&mut self) -> Result<String, String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')).ok_or("a quoted text is missing")?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices().skip(1);
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => text.push('\n'),
                    Some('t') => text.push('\t'),
                    Some(c @ ('\\' | '"' | '\'')) => text.push(c),
                    _ => return Err("an escape is none of \\\\ \\\" \\' \\n \\t".to_owned()),
                },
                c if c == quote => {
                    self.rest = self.rest[at + 1..].trim_start();
                    return Ok(text);
                }
                c => text.push(c),
            }
        }
        Err("a quote is not closed".to_owned())
    }
}

fn pattern(text: &str) -> Result<Box<Regex>, String> {
    // The pattern alone first, so that a stray parenthesis cannot escape the anchors.
    Regex::new(text).map_err(|e| format!("pattern {text:?}: {e}"))?;
    Regex::new(&format!("^(?s:{text})$")).map(Box::new).map_err(|e| format!("pattern {text:?}: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let s = Selector::parse(selector).expect(selector);
        let value_of = |n: &str| labels.iter().find(|(m, _)| *m == n).map_or("", |l| l.1).to_owned();
        let values: Vec<(String, String)> = s.conditions.iter().map(|(n, _)| (n.clone(), value_of(n))).collect();
        s.selects(|n| values.iter().find(|(m, _)| m == n).map_or("", |v| v.1.as_str()))
    }

    #[test]
    fn conditions_mean_what_they_mean_in_prometheus() {
        let up = [("__name__", "up"), ("job", "a\"b"), ("x", "10.1")];
        for yes in [
            "up",
            "up{}",
            r#"{job="a\"b"}"#,
            r#"up{job!="c", x=~"10\\..*",}"#,
            r#"{__name__=~"u."}"#,
            r#"up{gone=""}"#,
            r#"up{x!~"1"}"#,
            r#"{"up", 'x'="10.1"}"#.replace('\'', "\"").as_str(),
        ] {
            assert!(selects(yes, &up), "{yes}");
        }
        for no in ["down", r#"up{job="c"}"#, r#"up{x=~"1"}"#, r#"up{gone=~".+"}"#, r#"up{x!~"10.*"}"#] {
            assert!(!selects(no, &up), "{no}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "",
            "{}",
            "up{",
            "up{job}x",
            r#"up{job="a}"#,
            r#"up{job=~"("}"#,
            r#"up{job=~")("}"#,
            r#"up{a="b" c="d"}"#,
            "up up",
        ] {
            assert!(Selector::parse(bad).is_err(), "{bad}");
        }
    }
}
