//! What the journal says about itself on /metrics.

use super::disk::Alarm;
use super::feed::Waiting;
use super::lane::Work;
use super::position::entered;
use super::retention::Reason;
use crate::base::time::Now;
use crate::selfmetrics::{Collect, Counter, Exposition, Gauge, Kind};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// The disk thread spending this long on one piece of work is an alarm, nanoseconds.
const STALL_NS: u64 = 2_000_000_000;

/// Counters of the disk thread (its only writer), and of the feeds.
#[derive(Debug, Default)]
pub struct Stats {
    waiting: Vec<Arc<Waiting>>,
    journal: PathBuf,
    /// When the disk thread began what it is doing, monotonic nanoseconds; 0 while it waits for work.
    working_since_ns: AtomicU64,
    /// Bytes written, repeats after errors included.
    pub written_bytes: Counter,
    batches: Counter,
    syncs: Counter,
    work_ns: Counter,
    errors: Counter,
    segments: Counter,
    given_up: Counter,
    size_bytes: Gauge,
    size_max_bytes: Gauge,
    segment_count: Gauge,
    /// Until the cap on size is reached by what no destination has yet, at the present rate.
    pub seconds_to_full: Gauge,
    cursor_errors: Counter,
    deleted: [Counter; 3],
    unsent_bytes: Mutex<BTreeMap<String, u64>>,
    alarms: Mutex<Vec<Alarm>>,
}

impl Stats {
    /// Counters over these feeds, of the journal in that directory.
    #[must_use]
    pub(super) fn new(waiting: Vec<Arc<Waiting>>, journal: PathBuf) -> Self {
        Self { waiting, journal, ..Self::default() }
    }

    /// The disk thread turns to the next piece of work, which may hang in the kernel.
    pub(super) fn works(&self, now: Now) {
        self.working_since_ns.store(now.mono_ns.max(1), Ordering::Relaxed);
    }

    /// The disk thread has nothing to do.
    pub(super) fn rests(&self) {
        self.working_since_ns.store(0, Ordering::Relaxed);
    }

    /// How long the disk thread has been at what it is doing, nanoseconds.
    fn working_ns(&self, now: Now) -> u64 {
        match self.working_since_ns.load(Ordering::Relaxed) {
            0 => 0,
            since => now.mono_ns.saturating_sub(since),
        }
    }

    pub(super) fn add(&self, work: Work, busy_ns: u64) {
        self.written_bytes.add(work.written_bytes);
        self.batches.add(work.batches);
        self.syncs.add(work.syncs);
        self.errors.add(work.errors);
        self.segments.add(work.created);
        self.given_up.add(work.given_up);
        if work != Work::default() {
            self.work_ns.add(busy_ns);
        }
    }

    pub(super) fn set_alarms(&self, alarms: Vec<Alarm>) {
        *entered(self.alarms.lock()) = alarms;
    }

    /// What is wrong now. That the disk does not answer is seen from here, since its own thread then cannot say so.
    #[must_use]
    pub fn alarms(&self, now: Now) -> Vec<Alarm> {
        let mut alarms = entered(self.alarms.lock()).clone();
        if self.working_ns(now) >= STALL_NS {
            let text = format!(
                "the disk under {} has not answered for more than {} s: scrapes go on and wait in memory up to the bound, then they are dropped and counted. Look at the disk and what it hangs on",
                self.journal.display(),
                STALL_NS / 1_000_000_000
            );
            alarms.push(Alarm { shard: None, text });
        }
        alarms
    }

    pub(super) fn cursor_failed(&self, e: &std::io::Error) {
        if self.cursor_errors.read() == 0 {
            tracing::error!("cannot save journal cursors: {e}; after a crash more is sent again");
        }
        self.cursor_errors.add(1);
    }

    pub(super) fn set_size(&self, bytes: u64, segments: usize, bytes_max: u64) {
        self.size_bytes.set(bytes as f64);
        self.segment_count.set(segments as f64);
        self.size_max_bytes.set(bytes_max as f64);
    }

    pub(super) fn deleted(&self, reason: Reason, bytes: u64, unsent: &[String]) {
        self.deleted[reason as usize].add(1);
        let mut all = entered(self.unsent_bytes.lock());
        for destination in unsent {
            *all.entry(destination.clone()).or_default() += bytes;
        }
    }

    /// Scrape and stale frames dropped: the disk was too far behind, or their segment could not be written.
    #[must_use]
    pub fn frames_lost(&self) -> u64 {
        self.waiting.iter().map(|w| w.frames_lost.read() + w.frames_given_up.read()).sum()
    }

