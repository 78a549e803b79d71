// SPDX-License-Identifier: Apache-2.0
//! The AF_XDP port between two network namespaces of the test's own: real rings, real frames, the kernel as the peer.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "an integration test is a test module"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

mod bed;
mod hops;
mod packets;
mod program;
mod rebind;
mod set;
mod shared;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations of the calling thread.
fn allocations() -> u64 {
    ALLOCATIONS.get()
}

struct Counting;

// SAFETY: because every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: because the caller's promise is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: because the caller's promise is the same.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;
