//! `doctor`: what of this host limits us: have, want, how to fix.

use std::fmt::Write as _;
use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::app::cli::DoctorFormat;
use crate::app::print;
use crate::base::cpu::Allowance;
use crate::base::file;
use crate::engine::Uring;

/// Free space below this is worth a word.
const FREE_BYTES_WANTED: u64 = 10_000_000_000;
/// Descriptors that make the epoll engine useful for a fleet.
const DESCRIPTORS_WANTED: u64 = 65_536;

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
    let mut checks = engine_checks(&read, &probe);
    checks.extend(network_checks(&read));
    checks.push(cpu_check(Allowance::read()));
    checks.extend(storage_checks(storage_path));
    match format {
        DoctorFormat::Text => print(&lines(&checks)),
        DoctorFormat::Json => {
            print(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION"), "checks": checks }).to_string());
        }
    }
    let is_bad = checks.iter().any(|c| c.verdict == Verdict::Bad);
    Ok(if is_bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn engine_checks(read: Read<'_>, probe: &Result<(), String>) -> Vec<Check> {
    let release = read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = Check::new("kernel", &release, "6.1 or newer for io_uring").unless(
        version(&release) >= (6, 1),
        Verdict::Warn,
        "epoll works here; io_uring needs a newer kernel",
    );
    let engine = match probe {
        Ok(()) => Check::new("io_uring", "works", "works"),
        Err(refusal) => Check::new("io_uring", refusal, "works").unless(
            false,
            Verdict::Warn,
            "epoll works meanwhile, with one descriptor a target; in a container see deploy/container",
        ),
    };
    let disabled = read("/proc/sys/kernel/io_uring_disabled").unwrap_or_else(|| "absent".into());
    let sysctl = Check::new("kernel.io_uring_disabled", &disabled, "0").unless(
        disabled == "0" || disabled == "absent",
        Verdict::Warn,
        "sysctl -w kernel.io_uring_disabled=0",
    );
    let limits = read("/proc/self/limits").unwrap_or_default();
    let (soft, hard) = limit(&limits, "Max open files").unwrap_or((0, 0));
    let files =
        Check::new("RLIMIT_NOFILE", format!("{soft} of {hard}"), format!("hard limit {DESCRIPTORS_WANTED} or more"))
            .unless(
                hard >= DESCRIPTORS_WANTED,
                Verdict::Warn,
                "LimitNOFILE=1048576 in the unit, or `ulimit -Hn`; the soft limit is raised at start",
            );
    let (_, locked) = limit(&limits, "Max locked memory").unwrap_or((0, 0));
    let have = if locked == u64::MAX { "unlimited".to_owned() } else { format!("{locked} bytes") };
    // Where the real rings could be had, the limit is large enough.
    let memory = Check::new("RLIMIT_MEMLOCK", have, "enough for the rings").unless(
        probe.is_ok() || locked >= 64 << 20,
        Verdict::Warn,
        "LimitMEMLOCK=infinity in the unit",
    );
    vec![kernel, engine, sysctl, files, memory]
}

fn network_checks(read: Read<'_>) -> Vec<Check> {
    let number = |path: &str| read(path).and_then(|t| t.parse::<u64>().ok());
    let mut checks = Vec::new();
    if let Some(range) = read("/proc/sys/net/ipv4/ip_local_port_range") {
        let mut ends = range.split_whitespace().filter_map(|n| n.parse::<u64>().ok());
        let count = ends.next().zip(ends.next()).map_or(0, |(low, high)| (high + 1).saturating_sub(low));
        let check = Check::new("net.ipv4.ip_local_port_range", format!("{count} ports"), "20000 ports or more");
        let fix = "sysctl -w net.ipv4.ip_local_port_range='1024 65535'; it limits connections to one address and port";
        checks.push(check.unless(count >= 20_000, Verdict::Warn, fix));
    }
    let mut at_least = |name: &'static str, path: &str, wanted: u64, fix: &str| {
        if let Some(have) = number(path) {
            let check = Check::new(name, have.to_string(), format!("{wanted} or more"));
            checks.push(check.unless(have >= wanted, Verdict::Warn, fix));
        }
    };
    let fix = "sysctl -w net.core.somaxconn=4096; connections to our own pages wait there";
    at_least("net.core.somaxconn", "/proc/sys/net/core/somaxconn", 1_024, fix);
    let fix = "sysctl -w fs.nr_open=1048576; no limit of open files can be larger";
    at_least("fs.nr_open", "/proc/sys/fs/nr_open", 1 << 20, fix);
    let fix = "sysctl -w net.ipv4.neigh.default.gc_thresh3=65536 (and gc_thresh2=32768), for more targets than that on \
               one network segment";
    at_least("neighbour table", "/proc/sys/net/ipv4/neigh/default/gc_thresh3", 8_192, fix);
    let fix = "sysctl -w net.netfilter.nf_conntrack_max=1048576, or leave scrapes untracked; every kept connection is an \
               entry";
    at_least("nf_conntrack", "/proc/sys/net/netfilter/nf_conntrack_max", 262_144, fix);
    checks
}

fn cpu_check(allowance: Allowance) -> Check {
    let mask = allowance.mask;
    match allowance.quota {
        None => Check::new("cpu", format!("{mask} CPUs, no quota"), "no quota, or a generous one"),
        Some(quota) => Check::new("cpu", format!("{mask} CPUs, quota of {quota}"), "no quota, or a generous one").unless(
            quota >= mask as f64,
            Verdict::Warn,
            "a process over its quota is stopped for tens of milliseconds and scrapes late; raise CPUQuota= or limits.cpu",
        ),
    }
}

fn storage_checks(path: &Path) -> Vec<Check> {
    let there = path.ancestors().find(|p| p.exists() && !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    let probe = there.join(format!(".ringscrape-doctor-{}", std::process::id()));
    let written = std::fs::write(&probe, b"x").and_then(|()| std::fs::remove_file(&probe));
    let have = match &written {
        Ok(()) if path.exists() => format!("{shown} is writable"),
        Ok(()) => format!("{shown} can be made"),
        Err(e) => format!("{}: {e}", there.display()),
    };
    let rights = Check::new("data directory", have, "writable").unless(
        written.is_ok(),
        Verdict::Bad,
        format!("chown it to the user we run as, or choose another --storage.path than {shown}"),
    );
    let space = match file::space(there) {
        Err(e) => Check::new("data space", e.to_string(), "known").unless(false, Verdict::Warn, "check the mount"),
        Ok(space) => {
            let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
            let have = format!("{} free of {}", gb(space.free_bytes), gb(space.total_bytes));
            Check::new("data space", have, format!("{} free", gb(FREE_BYTES_WANTED))).unless(
                space.free_bytes >= FREE_BYTES_WANTED,
                Verdict::Warn,
                "--storage.retention.size keeps the journal within what there is",
            )
        }
    };
    vec![rights, space]
}

/// `6.12.3-foo` as (6, 12).
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Soft and hard limit of a line of /proc/self/limits; unlimited is the largest number.
fn limit(limits: &str, name: &str) -> Option<(u64, u64)> {
    let mut words = limits.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace();
    let mut number = || words.next().map(|w| w.parse().unwrap_or(u64::MAX));
    Some((number()?, number()?))
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

    const LIMITS: &str = "Max locked memory         65536                65536                bytes     \n\
                          Max open files            1024                 524288               files     \n";

    fn host(path: &str) -> Option<String> {
        Some(match path {
            "/proc/sys/kernel/osrelease" => "5.15.0-91-generic".into(),
            "/proc/sys/kernel/io_uring_disabled" => "2".into(),
            "/proc/self/limits" => LIMITS.into(),
            "/proc/sys/net/ipv4/ip_local_port_range" => "32768\t60999".into(),
            "/proc/sys/net/core/somaxconn" => "128".into(),
            _ => return None,
        })
    }

    #[test]
    fn what_limits_is_found_and_what_is_absent_is_left_out() {
        let checks = engine_checks(&host, &Err("refused by sysctl".into()));
        let verdicts: Vec<Verdict> = checks.iter().map(|c| c.verdict).collect();
        use Verdict::{Ok, Warn};
        assert_eq!(verdicts, [Warn, Warn, Warn, Ok, Warn]);
        assert_eq!(checks[3].have, "1024 of 524288");
        let network = network_checks(&host);
        assert_eq!(
            network.iter().map(|c| (c.name, c.verdict)).collect::<Vec<_>>(),
            [("net.ipv4.ip_local_port_range", Ok), ("net.core.somaxconn", Warn)]
        );
        let text = lines(&checks);
        assert!(text.contains("fix  sysctl -w kernel.io_uring_disabled=0"), "{text}");
        assert_eq!(engine_checks(&host, &Result::Ok(()))[4].verdict, Ok);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let checks = storage_checks(&dir.path().join("a/b"));
        assert_eq!(checks[0].verdict, Verdict::Ok, "{checks:?}");
        assert!(checks[0].have.ends_with("can be made"));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(storage_checks(Path::new("/proc/1/nothing"))[0].verdict, Verdict::Bad);
    }

    #[test]
    fn quotas_below_the_mask_are_worth_a_word() {
        assert_eq!(cpu_check(Allowance { mask: 4, quota: None }).verdict, Verdict::Ok);
        assert_eq!(cpu_check(Allowance { mask: 4, quota: Some(1.5) }).verdict, Verdict::Warn);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(version("6.12.3-x") > version("6.2.0"));
        assert_eq!(version(""), (0, 0));
    }
}
