//! How far a shard's journal is written, for readers in the same process; and their wake-up.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How far one shard's newest segment is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// Number of the segment being written; 0 while there is none.
    pub segment: u64,
    /// Bytes of it that a reader may read.
    pub written_bytes: u64,
    /// Bytes of it that survive a power loss.
    pub synced_bytes: u64,
}

/// Called when bytes were written or synced. Must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// Published by the disk thread, read by any number of readers. A lock, not atomics: the three numbers belong
/// together, and neither side looks more than some times a second.
#[derive(Default)]
pub struct Position {
    extent: Mutex<Extent>,
    wakes: Mutex<Vec<Wake>>,
}

impl Position {
    /// The newest extent.
    #[must_use]
    pub fn extent(&self) -> Extent {
        *entered(self.extent.lock())
    }

    /// Calls `wake` after every change from now on.
    pub fn on_change(&self, wake: Wake) {
        entered(self.wakes.lock()).push(wake);
    }

    /// Publishes; only the disk thread does.
    pub fn publish(&self, extent: Extent) {
        let changed = {
            let mut now = entered(self.extent.lock());
            let changed = *now != extent;
            *now = extent;
            changed
        };
        if changed {
            for wake in entered(self.wakes.lock()).iter() {
                wake();
            }
        }
    }
}

/// A panic elsewhere while a plain value was being copied leaves the value whole.
pub fn entered<'a, T>(lock: Result<MutexGuard<'a, T>, PoisonError<MutexGuard<'a, T>>>) -> MutexGuard<'a, T> {
    lock.unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Position").field("extent", &self.extent()).finish_non_exhaustive()
    }
}
