//! `check metrics`: our tokenizer's verdict on a body, and promlint's advice on names, types and labels.
//!
//! prometheus: cmd/promtool, checkMetrics; client_golang: promlint. A problem is told once per family, where promlint repeats
//! it for every series.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::Read;
use std::process::ExitCode;

use crate::app::eprint;
use crate::base::limits::BODY_BYTES_MAX;
use crate::exposition::labels::{self, Exposed};
use crate::exposition::text::{Entry, Halt, Kind, Rest, step};

/// promtool's exit code for lint problems.
const PROBLEMS: u8 = 3;

/// Units that are fine, and what to use instead of others. client_golang: promlint, units.go.
const UNITS: [(&str, &str); 24] = [
    ("amperes", "amperes"),
    ("bytes", "bytes"),
    ("celsius", "celsius"),
    ("grams", "grams"),
    ("joules", "joules"),
    ("kelvin", "kelvin"),
    ("meters", "meters"),
    ("metres", "metres"),
    ("seconds", "seconds"),
    ("volts", "volts"),
    ("bits", "bytes"),
    ("calories", "joules"),
    ("days", "seconds"),
    ("fahrenheit", "celsius"),
    ("hours", "seconds"),
    ("inches", "meters"),
    ("kelvins", "kelvin"),
    ("miles", "meters"),
    ("minutes", "seconds"),
    ("ounces", "grams"),
    ("pounds", "grams"),
    ("rankine", "celsius"),
    ("weeks", "seconds"),
    ("yards", "meters"),
];
const PREFIXES: [&str; 18] = [
    "pico", "nano", "micro", "milli", "centi", "deci", "deca", "hecto", "kilo", "kibi", "mega", "mibi", "giga", "gibi",
    "tera", "tebi", "peta", "pebi",
];
const ABBREVIATIONS: [&str; 14] = ["s", "ms", "us", "ns", "sec", "b", "kb", "mb", "gb", "tb", "pb", "m", "h", "d"];
const TYPES: [&str; 5] = ["counter", "gauge", "summary", "histogram", "gauge_histogram"];

/// `check metrics`: exit code 1 when Prometheus would refuse the body, 3 when there are problems with it.
///
/// # Errors
/// Standard input cannot be read, or is refused.
pub fn check_metrics() -> Result<ExitCode, String> {
    let mut body = Vec::new();
    std::io::stdin().lock().take(BODY_BYTES_MAX).read_to_end(&mut body).map_err(|e| format!("standard input: {e}"))?;
    if body.len() as u64 == BODY_BYTES_MAX {
        return Err(format!("the body has {BODY_BYTES_MAX} bytes or more; no target may answer that much"));
    }
    let problems = problems(body)?;
    for (family, text) in &problems {
        eprint(&format!("{family} {text}"));
    }
    Ok(if problems.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(PROBLEMS) })
}

/// What is known of a family.
#[derive(Default)]
struct Family {
    kind: Kind,
    has_help: bool,
    labels: BTreeSet<String>,
    has_duplicates: bool,
}

/// Families in name order, each with what is wrong.
fn problems(mut body: Vec<u8>) -> Result<BTreeSet<(String, String)>, String> {
    body.push(b'\n');
    let families = families(&body)?;
    let mut found = BTreeSet::new();
    for (name, family) in &families {
        let mut tell = |text: String| {
            found.insert((name.clone(), text));
        };
        lint_name(name, &mut tell);
        lint_family(name, family, &mut tell);
    }
    Ok(found)
}

