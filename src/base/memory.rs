//! Memory that is free goes back to the system early: the C library's allocator keeps up to 32 MB of it otherwise.

/// Free memory above this, at the end of the heap or in blocks of its own, is returned at once. Measured with 10,000
/// targets of 18 samples: 29 instead of 32 MiB resident, for 0.1 to 0.3 us a scrape.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT_BYTES: libc::c_int = 256 << 10;

/// Tells the allocator; to be called before the first thread. Other C libraries than glibc have nothing to be told.
pub fn return_early() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: plain calls that set two numbers; a refusal leaves them as they are.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, KEPT_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Gives back the whole pages that are free between blocks in use, after much was freed at once. Takes as long as there is to
/// give, about 0.1 us a page, and holds up other threads' allocations by as much.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: touches only what is free.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// A fault in a program file maps at most so much of it. Without pieces it is 64 to 128 KB, of which the work of a shard, a
/// sender and the web uses a third: 2.6 MB more resident.
const PIECE_BYTES: usize = 8 << 10;

/// Gives back what a start or a reload needed and the work does not: the pages of program files that are mapped so far. They
/// are clean and in the page cache; what is used again is mapped again, a piece at a fault.
pub fn settle() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/smaps") else { return };
    for range in untouched_files(&maps) {
        // The kernel maps neighbours of a page with it, as far as its mapping goes, and joins mappings that are alike.
        // Every second piece is left out of core dumps, which have no program files anyway.
        for (from, to) in pieces(range).filter(|piece| (piece.0 / PIECE_BYTES).is_multiple_of(2)) {
            advise((from, to), libc::MADV_DONTDUMP);
        }
        advise(range, libc::MADV_DONTNEED);
    }
}

fn advise((from, to): (usize, usize), advice: libc::c_int) {
    // SAFETY: only for private mappings of files, never written to: the next access reads the same bytes from the file.
    // A range that is not mapped any more is refused.
    unsafe { libc::madvise(from as *mut libc::c_void, to - from, advice) };
}

/// A range cut at the multiples of [`PIECE_BYTES`].
fn pieces((from, to): (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let first = from / PIECE_BYTES * PIECE_BYTES;
    (first..to).step_by(PIECE_BYTES).map(move |piece| (piece.max(from), (piece + PIECE_BYTES).min(to)))
}

/// Private mappings of files that cannot be written to and have no page of their own (which would hold a relocation or a
/// breakpoint), as address ranges.
fn untouched_files(smaps: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut range = None;
    for line in smaps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (first, second) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        if let Some((from, to)) = first.split_once('-') {
            let address = |hex| usize::from_str_radix(hex, 16).ok();
            let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
            range = address(from).zip(address(to)).filter(|_| is_file && matches!(second, "r-xp" | "r--p"));
        } else if first == "Private_Dirty:"
            && let Some(untouched) = range.take().filter(|_| second == "0")
        {
            found.push(untouched);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_changed_is_given_back() {
        let maps = "55d0-55d8 r--p 00000000 fd:00 12 /usr/bin/r\nRss:  20 kB\nPrivate_Dirty:         0 kB\n\
            55d8-55f0 r-xp 00008000 fd:00 12 /usr/bin/r\nRss:  20 kB\nPrivate_Dirty:         0 kB\n\
            55f0-55f8 r--p 00020000 fd:00 12 /usr/bin/r\nPrivate_Dirty:        32 kB\n\
            55f8-55fc rw-p 00028000 fd:00 12 /usr/bin/r\nPrivate_Dirty:         0 kB\n\
            7f00-7f10 r-xp 00000000 fd:00 13 /usr/lib/patched.so\nPrivate_Dirty:         4 kB\n\
            7fff-8000 r-xp 00000000 00:00 0  [vdso]\nPrivate_Dirty:         0 kB\n\
            8000-8010 r-xp 00000000 00:00 0\nPrivate_Dirty:         0 kB\n";
        assert_eq!(untouched_files(maps), [(0x55d0, 0x55d8), (0x55d8, 0x55f0)]);
    }

    #[test]
    fn pieces_cover_a_range_whatever_it_begins_with() {
        let cut: Vec<_> = pieces((0x13000, 0x18000)).collect();
        assert_eq!(cut, [(0x13000, 0x14000), (0x14000, 0x16000), (0x16000, 0x18000)]);
        assert_eq!(pieces((0x13000, 0x14000)).collect::<Vec<_>>(), [(0x13000, 0x14000)]);
    }

    #[test]
    fn the_program_goes_on_after_it() {
        settle();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let own = untouched_files(&maps);
        assert!(own.len() > 100, "{} pieces", own.len());
        settle();
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        assert!(own.len().abs_diff(untouched_files(&maps).len()) < 10, "cut once, in the same places");
    }
}
