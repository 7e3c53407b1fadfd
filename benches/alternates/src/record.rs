//! Records: one CSV row per run of one engine. A cell that was not measured is empty.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::host::Host;
use crate::load::Load;
use crate::meter::Figures;

/// One run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Row {
    pub date: String,
    pub machine: String,
    pub kernel: String,
    pub cpus: u32,
    pub commit: String,
    /// `alternates-` and what the tables call the work load.
    pub scenario: String,
    pub engine: String,
    pub version: String,
    pub link: String,
    pub samples: u32,
    pub grid_ms: u64,
    pub targets: u32,
    /// Measured time.
    pub seconds: Option<u64>,
    pub wanted_per_s: Option<u64>,
    pub scrapes_per_s: Option<f64>,
    /// User and system time of the client by its scrapes.
    pub cpu_us_per_scrape: Option<f64>,
    pub user_us_per_scrape: Option<f64>,
    pub system_us_per_scrape: Option<f64>,
    /// The farm's, in the same time.
    pub farm_us_per_scrape: Option<f64>,
    pub syscalls_per_scrape: Option<f64>,
    pub sleeps_per_scrape: Option<f64>,
    pub preemptions_per_scrape: Option<f64>,
    /// From the due time to the whole answer.
    pub latency_p50_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    pub failed: Option<u64>,
    pub rss_bytes_per_connection: Option<f64>,
    /// Of the host: both ends.
    pub kernel_bytes_per_connection: Option<f64>,
}

impl Row {
    /// A row without figures.
    pub fn new(host: &Host, scenario: &str, engine: Engine, load: &Load) -> Self {
        Self {
            date: host.date.clone(),
            machine: host.machine.clone(),
            kernel: host.kernel.clone(),
            cpus: host.cpus,
            commit: host.commit.clone(),
            scenario: scenario.to_owned(),
            engine: engine.name().to_owned(),
            version: engine.version(),
            link: load.link.name().to_owned(),
            samples: load.samples,
            grid_ms: load.grid_ms,
            targets: load.targets,
            ..Self::default()
        }
    }

    /// With what a paced run said.
    pub fn with_pace(self, load: &Load, f: &Figures) -> Self {
        Self {
            seconds: Some(load.seconds),
            wanted_per_s: Some(load.rate),
            scrapes_per_s: Some(f.scrapes_per_s),
            cpu_us_per_scrape: Some(f.user_us + f.system_us),
            user_us_per_scrape: Some(f.user_us),
            system_us_per_scrape: Some(f.system_us),
            farm_us_per_scrape: Some(f.farm_us),
            sleeps_per_scrape: Some(f.sleeps),
            preemptions_per_scrape: Some(f.preemptions),
            latency_p50_ms: Some(f.latency_p50_ms),
            latency_p99_ms: Some(f.latency_p99_ms),
            failed: Some(f.failed),
            ..self
        }
    }

    /// With what a run at rest said.
    pub fn with_memory(self, f: &Figures) -> Self {
        let (rss, kernel) = (f.rss_bytes_per_connection, f.kernel_bytes_per_connection);
        Self { failed: Some(f.failed), rss_bytes_per_connection: rss, kernel_bytes_per_connection: kernel, ..self }
    }
}

/// The rows of a file.
pub fn read(path: &Path) -> Result<Vec<Row>, String> {
    let shown = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let mut reader = csv::Reader::from_path(path).map_err(|e| shown(&e))?;
    reader.deserialize().collect::<Result<_, _>>().map_err(|e| shown(&e))
}

/// Adds rows to a file, or begins it.
pub fn add(path: &Path, rows: &[Row]) -> Result<(), String> {
    let shown = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let before = if path.exists() { read(path)? } else { Vec::new() };
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in before.iter().chain(rows) {
        writer.serialize(row).map_err(|e| shown(&e))?;
    }
    fs::write(path, writer.into_inner().map_err(|e| shown(&e))?).map_err(|e| shown(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        let row = Row { engine: "a, \"b\"".into(), syscalls_per_scrape: Some(0.5), ..Row::default() };
        let path = std::env::temp_dir().join(format!("alternates-{}.csv", std::process::id()));
        add(&path, std::slice::from_ref(&row)).unwrap();
        add(&path, &[Row::default()]).unwrap();
        let rows = read(&path).unwrap();
        let _ = fs::remove_file(&path);
        assert_eq!(rows, [row, Row::default()]);
    }
}
