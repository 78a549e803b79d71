// SPDX-License-Identifier: Apache-2.0
//! What a table's data plane prints: the call, and a line each second. Never a key.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::ids::WorkerId;
use dataplane_shm::Segment;
use dataplane_table::Plan;

/// Writes a line to standard output. Who reads it may be gone: that ends nothing.
pub(super) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The call in one line.
pub(super) fn call(plan: &Plan) -> String {
    format!(
        "serving {} on {}: {} publishers with {} tracks, {} receivers with {} streams",
        plan.cipher.name(),
        plan.server,
        plan.publishers.len(),
        plan.tracks(),
        plan.receivers.len(),
        plan.streams()
    )
}

/// Counters of all workers.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    received: u64,
    sent: u64,
    sent_bytes: u64,
    sent_by_xdp: u64,
    dropped: u64,
    skipped: u64,
    errors: u64,
    /// p50, p99 and p99.9 of the forwarding latency since start, of the worker that has the longest, ns.
    latency_ns: [u64; 3],
}

impl Sums {
    pub(super) fn of(segment: &Segment) -> Self {
        let workers = u16::try_from(segment.capacities().workers).unwrap_or(0);
        let mut sums = Self::default();
        for counters in (0..workers).filter_map(|worker| segment.counters(WorkerId(worker))) {
            sums.add(counters);
        }
        sums
    }

    fn add(&mut self, counters: &WorkerCounters) {
        let load = |cell: &AtomicU64| cell.load(Ordering::Relaxed);
        self.received += load(&counters.rx_packets);
        self.sent += load(&counters.tx_packets);
        self.sent_bytes += load(&counters.tx_bytes);
        self.sent_by_xdp += load(&counters.tx_by_xdp);
        self.dropped += counters.dropped.iter().map(load).sum::<u64>();
        self.skipped += counters.skipped.iter().map(load).sum::<u64>();
        self.errors += load(&counters.tx_errors) + load(&counters.rx_overflow) + load(&counters.intent_refused);
        for (most, cell) in self.latency_ns.iter_mut().zip(&counters.latency_ns) {
            *most = (*most).max(load(cell));
        }
    }

    /// One line about the second that ended.
    pub(super) fn since(&self, before: &Self, second: u64) -> String {
        let us = |ns: u64| format!("{}.{}", ns / 1000, ns % 1000 / 100);
        format!(
            "{second:>5} s  in {:>8}/s  out {:>8}/s {:>6} Mbps  by XDP {:>8}/s  dropped {}  skipped {}  errors {}  latency p50 {} us p99 {} us p99.9 {} us",
            self.received.wrapping_sub(before.received),
            self.sent.wrapping_sub(before.sent),
            self.sent_bytes.wrapping_sub(before.sent_bytes).wrapping_mul(8) / 1_000_000,
            self.sent_by_xdp.wrapping_sub(before.sent_by_xdp),
            self.dropped,
            self.skipped,
            self.errors,
            us(self.latency_ns[0]),
            us(self.latency_ns[1]),
            us(self.latency_ns[2]),
        )
    }
}
