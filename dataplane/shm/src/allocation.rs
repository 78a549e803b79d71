// SPDX-License-Identifier: Apache-2.0
//! A global allocator that counts per thread, so that "no allocation after start" is a number and not a hope.
//!
//! It is in every data plane, not in a special build: what the labs prove is what people run. It costs a thread-local
//! increment per allocation, and there are none on the packet path.
#![expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait; each call is passed on unchanged")]

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of the calling thread so far.
#[must_use]
pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

fn count() {
    // `try_with` because a thread may allocate while its locals are torn down.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get().wrapping_add(1)));
}

/// Counts, and lets `A` do the work.
#[derive(Debug, Default)]
pub struct Counting<A>(pub A);

// SAFETY: every call goes to `A` with the arguments that came, so `A`'s guarantees are this allocator's, because counting
// touches a thread-local integer without a destructor and nothing else.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on, because it is the same layout.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise about `layout` is passed on, because it is the same layout.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `A` with `layout`, because every allocation above did.
        unsafe { self.0.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: `pointer` came from `A` with `layout`, because every allocation above did.
        unsafe { self.0.realloc(pointer, layout, size) }
    }
}
