//! Memory that the kernel reads and writes: unsent requests, the receive buffers shared by all rings of a thread, and their lists.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{IoUring, types};

use super::Chunk;
use crate::base::limits::{RECV_BUFFER_BYTES, RECV_BUFFERS};

/// Requests that are not wholly sent yet. Their bytes do not move until they are freed.
#[derive(Debug, Default)]
pub(super) struct Requests {
    kept: Vec<(Vec<u8>, usize)>,
    free: Vec<u32>,
}

impl Requests {
    /// Takes a request and leaves an empty buffer for the next one.
    pub(super) fn keep(&mut self, request: &mut Vec<u8>) -> u32 {
        let at = self.free.pop().unwrap_or_else(|| {
            self.kept.push((Vec::new(), 0));
            self.kept.len() as u32 - 1
        });
        let (bytes, sent) = &mut self.kept[at as usize];
        std::mem::swap(bytes, request);
        *sent = 0;
        request.clear();
        at
    }

    pub(super) fn unsent(&self, at: u32) -> &[u8] {
        let (bytes, sent) = &self.kept[at as usize];
        &bytes[*sent..]
    }

    /// Notes `n` more bytes as sent; true when that was all.
    pub(super) fn sent(&mut self, at: u32, n: usize) -> bool {
        let (bytes, sent) = &mut self.kept[at as usize];
        *sent += n;
        *sent == bytes.len()
    }

    /// Forgets a request; its buffer is used again.
    pub(super) fn free(&mut self, at: u32) {
        // A request may hold credentials: its buffer must not lie around with them.
        self.kept[at as usize].0.fill(0);
        self.free.push(at);
    }
}

/// Anonymous memory of the kernel's page granularity.
#[derive(Debug)]
pub(crate) struct Pages {
    at: NonNull<u8>,
    len: usize,
}

impl Pages {
    pub(crate) fn new(len: usize) -> Result<Self, i32> {
        // SAFETY: a fresh anonymous mapping; nothing else refers to it.
        let at = unsafe {
            let (rights, kind) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            libc::mmap(std::ptr::null_mut(), len, rights, kind, -1, 0)
        };
        if at == libc::MAP_FAILED {
            return Err(super::sock::errno());
        }
        Ok(Self { at: NonNull::new(at.cast()).expect("mmap never maps the zero page"), len })
    }

    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.at.as_ptr()
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours; the owner made sure that the kernel no longer uses it.
        unsafe { libc::munmap(self.as_ptr().cast(), self.len) };
    }
}

/// The receive buffers of a thread. Every ring lists all of them: only one ring is entered at a time, and it is emptied
/// before the next, so a buffer is never filled twice.
#[derive(Debug)]
pub(super) struct Pool {
    pages: Pages,
}

impl Pool {
    pub(super) fn new() -> Result<Self, i32> {
        Ok(Self { pages: Pages::new(RECV_BUFFER_BYTES * RECV_BUFFERS as usize)? })
    }

    pub(super) fn address(&self, buffer: u16) -> *mut u8 {
        assert!(buffer < RECV_BUFFERS);
        // SAFETY: within the mapping, by the assertion.
        unsafe { self.pages.as_ptr().add(buffer as usize * RECV_BUFFER_BYTES) }
    }

    pub(super) fn bytes(&self, chunk: Chunk) -> &[u8] {
        assert!(chunk.len as usize <= RECV_BUFFER_BYTES);
        // SAFETY: inside one buffer; the kernel writes to it only while its ring is entered, which needs `&mut` of the
        // backend that lends this slice.
        unsafe { std::slice::from_raw_parts(self.address(chunk.buffer), chunk.len as usize) }
    }

    pub(super) fn bytes_mut(&mut self, chunk: Chunk) -> &mut [u8] {
        assert!(chunk.len as usize <= RECV_BUFFER_BYTES);
        // SAFETY: as in `bytes`; `&mut self` keeps every other slice of the pool away.
        unsafe { std::slice::from_raw_parts_mut(self.address(chunk.buffer), chunk.len as usize) }
    }
}

/// The buffer ring of one ring: lists the shared buffers to the kernel, as many as there are reads. The kernel takes them
/// in the order of the list; those used last are listed first, so that few reads stay within few buffers, which are still
/// in the cache.
pub(super) struct BufferList {
    pages: Pages,
    tail: u16,
    /// Listed and not filled yet.
    listed: u16,
    /// The others, the one used last at the end.
    free: Vec<u16>,
}

impl BufferList {
    pub(super) fn new(io: &IoUring, pool: &Pool) -> Result<Self, i32> {
        const { assert!(RECV_BUFFERS as usize * size_of::<types::BufRingEntry>() <= 2048) };
        let pages = Pages::new(4096)?;
        // SAFETY: page-aligned, large enough, unmapped only after the ring is gone.
        unsafe { io.submitter().register_buf_ring_with_flags(pages.as_ptr() as u64, RECV_BUFFERS, 0, 0) }
            .map_err(|e| e.raw_os_error().unwrap_or(libc::EIO))?;
        let mut list = Self { pages, tail: 0, listed: 0, free: (0..RECV_BUFFERS).collect() };
        list.lend(pool, 1);
        Ok(list)
    }

    /// A byte that the kernel may write to and nobody reads: behind the entries, on the same page.
    pub(super) fn spare_byte(&self) -> *mut u8 {
        // SAFETY: the list is smaller than half a page, and mappings are whole pages.
        unsafe { self.pages.as_ptr().add(2048) }
    }

    /// Lists buffers for so many reads, as far as there are some.
    pub(super) fn lend(&mut self, pool: &Pool, reads: u32) {
        let wanted = u16::try_from(reads).unwrap_or(RECV_BUFFERS).min(RECV_BUFFERS);
        if self.listed >= wanted {
            return;
        }
        let base = self.pages.as_ptr().cast::<types::BufRingEntry>();
        while self.listed < wanted
            && let Some(buffer) = self.free.pop()
        {
            // SAFETY: the index is below the number of entries; the kernel reads an entry only below the tail.
            let entry = unsafe { &mut *base.add(usize::from(self.tail & (RECV_BUFFERS - 1))) };
            entry.set_addr(pool.address(buffer) as u64);
            entry.set_len(RECV_BUFFER_BYTES as u32);
            entry.set_bid(buffer);
            self.tail = self.tail.wrapping_add(1);
            self.listed += 1;
        }
        // SAFETY: `base` is the first entry of the registered list, whose tail the kernel reads atomically.
        unsafe { (*types::BufRingEntry::tail(base).cast::<AtomicU16>()).store(self.tail, Ordering::Release) };
    }

    /// The kernel filled a buffer. It is read before the next call of [`BufferList::lend`].
    pub(super) fn filled(&mut self, buffer: u16) {
        self.listed -= 1;
        self.free.push(buffer);
    }
}
