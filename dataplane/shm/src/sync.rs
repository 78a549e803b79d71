// SPDX-License-Identifier: Apache-2.0
//! Atomic types of this crate: core's, or loom's in the models (`--cfg loom`).
//!
//! The records of `dataplane-abi` always hold core's atomics. The protocols (ring positions, publication) are generic over
//! [`Word`], so that the models run the same code over loom's. Nothing here blocks.

#[cfg(not(loom))]
pub use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering, fence};

/// One shared u64.
pub trait Word: Send + Sync {
    /// A load that orders nothing.
    fn load_relaxed(&self) -> u64;
    /// A load after which everything before the matching Release store is seen.
    fn load_acquire(&self) -> u64;
    /// A store that orders nothing.
    fn store_relaxed(&self, value: u64);
    /// A store that makes everything before it visible to the matching Acquire load.
    fn store_release(&self, value: u64);
}

macro_rules! word {
    ($ty:ty) => {
        impl Word for $ty {
            #[inline]
            fn load_relaxed(&self) -> u64 {
                self.load(Ordering::Relaxed)
            }
            #[inline]
            fn load_acquire(&self) -> u64 {
                // Pairs with the Release stores of `publish` and `Word::store_release`; without it the reader may see the
                // position and not yet what it covers.
                self.load(Ordering::Acquire)
            }
            #[inline]
            fn store_relaxed(&self, value: u64) {
                self.store(value, Ordering::Relaxed);
            }
            #[inline]
            fn store_release(&self, value: u64) {
                // Pairs with `load_acquire` of the reader; without it the position may be seen before what it covers.
                self.store(value, Ordering::Release);
            }
        }
    };
}
word!(AtomicU64);
#[cfg(loom)]
impl Word for core::sync::atomic::AtomicU64 {
    fn load_relaxed(&self) -> u64 {
        self.load(core::sync::atomic::Ordering::Relaxed)
    }
    fn load_acquire(&self) -> u64 {
        self.load(core::sync::atomic::Ordering::Acquire)
    }
    fn store_relaxed(&self, value: u64) {
        self.store(value, core::sync::atomic::Ordering::Relaxed);
    }
    fn store_release(&self, value: u64) {
        self.store(value, core::sync::atomic::Ordering::Release);
    }
}
