//! The ground plan of the process: command line, start from the ground up, stop from the top down.
//!
//! [`main`] dispatches on what the command line means; [`Process`] is a running appliance, put together in
//! [`Process::start`] floor by floor and taken apart in [`Process::stop`] in the opposite order. Invariants: whatever can
//! refuse to start (configuration, ports, data directory, engine) does so before the first scrape, with a remedy.
//! Absent on purpose: everything else; this room only wires.

pub mod cli;
mod control;
mod demo;
pub mod descriptors;
mod logging;
mod metadata;
mod process;
mod reload;
mod signals;
mod targets;
mod threads;
mod tools;

use std::process::ExitCode;

pub use process::Process;

use cli::Invocation;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let invocation = match cli::parse_from(std::env::args_os()) {
        Ok(invocation) => invocation,
        Err(e) if e.is_answer() => {
            print(&e.to_string());
            return ExitCode::SUCCESS;
        }
        Err(e) => {
            eprint(&e.to_string());
            return ExitCode::from(e.exit_code().clamp(0, 255) as u8);
        }
    };
    let result = match invocation {
        Invocation::Run(options) => match process::run(*options) {
            Ok(code) => Ok(code),
            Err(refused) => {
                eprint(&format!("error: {refused}"));
                return ExitCode::from(refused.exit_code());
            }
        },
        Invocation::Demo(arguments) => demo::run(&arguments),
        Invocation::CheckConfig { files, ignored_keys, depth } => tools::check_config(&files, &ignored_keys, depth),
        Invocation::CheckMetrics => tools::check_metrics(),
        Invocation::Scrape(arguments) => tools::scrape(&arguments),
        Invocation::Export(arguments) => tools::export(&arguments),
        Invocation::JournalInspect { dir } => tools::inspect(&dir),
        Invocation::Doctor { storage_path, format } => tools::doctor(&storage_path, format),
    };
    match result {
        Ok(code) => code,
        Err(text) => {
            eprint(&format!("error: {text}"));
            ExitCode::FAILURE
        }
    }
}

/// Standard output; a closed pipe is the reader's choice and no error.
fn print(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn eprint(text: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
}
