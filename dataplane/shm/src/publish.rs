// SPDX-License-Identifier: Apache-2.0
//! Every store that a successor or another process relies on: durable state, ring positions, heads, tags.
//!
//! Without the feature `crash-points` each function is one inline store. With it, a test arms the n-th store of its thread
//! and the thread stops there, as a killed process would (CONTRACTS 15): it panics with [`crash::CrashPoint`], and until
//! `disarm` later stores of the thread have no effect, so that destructors cannot write for the dead.

use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::sync::Word;

macro_rules! guarded {
    ($store:expr) => {{
        #[cfg(feature = "crash-points")]
        {
            crash::around(|| $store)
        }
        #[cfg(not(feature = "crash-points"))]
        {
            $store
        }
    }};
}

/// Stores a durable u64 with Release.
#[inline]
pub fn store_u64(cell: &AtomicU64, value: u64) {
    // Pairs with the Acquire loads of successors and readers; without it a successor may miss what was stored before.
    guarded!(cell.store(value, Ordering::Release));
}

/// Stores a durable u32 with Release.
#[inline]
pub fn store_u32(cell: &AtomicU32, value: u32) {
    // Pairs as in `store_u64`.
    guarded!(cell.store(value, Ordering::Release));
}

/// Stores a durable u16 with Release.
#[inline]
pub fn store_u16(cell: &AtomicU16, value: u16) {
    // Pairs as in `store_u64`.
    guarded!(cell.store(value, Ordering::Release));
}

/// Stores a durable byte with Release.
#[inline]
pub fn store_u8(cell: &AtomicU8, value: u8) {
    // Pairs as in `store_u64`.
    guarded!(cell.store(value, Ordering::Release));
}

/// Claims a durable byte by compare-and-swap: true when it held `current` and holds `value` afterwards.
#[inline]
#[must_use]
pub fn claim_u8(cell: &AtomicU8, current: u8, value: u8) -> bool {
    // Pairs as in `claim_u64`.
    guarded!(cell.compare_exchange(current, value, Ordering::AcqRel, Ordering::Acquire).is_ok())
}

/// Claims a durable u64 by compare-and-swap: true when it held `current` and holds `value` afterwards.
#[inline]
#[must_use]
pub fn claim_u64(cell: &AtomicU64, current: u64, value: u64) -> bool {
    // Release pairs with the Acquire loads of other workers; Acquire pairs with the previous owner's Release.
    guarded!(cell.compare_exchange(current, value, Ordering::AcqRel, Ordering::Acquire).is_ok())
}

/// Stores a word with Release, in the protocols that the models check.
#[inline]
pub fn store_word<W: Word>(cell: &W, value: u64) {
    guarded!(cell.store_release(value));
}

/// Fills a word of a record that nothing points to yet.
#[inline]
pub fn fill_word<W: Word>(cell: &W, value: u64) {
    guarded!(cell.store_relaxed(value));
}

/// Stopping the model of a process at a store.
#[cfg(feature = "crash-points")]
pub mod crash {
    use core::cell::Cell;

    /// The panic's payload.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub struct CrashPoint {
        /// Which store of the thread since `arm`, counted from 1.
        pub store: u64,
        /// Whether the store itself still took place.
        pub stored: bool,
    }

    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Plan {
        Count,
        Before(u64),
        After(u64),
        Dead,
    }

    thread_local! {
        static PLAN: Cell<Plan> = const { Cell::new(Plan::Count) };
        static STORES: Cell<u64> = const { Cell::new(0) };
    }

    /// Stops this thread right before its n-th publishing store from here, counted from 1.
    pub fn arm(n: u64) {
        STORES.set(0);
        PLAN.set(Plan::Before(n));
    }

    /// Stops this thread right after its n-th publishing store from here, counted from 1.
    pub fn arm_after(n: u64) {
        STORES.set(0);
        PLAN.set(Plan::After(n));
    }

    /// Lets the thread live (again) and starts the count anew.
    pub fn disarm() {
        STORES.set(0);
        PLAN.set(Plan::Count);
    }

    /// Publishing stores of this thread since `arm` or `disarm`.
    #[must_use]
    pub fn count() -> u64 {
        STORES.get()
    }

    /// Runs a store, or dies before or after it; the dead store nothing.
    pub(super) fn around<T: Default>(store: impl FnOnce() -> T) -> T {
        let plan = PLAN.get();
        if plan == Plan::Dead {
            return T::default();
        }
        let number = STORES.get().saturating_add(1);
        STORES.set(number);
        if plan == Plan::Before(number) {
            die(number, false);
        }
        let value = store();
        if plan == Plan::After(number) {
            die(number, true);
        }
        value
    }

    fn die(store: u64, stored: bool) -> ! {
        PLAN.set(Plan::Dead);
        std::panic::resume_unwind(Box::new(CrashPoint { store, stored }));
    }
}
#[cfg(feature = "crash-points")]
pub use crash::{CrashPoint, arm, arm_after, count, disarm};
