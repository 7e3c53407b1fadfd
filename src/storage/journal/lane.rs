//! One shard's file on the disk thread: create, write, sync, seal, and what happens when the disk says no.

use super::directory;
use super::files::{Files, SegmentFile};
use super::format::{self, BATCH_HEADER_BYTES, HEADER_BYTES, Header, VERSION, VERSION_OLDEST};
use super::position::{Extent, Position};
use super::writer::Batch;
use crate::base::time::Now;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// Space is reserved in steps of this size.
const RESERVE_BYTES: u64 = 16 << 20;
/// First wait after an error, nanoseconds; doubles up to [`BACKOFF_MAX_NS`].
const BACKOFF_MIN_NS: u64 = 100_000_000;
/// See [`BACKOFF_MIN_NS`].
const BACKOFF_MAX_NS: u64 = 5_000_000_000;
/// Errors in a row on a segment after which its writer is asked to begin another, so that what comes then does not
/// depend on it.
const LEAVE_TRIES: u32 = 2;
/// Errors in a row on a segment (in about 12 s) after which it is given up, if another one can be written.
const GIVE_UP_TRIES: u32 = 8;
/// Numbers tried when other processes are faster in taking them.
const CREATE_ATTEMPTS: u32 = 1000;

/// When written bytes are made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncMode {
    /// After every write (at most 200 ms after the scrape): a power loss takes what was not yet written.
    Batch,
    /// In groups, so often (nanoseconds): a power loss takes at most that much more.
    Every(u64),
    /// Never: the operating system decides (often 30 s). A crash of the process alone loses nothing written.
    Os,
}

impl SyncMode {
    /// Reads `--storage.sync`: `batch`, `os`, or a time such as `1s` or `250ms` (10 ms to 60 s). `None` for others.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let number = |unit: &str| text.strip_suffix(unit).and_then(|n| n.parse::<u64>().ok());
        match text {
            "batch" => Some(Self::Batch),
            "os" => Some(Self::Os),
            _ => {
                let ms = number("ms").or_else(|| number("s").and_then(|s| s.checked_mul(1000)))?;
                (10..=60_000).contains(&ms).then_some(Self::Every(ms * 1_000_000))
            }
        }
    }
}

/// What a lane did in one turn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Bytes written, headers and seals included.
    pub written_bytes: u64,
    /// Batches written.
    pub batches: u64,
    /// Successful syncs of a segment.
    pub syncs: u64,
    /// Calls that failed.
    pub errors: u64,
    /// Segments begun.
    pub created: u64,
    /// Segments given up.
    pub given_up: u64,
    /// Scrape and stale frames lost with those.
    pub frames_lost: u64,
    /// Their slots.
    pub slots_lost: u64,
}

/// Why a lane does not get on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What was tried, where, the system's answer, and what to do.
    pub text: String,
    /// No space left (as against a failing disk).
    pub is_full: bool,
    /// Since when, monotonic nanoseconds.
    pub since_mono_ns: u64,
    /// Errors in a row.
    tries: u32,
    retry_mono_ns: u64,
    wait_ns: u64,
}

#[derive(Debug)]
struct Open {
    file: Box<dyn SegmentFile>,
    path: PathBuf,
    header: Header,
    written: u64,
    synced: u64,
    reserved: u64,
    /// Header bytes are in the file (again, after a failed sync).
    has_header: bool,
    /// The directory entry is durable.
    is_listed: bool,
    /// A sync has failed: what the file has beyond the synced bytes is to be cut off before it is written again. Without
    /// that ext4 takes the writes, calls them synced, and reads zeros once its memory has forgotten them.
    is_doubtful: bool,
    /// A sync has failed before: the next one that succeeds is believed after reading the bytes back.
    is_checked: bool,
}

/// Writes one shard's batches in order. After an error the batches that no sync covered stay in memory and are written
/// again, at the same offsets (after a failed sync the file is cut to what is safe first, and what the next sync covers is
/// read back), for as long as the disk as a whole says no. A segment that alone cannot be written is given
/// up after a while: if all of it is still in memory it is written whole to another file, else what no sync covered is lost
/// and counted, since its frames lean on those before them. Lack of space never leads to that.
#[derive(Debug)]
pub struct Lane {
    shard: u32,
    boot: u128,
    dir: PathBuf,
    files: Arc<dyn Files>,
    position: Arc<Position>,
    queue: VecDeque<Batch>,
    unsynced: VecDeque<Batch>,
    open: Option<Open>,
    fault: Option<Fault>,
    sync: SyncMode,
    synced_mono_ns: u64,
    number_min: u64,
}

