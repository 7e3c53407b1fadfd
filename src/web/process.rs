//! `process_*`: what the kernel knows about this process, from /proc.

use crate::selfmetrics::{Exposition, Kind};

/// Clock ticks a second in /proc, fixed by the kernel's interface on every architecture Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the samples that can be read; a hidden /proc costs samples and no error.
pub(super) fn collect(out: &mut Exposition) {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
    let mut gauge = |name, help, value: Option<f64>| {
        value.into_iter().for_each(|v| out.sample(name, Kind::Gauge, help, &[], v));
    };
    let bytes = |key| kilobytes(&status, key).map(|kb| kb * 1024.0);
    gauge("process_resident_memory_bytes", "Resident memory size in bytes.", bytes("VmRSS:"));
    gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", bytes("VmSize:"));
    // The directory handle that counts is open while it counts.
    let open = std::fs::read_dir("/proc/self/fd").ok().map(|d| d.count().saturating_sub(1) as f64);
    gauge("process_open_fds", "Number of open file descriptors.", open);
    let limit = soft_limit(&read("/proc/self/limits"), "Max open files");
    gauge("process_max_fds", "Maximum number of open file descriptors.", limit);
    let boot = boot_time(&read("/proc/stat"));
    let start = stat_field(&stat, 22).zip(boot).map(|(ticks, boot)| boot + ticks / TICKS_PER_SECOND);
    gauge("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start);
    gauge("process_threads", "Number of threads.", stat_field(&stat, 20));
    if let Some((user, system)) = stat_field(&stat, 14).zip(stat_field(&stat, 15)) {
        let help = "Total user and system CPU time spent in seconds.";
        out.sample("process_cpu_seconds_total", Kind::Counter, help, &[], (user + system) / TICKS_PER_SECOND);
    }
}

/// Field of /proc/self/stat, counted from 1 as proc(5) does. The second is a name in parentheses that may contain anything.
fn stat_field(stat: &str, field: usize) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(") ")?;
    after_name.split_ascii_whitespace().nth(field.checked_sub(3)?)?.parse().ok()
}

fn kilobytes(status: &str, key: &str) -> Option<f64> {
    status.lines().find_map(|l| l.strip_prefix(key))?.trim().strip_suffix(" kB")?.parse().ok()
}

fn soft_limit(limits: &str, name: &str) -> Option<f64> {
    let soft = limits.lines().find_map(|l| l.strip_prefix(name))?.split_ascii_whitespace().next()?;
    if soft == "unlimited" { Some(f64::INFINITY) } else { soft.parse().ok() }
}

fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|l| l.strip_prefix("btime "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_after_the_name() {
        let stat = "42 (a) b) c) S 1 2 3 4 5 6 7 8 9 10 150 50 13 14 15 16 7 18 1234 20";
        assert_eq!((stat_field(stat, 14), stat_field(stat, 15)), (Some(150.0), Some(50.0)));
        assert_eq!((stat_field(stat, 20), stat_field(stat, 22)), (Some(7.0), Some(1234.0)));
        assert_eq!(stat_field("", 14), None);
    }

    #[test]
    fn this_process_shows_all_of_them() {
        let mut out = Exposition::default();
        collect(&mut out);
        let text = out.text();
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "process_virtual_memory_bytes",
        ] {
            let line = text.lines().find(|l| l.starts_with(&format!("{name} "))).unwrap_or_else(|| panic!("{name}"));
            let value: f64 = line.rsplit(' ').next().unwrap().parse().unwrap();
            assert!(value > 0.0 || name == "process_cpu_seconds_total", "{line}");
        }
    }

    #[test]
    fn limits_may_be_unlimited() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max open files            unlimited            1048576              files     \n";
        assert_eq!(soft_limit(text, "Max open files"), Some(f64::INFINITY));
        assert_eq!(soft_limit(text, "Max cpu time"), None);
    }
}
