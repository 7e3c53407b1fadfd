//! The soft limit of open files is raised to the hard one at start: every kept connection on epoll is a descriptor.

/// Soft limit after the attempt, and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// Before.
    pub before: u64,
    /// Now in force.
    pub now: u64,
}

/// Raises the soft limit to the hard limit.
#[must_use]
pub fn raise() -> Descriptors {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls read or write one rlimit that lives on this stack.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return Descriptors { before: 0, now: 0 };
        }
        let before = limit.rlim_cur;
        limit.rlim_cur = limit.rlim_max;
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            return Descriptors { before, now: before };
        }
        Descriptors { before, now: limit.rlim_cur }
    }
}
