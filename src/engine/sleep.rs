//! Sleeping: to a point in time, or until one of a few descriptors is readable.

use std::os::fd::RawFd;

use crate::base::time::Now;

/// The descriptors whose readability ends a sleep.
#[derive(Debug, Default)]
pub(crate) struct Sleeper {
    fds: Vec<libc::pollfd>,
}

impl Sleeper {
    pub(crate) fn watch(&mut self, fd: RawFd) {
        self.fds.push(libc::pollfd { fd, events: libc::POLLIN, revents: 0 });
    }

    /// Sleeps to the next tick, at most to `until`; false when that is all there is to wait for.
    pub(crate) fn tick(now: Now, until: Option<u64>, tick_ns: u64) -> (Now, bool) {
        let tick = now.mono_ns + tick_ns;
        nap(until.map_or(tick, |u| u.min(tick)));
        let after = Now::read();
        (after, until.is_none_or(|u| u > after.mono_ns))
    }

    /// Sleeps until a watched descriptor or `completions` is readable, or `until`.
    pub(crate) fn readable_or(&mut self, completions: RawFd, now: Now, until: Option<u64>) -> Now {
        self.watch(completions);
        let woken = self.readable(now, until);
        self.fds.pop();
        woken
    }

    /// Sleeps until a watched descriptor is readable or `until`.
    pub(crate) fn readable(&mut self, now: Now, until: Option<u64>) -> Now {
        let left = until.map(|u| {
            let ns = u.saturating_sub(now.mono_ns);
            libc::timespec { tv_sec: (ns / 1_000_000_000) as libc::time_t, tv_nsec: (ns % 1_000_000_000) as _ }
        });
        let timeout = left.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
        // SAFETY: the array is valid for its length, the timeout is null or valid; an early return by signal is fine.
        unsafe { libc::ppoll(self.fds.as_mut_ptr(), self.fds.len() as libc::nfds_t, timeout, std::ptr::null()) };
        Now::read()
    }
}

/// Sleeps to a point of the monotonic clock.
fn nap(mono_ns: u64) {
    let at =
        libc::timespec { tv_sec: (mono_ns / 1_000_000_000) as libc::time_t, tv_nsec: (mono_ns % 1_000_000_000) as _ };
    // SAFETY: `at` is valid; an early return by signal is fine.
    unsafe { libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &raw const at, std::ptr::null_mut()) };
}
