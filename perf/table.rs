//! `perf table`: the README's table, written between two marks from the newest records.

use std::fmt::Write as _;
use std::path::Path;

use crate::record::{self, Group, Row};

const BEGIN: &str = "<!-- perf table: written by `perf table` -->\n";
const END: &str = "<!-- end of perf table -->";

/// Rows of the table: scenario, figure, what it is called.
const ROWS: &[(&str, Figure, &str)] = &[
    ("small-1000", Figure::Cpu, "2,000 targets x 18 samples, 1,000 scrapes/s"),
    ("small-5000", Figure::Cpu, "10,000 targets x 18 samples, 5,000 scrapes/s"),
    ("node", Figure::Cpu, "1,000 targets x node_exporter, 200 scrapes/s"),
    ("node-gzip", Figure::Cpu, "the same, gzip"),
    ("node-target-label", Figure::Cpu, "node_exporter, a per-target label on every line"),
    ("node-one-label", Figure::Cpu, "node_exporter, one label value changes each scrape"),
    ("node-all-labels", Figure::Cpu, "node_exporter, a label on every line changes each scrape"),
    ("node-random-order", Figure::Cpu, "node_exporter, families in random order"),
    ("node-unshared", Figure::Cpu, "node_exporter, nothing shared between targets"),
    ("tls", Figure::Cpu, "2,000 targets x 18 samples over TLS, 1,000 scrapes/s"),
    ("small-5000", Figure::Memory, "resident memory, 10,000 x 18"),
    ("node", Figure::Memory, "resident memory, 1,000 x node_exporter"),
    ("small-5000", Figure::Wire, "remote-write bytes a scrape, 10,000 x 18"),
    ("node", Figure::Wire, "remote-write bytes a scrape, node_exporter"),
];

/// Rows of the second table, of ringscrape alone.
const MILLIONS: &[(&str, &str)] = &[
    ("million", "journal only"),
    ("million-remote", "with remote write"),
    ("million-fresh", "journal only, a fresh connection for each scrape"),
];

/// What a row is about.
#[derive(Clone, Copy)]
enum Figure {
    Cpu,
    Memory,
    Wire,
}

impl Figure {
    fn column(self) -> &'static str {
        match self {
            Self::Cpu => "cpu_us_per_scrape",
            Self::Memory => "rss_mib",
            Self::Wire => "wire_bytes_per_scrape",
        }
    }

    fn text(self, value: f64) -> String {
        let number = if value < 10.0 { format!("{value:.1}") } else { thousands(value) };
        match self {
            Self::Cpu => format!("{number} us"),
            Self::Memory => format!("{number} MiB"),
            Self::Wire => format!("{number} B"),
        }
    }
}

/// Replaces what is between the marks.
pub fn write(records: &Path, readme: &Path) -> Result<(), String> {
    let shown = |e: &dyn std::fmt::Display| format!("{}: {e}", readme.display());
    let text = std::fs::read_to_string(readme).map_err(|e| shown(&e))?;
    let (head, tail) = around(&text).map_err(|e| shown(&e))?;
    let tables = tables(&record::groups(records)?)?;
    std::fs::write(readme, format!("{head}{tables}{tail}")).map_err(|e| shown(&e))
}

/// The text up to and with the first mark, and from the second one on.
fn around(text: &str) -> Result<(&str, &str), &'static str> {
    let begin = text.find(BEGIN).ok_or("the mark before the table is missing")? + BEGIN.len();
    let end = text[begin..].find(END).ok_or("the mark after the table is missing")? + begin;
    Ok((&text[..begin], &text[end..]))
}

fn tables(groups: &[Group]) -> Result<String, String> {
    Ok(table(groups)? + &millions(groups))
}

/// What a million targets need; nothing without a record of it.
fn millions(groups: &[Group]) -> String {
    let newest = |scenario: &str| groups.iter().rev().find(|g| g.ours().is_some_and(|r| r.scenario == scenario));
    let mut out = String::new();
    let mut files = Vec::new();
    for &(scenario, name) in MILLIONS {
        let Some((group, row)) = newest(scenario).and_then(|g| Some((g, g.ours()?))) else { continue };
        let number = |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |v| format!("{v:.digits$}"));
        let _ = writeln!(
            out,
            "| {name} | {} | {} | {} MiB | {} MiB | {} ms, {} ms | {}, {} |",
            number(row.seconds, 0),
            number(row.cores, 2),
            number(row.rss_mib, 0),
            number(row.kernel_mib, 0),
            row.lateness_p999_ms.map_or("-".to_owned(), |v| v.to_string()),
            row.lateness_max_ms.map_or("-".to_owned(), |v| v.to_string()),
            number(row.missed, 0),
            number(row.failed, 0),
        );
        files.push(format!("`perf/record/{}`", group.file));
    }
    if files.is_empty() {
        return out;
    }
    files.dedup();
    format!(
        "\nA million targets x 20 samples every 60 s from one process, the farm on the same CPUs:\n\n\
         | | seconds | cores | resident | kernel | starts late, 99.9 % and worst | missed, failed |\n\
         |---|---|---|---|---|---|---|\n{out}\nFrom {}.\n",
        files.join(", ")
    )
}

