//! Bounded one-reader mailboxes with a wake-up: the only way anything crosses between threads.
//!
//! The wake-up is an eventfd that the reader's
//! engine watches, so a sleeping shard starts its turn at once.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;

use super::queue::{Receiver, Sender, queue};

/// Wakes one reader. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

impl Waker {
    /// # Errors
    /// The system's, when no descriptor can be had.
    pub fn new() -> std::io::Result<Self> {
        // SAFETY: plain system call; a non-negative result is a descriptor that nobody else owns.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: see above.
        Ok(Self(Arc::new(unsafe { OwnedFd::from_raw_fd(fd) })))
    }

    /// Makes the descriptor readable. Never blocks.
    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes and a live descriptor. A full counter is already awake.
        let _ = unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), 8) };
    }

    /// Clears the wake-up; called by the reader before it empties its mailbox.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes and a live descriptor.
        let _ = unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), 8) };
    }

    /// The descriptor to watch for readability.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Writing end. What happens when full is the caller's decision: see [`Outbox::post`].
#[derive(Debug)]
pub struct Outbox<T> {
    queue: Sender<T>,
    waker: Waker,
}

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waker: self.waker.clone() }
    }
}

impl<T> Outbox<T> {
    /// Puts a message and wakes the reader.
    ///
    /// # Errors
    /// Gives the message back when the mailbox is full or the reader is gone.
    pub fn post(&self, message: T) -> Result<(), T> {
        self.queue.try_send(message)?;
        self.waker.wake();
        Ok(())
    }

    /// The reader's wake-up alone.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// Reading end.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Receiver<T>,
    waker: Waker,
}

impl<T> Inbox<T> {
    /// The next message, if there is one. Never blocks.
    pub fn take(&self) -> Option<T> {
        self.queue.try_recv()
    }

    /// What to watch while asleep.
    #[must_use]
    pub fn waker(&self) -> &Waker {
        &self.waker
    }
}

/// A mailbox of `bound` messages.
///
/// # Errors
/// The system's, when no descriptor can be had.
pub fn mailbox<T>(bound: usize) -> std::io::Result<(Outbox<T>, Inbox<T>)> {
    let waker = Waker::new()?;
    let (tx, rx) = queue(bound);
    Ok((Outbox { queue: tx, waker: waker.clone() }, Inbox { queue: rx, waker }))
}
