// SPDX-License-Identifier: Apache-2.0
//! What the process settles before its workers start: a predecessor may have died anywhere.
//!
//! Each worker settles its own ledgers (`forward`); here is what belongs to none of them.

use std::sync::atomic::{AtomicU64, Ordering};

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::ids::WorkerId;
use dataplane_shm::Segment;

/// Takes the counters over; nobody else writes them yet.
pub(crate) fn take_over(segment: &Segment, workers: u16) {
    let all: Vec<&WorkerCounters> = (0..workers).filter_map(|worker| segment.counters(WorkerId(worker))).collect();
    for counters in &all {
        // It says so itself once it turns.
        counters.running.store(0, Ordering::Release);
    }
    settle_handed(&all);
}

/// Whether every worker turns.
pub(crate) fn all_run(segment: &Segment, workers: u16) -> bool {
    let runs = |counters: &WorkerCounters| counters.running.load(Ordering::Acquire) != 0;
    (0..workers).all(|worker| segment.counters(WorkerId(worker)).is_some_and(runs))
}

/// Σ handed = Σ taken: what lay in the rings between workers went with the process that they belonged to, so the first worker
/// takes it and drops it. A packet that was taken before it was counted as handed is counted for the first worker; its
/// receive ledger follows when the worker is built.
fn settle_handed(all: &[&WorkerCounters]) {
    let sum = |of: fn(&WorkerCounters) -> &AtomicU64| {
        all.iter().fold(0_u64, |sum, counters| sum.wrapping_add(of(counters).load(Ordering::Relaxed)))
    };
    let (handed, taken) = (sum(|counters| &counters.handed), sum(|counters| &counters.taken));
    let (lost, uncounted) = (handed.saturating_sub(taken), taken.saturating_sub(handed));
    let Some(first) = all.first() else { return };
    add(&first.handed, uncounted);
    add(&first.taken, lost);
    if let Some(dropped) = first.dropped.get(DropReason::HandLost.index()) {
        add(dropped, lost);
    }
}

fn add(cell: &AtomicU64, more: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataplane_abi::limits::Capacities;
    use dataplane_forward::ReceiveLedger;

    #[test]
    fn packets_lost_between_workers_are_dropped_and_the_sums_close() {
        let (_, segment) = Segment::create(&Capacities { workers: 2, ..Capacities::SMALL }).unwrap();
        let [first, second] = [0, 1].map(|worker| segment.counters(WorkerId(worker)).unwrap());
        let set = |cell: &AtomicU64, value| cell.store(value, Ordering::Relaxed);
        for (counters, rx, stored, handed, taken) in [(first, 10, 6, 4, 0), (second, 7, 6, 2, 1)] {
            for (cell, value) in [(&counters.rx_packets, rx), (&counters.stored, stored)] {
                set(cell, value);
            }
            for (cell, value) in [(&counters.handed, handed), (&counters.taken, taken), (&counters.running, 1)] {
                set(cell, value);
            }
        }
        assert!(all_run(&segment, 2));
        take_over(&segment, 2);
        assert!(!all_run(&segment, 2));
        assert_eq!(first.dropped[DropReason::HandLost.index()].load(Ordering::Relaxed), 5);
        let [a, b] = [first, second].map(ReceiveLedger::of);
        assert_eq!(a.handed + b.handed, a.taken + b.taken);
        assert!(a.is_exact() && b.is_exact(), "{a:?} {b:?}");
        take_over(&segment, 2);
        assert_eq!(ReceiveLedger::of(first), a, "settled once");
        set(&second.taken, b.taken + 3);
        take_over(&segment, 2);
        let [a, b] = [first, second].map(ReceiveLedger::of);
        assert_eq!(a.handed + b.handed, a.taken + b.taken, "taken before it was counted");
    }
}
