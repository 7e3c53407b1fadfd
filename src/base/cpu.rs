//! How many CPUs this process may use: affinity mask and cgroup quota.

use std::path::Path;

/// What the host lets us use.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// CPUs in the affinity mask.
    pub mask: usize,
    /// cgroup v2 quota in CPUs; `None` when unlimited or unreadable.
    pub quota: Option<f64>,
}

impl Allowance {
    /// Reads the affinity mask and the cgroup quota of this process.
    #[must_use]
    pub fn read() -> Self {
        Self { mask: mask_count(), quota: quota_of(Path::new("/sys/fs/cgroup"), &own_cgroup()) }
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

fn own_cgroup() -> String {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    text.lines().find_map(|l| l.strip_prefix("0::")).unwrap_or("/").to_owned()
}

/// The tightest quota on the way from the process's cgroup to the root.
fn quota_of(root: &Path, own: &str) -> Option<f64> {
    let mut at = root.join(own.trim_start_matches('/'));
    let mut tightest: Option<f64> = None;
    loop {
        if let Ok(text) = std::fs::read_to_string(at.join("cpu.max")) {
            if let Some(q) = parse_cpu_max(&text) {
                tightest = Some(tightest.map_or(q, |t| t.min(q)));
            }
        }
        if at == root || !at.pop() {
            return tightest;
        }
    }
}

fn parse_cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    let quota: f64 = words.next()?.parse().ok()?;
    let period: f64 = words.next()?.parse().ok()?;
    (period > 0.0).then_some(quota / period)
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
    fn quota_rounds_up_and_never_reaches_zero() {
        assert_eq!(Allowance { mask: 8, quota: Some(1.5) }.shards_max(), 2);
        assert_eq!(Allowance { mask: 8, quota: Some(0.2) }.shards_max(), 1);
        assert_eq!(Allowance { mask: 2, quota: None }.shards_max(), 2);
    }
}
