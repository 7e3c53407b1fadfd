//! The host around the process: rights, network settings, CPU, clock, memory, disk.

use std::path::Path;

use super::{Check, Read, Verdict};
use crate::base::cpu::Allowance;
use crate::base::file;
use crate::base::time::Now;

/// Free space below this is worth a word.
const FREE_BYTES_WANTED: u64 = 10_000_000_000;
/// Memory limits below this are worth a word: the process itself, bodies in flight and some ten thousand targets.
const MEMORY_BYTES_WANTED: u64 = 512 << 20;
/// Syncs that take longer hold up the journal, which syncs once a second.
const SYNC_NS_WANTED: u64 = 200_000_000;

/// Who we are, and what watches our system calls.
pub(super) fn rights(read: Read<'_>, ring_works: bool) -> Vec<Check> {
    let status = read("/proc/self/status").unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)?.split_whitespace().next());
    let user = Check::new("user", format!("uid {}", field("Uid:").unwrap_or("?")), "any; no capability is needed");
    let filter = match field("Seccomp:") {
        Some("0") => "no filter",
        Some("2") => "filtered",
        _ => "unknown",
    };
    let seccomp = Check::new("seccomp", filter, "no filter, or one that allows io_uring").unless(
        ring_works || filter == "no filter",
        Verdict::Warn,
        "deploy/container/seccomp.json for containers; the unit of deploy/systemd allows it",
    );
    vec![user, seccomp]
}

/// Settings of the kernel's network that limit how many connections there can be.
pub(super) fn network(read: Read<'_>) -> Vec<Check> {
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
        // What this kernel or this network namespace does not have limits nothing.
        if let Some(have) = number(path) {
            let check = Check::new(name, have.to_string(), format!("{wanted} or more"));
            checks.push(check.unless(have >= wanted, Verdict::Warn, fix));
        }
    };
    let fix = "sysctl -w net.core.somaxconn=4096; connections to our own pages wait there";
    at_least("net.core.somaxconn", "/proc/sys/net/core/somaxconn", 1_024, fix);
    let fix = "sysctl -w fs.nr_open=1048576; no limit of open files can be larger";
    at_least("fs.nr_open", "/proc/sys/fs/nr_open", 1 << 20, fix);
    let fix = "sysctl -w fs.file-max=4194304; every connection is a file of the system, with io_uring too";
    at_least("fs.file-max", "/proc/sys/fs/file-max", 1 << 20, fix);
    let fix = "sysctl -w net.ipv4.tcp_max_tw_buckets=262144; closed connections wait there for a minute";
    at_least("net.ipv4.tcp_max_tw_buckets", "/proc/sys/net/ipv4/tcp_max_tw_buckets", 32_768, fix);
    let fix = "thash_entries=1048576 on the kernel's command line, for hundreds of thousands of kept connections";
    at_least("TCP hash table", "/proc/sys/net/ipv4/tcp_ehash_entries", 65_536, fix);
    let fix = "sysctl -w fs.inotify.max_user_instances=512; lists of targets are watched through it";
    at_least("fs.inotify.max_user_instances", "/proc/sys/fs/inotify/max_user_instances", 128, fix);
    let fix = "sysctl -w net.ipv4.neigh.default.gc_thresh3=65536 (and gc_thresh2=32768), for more targets than that on \
               one network segment";
    at_least("neighbour table", "/proc/sys/net/ipv4/neigh/default/gc_thresh3", 8_192, fix);
    let fix = "sysctl -w net.netfilter.nf_conntrack_max=1048576, or leave scrapes untracked; every kept connection is an \
               entry";
    at_least("nf_conntrack", "/proc/sys/net/netfilter/nf_conntrack_max", 262_144, fix);
    checks
}

/// CPU, clock and memory.
pub(super) fn machine(read: Read<'_>, allowance: Allowance) -> Vec<Check> {
    let mut checks = vec![cpu_check(allowance)];
    if let Some(source) = read("/sys/devices/system/clocksource/clocksource0/current_clocksource") {
        let is_fast =
            ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&source.as_str());
        checks.push(Check::new("clock source", &source, "one that is read without a system call").unless(
            is_fast,
            Verdict::Warn,
            "clocksource=tsc on the kernel's command line, where the machine's TSC is stable",
        ));
    }
    let groups = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = groups.iter().find_map(|path| read(path)?.parse::<u64>().ok());
    // v1 writes "no limit" as a number near the largest.
    if let Some(limit) = limit.filter(|l| *l < 1 << 60) {
        let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
        checks.push(Check::new("memory limit", mib(limit), format!("{} or more", mib(MEMORY_BYTES_WANTED))).unless(
            limit >= MEMORY_BYTES_WANTED,
            Verdict::Warn,
            "raise MemoryMax= or limits.memory: the kernel's part of a kept connection, about 4 KB, counts too",
        ));
    }
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

