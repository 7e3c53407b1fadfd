//! Which segments go, and when: acknowledged ones first, then the oldest, within caps on time and space.

use super::cursors::Cursors;
use super::directory;
use super::disk::Options;
use super::ended::end_name;
use super::event::Cursor;
use super::files::Files;
use super::metrics::Stats;
use crate::base::file::{self, Space};
use crate::base::limits::SEGMENT_BYTES;
use crate::base::time::Now;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Acknowledged segments that ended at most this long before the last acknowledged one are kept while there is room.
const KEEP_ACKNOWLEDGED_MS: i64 = 7_200_000;
/// Default cap on size.
const SIZE_MAX: u64 = 50 << 30;
/// Smallest segment that a small cap on size leads to.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
/// How long the alarm about deleted unsent data stands, nanoseconds.
const ALARM_NS: u64 = 600_000_000_000;

/// What the operator asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `--storage.retention.time`, milliseconds; `None` keeps until the size cap.
    pub time_ms: Option<i64>,
    /// `--storage.retention.size`; `None` is a tenth of the file system, at most 50 GB.
    pub size_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { time_ms: Some(24 * 3_600_000), size_bytes: None }
    }
}

impl Retention {
    /// Size at which writers end a segment, so that a small cap still leaves several segments a shard.
    #[must_use]
    pub fn segment_bytes(&self, shards: u32) -> u64 {
        let cap = self.size_bytes.unwrap_or(SIZE_MAX);
        (cap / (8 * u64::from(shards.max(1)))).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES)
    }
}

/// Caps in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Bytes of all segments.
    pub bytes_max: u64,
    /// Age at which a segment goes, milliseconds after its last write.
    pub age_max_ms: Option<i64>,
}

impl Caps {
    /// Caps for a journal of `used_bytes` on a file system with this much space at the start: never more than 80 % of
    /// what was free for us.
    #[must_use]
    pub fn new(asked: &Retention, at_start: Space, used_bytes: u64) -> Self {
        let default = (at_start.total_bytes / 10).min(SIZE_MAX);
        let ours = (at_start.free_bytes + used_bytes) / 10 * 8;
        Self { bytes_max: asked.size_bytes.unwrap_or(default).min(ours), age_max_ms: asked.time_ms }
    }

    /// The caps, tightened so that some space always stays free: 1 GiB or 5 %, but on a tiny file system at most a
    /// quarter of it. Where others have taken that space, deleting a small journal would help nobody: it may always have
    /// an eighth of what is free.
    #[must_use]
    pub fn leaving_free(self, space: Space, used_bytes: u64) -> Self {
        let reserve = (space.total_bytes / 20).max(1 << 30).min(space.total_bytes / 4);
        let missing = reserve.saturating_sub(space.free_bytes);
        if missing == 0 {
            return self;
        }
        let room = used_bytes.saturating_sub(missing).max(space.free_bytes / 8);
        Self { bytes_max: self.bytes_max.min(room), ..self }
    }
}

/// One segment, as retention sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Shard directory.
    pub shard: u32,
    /// Number.
    pub sequence: u64,
    /// Size.
    pub bytes: u64,
    /// Last write, milliseconds since the epoch.
    pub ended_ms: i64,
    /// Being written.
    pub is_open: bool,
    /// In a directory that no shard of this process writes.
    pub is_orphan: bool,
}

/// Why a segment goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Every destination has it, and room is wanted (or its shard is gone).
    Acknowledged,
    /// Older than the cap on time.
    Age,
    /// The oldest, when the cap on size is reached.
    Size,
}

/// One segment to delete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Which.
    pub segment: Segment,
    /// Why.
    pub reason: Reason,
    /// Destinations that have not acknowledged all of it.
    pub unsent: Vec<String>,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub deletions: Vec<Deletion>,
    /// Bytes left afterwards.
    pub bytes_left: u64,
    /// Bytes of segments that some destination still has to get.
    pub unsent_bytes: u64,
}

/// Cursors by destination and shard.
pub type Destinations = BTreeMap<String, BTreeMap<u32, Cursor>>;

