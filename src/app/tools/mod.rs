//! The subcommands that are not the appliance: checks, one scrape, export, inspect, doctor.
//!
//! Each file is one subcommand and ends in an exit code. Invariants: the answer goes to standard output, remarks to
//! standard error; whatever reads a journal works beside a running process. Absent: anything that changes data.

mod doctor;
mod lint;
mod probe;
mod scrape;
mod storage;

use std::path::PathBuf;
use std::process::ExitCode;

use crate::config::{self, LoadOptions};

pub use doctor::doctor;
pub use lint::check_metrics;
pub use scrape::scrape;
pub use storage::{export, inspect};

/// `check config FILE..`
///
/// # Errors
/// None; what is wrong is printed and the exit code is 1.
pub fn check_config(files: &[PathBuf], ignored_keys: &[String], depth: config::Depth) -> Result<ExitCode, String> {
    let ignore: Vec<&str> = ignored_keys.iter().map(String::as_str).collect();
    let env = |name: &str| std::env::var(name).ok();
    let options = LoadOptions { ignore: &ignore, env: &env, extra_scrape_metrics: false };
    let (report, code) = config::check(files, &options, depth);
    super::print(&report);
    Ok(ExitCode::from(code.clamp(0, 255) as u8))
}
