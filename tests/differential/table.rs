//! The tables of expected differences, each row with a patch that turns what one program writes into what another does.
//!
//! `tests/data/since-2.42.tsv` leads from Prometheus 2.42 to 3, `tests/data/differences.tsv` from Prometheus 3 to ringscrape,
//! where that differs on purpose. A row's patch, `tests/data/<table>/<id>.diff`, holds the lines by which the logs differ, by
//! case. A line to be removed must be there and a line to be added must not: a row that stopped being true fails.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// One behaviour that differs.
pub struct Row {
    pub id: String,
    pub cases: Vec<String>,
    /// Lines taken away and added, by case.
    pub patch: BTreeMap<String, Patch>,
}

/// Lines taken away and lines added.
#[derive(Default)]
pub struct Patch {
    pub minus: Vec<String>,
    pub plus: Vec<String>,
}

fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

/// From Prometheus 2.42 to 3.
pub const SINCE: &str = "since-2.42";
/// From Prometheus 3 to ringscrape.
pub const DIFFERENCES: &str = "differences";

/// A table with its patches. Panics on anything malformed: the files are part of the test.
pub fn read(table: &str) -> Vec<Row> {
    let text = std::fs::read_to_string(data().join(format!("{table}.tsv"))).expect("the table is there");
    text.lines().skip(1).map(|line| row(table, line)).collect()
}

fn row(table: &str, line: &str) -> Row {
    let columns: Vec<&str> = line.split('\t').collect();
    assert_eq!(columns.len(), 5, "a row has five columns: {line}");
    assert!(columns.iter().all(|c| !c.trim().is_empty()), "no column is empty: {line}");
    let id = columns[0].to_owned();
    let cases = columns[1].split(',').map(|c| c.trim().to_owned()).collect();
    let path = data().join(table).join(format!("{id}.diff"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Row { id, cases, patch: parse(&text) }
}

fn parse(text: &str) -> BTreeMap<String, Patch> {
    let mut out: BTreeMap<String, Patch> = BTreeMap::new();
    let mut case = String::new();
    for line in text.lines().filter(|l| !l.is_empty()) {
        match line.split_at(1) {
            ("=", name) => case = name.trim().to_owned(),
            ("-", rest) => out.entry(case.clone()).or_default().minus.push(rest.to_owned()),
            ("+", rest) => out.entry(case.clone()).or_default().plus.push(rest.to_owned()),
            _ => panic!("a patch line begins with =, - or +: {line}"),
        }
    }
    out
}

/// Applies a table to the lines of a case. Returns what could not be applied.
pub fn apply(rows: &[Row], case: &str, lines: &mut Vec<String>) -> Vec<String> {
    let mut set: BTreeSet<String> = lines.drain(..).collect();
    let mut faults = Vec::new();
    for row in rows {
        let Some(patch) = row.patch.get(case) else { continue };
        for line in &patch.minus {
            if !set.remove(line) {
                faults.push(format!("row {}: this is no longer written without it: {line}", row.id));
            }
        }
        for line in &patch.plus {
            if !set.insert(line.clone()) {
                faults.push(format!("row {}: this is written without it: {line}", row.id));
            }
        }
    }
    lines.extend(set);
    faults
}

/// Rows `rollback-loses-series` and `iteration-after-error` for bodies nobody wrote down.
///
/// 2.42 never sends a series that first came up in a failed scrape: such series are taken out of the other log. Its cache
/// keeps series seen in a failed scrape one scrape too long: `scrape_series_added` after a failure is taken out of both.
/// Everything else stays a difference.
pub fn forgive_failures(expected: &mut Vec<String>, got: &mut Vec<String>) {
    let known: BTreeSet<String> = expected.iter().filter_map(|l| Some(parts(l)?.series.to_owned())).collect();
    let mut first_failure: BTreeMap<String, String> = BTreeMap::new();
    for part in expected.iter().filter_map(|l| parts(l)).filter(|p| p.series.starts_with("up{") && p.value == "0.0") {
        let at = first_failure.entry(part.target.to_owned()).or_insert_with(|| part.at.to_owned());
        if part.at < at.as_str() {
            *at = part.at.to_owned();
        }
    }
    let mut first_seen: BTreeMap<String, String> = BTreeMap::new();
    for part in got.iter().filter_map(|l| parts(l)) {
        let seen = first_seen.entry(part.series.to_owned()).or_insert_with(|| part.at.to_owned());
        if part.at < seen.as_str() {
            *seen = part.at.to_owned();
        }
    }
    got.retain(|line| {
        let Some(part) = parts(line) else { return true };
        let Some(failure) = first_failure.get(part.target) else { return true };
        known.contains(part.series) || first_seen[part.series] < *failure
    });
    for lines in [expected, got] {
        lines.retain(|line| {
            let Some(part) = parts(line) else { return true };
            let failure = first_failure.get(part.target);
            !part.series.starts_with("scrape_series_added{")
                || failure.is_none_or(|failure| part.at <= failure.as_str())
        });
    }
}

/// A line of a target.
struct Parts<'l> {
    /// Empty for an only target.
    target: &'l str,
    /// The scrape's number.
    at: &'l str,
    series: &'l str,
    value: &'l str,
}

/// Splits a line of a target; others are none.
fn parts(line: &str) -> Option<Parts<'_>> {
    let (target, rest) = if line.starts_with('{') { line.split_once("} #")? } else { ("", line.strip_prefix('#')?) };
    let (at, rest) = rest.split_once(' ')?;
    let (series, value) = rest.rsplit_once(" = ")?;
    Some(Parts { target, at, series, value })
}

