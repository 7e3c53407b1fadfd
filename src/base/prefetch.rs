//! Hints to the processor: what is needed soon may come into its cache meanwhile. They change nothing but time.

/// Bytes that come at once.
const LINE_BYTES: usize = 64;
/// Lines of one value that are asked for; the rest of a long one is found by the processor itself.
const LINES_MAX: usize = 16;

/// Asks for the bytes of a value.
#[inline]
pub fn prefetch<T: ?Sized>(value: &T) {
    let start = std::ptr::from_ref(value).cast::<u8>();
    for line in 0..size_of_val(value).div_ceil(LINE_BYTES).min(LINES_MAX) {
        ask_for(start.wrapping_add(line * LINE_BYTES));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ask_for(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a hint; it never faults, whatever the address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
}

/// Other processors are not told.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn ask_for(_: *const u8) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_any_size_stay_what_they_are() {
        let long: Vec<u64> = (0..1000).collect();
        prefetch(&long[..]);
        prefetch::<[u64]>(&[]);
        prefetch("text");
        assert!(long.iter().copied().eq(0..1000));
    }
}
