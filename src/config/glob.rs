//! File name patterns with Go's meaning: `*`, `?`, `[a-z]`, `[^a-z]`, `\x`; none of them matches a slash.

use std::fmt;
use std::path::Path;

/// A malformed pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadPattern;

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("malformed pattern: a [ needs its ] and something between, a \\ what it stands before")
    }
}

impl std::error::Error for BadPattern {}

/// Existing paths that match, sorted within each directory; unreadable directories match nothing.
/// go: path/filepath, Glob.
///
/// # Errors
/// The pattern is malformed.
pub fn glob(pattern: &str) -> Result<Vec<String>, BadPattern> {
    matches(pattern, "")?;
    if !has_meta(pattern) {
        let exists = std::fs::symlink_metadata(pattern).is_ok();
        return Ok(if exists { vec![pattern.to_owned()] } else { Vec::new() });
    }
    let (dir, file) = split(pattern);
    let dir = match dir {
        "" => ".",
        "/" => "/",
        dir => &dir[..dir.len() - 1],
    };
    let mut found = Vec::new();
    if !has_meta(dir) {
        glob_in(dir, file, &mut found)?;
        return Ok(found);
    }
    // A directory part equal to the pattern would never end.
    if dir == pattern {
        return Err(BadPattern);
    }
    for dir in glob(dir)? {
        glob_in(&dir, file, &mut found)?;
    }
    Ok(found)
}

fn glob_in(dir: &str, pattern: &str, found: &mut Vec<String>) -> Result<(), BadPattern> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Ok(()) };
    let mut names: Vec<String> = entries.flatten().filter_map(|e| e.file_name().into_string().ok()).collect();
    names.sort_unstable();
    for name in names {
        if matches(pattern, &name)? {
            found.push(clean(&format!("{dir}/{name}")));
        }
    }
    Ok(())
}

/// Directory part with its slash, and the rest. go: path/filepath, Split.
#[must_use]
pub fn split(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |i| i + 1))
}

fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

/// The shortest equal path, by text alone. go: path/filepath, Clean.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => match parts.last() {
                Some(&last) if last != ".." => {
                    parts.pop();
                }
                _ if rooted => {}
                _ => parts.push(".."),
            },
            part => parts.push(part),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

/// Whether the whole name matches. go: path/filepath, Match.
///
/// # Errors
/// The pattern is malformed in a part that had to be looked at; all of it is looked at for an empty name.
pub fn matches(pattern: &str, name: &str) -> Result<bool, BadPattern> {
    let tokens = parse(pattern)?;
    let name: Vec<char> = name.chars().collect();
    // Positions to go back to when the run after the last star does not fit.
    let (mut t, mut n, mut star) = (0, 0, None);
    while t < tokens.len() || n < name.len() {
        match tokens.get(t) {
            Some(Token::Star) => {
                star = Some((t, n));
                t += 1;
                continue;
            }
            Some(token) if n < name.len() && token.fits(name[n]) => {
                (t, n) = (t + 1, n + 1);
                continue;
            }
            _ => {}
        }
        match star {
            Some((at, from)) if from < name.len() && name[from] != '/' => {
                star = Some((at, from + 1));
                (t, n) = (at + 1, from + 1);
            }
            _ => return Ok(false),
        }
    }
    Ok(true)
}

enum Token {
    Star,
    Any,
    Char(char),
    Class { negated: bool, ranges: Vec<(char, char)> },
}

impl Token {
    fn fits(&self, c: char) -> bool {
        match self {
            Self::Star => false,
            Self::Any => c != '/',
            Self::Char(want) => c == *want,
            Self::Class { negated, ranges } => ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)) != *negated,
        }
    }
}

fn parse(pattern: &str) -> Result<Vec<Token>, BadPattern> {
    let mut chars = pattern.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' => Token::Star,
            '?' => Token::Any,
            '\\' => Token::Char(chars.next().ok_or(BadPattern)?),
            '[' => class(&mut chars)?,
            c => Token::Char(c),
        });
    }
    Ok(tokens)
}

type Chars<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn class(chars: &mut Chars<'_>) -> Result<Token, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    while ranges.is_empty() || chars.next_if_eq(&']').is_none() {
        let low = class_char(chars)?;
        let high = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { low };
        ranges.push((low, high));
    }
    Ok(Token::Class { negated, ranges })
}

fn class_char(chars: &mut Chars<'_>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    }
}

/// The directory that holds what a pattern's last element names; `./` when the pattern has none.
#[must_use]
pub fn directory(pattern: &str) -> &Path {
    let (dir, _) = split(pattern);
    Path::new(if dir.is_empty() { "./" } else { dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_in_go() {
        // Cases and verdicts were printed by Go's filepath.Match.
        for (pattern, name, want) in [
            ("abc", "abc", Ok(true)),
            ("*", "abc", Ok(true)),
            ("*c", "abc", Ok(true)),
            ("a*", "ab/c", Ok(false)),
            ("a*/b", "abc/b", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", Ok(true)),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", Ok(false)),
            ("a*b?c*x", "abxbbxdbxebxczzx", Ok(true)),
            ("ab[c]", "abc", Ok(true)),
            ("ab[b-d]", "abc", Ok(true)),
            ("ab[^b-d]", "abc", Ok(false)),
            ("a\\*b", "a*b", Ok(true)),
            ("a?b", "a/b", Ok(false)),
            ("a[^a]b", "a☺b", Ok(true)),
            ("[]a]", "]", Err(BadPattern)),
            ("[-]", "-", Err(BadPattern)),
            ("[x-]", "x", Err(BadPattern)),
            ("[", "a", Err(BadPattern)),
            ("a[", "", Err(BadPattern)),
            ("a\\", "a", Err(BadPattern)),
            ("*x", "xxx", Ok(true)),
            ("", "", Ok(true)),
            ("", "x", Ok(false)),
            ("*.json", ".json", Ok(true)),
        ] {
            assert_eq!(matches(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn paths_are_cleaned_as_in_go() {
        for (path, want) in [
            ("./a/b", "a/b"),
            ("/a//b/../c", "/a/c"),
            ("../a", "../a"),
            ("/..", "/"),
            ("a/..", "."),
            ("../../x", "../../x"),
        ] {
            assert_eq!(clean(path), want);
        }
    }

    #[test]
    fn existing_paths_are_found_sorted() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for name in ["b.json", "a.json", "c.yml", "x/1.json", "y/2.json"] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "[]").unwrap();
        }
        let found = |pattern: &str| -> Vec<String> {
            let found = glob(&format!("{root}/{pattern}")).unwrap();
            found.iter().map(|p| p[root.len() + 1..].to_owned()).collect()
        };
        assert_eq!(found("*.json"), ["a.json", "b.json"]);
        assert_eq!(found("c.yml"), ["c.yml"]);
        assert_eq!(found("none.yml"), [""; 0]);
        assert_eq!(found("none/*.yml"), [""; 0]);
        assert_eq!(found("?/*.json"), ["x/1.json", "y/2.json"]);
        assert_eq!(found("[a]*.json"), ["a.json"]);
        assert_eq!(found("./x/../*.yml"), ["c.yml"]);
        assert!(glob(&format!("{root}/[.json")).is_err());
    }
}
