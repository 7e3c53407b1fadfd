//! Bounded one-reader mailboxes with a wake-up: the only way anything crosses between threads.
//!
//! The wake-up is an eventfd that the reader's engine watches, so a sleeping shard starts its turn at once.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::queue::{Receiver, Sender, queue};

/// Wakes one reader. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker(Arc<Bell>);

#[derive(Debug)]
struct Bell {
    fd: OwnedFd,
    /// Rung since the reader last looked: no need to ring again. A million messages are a million system calls otherwise.
    is_rung: AtomicBool,
}

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
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self(Arc::new(Bell { fd, is_rung: AtomicBool::new(false) })))
    }

    /// Makes the descriptor readable. Never blocks. What was written before is seen by a reader that clears and then looks.
    pub fn wake(&self) {
        if self.0.is_rung.swap(true, Ordering::AcqRel) {
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes and a live descriptor. A full counter is already awake.
        let _ = unsafe { libc::write(self.fd(), one.as_ptr().cast(), 8) };
    }

    /// Clears the wake-up; called by the reader before it empties its mailbox.
    pub fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes and a live descriptor.
        let _ = unsafe { libc::read(self.fd(), count.as_mut_ptr().cast(), 8) };
        // After the read, so that who rings now is heard. Who rang before without being heard wrote its message before.
        self.0.is_rung.swap(false, Ordering::AcqRel);
    }

    /// The descriptor to watch for readability.
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.0.fd.as_raw_fd()
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether the descriptor becomes readable.
    fn rings(fd: RawFd) -> bool {
        let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid entry.
        unsafe { libc::poll(&raw mut poll, 1, 5_000) == 1 }
    }

    #[test]
    fn no_message_waits_for_a_reader_that_sleeps() {
        const EACH: usize = 50_000;
        let (out, inbox) = mailbox(64).unwrap();
        let writer = |out: Outbox<usize>| {
            move || {
                for i in 0..EACH {
                    while out.post(i).is_err() {
                        std::thread::yield_now();
                    }
                }
            }
        };
        let writers = [std::thread::spawn(writer(out.clone())), std::thread::spawn(writer(out))];
        let mut taken = 0;
        while taken < 2 * EACH {
            assert!(rings(inbox.waker().fd()), "{taken} taken");
            inbox.waker().clear();
            while inbox.take().is_some() {
                taken += 1;
            }
        }
        writers.into_iter().for_each(|w| w.join().unwrap());
    }

    #[test]
    fn many_rings_are_one_and_the_next_one_is_heard() {
        let waker = Waker::new().unwrap();
        waker.wake();
        waker.clone().wake();
        assert!(rings(waker.fd()));
        waker.clear();
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes and a live descriptor.
        assert_eq!(unsafe { libc::read(waker.fd(), count.as_mut_ptr().cast(), 8) }, -1, "nothing is left");
        waker.wake();
        assert!(rings(waker.fd()));
    }
}
