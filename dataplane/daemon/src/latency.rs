// SPDX-License-Identifier: Apache-2.0
//! Forwarding latency of a worker: from where a packet entered to when its copy was given to the kernel.

use core::sync::atomic::Ordering;

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::latency::{bucket, quantile_ns};

/// Parts of a million: p50, p99, p99.9.
const SHOWN: [u64; 3] = [500_000, 990_000, 999_000];
const PUBLISH_NS: u64 = 1_000_000_000;

/// The latencies of one worker; they are counted where everybody can read them.
pub(crate) struct Latency {
    /// What predecessors have counted.
    before: Box<[u64]>,
    max_ns: u64,
    frames: u64,
    published_ns: u64,
}

impl Latency {
    pub(crate) fn new(counters: &WorkerCounters) -> Self {
        let before = counters.latency.iter().map(|cell| cell.load(Ordering::Relaxed));
        Self { before: before.collect(), max_ns: 0, frames: 0, published_ns: 0 }
    }

    /// Counts the frames of a tile that was flushed at `now_ns`.
    pub(crate) fn record(&mut self, counters: &WorkerCounters, arrivals: &[u64], now_ns: u64) {
        // A tile is a few packets for many receivers: equal ones are counted at once.
        for run in arrivals.chunk_by(PartialEq::eq) {
            let Some(arrival) = run.first() else { continue };
            let latency_ns = now_ns.saturating_sub(*arrival);
            let Some(cell) = counters.latency.get(bucket(latency_ns)) else { continue };
            let frames = run.len() as u64;
            // This worker alone writes: nothing is lost between load and store.
            cell.store(cell.load(Ordering::Relaxed).wrapping_add(frames), Ordering::Relaxed);
            self.max_ns = self.max_ns.max(latency_ns);
            self.frames = self.frames.wrapping_add(frames);
        }
    }

    /// Shows the percentiles once per second.
    pub(crate) fn publish(&mut self, counters: &WorkerCounters, now_ns: u64) {
        if now_ns.saturating_sub(self.published_ns) < PUBLISH_NS {
            return;
        }
        self.published_ns = now_ns;
        let own = || {
            let cells = counters.latency.iter().zip(&self.before);
            cells.map(|(cell, before)| cell.load(Ordering::Relaxed).wrapping_sub(*before))
        };
        // Within its bucket a quantile is a guess; the longest is not.
        let [p50, p99, p999] = SHOWN.map(|part| quantile_ns(own(), part).min(self.max_ns));
        for (cell, figure) in counters.latency_ns.iter().zip([p50, p99, p999, self.max_ns, self.frames]) {
            cell.store(figure, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use dataplane_abi::ids::WorkerId;
    use dataplane_abi::limits::Capacities;
    use dataplane_shm::Segment;

    use super::*;

    #[test]
    fn a_worker_shows_its_own_latencies_and_adds_them_to_its_predecessors() {
        let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
        let counters = segment.counters(WorkerId(0)).unwrap();
        Latency::new(counters).record(counters, &[0; 500], 1_000_000);
        let mut latency = Latency::new(counters);
        let arrivals = [[90_000_u64; 98].as_slice(), &[50_000; 2]].concat();
        latency.record(counters, &arrivals, 100_000);
        latency.publish(counters, PUBLISH_NS);
        let shown: Vec<u64> = counters.latency_ns.iter().map(|cell| cell.load(Ordering::Relaxed)).collect();
        assert!(shown[0].abs_diff(10_000) < 200 && shown[1].abs_diff(50_000) < 1000, "{shown:?}");
        assert_eq!(shown[3..], [50_000, 100]);
        let all: u64 = counters.latency.iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
        assert_eq!(all, 600);
    }
}
