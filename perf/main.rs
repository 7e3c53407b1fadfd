//! The benchmark harness: runs ringscrape and its peers on farms of targets, keeps records, checks budgets, draws plots.
//!
//! See perf/README.md for the method and its bias.

mod bench;
mod budget;
mod cgroup;
mod compare;
mod cpu;
mod host;
mod networks;
mod own;
mod peer;
mod plot;
mod record;
mod scenario;
mod sink;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use scenario::Scenario;

#[derive(Parser)]
#[command(name = "perf", about = "Measures ringscrape beside its peers on one machine.")]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Runs ringscrape alone: CPU, memory, start lateness, missed and failed scrapes.
    Run(compare::Common),
    /// Runs each scraper on each scenario and prints CPU per scrape, memory and ratios.
    Compare(compare::Compare),
    /// Compares the newest records with the budgets; exit code 1 when one is exceeded.
    Check {
        #[arg(long, default_value = "perf/budget.toml")]
        budget: PathBuf,
        /// Folder of the records.
        #[arg(long, default_value = "perf/record")]
        records: PathBuf,
        /// A budget without a record fails too.
        #[arg(long)]
        complete: bool,
    },
    /// Draws the records of the scenario `scale`.
    Plot {
        /// Folder of the records.
        #[arg(long, default_value = "perf/record")]
        records: PathBuf,
        /// Folder for the SVG files.
        #[arg(long, default_value = "perf/plots")]
        out: PathBuf,
    },
    /// Writes the README's table from the newest records.
    Table {
        /// Folder of the records.
        #[arg(long, default_value = "perf/record")]
        records: PathBuf,
        #[arg(long, default_value = "README.md")]
        readme: PathBuf,
    },
    /// Serves a scenario's farm until interrupted.
    Farm {
        /// Name of the scenario.
        scenario: String,
        /// First port of every address.
        #[arg(long, default_value_t = 9100)]
        port: u16,
        /// Scale the farm to so many targets.
        #[arg(long)]
        targets: Option<u32>,
    },
    /// Lists the scenarios.
    Scenarios,
}

fn main() -> ExitCode {
    // On epoll every connection of the farm is a descriptor.
    let _ = ringscrape::app::descriptors::raise();
    let result = match Arguments::parse().job {
        Job::Run(job) => job.run_alone(),
        Job::Compare(job) => job.run(),
        Job::Check { budget, records, complete } => budget::check(&budget, &records, complete),
        Job::Plot { records, out } => plot::write(&records, &out),
        Job::Table { records, readme } => table::write(&records, &readme),
        Job::Farm { scenario, port, targets } => serve(&scenario, port, targets),
        Job::Scenarios => list(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("perf: {e}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<(), String> {
    for s in Scenario::all(Path::new("perf/scenarios"))? {
        println!("{:<20} {}", s.name, s.about);
    }
    Ok(())
}

fn serve(name: &str, port: u16, targets: Option<u32>) -> Result<(), String> {
    let scenario = Scenario::named(Path::new("perf/scenarios"), name)?;
    let farm = targets.map_or_else(|| scenario.clone(), |n| scenario.with_targets(n)).farm(port, None)?;
    println!("{} targets from {} on ({})", farm.spec().targets(), farm.addr(0), farm.sockets());
    loop {
        std::thread::sleep(std::time::Duration::from_secs(10));
        println!("{} answers", farm.served());
    }
}