type Tried<T> = Result<T, (&'static str, io::Error)>;

impl Lane {
    /// A lane for `shard` in its directory; segment numbers are above `number_min`.
    #[must_use]
    pub fn new(shard: u32, boot: u128, dir: PathBuf, files: Arc<dyn Files>) -> Self {
        Self {
            shard,
            boot,
            dir,
            files,
            position: Arc::default(),
            queue: VecDeque::new(),
            unsynced: VecDeque::new(),
            open: None,
            fault: None,
            sync: SyncMode::Every(1_000_000_000),
            synced_mono_ns: 0,
            number_min: 0,
        }
    }

    /// Sets when to sync, and the number that segments are to be above (cursors may know of deleted ones).
    #[must_use]
    pub fn with(mut self, sync: SyncMode, number_min: u64) -> Self {
        self.sync = sync;
        self.number_min = number_min;
        self
    }

    /// Where readers see how far this is.
    #[must_use]
    pub fn position(&self) -> &Arc<Position> {
        &self.position
    }

    /// The shard's directory.
    #[must_use]
    pub fn dir(&self) -> &PathBuf {
        &self.dir
    }

    /// Number of the segment being written.
    #[must_use]
    pub fn current(&self) -> Option<u64> {
        self.open.as_ref().map(|o| o.header.sequence)
    }

    /// Why this does not get on, if so.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether everything given is written, and durable as far as the sync setting asks.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.queue.is_empty() && self.unsynced.is_empty()
    }

    /// Adds a batch.
    pub fn push(&mut self, batch: Batch) {
        self.queue.push_back(batch);
    }

    /// When [`Lane::turn`] has something to do, monotonic nanoseconds.
    #[must_use]
    pub fn due_at(&self) -> Option<u64> {
        if self.is_done() {
            return None;
        }
        if let Some(f) = &self.fault {
            return Some(f.retry_mono_ns);
        }
        match self.sync {
            SyncMode::Every(ns) if self.queue.is_empty() => Some(self.synced_mono_ns.saturating_add(ns)),
            _ => Some(0),
        }
    }

    /// Writes and syncs what is due. Batches that are done with go to `done`.
    pub fn turn(&mut self, now: Now, done: &mut Vec<Batch>) -> Work {
        let mut work = Work::default();
        if self.fault.as_ref().is_none_or(|f| f.retry_mono_ns <= now.mono_ns) {
            let mut r = self.write_queue(now, &mut work, done).and_then(|()| self.sync_if_due(now, &mut work, done));
            if r.is_err() && self.goes_around(now, &mut work, done) {
                r = self.write_queue(now, &mut work, done).and_then(|()| self.sync_if_due(now, &mut work, done));
            }
            self.settle(now, r, &mut work);
        }
        work
    }

    /// Writes, syncs and seals everything; for the end of the process. Returns whether it is all safe.
    pub fn close(&mut self, now: Now, done: &mut Vec<Batch>) -> bool {
        let mut work = Work::default();
        let mut r = self.write_queue(now, &mut work, done).and_then(|()| self.seal(now, &mut work, done));
        if r.is_err() && self.goes_around(now, &mut work, done) {
            r = self.write_queue(now, &mut work, done).and_then(|()| self.seal(now, &mut work, done));
        }
        self.settle(now, r, &mut work);
        self.fault.is_none()
    }

    /// The writer's count of a segment that its writer should leave for a new one: this one's file fails.
    #[must_use]
    pub fn leaving(&self) -> Option<u32> {
        let failing = self.fault.as_ref().is_some_and(|f| !f.is_full && f.tries >= LEAVE_TRIES);
        self.open.as_ref().filter(|_| failing).map(|o| o.header.ordinal)
    }

    /// Gives the current segment up, if it has failed often enough and a new one takes writes. What cannot stand in a new
    /// one is lost.
    fn goes_around(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> bool {
        let Some(fault) = self.fault.as_ref().filter(|f| !f.is_full && f.tries >= GIVE_UP_TRIES) else { return false };
        let seconds = now.mono_ns.saturating_sub(fault.since_mono_ns) / 1_000_000_000;
        let Some(bad) = self.open.as_ref().map(|o| o.header.ordinal) else { return false };
        let first = self.unsynced.front().or(self.queue.front());
        let is_whole = first.is_some_and(|b| b.ordinal == bad && b.offset == HEADER_BYTES as u64);
        let mut ordinals = self.queue.iter().map(|b| b.ordinal);
        let Some(next) = (if is_whole { Some(bad) } else { ordinals.find(|&o| o != bad) }) else { return false };
        let Ok(mut fresh) = self.make(next, now, work) else { return false };
        if fresh.sync(&self.dir, self.files.as_ref()).is_err() {
            // The disk as a whole says no: nothing is gained by another file.
            let _ = self.files.remove(&fresh.path);
            return false;
        }
        self.requeue();
        let lost = if is_whole { 0 } else { self.queue.iter().take_while(|b| b.ordinal == bad).count() };
        let frames: u64 = self.queue.iter().take(lost).map(|b| b.events).sum();
        let slots: u64 = self.queue.iter().take(lost).map(|b| b.slots).sum();
        done.extend(self.queue.drain(..lost));
        work.given_up += 1;
        work.frames_lost += frames;
        work.slots_lost += slots;
        let fresh_path = fresh.path.display().to_string();
        if let Some(old) = self.open.replace(fresh) {
            let old = old.path.display();
            tracing::error!(
                shard = self.shard,
                "journal segment {old} is given up after {seconds} s of errors: {frames} scrapes ({slots} samples) of it could not be written and are lost; the journal goes on in {fresh_path}. Check the disk and its cables"
            );
        }
        true
    }

    fn settle(&mut self, now: Now, r: Tried<()>, work: &mut Work) {
        match r {
            Ok(()) => {
                if let Some(fault) = self.fault.take() {
                    tracing::info!(shard = self.shard, "journal writes again; {} batches were kept", self.queue.len());
                    drop(fault);
                }
            }
            Err((what, error)) => {
                work.errors += 1;
                self.fail(now, what, &error);
            }
        }
    }

    fn fail(&mut self, now: Now, what: &'static str, error: &io::Error) {
        let is_full = matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT));
        let place = self.open.as_ref().map_or(&self.dir, |o| &o.path).display();
        let remedy = if is_full {
            "Free space, or lower --storage.retention.size"
        } else {
            "Check the disk and its cables, the mount and its rights"
        };
        let text = format!(
            "cannot {what} journal {place}: {error}. Scrapes are kept in memory and written again until the bound is reached, then dropped and counted. {remedy}"
        );
        let tries = self.fault.as_ref().map_or(0, |f| f.tries).saturating_add(1);
        let wait_ns = self.fault.as_ref().map_or(BACKOFF_MIN_NS, |f| (f.wait_ns * 2).min(BACKOFF_MAX_NS));
        if self.fault.is_none() {
            tracing::error!(shard = self.shard, "{text}");
        }
        let since_mono_ns = self.fault.as_ref().map_or(now.mono_ns, |f| f.since_mono_ns);
        self.fault = Some(Fault { text, is_full, since_mono_ns, tries, retry_mono_ns: now.mono_ns + wait_ns, wait_ns });
    }

    fn write_queue(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        while let Some(ordinal) = self.queue.front().map(|b| b.ordinal) {
            if self.open.as_ref().is_some_and(|o| o.header.ordinal != ordinal) {
                self.seal(now, work, done)?;
                continue;
            }
            if self.open.is_none() {
                self.open = Some(self.make(ordinal, now, work)?);
            }
            let (Some(open), Some(batch)) = (&mut self.open, self.queue.front()) else { break };
            open.write(batch, work)?;
            if let Some(batch) = self.queue.pop_front() {
                if self.sync == SyncMode::Os { done.push(batch) } else { self.unsynced.push_back(batch) }
            }
            self.publish();
            if self.sync == SyncMode::Batch {
                self.sync_now(now, work, done)?;
            }
        }
        Ok(())
    }

    fn sync_if_due(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        let due = match self.sync {
            SyncMode::Batch => true,
            SyncMode::Every(ns) => now.mono_ns.saturating_sub(self.synced_mono_ns) >= ns,
            SyncMode::Os => false,
        };
        // That memory takes the bytes again says nothing about the disk: only a sync ends the trouble of a failed one.
        let due = due || self.open.as_ref().is_some_and(|o| o.is_checked);
        if due && !self.unsynced.is_empty() { self.sync_now(now, work, done) } else { Ok(()) }
    }

    fn sync_now(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        self.synced_mono_ns = now.mono_ns;
        let synced = open.synced;
        let r = open.sync(&self.dir, self.files.as_ref()).and_then(|()| open.check(&self.unsynced));
        if r.is_err() {
            // The pages that were dirty are clean now, written or not: all of it goes out again.
            open.synced = synced;
            open.is_doubtful = true;
            open.is_checked = true;
            self.requeue();
            return r;
        }
        work.syncs += 1;
        done.extend(self.unsynced.drain(..));
        self.publish();
        Ok(())
    }

    /// What was written and not synced is to be written again.
    fn requeue(&mut self) {
        while let Some(batch) = self.unsynced.pop_back() {
            self.queue.push_front(batch);
        }
    }

    /// A new segment, the next free number.
    fn make(&self, ordinal: u32, now: Now, work: &mut Work) -> Tried<Open> {
        self.files.create_dir(&self.dir).map_err(|e| ("create the directory of", e))?;
        let newest = directory::newest_number(&self.dir).map_err(|e| ("list", e))?;
        let mut sequence = newest.max(self.number_min) + 1;
        for _ in 0..CREATE_ATTEMPTS {
            let path = self.dir.join(directory::segment_name(sequence));
            match self.files.create(&path) {
                Ok(file) => {
                    let header = Header {
                        version: VERSION,
                        version_oldest: VERSION_OLDEST,
                        shard: self.shard,
                        boot: self.boot,
                        ordinal,
                        sequence,
                        created_ms: now.wall_ms(),
                    };
                    let open = Open::begin(file, path, header).map_err(|(file_path, e)| {
                        // An empty file would only be in the way.
                        let _ = self.files.remove(&file_path);
                        ("create", e)
                    })?;
                    work.created += 1;
                    work.written_bytes += HEADER_BYTES as u64;
                    return Ok(open);
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => sequence += 1,
                Err(e) => return Err(("create a segment of", e)),
            }
        }
        Err(("number a segment of", io::ErrorKind::AlreadyExists.into()))
    }

    /// Ends the current segment: seal, cut, sync, close.
    fn seal(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        open.seal()?;
        work.written_bytes += BATCH_HEADER_BYTES as u64;
        if self.sync != SyncMode::Os {
            self.sync_now(now, work, done)?;
        }
        self.open = None;
        Ok(())
    }

    fn publish(&self) {
        if let Some(o) = &self.open {
            let extent = Extent { segment: o.header.sequence, written_bytes: o.written, synced_bytes: o.synced };
            self.position.publish(extent);
        }
    }
}

