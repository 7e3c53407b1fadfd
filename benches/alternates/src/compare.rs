//! The comparison: every engine on every work load, in rounds whose order alternates; then syscalls; then memory.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::engine::Engine;
use crate::host::Host;
use crate::load::{Link, Load};
use crate::meter::Figures;
use crate::record::{self, Row};
use crate::served::{Address, Served};
use crate::table;

/// Syscalls are counted for so long, milliseconds; a run is a second longer.
const COUNTED_MS: u64 = 2_000;
/// Before memory is measured, so that the kernel has freed what the last run had.
const SETTLE: Duration = Duration::from_secs(1);

/// (name, samples, connections, grid of starts in ms).
const LOADS: &[(&str, u32, Link, u64)] = &[
    ("alternates-small-keep", 18, Link::Keep, 10),
    ("alternates-small-keep-spread", 18, Link::Keep, 1),
    ("alternates-small-fresh", 18, Link::Fresh, 10),
    ("alternates-large-keep", 500, Link::Keep, 10),
    ("alternates-large-fresh", 500, Link::Fresh, 10),
];
/// The work load of the runs at rest.
const MEMORY: &str = "alternates-memory";

/// What is measured; each part is a set of runs of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// CPU time, context switches, latency.
    Cpu,
    /// System calls.
    Syscalls,
    /// Memory per connection.
    Memory,
}

/// What is compared how.
#[derive(Args)]
pub struct Compare {
    /// Only these parts.
    #[arg(long, value_enum, default_values_t = [Part::Cpu, Part::Syscalls, Part::Memory])]
    part: Vec<Part>,
    /// Only these engines.
    #[arg(long)]
    engine: Vec<Engine>,
    /// Targets of the paced runs.
    #[arg(long, default_value_t = 2_000)]
    targets: u32,
    /// Scrapes per second.
    #[arg(long, default_value_t = 1_000)]
    rate: u64,
    /// Measured time of each run.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Rounds over all engines.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Connections of the runs that measure memory.
    #[arg(long, default_value_t = 8_000)]
    connections: u32,
    /// Where the rows are kept; added to those that are there.
    #[arg(long)]
    record: Option<PathBuf>,
}

impl Compare {
    /// Runs it, prints the tables, keeps the rows.
    pub fn run(&self) -> Result<(), String> {
        let host = Host::read();
        let engines = if self.engine.is_empty() { Engine::ALL.to_vec() } else { self.engine.clone() };
        let mut rows = Vec::new();
        for part in &self.part {
            eprintln!("{part:?}");
            match part {
                Part::Cpu => self.cpu(&host, &engines, &mut rows)?,
                Part::Syscalls => self.syscalls(&host, &engines, &mut rows)?,
                Part::Memory => self.memory(&host, &engines, &mut rows)?,
            }
        }
        print!("{}", table::tables(&rows));
        self.record.as_ref().map_or(Ok(()), |path| record::add(path, &rows))
    }

    fn cpu(&self, host: &Host, engines: &[Engine], rows: &mut Vec<Row>) -> Result<(), String> {
        for round in 0..self.rounds {
            for (name, load) in self.loads() {
                for &engine in &alternated(engines, round) {
                    eprintln!("round {} of {}: {name}, {}", round + 1, self.rounds, engine.name());
                    let figures = paced(engine, &load)?;
                    rows.push(Row::new(host, name, engine, &load).with_pace(&load, &figures));
                }
            }
        }
        Ok(())
    }

    fn syscalls(&self, host: &Host, engines: &[Engine], rows: &mut Vec<Row>) -> Result<(), String> {
        for (name, load) in self.loads() {
            for &engine in engines {
                let syscalls_per_scrape = counted(engine, &load)?;
                rows.push(Row { syscalls_per_scrape, ..Row::new(host, name, engine, &load) });
            }
        }
        Ok(())
    }

    fn memory(&self, host: &Host, engines: &[Engine], rows: &mut Vec<Row>) -> Result<(), String> {
        for round in 0..self.rounds {
            for &engine in &alternated(engines, round) {
                sleep(SETTLE);
                let load = Load { targets: self.connections, seconds: 0, ..self.load(18, Link::Keep, 10) };
                rows.push(Row::new(host, MEMORY, engine, &load).with_memory(&paced(engine, &load)?));
            }
        }
        Ok(())
    }

