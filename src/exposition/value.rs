//! Sample values: exactly the texts that Go's `strconv.ParseFloat` takes, less hexadecimal and digit separators.

use crate::model::NORMAL_NAN;

/// The value of a text, or `None` where Prometheus refuses it. NaN is canonical; overflow is refused, underflow is 0.
#[must_use]
pub fn parse(text: &[u8]) -> Option<f64> {
    let unsigned = text.strip_prefix(b"+").or_else(|| text.strip_prefix(b"-")).unwrap_or(text);
    match unsigned.first()? {
        b'0'..=b'9' | b'.' => {
            let v: f64 = fast_float2::parse(text).ok()?;
            v.is_finite().then_some(v)
        }
        _ if text.eq_ignore_ascii_case(b"nan") => Some(NORMAL_NAN),
        _ if unsigned.eq_ignore_ascii_case(b"inf") || unsigned.eq_ignore_ascii_case(b"infinity") => {
            Some(if text[0] == b'-' { f64::NEG_INFINITY } else { f64::INFINITY })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_are_those_of_go() {
        for (text, want) in [
            ("1", 1.0),
            ("+5", 5.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("-1e3", -1000.0),
            ("1E+2", 100.0),
            ("inf", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("+INF", f64::INFINITY),
            ("1e-999", 0.0),
        ] {
            assert_eq!(parse(text.as_bytes()), Some(want), "{text}");
        }
        assert_eq!(parse(b"NaN").map(f64::to_bits), Some(NORMAL_NAN.to_bits()));
        for text in [
            "", "+", "-", ".", "e5", "1e", "1e999", "-nan", "+NaN", "0x1p4", "0x10", "1_000", "1 ", "1\r", "infi", "1f",
        ] {
            assert_eq!(parse(text.as_bytes()), None, "{text:?}");
        }
    }
}
