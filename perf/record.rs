//! Records: one CSV row per run of one scraper, read by column name so that older files stay readable.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// One run. A cell that was not measured is empty.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub date: String,
    pub machine: String,
    pub kernel: String,
    pub cpus: Option<u32>,
    pub commit: String,
    pub scenario: String,
    pub scraper: String,
    pub version: String,
    pub targets: Option<u32>,
    /// Measured time.
    pub seconds: Option<f64>,
    pub wanted_per_s: Option<f64>,
    /// Answers that the farm gave.
    pub scrapes_per_s: Option<f64>,
    pub samples_per_s: Option<f64>,
    /// User and system time of the whole process by answers.
    pub cpu_us_per_scrape: Option<f64>,
    /// The same by seconds.
    pub cores: Option<f64>,
    pub rss_mib: Option<f64>,
    pub peak_rss_mib: Option<f64>,
    pub cgroup_mib: Option<f64>,
    /// Of `cgroup_mib`, the kernel's.
    pub kernel_mib: Option<f64>,
    /// Growth of the host's kernel memory: both ends of every connection.
    pub host_kernel_mib: Option<f64>,
    pub wire_bytes_per_scrape: Option<f64>,
    /// A bound that half of the starts kept.
    pub lateness_p50_ms: Option<f64>,
    pub lateness_p999_ms: Option<f64>,
    pub lateness_max_ms: Option<f64>,
    pub missed: Option<f64>,
    pub failed: Option<f64>,
    /// From the start of the process until all targets are scheduled.
    pub start_s: Option<f64>,
    /// CPU time above the usual in the ten seconds after an event, the dearest one.
    pub event_cpu_s: Option<f64>,
    /// Slowest of a hundred answers of /api/v1/targets?limit=100.
    pub targets_page_p99_ms: Option<f64>,
}

impl Row {
    /// A figure by its column; `None` when it was not measured.
    pub fn figure(&self, column: &str) -> Option<f64> {
        serde_json::to_value(self).ok()?.get(column)?.as_f64()
    }

    /// Whether a column is a figure at all.
    pub fn has_figure(column: &str) -> bool {
        let all = serde_json::to_value(Self::default()).unwrap_or_default();
        all.get(column).is_some_and(serde_json::Value::is_null)
    }

    /// Whether nearly all scrapes that were due happened. Old rows do not say.
    pub fn keeps_up(&self) -> bool {
        match (self.wanted_per_s, self.scrapes_per_s) {
            (Some(wanted), Some(got)) => got >= wanted * RATE_SHARE,
            _ => true,
        }
    }
}

/// Share of the wanted rate that counts as all of it.
pub const RATE_SHARE: f64 = 0.98;

/// Rows that may be compared: of one scenario and one number of targets, measured in one go.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// The file they are in.
    pub file: String,
    /// Scraper by scraper, in order; of several rounds the median of each figure.
    pub rows: Vec<Row>,
}

impl Group {
    /// Ourselves.
    pub fn ours(&self) -> Option<&Row> {
        self.rows.iter().find(|r| r.scraper == OURS)
    }

    /// Everyone else.
    pub fn peers(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|r| r.scraper != OURS)
    }

    /// The least that any peer needs of something, and which one.
    pub fn best_peer(&self, column: &str) -> Option<(&Row, f64)> {
        let known = self.peers().filter_map(|r| Some((r, r.figure(column)?)));
        known.min_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// Our name in the column `scraper`.
pub const OURS: &str = "ringscrape";

/// All groups of a folder of CSV files, oldest first: by file name, then date.
pub fn groups(folder: &Path) -> Result<Vec<Group>, String> {
    let entries = fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut files: Vec<_> = entries.filter_map(|e| Some(e.ok()?.path())).collect();
    files.retain(|p| p.extension().is_some_and(|e| e == "csv"));
    files.sort();
    let mut groups = Vec::new();
    for path in files {
        let text = fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        let rows = parse(&text).map_err(|e| format!("{}: {e}", path.display()))?;
        let file = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        groups.extend(grouped(file, rows));
    }
    Ok(groups)
}

fn parse(text: &str) -> Result<Vec<Row>, csv::Error> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().collect()
}

