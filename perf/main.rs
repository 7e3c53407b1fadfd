//! The benchmark harness: `compare` runs ringscrape and its peers in turn on the same farm; `farm` serves one alone.
//!
//! See perf/README.md for the method and its bias.

mod cgroup;
mod compare;
mod cpu;
mod peer;
mod scenario;
mod sink;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "perf", about = "Measures ringscrape beside its peers on one machine.")]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Runs each scraper on each scenario and prints CPU per scrape, memory and ratios.
    Compare(compare::Compare),
    /// Serves a scenario's farm until interrupted.
    Farm {
        /// Name of the scenario.
        scenario: String,
        /// Port of every target.
        #[arg(long, default_value_t = 9100)]
        port: u16,
    },
    /// Lists the scenarios.
    Scenarios,
}

fn main() -> ExitCode {
    // Every connection of the farm is a descriptor.
    let _ = ringscrape::app::descriptors::raise();
    let result = match Arguments::parse().job {
        Job::Compare(job) => job.run(),
        Job::Farm { scenario, port } => serve(&scenario, port),
        Job::Scenarios => {
            for s in scenario::ALL {
                println!("{:<20} {}", s.name, s.about);
            }
            Ok(())
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("perf: {e}");
            ExitCode::FAILURE
        }
    }
}

fn serve(name: &str, port: u16) -> Result<(), String> {
    let scenario = scenario::named(name)?;
    let farm = scenario.farm(port)?;
    println!("{} targets from {} on {}", scenario.targets, farm.addr(0), farm.sockets());
    loop {
        std::thread::sleep(std::time::Duration::from_secs(10));
        println!("{} answers", farm.served());
    }
}