/// Decides what goes. Pure.
#[must_use]
pub fn plan(segments: &[Segment], destinations: &Destinations, caps: &Caps, now_ms: i64) -> Plan {
    let unsent = |s: &Segment| -> Vec<String> {
        let behind = destinations.iter().filter(|(_, c)| c.get(&s.shard).is_none_or(|c| c.segment <= s.sequence));
        behind.map(|(name, _)| name.clone()).collect()
    };
    let mut left: Vec<(Segment, Vec<String>)> = segments.iter().map(|s| (*s, unsent(s))).collect();
    left.sort_by_key(|(s, _)| (s.ended_ms, s.sequence, s.shard));
    let is_acknowledged = |unsent: &[String]| unsent.is_empty() && !destinations.is_empty();
    let last_ms = left.iter().filter(|(_, u)| is_acknowledged(u)).map(|(s, _)| s.ended_ms).max().unwrap_or(i64::MIN);
    let mut plan = Plan { bytes_left: segments.iter().map(|s| s.bytes).sum(), ..Plan::default() };

    let mut pass = |plan: &mut Plan, reason: Reason, wanted: &dyn Fn(&Plan, &Segment, &[String]) -> bool| {
        left.retain(|(segment, unsent)| {
            let goes = !segment.is_open && wanted(plan, segment, unsent);
            if goes {
                plan.bytes_left -= segment.bytes;
                plan.deletions.push(Deletion { segment: *segment, reason, unsent: unsent.clone() });
            }
            !goes
        });
    };
    let is_old = |s: &Segment| caps.age_max_ms.is_some_and(|max| now_ms.saturating_sub(s.ended_ms) > max);
    let is_spare = |s: &Segment| s.ended_ms < last_ms.saturating_sub(KEEP_ACKNOWLEDGED_MS);
    pass(&mut plan, Reason::Age, &|_, s, _| is_old(s));
    pass(&mut plan, Reason::Acknowledged, &|_, s, u| is_acknowledged(u) && s.is_orphan);
    let is_over = |p: &Plan| p.bytes_left > caps.bytes_max;
    pass(&mut plan, Reason::Acknowledged, &|p, s, u| is_over(p) && is_acknowledged(u) && is_spare(s));
    pass(&mut plan, Reason::Acknowledged, &|p, _, u| is_over(p) && is_acknowledged(u));
    pass(&mut plan, Reason::Size, &|p, _, _| is_over(p));
    plan.unsent_bytes = left.iter().filter(|(_, u)| !u.is_empty()).map(|(s, _)| s.bytes).sum();
    plan
}

/// Applies the plan, on the disk thread.
#[derive(Debug)]
pub struct Keeper {
    journal: PathBuf,
    shards: u32,
    caps: Option<Caps>,
    asked: Retention,
    last_written: (u64, u64),
    lost_mono_ns: Option<u64>,
    alarm: Option<String>,
}

impl Keeper {
    /// A keeper; the caps are worked out from the space there is now.
    #[must_use]
    pub fn new(options: &Options, files: &dyn Files) -> Self {
        let used = listing(&options.journal, options.shards).iter().map(|s| s.bytes).sum();
        let caps = files.space(&options.journal).ok().map(|space| Caps::new(&options.retention, space, used));
        Self {
            journal: options.journal.clone(),
            shards: options.shards,
            caps,
            asked: options.retention,
            last_written: (0, 0),
            lost_mono_ns: None,
            alarm: None,
        }
    }

    /// What an operator has to know.
    #[must_use]
    pub fn alarm(&self) -> Option<String> {
        self.alarm.clone()
    }

    /// Looks and deletes. `current` are the segments that lanes of this process need.
    pub fn turn(&mut self, now: Now, current: &[(u32, u64)], (files, cursors, stats): (&dyn Files, &Cursors, &Stats)) {
        let mut segments = listing(&self.journal, self.shards);
        for s in &mut segments {
            s.is_open = current.contains(&(s.shard, s.sequence));
        }
        let used: u64 = segments.iter().map(|s| s.bytes).sum();
        let Ok(space) = files.space(&self.journal) else { return };
        let caps = *self.caps.get_or_insert_with(|| Caps::new(&self.asked, space, used));
        let caps = caps.leaving_free(space, used);
        let destinations = cursors.all();
        let plan = plan(&segments, &destinations, &caps, now.wall_ms());
        let mut touched = BTreeSet::new();
        for deletion in &plan.deletions {
            if self.delete(deletion, files, stats) {
                touched.insert(deletion.segment.shard);
                if !deletion.unsent.is_empty() {
                    self.lost_mono_ns = Some(now.mono_ns);
                }
            }
        }
        for shard in touched {
            // A removal that a power loss undoes is repeated by a later look.
            let _ = files.sync_dir(&self.journal.join(shard.to_string()));
        }
        self.remove_empty_orphans(files, cursors);
        self.set_alarm(now, &plan, &caps);
        stats.set_size(plan.bytes_left, segments.len() - plan.deletions.len(), caps.bytes_max);
        let filling = if destinations.is_empty() { plan.bytes_left } else { plan.unsent_bytes };
        self.estimate(now, caps.bytes_max.saturating_sub(filling), stats);
    }

