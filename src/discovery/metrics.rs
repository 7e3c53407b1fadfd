//! What discovery counts about itself, under Prometheus's names.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::selfmetrics::{Collect, Counter, Exposition, Gauge, Kind};

/// The manager's name in labels; Prometheus has a second one for alerts.
const NAME: (&str, &str) = ("name", "scrape");

/// Counters of discovery. The control thread writes.
#[derive(Debug, Default)]
pub struct DiscoveryMetrics {
    /// Messages from providers.
    pub received: Counter,
    /// Updates sent on.
    pub sent: Counter,
    /// Updates that had to wait because the receiver was busy.
    pub delayed: Counter,
    /// Files that could not be read or parsed, once per attempt.
    pub file_read_errors: Counter,
    /// Times the file system could not be watched.
    pub file_watcher_errors: Counter,
    /// Scans of all files of a provider.
    pub file_scans: Counter,
    /// Seconds in scans.
    pub file_scan_seconds: Gauge,
    jobs: Mutex<BTreeMap<Arc<str>, JobGauges>>,
    files: Mutex<BTreeMap<String, i64>>,
}

/// Gauges of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JobGauges {
    /// Entries found.
    pub targets: usize,
    /// Wall clock of the last update sent, seconds.
    pub last_update_s: f64,
}

impl DiscoveryMetrics {
    /// Replaces the gauges of all jobs.
    pub fn set_jobs(&self, jobs: BTreeMap<Arc<str>, JobGauges>) {
        *self.jobs.lock().unwrap_or_else(PoisonError::into_inner) = jobs;
    }

    /// Sets or forgets a file's modification time, seconds since the epoch.
    pub fn set_file(&self, path: &str, mtime_s: Option<i64>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        match mtime_s {
            Some(s) => files.insert(path.to_owned(), s),
            None => files.remove(path),
        };
    }

    fn collect_jobs(&self, out: &mut Exposition) {
        for (job, gauges) in self.jobs.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [NAME, ("config", &**job)];
            let targets = gauges.targets as f64;
            let help = "Current number of discovered targets.";
            out.sample("prometheus_sd_discovered_targets", Kind::Gauge, help, &labels, targets);
            if gauges.last_update_s > 0.0 {
                let help = "Timestamp of the last update sent to the SD consumers.";
                let name = "prometheus_sd_last_update_timestamp_seconds";
                out.sample(name, Kind::Gauge, help, &labels, gauges.last_update_s);
            }
        }
    }

    fn collect_files(&self, out: &mut Exposition) {
        let errors = self.file_read_errors.read() as f64;
        let help = "The number of File-SD read errors.";
        out.sample("prometheus_sd_file_read_errors_total", Kind::Counter, help, &[], errors);
        let errors = self.file_watcher_errors.read() as f64;
        let help = "The number of File-SD errors caused by filesystem watch failures.";
        out.sample("prometheus_sd_file_watcher_errors_total", Kind::Counter, help, &[], errors);
        let name = "prometheus_sd_file_scan_duration_seconds";
        let help = "The duration of the File-SD scan in seconds.";
        out.part(name, Kind::Summary, help, "_sum", &[], self.file_scan_seconds.read());
        out.part(name, Kind::Summary, help, "_count", &[], self.file_scans.read() as f64);
        let help = "Timestamp (mtime) of files read by FileSD. Timestamp is set at read time.";
        for (path, mtime_s) in self.files.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let labels = [("filename", path.as_str())];
            out.sample("prometheus_sd_file_mtime_seconds", Kind::Gauge, help, &labels, *mtime_s as f64);
        }
    }
}

impl Collect for DiscoveryMetrics {
    fn collect(&self, out: &mut Exposition) {
        let mut count = |name, help, counter: &Counter| {
            out.sample(name, Kind::Counter, help, &[NAME], counter.read() as f64);
        };
        count(
            "prometheus_sd_received_updates_total",
            "Total number of update events received from the SD providers.",
            &self.received,
        );
        count(
            "prometheus_sd_updates_delayed_total",
            "Total number of update events that couldn't be sent immediately.",
            &self.delayed,
        );
        count("prometheus_sd_updates_total", "Total number of update events sent to the SD consumers.", &self.sent);
        let help = "Current number of service discovery configurations that failed to load.";
        // Providers are checked with the configuration, so none can fail here.
        out.sample("prometheus_sd_failed_configs", Kind::Gauge, help, &[NAME], 0.0);
        self.collect_jobs(out);
        self.collect_files(out);
    }
}
