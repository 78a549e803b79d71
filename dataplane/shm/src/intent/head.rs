// SPDX-License-Identifier: Apache-2.0
//! Publication of one record: fill a free record, swing the head (CONTRACTS 4).
//!
//! The reader copies and then checks that the head still is what it was: a head that changed means that the record may have
//! been filled again. Generic over [`Word`], because the model checks exactly this code.

use dataplane_abi::intent::{head_slot, head_word};

use crate::publish;
use crate::sync::{Ordering, Word, fence};

/// Copies that a reader makes at most; the writer would have to publish as often meanwhile.
pub const ATTEMPTS: u32 = 8;

/// A copy of the published record; none when nothing is published, or every attempt met a change.
pub fn read<W: Word, T>(head: &W, copy: impl Fn(u32) -> Option<T>) -> Option<T> {
    for _ in 0..ATTEMPTS {
        // Pairs with the Release in `swing`; without it the record may be read before it is filled.
        let before = head.load_acquire();
        let value = copy(head_slot(before)?)?;
        // Pairs with the fence in `begin_fill`; without it the check below may pass although the copy has words of a later
        // record in the same slot.
        fence(Ordering::Acquire);
        if head.load_relaxed() == before {
            return Some(value);
        }
    }
    None
}

/// Before a free record is filled: whoever sees one of its words sees the head that freed it.
pub fn begin_fill() {
    // Pairs with the fence in `read`.
    fence(Ordering::Release);
}

/// Publishes a filled record; returns the record that it replaces.
pub fn swing<W: Word>(head: &W, record: u32) -> Option<u32> {
    let before = head.load_relaxed();
    publish::store_word(head, head_word(next_publication(before), record));
    head_slot(before)
}

/// Publishes that nothing is there, keeping the count; returns the record that was published.
pub fn clear<W: Word>(head: &W) -> Option<u32> {
    let before = head.load_relaxed();
    let freed = head_slot(before)?;
    publish::store_word(head, u64::from(next_publication(before)) << 32);
    Some(freed)
}

/// Publications of a head so far.
#[must_use]
pub const fn publications(head: u64) -> u32 {
    (head >> 32) as u32
}

const fn next_publication(head: u64) -> u32 {
    publications(head).wrapping_add(1)
}
