//! CPU time of another process, from the kernel's own account of it.

/// User and system time of all threads that process has and had, nanoseconds: ended threads and the workers of io_uring
/// included, to the resolution of the scheduler's account. `None` when there is no such process.
pub fn time_ns(pid: u32) -> Option<u64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both calls only write to the variables above.
    let known = unsafe {
        libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) == 0
            && libc::clock_gettime(clock, &raw mut time) == 0
    };
    known.then(|| time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// Waits for a child to end, and gives its [`time_ns`] before anyone has collected it.
pub fn time_of_ended_ns(child: u32) -> Option<u64> {
    // SAFETY: all zeros is a valid siginfo_t, which the call only writes to; the child stays to be waited for.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        if libc::waitid(libc::P_PID, child, &raw mut info, libc::WEXITED | libc::WNOWAIT) != 0 {
            return None;
        }
    }
    time_ns(child)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_have_ended_still_count() {
        let me = std::process::id();
        let before = time_ns(me).unwrap();
        let worker = std::thread::spawn(move || while time_ns(me).unwrap() < before + 20_000_000 {});
        worker.join().unwrap();
        assert!(time_ns(me).unwrap() >= before + 20_000_000);
        // No kernel numbers processes beyond 2^22.
        assert_eq!(time_ns(1 << 23), None);
    }

    #[test]
    fn a_child_that_has_ended_has_used_what_it_used() {
        let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done";
        let mut child = std::process::Command::new("sh").args(["-c", script]).spawn().unwrap();
        let used = time_of_ended_ns(child.id()).unwrap();
        assert!(used > 1_000_000, "{used} ns");
        assert!(child.wait().unwrap().success());
        assert_eq!(time_of_ended_ns(child.id()), None);
    }
}
