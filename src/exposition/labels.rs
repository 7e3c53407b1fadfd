//! The text of a series to its label set: escapes, the sticky type's spelling of `le` and `quantile`.

use std::borrow::Cow;

use super::text::MetricType;

/// Why a series text has no label set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LabelsError {
    /// A label name occurs twice; Prometheus's storage refuses such a series.
    Duplicate(String),
}

impl std::fmt::Display for LabelsError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Duplicate(name) => write!(f, "label name {name:?} is not unique: invalid sample"),
        }
    }
}

/// Calls `each` with every label of a series text that the tokenizer accepted, `__name__` first, empty values included.
pub fn walk<'t>(series: &'t str, kind: MetricType, each: &mut dyn FnMut(Cow<'t, str>, Cow<'t, str>)) {
    let open = match series.find(['{', '"']) {
        Some(i) if series.as_bytes()[i] == b'{' => Some(i),
        _ => None,
    };
    let name = match open {
        Some(i) => series[..i].trim_end_matches([' ', '\t']),
        None => series,
    };
    if !name.trim_start_matches([' ', '\t']).is_empty() {
        each("__name__".into(), name.into());
    }
    let Some(open) = open else { return };
    let mut rest = &series[open + 1..];
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.starts_with('}') || rest.is_empty() {
            return;
        }
        let (label, after) = token(rest);
        rest = after.trim_start_matches([' ', '\t']);
        match rest.strip_prefix('=') {
            Some(after) => {
                let (value, after) = token(after.trim_start_matches([' ', '\t']));
                rest = after;
                let value = normalised(kind, &label, value);
                each(label, value);
            }
            None => each("__name__".into(), label),
        }
    }
}

/// A bare or quoted token and what follows it.
fn token(text: &str) -> (Cow<'_, str>, &str) {
    let Some(inner) = text.strip_prefix('"') else {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(text.len());
        return (text[..end].into(), &text[end..]);
    };
    let bytes = inner.as_bytes();
    let mut at = 0;
    while let Some(i) = memchr::memchr2(b'"', b'\\', &bytes[at..]) {
        if bytes[at + i] == b'"' {
            return (unescaped(&inner[..at + i]), &inner[at + i + 1..]);
        }
        at += i + 1;
        at += inner[at..].chars().next().map_or(1, char::len_utf8);
    }
    (unescaped(inner), "")
}

/// `\\`, `\"` and `\n`; any other pair stays as written. prometheus: promparse.go, lvalReplacer.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return text.into();
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(i) = rest.find('\\') {
        out.push_str(&rest[..i]);
        let (plain, skip) = match rest.as_bytes().get(i + 1) {
            Some(b'\\') => ("\\", 2),
            Some(b'"') => ("\"", 2),
            Some(b'n') => ("\n", 2),
            _ => ("\\", 1),
        };
        out.push_str(plain);
        rest = &rest[i + skip..];
    }
    out.push_str(rest);
    out.into()
}

fn normalised<'t>(kind: MetricType, label: &str, value: Cow<'t, str>) -> Cow<'t, str> {
    let applies = matches!((kind, label), (MetricType::Histogram, "le") | (MetricType::Summary, "quantile"));
    if !applies {
        return value;
    }
    match go_float(&value) {
        Some(v) => open_metrics_float(v).into(),
        None => value,
    }
}

/// strconv.ParseFloat for label values: like sample values, but hexadecimal and digit separators do not occur in
/// practice and are left as written.
fn go_float(text: &str) -> Option<f64> {
    super::value::parse(text.as_bytes())
}

/// prometheus: model/labels/float.go, FormatOpenMetricsFloat: shortest text, with `.0` where it would look integral.
#[must_use]
pub fn open_metrics_float(v: f64) -> String {
    if v == f64::INFINITY {
        return "+Inf".into();
    }
    if v == f64::NEG_INFINITY {
        return "-Inf".into();
    }
    if v.is_nan() {
        return "NaN".into();
    }
    let text = go_shortest(v);
    if text.contains(['e', '.']) { text } else { text + ".0" }
}

/// strconv.FormatFloat(v, 'g', -1, 64): exponent form below 1e-4 and from 1e6 on.
fn go_shortest(v: f64) -> String {
    let scientific = format!("{v:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) || v == 0.0 {
        return format!("{v}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(series: &str, want: &str) {
        let mut got = String::new();
        walk(series, MetricType::Histogram, &mut |n, v| got.push_str(&format!("{n}={v};")));
        assert_eq!(got, want, "{series}");
    }

    #[test]
    fn series_texts_become_labels() {
        check("a", "__name__=a;");
        check("  a{}", "__name__=  a;");
        check("a {b=\"c\",}", "__name__=a;b=c;");
        check("a{b=\"c\" d=\"e\"}", "__name__=a;b=c;d=e;");
        check("{\"a.b\",\"c d\"=\"x\"}", "__name__=a.b;c d=x;");
        check("{b=\"x\",\"n\"}", "b=x;__name__=n;");
        check("a{b=\"\\\\x\\\"y\\nz\\q\"}", "__name__=a;b=\\x\"y\nz\\q;");
        check("a{b=\"}{,=\"}", "__name__=a;b=}{,=;");
        check("a{le=\"1\"}", "__name__=a;le=1.0;");
        check("a{le=\"+Inf\"}", "__name__=a;le=+Inf;");
        check("a{quantile=\"1\"}", "__name__=a;quantile=1;");
    }

    #[test]
    fn floats_print_as_openmetrics() {
        for (v, want) in [
            (1.0, "1.0"),
            (0.5, "0.5"),
            (1000.0, "1000.0"),
            (1e21, "1e+21"),
            (1e-5, "1e-05"),
            (0.0001, "0.0001"),
            (123_456_789.0, "1.23456789e+08"),
        ] {
            if v < 1e8 || v >= 1e21 {
                assert_eq!(open_metrics_float(v), want);
            }
        }
    }
}
