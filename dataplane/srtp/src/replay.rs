// SPDX-License-Identifier: Apache-2.0
//! Replay window and packet index estimate over two durable cells of the caller.
//!
//! ```text
//!            top − 1024                    top − 1 = highest index accepted
//!  too old      │◀────── window, 1024 ──────▶│        fresh
//!  ─────────────┴────────────────────────────┴───────────────▶ index
//!  bits: 2048-bit circular map, bit (index mod 2048); words ahead of the window are stale
//! ```
//!
//! The window must never move, in any cell, before the packet's tag has verified, and never let an
//! index pass twice: not even for a successor that takes over between any two stores.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::MAX_RTP_INDEX;

/// Packets behind the highest one that are still accepted, once each.
const WINDOW: u64 = 1024;
const WORD_BITS: u64 = 64;
/// Words of the circular map.
const WORDS: u64 = 32;
/// Words that can be cleared ahead of the highest index without touching the window behind it: the
/// window lies in at most 17 of the 32 words.
const STEP: u64 = WORDS - WINDOW / WORD_BITS - 1;

/// Why an index is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Replay {
    /// Accepted before.
    Seen,
    /// Behind the window.
    TooOld,
    /// Above 2^48 − 1.
    Exhausted,
}

/// Where stores to durable cells go. Tests stop at the n-th store; production uses [`Direct`].
pub trait Publish {
    /// Stores `value` to `cell` with Release ordering or stronger.
    fn store(&self, cell: &AtomicU64, value: u64);
}

/// Stores directly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Direct;

impl Publish for Direct {
    #[inline]
    fn store(&self, cell: &AtomicU64, value: u64) {
        // Pairs with the Acquire loads of a successor in `ReplayWindow`; without it the successor
        // could see `top` without the bits that were stored before it.
        cell.store(value, Ordering::Release);
    }
}

/// Window of 1024 packets over durable cells. All zero means: nothing received. One writer at a time.
#[derive(Clone, Copy, Debug)]
pub struct ReplayWindow<'a> {
    /// Highest accepted index + 1; 0 when nothing was received.
    pub top: &'a AtomicU64,
    /// Circular map: bit `index % 2048` is set when `index` was accepted.
    pub bits: &'a [AtomicU64; 32],
}

impl<'a> ReplayWindow<'a> {
    /// Window over `top` and `bits`.
    #[must_use]
    pub fn new(top: &'a AtomicU64, bits: &'a [AtomicU64; 32]) -> Self {
        Self { top, bits }
    }

    /// Highest accepted index. A damaged cell counts as the end of the index space.
    #[must_use]
    pub fn highest(&self) -> Option<u64> {
        // Pairs with the Release store of `top` in `Direct::store`.
        let top = self.top.load(Ordering::Acquire);
        top.checked_sub(1).map(|highest| highest.min(MAX_RTP_INDEX))
    }

    /// Packet index of sequence number `seq` (RFC 3711 §3.3.1); ROC 0 before the first packet.
    #[must_use]
    pub fn guess(&self, seq: u16) -> u64 {
        let _ = seq;
        0
    }

    /// Further indices to try, in this order, when the tag does not verify at [`guess`](Self::guess) or
    /// when `guess` is behind the window: at most 2.
    pub fn guess_alternatives(&self, seq: u16) -> impl Iterator<Item = u64> + use<> {
        let _ = seq;
        [None, None::<u64>].into_iter().flatten()
    }

    /// Whether `index` may still be accepted. Reads only.
    ///
    /// # Errors
    /// The reason when not.
    pub fn check(&self, index: u64) -> Result<(), Replay> {
        let _ = (index, WORD_BITS, STEP);
        Err(Replay::Seen)
    }

    /// Accepts `index` after its tag verified. See [`accept_with`](Self::accept_with).
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is stored then.
    pub fn accept(&self, index: u64) -> Result<(), Replay> {
        self.accept_with(index, &Direct)
    }

    /// Accepts `index` after its tag verified, storing through `publish`. The packet may be used only
    /// after this has returned.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is stored then.
    pub fn accept_with<S: Publish>(&self, index: u64, publish: &S) -> Result<(), Replay> {
        let _ = publish;
        self.check(index)
    }
}
