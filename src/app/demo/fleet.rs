//! The fleet of the demo: how many targets, how each behaves, and the files that the appliance finds them by.

use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::duration;
use crate::farm::{Farm, Manner, Population, Source, Spec};

/// Samples in each answer, as many as a small host's node_exporter has.
const SAMPLES: u32 = 500;
/// Shortest interval that leaves a slow target time to be slow.
const INTERVAL_MIN: Duration = Duration::from_millis(100);
/// Longest timeout; a target is given up at half of a short interval.
const TIMEOUT_MAX: Duration = Duration::from_secs(2);
/// A fleet smaller than this has no troublemakers.
const TROUBLE_FROM: u32 = 20;

/// Targets by number: the well-behaved first, then one range for each kind of trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fleet {
    interval: Duration,
    timeout: Duration,
    churning: Range<u32>,
    slow: Range<u32>,
    overdue: Range<u32>,
    broken: Range<u32>,
    refusing: Range<u32>,
}

impl Fleet {
    /// A fleet of so many targets.
    ///
    /// # Errors
    /// An interval too short.
    pub(super) fn new(targets: u32, interval: Duration) -> Result<Self, String> {
        if interval < INTERVAL_MIN {
            return Err(format!("--interval must be at least {}", duration::print(INTERVAL_MIN)));
        }
        let count = |one_in: u32| if targets < TROUBLE_FROM { 0 } else { (targets / one_in).max(1) };
        let mut end = targets;
        let mut last = |count: u32| {
            end -= count;
            end..end + count
        };
        let (refusing, broken, overdue) = (last(count(750)), last(count(1500)), last(count(1500)));
        let (slow, churning) = (last(count(250)), last(count(1000)));
        let timeout = Duration::from_millis(TIMEOUT_MAX.min(interval / 2).as_millis() as u64);
        Ok(Self { interval, timeout, churning, slow, overdue, broken, refusing })
    }

    pub(super) fn targets(&self) -> u32 {
        self.refusing.end
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Starts the farm.
    pub(super) fn serve(&self, port: u16) -> std::io::Result<Farm> {
        let timeout_ms = self.timeout.as_millis() as u32;
        let some = |name: &str, range: &Range<u32>, manner| {
            let mut population = Population::new(name, range.len() as u32, Source::Samples(SAMPLES));
            population.manner = manner;
            population
        };
        let populations = vec![
            some("prompt", &(0..self.churning.end), Manner::Prompt),
            some("slow", &self.slow, Manner::SlowMs(timeout_ms / 4)),
            some("overdue", &self.overdue, Manner::SlowMs(timeout_ms / 2 * 3)),
            some("broken", &self.broken, Manner::Status(500)),
            some("refusing", &self.refusing, Manner::Refusing),
        ];
        Farm::spawn(Spec { port, ..Spec::new(populations) })
    }

    /// One line for people.
    pub(super) fn sentence(&self, port: u16) -> String {
        format!(
            "{} exporters on 127.0.0.0/8 port {port}, real HTTP, {SAMPLES} samples each, every {}; \
             {} slow, {} slower than the timeout of {}, {} answering 500, {} refusing, {} churning",
            super::truth::thousands(u64::from(self.targets())),
            duration::print(self.interval),
            self.slow.len(),
            self.overdue.len(),
            duration::print(self.timeout),
            self.broken.len(),
            self.refusing.len(),
            self.churning.len(),
        )
    }

    /// Whether a target is listed in a round: of the churning ones every other is, in turn.
    fn is_listed(&self, target: u32, round: u32) -> bool {
        !self.churning.contains(&target) || (target ^ round) & 1 == 0
    }
}

/// The generated files, in a folder of their own below the data.
#[derive(Debug)]
pub(super) struct Files {
    /// For `--config.file`.
    pub config: PathBuf,
    targets: PathBuf,
    addresses: Vec<SocketAddr>,
}

impl Files {
    /// Writes the configuration and the first list of targets.
    pub(super) fn write(data: &Path, fleet: &Fleet, farm: &Farm) -> Result<Self, String> {
        let dir = data.join("demo");
        std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let (config, targets) = (dir.join("prometheus.yml"), dir.join("targets.json"));
        let files = Self { config, targets, addresses: (0..fleet.targets()).map(|i| farm.addr(i)).collect() };
        files.write_targets(fleet, 0)?;
        let text = format!(
            "# Written by `ringscrape demo`.\n\
             global:\n  scrape_interval: {}\n  scrape_timeout: {}\n\
             scrape_configs:\n  - job_name: exporter\n    file_sd_configs:\n      - files: [targets.json]\n",
            duration::print(fleet.interval),
            duration::print(fleet.timeout),
        );
        std::fs::write(&files.config, text).map_err(|e| format!("{}: {e}", files.config.display()))?;
        Ok(files)
    }