/// Rows of one file by what may be compared.
pub fn grouped(file: &str, rows: Vec<Row>) -> Vec<Group> {
    let mut by_key: BTreeMap<(String, String, Option<u32>), Vec<Row>> = BTreeMap::new();
    for row in rows {
        by_key.entry((row.date.clone(), row.scenario.clone(), row.targets)).or_default().push(row);
    }
    let merged = |rows: Vec<Row>| {
        let mut names: Vec<String> = Vec::new();
        rows.iter().for_each(|r| {
            if !names.contains(&r.scraper) {
                names.push(r.scraper.clone());
            }
        });
        names.iter().map(|n| median(rows.iter().filter(|r| r.scraper == *n))).collect()
    };
    by_key.into_values().map(|rows| Group { file: file.to_owned(), rows: merged(rows) }).collect()
}

/// Each figure's median over rounds; what is not a figure is of the first.
fn median<'a>(rounds: impl Iterator<Item = &'a Row>) -> Row {
    let rounds: Vec<&Row> = rounds.collect();
    if let [only] = rounds[..] {
        return only.clone();
    }
    let mut merged = serde_json::to_value(rounds[0]).unwrap_or_default();
    for (column, value) in merged.as_object_mut().into_iter().flatten() {
        let mut figures: Vec<f64> = rounds.iter().filter_map(|r| r.figure(column)).collect();
        figures.sort_by(f64::total_cmp);
        if column != "targets" && column != "cpus" && !figures.is_empty() {
            *value = serde_json::json!(figures[figures.len() / 2]);
        }
    }
    serde_json::from_value(merged).unwrap_or_else(|_| rounds[0].clone())
}

/// Appends rows to a CSV; a file with other columns is refused.
pub fn append(path: &Path, rows: &[Row]) -> Result<(), String> {
    let shown = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let before = fs::read_to_string(path).unwrap_or_default();
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.serialize(row).map_err(|e| shown(&e))?;
    }
    let fresh = String::from_utf8(writer.into_inner().map_err(|e| shown(&e))?).map_err(|e| shown(&e))?;
    let Some((head, body)) = fresh.split_once('\n') else { return Ok(()) };
    let text = match before.split_once('\n') {
        None => fresh,
        Some((known, _)) if known == head => format!("{before}{body}"),
        Some(_) => return Err(shown(&"has other columns; give another file")),
    };
    fs::write(path, text).map_err(|e| shown(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(scraper: &str, cpu: f64) -> Row {
        Row {
            date: "2026-01-01T00:00:00Z".into(),
            scenario: "s".into(),
            scraper: scraper.into(),
            version: "a, \"b\"".into(),
            targets: Some(7),
            cpu_us_per_scrape: Some(cpu),
            ..Row::default()
        }
    }

    #[test]
    fn rows_come_back_as_they_were_and_rounds_are_merged() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.csv");
        append(&path, &[row(OURS, 3.0), row("vmagent", 9.0), row(OURS, 1.0)]).unwrap();
        append(&path, &[row(OURS, 2.0)]).unwrap();
        let rows = parse(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(rows, [row(OURS, 3.0), row("vmagent", 9.0), row(OURS, 1.0), row(OURS, 2.0)]);
        let groups = groups(dir.path()).unwrap();
        assert_eq!(groups.len(), 1);
        assert_eq!(groups[0].ours().unwrap(), &row(OURS, 2.0));
        assert_eq!(groups[0].best_peer("cpu_us_per_scrape").unwrap().1, 9.0);
        assert_eq!(groups[0].best_peer("rss_mib"), None);
    }

    #[test]
    fn files_with_fewer_columns_are_read_and_not_added_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("old.csv");
        fs::write(&path, "scenario,scraper,rss_mib,cgroup_mib\ns,ringscrape,2.5,\n").unwrap();
        let groups = groups(dir.path()).unwrap();
        let ours = groups[0].ours().unwrap();
        assert_eq!((ours.rss_mib, ours.cgroup_mib, ours.keeps_up()), (Some(2.5), None, true));
        assert!(append(&path, &[row(OURS, 1.0)]).unwrap_err().contains("other columns"));
        assert!(Row::has_figure("rss_mib") && !Row::has_figure("rss") && !Row::has_figure("scenario"));
    }
}
