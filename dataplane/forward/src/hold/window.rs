// SPDX-License-Identifier: Apache-2.0
//! A small window of used numbers over durable cells: which SRTCP indices were received, which egress indices are spent.
//!
//! ```text
//!   top − 64 ◀──── window ────▶ top − 1 = highest used      bits: 128-bit circular map, bit (number mod 128)
//! ```
//!
//! The words that are cleared ahead lie outside of the window behind the old top, and the bits are stored before the top, so
//! that death between two stores never makes a used number look unused (CONTRACTS 3 and 18 of the design).

use core::sync::atomic::{AtomicU64, Ordering};

use dataplane_abi::limits::RTCP_REPLAY_WORDS;
use dataplane_shm::publish;

const WINDOW: u64 = 64;
const WORD_BITS: u64 = 64;
const MAP_BITS: u64 = WORD_BITS * RTCP_REPLAY_WORDS as u64;

/// Highest used number + 1, and the map.
#[derive(Clone, Copy)]
pub(crate) struct Window<'a> {
    pub(crate) top: &'a AtomicU64,
    pub(crate) bits: &'a [AtomicU64; RTCP_REPLAY_WORDS],
}

impl Window<'_> {
    fn word(&self, number: u64) -> Option<&AtomicU64> {
        self.bits.get(usize::try_from((number % MAP_BITS) / WORD_BITS).ok()?)
    }

    /// Whether `number` was not used and is not too old to tell.
    pub(crate) fn is_unused(&self, number: u64) -> bool {
        // The owner is the only writer; a successor reads after the owner is dead.
        let top = self.top.load(Ordering::Relaxed);
        if number >= top {
            return true;
        }
        if top.saturating_sub(number) > WINDOW {
            return false;
        }
        self.word(number).is_some_and(|word| word.load(Ordering::Relaxed) & (1 << (number % WORD_BITS)) == 0)
    }

    /// Marks `number` as used; false where it was used before or is too old. Stored when this returns.
    pub(crate) fn take(&self, number: u64) -> bool {
        if !self.is_unused(number) {
            return false;
        }
        let top = self.top.load(Ordering::Relaxed);
        if number >= top {
            self.clear_ahead(top, number);
        }
        if let Some(word) = self.word(number) {
            publish::store_u64(word, word.load(Ordering::Relaxed) | (1 << (number % WORD_BITS)));
        }
        if number >= top {
            publish::store_u64(self.top, number.saturating_add(1));
        }
        true
    }

    /// Marks `number`, which is not below `top`, as used; stored when this returns. The usual case of [`Self::take`]: the next
    /// number, whose bit may have any value as long as the top says that it is unused.
    #[inline]
    pub(crate) fn take_next(&self, number: u64) -> bool {
        let top = self.top.load(Ordering::Relaxed);
        if number != top {
            return self.take(number);
        }
        if let Some(word) = self.word(number) {
            let (old, bit) = (word.load(Ordering::Relaxed), 1 << (number % WORD_BITS));
            if old & bit == 0 {
                publish::store_u64(word, old | bit);
            }
        }
        publish::store_u64(self.top, number.saturating_add(1));
        true
    }

    /// Clears the bits of `top..number`: they were never used. Where that would reach into the window behind `top`, the
    /// numbers in between are declared used instead, which costs late packets after a jump and nothing else.
    fn clear_ahead(&self, top: u64, number: u64) {
        if number.saturating_sub(top) >= WINDOW {
            for word in self.bits {
                publish::store_u64(word, u64::MAX);
            }
            return;
        }
        let mut at = top;
        while at <= number {
            let end = (at | (WORD_BITS - 1)).min(number);
            let count = end.saturating_sub(at).saturating_add(1);
            let ones = if count >= WORD_BITS { u64::MAX } else { (1_u64 << count).wrapping_sub(1) << (at % WORD_BITS) };
            if let Some(word) = self.word(at) {
                let old = word.load(Ordering::Relaxed);
                if old & ones != 0 {
                    publish::store_u64(word, old & !ones);
                }
            }
            at = end.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_number_is_taken_once_and_late_ones_within_the_window() {
        let top = AtomicU64::new(0);
        let bits = [const { AtomicU64::new(0) }; RTCP_REPLAY_WORDS];
        let window = Window { top: &top, bits: &bits };
        let mut taken = BTreeSet::new();
        let mut state = 9_u64;
        let mut highest = 1000_u64;
        // The first number is a jump: those before it count as used.
        assert!(window.take(highest) && taken.insert(highest));
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(11);
            let step = (state >> 40) % 70;
            let number = if (state >> 63) == 0 { highest + step / 8 } else { highest.saturating_sub(step) };
            let fresh = window.is_unused(number);
            let is_taken = if step.is_multiple_of(2) { window.take_next(number) } else { window.take(number) };
            assert_eq!(fresh, is_taken);
            assert!(!fresh || taken.insert(number), "{number} taken twice");
            if !fresh && number > 1000 && number + WINDOW > highest + 1 {
                assert!(taken.contains(&number) || highest - number >= WINDOW, "{number} refused though unused");
            }
            highest = highest.max(number);
        }
    }

    #[test]
    fn a_jump_forgets_nothing_that_was_used() {
        let top = AtomicU64::new(0);
        let bits = [const { AtomicU64::new(0) }; RTCP_REPLAY_WORDS];
        let window = Window { top: &top, bits: &bits };
        assert!(window.take(10) && window.take(10_000) && !window.take(10_000) && !window.take(10));
        assert!(window.take(10_001) && !window.take(10_001));
    }
}
