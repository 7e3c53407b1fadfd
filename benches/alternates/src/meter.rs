//! What a client measures of itself at the four marks of its load.

use std::fs;

use ringscrape::base::time::Now;
use serde::{Deserialize, Serialize};

use crate::host::kernel_bytes;
use crate::load::{Link, Load};
use crate::served::Address;

/// What a run of a client says, in the end, per scrape of the measured time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    pub scrapes_per_s: f64,
    pub user_us: f64,
    pub system_us: f64,
    pub farm_us: f64,
    /// Voluntary context switches: how often it slept.
    pub sleeps: f64,
    /// Involuntary ones.
    pub preemptions: f64,
    /// From the due time to the whole answer.
    pub latency_p50_ms: f64,
    pub latency_p99_ms: f64,
    /// Scrapes of the whole run.
    pub failed: u64,
    /// Growth of resident memory from the first to the last connection, nothing under way; `None` for fresh ones.
    pub rss_bytes_per_connection: Option<f64>,
    /// The same of the kernel's memory, both ends of the connection.
    pub kernel_bytes_per_connection: Option<f64>,
}

/// What became of the scrapes so far.
#[derive(Debug, Default)]
pub struct Tally {
    done: u64,
    failed: u64,
    /// Microseconds, of the measured time.
    latencies: Vec<u32>,
    is_measured: bool,
}

impl Tally {
    /// Counts a scrape that ended well.
    pub fn done(&mut self, latency_ns: u64) {
        self.done += 1;
        if self.is_measured {
            self.latencies.push((latency_ns / 1_000) as u32);
        }
    }

    /// Counts one that did not; the first says why.
    pub fn failed(&mut self, why: impl std::fmt::Display) {
        if self.failed == 0 {
            eprintln!("first failure: {why}");
        }
        self.failed += 1;
    }
}

/// Counters at a mark.
#[derive(Clone, Copy, Debug)]
struct Snapshot {
    at_ns: u64,
    done: u64,
    user_ns: u64,
    system_ns: u64,
    farm_ns: u64,
    sleeps: u64,
    preemptions: u64,
    rss: u64,
    kernel: u64,
}

/// Takes a snapshot at each mark.
#[derive(Debug)]
pub struct Meter {
    farm_process: u32,
    snapshots: Vec<Snapshot>,
}

impl Meter {
    /// A meter that has seen nothing.
    pub fn new(farm: Address) -> Self {
        Self { farm_process: farm.process, snapshots: Vec::new() }
    }

    /// Looks, at the next mark. At the third it says `window` on standard output, for whoever counts from outside.
    pub fn look(&mut self, load: &Load, tally: &mut Tally) {
        if self.snapshots.len() == 2 {
            tally.latencies.reserve((load.rate * (load.seconds + 1)) as usize);
            tally.is_measured = true;
            println!("window");
        }
        let usage = usage();
        let ns = |t: libc::timeval| t.tv_sec as u64 * 1_000_000_000 + t.tv_usec as u64 * 1_000;
        // Reading smaps takes long, so it is not done while anything is measured that it could disturb.
        let (rss, kernel) = if self.snapshots.len() < 2 { (resident_bytes(), kernel_bytes()) } else { (0, 0) };
        self.snapshots.push(Snapshot {
            at_ns: Now::read().mono_ns,
            done: tally.done,
            user_ns: ns(usage.ru_utime),
            system_ns: ns(usage.ru_stime),
            farm_ns: cpu_time_ns_of(self.farm_process),
            sleeps: usage.ru_nvcsw as u64,
            preemptions: usage.ru_nivcsw as u64,
            rss,
            kernel,
        });
    }

    /// What came of it, after the last mark.
    pub fn figures(&self, load: &Load, tally: &mut Tally) -> Figures {
        let [alone, idle, begin, end] = self.snapshots[..] else { return Figures::default() };
        let scrapes = (end.done - begin.done).max(1) as f64;
        let per_scrape = |a: u64, b: u64| (b - a) as f64 / scrapes;
        let us = |a, b| per_scrape(a, b) / 1e3;
        let per_connection = |a: u64, b: u64| {
            let grown = b as f64 - a as f64;
            (load.link == Link::Keep && load.targets > 1).then(|| grown / f64::from(load.targets - 1))
        };
        tally.latencies.sort_unstable();
        let quantile = |q: f64| {
            let at = (tally.latencies.len() as f64 * q) as usize;
            tally.latencies.get(at).map_or(0.0, |us| f64::from(*us) / 1e3)
        };
        Figures {
            scrapes_per_s: scrapes * 1e9 / (end.at_ns - begin.at_ns) as f64,
            user_us: us(begin.user_ns, end.user_ns),
            system_us: us(begin.system_ns, end.system_ns),
            farm_us: us(begin.farm_ns, end.farm_ns),
            sleeps: per_scrape(begin.sleeps, end.sleeps),
            preemptions: per_scrape(begin.preemptions, end.preemptions),
            latency_p50_ms: quantile(0.5),
            latency_p99_ms: quantile(0.99),
            failed: tally.failed,
            rss_bytes_per_connection: per_connection(alone.rss, idle.rss),
            kernel_bytes_per_connection: per_connection(alone.kernel, idle.kernel),
        }
    }
}

/// Of all threads of this process, kernel workers of io_uring included.
fn usage() -> libc::rusage {
    // SAFETY: an all-zero rusage is valid, and the call writes at most its size.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    }
}

/// User and system time of another process.
fn cpu_time_ns_of(process: u32) -> u64 {
    let (mut clock, mut t) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: both calls only write to the variables above.
    unsafe {
        libc::clock_getcpuclockid(process as i32, &raw mut clock);
        libc::clock_gettime(clock, &raw mut t);
    }
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// Resident memory, exactly: the counters of /proc/self/status lag behind by up to a batch of pages per CPU.
fn resident_bytes() -> u64 {
    let text = fs::read_to_string("/proc/self/smaps_rollup").unwrap_or_default();
    let kib = text.lines().find_map(|l| l.strip_prefix("Rss:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { targets: 11, samples: 1, rate: 10, grid_ms: 1, link: Link::Keep, seconds: 1 };

    #[test]
    fn figures_are_differences_over_the_measured_time() {
        let mut meter = Meter::new(Address { port: 0, process: std::process::id() });
        let mut tally = Tally::default();
        for mark in 0..4 {
            (0..10).for_each(|i| tally.done(i * 1_000_000));
            meter.look(&LOAD, &mut tally);
            meter.snapshots[mark].at_ns = mark as u64 * 1_000_000_000;
        }
        (meter.snapshots[0].rss, meter.snapshots[1].rss) = (1_000, 2_000);
        tally.failed("as asked");
        let figures = meter.figures(&LOAD, &mut tally);
        assert_eq!((figures.scrapes_per_s, figures.failed), (10.0, 1));
        assert_eq!((figures.latency_p50_ms, figures.latency_p99_ms), (5.0, 9.0));
        assert_eq!(figures.rss_bytes_per_connection, Some(100.0));
        let fresh = Load { link: Link::Fresh, ..LOAD };
        assert_eq!(meter.figures(&fresh, &mut tally).rss_bytes_per_connection, None);
        assert!(resident_bytes() > 100_000 && cpu_time_ns_of(std::process::id()) > 0);
    }
}