/// Where the data goes: rights, space, and how long a write takes to be safe.
pub(super) fn storage(path: &Path) -> Vec<Check> {
    let there = path.ancestors().find(|p| p.exists() && !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = path.display();
    let probe = there.join(format!(".ringscrape-doctor-{}", std::process::id()));
    let synced_ns = synced_ns(&probe);
    let written = synced_ns.as_ref().map(|_| ()).map_err(std::string::ToString::to_string);
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
    let mut checks = vec![rights, space];
    if let Ok(ns) = synced_ns {
        let (have, want) = (format!("{:.1} ms", ns as f64 / 1e6), format!("{} ms or less", SYNC_NS_WANTED / 1_000_000));
        checks.push(Check::new("data sync", have, want).unless(
            ns <= SYNC_NS_WANTED,
            Verdict::Warn,
            "a faster or less busy disk, or a longer --storage.sync",
        ));
    }
    checks
}

/// How long a small write takes until the disk has it. The file is removed again.
fn synced_ns(path: &Path) -> std::io::Result<u64> {
    use std::io::Write;
    let begun_ns = Now::read().mono_ns;
    let mut file = std::fs::File::create(path)?;
    let synced = file.write_all(&[0; 4096]).and_then(|()| file.sync_data());
    let ns = Now::read().mono_ns - begun_ns;
    std::fs::remove_file(path)?;
    synced.map(|()| ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(path: &str) -> Option<String> {
        Some(match path {
            "/proc/self/status" => "Name:\tx\nUid:\t65532\t65532\nSeccomp:\t2\n".into(),
            "/proc/sys/net/ipv4/ip_local_port_range" => "32768\t60999".into(),
            "/proc/sys/net/core/somaxconn" => "128".into(),
            "/sys/devices/system/clocksource/clocksource0/current_clocksource" => "hpet".into(),
            "/sys/fs/cgroup/memory.max" => "268435456".into(),
            _ => return None,
        })
    }

    fn verdicts(checks: &[Check]) -> Vec<(&str, Verdict)> {
        checks.iter().map(|c| (c.name, c.verdict)).collect()
    }

    #[test]
    fn what_limits_is_found_and_what_is_absent_is_left_out() {
        use Verdict::{Ok, Warn};
        let network = network(&host);
        assert_eq!(verdicts(&network), [("net.ipv4.ip_local_port_range", Ok), ("net.core.somaxconn", Warn)]);
        assert_eq!(verdicts(&rights(&host, false)), [("user", Ok), ("seccomp", Warn)]);
        assert_eq!(verdicts(&rights(&host, true)), [("user", Ok), ("seccomp", Ok)]);
        assert_eq!(rights(&host, true)[0].have, "uid 65532");
        let machine = machine(&host, Allowance { mask: 4, quota: None });
        assert_eq!(verdicts(&machine), [("cpu", Ok), ("clock source", Warn), ("memory limit", Warn)]);
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_bad() {
        let dir = tempfile::tempdir().unwrap();
        let checks = storage(&dir.path().join("a/b"));
        assert_eq!(checks[0].verdict, Verdict::Ok, "{checks:?}");
        assert!(checks[0].have.ends_with("can be made") && checks[2].have.ends_with(" ms"), "{checks:?}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let refused = storage(Path::new("/proc/1/nothing"));
        assert_eq!((refused.len(), refused[0].verdict), (2, Verdict::Bad));
    }

    #[test]
    fn quotas_below_the_mask_are_worth_a_word() {
        assert_eq!(cpu_check(Allowance { mask: 4, quota: None }).verdict, Verdict::Ok);
        assert_eq!(cpu_check(Allowance { mask: 4, quota: Some(1.5) }).verdict, Verdict::Warn);
    }
}
