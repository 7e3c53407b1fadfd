//! `ringscrape demo`: a farm of exporters in this process, scraped by a whole appliance.

use std::process::ExitCode;

use crate::app::cli::DemoArgs;

/// Runs until Ctrl-C, or for the asked duration.
///
/// # Errors
/// Why it did not start.
pub fn run(_arguments: &DemoArgs) -> Result<ExitCode, String> {
    Err("demo: wiring".into())
}
