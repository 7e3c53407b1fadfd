//! Durations in Prometheus's spelling: `1d12h`, `15s`, `500ms`.

use std::fmt;
use std::time::Duration;

/// Units in the order in which they must appear, with their milliseconds.
const UNITS: [(&str, u64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Why a text is not a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// The empty text.
    Empty,
    /// Not numbers with units in descending order.
    Form,
    /// Beyond 2^63 ns (about 292 years).
    Range,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "is an empty duration; write for example 15s",
            Self::Form => {
                "is not a duration: whole numbers with units y w d h m s ms, largest first, for example 15s or 1h30m"
            }
            Self::Range => "is a duration beyond 292 years",
        })
    }
}

impl std::error::Error for DurationError {}

/// Reads a duration. prometheus: common/model/time.go, ParseDuration.
///
/// # Errors
/// See [`DurationError`].
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    match text {
        "" => return Err(DurationError::Empty),
        "0" => return Ok(Duration::ZERO),
        _ => {}
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, after) = rest.split_at(digits);
        let name = &after[..after.bytes().take_while(u8::is_ascii_alphabetic).count()];
        let (_, unit_ms) = units.find(|(n, _)| *n == name).ok_or(DurationError::Form)?;
        if number.is_empty() {
            return Err(DurationError::Form);
        }
        let count: u64 = number.parse().map_err(|_| DurationError::Range)?;
        let add = count.checked_mul(*unit_ms).ok_or(DurationError::Range)?;
        total_ms =
            total_ms.checked_add(add).filter(|t| *t <= i64::MAX as u64 / 1_000_000).ok_or(DurationError::Range)?;
        rest = &after[name.len()..];
    }
    Ok(Duration::from_millis(total_ms))
}

/// Writes a duration: years and weeks only when nothing smaller remains. Less than a millisecond is lost, as in
/// Prometheus. prometheus: common/model/time.go, Duration.String.
#[must_use]
pub fn print(duration: Duration) -> String {
    let mut ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    if ms == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    for (name, unit_ms) in UNITS {
        if matches!(name, "y" | "w") && ms % unit_ms != 0 {
            continue;
        }
        if ms >= unit_ms {
            out.push_str(&format!("{}{name}", ms / unit_ms));
            ms %= unit_ms;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_prints_as_prometheus() {
        for (text, ms, printed) in [
            ("0", 0, "0s"),
            ("0w", 0, "0s"),
            ("0s", 0, "0s"),
            ("324ms", 324, "324ms"),
            ("3s", 3000, "3s"),
            ("5m", 300_000, "5m"),
            ("1h", 3_600_000, "1h"),
            ("4d", 345_600_000, "4d"),
            ("4d1h", 349_200_000, "4d1h"),
            ("14d", 1_209_600_000, "2w"),
            ("3w", 1_814_400_000, "3w"),
            ("3w2d1h", 1_990_800_000, "23d1h"),
            ("10y", 315_360_000_000, "10y"),
            ("1y1w", 32_140_800_000, "372d"),
            ("90m", 5_400_000, "1h30m"),
            ("1m1ms", 60_001, "1m1ms"),
        ] {
            let d = parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(d, Duration::from_millis(ms), "{text}");
            assert_eq!(print(d), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_prometheus_refuses() {
        for text in ["1", "1y1m1d", "-1w", "1.5d", "d", "", "1 s", "1s1s", "1S", "s1", "294y", "99999999999999999999s"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert_eq!(parse("294y"), Err(DurationError::Range));
    }
}
