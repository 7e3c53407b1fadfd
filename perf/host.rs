//! The machine as records name it, and the kernel's memory as a whole.

use std::fs;
use std::process::Command;

use ringscrape::base::rfc3339;
use ringscrape::base::time::Now;

/// What every row of a record says of where and when it was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// RFC 3339, UTC, whole seconds; the same for all rows of one comparison.
    pub date: String,
    /// CPU and memory.
    pub machine: String,
    /// Release.
    pub kernel: String,
    /// CPUs that we may use.
    pub cpus: u32,
    /// Of this tree, with `+` when files differ from it.
    pub commit: String,
}

impl Host {
    /// This host, now.
    pub fn read() -> Self {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let info = read("/proc/cpuinfo");
        let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(": ")).map_or("CPU", |(_, m)| m);
        let gib = field_kib(&read("/proc/meminfo"), "MemTotal").unwrap_or(0) as f64 / 1_048_576.0;
        let cpus = std::thread::available_parallelism().map_or(0, std::num::NonZero::get) as u32;
        Self {
            date: rfc3339::text(Some(Now::read().wall_ns / 1_000_000_000 * 1_000_000_000)),
            machine: format!("{cpus} x {model}, {gib:.0} GiB"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            cpus,
            commit: commit().unwrap_or_else(|| "unknown".to_owned()),
        }
    }
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok().filter(|o| o.status.success())?;
        Some(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let mark = if git(&["status", "--porcelain", "--untracked-files=no"])?.is_empty() { "" } else { "+" };
    Some(git(&["rev-parse", "--short=10", "HEAD"])? + mark)
}

/// Memory of the kernel that cannot be taken back: slabs, page tables, stacks, buffers of TCP. Of the whole host, so on
/// loopback both ends of every connection.
pub fn kernel_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 = ["SUnreclaim", "PageTables", "KernelStack"].iter().filter_map(|f| field_kib(&text, f)).sum();
    let sockets = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = sockets.lines().find(|l| l.starts_with("TCP:")).unwrap_or_default();
    let pages: u64 = tcp.split("mem ").nth(1).and_then(|n| n.trim().parse().ok()).unwrap_or(0);
    kib * 1024 + pages * 4096
}

fn field_kib(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_named() {
        let host = Host::read();
        assert!(host.cpus > 0 && host.date.ends_with('Z') && host.machine.contains("GiB"), "{host:?}");
        assert!(kernel_bytes() > 1 << 20);
        assert_eq!(field_kib("MemTotal:       24684084 kB\nSlab: 7 kB\n", "Slab"), Some(7));
    }
}
