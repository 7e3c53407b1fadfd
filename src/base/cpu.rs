//! How many CPUs this process may use: affinity mask and cgroup quota.

use std::path::Path;

/// What the host lets us use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// CPUs in the affinity mask.
    pub mask: usize,
    /// cgroup quota in CPUs (v2, else v1); `None` when unlimited or unreadable.
    pub quota: Option<f64>,
}

impl Allowance {
    /// Reads the affinity mask and the cgroup quota of this process.
    #[must_use]
    pub fn read() -> Self {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let quota = quota_of(Path::new("/sys/fs/cgroup"), own_group(&groups, ""), read_v2)
            .or_else(|| quota_of(Path::new("/sys/fs/cgroup/cpu"), own_group(&groups, "cpu"), read_v1));
        Self { mask: mask_count(), quota }
    }

    /// Most shards that can run at once: the mask, cut to the quota rounded up, at least one.
    #[must_use]
    pub fn shards_max(self) -> usize {
        let quota = self.quota.map_or(usize::MAX, |q| q.ceil().max(1.0) as usize);
        self.mask.min(quota).max(1)
    }
}

fn mask_count() -> usize {
    // SAFETY: an all-zero cpu_set_t is valid, and the call writes at most its size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
            return 1;
        }
        libc::CPU_COUNT(&set).max(1) as usize
    }
}

/// The process's group in the hierarchy of a controller; v2 has no controller name. Lines: `id:controllers:path`.
fn own_group<'a>(groups: &'a str, controller: &str) -> &'a str {
    let path_of = |line: &'a str| {
        let mut parts = line.splitn(3, ':');
        let names = parts.nth(1)?;
        names.split(',').any(|n| n == controller).then(|| parts.next()).flatten()
    };
    groups.lines().find_map(path_of).unwrap_or("/")
}

/// The tightest quota on the way from the process's group to the root.
fn quota_of(root: &Path, own: &str, read: fn(&Path) -> Option<f64>) -> Option<f64> {
    let mut at = root.join(own.trim_start_matches('/'));
    let mut tightest: Option<f64> = None;
    loop {
        if let Some(q) = read(&at) {
            tightest = Some(tightest.map_or(q, |t| t.min(q)));
        }
        if at == root || !at.pop() {
            return tightest;
        }
    }
}

fn read_v2(group: &Path) -> Option<f64> {
    parse_cpu_max(&std::fs::read_to_string(group.join("cpu.max")).ok()?)
}

fn read_v1(group: &Path) -> Option<f64> {
    let number = |file: &str| std::fs::read_to_string(group.join(file)).ok()?.trim().parse::<f64>().ok();
    let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
    (quota > 0.0 && period > 0.0).then_some(quota / period)
}

fn parse_cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (period > 0.0).then_some(quota / period)
}

/// Pins the calling thread to one CPU. A CPU that does not exist or is not allowed leaves the thread where it is.
pub fn pin(cpu: usize) {
    if cpu >= libc::CPU_SETSIZE as usize {
        return;
    }
    // SAFETY: the set is zeroed, the index was checked, and the call only reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}

/// CPU time, user and system, of all threads this process has and had, nanoseconds.
#[must_use]
pub fn own_time_ns() -> u64 {
    time_ns(libc::RUSAGE_SELF)
}

/// CPU time, user and system, of the calling thread, nanoseconds.
#[must_use]
pub fn thread_time_ns() -> u64 {
    time_ns(libc::RUSAGE_THREAD)
}

fn time_ns(who: libc::c_int) -> u64 {
    // SAFETY: an all-zero rusage is valid, and the call writes at most its size.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &raw mut usage);
        usage
    };
    let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
    ns(usage.ru_utime) + ns(usage.ru_stime)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_max_is_read_as_cpus() {
        assert_eq!(parse_cpu_max("150000 100000\n"), Some(1.5));
        assert_eq!(parse_cpu_max("max 100000\n"), None);
        assert_eq!(parse_cpu_max(""), None);
    }

    #[test]
    fn a_busy_thread_costs_time_that_the_process_includes() {
        let (thread, process) = (thread_time_ns(), own_time_ns());
        let mut x = 1u64;
        while thread_time_ns() < thread + 5_000_000 {
            x = std::hint::black_box(x.wrapping_mul(3));
        }
        assert!(own_time_ns() - process >= 4_000_000);
    }

    #[test]
    fn groups_are_found_by_controller() {
        let v1 = "4:memory:/a\n2:cpu,cpuacct:/b/c\n0::/d\n";
        assert_eq!(own_group(v1, "cpu"), "/b/c");
        assert_eq!(own_group(v1, ""), "/d");
        assert_eq!(own_group("", "cpu"), "/");
    }

    #[test]
    fn quota_rounds_up_and_never_reaches_zero() {
        assert_eq!(Allowance { mask: 8, quota: Some(1.5) }.shards_max(), 2);
        assert_eq!(Allowance { mask: 8, quota: Some(0.2) }.shards_max(), 1);
        assert_eq!(Allowance { mask: 2, quota: None }.shards_max(), 2);
    }
}