    fn load(&self, samples: u32, link: Link, grid_ms: u64) -> Load {
        Load { targets: self.targets, samples, rate: self.rate, grid_ms, link, seconds: self.seconds }
    }

    fn loads(&self) -> impl Iterator<Item = (&'static str, Load)> + '_ {
        LOADS.iter().map(|&(name, samples, link, grid_ms)| (name, self.load(samples, link, grid_ms)))
    }
}

/// Every other round goes backwards.
fn alternated(engines: &[Engine], round: usize) -> Vec<Engine> {
    let mut order = engines.to_vec();
    if round % 2 == 1 {
        order.reverse();
    }
    order
}

/// One run, start to end, with a farm of its own.
fn paced(engine: Engine, load: &Load) -> Result<Figures, String> {
    let farm = Served::start(load.targets, load.samples)?;
    Running::start(engine, load, farm.address)?.figures()
}

/// Syscalls per scrape, counted from outside during a run; `None` where the host does not let us.
fn counted(engine: Engine, load: &Load) -> Result<Option<f64>, String> {
    let load = Load { seconds: COUNTED_MS / 1_000 + 1, ..*load };
    let farm = Served::start(load.targets, load.samples)?;
    let mut client = Running::start(engine, &load, farm.address)?;
    client.until_measured()?;
    let process = client.child.id().to_string();
    let timeout = COUNTED_MS.to_string();
    let perf = Command::new("perf")
        .args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "-p", &process, "--timeout", &timeout])
        .output();
    let count = perf.ok().and_then(|said| count(&String::from_utf8_lossy(&said.stderr)));
    client.figures()?;
    Ok(count.map(|n| n * 1e3 / (COUNTED_MS as f64 * load.rate as f64)))
}

/// The count in what `perf stat -x,` prints.
fn count(text: &str) -> Option<f64> {
    text.lines().find(|l| l.contains("raw_syscalls:sys_enter"))?.split(',').next()?.parse().ok()
}

/// A client's process; killed when dropped.
struct Running {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    fn start(engine: Engine, load: &Load, farm: Address) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = Command::new(program);
        command.args(["client", "--engine", engine.name(), "--link", load.link.name()]);
        let numbers = [
            ("--targets", u64::from(load.targets)),
            ("--samples", u64::from(load.samples)),
            ("--rate", load.rate),
            ("--grid-ms", load.grid_ms),
            ("--seconds", load.seconds),
            ("--port", u64::from(farm.port)),
            ("--farm-process", u64::from(farm.process)),
        ];
        command.args(numbers.iter().flat_map(|(name, number)| [(*name).to_owned(), number.to_string()]));
        let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| format!("client: {e}"))?;
        let said = BufReader::new(child.stdout.take().ok_or("client: no pipe")?);
        Ok(Self { child, said })
    }

    /// Returns at the beginning of the measured time.
    fn until_measured(&mut self) -> Result<(), String> {
        let mut line = String::new();
        match self.said.read_line(&mut line) {
            Ok(_) if line.trim() == "window" => Ok(()),
            _ => Err("client: ended before it measured".to_owned()),
        }
    }

    fn figures(mut self) -> Result<Figures, String> {
        let last = self.said.by_ref().lines().map_while(Result::ok).last().unwrap_or_default();
        serde_json::from_str(&last).map_err(|e| format!("client: said {last:?}: {e}"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_alternates_and_counts_are_read() {
        let engines = [Engine::Ring, Engine::Tokio];
        assert_eq!(alternated(&engines, 0), engines);
        assert_eq!(alternated(&engines, 1), [Engine::Tokio, Engine::Ring]);
        assert_eq!(count("\n29,,raw_syscalls:sys_enter,6372967,100.00,,\n"), Some(29.0));
        assert_eq!(count("<not supported>,,raw_syscalls:sys_enter,0,0.00,,\n"), None);
        assert_eq!(count("Error: no permission"), None);
    }
}
