// SPDX-License-Identifier: Apache-2.0
//! Counters with one writer: a relaxed load and a relaxed store, no read-modify-write.

use core::sync::atomic::{AtomicU64, Ordering};

/// Adds to a counter that only this worker writes.
pub(crate) fn add(cell: &AtomicU64, count: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
}

/// Adds one.
pub(crate) fn bump(cell: &AtomicU64) {
    add(cell, 1);
}

/// Reads a counter or a number that only this worker writes.
pub(crate) fn read(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

/// Overwrites a gauge.
pub(crate) fn set(cell: &AtomicU64, value: u64) {
    cell.store(value, Ordering::Relaxed);
}
