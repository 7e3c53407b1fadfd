//! File calls that the standard library lacks: whole-file locks, preallocation, free space.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Takes the exclusive lock of the whole file; waits while somebody has it. Ends when the file is closed.
///
/// # Errors
/// The system's, for example on a file system without locks.
pub fn lock(file: &File) -> io::Result<()> {
    flock(file, libc::LOCK_EX)
}

/// Takes the exclusive lock unless somebody has a lock.
///
/// # Errors
/// The system's, `WouldBlock` excepted.
pub fn try_lock(file: &File) -> io::Result<bool> {
    not_blocked(flock(file, libc::LOCK_EX | libc::LOCK_NB))
}

/// Whether somebody else has the exclusive lock at this moment.
///
/// # Errors
/// The system's.
pub fn is_locked(file: &File) -> io::Result<bool> {
    if !not_blocked(flock(file, libc::LOCK_SH | libc::LOCK_NB))? {
        return Ok(true);
    }
    flock(file, libc::LOCK_UN)?;
    Ok(false)
}

fn not_blocked(r: io::Result<()>) -> io::Result<bool> {
    match r {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

fn flock(file: &File, how: libc::c_int) -> io::Result<()> {
    loop {
        // SAFETY: a live descriptor; the call takes no pointers.
        if unsafe { libc::flock(file.as_raw_fd(), how) } == 0 {
            return Ok(());
        }
        let e = io::Error::last_os_error();
        if e.kind() != io::ErrorKind::Interrupted {
            return Err(e);
        }
    }
}

/// Reserves blocks for `bytes` from `offset` without changing the file's size. File systems that cannot are no error.
///
/// # Errors
/// The system's, among them "no space".
pub fn reserve(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let (offset, bytes) = (offset as libc::off_t, bytes as libc::off_t);
    // SAFETY: a live descriptor; the call takes no pointers.
    if unsafe { libc::fallocate(file.as_raw_fd(), libc::FALLOC_FL_KEEP_SIZE, offset, bytes) } == 0 {
        return Ok(());
    }
    let e = io::Error::last_os_error();
    match e.raw_os_error() {
        Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::EINVAL | libc::EINTR) => Ok(()),
        _ => Err(e),
    }
}

/// Asks the system to drop what it has of a file in memory, so that the next read comes from the disk. Pages that are not
/// written back yet stay; some file systems ignore it.
pub fn forget_cached(file: &File) {
    // SAFETY: a live descriptor; the call takes no pointers.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

/// Size of a file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that this process may still use.
    pub free_bytes: u64,
}

/// Space of the file system that holds `path`.
///
/// # Errors
/// The system's.
pub fn space(path: &Path) -> io::Result<Space> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: an all-zero statvfs is valid; the path ends with a zero byte; the call writes at most the structure.
    let (r, s) = unsafe {
        let mut s: libc::statvfs = std::mem::zeroed();
        (libc::statvfs(path.as_ptr(), &raw mut s), s)
    };
    if r != 0 {
        return Err(io::Error::last_os_error());
    }
    let block = s.f_frsize as u64;
    Ok(Space { total_bytes: block * s.f_blocks as u64, free_bytes: block * s.f_bavail as u64 })
}
