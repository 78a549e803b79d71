// SPDX-License-Identifier: Apache-2.0
//! What becomes of the packets of one cohort in one tile: their tally, the tile's progress, and when they had come.

use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::limits::TILE;

use crate::ledger::Tally;
use crate::send::rewrite::Outcome;
use crate::send::tile::Progress;

/// Keeps all three in step.
pub(crate) struct Fates<'w> {
    pub(crate) tally: Tally,
    pub(crate) progress: &'w mut Progress,
    arrivals: &'w mut [u64; TILE],
    arrival_count: &'w mut usize,
}

impl<'w> Fates<'w> {
    pub(crate) const fn new(
        progress: &'w mut Progress,
        arrivals: &'w mut [u64; TILE],
        arrival_count: &'w mut usize,
    ) -> Self {
        Self { tally: Tally::new(), progress, arrivals, arrival_count }
    }

    /// One packet for one member; it had arrived at `arrival_ns`.
    #[inline]
    pub(crate) fn note(&mut self, outcome: Outcome, arrival_ns: u64) {
        match outcome {
            Outcome::Sent(len) => {
                self.tally.send();
                self.progress.committed(len);
                if let Some(place) = self.arrivals.get_mut(*self.arrival_count) {
                    *place = arrival_ns;
                    *self.arrival_count = self.arrival_count.saturating_add(1);
                }
            }
            Outcome::Skipped(reason) => self.skip(1, reason),
            // There is room: whoever sends has asked.
            Outcome::Full => {}
        }
    }

    /// Packets that a member does not get.
    pub(crate) fn skip(&mut self, count: u64, reason: SkipReason) {
        self.tally.skip(count, reason);
    }
}
