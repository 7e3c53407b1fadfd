//! Values of flags: durations and sizes in Prometheus's spelling, CPU lists, sync policies.

use std::ffi::OsString;
use std::time::Duration;

use crate::config;
use crate::scrape::KeepAlive;

/// When journal data reaches the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// After each write.
    Batch,
    /// At most this long after a write.
    Every(Duration),
    /// When the kernel sees fit.
    Os,
}

/// CPUs in the order given, without duplicates, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cpus(pub Vec<usize>);

/// A duration as Prometheus writes it: `1h30m`, `15s`, `250ms`, `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    config::duration::parse(text).map_err(|e| format!("{text:?} {e}"))
}

/// A size as Prometheus writes it, powers of two: `512MB`, `20GiB`, `1048576B`.
pub(super) fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size; write for example 512MB or 20GB (1KB is 1024B)");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let amount: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let power = match &text[digits..] {
        "B" => 0,
        "KB" | "KiB" => 1,
        "MB" | "MiB" => 2,
        "GB" | "GiB" => 3,
        "TB" | "TiB" => 4,
        "PB" | "PiB" => 5,
        "EB" | "EiB" => 6,
        _ => return Err(wrong()),
    };
    amount.checked_mul(1 << (10 * power)).ok_or_else(wrong)
}

/// `batch`, `os` or a duration.
pub(super) fn sync(text: &str) -> Result<Sync, String> {
    match text {
        "batch" => Ok(Sync::Batch),
        "os" => Ok(Sync::Os),
        _ => match duration(text) {
            Ok(Duration::ZERO) => Err("0 is `batch`; write that".to_owned()),
            Ok(every) => Ok(Sync::Every(every)),
            Err(why) => Err(format!("neither `batch` nor `os`, and {why}")),
        },
    }
}

/// `auto`, `always` or `never`.
pub(super) fn keep_alive(text: &str) -> Result<KeepAlive, String> {
    match text {
        "auto" => Ok(KeepAlive::Auto),
        "always" => Ok(KeepAlive::Always),
        "never" => Ok(KeepAlive::Never),
        _ => Err("write auto, always or never".to_owned()),
    }
}

/// `0-3,8`: CPUs by number.
pub(super) fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || format!("{text:?} is not a list of CPUs; write for example 0-3,8");
    let mut list = Vec::new();
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: usize = first.parse().map_err(|_| wrong())?;
        let last: usize = last.parse().map_err(|_| wrong())?;
        if first > last || last >= libc::CPU_SETSIZE as usize {
            return Err(wrong());
        }
        for cpu in first..=last {
            if !list.contains(&cpu) {
                list.push(cpu);
            }
        }
    }
    Ok(Cpus(list))
}

/// Go's flag library turns every switch off with a `no-` in front; here that becomes `=false` before clap reads the line.
pub(super) fn spell_out_negations(args: Vec<OsString>, run_flags: &clap::Command) -> Vec<OsString> {
    let is_switch = |name: &str| {
        run_flags
            .get_arguments()
            .any(|a| a.get_long() == Some(name) && a.get_num_args().is_some_and(|n| n.min_values() == 0))
    };
    let spelled = |arg: OsString| match arg.to_str().and_then(|a| a.strip_prefix("--no-")) {
        Some(name) if is_switch(name) => OsString::from(format!("--{name}=false")),
        _ => arg,
    };
    args.into_iter().map(spelled).collect()
}
