//! Byte sizes in the spelling of `body_size_limit`: `10MB`, `1.5GiB`.

/// Reads a size. Both families of units are powers of 1024, and one text uses one family: `1MiB512KiB`.
/// `None`: not a size. prometheus: config.go, units.Base2Bytes.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    with_suffix(text, "iB").or_else(|| with_suffix(text, "B"))
}

/// prometheus: units.Base2Bytes, String.
pub(super) fn print(bytes: u64) -> String {
    let mut out = String::new();
    let mut rest = bytes;
    for (power, unit) in ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].iter().enumerate().rev() {
        let whole = rest >> (10 * power);
        if whole > 0 {
            out += &format!("{whole}{unit}");
            rest -= whole << (10 * power);
        }
    }
    if out.is_empty() { "0B".to_owned() } else { out }
}

fn with_suffix(text: &str, suffix: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_end);
        let count: f64 = number.parse().ok()?;
        total += count * factor(unit, suffix)?;
        rest = next;
    }
    (total < i64::MAX as f64).then_some(total as u64)
}

fn factor(unit: &str, suffix: &str) -> Option<f64> {
    if unit == "B" {
        return Some(1.0);
    }
    let power = ["K", "M", "G", "T", "P", "E"].iter().position(|p| unit.strip_suffix(suffix) == Some(*p))?;
    Some(1024f64.powi(i32::try_from(power).ok()? + 1))
}

#[cfg(test)]
mod tests {
    use super::{parse, print};

    #[test]
    fn what_is_printed_reads_back() {
        for (bytes, want) in [(0, "0B"), (7, "7B"), (1536, "1KiB512B"), (1500 << 10, "1MiB476KiB"), (1 << 60, "1EiB")] {
            assert_eq!(print(bytes), want);
            assert_eq!(parse(want), Some(bytes));
        }
    }

    #[test]
    fn units_are_powers_of_1024_and_mandatory() {
        for (text, want) in [
            ("0", Some(0)),
            ("15MB", Some(15 << 20)),
            ("15MiB", Some(15 << 20)),
            ("1KB", Some(1024)),
            ("7B", Some(7)),
            ("1.5KiB", Some(1536)),
            ("1GB512MB", Some(1536 << 20)),
            ("1EB", Some(1 << 60)),
            ("1kB", None),
            ("100", None),
            ("-1MB", None),
            ("MB", None),
            ("", None),
            ("1MB1KiB", None),
            ("9EB", None),
            ("1 MB", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
