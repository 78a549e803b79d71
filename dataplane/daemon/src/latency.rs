// SPDX-License-Identifier: Apache-2.0
//! Forwarding latency of a worker: from where a packet entered to when its copy was given to the kernel.

use core::sync::atomic::Ordering;

use dataplane_abi::counters::WorkerCounters;
use hdrhistogram::Histogram;

/// Longest latency told apart; more counts as this.
const LONGEST_NS: u64 = 10_000_000_000;
/// Digits that are told apart: 1 % of the figure, and a histogram (27 KiB) that stays in the cache.
const DIGITS: u8 = 2;
const PUBLISH_NS: u64 = 1_000_000_000;

/// The histogram of one worker; its memory is taken when it is made.
pub(crate) struct Latency {
    histogram: Histogram<u64>,
    published_ns: u64,
}

impl Latency {
    pub(crate) fn new() -> anyhow::Result<Self> {
        Ok(Self { histogram: Histogram::new_with_bounds(1, LONGEST_NS, DIGITS)?, published_ns: 0 })
    }

    /// Counts the frames of a tile that was flushed at `now_ns`.
    pub(crate) fn record(&mut self, arrivals: &[u64], now_ns: u64) {
        // A tile is a few packets for many receivers: equal ones are counted at once.
        for run in arrivals.chunk_by(PartialEq::eq) {
            let Some(arrival) = run.first() else { continue };
            let latency_ns = now_ns.saturating_sub(*arrival).clamp(1, LONGEST_NS);
            self.histogram.saturating_record_n(latency_ns, run.len() as u64);
        }
    }

    /// Shows the percentiles once per second.
    pub(crate) fn publish(&mut self, counters: &WorkerCounters, now_ns: u64) {
        if now_ns.saturating_sub(self.published_ns) < PUBLISH_NS {
            return;
        }
        self.published_ns = now_ns;
        let histogram = &self.histogram;
        let figures = [
            histogram.value_at_quantile(0.5),
            histogram.value_at_quantile(0.99),
            histogram.value_at_quantile(0.999),
            histogram.max(),
            histogram.len(),
        ];
        for (cell, figure) in counters.latency_ns.iter().zip(figures) {
            cell.store(figure, Ordering::Relaxed);
        }
    }
}