    fn delete(&self, deletion: &Deletion, files: &dyn Files, stats: &Stats) -> bool {
        let s = deletion.segment;
        let dir = self.journal.join(s.shard.to_string());
        let path = dir.join(directory::segment_name(s.sequence));
        // Another process may be writing it.
        if File::open(&path).is_ok_and(|f| file::is_locked(&f).unwrap_or(false)) {
            return false;
        }
        // The record of its end goes first: alone it would stay for ever.
        let end = dir.join(end_name(s.sequence));
        if (end.exists() && files.remove(&end).is_err()) || files.remove(&path).is_err() {
            return false;
        }
        stats.deleted(deletion.reason, s.bytes, &deletion.unsent);
        if !deletion.unsent.is_empty() {
            tracing::warn!(
                "journal segment {} is deleted by retention ({:?}) before {} had all of it",
                path.display(),
                deletion.reason,
                deletion.unsent.join(", ")
            );
        }
        true
    }

    /// Directories of shards that are no more, once they are empty.
    fn remove_empty_orphans(&self, files: &dyn Files, cursors: &Cursors) {
        for (shard, dir) in directory::shards(&self.journal).unwrap_or_default() {
            if shard >= self.shards && std::fs::remove_dir(&dir).is_ok() {
                cursors.forget_shard(shard);
                let _ = files.sync_dir(&self.journal);
            }
        }
    }

    fn set_alarm(&mut self, now: Now, plan: &Plan, caps: &Caps) {
        let recent = self.lost_mono_ns.is_some_and(|at| now.mono_ns.saturating_sub(at) < ALARM_NS);
        let (journal, cap) = (self.journal.display(), caps.bytes_max >> 20);
        let crowded = self.caps.is_some_and(|c| caps.bytes_max < c.bytes_max);
        let why = if crowded { ", low because its file system is nearly full," } else { "" };
        let remedy = if crowded { "free space there" } else { "raise --storage.retention.size" };
        self.alarm = if recent {
            Some(format!(
                "the journal under {journal} reached its cap of {cap} MB{why} or its age, and segments were deleted that a destination had not got. Look why it is behind, or {remedy}"
            ))
        } else if plan.bytes_left > caps.bytes_max {
            Some(format!(
                "the journal under {journal} holds {} MB, above its cap of {cap} MB{why} and only segments being written are left: {remedy}",
                plan.bytes_left >> 20,
            ))
        } else {
            None
        };
    }

    /// Time until the room is used up at the rate since the last look.
    fn estimate(&mut self, now: Now, room_bytes: u64, stats: &Stats) {
        let written = stats.written_bytes.read();
        let (last_bytes, last_ns) = std::mem::replace(&mut self.last_written, (written, now.mono_ns));
        let seconds = now.mono_ns.saturating_sub(last_ns) as f64 / 1e9;
        let rate = written.saturating_sub(last_bytes) as f64 / seconds.max(1e-3);
        stats.seconds_to_full.set(if last_ns == 0 || rate <= 0.0 { f64::INFINITY } else { room_bytes as f64 / rate });
    }
}

fn listing(journal: &Path, shards: u32) -> Vec<Segment> {
    let mut all = Vec::new();
    for (shard, dir) in directory::shards(journal).unwrap_or_default() {
        for sequence in directory::segments(&dir).unwrap_or_default() {
            // Deleted meanwhile by another process: not there.
            let Ok(m) = std::fs::metadata(dir.join(directory::segment_name(sequence))) else { continue };
            let ended_ms = m.mtime() * 1000 + m.mtime_nsec() / 1_000_000;
            all.push(Segment { shard, sequence, bytes: m.len(), ended_ms, is_open: false, is_orphan: shard >= shards });
        }
    }
    all
}