/// Scrapers are the columns: ours, then those of the newest comparison in their order.
fn table(groups: &[Group]) -> Result<String, String> {
    let newest = |scenario: &str| {
        let is_of = |g: &&Group| g.ours().is_some_and(|r| r.scenario == scenario) && g.peers().next().is_some();
        groups.iter().rev().find(is_of)
    };
    let rows: Vec<(&Group, Figure, &str)> =
        ROWS.iter().filter_map(|&(scenario, figure, name)| Some((newest(scenario)?, figure, name))).collect();
    let mut scrapers: Vec<&Row> = Vec::new();
    for row in rows.iter().flat_map(|(g, ..)| &g.rows) {
        if !scrapers.iter().any(|s| s.scraper == row.scraper) {
            scrapers.push(row);
        }
    }
    if scrapers.is_empty() {
        return Err("no comparison in the records".to_owned());
    }
    let mut out = String::from("\n| work |");
    for scraper in &scrapers {
        let _ = write!(out, " {} |", scraper.scraper);
    }
    out.push_str(" against the best |\n|---|");
    out.push_str(&"---|".repeat(scrapers.len() + 1));
    for (group, figure, name) in &rows {
        let _ = write!(out, "\n| {name} |");
        for scraper in &scrapers {
            let row = group.rows.iter().find(|r| r.scraper == scraper.scraper);
            let cell = row.and_then(|r| r.figure(figure.column())).map_or("-".to_owned(), |v| figure.text(v));
            let _ = write!(out, " {cell}{} |", if row.is_some_and(|r| !r.keeps_up()) { "\\*" } else { "" });
        }
        let _ = write!(out, " {} |", against_best(group, *figure));
    }
    let behind = rows.iter().flat_map(|(g, ..)| &g.rows).any(|r| !r.keeps_up());
    if behind {
        out.push_str("\n\n\\* did not reach the wanted rate.");
    }
    let mut files: Vec<&str> = rows.iter().map(|(g, ..)| g.file.as_str()).collect();
    files.sort_unstable();
    files.dedup();
    let files: Vec<String> = files.iter().map(|f| format!("`perf/record/{f}`")).collect();
    let versions: Vec<String> =
        scrapers.iter().map(|s| format!("{}: {}", s.scraper, first_words(&s.version))).collect();
    let _ = writeln!(out, "\n\nFrom {}. {}.", files.join(", "), versions.join("; "));
    Ok(out)
}

/// A share such as 1/8 when we need less, a factor when we need more.
fn against_best(group: &Group, figure: Figure) -> String {
    let best = group.best_peer(figure.column()).map(|(_, v)| v);
    let Some((ours, best)) = group.ours().and_then(|r| r.figure(figure.column())).zip(best) else { return "-".into() };
    let digits = |x: f64| if x < 9.95 { format!("{x:.1}") } else { format!("{x:.0}") };
    if ours <= best { format!("1/{}", digits(best / ours)) } else { format!("{} times", digits(ours / best)) }
}

/// The version without what a build adds to it.
fn first_words(version: &str) -> &str {
    version.split(" (").next().unwrap_or(version)
}

/// A whole number with commas.
fn thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i) % 3 == 0 {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::OURS;

    #[test]
    fn the_table_of_the_readme_is_what_the_records_give() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
        let (head, tail) = around(&readme).unwrap();
        let expected = tables(&record::groups(&root.join("perf/record")).unwrap()).unwrap();
        assert_eq!(&readme[head.len()..readme.len() - tail.len()], expected, "run `perf table`");
    }

    #[test]
    fn a_million_is_told_when_it_was_measured() {
        let row = Row {
            scenario: "million".into(),
            scraper: OURS.into(),
            seconds: Some(600.1),
            cores: Some(0.251),
            rss_mib: Some(1266.6),
            kernel_mib: Some(3_700.2),
            lateness_p999_ms: Some(7.5),
            lateness_max_ms: Some(20.0),
            missed: Some(0.0),
            failed: Some(0.0),
            ..Row::default()
        };
        let text = millions(&[Group { file: "x.csv".into(), rows: vec![row] }]);
        assert!(
            text.contains("| journal only | 600 | 0.25 | 1267 MiB | 3700 MiB | 7.5 ms, 20 ms | 0, 0 |\n"),
            "{text}"
        );
        assert!(text.ends_with("From `perf/record/x.csv`.\n") && millions(&[]).is_empty());
    }

    #[test]
    fn rows_name_the_best_and_mark_who_is_behind() {
        let row = |scraper: &str, cpu: f64, got: f64| Row {
            scenario: "node".into(),
            scraper: scraper.into(),
            version: format!("{scraper} 1.0 (branch: x)"),
            cpu_us_per_scrape: Some(cpu),
            wanted_per_s: Some(100.0),
            scrapes_per_s: Some(got),
            ..Row::default()
        };
        let rows = vec![row(OURS, 50.0, 100.0), row("a", 1_234.0, 100.0), row("b", 600.0, 50.0)];
        let text = table(&[Group { file: "x.csv".into(), rows }]).unwrap();
        let line = text.lines().find(|l| l.contains("200 scrapes/s")).unwrap();
        assert_eq!(line, "| 1,000 targets x node_exporter, 200 scrapes/s | 50 us | 1,234 us | 600 us\\* | 1/12 |");
        assert!(text.contains("`perf/record/x.csv`. ringscrape: ringscrape 1.0; a: a 1.0; b: b 1.0."), "{text}");
        assert!(table(&[]).is_err());
        assert_eq!([thousands(999.4), thousands(1_000.0), thousands(1_234_567.0)], ["999", "1,000", "1,234,567"]);
    }
}
