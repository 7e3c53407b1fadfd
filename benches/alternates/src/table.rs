//! Markdown tables of a record: a table per question, a row per engine, a column per work load.

use std::fmt::Write;

use crate::record::Row;

type Cell = fn(&[&Row]) -> String;

/// (heading, what a cell says).
const QUESTIONS: &[(&str, Cell)] = &[
    ("CPU us per scrape: median of the rounds (least to most)", |rows| spread(rows, |r| r.cpu_us_per_scrape, 1)),
    ("Of it user + system: means, since the kernel tells them apart by samples", split),
    ("CPU us per scrape of client and farm together", |rows| {
        spread(rows, |r| Some(r.cpu_us_per_scrape? + r.farm_us_per_scrape?), 1)
    }),
    ("System calls of the client per scrape", |rows| one(rows, |r| r.syscalls_per_scrape, 2)),
    ("Context switches per scrape: sleeps + preemptions", |rows| {
        pair(rows, [|r| r.sleeps_per_scrape, |r| r.preemptions_per_scrape], 2, " + ")
    }),
    ("From due to answered, ms: p50 / p99", |rows| pair(rows, [|r| r.latency_p50_ms, |r| r.latency_p99_ms], 1, " / ")),
    ("Memory per idle kept connection, bytes: resident in the client", |rows| {
        spread(rows, |r| r.rss_bytes_per_connection, 0)
    }),
    ("Memory per idle kept connection, bytes: kernel, both ends", |rows| {
        spread(rows, |r| r.kernel_bytes_per_connection, 0)
    }),
];

type Figure = fn(&Row) -> Option<f64>;

/// All tables, and who failed.
pub fn tables(rows: &[Row]) -> String {
    let (scenarios, engines) = (names(rows, |r| &r.scenario), names(rows, |r| &r.engine));
    let of = |scenario: &str, engine: &str| -> Vec<&Row> {
        rows.iter().filter(|r| r.scenario == scenario && r.engine == engine).collect()
    };
    let mut out = String::new();
    for (heading, cell) in QUESTIONS {
        let is_answered = |s: &&&str| engines.iter().any(|e| cell(&of(s, e)) != "-");
        let columns: Vec<&str> = scenarios.iter().filter(is_answered).copied().collect();
        if columns.is_empty() {
            continue;
        }
        let short = columns.iter().map(|c| c.trim_start_matches("alternates-"));
        let _ = writeln!(out, "{heading}\n\n| engine | {} |", short.collect::<Vec<_>>().join(" | "));
        let _ = writeln!(out, "|---|{}", "---|".repeat(columns.len()));
        for engine in &engines {
            let cells: Vec<String> = columns.iter().map(|s| cell(&of(s, engine))).collect();
            let _ = writeln!(out, "| {engine} | {} |", cells.join(" | "));
        }
        out.push('\n');
    }
    for row in rows.iter().filter(|r| r.failed.unwrap_or(0) > 0) {
        let _ = writeln!(out, "{} on {}: {} scrapes failed.", row.engine, row.scenario, row.failed.unwrap_or(0));
    }
    out
}

/// Names in order of their first row.
fn names(rows: &[Row], of: fn(&Row) -> &String) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for name in rows.iter().map(of) {
        if !names.contains(&name.as_str()) {
            names.push(name);
        }
    }
    names
}

/// Known figures in order.
fn known(rows: &[&Row], figure: Figure) -> Vec<f64> {
    let mut known: Vec<f64> = rows.iter().filter_map(|r| figure(r)).collect();
    known.sort_by(f64::total_cmp);
    known
}

fn one(rows: &[&Row], figure: Figure, digits: usize) -> String {
    let known = known(rows, figure);
    known.get(known.len() / 2).map_or("-".to_owned(), |median| format!("{median:.digits$}"))
}

/// User and system time. Few ticks fall into a run, so the median of either would say little.
fn split(rows: &[&Row]) -> String {
    let (user, system) = (known(rows, |r| r.user_us_per_scrape), known(rows, |r| r.system_us_per_scrape));
    let mean = |known: Vec<f64>| known.iter().sum::<f64>() / known.len() as f64;
    if user.is_empty() { "-".to_owned() } else { format!("{:.0} + {:.0}", mean(user), mean(system)) }
}

fn spread(rows: &[&Row], figure: Figure, digits: usize) -> String {
    let median = one(rows, figure, digits);
    match known(rows, figure)[..] {
        [least, .., most] => format!("{median} ({least:.digits$} to {most:.digits$})"),
        _ => median,
    }
}

fn pair(rows: &[&Row], figures: [Figure; 2], digits: usize, between: &str) -> String {
    let [a, b] = figures.map(|figure| one(rows, figure, digits));
    if a == "-" && b == "-" { a } else { format!("{a}{between}{b}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_medians_and_unmeasured_tables_are_left_out() {
        let row = |engine: &str, cpu: f64| Row {
            scenario: "alternates-x".into(),
            engine: engine.into(),
            cpu_us_per_scrape: Some(cpu),
            ..Row::default()
        };
        let text = tables(&[row("a", 3.0), row("b", 9.0), row("a", 1.0), row("a", 2.04)]);
        assert_eq!(text.matches("| engine |").count(), 1, "{text}");
        assert!(text.contains("| engine | x |\n|---|---|\n| a | 2.0 (1.0 to 3.0) |\n| b | 9.0 |\n"), "{text}");
        let failed = tables(&[Row { failed: Some(7), ..row("a", 1.0) }]);
        assert!(failed.ends_with("a on alternates-x: 7 scrapes failed.\n"), "{failed}");
    }
}
