// SPDX-License-Identifier: Apache-2.0
//! Two identities that hold after each turn (CONTRACTS 15 of the design), readable by tests, labs and the CLI.

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::drop_reason::{DropReason, SkipReason};

use crate::counting::read;

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
        self.rx.wrapping_add(self.taken)
            == self
                .stored
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
