//! Tails one shard's directory from a cursor: events with their meaning, live or offline.

use super::codes::PADDING_BYTES;
use super::directory;
use super::ended::Ended;
use super::event::{Cursor, Event, ReadError, Samples};
use super::format::{self, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader, HEADER_BYTES, Header, VERSION};
use super::frames::{Found, Frames, Interner, Place};
use super::position::{Extent, Position};
use crate::base::file;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a reader went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadTally {
    /// Segments begun.
    pub segments: u64,
    /// Batches taken.
    pub batches: u64,
    /// Events given.
    pub events: u64,
    /// Segments of which something was skipped.
    pub damaged: u64,
    /// Bytes skipped.
    pub skipped_bytes: u64,
}

/// Reads one shard directory in order.
///
/// A segment ends when it is sealed, or when nobody holds its lock any more (its process died); until then the end of
/// the written bytes means "come back later", even when a newer segment exists beside it (two processes). A segment that a
/// failed write or sync spoilt ends where its record ([`Ended`]) says; what this reader has had of the bytes behind it passed
/// over in the segment that has them now.
/// Memory: the dictionary of one segment, which ends when half of it is of no use any more, and 8 bytes a slot of the targets in it that have not ended.
#[derive(Debug)]
pub struct Reader {
    dir: PathBuf,
    position: Option<Arc<Position>>,
    /// Number of the segment to open next, at least.
    wanted: u64,
    /// Whether a gap before the next segment means that something was deleted unread.
    contiguous: bool,
    segment: Option<Open>,
    frames: Frames,
    interner: Interner,
    /// Payload of the current batch and its padding.
    payload: Vec<u8>,
    place: Place,
    cursor: Cursor,
    /// Where this reader began. Events up to there are passed over, whenever they can be read.
    begin: Cursor,
    /// Events that this reader has had and that stand again in segments to come.
    had: Vec<Had>,
    /// The same at the start of the current segment: still to be passed over.
    skip: u64,
    tally: ReadTally,
}

/// How many events at the start of a segment were read before, elsewhere.
#[derive(Debug)]
struct Had {
    boot: u128,
    ordinal: u32,
    events: u64,
}

#[derive(Debug)]
struct Open {
    path: PathBuf,
    file: File,
    header: Header,
    seed: u32,
    /// Offset of the next batch.
    next: u64,
    /// Where it ends although its file may have more.
    ended: Option<Ended>,
    /// Nobody can make it end early any more.
    is_fixed: bool,
}

/// Outcome of looking for a batch.
enum Look {
    Batch,
    /// Nothing more is written yet.
    Wait,
    /// The segment is over.
    End,
}

impl Reader {
    /// A reader of `dir` (`<data>/journal/<shard>`) that continues at `from`: goes through the cursor's segment up to
    /// it, to rebuild dictionary and last values. A cursor past what is left of its segment continues at the next one.
    ///
    /// # Errors
    /// The file system's. Damage met on the way is not an error here: it is what [`Reader::next`] says.
    pub fn open(dir: &Path, from: Cursor) -> io::Result<Self> {
        let mut reader = Self {
            dir: dir.to_owned(),
            position: None,
            wanted: from.segment,
            contiguous: from.segment != 0,
            segment: None,
            frames: Frames::default(),
            interner: Interner::default(),
            payload: Vec::new(),
            place: Place { at: 0, frames: 0, base_ms: 0, previous_target: 0, offset: 0 },
            cursor: from,
            begin: from,
            had: Vec::new(),
            skip: 0,
            tally: ReadTally::default(),
        };
        let path = dir.join(directory::segment_name(from.segment));
        if from.segment == 0 || !path.try_exists()? {
            return Ok(reader);
        }
        if reader.enter(from.segment).is_ok_and(|entered| entered) {
            reader.advance_to(from)?;
        }
        reader.tally = ReadTally::default();
        Ok(reader)
    }

    /// Uses what the disk thread of this process publishes: asking again when caught up then costs no system call.
    #[must_use]
    pub fn following(mut self, position: Arc<Position>) -> Self {
        self.position = Some(position);
        self
    }

