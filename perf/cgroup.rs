//! Memory of a process as its cgroup sees it, sockets included; cgroup v2 or v1, where root allows.

use std::fs;
use std::path::{Path, PathBuf};

/// A cgroup made for one run; removed when dropped.
pub struct Cgroup {
    path: PathBuf,
    v2: bool,
}

impl Cgroup {
    /// Makes a group, or none where the host does not let us.
    pub fn new(name: &str) -> Option<Self> {
        let v2 = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
        let root = if v2 { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/memory" };
        let path = Path::new(root).join(format!("ringscrape-perf-{}-{name}", std::process::id()));
        fs::create_dir(&path).ok()?;
        let group = Self { path, v2 };
        group.bytes().is_some().then_some(group)
    }

    /// The file that takes process numbers.
    pub fn door(&self) -> PathBuf {
        self.path.join("cgroup.procs")
    }

    /// Bytes charged now, sockets and kernel memory included, page cache of written files not.
    pub fn bytes(&self) -> Option<u64> {
        let read = |file: &str| fs::read_to_string(self.path.join(file)).ok();
        let number = |file: &str| read(file).and_then(|t| t.trim().parse::<u64>().ok());
        let stat = read("memory.stat")?;
        let field = |name: &str| {
            stat.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok()).unwrap_or(0)
        };
        if self.v2 {
            Some(number("memory.current")?.saturating_sub(field("file")))
        } else {
            let tcp = number("memory.kmem.tcp.usage_in_bytes").unwrap_or(0);
            Some(number("memory.usage_in_bytes")?.saturating_sub(field("cache")) + tcp)
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..20 {
            if fs::remove_dir(&self.path).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
