// SPDX-License-Identifier: Apache-2.0
//! A worker's two ledgers, read so that they can be judged while the worker goes on.
//!
//! A ledger is exact after each turn, not inside one. So it is read until two consecutive reads agree *and* it closes, a
//! bounded number of times. A gap that outlives every try is a gap: it must never be smoothed over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::ledger;
use serde::Serialize;

/// Tries before a ledger is taken as it is.
const TRIES: u32 = 300;
/// Between two tries; with the kernel's timer slack some 0.1 ms, a fraction of the longest turn that is allowed.
const PAUSE: Duration = Duration::from_micros(50);

/// `rx + taken = stored + answered + consumed + punted + handed + dropped`, in packets.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct ReceiveLedger {
    /// From the ports; `rx_packets` of the worker.
    #[serde(skip)]
    pub(crate) rx: u64,
    /// Media in the store.
    pub(crate) stored: u64,
    /// STUN answered.
    pub(crate) answered: u64,
    /// RTCP, and padding-only packets.
    pub(crate) consumed: u64,
    /// DTLS given to the control plane.
    pub(crate) punted: u64,
    /// Given to their owner worker.
    pub(crate) handed: u64,
    /// Taken from other workers.
    pub(crate) taken: u64,
    /// Dropped, for whatever reason.
    pub(crate) dropped: u64,
    /// Dropped, by counter slot: `DropReason::index`.
    #[serde(skip)]
    pub(crate) by_slot: Vec<u64>,
    #[serde(skip)]
    gap: i64,
}

/// `offered = sent + skipped + pending`, in packets × members.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub(crate) struct CohortLedger {
    /// Stored packets × members, begun.
    pub(crate) offered: u64,
    /// Of them sent.
    pub(crate) sent: u64,
    /// Of them skipped.
    pub(crate) skipped: u64,
    /// Of them under way.
    pub(crate) pending: u64,
    /// Skipped, by counter slot: `SkipReason::index`.
    #[serde(skip)]
    pub(crate) by_slot: Vec<u64>,
    #[serde(skip)]
    gap: i64,
}

/// A ledger of either kind.
pub(crate) trait Ledger: PartialEq + Sized {
    /// One read of all its counters.
    fn read(counters: &WorkerCounters) -> Self;
    /// What came in minus what it became; 0 = exact.
    fn gap(&self) -> i64;
    /// Adds another worker's.
    fn add(&mut self, other: &Self);

    /// Read until it stands still and closes; the last read if it never does.
    fn settled(counters: &WorkerCounters) -> Self {
        settle(|| Self::read(counters), || std::thread::sleep(PAUSE))
    }
}

fn settle<L: Ledger>(mut read: impl FnMut() -> L, mut pause: impl FnMut()) -> L {
    let mut last = read();
    for _ in 0..TRIES {
        let next = read();
        if next == last && next.gap() == 0 {
            return next;
        }
        pause();
        last = read();
    }
    last
}

/// Reads a counter.
pub(crate) fn load(cell: &AtomicU64) -> u64 {
    cell.load(Ordering::Relaxed)
}

fn add_slots(into: &mut Vec<u64>, other: &[u64]) {
    into.resize(into.len().max(other.len()), 0);
    for (cell, more) in into.iter_mut().zip(other) {
        *cell = cell.wrapping_add(*more);
    }
}

impl Ledger for ReceiveLedger {
    fn read(counters: &WorkerCounters) -> Self {
        let exact = ledger::ReceiveLedger::of(counters);
        Self {
            rx: exact.rx,
            stored: exact.stored,
            answered: exact.answered,
            consumed: exact.consumed,
            punted: exact.punted,
            handed: exact.handed,
            taken: exact.taken,
            dropped: exact.dropped(),
            by_slot: exact.dropped.to_vec(),
            gap: exact.gap(),
        }
    }

    fn gap(&self) -> i64 {
        self.gap
    }

    fn add(&mut self, other: &Self) {
        self.rx = self.rx.wrapping_add(other.rx);
        self.stored = self.stored.wrapping_add(other.stored);
        self.answered = self.answered.wrapping_add(other.answered);
        self.consumed = self.consumed.wrapping_add(other.consumed);
        self.punted = self.punted.wrapping_add(other.punted);
        self.handed = self.handed.wrapping_add(other.handed);
        self.taken = self.taken.wrapping_add(other.taken);
        self.dropped = self.dropped.wrapping_add(other.dropped);
        add_slots(&mut self.by_slot, &other.by_slot);
        self.gap = self.gap.wrapping_add(other.gap);
    }
}

impl Ledger for CohortLedger {
    fn read(counters: &WorkerCounters) -> Self {
        let exact = ledger::CohortLedger::of(counters);
        Self {
            offered: exact.offered,
            sent: exact.sent,
            skipped: exact.skipped(),
            pending: exact.pending,
            by_slot: exact.skipped.to_vec(),
            gap: exact.gap(),
        }
    }

    fn gap(&self) -> i64 {
        self.gap
    }

    fn add(&mut self, other: &Self) {
        self.offered = self.offered.wrapping_add(other.offered);
        self.sent = self.sent.wrapping_add(other.sent);
        self.skipped = self.skipped.wrapping_add(other.skipped);
        self.pending = self.pending.wrapping_add(other.pending);
        add_slots(&mut self.by_slot, &other.by_slot);
        self.gap = self.gap.wrapping_add(other.gap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(offered: u64, sent: u64) -> CohortLedger {
        CohortLedger { offered, sent, gap: offered.wrapping_sub(sent).cast_signed(), ..CohortLedger::default() }
    }

    #[test]
    fn a_read_in_the_middle_of_a_turn_is_read_again() {
        // Stands still with a gap; closes by chance while it moves; stands still and closes.
        let reads = [ledger(5, 4), ledger(5, 4), ledger(5, 4), ledger(5, 5), ledger(6, 6), ledger(6, 6), ledger(7, 7)];
        let (mut reads, mut pauses) = (reads.into_iter(), 0);
        let settled = settle(|| reads.next().unwrap(), || pauses += 1);
        assert_eq!((settled, pauses), (ledger(6, 6), 2));
    }

    #[test]
    fn a_gap_that_stays_is_reported_as_it_is() {
        let mut pauses = 0;
        let settled = settle(|| ledger(7, 4), || pauses += 1);
        assert_eq!((settled.gap(), pauses), (3, TRIES));
    }
}
