// SPDX-License-Identifier: Apache-2.0
//! Keeps the two identities of `dataplane_abi::ledger`: whoever takes a packet up says here what became of it.

use dataplane_abi::counters::SKIP_SLOTS;
use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::ledger::{CohortLedger, ReceiveLedger};

use crate::counting::{add, bump, set};
use crate::send::rewrite::Outcome;
use crate::worker::Worker;

/// Fates of one tile, counted together when it ends: who dies before leaves the difference to [`Worker::settle_predecessor`].
pub(crate) struct Tally {
    sent: u64,
    skipped: [u64; SKIP_SLOTS],
}

impl Tally {
    pub(crate) const fn new() -> Self {
        Self { sent: 0, skipped: [0; SKIP_SLOTS] }
    }

    /// One packet was sent.
    #[inline]
    pub(crate) const fn send(&mut self) {
        self.sent = self.sent.saturating_add(1);
    }

    /// Packets were skipped.
    pub(crate) fn skip(&mut self, count: u64, reason: SkipReason) {
        if let Some(cell) = self.skipped.get_mut(reason.index()) {
            *cell = cell.saturating_add(count);
        }
    }
}

impl Worker {
    /// Members of a cohort begin to get packets: `count` of both together.
    pub(crate) fn offer(&mut self, count: u64) {
        self.pending = self.pending.saturating_add(count);
        self.count(|counters| {
            add(&counters.offered, count);
            set(&counters.pending, self.pending);
        });
    }

    /// One member has had its packet, or will not get it. `Full` is no fate: it is tried again.
    pub(crate) fn settle_member(&mut self, outcome: Outcome) {
        if outcome == Outcome::Full {
            return;
        }
        self.pending = self.pending.saturating_sub(1);
        self.count(|counters| {
            match outcome {
                Outcome::Sent(_) => bump(&counters.sent),
                Outcome::Skipped(reason) => counters.skipped.get(reason.index()).map_or((), bump),
                Outcome::Full => {}
            }
            set(&counters.pending, self.pending);
        });
    }

    /// What became of one tile's packets of a cohort.
    pub(crate) fn settle_tally(&mut self, tally: &Tally) {
        let skipped: u64 = tally.skipped.iter().sum();
        self.pending = self.pending.saturating_sub(tally.sent.saturating_add(skipped));
        self.count(|counters| {
            add(&counters.sent, tally.sent);
            if skipped != 0 {
                for (cell, count) in counters.skipped.iter().zip(&tally.skipped) {
                    add(cell, *count);
                }
            }
            set(&counters.pending, self.pending);
        });
    }

    /// Packets that members were offered and do not get.
    pub(crate) fn settle_skipped(&mut self, count: u64, reason: SkipReason) {
        let mut tally = Tally::new();
        tally.skip(count, reason);
        self.settle_tally(&tally);
    }

    /// Packets that members are not even offered one by one.
    pub(crate) fn skip_unoffered(&self, count: u64, reason: SkipReason) {
        self.count(|counters| {
            add(&counters.offered, count);
            counters.skipped.get(reason.index()).map(|cell| add(cell, count))
        });
    }

    /// A predecessor died within a turn: what it had begun and not counted is settled here, so that both identities hold from
    /// the successor's first turn on. A packet without a fate is not counted as received (it comes again from the port, or
    /// was lost with the ring between two workers), and members that a packet had not reached do not get it: its number is
    /// spent (CONTRACTS 3 of the design).
    pub(crate) fn settle_predecessor(&self) {
        self.count(|counters| {
            let ledger = ReceiveLedger::of(counters);
            set(&counters.rx_packets, ledger.fates().wrapping_sub(ledger.taken));
            let ledger = CohortLedger::of(counters);
            let missing = ledger.offered.wrapping_sub(ledger.sent).wrapping_sub(ledger.skipped());
            if let Some(cell) = counters.skipped.get(SkipReason::NumberSpent.index()) {
                add(cell, missing);
            }
            set(&counters.pending, 0);
        });
    }
}
