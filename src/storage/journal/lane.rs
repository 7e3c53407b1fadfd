//! One shard's file on the disk thread: create, write, sync, seal, and what happens when the disk says no.

use super::directory;
use super::ended::{Ended, end_name};
use super::files::{Files, SegmentFile};
use super::format::{BATCH_HEADER_BYTES, HEADER_BYTES, Header, VERSION, VERSION_OLDEST};
use super::open::{Open, Tried, Unbegun, is_full};
use super::position::{Extent, Position};
use super::relay::Relay;
use super::writer::{Batch, Writer};
use crate::base::time::Now;
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// First wait after an error, nanoseconds; doubles up to [`BACKOFF_MAX_NS`].
const BACKOFF_MIN_NS: u64 = 100_000_000;
/// See [`BACKOFF_MIN_NS`].
const BACKOFF_MAX_NS: u64 = 5_000_000_000;
/// Failures in a row (in about 12 s) to read what a spoilt segment's tail leans on, after which the tail is lost.
const READ_TRIES: u32 = 8;
/// Counts of segments from here on are given by lanes, those below by writers.
const HEIRS: u32 = 1 << 31;
/// Between the counts that two relays begin with: a relay's own writer may begin further segments.
const HEIR_STEP: u32 = 256;
/// A segment that ended early is cut at a multiple of this, so that no page with bytes that count is touched.
const PAGE_BYTES: u64 = 4096;
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
    /// Segments that ended early: a write or sync of theirs failed.
    pub given_up: u64,
    /// Bytes of batches that were made from others; those are done with.
    pub told_bytes: u64,
    /// Scrape and stale frames lost: what they lean on could not be read back.
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
    retry_mono_ns: u64,
    wait_ns: u64,
}

/// A spoilt segment whose end is not recorded yet.
#[derive(Debug)]
struct Left {
    file: Box<dyn SegmentFile>,
    ended: Ended,
    /// What the queue has of it is still to be told anew.
    is_untold: bool,
    /// Failures to read it in a row.
    read_tries: u32,
}

