//! A bounded queue between threads whose memory grows with what waits in it.
//!
//! The standard library's bounded channel takes the room of a full one from the start, 0.3 MB for each of ours.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

pub use std::sync::mpsc::RecvTimeoutError;

/// Writing end; any number of threads.
#[derive(Debug)]
pub struct Sender<T> {
    queue: mpsc::Sender<T>,
    waiting: Arc<AtomicUsize>,
    bound: usize,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        Self { queue: self.queue.clone(), waiting: Arc::clone(&self.waiting), bound: self.bound }
    }
}

/// Reading end.
#[derive(Debug)]
pub struct Receiver<T> {
    queue: mpsc::Receiver<T>,
    waiting: Arc<AtomicUsize>,
}

/// A queue of at most `bound` messages.
#[must_use]
pub fn queue<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let (tx, rx) = mpsc::channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    (Sender { queue: tx, waiting: Arc::clone(&waiting), bound }, Receiver { queue: rx, waiting })
}

impl<T> Sender<T> {
    /// Puts a message. Never blocks.
    ///
    /// # Errors
    /// Gives the message back when the queue is full or the reader is gone.
    pub fn try_send(&self, message: T) -> Result<(), T> {
        // The count only bounds: the channel itself orders what is written before and read after.
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.bound {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(message);
        }
        self.queue.send(message).map_err(|mpsc::SendError(m)| m)
    }

    /// Puts the last message of all, which has room in a full queue too. Nothing, when the reader is gone.
    pub fn send_last(&self, message: T) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let _ = self.queue.send(message);
    }
}

impl<T> Receiver<T> {
    /// The next message, if there is one. Never blocks.
    #[must_use]
    pub fn try_recv(&self) -> Option<T> {
        let message = self.queue.try_recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(message)
    }

    /// The next message.
    ///
    /// # Errors
    /// After that time without one, or when no writer is left.
    pub fn recv_timeout(&self, time: Duration) -> Result<T, RecvTimeoutError> {
        let message = self.queue.recv_timeout(time)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(message)
    }

    /// Messages until there is none.
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| self.try_recv())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_until_something_is_taken() {
        let (tx, rx) = queue(2);
        assert_eq!((tx.try_send(1), tx.clone().try_send(2), tx.try_send(3)), (Ok(()), Ok(()), Err(3)));
        assert_eq!(rx.try_recv(), Some(1));
        assert_eq!((tx.try_send(4), tx.try_send(5)), (Ok(()), Err(5)));
        tx.send_last(6);
        assert_eq!(rx.recv_timeout(Duration::ZERO), Ok(2));
        assert_eq!(rx.try_iter().collect::<Vec<_>>(), [4, 6]);
    }

    #[test]
    fn ends_are_noticed() {
        let (tx, rx) = queue(1);
        assert_eq!(rx.recv_timeout(Duration::ZERO), Err::<u8, _>(RecvTimeoutError::Timeout));
        drop(rx);
        assert_eq!(tx.try_send(1), Err(1));
        tx.send_last(1);
        let (tx, rx) = queue::<u8>(1);
        drop(tx);
        assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Disconnected));
    }

    #[test]
    fn two_writers_never_pass_the_bound() {
        let (tx, rx) = queue(8);
        let writer = |tx: Sender<u32>| move || (0..10_000).filter(|&i| tx.try_send(i).is_ok()).count();
        let threads = [std::thread::spawn(writer(tx.clone())), std::thread::spawn(writer(tx))];
        let mut taken = 0;
        while rx.recv_timeout(Duration::from_secs(5)).is_ok() {
            taken += 1;
            assert!(rx.waiting.load(Ordering::Relaxed) <= 8 + 2, "at most each writer's attempt is above");
        }
        assert_eq!(threads.map(|t| t.join().unwrap()).iter().sum::<usize>(), taken);
    }
}
