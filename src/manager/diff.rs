//! What a reload or a discovery update changed, in one line.

use std::fmt;
use std::ops::AddAssign;

/// Prints as `+120 -48 ~3, jobs changed: node`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReloadDiff {
    /// Targets that started.
    pub added: usize,
    /// Targets that stopped.
    pub removed: usize,
    /// Targets that were replaced by one of equal public labels (another URL, interval, ...).
    pub changed: usize,
    /// Entries that were relabelled.
    pub relabelled: usize,
    /// Jobs that are new, gone or otherwise configured, in name order.
    pub jobs_changed: Vec<String>,
}

impl ReloadDiff {
    /// Whether no target and no job changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added + self.removed + self.changed == 0 && self.jobs_changed.is_empty()
    }
}

impl AddAssign for ReloadDiff {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.removed += other.removed;
        self.changed += other.changed;
        self.relabelled += other.relabelled;
        self.jobs_changed.extend(other.jobs_changed);
    }
}

impl fmt::Display for ReloadDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "+{} -{} ~{}", self.added, self.removed, self.changed)?;
        if !self.jobs_changed.is_empty() {
            write!(f, ", jobs changed: {}", self.jobs_changed.join(" "))?;
        }
        Ok(())
    }
}
