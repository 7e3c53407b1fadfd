//! Cgroups made for one run: memory as the kernel charges it, sockets included, and a CPU quota; v2 or v1, where root allows.

use std::fs;
use std::path::{Path, PathBuf};

/// Length of the period of a quota, the kernel's default.
const PERIOD_US: f64 = 100_000.0;

/// Groups of one run; removed when dropped.
pub struct Cgroup {
    memory: PathBuf,
    /// The same as `memory` with v2; with v1 only where there is a quota.
    cpu: Option<PathBuf>,
    v2: bool,
}

impl Cgroup {
    /// Makes the groups, or none where the host does not let us.
    pub fn new(name: &str, cpu_quota: Option<f64>) -> Option<Self> {
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let name = format!("ringscrape-perf-{}-{name}", std::process::id());
        let made = |controller: &str| {
            let path = Path::new("/sys/fs/cgroup").join(controller).join(&name);
            fs::create_dir(&path).ok().map(|()| path)
        };
        let memory = made(if v2 { "" } else { "memory" })?;
        let mut group = Self { memory, cpu: None, v2 };
        if let Some(quota) = cpu_quota {
            let us = quota * PERIOD_US;
            group.cpu = Some(if v2 { group.memory.clone() } else { made("cpu")? });
            let (file, text) =
                if v2 { ("cpu.max", format!("{us} {PERIOD_US}")) } else { ("cpu.cfs_quota_us", format!("{us}")) };
            fs::write(group.cpu.as_ref()?.join(file), text).ok()?;
        }
        group.charge().is_some().then_some(group)
    }

    /// The files that take process numbers.
    pub fn doors(&self) -> Vec<PathBuf> {
        let mut doors = vec![self.memory.join("cgroup.procs")];
        doors.extend(self.cpu.iter().filter(|_| !self.v2).map(|cpu| cpu.join("cgroup.procs")));
        doors
    }

    /// What is charged now.
    pub fn charge(&self) -> Option<Charge> {
        let read = |file: &str| fs::read_to_string(self.memory.join(file)).ok();
        let number = |file: &str| read(file).and_then(|t| t.trim().parse::<u64>().ok());
        let stat = read("memory.stat")?;
        let field = |name: &str| {
            stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok()).unwrap_or(0)
        };
        if self.v2 {
            let all_bytes = number("memory.current")?.saturating_sub(field("file"));
            Some(Charge { all_bytes, kernel_bytes: field("kernel") + field("sock") })
        } else {
            let tcp = number("memory.kmem.tcp.usage_in_bytes").unwrap_or(0);
            let kernel_bytes = number("memory.kmem.usage_in_bytes").unwrap_or(0) + tcp;
            Some(Charge {
                all_bytes: number("memory.usage_in_bytes")?.saturating_sub(field("cache")) + tcp,
                kernel_bytes,
            })
        }
    }
}

/// Memory of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Sockets and kernel memory included, page cache of written files not.
    pub all_bytes: u64,
    /// Of it, the kernel's: sockets, their buffers, rings, page tables.
    pub kernel_bytes: u64,
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for path in [Some(&self.memory), self.cpu.as_ref().filter(|_| !self.v2)].into_iter().flatten() {
            for _ in 0..20 {
                if fs::remove_dir(path).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
        }
    }
}
