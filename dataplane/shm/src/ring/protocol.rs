// SPDX-License-Identifier: Apache-2.0
//! Positions of an SPSC ring: who may touch which entry, and what a position that lies costs.
//!
//! Positions count up without end; entry = position mod capacity. Each side trusts its private position only. A distance
//! that no honest peer can cause is not believed: the producer treats the ring as full, the consumer lets go of everything.
//! Must never touch entries itself: the model checks exactly this code with entries of its own.

use crate::publish;
use crate::sync::Word;

/// The producer's private half.
#[derive(Debug)]
pub struct ProducerCursor {
    /// Entries written; only this side's word.
    position: u64,
    /// The consumer's position when it was last read: spares its cache line while there is room.
    consumed: u64,
    /// Positions of the peer that were not believed.
    refused: u64,
}

impl ProducerCursor {
    /// Continues where the shared words stand.
    pub fn attach<W: Word>(produced: &W, consumed: &W) -> Self {
        Self { position: produced.load_acquire(), consumed: consumed.load_acquire(), refused: 0 }
    }

    /// The position to write next; none when the ring is full.
    #[inline]
    pub fn claim<W: Word>(&mut self, consumed: &W, capacity: u64) -> Option<u64> {
        if self.position.wrapping_sub(self.consumed) >= capacity {
            // Pairs with the Release in `ConsumerCursor::release`; without it an entry may be overwritten while it is read.
            self.consumed = consumed.load_acquire();
            let distance = self.position.wrapping_sub(self.consumed);
            if distance > capacity {
                self.refused = self.refused.wrapping_add(1);
                // Not believed: ask again at the next push.
                self.consumed = self.position.wrapping_sub(capacity);
                return None;
            }
            if distance == capacity {
                return None;
            }
        }
        Some(self.position)
    }

    /// Makes the claimed entry visible.
    #[inline]
    pub fn publish<W: Word>(&mut self, produced: &W) {
        self.position = self.position.wrapping_add(1);
        // Pairs with the Acquire in `ConsumerCursor::next`; without it the consumer may read the entry before it is written.
        publish::store_word(produced, self.position);
    }

    /// Entries written.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Positions of the peer that were not believed.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}

/// The consumer's private half.
#[derive(Debug)]
pub struct ConsumerCursor {
    /// Entries read; only this side's word.
    position: u64,
    /// The producer's position when it was last read.
    produced: u64,
    /// Positions of the peer that were not believed.
    refused: u64,
}

impl ConsumerCursor {
    /// Continues where the shared words stand.
    pub fn attach<W: Word>(consumed: &W) -> Self {
        let position = consumed.load_acquire();
        Self { position, produced: position, refused: 0 }
    }

    /// The position to read next; none when the ring is empty. A position that is not believed empties the ring: both
    /// words are then equal again and `refused` has grown.
    #[inline]
    pub fn next<W: Word>(&mut self, produced: &W, consumed: &W, capacity: u64) -> Option<u64> {
        if self.position == self.produced {
            // Pairs with the Release in `ProducerCursor::publish`; without it the entry may be read before it is written.
            self.produced = produced.load_acquire();
            if self.position == self.produced {
                return None;
            }
            if self.produced.wrapping_sub(self.position) > capacity {
                self.refused = self.refused.wrapping_add(1);
                self.catch_up(self.produced, consumed);
                return None;
            }
        }
        Some(self.position)
    }

    /// Gives the entry back to the producer, after it was copied.
    #[inline]
    pub fn release<W: Word>(&mut self, consumed: &W) {
        self.position = self.position.wrapping_add(1);
        // Pairs with the Acquire in `ProducerCursor::claim`; without it the entry may be overwritten while it is read.
        publish::store_word(consumed, self.position);
    }

    /// Lets go of everything up to `produced`.
    pub fn catch_up<W: Word>(&mut self, produced: u64, consumed: &W) {
        self.position = produced;
        self.produced = produced;
        publish::store_word(consumed, produced);
    }

    /// Entries read.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Positions of the peer that were not believed.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.refused
    }
}
