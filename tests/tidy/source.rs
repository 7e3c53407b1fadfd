//! Rust source as the house rules see it: code without comments and literals, items, lines.

use std::ops::Range;
use std::path::{Path, PathBuf};

/// One file.
pub struct Source {
    /// Below the package, with forward slashes.
    pub path: String,
    /// As written.
    pub text: String,
    /// The same bytes and lines, but comments and the insides of literals are blanks: what is left is code.
    pub code: String,
    /// Insides of string literals outside test modules, escapes as written.
    pub strings: Vec<String>,
    /// Byte ranges of `#[cfg(test)] mod .. { .. }`.
    pub tests: Vec<Range<usize>>,
    /// Files that exist only for tests: below tests/, or declared under `#[cfg(test)]`.
    pub is_test: bool,
}

impl Source {
    pub fn new(path: &str, text: &str) -> Self {
        let (code, literals) = blank(text);
        let tests = test_modules(&code);
        let strings = literals
            .into_iter()
            .filter(|l| !tests.iter().any(|t| t.contains(&l.start)))
            .map(|l| text[l].to_owned())
            .collect();
        let is_test = path.starts_with("tests/");
        Self { path: path.to_owned(), text: text.to_owned(), code, strings, tests, is_test }
    }

    /// First folder or file below `src`; `None` for the crate's roots and files elsewhere.
    pub fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let first = below.split('/').next()?.trim_end_matches(".rs");
        (!matches!(first, "lib" | "main" | "bin")).then_some(first)
    }

    /// `a::b` is 2, the crate's root 0.
    pub fn module_depth(&self) -> usize {
        let below = self.path.strip_prefix("src/").unwrap_or_default();
        let parts = below.trim_end_matches(".rs").split('/').filter(|p| !matches!(*p, "mod" | "lib" | "main"));
        parts.count()
    }

    /// Code without test modules, blanks in their place.
    pub fn product(&self) -> String {
        let mut bytes = self.code.clone().into_bytes();
        for range in &self.tests {
            bytes[range.clone()].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        }
        String::from_utf8(bytes).expect("whole ranges of text were replaced")
    }

    /// Lines outside test modules.
    pub fn product_lines(&self) -> usize {
        let in_tests: usize = self.tests.iter().map(|t| self.text[t.clone()].lines().count()).sum();
        self.text.lines().count().saturating_sub(in_tests)
    }

    /// Line of a byte offset, counted from 1.
    pub fn line(&self, at: usize) -> usize {
        self.text[..at].matches('\n').count() + 1
    }

    /// The raw line and up to `before` lines in front of it.
    pub fn lines_before(&self, line: usize, before: usize) -> Vec<&str> {
        let first = line.saturating_sub(before + 1);
        self.text.lines().skip(first).take(line - first).collect()
    }
}

/// Identifiers with their offsets.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let start = at + code[at..].find(is_word)?;
        let end = code[start..].find(|c| !is_word(c)).map_or(code.len(), |n| start + n);
        at = end;
        Some((start, &code[start..end]))
    })
}

/// A function with a body.
pub struct Function<'a> {
    pub name: &'a str,
    pub at: usize,
    pub lines: usize,
}

/// All functions with bodies, nested ones too.
pub fn functions(code: &str) -> Vec<Function<'_>> {
    let mut found = Vec::new();
    let mut words = words(code).peekable();
    while let Some((at, word)) = words.next() {
        let Some((name_at, name)) = words.peek().copied().filter(|_| word == "fn") else { continue };
        // `fn(u8) -> u8` is a type: no name follows directly.
        if code[at + 2..name_at].trim().is_empty()
            && let Some(body) = body(code, name_at)
        {
            found.push(Function { name, at, lines: code[at..body.end].matches('\n').count() + 1 });
        }
    }
    found
}

/// From the first brace outside parentheses to its partner; `None` when a semicolon comes first.
fn body(code: &str, from: usize) -> Option<Range<usize>> {
    let mut depth = 0i32;
    for (i, b) in code.bytes().enumerate().skip(from) {
        match b {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth -= 1,
            b';' if depth == 0 => return None,
            b'{' if depth == 0 => return Some(i..partner(code, i)),
            _ => {}
        }
    }
    None
}

