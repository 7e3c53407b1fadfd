//! Go's case mapping: one character to one character, without context.
//!
//! Letters added after Go's Unicode version (15) are mapped here and not there: none is older than 2024.

/// prometheus: relabel.go, Lowercase; go: strings.ToLower.
#[must_use]
pub fn lower(text: &str) -> String {
    text.chars().map(lower_char).collect()
}

/// prometheus: relabel.go, Uppercase; go: strings.ToUpper.
#[must_use]
pub fn upper(text: &str) -> String {
    text.chars().map(upper_char).collect()
}

fn lower_char(c: char) -> char {
    let mut mapped = c.to_lowercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        // The only character whose full lower case is longer than one character is the dotted capital I.
        (Some(first), Some(_)) => first,
        (None, _) => c,
    }
}

fn upper_char(c: char) -> char {
    let mut mapped = c.to_uppercase();
    match (mapped.next(), mapped.next()) {
        (Some(one), None) => one,
        _ => simple_upper(c),
    }
}

/// Characters whose full upper case is longer than one character: some have a single-character one besides.
fn simple_upper(c: char) -> char {
    let to = match u32::from(c) {
        n @ (0x1F80..=0x1F87 | 0x1F90..=0x1F97 | 0x1FA0..=0x1FA7) => n + 8,
        n @ (0x1FB3 | 0x1FC3 | 0x1FF3) => n + 9,
        n => n,
    };
    char::from_u32(to).unwrap_or(c)
}
