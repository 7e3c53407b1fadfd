//! `doctor`: what of this host limits us: have, want, how to fix.

mod engine;
mod host;

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::app::cli::DoctorFormat;
use crate::app::print;
use crate::base::cpu::Allowance;
use crate::engine::{Uring, layers};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it should be.
    Ok,
    /// Works; limits something.
    Warn,
    /// Does not work.
    Bad,
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    have: String,
    want: String,
    /// Empty where nothing needs fixing.
    fix: String,
}

impl Check {
    fn new(name: &'static str, have: impl Into<String>, want: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, have: have.into(), want: want.into(), fix: String::new() }
    }

    /// The verdict and the remedy where the wish is not met.
    fn unless(mut self, is_met: bool, verdict: Verdict, fix: impl Into<String>) -> Self {
        if !is_met {
            self.verdict = verdict;
            self.fix = fix.into();
        }
        self
    }
}

/// Reads a file of the system as text without blanks at the ends; `None` where there is none.
type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// `doctor`: exit code 1 when something does not work.
///
/// # Errors
/// None so far.
pub fn doctor(storage_path: &Path, format: DoctorFormat) -> Result<ExitCode, String> {
    let read = |path: &str| std::fs::read_to_string(path).ok().map(|t| t.trim().to_owned());
    let probe = Uring::probe().map_err(|e| e.to_string());
    let mut checks = engine::checks(&read, &layers(), &probe);
    checks.extend(engine::limits(&read, &probe));
    checks.extend(host::rights(&read, probe.is_ok()));
    checks.extend(host::network(&read));
    checks.extend(host::machine(&read, Allowance::read()));
    checks.extend(host::storage(storage_path));
    match format {
        DoctorFormat::Text => print(&lines(&checks)),
        DoctorFormat::Json => {
            print(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "checks": checks }).to_string());
        }
    }
    let is_bad = checks.iter().any(|c| c.verdict == Verdict::Bad);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn lines(checks: &[Check]) -> String {
    let width = checks.iter().map(|c| c.name.len()).max().unwrap_or(0);
    let mut out = String::new();
    for c in checks {
        let word = match c.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Warn => "warn",
            Verdict::Bad => "BAD ",
        };
        let _ = writeln!(out, "{word}  {:width$}  have {}; want {}", c.name, c.have, c.want);
        if !c.fix.is_empty() {
            let _ = writeln!(out, "      {:width$}  fix  {}", "", c.fix);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_a_fix_below_what_is_not_as_it_should_be() {
        let fine = Check::new("a", "1", "1");
        let limited = Check::new("longer", "1", "2").unless(false, Verdict::Warn, "sysctl -w x=2");
        assert_eq!(
            lines(&[fine, limited]),
            "ok    a       have 1; want 1\nwarn  longer  have 1; want 2\n              fix  sysctl -w x=2\n"
        );
    }
}