    /// Replaces the list of targets by that of a round.
    pub(super) fn write_targets(&self, fleet: &Fleet, round: u32) -> Result<(), String> {
        let listed = (0..fleet.targets()).filter(|&i| fleet.is_listed(i, round));
        let entry = |i| format!("\"{}\"", self.addresses[i as usize]);
        let entries: Vec<String> = listed.map(entry).collect();
        let fresh = self.targets.with_extension("new");
        let text = format!("[{{\"targets\":[{}]}}]\n", entries.join(","));
        std::fs::write(&fresh, text)
            .and_then(|()| std::fs::rename(&fresh, &self.targets))
            .map_err(|e| format!("{}: {e}", self.targets.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_do_not_overlap_and_small_fleets_have_none() {
        let fleet = Fleet::new(5_000, Duration::from_secs(5)).unwrap();
        let ranges = [&fleet.churning, &fleet.slow, &fleet.overdue, &fleet.broken, &fleet.refusing];
        assert!(ranges.windows(2).all(|w| w[0].end == w[1].start));
        assert_eq!(ranges.map(|r| r.len()), [5, 20, 3, 3, 6]);
        assert_eq!(fleet.targets(), 5_000);
        assert_eq!(fleet.timeout, Duration::from_secs(2));
        let small = Fleet::new(3, Duration::from_secs(1)).unwrap();
        assert_eq!((small.targets(), small.refusing.len()), (3, 0));
        assert_eq!(small.timeout, Duration::from_millis(500));
        assert!(Fleet::new(3, Duration::from_millis(99)).is_err());
    }

    #[test]
    fn churning_targets_leave_and_come_back() {
        let fleet = Fleet::new(50, Duration::from_secs(1)).unwrap();
        let one = fleet.churning.start;
        assert_ne!(fleet.is_listed(one, 0), fleet.is_listed(one, 1));
        assert_eq!(fleet.is_listed(one, 0), fleet.is_listed(one, 2));
        assert!((0..one).all(|i| fleet.is_listed(i, 0) && fleet.is_listed(i, 1)));
    }

    #[tokio::test]
    async fn the_files_are_a_configuration_that_lists_the_fleet() {
        let dir = tempfile::tempdir().unwrap();
        let fleet = Fleet::new(50, Duration::from_secs(1)).unwrap();
        let farm = fleet.serve(0).unwrap();
        let files = Files::write(dir.path(), &fleet, &farm).unwrap();
        let (report, code) = crate::config::check(
            &[files.config.clone()],
            &crate::config::LoadOptions { ignore: &[], env: &|_| None, extra_scrape_metrics: false },
            crate::config::Depth::Files,
        );
        assert_eq!(code, 0, "{report}");
        let text = std::fs::read_to_string(dir.path().join("demo/targets.json")).unwrap();
        assert_eq!(
            text.matches(&format!(":{}\"", farm.port)).count() + text.matches(&format!(":{}\"", farm.port + 2)).count(),
            49 + usize::from(fleet.is_listed(fleet.churning.start, 0))
        );
    }
}