fn families(body: &[u8]) -> Result<BTreeMap<String, Family>, String> {
    let text = |range: &std::ops::Range<usize>| String::from_utf8_lossy(&body[range.clone()]).into_owned();
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut seen: HashSet<Vec<(String, String)>> = HashSet::new();
    let mut at = 0;
    while at < body.len() {
        let (entry, next) = step(body, at, Rest::Nothing).map_err(|halt| {
            let line = body[..at].iter().filter(|&&c| c == b'\n').count() + 1;
            match halt {
                Halt::Error(error) => format!("line {line}: {error}"),
                Halt::Incomplete => format!("line {line}: the body ends inside it"),
            }
        })?;
        match &entry {
            Entry::Type(name, kind) => families.entry(text(name)).or_default().kind = *kind,
            Entry::Help(name, _) => families.entry(text(name)).or_default().has_help = true,
            Entry::Sample(sample) => {
                let mut exposed = Vec::new();
                labels::decode(&body[sample.series.clone()], Kind::None, &mut exposed);
                let family = family_of(&exposed[0].value, &families);
                let family = families.entry(family).or_default();
                family.labels.extend(exposed[1..].iter().map(|l| l.name.to_string()));
                family.has_duplicates |= !seen.insert(sorted(&exposed));
            }
            Entry::Other => {}
            Entry::End => break,
        }
        at = next;
    }
    Ok(families)
}

