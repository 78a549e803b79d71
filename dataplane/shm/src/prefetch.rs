// SPDX-License-Identifier: Apache-2.0
//! Asking for cache lines ahead of their use. A hint and nothing else: it reads nothing, and no address makes it fault.
#![expect(unsafe_code, reason = "the instruction takes an address")]

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the first `lines` cache lines of a place, as far as it goes.
#[inline]
pub fn prefetch<T>(place: &T, lines: usize) {
    let start = core::ptr::from_ref(place).cast::<u8>();
    for line in 0..lines.min(size_of::<T>().div_ceil(LINE)) {
        ask(start.wrapping_add(line * LINE));
    }
}

#[cfg(target_arch = "x86_64")]
#[inline]
fn ask(address: *const u8) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: because a prefetch is a hint, it is sound for any address: the processor ignores those that it cannot reach.
    // JUSTIFICATION: `cargo xtask bench forward`, 1 to 3000.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline]
fn ask(_: *const u8) {}
