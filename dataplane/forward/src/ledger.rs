// SPDX-License-Identifier: Apache-2.0
//! Two identities that hold after each turn (CONTRACTS 15 of the design), readable by tests, labs and the CLI.

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::drop_reason::{DropReason, SkipReason};

use crate::counting::{add, bump, read, set};
use crate::send::rewrite::Outcome;
use crate::worker::Worker;

/// `rx + taken = stored + answered + consumed + punted + handed + dropped`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiveLedger {
    /// Packets from the ports.
    pub rx: u64,
    /// Packets from other workers.
    pub taken: u64,
    /// Media in the store.
    pub stored: u64,
    /// STUN answered.
    pub answered: u64,
    /// RTCP and padding.
    pub consumed: u64,
    /// DTLS to the control plane.
    pub punted: u64,
    /// Packets to other workers.
    pub handed: u64,
    /// Σ dropped.
    pub dropped: u64,
}

impl ReceiveLedger {
    /// Reads a worker's counters.
    #[must_use]
    pub fn of(counters: &WorkerCounters) -> Self {
        Self {
            rx: read(&counters.rx_packets),
            taken: read(&counters.taken),
            stored: read(&counters.stored),
            answered: read(&counters.answered),
            consumed: read(&counters.consumed),
            punted: read(&counters.punted),
            handed: read(&counters.handed),
            dropped: DropReason::ALL.iter().filter_map(|reason| counters.dropped.get(reason.index())).map(read).sum(),
        }
    }

    /// Whether every packet has exactly one fate.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.rx.wrapping_add(self.taken) == self.fates()
    }

    const fn fates(&self) -> u64 {
        self.stored
            .wrapping_add(self.answered)
            .wrapping_add(self.consumed)
            .wrapping_add(self.punted)
            .wrapping_add(self.handed)
            .wrapping_add(self.dropped)
    }
}

/// `offered = sent + skipped + pending`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CohortLedger {
    /// Stored packets × members, begun.
    pub offered: u64,
    /// Of them sent.
    pub sent: u64,
    /// Of them skipped.
    pub skipped: u64,
    /// Of them under way.
    pub pending: u64,
}

impl CohortLedger {
    /// Reads a worker's counters.
    #[must_use]
    pub fn of(counters: &WorkerCounters) -> Self {
        Self {
            offered: read(&counters.offered),
            sent: read(&counters.sent),
            skipped: SkipReason::ALL.iter().filter_map(|reason| counters.skipped.get(reason.index())).map(read).sum(),
            pending: read(&counters.pending),
        }
    }

    /// Whether every (packet, member) has exactly one fate.
    #[must_use]
    pub const fn is_exact(&self) -> bool {
        self.offered == self.sent.wrapping_add(self.skipped).wrapping_add(self.pending)
    }
}

impl Worker {
    /// Members of a cohort begin to get a packet.
    pub(crate) fn offer(&mut self, members: u32) {
        self.pending = self.pending.saturating_add(u64::from(members));
        self.count(|counters| {
            add(&counters.offered, u64::from(members));
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
            let missing = ledger.offered.wrapping_sub(ledger.sent).wrapping_sub(ledger.skipped);
            if let Some(cell) = counters.skipped.get(SkipReason::NumberSpent.index()) {
                add(cell, missing);
            }
            set(&counters.pending, 0);
        });
    }
}