/// End of the block that opens at `open`.
fn partner(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (i, b) in code.bytes().enumerate().skip(open) {
        match b {
            b'{' => depth += 1,
            b'}' if depth == 1 => return i + 1,
            b'}' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn test_modules(code: &str) -> Vec<Range<usize>> {
    let mark = "#[cfg(test)]";
    let mut found: Vec<Range<usize>> = Vec::new();
    for (start, _) in code.match_indices(mark) {
        if found.last().is_some_and(|last| last.contains(&start)) {
            continue;
        }
        if let Some(body) = body(code, start + mark.len()) {
            found.push(start..body.end);
        }
    }
    found
}

/// A line `mod name;`.
pub struct Declaration {
    pub name: String,
    /// Of a `#[path = "..."]` above it.
    pub file: Option<String>,
    /// Below `#[cfg(test)]`.
    pub is_test: bool,
}

/// All `mod name;` of a file.
pub fn declarations(source: &Source) -> Vec<Declaration> {
    let code = &source.code;
    let mut found = Vec::new();
    let mut words = words(code).peekable();
    while let Some((at, word)) = words.next() {
        let Some((name_at, name)) = words.peek().copied().filter(|_| word == "mod") else { continue };
        if !code[name_at + name.len()..].trim_start().starts_with(';') {
            continue;
        }
        // Attributes stand on the lines right above, each beginning with `#[`.
        let line = source.line(at);
        let lines = source.lines_before(line, 4);
        let attributes: Vec<_> = lines.iter().rev().skip(1).take_while(|l| l.trim_start().starts_with("#[")).collect();
        let file = attributes.iter().find_map(|a| a.split_once("#[path = \"")?.1.split('"').next()).map(str::to_owned);
        let is_test = attributes.iter().any(|a| a.contains("cfg(test)"));
        found.push(Declaration { name: name.to_owned(), file, is_test });
    }
    found
}

/// Blanks out comments and the insides of literals; gives the ranges of string literals' insides.
fn blank(text: &str) -> (String, Vec<Range<usize>>) {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut strings = Vec::new();
    let mut wipe = |range: Range<usize>| out[range].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
    let mut i = 0;
    while i < bytes.len() {
        let rest = &text.as_bytes()[i..];
        i += match rest {
            [b'/', b'/', ..] => {
                let length = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
                wipe(i..i + length);
                length
            }
            [b'/', b'*', ..] => {
                let length = block_comment(rest);
                wipe(i..i + length);
                length
            }
            [b'r', b'"' | b'#', ..] if !follows_word(bytes, i) => match raw_string(rest) {
                Some((opening, closing, length)) => {
                    let inside = i + opening..i + length - closing;
                    wipe(inside.clone());
                    strings.push(inside);
                    length
                }
                None => 1,
            },
            [b'"', ..] => {
                let length = quoted(rest, b'"');
                let inside = i + 1..(i + length - 1).max(i + 1);
                wipe(inside.clone());
                strings.push(inside);
                length
            }
            [b'\'', ..] => match character(rest) {
                Some(length) => {
                    wipe(i + 1..i + length - 1);
                    length
                }
                None => 1,
            },
            _ => 1,
        };
    }
    (String::from_utf8(out).expect("whole literals were replaced"), strings)
}

/// The `r` of `br"` and `cr"` begins a raw string; the one of `var` does not.
fn follows_word(bytes: &[u8], i: usize) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    match i.checked_sub(1).map(|j| bytes[j]) {
        Some(b'b' | b'c') => i >= 2 && word(bytes[i - 2]),
        Some(b) => word(b),
        None => false,
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] if depth == 1 => return i + 2,
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    rest.len()
}

/// Lengths of the opening, the closing, and the whole of `r##".."##`; `None` for a raw identifier.
fn raw_string(rest: &[u8]) -> Option<(usize, usize, usize)> {
    let hashes = rest[1..].iter().take_while(|b| **b == b'#').count();
    if rest.get(1 + hashes) != Some(&b'"') {
        return None;
    }
    let closing: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let opening = hashes + 2;
    let inside = rest[opening..].windows(closing.len()).position(|w| w == closing)?;
    Some((opening, closing.len(), opening + inside + closing.len()))
}

/// Length of a literal with escapes, quotes included.
fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b if b == quote => return i + 1,
            _ => i += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; `None` for a lifetime.
fn character(rest: &[u8]) -> Option<usize> {
    if rest.get(1) == Some(&b'\\') {
        return Some(quoted(rest, b'\''));
    }
    let text = std::str::from_utf8(&rest[1..]).ok()?;
    let length = text.chars().next()?.len_utf8();
    (rest.get(1 + length) == Some(&b'\'')).then_some(length + 2)
}

/// Every file below `folder` whose name ends in `.ext`, as (path below `root` with forward slashes, text), sorted.
pub fn files(root: &Path, folder: &str, ext: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root.join(folder)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(&folder) else { continue };
        for path in entries.map(|e| e.expect("a readable folder").path()) {
            if path.is_dir() && path.file_name() != Some("target".as_ref()) {
                folders.push(path);
            } else if path.extension() == Some(ext.as_ref()) {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                found.push((below(root, &path), text));
            }
        }
    }
    found.sort();
    found
}

fn below(root: &Path, path: &PathBuf) -> String {
    path.strip_prefix(root).expect("found below the root").to_str().expect("a name in UTF-8").replace('\\', "/")
}