    /// The next event; `None` when caught up with what is written (call again later).
    ///
    /// # Errors
    /// See [`ReadError`]; the reader may be asked again after any of them.
    pub fn next(&mut self) -> Result<Option<Event<'_>>, ReadError> {
        let found = loop {
            if self.segment.is_none() && !self.enter_next()? {
                return Ok(None);
            }
            match self.step()? {
                Some(_) if self.skip > 0 => {
                    self.skip -= 1;
                    continue;
                }
                Some(_) if self.cursor <= self.begin => continue,
                Some(found) => break found,
                None => {}
            }
            match self.look()? {
                Look::Batch => {}
                Look::Wait => return Ok(None),
                Look::End => self.leave(self.cursor()),
            }
        };
        self.tally.events += 1;
        Ok(Some(self.event(found)))
    }

    /// When the batch was begun that the next event is in, milliseconds by its writer's clock; `None` when caught up.
    ///
    /// # Errors
    /// As of [`Reader::next`].
    pub fn batch_ms(&mut self) -> Result<Option<i64>, ReadError> {
        while self.place.frames == 0 {
            if self.segment.is_none() && !self.enter_next()? {
                return Ok(None);
            }
            match self.look()? {
                Look::Batch => {}
                Look::Wait => return Ok(None),
                Look::End => self.leave(self.cursor()),
            }
        }
        Ok(Some(self.place.base_ms))
    }

    /// Position after the last event given.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        self.cursor.max(self.begin)
    }

    /// What was read since opening.
    #[must_use]
    pub fn tally(&self) -> ReadTally {
        self.tally
    }

    /// Header of the segment being read.
    #[must_use]
    pub fn header(&self) -> Option<Header> {
        self.segment.as_ref().map(|s| s.header)
    }

    /// Dictionary and byte counts of the segment being read, or of the last one.
    #[must_use]
    pub fn frames(&self) -> &Frames {
        &self.frames
    }

    fn event(&self, found: Found) -> Event<'_> {
        let samples = if found.is_stale {
            Samples::Stale { slots: &self.frames.slots }
        } else {
            Samples::Values { values: self.frames.values(found.target), times: &self.frames.times }
        };
        Event {
            target: self.frames.target(found.target),
            shape: self.frames.shape(found.shape),
            time_ms: found.time_ms,
            samples,
        }
    }

    /// The next event of the current batch; `None` when it has no more.
    fn step(&mut self) -> Result<Option<Found>, ReadError> {
        if self.place.frames == 0 {
            return Ok(None);
        }
        match self.frames.next(&mut self.interner, &self.payload, &mut self.place) {
            Ok(found) => {
                if found.is_some() {
                    self.cursor.frame += 1;
                }
                if self.place.frames == 0 {
                    self.cursor.batch = self.segment.as_ref().map_or(0, |s| s.next);
                    self.cursor.frame = 0;
                }
                Ok(found)
            }
            Err(what) => Err(self.damaged(self.place.offset, what)),
        }
    }

    /// Goes forward within the opened segment, up to `to` or the end of what is there.
    fn advance_to(&mut self, to: Cursor) -> io::Result<()> {
        loop {
            // A batch whose first events were consumed is entered; one that begins at or after the cursor is not.
            while self.place.frames > 0 && self.cursor < to {
                if let Err(ReadError::Io { error, .. }) = self.step() {
                    return Err(error);
                }
            }
            let next = self.segment.as_ref().map(|s| s.next);
            let reached = next.is_none_or(|n| n > to.batch || (n == to.batch && to.frame == 0));
            if self.place.frames > 0 || reached {
                return Ok(());
            }
            match self.look() {
                Ok(Look::Batch) => {}
                Ok(Look::Wait) => return Ok(()),
                Ok(Look::End) => {
                    self.leave(to);
                    return Ok(());
                }
                Err(ReadError::Io { error, .. }) => return Err(error),
                Err(_) => return Ok(()),
            }
        }
    }

    /// Opens the oldest segment that is wanted; `false` when there is none yet.
    fn enter_next(&mut self) -> Result<bool, ReadError> {
        if self.nothing_new(|e| e.segment < self.wanted) {
            return Ok(false);
        }
        let all = directory::segments(&self.dir).map_err(|error| self.io_error(&self.dir, error))?;
        let Some(&sequence) = all.iter().find(|&&s| s >= self.wanted) else {
            return Ok(false);
        };
        if self.contiguous && sequence > self.wanted {
            let wanted = std::mem::replace(&mut self.wanted, sequence);
            return Err(ReadError::Gone { wanted, found: sequence });
        }
        self.enter(sequence)
    }

    /// Opens a segment; `false` when its header is not there yet.
    fn enter(&mut self, sequence: u64) -> Result<bool, ReadError> {
        let path = self.dir.join(directory::segment_name(sequence));
        let file = match File::open(&path) {
            Ok(file) => file,
            // Deleted since it was listed: the next look finds what is left.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(self.io_error(&path, error)),
        };
        let mut bytes = [0u8; HEADER_BYTES];
        let have = read_up_to(&file, &mut bytes, 0).map_err(|error| self.io_error(&path, error))?;
        let ended = Ended::load(&self.dir, sequence).map_err(|error| self.io_error(&path, error))?;
        if have == 0
            && ended.is_none()
            && !self.is_abandoned(&file, sequence).map_err(|error| self.io_error(&path, error))?
        {
            return Ok(false);
        }
        let Some(header) = Header::decode(&bytes).or(ended.as_ref().map(|e| e.header)) else {
            // Whoever holds it has failed to write its header, and will remove it or record that it holds nothing.
            if file::is_locked(&file).unwrap_or(false) {
                return Ok(false);
            }
            let skipped_bytes = file.metadata().map_or(0, |m| m.len());
            return Err(self.skip(sequence, |file| ReadError::Damaged {
                file,
                offset: 0,
                skipped_bytes,
                what: "no segment header",
            }));
        };
        if header.version_oldest > VERSION {
            return Err(self.skip(sequence, |file| ReadError::Newer { file, version: header.version_oldest }));
        }
        self.frames.clear();
        self.interner.prune();
        self.wanted = sequence;
        self.contiguous = true;
        self.cursor = Cursor { segment: sequence, batch: 0, frame: 0 };
        self.place.frames = 0;
        self.tally.segments += 1;
        let had = self.had.iter().position(|h| h.boot == header.boot && h.ordinal == header.ordinal);
        self.skip = had.map_or(0, |i| self.had.swap_remove(i).events);
        // An heir is the next segment of its process, or never comes.
        self.had.retain(|h| h.boot != header.boot);
        let ended = ended.filter(|e| e.header == header);
        let (seed, next) = (header.seed(), HEADER_BYTES as u64);
        self.segment = Some(Open { path, file, seed, header, next, ended, is_fixed: false });
        Ok(true)
    }

    /// Whether an empty file is the leftover of a dead process: a later segment is ten seconds newer.
    fn is_abandoned(&self, file: &File, sequence: u64) -> io::Result<bool> {
        let Some(&later) = directory::segments(&self.dir)?.iter().find(|&&s| s > sequence) else {
            return Ok(false);
        };
        let later = std::fs::metadata(self.dir.join(directory::segment_name(later)))?;
        Ok(!file::is_locked(file)? && later.mtime() > file.metadata()?.mtime() + 10)
    }

    /// Passes over segment `sequence` for good.
    fn skip(&mut self, sequence: u64, error: impl FnOnce(PathBuf) -> ReadError) -> ReadError {
        let error = error(self.dir.join(directory::segment_name(sequence)));
        if let ReadError::Damaged { skipped_bytes, .. } = &error {
            self.tally.skipped_bytes += skipped_bytes;
        }
        self.tally.damaged += 1;
        self.segment = None;
        self.place.frames = 0;
        self.wanted = sequence + 1;
        self.contiguous = true;
        self.cursor = Cursor { segment: sequence + 1, batch: 0, frame: 0 };
        error
    }

    /// The current segment is over for a reader that was at `from`.
    fn leave(&mut self, from: Cursor) {
        let ended = self.segment.take().and_then(|s| s.ended);
        if let Some(ended) = ended.filter(|e| e.heir != 0) {
            let (boot, ordinal) = (ended.header.boot, ended.heir);
            let events = self.skip + ended.events_before(from);
            if events > 0 {
                self.had.push(Had { boot, ordinal, events });
            }
        }
        self.skip = 0;
        self.place.frames = 0;
        self.wanted += 1;
        // Standing at the start of the next segment, even before it exists, lets retention have this one. Not so while only
        // the position in this one says how much of the next was read.
        let next = Cursor { segment: self.wanted, batch: 0, frame: 0 };
        self.cursor = if self.had.is_empty() { next } else { from };
    }

    /// Reads whether the current segment ended early, unless that is known. Not of the one that the disk thread of this
    /// process is at: there the record counts when it is at the next one.
    fn learn_end(&mut self, sequence: u64) -> io::Result<()> {
        let is_current = self.is_current(sequence);
        let Some(open) = &mut self.segment else { return Ok(()) };
        if open.is_fixed || is_current {
            return Ok(());
        }
        if open.ended.is_none() {
            // In this order: whoever writes it gives the lock back after the record is there.
            open.is_fixed = !file::is_locked(&open.file).unwrap_or(true);
            open.ended = Ended::load(&self.dir, sequence)?.filter(|e| e.header == open.header);
        }
        open.is_fixed |= open.ended.is_some();
        Ok(())
    }

    fn damaged(&mut self, offset: u64, what: &'static str) -> ReadError {
        let length = self.segment.as_ref().and_then(|s| s.file.metadata().ok()).map_or(offset, |m| m.len());
        let sequence = self.wanted;
        self.skip(sequence, |file| ReadError::Damaged {
            file,
            offset,
            skipped_bytes: length.saturating_sub(offset),
            what,
        })
    }

    /// Whether the disk thread of this process says that there is nothing to find.
    fn nothing_new(&self, behind: impl FnOnce(Extent) -> bool) -> bool {
        self.position.as_ref().map(|p| p.extent()).is_some_and(|e| e.segment != 0 && behind(e))
    }

    /// Looks for the next batch of the current segment and loads it.
    fn look(&mut self) -> Result<Look, ReadError> {
        let Some(open) = &self.segment else { return Ok(Look::End) };
        let (sequence, next) = (self.wanted, open.next);
        if self.nothing_new(|e| e.segment == sequence && e.written_bytes <= next) {
            return Ok(Look::Wait);
        }
        self.learn_end(sequence).map_err(|error| self.io_error(&self.path(), error))?;
        if self.segment.as_ref().and_then(|s| s.ended.as_ref()).is_some_and(|e| e.end_bytes <= next) {
            return Ok(Look::End);
        }
        // Twice, because the writer may have added a batch between our look and its end.
        for attempt in 0..2 {
            let bad = match self.load() {
                Ok(Loaded::Batch) => return Ok(Look::Batch),
                Ok(Loaded::Seal) => return Ok(Look::End),
                Ok(Loaded::Nothing) => None,
                Ok(Loaded::Bad(what)) => Some(what),
                Err(error) => return Err(self.io_error(&self.path(), error)),
            };
            if attempt == 0 && self.is_live(sequence) {
                let synced = self.position.as_ref().map_or(0, |p| p.extent().synced_bytes);
                match bad {
                    Some(what) if self.is_current(sequence) && synced > next => return Err(self.damaged(next, what)),
                    _ => return Ok(Look::Wait),
                }
            }
            if attempt == 1 {
                if let Some(what) = bad {
                    return Err(self.damaged(next, what));
                }
            }
        }
        let later = directory::segments(&self.dir).map_err(|error| self.io_error(&self.dir, error))?;
        Ok(if later.iter().any(|&s| s > sequence) { Look::End } else { Look::Wait })
    }

    fn path(&self) -> PathBuf {
        self.segment.as_ref().map_or_else(|| self.dir.clone(), |s| s.path.clone())
    }

    fn is_current(&self, sequence: u64) -> bool {
        self.position.as_ref().is_some_and(|p| p.extent().segment == sequence)
    }

    /// Whether somebody is still writing the current segment. A file system without locks counts as "yes" until a
    /// newer segment exists.
    fn is_live(&self, sequence: u64) -> bool {
        self.is_current(sequence) || self.segment.as_ref().is_some_and(|s| file::is_locked(&s.file).unwrap_or(false))
    }

    /// Reads the batch at the current place into `payload`.
    fn load(&mut self) -> io::Result<Loaded> {
        let Some(open) = &mut self.segment else { return Ok(Loaded::Nothing) };
        let mut head = [0u8; BATCH_HEADER_BYTES];
        let have = read_up_to(&open.file, &mut head, open.next)?;
        let Some(header) = BatchHeader::decode(&head) else { return Ok(Loaded::Nothing) };
        if have < BATCH_HEADER_BYTES {
            return Ok(Loaded::Bad("a batch header is cut short"));
        }
        let bytes = header.payload_bytes as usize;
        let end = open.next + (BATCH_HEADER_BYTES + bytes) as u64;
        if bytes > BATCH_BYTES_MAX || end > open.file.metadata()?.len() {
            return Ok(Loaded::Bad("a batch is cut short"));
        }
        self.payload.resize(BATCH_HEADER_BYTES + bytes + PADDING_BYTES, 0);
        let whole = &mut self.payload[..BATCH_HEADER_BYTES + bytes];
        if read_up_to(&open.file, whole, open.next)? < whole.len() || !format::is_intact(whole, open.seed, open.next) {
            return Ok(Loaded::Bad("a checksum does not match"));
        }
        if header.is_seal() {
            return Ok(Loaded::Seal);
        }
        self.cursor = Cursor { segment: self.wanted, batch: open.next, frame: 0 };
        self.place = Place {
            at: BATCH_HEADER_BYTES,
            frames: header.frames,
            base_ms: header.base_ms,
            previous_target: u32::MAX,
            offset: open.next,
        };
        open.next = end;
        self.tally.batches += 1;
        Ok(Loaded::Batch)
    }

    fn io_error(&self, path: &Path, error: io::Error) -> ReadError {
        ReadError::Io { file: path.to_owned(), error }
    }
}

enum Loaded {
    Batch,
    Seal,
    /// The file ends here, or zeros follow.
    Nothing,
    Bad(&'static str),
}

/// Reads until the buffer is full or the file ends; returns the bytes read.
fn read_up_to(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match file.read_at(&mut buffer[have..], offset + have as u64) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}