    /// Writes and syncs that failed.
    #[must_use]
    pub fn errors(&self) -> u64 {
        self.errors.read()
    }
}

impl Collect for Stats {
    fn collect(&self, out: &mut Exposition) {
        self.collect_disk(out);
        self.collect_feeds(out);
        for (reason, counter) in ["acknowledged", "age", "size"].iter().zip(&self.deleted) {
            let help = "Journal segments deleted by retention.";
            let name = "ringscrape_journal_segments_deleted_total";
            out.sample(name, Kind::Counter, help, &[("reason", reason)], counter.read() as f64);
        }
        for (destination, bytes) in entered(self.unsent_bytes.lock()).iter() {
            let help = "Bytes of journal segments deleted before the destination had all of them.";
            let name = "ringscrape_journal_unsent_deleted_bytes_total";
            out.sample(name, Kind::Counter, help, &[("destination", destination)], *bytes as f64);
        }
    }
}

impl Stats {
    fn collect_disk(&self, out: &mut Exposition) {
        let mut counter = |name, help, v: f64| out.sample(name, Kind::Counter, help, &[], v);
        counter(
            "ringscrape_journal_written_bytes_total",
            "Bytes written to the journal.",
            self.written_bytes.read() as f64,
        );
        counter("ringscrape_journal_batches_total", "Batches written to the journal.", self.batches.read() as f64);
        counter("ringscrape_journal_syncs_total", "Journal syncs that succeeded.", self.syncs.read() as f64);
        counter("ringscrape_journal_segments_created_total", "Journal segments begun.", self.segments.read() as f64);
        counter(
            "ringscrape_journal_segments_given_up_total",
            "Journal segments left for another one because they could not be written.",
            self.given_up.read() as f64,
        );
        counter(
            "ringscrape_journal_busy_seconds_total",
            "Time the journal's thread spent writing and syncing.",
            self.work_ns.read() as f64 / 1e9,
        );
        counter(
            "ringscrape_journal_cursor_errors_total",
            "Failed attempts to save how far destinations are.",
            self.cursor_errors.read() as f64,
        );
        counter(
            "prometheus_tsdb_wal_writes_failed_total",
            "Writes and syncs of the journal that failed.",
            self.errors.read() as f64,
        );
        let mut gauge = |name, help, v: f64| out.sample(name, Kind::Gauge, help, &[], v);
        gauge("prometheus_tsdb_wal_storage_size_bytes", "Size of the journal.", self.size_bytes.read());
        gauge(
            "ringscrape_journal_size_max_bytes",
            "Size at which old segments are deleted.",
            self.size_max_bytes.read(),
        );
        gauge("ringscrape_journal_segments", "Segments of the journal.", self.segment_count.read());
        gauge(
            "ringscrape_journal_seconds_to_full",
            "Time until the size cap is reached by what is not yet sent, at the present rate.",
            self.seconds_to_full.read(),
        );
        let now = Now::read();
        gauge(
            "ringscrape_journal_call_seconds",
            "How long the disk has been at the work it was last given; 0 when it has none.",
            self.working_ns(now) as f64 / 1e9,
        );
        gauge("ringscrape_journal_alarms", "Conditions that need an operator.", self.alarms(now).len() as f64);
    }

    fn collect_feeds(&self, out: &mut Exposition) {
        for (shard, w) in self.waiting.iter().enumerate() {
            let shard = shard.to_string();
            let labels = [("shard", shard.as_str())];
            let mut counter = |name, help, v: u64| out.sample(name, Kind::Counter, help, &labels, v as f64);
            let frames_lost = w.frames_lost.read() + w.frames_given_up.read();
            let slots_lost = w.slots_lost.read() + w.slots_given_up.read();
            counter("ringscrape_journal_samples_total", "Slots of scrapes encoded.", w.slots.read());
            counter("ringscrape_journal_sample_bytes_total", "Bytes of scrapes encoded.", w.sample_bytes.read());
            counter(
                "ringscrape_journal_dictionary_bytes_total",
                "Bytes of label sets encoded.",
                w.dictionary_bytes.read(),
            );
            counter(
                "ringscrape_journal_frames_lost_total",
                "Scrapes dropped: the disk was behind, or their segment could not be written.",
                frames_lost,
            );
            counter("ringscrape_journal_samples_lost_total", "Slots of those scrapes.", slots_lost);
            let waiting = w.bytes() as f64;
            out.sample("ringscrape_journal_waiting_bytes", Kind::Gauge, "Bytes not yet safe.", &labels, waiting);
        }
    }
}