fn sorted(exposed: &[Exposed<'_>]) -> Vec<(String, String)> {
    let mut labels: Vec<_> = exposed.iter().map(|l| (l.name.to_string(), l.value.to_string())).collect();
    labels.sort();
    labels
}

/// The family of a sample: parts of histograms and summaries belong to the family that was declared.
fn family_of(name: &str, families: &BTreeMap<String, Family>) -> String {
    let is = |base: &str, kinds: &[Kind]| families.get(base).is_some_and(|f| kinds.contains(&f.kind));
    if let Some(base) = name.strip_suffix("_bucket")
        && is(base, &[Kind::Histogram])
    {
        return base.to_owned();
    }
    if let Some(base) = name.strip_suffix("_sum").or_else(|| name.strip_suffix("_count"))
        && is(base, &[Kind::Histogram, Kind::Summary])
    {
        return base.to_owned();
    }
    name.to_owned()
}

fn lint_name(name: &str, tell: &mut dyn FnMut(String)) {
    if let Some((unit, base)) = units(name).filter(|(unit, base)| unit != base) {
        tell(format!("use base unit {base:?} instead of {unit:?}"));
    }
    let lower = name.to_lowercase();
    let has_word = |word: &str| lower.contains(&format!("_{word}_")) || lower.ends_with(&format!("_{word}"));
    for kind in TYPES.iter().filter(|t| has_word(t)) {
        tell(format!("metric name should not include type '{kind}'"));
    }
    if name.contains(':') {
        tell("metric names should not contain ':'".to_owned());
    }
    if is_camel_case(name) {
        tell("metric names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
    if ABBREVIATIONS.iter().any(|a| has_word(a)) {
        tell("metric names should not contain abbreviated units".to_owned());
    }
}

fn lint_family(name: &str, family: &Family, tell: &mut dyn FnMut(String)) {
    if !family.has_help {
        tell("no help text".to_owned());
    }
    if family.has_duplicates {
        tell("metric not unique".to_owned());
    }
    if family.labels.iter().any(|l| is_camel_case(l)) {
        tell("label names should be written in 'snake_case' not 'camelCase'".to_owned());
    }
    let kind = family.kind;
    if matches!(kind, Kind::None | Kind::Untyped) {
        return;
    }
    match (kind == Kind::Counter, name.ends_with("_total")) {
        (true, false) => tell("counter metrics should have \"_total\" suffix".to_owned()),
        (false, true) => tell("non-counter metrics should not have \"_total\" suffix".to_owned()),
        _ => {}
    }
    let (is_histogram, is_summary) = (kind == Kind::Histogram, kind == Kind::Summary);
    if !is_histogram && name.ends_with("_bucket") {
        tell("non-histogram metrics should not have \"_bucket\" suffix".to_owned());
    }
    for suffix in ["_count", "_sum"] {
        if !is_histogram && !is_summary && name.ends_with(suffix) {
            tell(format!("non-histogram and non-summary metrics should not have \"{suffix}\" suffix"));
        }
    }
    if !is_histogram && family.labels.contains("le") {
        tell("non-histogram metrics should not have \"le\" label".to_owned());
    }
    if !is_summary && family.labels.contains("quantile") {
        tell("non-summary metrics should not have \"quantile\" label".to_owned());
    }
}

/// The first word of a name that is a unit, and its base unit.
fn units(name: &str) -> Option<(&str, &'static str)> {
    let base = |word: &str| UNITS.iter().find(|(unit, _)| *unit == word).map(|u| u.1);
    let prefixed = |word: &str| PREFIXES.iter().find_map(|p| base(word.strip_prefix(p)?));
    name.split('_').find_map(|word| Some((word, base(word).or_else(|| prefixed(word))?)))
}

fn is_camel_case(name: &str) -> bool {
    name.as_bytes().windows(2).any(|w| w[0].is_ascii_lowercase() && w[1].is_ascii_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(body: &str) -> Vec<String> {
        let found = problems(body.as_bytes().to_vec()).unwrap();
        found.into_iter().map(|(family, text)| format!("{family} {text}")).collect()
    }

    #[test]
    fn a_good_body_has_no_problems() {
        let body = "# HELP http_seconds x\n# TYPE http_seconds histogram\nhttp_seconds_bucket{le=\"1\"} 1\n\
                    http_seconds_bucket{le=\"+Inf\"} 1\nhttp_seconds_sum 1\nhttp_seconds_count 1\n\
                    # HELP a_total x\n# TYPE a_total counter\na_total{b=\"c\"} 1\na_total{b=\"d\"} 1";
        assert_eq!(told(body), Vec::<String>::new());
    }

    #[test]
    fn every_rule_finds_its_planted_problem() {
        let cases = [
            ("x 1\n", "x no help text"),
            ("# HELP x_milliseconds h\nx_milliseconds 1\n", "use base unit \"seconds\" instead of \"milliseconds\""),
            ("# HELP x_yards h\nx_yards 1\n", "use base unit \"meters\" instead of \"yards\""),
            ("# HELP x h\n# TYPE x counter\nx 1\n", "counter metrics should have \"_total\" suffix"),
            ("# HELP x_total h\n# TYPE x_total gauge\nx_total 1\n", "non-counter metrics should not have \"_total\""),
            ("# HELP x_bucket h\n# TYPE x_bucket gauge\nx_bucket 1\n", "should not have \"_bucket\" suffix"),
            ("# HELP x_count h\n# TYPE x_count gauge\nx_count 1\n", "should not have \"_count\" suffix"),
            ("# HELP x_sum h\n# TYPE x_sum gauge\nx_sum 1\n", "should not have \"_sum\" suffix"),
            ("# HELP x h\n# TYPE x gauge\nx{le=\"1\"} 1\n", "non-histogram metrics should not have \"le\" label"),
            ("# HELP x h\n# TYPE x gauge\nx{quantile=\"1\"} 1\n", "should not have \"quantile\" label"),
            ("# HELP x_gauge h\nx_gauge 1\n", "metric name should not include type 'gauge'"),
            ("# HELP a:x h\na:x 1\n", "metric names should not contain ':'"),
            ("# HELP aX h\naX 1\n", "metric names should be written in 'snake_case'"),
            ("# HELP x h\nx{aB=\"1\"} 1\n", "label names should be written in 'snake_case'"),
            ("# HELP x_ms h\nx_ms 1\n", "metric names should not contain abbreviated units"),
            ("# HELP x h\nx{a=\"1\",b=\"2\"} 1\nx{b=\"2\",a=\"1\"} 1\n", "x metric not unique"),
        ];
        for (body, want) in cases {
            let found = told(body);
            assert!(found.len() == 1 && found[0].contains(want), "{body:?}: {found:?}");
        }
    }

    #[test]
    fn a_refused_body_names_the_line() {
        let error = problems(b"a 1\nb 1\nc{ 1\n".to_vec()).unwrap_err();
        assert_eq!(error, "line 3: expected label name");
        assert!(problems(b"a 1\nb".to_vec()).unwrap_err().starts_with("line 2: "));
    }
}
