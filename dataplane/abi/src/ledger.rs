// SPDX-License-Identifier: Apache-2.0
//! Two identities over a worker's counters (CONTRACTS 15 of the design), exact after each of its turns. Written here once, for
//! the worker that keeps them and for everyone who judges it. Must never smooth over a gap.

use core::sync::atomic::Ordering;

use crate::counters::{DROP_SLOTS, SKIP_SLOTS, WorkerCounters};

/// `rx + taken = stored + answered + consumed + punted + handed + Σ dropped`, in packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Dropped, by `DropReason::index`; places beyond the reasons that this version knows count too.
    pub dropped: [u64; DROP_SLOTS],
}

impl ReceiveLedger {
    /// Reads a worker's counters.
    #[must_use]
    pub fn of(counters: &WorkerCounters) -> Self {
        let read = |cell: &core::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        let mut dropped = [0; DROP_SLOTS];
        for (count, cell) in dropped.iter_mut().zip(&counters.dropped) {
            *count = read(cell);
        }
        Self {
            rx: read(&counters.rx_packets),
            taken: read(&counters.taken),
            stored: read(&counters.stored),
            answered: read(&counters.answered),
            consumed: read(&counters.consumed),
            punted: read(&counters.punted),
            handed: read(&counters.handed),
            dropped,
        }
    }

    /// Packets dropped, for whatever reason.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        sum(&self.dropped)
    }

    /// Packets that have a fate.
    #[must_use]
    pub fn fates(&self) -> u64 {
        sum(&[self.stored, self.answered, self.consumed, self.punted, self.handed, self.dropped()])
    }

    /// What came in minus what it became; 0 = exact.
    #[must_use]
    pub fn gap(&self) -> i64 {
        self.rx.wrapping_add(self.taken).wrapping_sub(self.fates()).cast_signed()
    }

    /// Whether every packet has exactly one fate.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.gap() == 0
    }
}

/// `offered = sent + Σ skipped + pending`, in packets × members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CohortLedger {
    /// Stored packets × members, begun.
    pub offered: u64,
    /// Of them sent.
    pub sent: u64,
    /// Of them under way.
    pub pending: u64,
    /// Of them skipped, by `SkipReason::index`; places beyond the reasons that this version knows count too.
    pub skipped: [u64; SKIP_SLOTS],
}

impl CohortLedger {
    /// Reads a worker's counters.
    #[must_use]
    pub fn of(counters: &WorkerCounters) -> Self {
        let read = |cell: &core::sync::atomic::AtomicU64| cell.load(Ordering::Relaxed);
        let mut skipped = [0; SKIP_SLOTS];
        for (count, cell) in skipped.iter_mut().zip(&counters.skipped) {
            *count = read(cell);
        }
        Self { offered: read(&counters.offered), sent: read(&counters.sent), pending: read(&counters.pending), skipped }
    }

    /// Skipped, for whatever reason.
    #[must_use]
    pub fn skipped(&self) -> u64 {
        sum(&self.skipped)
    }

    /// What was begun minus what it became; 0 = exact.
    #[must_use]
    pub fn gap(&self) -> i64 {
        self.offered.wrapping_sub(sum(&[self.sent, self.skipped(), self.pending])).cast_signed()
    }

    /// Whether every (packet, member) has exactly one fate.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.gap() == 0
    }
}

fn sum(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.wrapping_add(*count))
}
