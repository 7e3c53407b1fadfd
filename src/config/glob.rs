//! File patterns: `*`, `?` and `[a-z]` within a path element, as Go's `filepath.Glob` has them.

use std::path::{Path, PathBuf};

/// Most files one pattern may name.
const MATCHES_MAX: usize = 100_000;

/// Existing paths that match, sorted; none when nothing matches or a directory cannot be read.
#[must_use]
pub fn expand(pattern: &str) -> Vec<PathBuf> {
    let (mut found, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (vec![PathBuf::from("/")], rest),
        None => (vec![PathBuf::new()], pattern),
    };
    for element in rest.split('/').filter(|e| !e.is_empty()) {
        found = found.iter().flat_map(|dir| children(dir, element)).take(MATCHES_MAX).collect();
    }
    found.retain(|p| !p.as_os_str().is_empty());
    found.sort();
    found
}

fn children(dir: &Path, element: &str) -> Vec<PathBuf> {
    if !element.contains(['*', '?', '[', '\\']) {
        let path = dir.join(element);
        return if path.exists() { vec![path] } else { Vec::new() };
    }
    let listed = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    let Ok(entries) = std::fs::read_dir(listed) else { return Vec::new() };
    let pattern: Vec<char> = element.chars().collect();
    let matching = |name: &str| matches(&pattern, &name.chars().collect::<Vec<_>>());
    let names = entries.flatten().filter_map(|e| e.file_name().into_string().ok());
    names.filter(|name| matching(name)).map(|name| dir.join(name)).collect()
}

/// Whether a path element matches; a malformed pattern matches nothing.
fn matches(pattern: &[char], name: &[char]) -> bool {
    match (pattern.first(), name.first()) {
        (None, None) => true,
        (Some('*'), _) => matches(&pattern[1..], name) || (!name.is_empty() && matches(pattern, &name[1..])),
        (Some('?'), Some(_)) => matches(&pattern[1..], &name[1..]),
        (Some('['), Some(c)) => match bracket(&pattern[1..], *c) {
            Some((true, rest)) => matches(rest, &name[1..]),
            _ => false,
        },
        (Some('\\'), Some(c)) => pattern.get(1) == Some(c) && matches(&pattern[2..], &name[1..]),
        (Some(p), Some(c)) => p == c && matches(&pattern[1..], &name[1..]),
        _ => false,
    }
}

/// Whether the set that begins here contains the character, and what follows the set.
fn bracket(set: &[char], c: char) -> Option<(bool, &[char])> {
    let negated = set.first() == Some(&'^');
    let mut rest = if negated { &set[1..] } else { set };
    let mut inside = false;
    let mut first = true;
    while first || rest.first()? != &']' {
        first = false;
        let (low, after) = (*rest.first()?, rest.get(1..)?);
        let (high, after) = if after.first() == Some(&'-') { (*after.get(1)?, after.get(2..)?) } else { (low, after) };
        inside |= (low..=high).contains(&c);
        rest = after;
    }
    Some((inside != negated, &rest[1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, name: &str) -> bool {
        matches(&pattern.chars().collect::<Vec<_>>(), &name.chars().collect::<Vec<_>>())
    }

    #[test]
    fn elements_match() {
        for (pattern, name, want) in [
            ("*.json", "a.json", true),
            ("*.json", "a.yml", false),
            ("a?c", "abc", true),
            ("a[b-d]c", "acc", true),
            ("a[^b-d]c", "acc", false),
            ("a[b", "ab", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("*", "", true),
        ] {
            assert_eq!(is_match(pattern, name), want, "{pattern} {name}");
        }
    }

    #[test]
    fn files_are_found_and_sorted() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in ["b.json", "a.json", "c.yml"] {
            std::fs::write(dir.path().join(name), "[]").expect("written");
        }
        let pattern = format!("{}/*.json", dir.path().display());
        assert_eq!(expand(&pattern), [dir.path().join("a.json"), dir.path().join("b.json")]);
        assert_eq!(expand(&format!("{}/none.json", dir.path().display())), Vec::<PathBuf>::new());
    }
}