impl Open {
    fn begin(mut file: Box<dyn SegmentFile>, path: PathBuf, header: Header) -> Result<Self, (PathBuf, io::Error)> {
        let r = file.reserve(0, RESERVE_BYTES).and_then(|()| file.write_all_at(&header.encode(), 0));
        if let Err(e) = r {
            return Err((path, e));
        }
        let written = HEADER_BYTES as u64;
        Ok(Self {
            file,
            path,
            header,
            written,
            synced: 0,
            reserved: RESERVE_BYTES,
            has_header: true,
            is_listed: false,
            is_doubtful: false,
            is_checked: false,
        })
    }

    /// After a failed sync: leaves only what is safe.
    fn cut(&mut self) -> Tried<()> {
        if self.is_doubtful {
            self.file.truncate(self.synced).map_err(|e| ("cut", e))?;
            self.reserved = self.synced;
            self.written = self.synced.max(HEADER_BYTES as u64);
            self.has_header &= self.synced > 0;
            self.is_doubtful = false;
        }
        Ok(())
    }

    /// After a sync that followed a failed one: whether the batches are on the disk.
    fn check(&mut self, batches: &VecDeque<Batch>) -> Tried<()> {
        if !self.is_checked {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for batch in batches {
            bytes.resize(batch.bytes.len(), 0);
            self.file.read_back(&mut bytes, batch.offset).map_err(|e| ("read back", e))?;
            if bytes != batch.bytes {
                return Err(("read back", io::Error::other("a sync succeeded that did not put the bytes on the disk")));
            }
        }
        self.is_checked = false;
        Ok(())
    }

    fn write(&mut self, batch: &Batch, work: &mut Work) -> Tried<()> {
        self.cut()?;
        let end = batch.offset + batch.bytes.len() as u64;
        if !self.has_header {
            self.file.write_all_at(&self.header.encode(), 0).map_err(|e| ("write", e))?;
            self.has_header = true;
        }
        if end > self.reserved {
            let bytes = (end - self.reserved).next_multiple_of(RESERVE_BYTES);
            self.file.reserve(self.reserved, bytes).map_err(|e| ("reserve space for", e))?;
            self.reserved += bytes;
        }
        self.file.write_all_at(&batch.bytes, batch.offset).map_err(|e| ("write", e))?;
        self.written = self.written.max(end);
        work.written_bytes += batch.bytes.len() as u64;
        work.batches += 1;
        Ok(())
    }

    fn sync(&mut self, dir: &std::path::Path, files: &dyn Files) -> Tried<()> {
        if !self.is_listed {
            files.sync_dir(dir).map_err(|e| ("sync the directory of", e))?;
            self.is_listed = true;
        }
        self.file.sync().map_err(|e| ("sync", e))?;
        self.synced = self.written;
        Ok(())
    }

    fn seal(&mut self) -> Tried<()> {
        self.cut()?;
        let seal = format::seal(self.header.seed(), self.written);
        let r = self.file.write_all_at(&seal, self.written);
        r.and_then(|()| self.file.truncate(self.written + BATCH_HEADER_BYTES as u64)).map_err(|e| ("seal", e))
    }
}
