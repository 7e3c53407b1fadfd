//! The same small scrape loop on our engine (rings, epoll), tokio, tokio-uring and glommio: what each costs per scrape.
//!
//! See README.md beside this package for the method, its bias and what came of it.

mod answer;
mod client;
mod compare;
mod engine;
#[path = "../../../perf/host.rs"]
mod host;
mod load;
mod meter;
mod on_glommio;
mod on_tokio;
mod on_tokio_uring;
mod ours;
mod record;
mod served;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::engine::Engine;
use crate::load::Load;

#[derive(Parser)]
#[command(name = "alternates", about = "Measures one scrape loop on several runtimes.")]
struct Arguments {
    #[command(subcommand)]
    job: Job,
}

#[derive(Subcommand)]
enum Job {
    /// Runs every engine on every work load, prints the tables and keeps the rows.
    Compare(compare::Compare),
    /// Prints the tables of a record.
    Table {
        /// The record.
        record: PathBuf,
    },
    /// Runs one engine once against a farm that is already there; prints its figures as JSON.
    Client(Client),
    /// Serves targets on CPU 1 until killed; prints the port.
    Farm {
        /// How many.
        #[arg(long)]
        targets: u32,
        /// Samples of each body.
        #[arg(long)]
        samples: u32,
    },
}

#[derive(Args)]
struct Client {
    #[arg(long)]
    engine: Engine,
    #[command(flatten)]
    load: Load,
    /// Port of the farm.
    #[arg(long)]
    port: u16,
    /// Process of the farm, whose CPU time is read.
    #[arg(long)]
    farm_process: u32,
}

fn main() -> ExitCode {
    // Everywhere but on the ring a connection is a descriptor.
    let _ = ringscrape::app::descriptors::raise();
    let result = match Arguments::parse().job {
        Job::Compare(job) => job.run(),
        Job::Table { record } => record::read(&record).map(|rows| print!("{}", table::tables(&rows))),
        Job::Client(c) => client::run(c.engine, c.load, served::Address { port: c.port, process: c.farm_process }),
        Job::Farm { targets, samples } => served::serve(targets, samples),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("alternates: {e}");
            ExitCode::FAILURE
        }
    }
}