/// Writes one shard's batches in order; keeps those that no sync covered.
///
/// A write or a sync that fails spoils its segment: that ends at its last durable byte, and nothing is written to it again.
/// What stood behind, all of it in memory, goes to a new segment: as it is when nothing of the segment was durable, else told
/// anew ([`Relay`]), since its frames lean on those before them. When that is durable the old segment's end is recorded
/// ([`Ended`]), and then readers see the new one. All of it is tried again for as long as the disk says no. Only a tail whose
/// durable beginning cannot be read back is lost after a while, and counted.
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
    /// Oldest first. While there is one, readers are not told of what is written.
    left: Vec<Left>,
    /// For what the writer adds to a segment that is no more.
    relay: Option<Relay>,
    /// A segment whose frames cannot be told anew, by the writer's count.
    lost: Option<u32>,
    /// Count of the next relay's segment.
    heir: u32,
    fault: Option<Fault>,
    sync: SyncMode,
    synced_mono_ns: u64,
    number_min: u64,
}

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
            left: Vec::new(),
            relay: None,
            lost: None,
            heir: HEIRS,
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

    /// Numbers of the segments that are needed here: the one being written, and those whose end is not recorded.
    pub fn current(&self) -> impl Iterator<Item = u64> {
        self.left.iter().map(|l| l.ended.header.sequence).chain(self.open.as_ref().map(|o| o.header.sequence))
    }

    /// Why this does not get on, if so.
    #[must_use]
    pub fn fault(&self) -> Option<&Fault> {
        self.fault.as_ref()
    }

    /// Whether everything given is written, and durable as far as the sync setting asks.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.queue.is_empty() && self.unsynced.is_empty() && self.left.is_empty()
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
            let r = self.tell(now, &mut work, done);
            let r = r.and_then(|()| self.write_queue(now, &mut work, done));
            let r = r.and_then(|()| self.sync_if_due(now, &mut work, done));
            let r = r.and_then(|()| self.record());
            self.settle(now, r, &mut work);
        }
        work
    }

    /// Writes, syncs and seals everything; for the end of the process. Returns whether it is all safe.
    pub fn close(&mut self, now: Now, done: &mut Vec<Batch>) -> bool {
        let mut work = Work::default();
        let r = self.tell(now, &mut work, done);
        let r = r.and_then(|()| self.write_queue(now, &mut work, done));
        let r = r.and_then(|()| self.seal(now, &mut work, done));
        let r = r.and_then(|()| self.record());
        self.settle(now, r, &mut work);
        self.fault.is_none()
    }

    /// The writer's count of a segment that its writer should leave for a new one: this one's file is spoilt, and what is
    /// added to it has to be told anew, or is lost.
    #[must_use]
    pub fn leaving(&self) -> Option<u32> {
        let untold = self.left.iter().filter(|l| l.is_untold).map(|l| l.ended.header.ordinal);
        untold.chain(self.relay.as_ref().map(|r| r.from)).chain(self.lost).find(|&o| o < HEIRS)
    }

    /// The segment being written is spoilt: it ends where it is safe, and what is not safe waits to be written elsewhere.
    fn part(&mut self, work: &mut Work) {
        let Some(open) = self.open.take_if(|o| o.is_spoilt) else { return };
        let is_unread = !self.left.is_empty() || open.written == HEADER_BYTES as u64;
        let safe = if self.sync == SyncMode::Os { open.written } else { open.synced };
        let end_bytes = safe.max(HEADER_BYTES as u64);
        let written = self.unsynced.len();
        while let Some(batch) = self.unsynced.pop_back() {
            self.queue.push_front(batch);
        }
        let ordinal = open.header.ordinal;
        let is_whole = end_bytes == HEADER_BYTES as u64;
        if is_whole && is_unread && self.files.remove(&open.path).is_ok() {
            return;
        }
        let tail = || self.queue.iter().take_while(|b| b.ordinal == ordinal);
        let has_tail = tail().next().is_some();
        // Of the batch that failed a part may be in the file, for others to read.
        let moved = tail().take(written + 1).map(|b| (b.offset, b.events)).collect();
        let heir = match (has_tail, is_whole) {
            (false, _) => 0,
            (true, true) => ordinal,
            (true, false) => self.next_heir(),
        };
        tracing::warn!(
            shard = self.shard,
            "journal segment {} ends at byte {end_bytes}: it could not be written. What followed is kept and goes to a new one",
            open.path.display()
        );
        work.given_up += 1;
        let ended = Ended { header: open.header, end_bytes, heir, moved };
        self.left.push(Left { file: open.file, ended, is_untold: has_tail && !is_whole, read_tries: 0 });
    }

    fn next_heir(&mut self) -> u32 {
        let heir = self.heir;
        self.heir = heir.checked_add(HEIR_STEP).unwrap_or(HEIRS);
        heir
    }

    /// Tells anew what the queue has of segments that ended early.
    fn tell(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        while let Some(at) = self.left.iter().position(|l| l.is_untold) {
            let left = &mut self.left[at];
            let header = left.ended.header;
            let writer = Writer::new(self.shard, self.boot).beginning_at(left.ended.heir);
            let from = (header.ordinal, header.seed());
            let relay = match Relay::begin(left.file.as_mut(), left.ended.end_bytes, from, writer) {
                Ok(relay) => relay,
                Err(error) if left.read_tries + 1 < READ_TRIES => {
                    left.read_tries += 1;
                    return Err(("read back the beginning of a segment of", error));
                }
                Err(error) => {
                    left.ended.heir = 0;
                    left.is_untold = false;
                    self.lose(header.ordinal, &error, work, done);
                    continue;
                }
            };
            left.is_untold = false;
            self.pass(relay, now, work, done);
        }
        if let Some(relay) = self.relay.take() {
            self.pass(relay, now, work, done);
        }
        if let Some(ordinal) = self.lost {
            self.drop_lost(ordinal, work, done);
        }
        Ok(())
    }

    /// Sends the queue through a relay, and keeps that for what is still to come of its segment.
    fn pass(&mut self, mut relay: Relay, now: Now, work: &mut Work, done: &mut Vec<Batch>) {
        let from = relay.from;
        let mut is_left = false;
        let mut misfit = None;
        let mut told = Vec::new();
        for batch in std::mem::take(&mut self.queue) {
            if batch.ordinal != from {
                is_left |= batch.ordinal < HEIRS && from < HEIRS && batch.ordinal > from;
                self.queue.push_back(batch);
                continue;
            }
            if misfit.is_none() {
                misfit = relay.tell(&batch, now, &mut told).err();
            }
            if misfit.is_some() {
                self.queue.push_back(batch);
                continue;
            }
            work.told_bytes += told.iter().map(|b: &Batch| b.bytes.len() as u64).sum::<u64>();
            self.queue.extend(told.drain(..));
            done.push(batch);
        }
        if let Some(what) = misfit {
            return self.lose(from, &io::Error::new(io::ErrorKind::InvalidData, what), work, done);
        }
        match &mut self.relay {
            // What was told before is told once more: whoever told it goes on in the new segment.
            Some(first) if from >= HEIRS => {
                if first.to() == from {
                    first.continue_in(relay);
                }
            }
            _ if is_left || from >= HEIRS => {}
            _ => self.relay = Some(relay),
        }
    }

    /// Frames of that segment cannot be told anew.
    fn lose(&mut self, ordinal: u32, error: &io::Error, work: &mut Work, done: &mut Vec<Batch>) {
        let before = (work.frames_lost, work.slots_lost);
        // What comes through a relay into it has nowhere to go either.
        let source = self.relay.take_if(|r| r.to() == ordinal).map_or(ordinal, |r| r.from);
        self.drop_lost(ordinal, work, done);
        self.drop_lost(source, work, done);
        self.lost = Some(source);
        let (frames, slots) = (work.frames_lost - before.0, work.slots_lost - before.1);
        tracing::error!(
            shard = self.shard,
            "a journal segment in {} that could not be written could not be read back either ({error}): {frames} scrapes ({slots} samples) are lost. Check the disk and its cables",
            self.dir.display()
        );
    }

    fn drop_lost(&mut self, ordinal: u32, work: &mut Work, done: &mut Vec<Batch>) {
        for batch in std::mem::take(&mut self.queue) {
            if batch.ordinal == ordinal {
                work.frames_lost += batch.events;
                work.slots_lost += batch.slots;
                done.push(batch);
            } else {
                self.queue.push_back(batch);
            }
        }
    }

    /// Once everything is as safe as asked for: makes it known where spoilt segments end, and then where the rest is.
    fn record(&mut self) -> Tried<()> {
        if self.left.is_empty() {
            return Ok(());
        }
        while let Some(left) = self.left.first() {
            let path = self.dir.join(end_name(left.ended.header.sequence));
            self.files.replace(&path, &left.ended.encode()).map_err(|e| ("record the end of a segment of", e))?;
            let mut left = self.left.remove(0);
            // Gives its space back, if that works; the record counts either way.
            let _ = left.file.truncate(left.ended.end_bytes.next_multiple_of(PAGE_BYTES));
        }
        self.publish();
        Ok(())
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
                self.part(work);
            }
        }
    }

    fn fail(&mut self, now: Now, what: &'static str, error: &io::Error) {
        let is_full = is_full(error);
        let place = self.open.as_ref().map_or(&self.dir, |o| &o.path).display();
        let remedy = if is_full {
            "Free space, or lower --storage.retention.size"
        } else {
            "Check the disk and its cables, the mount and its rights"
        };
        let text = format!(
            "cannot {what} journal {place}: {error}. Scrapes are kept in memory and written to a new segment; when the bound is reached the newest are dropped and counted. {remedy}"
        );
        let wait_ns = self.fault.as_ref().map_or(BACKOFF_MIN_NS, |f| (f.wait_ns * 2).min(BACKOFF_MAX_NS));
        if self.fault.is_none() {
            tracing::error!(shard = self.shard, "{text}");
        }
        let since_mono_ns = self.fault.as_ref().map_or(now.mono_ns, |f| f.since_mono_ns);
        self.fault = Some(Fault { text, is_full, since_mono_ns, retry_mono_ns: now.mono_ns + wait_ns, wait_ns });
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
        let due = due || (!self.left.is_empty() && self.sync != SyncMode::Os);
        if due && !self.unsynced.is_empty() { self.sync_now(now, work, done) } else { Ok(()) }
    }

    fn sync_now(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        self.synced_mono_ns = now.mono_ns;
        let synced = open.synced;
        open.sync(&self.dir, self.files.as_ref())?;
        if !self.left.is_empty() {
            open.check(&self.unsynced).inspect_err(|_| open.synced = synced)?;
        }
        work.syncs += 1;
        done.extend(self.unsynced.drain(..));
        self.publish();
        Ok(())
    }

    /// A new segment, the next free number.
    fn make(&mut self, ordinal: u32, now: Now, work: &mut Work) -> Tried<Open> {
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
                    let open = Open::begin(file, path, header).map_err(|unbegun| self.clear_away(unbegun))?;
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

    /// An empty file would only be in the way; if it stays, it is known as a segment with nothing in it.
    fn clear_away(&mut self, unbegun: Unbegun) -> (&'static str, io::Error) {
        let Unbegun { file, path, header, error } = unbegun;
        if self.files.remove(&path).is_err() {
            let ended = Ended { header, end_bytes: HEADER_BYTES as u64, heir: header.ordinal, moved: Vec::new() };
            self.left.push(Left { file, ended, is_untold: false, read_tries: 0 });
        }
        ("create", error)
    }

    /// Ends the current segment: seal, cut, sync, close.
    fn seal(&mut self, now: Now, work: &mut Work, done: &mut Vec<Batch>) -> Tried<()> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let sequence = open.header.sequence;
        open.seal()?;
        work.written_bytes += BATCH_HEADER_BYTES as u64;
        if self.sync != SyncMode::Os {
            self.sync_now(now, work, done)?;
        }
        // Readers go on at the next number, also when retention takes this segment before there is another.
        self.number_min = self.number_min.max(sequence);
        self.open = None;
        Ok(())
    }

    fn publish(&self) {
        if let Some(o) = self.open.as_ref().filter(|_| self.left.is_empty()) {
            let extent = Extent { segment: o.header.sequence, written_bytes: o.written, synced_bytes: o.synced };
            self.position.publish(extent);
        }
    }
}
