//! A compiled, fully anchored pattern; simple shapes are matched without an automaton.

use std::fmt;

use regex_automata::meta;
use regex_automata::util::captures::Captures;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

use super::go_syntax::{self, SyntaxError};

/// Bytes of automaton one pattern may need.
const NFA_BYTES_MAX: usize = 32 << 20;
/// Literals a pattern is unfolded into at most; beyond that the automaton is as good.
const LITERALS_MAX: usize = 256;

/// Why a pattern does not compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatternError {
    /// Outside Go's syntax, or not certain to mean the same.
    Syntax(SyntaxError),
    /// Needs too large an automaton.
    TooLarge,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(e) => e.fmt(f),
            Self::TooLarge => write!(f, "needs more than {} MiB once compiled", NFA_BYTES_MAX >> 20),
        }
    }
}

impl std::error::Error for PatternError {}

/// `^(?s:PATTERN)$` in Go's syntax. prometheus: relabel.go, NewRegexp.
#[derive(Clone, Debug)]
pub struct Pattern {
    shape: Shape,
    engine: meta::Regex,
    names: Vec<Option<String>>,
    whole_group: bool,
}

/// What a pattern accepts, where that is simple.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    /// At least so many characters (0 or 1), no matter which.
    Any { least: usize },
    /// One of these, sorted.
    Literals(Vec<String>),
    /// One of these, then at least so many characters (0 or 1).
    Prefix { heads: Vec<String>, least: usize },
    /// At least so many characters (0 or 1), then one of these.
    Suffix { tails: Vec<String>, least: usize },
    /// Ask the automaton.
    Other,
}

impl Pattern {
    /// Compiles a pattern as written in a configuration, without anchors.
    ///
    /// # Errors
    /// See [`PatternError`].
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let go = go_syntax::translate(text).map_err(PatternError::Syntax)?;
        let body = regex_syntax::ParserBuilder::new()
            .dot_matches_new_line(true)
            .nest_limit(1000)
            .build()
            .parse(&go.rust)
            .map_err(|_| PatternError::TooLarge)?;
        let shape = Shape::of(&body);
        let whole_group = matches!(body.kind(), HirKind::Capture(c) if c.index == 1);
        let anchored = Hir::concat(vec![Hir::look(Look::Start), body, Hir::look(Look::End)]);
        let engine = meta::Builder::new()
            .configure(meta::Config::new().nfa_size_limit(Some(NFA_BYTES_MAX)))
            .build_from_hir(&anchored)
            .map_err(|_| PatternError::TooLarge)?;
        Ok(Self { shape, engine, names: go.names, whole_group })
    }

    /// Names by group index; entry 0 is the whole match.
    #[must_use]
    pub fn names(&self) -> &[Option<String>] {
        &self.names
    }

    /// Whether the whole text matches.
    #[must_use]
    pub fn is_match(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Any { least } => text.len() >= *least,
            Shape::Literals(all) => all.binary_search_by(|l| l.as_str().cmp(text)).is_ok(),
            Shape::Prefix { heads, least } => {
                heads.iter().any(|h| text.strip_prefix(h.as_str()).is_some_and(|rest| rest.len() >= *least))
            }
            Shape::Suffix { tails, least } => {
                tails.iter().any(|t| text.strip_suffix(t.as_str()).is_some_and(|rest| rest.len() >= *least))
            }
            Shape::Other => self.engine.is_match(text),
        }
    }

    /// Whether groups 0 to `highest` are the whole text whenever the pattern matches.
    #[must_use]
    pub fn groups_are_whole(&self, highest: usize) -> bool {
        highest == 0 || (highest == 1 && self.whole_group)
    }

    /// Groups of a match. `None`: the text does not match.
    #[must_use]
    pub fn captures(&self, text: &str) -> Option<Captures> {
        let mut captures = self.engine.create_captures();
        self.engine.captures(text, &mut captures);
        captures.is_match().then_some(captures)
    }

    /// Matches by the automaton alone: the naive twin of [`Self::is_match`].
    #[cfg(test)]
    pub(super) fn is_match_by_engine(&self, text: &str) -> bool {
        self.engine.is_match(text)
    }

    /// Whether a shortcut decides matches.
    #[cfg(test)]
    pub(super) fn has_shortcut(&self) -> bool {
        self.shape != Shape::Other
    }
}

impl Shape {
    fn of(hir: &Hir) -> Self {
        let mut items = Vec::new();
        flatten(hir, &mut items);
        if let [one] = items.as_slice() {
            if let Some(least) = anything(one) {
                return Self::Any { least };
            }
        }
        if let Some(all) = product(&items) {
            return Self::Literals(all);
        }
        if let Some((last, heads)) = items.split_last() {
            if let (Some(least), Some(heads)) = (anything(last), product(heads)) {
                return Self::Prefix { heads, least };
            }
        }
        if let Some((first, tails)) = items.split_first() {
            if let (Some(least), Some(tails)) = (anything(first), product(tails)) {
                return Self::Suffix { tails, least };
            }
        }
        Self::Other
    }
}

fn flatten<'a>(hir: &'a Hir, items: &mut Vec<&'a Hir>) {
    match hir.kind() {
        HirKind::Concat(all) => all.iter().for_each(|h| flatten(h, items)),
        HirKind::Capture(c) => flatten(&c.sub, items),
        _ => items.push(hir),
    }
}

/// `.*` and `.+` with the dot matching everything: the least number of characters.
fn anything(hir: &Hir) -> Option<usize> {
    match hir.kind() {
        HirKind::Capture(c) => anything(&c.sub),
        HirKind::Repetition(r) if r.max.is_none() && r.min <= 1 => {
            let HirKind::Class(Class::Unicode(set)) = r.sub.kind() else { return None };
            let [range] = set.ranges() else { return None };
            (range.start() == '\0' && range.end() == char::MAX).then_some(r.min as usize)
        }
        _ => None,
    }
}

/// All texts a sequence can be, sorted; `None` when they are not a small finite set.
fn product(items: &[&Hir]) -> Option<Vec<String>> {
    let mut all = vec![String::new()];
    for hir in items {
        let next = literals(hir)?;
        if all.len() * next.len() > LITERALS_MAX {
            return None;
        }
        all = all.iter().flat_map(|a| next.iter().map(move |b| format!("{a}{b}"))).collect();
    }
    all.sort_unstable();
    all.dedup();
    Some(all)
}

fn literals(hir: &Hir) -> Option<Vec<String>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![String::new()]),
        HirKind::Literal(l) => Some(vec![std::str::from_utf8(&l.0).ok()?.to_owned()]),
        HirKind::Class(Class::Unicode(set)) => {
            let count: usize = set.iter().map(|r| r.len()).sum();
            if count > 16 {
                return None;
            }
            Some(set.iter().flat_map(|r| r.start()..=r.end()).map(String::from).collect())
        }
        HirKind::Capture(c) => literals(&c.sub),
        HirKind::Concat(all) => product(&all.iter().collect::<Vec<_>>()),
        HirKind::Alternation(all) => {
            let mut out = Vec::new();
            for hir in all {
                out.extend(literals(hir)?);
                if out.len() > LITERALS_MAX {
                    return None;
                }
            }
            Some(out)
        }
        _ => None,
    }
}