/// The difference of two logs in the form of a patch; empty when they are equal.
pub fn difference(case: &str, expected: &[String], got: &[String]) -> String {
    let expected: BTreeSet<&String> = expected.iter().collect();
    let got: BTreeSet<&String> = got.iter().collect();
    let mut marked: Vec<(&String, char)> = expected.difference(&got).map(|l| (*l, '-')).collect();
    marked.extend(got.difference(&expected).map(|l| (*l, '+')));
    if marked.is_empty() {
        return String::new();
    }
    marked.sort();
    let mut out = format!("= {case}\n");
    for (line, mark) in marked {
        out.push_str(&format!("{mark}{line}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Row> {
        let patch = parse("= a\n-#00 x{} = 1.0\n+#00 x{} = 2.0\n");
        vec![Row { id: "r".into(), cases: vec!["a".into()], patch }]
    }

    #[test]
    fn a_patch_applies_where_it_belongs() {
        let mut lines = vec!["#00 x{} = 1.0".to_owned()];
        assert!(apply(&rows(), "b", &mut lines).is_empty());
        assert_eq!(lines, ["#00 x{} = 1.0"]);
        assert!(apply(&rows(), "a", &mut lines).is_empty());
        assert_eq!(lines, ["#00 x{} = 2.0"]);
    }

    #[test]
    fn a_row_that_is_no_longer_true_is_a_fault() {
        let mut lines = vec!["#00 x{} = 2.0".to_owned()];
        assert_eq!(apply(&rows(), "a", &mut lines).len(), 2);
    }

    #[test]
    fn only_what_a_failed_scrape_explains_is_forgiven() {
        let text = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();
        let mut expected =
            text(&["#00 a{} = 1.0", "#00 up{} = 1.0", "#01 up{} = 0.0", "#02 scrape_series_added{} = 0.0"]);
        let mut got =
            text(&["#00 early{} = 1.0", "#00 a{} = 1.0", "#02 lost{} = stale", "#03 lost{} = 2.0", "#02 a{} = 5.0"]);
        got.push("#02 scrape_series_added{} = 1.0".to_owned());
        forgive_failures(&mut expected, &mut got);
        assert_eq!(got, text(&["#00 early{} = 1.0", "#00 a{} = 1.0", "#02 a{} = 5.0"]));
        assert_eq!(expected, text(&["#00 a{} = 1.0", "#00 up{} = 1.0", "#01 up{} = 0.0"]));
    }

    #[test]
    fn a_failure_explains_nothing_of_another_target() {
        let text = |lines: &[&str]| lines.iter().map(|l| (*l).to_owned()).collect::<Vec<String>>();
        let mut expected = text(&["{n=\"1\"} #01 up{n=\"1\"} = 0.0", "{n=\"2\"} #01 up{n=\"2\"} = 1.0"]);
        let mut got = text(&["{n=\"1\"} #02 a{n=\"1\"} = 1.0", "{n=\"2\"} #02 a{n=\"2\"} = 1.0"]);
        forgive_failures(&mut expected, &mut got);
        assert_eq!(got, text(&["{n=\"2\"} #02 a{n=\"2\"} = 1.0"]));
    }

    #[test]
    fn a_difference_is_a_patch() {
        let text = difference("a", &["k".into(), "x".into()], &["k".into(), "y".into()]);
        assert_eq!(text, "= a\n-x\n+y\n");
        assert_eq!(difference("a", &["k".into()], &["k".into()]), "");
    }
}
