//! Time as a value: wall clock for timestamps and phases, monotonic clock for deadlines.

/// One reading of both clocks. Taken once per turn by the owner of a thread and passed down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Nanoseconds since the Unix epoch; may step.
    pub wall_ns: i64,
    /// Nanoseconds since some fixed point; never steps.
    pub mono_ns: u64,
}

impl Now {
    /// Reads both clocks of the system.
    #[must_use]
    pub fn read() -> Self {
        Self { wall_ns: clock_ns(libc::CLOCK_REALTIME), mono_ns: clock_ns(libc::CLOCK_MONOTONIC) as u64 }
    }

    /// Milliseconds since the Unix epoch, rounded down: the unit of sample timestamps.
    #[must_use]
    pub fn wall_ms(self) -> i64 {
        self.wall_ns.div_euclid(1_000_000)
    }
}

/// CPU time that the calling thread has used, nanoseconds. A system call.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID) as u64
}

fn clock_ns(clock: libc::clockid_t) -> i64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `t` is a valid timespec to write to; these clocks exist on every Linux.
    let r = unsafe { libc::clock_gettime(clock, &raw mut t) };
    assert!(r == 0, "clock_gettime failed");
    t.tv_sec * 1_000_000_000 + t.tv_nsec
}
