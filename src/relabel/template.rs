//! Go's expansion templates: `$1`, `${1}`, `${name}`, `$$`.

use regex_automata::util::captures::Captures;

/// A template with its references resolved against one pattern's groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Group(usize),
}

/// Whether a text refers to groups at all, by Prometheus's rough test.
#[must_use]
pub fn has_variable(text: &str) -> bool {
    text.contains('$')
}

impl Template {
    /// `names`: by group index, entry 0 the whole match. Unknown references expand to nothing; a malformed one is text.
    #[must_use]
    pub fn new(text: &str, names: &[Option<String>]) -> Self {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            literal.push_str(before);
            if let Some(after) = after.strip_prefix('$') {
                literal.push('$');
                rest = after;
                continue;
            }
            let Some((name, after)) = reference(after) else {
                literal.push('$');
                rest = after;
                continue;
            };
            rest = after;
            if let Some(group) = resolve(name, names) {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal)));
                }
                parts.push(Part::Group(group));
            }
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Text(literal));
        }
        Self { parts }
    }

    /// The highest group referred to.
    #[must_use]
    pub fn highest_group(&self) -> usize {
        let group = |p: &Part| if let Part::Group(g) = p { *g } else { 0 };
        self.parts.iter().map(group).max().unwrap_or(0)
    }

    /// Appends the expansion for a match in `haystack`.
    pub fn expand(&self, haystack: &str, captures: &Captures, out: &mut String) {
        self.expand_by(|group| captures.get_group(group).map_or("", |span| &haystack[span.range()]), out);
    }

    /// Appends the expansion when every group referred to is the whole value.
    pub fn expand_whole(&self, value: &str, out: &mut String) {
        self.expand_by(|_| value, out);
    }

    fn expand_by<'a>(&self, group: impl Fn(usize) -> &'a str, out: &mut String) {
        for p in &self.parts {
            match p {
                Part::Text(text) => out.push_str(text),
                Part::Group(g) => out.push_str(group(*g)),
            }
        }
    }
}

/// The name after a `$`, and what follows it. go: regexp.go, extract.
fn reference(text: &str) -> Option<(&str, &str)> {
    let braced = text.starts_with('{');
    let text = text.strip_prefix('{').unwrap_or(text);
    let end = text.find(|c| !is_name_char(c)).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    let (name, rest) = text.split_at(end);
    if braced { Some((name, rest.strip_prefix('}')?)) } else { Some((name, rest)) }
}

/// A number without leading zeros is an index, anything else a name. The bound of 1e8 is Go's.
fn resolve(name: &str, names: &[Option<String>]) -> Option<usize> {
    let leading_zero = name.len() > 1 && name.starts_with('0');
    if !leading_zero && name.len() <= 9 && name.bytes().all(|b| b.is_ascii_digit()) {
        return name.parse().ok().filter(|group| *group < names.len());
    }
    names.iter().position(|n| n.as_deref() == Some(name))
}

/// Go's letters and digits are categories L and Nd, which differ from `char::is_alphanumeric` beyond ASCII.
fn is_name_char(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_alphanumeric() || c == '_';
    }
    if !c.is_alphanumeric() {
        return false;
    }
    let Ok(hir) = regex_syntax::parse(r"[\pL\p{Nd}]") else { return false };
    match hir.kind() {
        regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(set)) => {
            set.iter().any(|r| r.start() <= c && c <= r.end())
        }
        _ => false,
    }
}
