//! The file that a lane is writing: bytes to their places, reserved space, durability; no decisions.

use super::files::{Files, SegmentFile};
use super::format::{self, BATCH_HEADER_BYTES, HEADER_BYTES, Header};
use super::lane::Work;
use super::writer::Batch;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// Space is reserved in steps of this size.
const RESERVE_BYTES: u64 = 16 << 20;

/// What was tried when it failed, and the system's answer.
pub type Tried<T> = Result<T, (&'static str, io::Error)>;

/// A segment being written.
#[derive(Debug)]
pub struct Open {
    /// The file; closing it gives its lock back.
    pub file: Box<dyn SegmentFile>,
    /// Where it is.
    pub path: PathBuf,
    /// What stands at its start.
    pub header: Header,
    /// Where the last whole batch ends.
    pub written: u64,
    /// Bytes that a returned sync covered.
    pub synced: u64,
    /// A write, a cut or a sync of it has failed: nothing is written to it any more. On Linux a failed sync leaves pages
    /// behind that count as clean, and a later sync that succeeds says nothing about those.
    pub is_spoilt: bool,
    reserved: u64,
    /// The directory entry is durable.
    is_listed: bool,
}

/// A file that there is without a segment in it.
#[derive(Debug)]
pub struct Unbegun {
    /// See [`Open`].
    pub file: Box<dyn SegmentFile>,
    /// See [`Open`].
    pub path: PathBuf,
    /// See [`Open`].
    pub header: Header,
    /// Why.
    pub error: io::Error,
}

impl Open {
    /// Reserves space and writes the header.
    ///
    /// # Errors
    /// The system's, with the file, which is there by then.
    pub fn begin(mut file: Box<dyn SegmentFile>, path: PathBuf, header: Header) -> Result<Self, Unbegun> {
        let r = file.reserve(0, RESERVE_BYTES).and_then(|()| file.write_all_at(&header.encode(), 0));
        if let Err(error) = r {
            return Err(Unbegun { file, path, header, error });
        }
        let written = HEADER_BYTES as u64;
        let reserved = RESERVE_BYTES;
        Ok(Self { file, path, header, written, synced: 0, is_spoilt: false, reserved, is_listed: false })
    }

    fn spoil(&mut self, what: &'static str, error: io::Error) -> (&'static str, io::Error) {
        self.is_spoilt = true;
        (what, error)
    }

    /// Writes a batch to its place. Space that there is not spoils nothing: no byte of the file was touched.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&mut self, batch: &Batch, work: &mut Work) -> Tried<()> {
        let end = batch.offset + batch.bytes.len() as u64;
        if end > self.reserved {
            let bytes = (end - self.reserved).next_multiple_of(RESERVE_BYTES);
            self.file.reserve(self.reserved, bytes).map_err(|e| {
                self.is_spoilt = !is_full(&e);
                ("reserve space for", e)
            })?;
            self.reserved += bytes;
        }
        self.file.write_all_at(&batch.bytes, batch.offset).map_err(|e| self.spoil("write", e))?;
        self.written = end;
        work.written_bytes += batch.bytes.len() as u64;
        work.batches += 1;
        Ok(())
    }

    /// Makes what was written durable, and the file's name.
    ///
    /// # Errors
    /// The system's.
    pub fn sync(&mut self, dir: &Path, files: &dyn Files) -> Tried<()> {
        if !self.is_listed {
            files.sync_dir(dir).map_err(|e| self.spoil("sync the directory of", e))?;
            self.is_listed = true;
        }
        self.file.sync().map_err(|e| self.spoil("sync", e))?;
        self.synced = self.written;
        Ok(())
    }

    /// Whether these batches are on the disk, after a sync: asked where a sync has failed shortly before.
    ///
    /// # Errors
    /// The system's, or what was found instead.
    pub fn check(&mut self, batches: &VecDeque<Batch>) -> Tried<()> {
        let mut bytes = Vec::new();
        for batch in batches {
            bytes.resize(batch.bytes.len(), 0);
            let r = self.file.read_back(&mut bytes, batch.offset);
            let r = r.and_then(|()| if bytes == batch.bytes { Ok(()) } else { Err(io::Error::other(LYING_SYNC)) });
            r.map_err(|e| self.spoil("read back", e))?;
        }
        Ok(())
    }

    /// Writes the seal and cuts the file behind it.
    ///
    /// # Errors
    /// The system's.
    pub fn seal(&mut self) -> Tried<()> {
        let seal = format::seal(self.header.seed(), self.written);
        let r = self.file.write_all_at(&seal, self.written);
        let r = r.and_then(|()| self.file.truncate(self.written + BATCH_HEADER_BYTES as u64));
        r.map_err(|e| self.spoil("seal", e))
    }
}

/// Whether an error says that there is no space, as against a disk that fails.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

const LYING_SYNC: &str = "a sync succeeded that did not put the bytes on the disk";
