//! The file calls of the disk thread, behind a trait so that tests can fail, stall and lose power.

use crate::base::file::{self, Space};
use std::fmt::Debug;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

/// File system as the disk thread uses it.
pub trait Files: Send + Sync + Debug {
    /// Makes a directory and its parents, mode 0700, durably.
    ///
    /// # Errors
    /// The system's; an existing directory is none.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes a file that did not exist, mode 0600, and takes its lock.
    ///
    /// # Errors
    /// The system's; `AlreadyExists` when another process was faster.
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>>;
    /// Makes the directory's entries durable.
    ///
    /// # Errors
    /// The system's.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Puts a file with these contents in the place of `path`, whole or not at all, durably.
    ///
    /// # Errors
    /// The system's; the old file then stands, or the new one.
    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    /// Writes these contents over the start of a file, and leaves what is behind them. The disk is not waited for: a power loss
    /// leaves any part.
    ///
    /// # Errors
    /// The system's; any part may then be written.
    fn overwrite(&self, path: &Path, contents: &[u8]) -> io::Result<()>;
    /// Size and free space of the file system.
    ///
    /// # Errors
    /// The system's.
    fn space(&self, dir: &Path) -> io::Result<Space>;
}

/// A segment being written.
pub trait SegmentFile: Send + Debug {
    /// Reserves space ahead, without changing the size.
    ///
    /// # Errors
    /// The system's.
    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()>;
    /// Writes all bytes at a place.
    ///
    /// # Errors
    /// The system's; any part of the bytes may then be written.
    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable.
    ///
    /// # Errors
    /// The system's. What was written since the last success may be lost even if a later call succeeds.
    fn sync(&mut self) -> io::Result<()>;
    /// Reads bytes, from memory where it has them.
    ///
    /// # Errors
    /// The system's.
    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Reads bytes as the disk has them, not as memory does, where the system allows it.
    ///
    /// # Errors
    /// The system's.
    fn read_back(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Cuts the file, and returns space reserved beyond.
    ///
    /// # Errors
    /// The system's.
    fn truncate(&mut self, bytes: u64) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        if dir.is_dir() {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        for made in dir.ancestors().skip(1).take(2).filter(|p| !p.as_os_str().is_empty()) {
            self.sync_dir(made)?;
        }
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        let made = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        // Without locks readers of other processes cannot tell a live segment from an abandoned one; nothing else ails.
        let _ = file::lock(&made);
        Ok(Box::new(made))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn replace(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        let fresh = path.with_extension("new");
        let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        let r = made.write_all_at(contents, 0).and_then(|()| made.sync_data());
        // A name left over would keep a directory from ever being empty.
        r.and_then(|()| std::fs::rename(&fresh, path)).inspect_err(|_| drop(std::fs::remove_file(&fresh)))?;
        path.parent().map_or(Ok(()), |dir| self.sync_dir(dir))
    }

    fn overwrite(&self, path: &Path, contents: &[u8]) -> io::Result<()> {
        // Not cut first: file systems take that for a replacement, and begin to write at once.
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        FileExt::write_all_at(&open, contents, 0)
    }

    fn space(&self, dir: &Path) -> io::Result<Space> {
        file::space(dir)
    }
}

impl SegmentFile for File {
    fn reserve(&mut self, offset: u64, bytes: u64) -> io::Result<()> {
        file::reserve(self, offset, bytes)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        FileExt::write_all_at(self, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn read_at(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn read_back(&mut self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        file::forget_cached(self);
        self.read_exact_at(bytes, offset)
    }

    fn truncate(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }
}
