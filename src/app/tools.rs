//! The subcommands that are not the appliance: checks, one scrape, export, inspect.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::app::cli::{ExportArgs, ScrapeArgs};
use crate::config::{self, LoadOptions};

/// `check config FILE..`
///
/// # Errors
/// None; what is wrong is printed and the exit code is 1.
pub fn check_config(files: &[PathBuf], ignored_keys: &[String]) -> Result<ExitCode, String> {
    let ignore: Vec<&str> = ignored_keys.iter().map(String::as_str).collect();
    let env = |name: &str| std::env::var(name).ok();
    let (report, code) = config::check(files, &LoadOptions { ignore: &ignore, env: &env });
    super::print(&report);
    Ok(ExitCode::from(code.clamp(0, 255) as u8))
}

/// `check metrics`
pub fn check_metrics() -> Result<ExitCode, String> {
    Err("check metrics: wiring".into())
}

/// `scrape URL`
pub fn scrape(_arguments: &ScrapeArgs) -> Result<ExitCode, String> {
    Err("scrape: wiring".into())
}

/// `export`
pub fn export(_arguments: &ExportArgs) -> Result<ExitCode, String> {
    Err("export: wiring".into())
}

/// `journal inspect DIR`
pub fn inspect(_dir: &Path) -> Result<ExitCode, String> {
    Err("inspect: wiring".into())
}

/// `doctor`
pub fn doctor(_storage_path: &Path) -> Result<ExitCode, String> {
    Err("doctor: wiring".into())
}
