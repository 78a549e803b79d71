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
/// One rollover of the sequence number.
const ROC: u64 = 1 << 16;
/// Half of the sequence number space.
const HALF: u64 = 1 << 15;

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
    ///
    /// Where the rule asks for ROC − 1 at ROC 0, no such index exists and the packet can only be ahead:
    /// the answer is ROC 0.
    #[must_use]
    pub fn guess(&self, seq: u16) -> u64 {
        let Some(highest) = self.highest() else {
            return u64::from(seq);
        };
        let (roc, last) = (highest >> 16, highest & 0xffff);
        let seq = u64::from(seq);
        let roc = if last < HALF {
            if seq > last + HALF { roc.saturating_sub(1) } else { roc }
        } else if last - HALF > seq {
            roc + 1
        } else {
            roc
        };
        roc << 16 | seq
    }

    /// Further indices to try, in order, when the tag does not verify at [`guess`](Self::guess) or when
    /// [`check`](Self::check) refuses `guess`. It yields one at most, so that a forgery costs two tags.
    ///
    /// It is ROC plus 1: the answer when the first packets before a wrap were lost (none was seen, or the
    /// first one seen was behind the wrap), and when 2^15 packets or more were lost. ROC minus 1 is never
    /// offered: `guess` is at most 2^15 ahead of the window's top, so one ROC less lies at least 2^15
    /// behind it, where `check` refuses everything.
    pub fn guess_alternatives(&self, seq: u16) -> impl Iterator<Item = u64> + use<> {
        // `guess` is below 2^49, so the sum does not overflow.
        [self.guess(seq) + ROC].into_iter().filter(|index| *index <= MAX_RTP_INDEX)
    }

    /// Whether `index` may still be accepted. Reads only.
    ///
    /// # Errors
    /// The reason when not.
    pub fn check(&self, index: u64) -> Result<(), Replay> {
        if index > MAX_RTP_INDEX {
            return Err(Replay::Exhausted);
        }
        let Some(highest) = self.highest() else {
            return Ok(());
        };
        let Some(behind) = highest.checked_sub(index) else {
            return Ok(());
        };
        if behind >= WINDOW {
            Err(Replay::TooOld)
        } else if self.load(index / WORD_BITS) & bit(index) != 0 {
            Err(Replay::Seen)
        } else {
            Ok(())
        }
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
    /// Order of stores, and what a successor finds when the writer dies between two of them:
    ///
    /// - *Behind the top*: one store, the word with the bit. Before it nothing has happened.
    /// - *Ahead, in the top's word*: the word, with the bits between old and new top cleared, then `top`.
    ///   In between, `top` is old and bits above it are meaningless: the index is fresh for the successor
    ///   too, and was not used by the dead writer, because `accept_with` had not returned.
    /// - *Ahead, up to 15 words*: the words in between are cleared, the last one is stored with its bit,
    ///   then `top`. None of these 15 lies in the window of the old top (17 words of 32), so until `top` is
    ///   stored the old window is whole.
    /// - *Further ahead*: the top first moves by 15 words, twice at most, to an index that lies below the
    ///   accepted one and was never received; each move is the case before, without a bit. After two, every
    ///   word of the window is zero; the other 16 are cleared, the top moves to the end of the word before
    ///   the accepted index, and the case before is left. An intermediate top refuses nothing but what the
    ///   accepted index refuses too, and opens nothing: what is behind it is either still marked, or was
    ///   never received, or too old.
    ///
    /// No order of crashes therefore accepts an index twice, and none refuses one that is fresh. At
    /// most 51 stores, two for a packet in order.
    ///
    /// # Errors
    /// As [`check`](Self::check); nothing is stored then.
    pub fn accept_with<S: Publish>(&self, index: u64, publish: &S) -> Result<(), Replay> {
        self.check(index)?;
        let word = index / WORD_BITS;
        match self.highest() {
            Some(highest) if index <= highest => {
                self.store(publish, word, self.load(word) | bit(index));
                return Ok(());
            }
            Some(highest) if word == highest / WORD_BITS => {
                let kept = self.load(word) & up_to(highest);
                self.store(publish, word, kept | bit(index));
            }
            Some(highest) => {
                self.forget_above(publish, highest);
                let reached = self.advance(publish, highest / WORD_BITS, word);
                self.clear(publish, reached + 1, word - reached - 1);
                self.store(publish, word, bit(index));
            }
            None => {
                // A writer that died in its first `accept_with` may have left bits behind.
                self.clear(publish, word + 1, WORDS - 1);
                self.store(publish, word, bit(index));
            }
        }
        publish.store(self.top, index + 1);
        Ok(())
    }

    /// Moves the top from word `from` by whole words until `target` is at most [`STEP`] words ahead of it;
    /// returns the word of the top.
    fn advance<S: Publish>(&self, publish: &S, from: u64, target: u64) -> u64 {
        let mut reached = from;
        for _ in 0..2 {
            if target - reached <= STEP {
                return reached;
            }
            self.clear(publish, reached + 1, STEP);
            reached += STEP;
            publish.store(self.top, (reached + 1) * WORD_BITS);
        }
        if target - reached <= STEP {
            return reached;
        }
        // The window is 16 whole words, all zero; zero the other 16 and the map has no bit, so the top may
        // jump. It jumps to the word before the target, or the target's bit would lie in a window of old.
        self.clear(publish, reached + 1, WORDS / 2);
        publish.store(self.top, target * WORD_BITS);
        target - 1
    }

    /// Clears the bits above `highest` in its word: a writer that died before it stored `top` may have
    /// left some. They are outside of the window until `top` moves past them.
    fn forget_above<S: Publish>(&self, publish: &S, highest: u64) {
        let word = highest / WORD_BITS;
        let (held, kept) = (self.load(word), self.load(word) & up_to(highest));
        if held != kept {
            self.store(publish, word, kept);
        }
    }

    /// Clears `count` words from `first` on; words that are clear cost no store.
    fn clear<S: Publish>(&self, publish: &S, first: u64, count: u64) {
        for word in first..first + count.min(WORDS) {
            if self.load(word) != 0 {
                self.store(publish, word, 0);
            }
        }
    }

    fn cell(&self, word: u64) -> &AtomicU64 {
        let [first, ..] = self.bits;
        usize::try_from(word % WORDS).ok().and_then(|at| self.bits.get(at)).unwrap_or(first)
    }

    fn load(&self, word: u64) -> u64 {
        // Pairs with the Release store in `Direct::store`.
        self.cell(word).load(Ordering::Acquire)
    }

    fn store<S: Publish>(&self, publish: &S, word: u64, value: u64) {
        publish.store(self.cell(word), value);
    }
}

/// Bit of `index` in its word.
fn bit(index: u64) -> u64 {
    1 << (index % WORD_BITS)
}

/// Bits of `index` and of the lower indices in its word.
fn up_to(index: u64) -> u64 {
    bit(index) | (bit(index) - 1)
}
