// SPDX-License-Identifier: Apache-2.0
//! `millrace latency`: from a packet's arrival to the moment when it was given to the kernel, by worker.

use dataplane_abi::latency::quantile_ns;
use serde::Serialize;

use crate::status::{Latency as Figures, Status, WorkerStatus, us};
use crate::text::{cells, number, table};

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct WorkerLatency {
    /// Its number.
    pub(crate) worker: u16,
    /// The port that it works on.
    pub(crate) port: &'static str,
    /// Percentiles, µs.
    pub(crate) forwarding_us: Figures,
    /// Longest turn, µs: no packet waits longer for its turn than this.
    pub(crate) turn_max_us: f64,
    /// Turns over 500 µs.
    pub(crate) turns_long: u64,
}

/// All workers, and what the figures are.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// From where to where.
    pub(crate) measures: &'static str,
    /// One per worker.
    pub(crate) workers: Vec<WorkerLatency>,
}

impl Latency {
    /// The part of a status that is about time; where there was a look before, of the packets since then.
    pub(crate) fn of(status: &Status, before: Option<&Status>) -> Self {
        let workers = status.workers.iter().map(|worker| WorkerLatency {
            worker: worker.worker,
            port: worker.port,
            forwarding_us: before.map_or_else(
                || worker.latency_us.clone(),
                |before| between(before.workers.iter().find(|before| before.worker == worker.worker), worker),
            ),
            turn_max_us: worker.turn_max_us,
            turns_long: worker.counts.turns_long,
        });
        let measures = if before.is_some() {
            "arrival stamp to handover to the kernel, since the last look; turns since the worker's start"
        } else {
            "arrival stamp to handover to the kernel, since the worker's start"
        };
        Self { measures, workers: workers.collect() }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut rows =
            vec![cells(["WORKER", "PORT", "PACKETS", "p50", "p99", "p99.9", "MAX", "LONGEST TURN", "> 500 us"])];
        for worker in &self.workers {
            let figures = &worker.forwarding_us;
            let us = |value: f64| if figures.count == 0 { "-".to_owned() } else { format!("{value:.1} us") };
            let [p50, p99, p999, max] = [figures.p50, figures.p99, figures.p999, figures.max].map(us);
            let turn = format!("{:.1} us", worker.turn_max_us);
            let row = [number(worker.worker), worker.port.into(), number(figures.count), p50, p99, p999, max, turn];
            rows.push([row.to_vec(), vec![number(worker.turns_long)]].concat());
        }
        format!("{}: {}\n", "Forwarding latency", self.measures) + &table(&rows)
    }
}

/// Percentiles of what a worker has counted since an earlier look; the longest is that of its bucket.
fn between(before: Option<&WorkerStatus>, now: &WorkerStatus) -> Figures {
    let earlier = before.map_or(&[][..], |before| &before.histogram).iter().copied().chain(std::iter::repeat(0));
    let counts = now.histogram.iter().zip(earlier).map(|(now, before)| now.saturating_sub(before));
    let at = |of_a_million| us(quantile_ns(counts.clone(), of_a_million));
    Figures { p50: at(500_000), p99: at(990_000), p999: at(999_000), max: at(1_000_000), count: counts.clone().sum() }
}

#[cfg(test)]
mod tests {
    use dataplane_abi::latency::{LATENCY_BUCKETS, bucket};

    use super::*;

    #[test]
    fn between_two_looks_only_what_came_between_them_counts() {
        let worker = |latencies: &[(u64, u64)]| {
            let mut histogram = vec![0; LATENCY_BUCKETS];
            latencies.iter().for_each(|(us, frames)| histogram[bucket(us * 1000)] += frames);
            WorkerStatus { histogram, ..WorkerStatus::default() }
        };
        let status = |worker| Status { workers: vec![worker], ..Status::default() };
        let before = status(worker(&[(90_000, 1000)]));
        let now = status(worker(&[(90_000, 1000), (40, 99), (200, 1)]));
        let found = &Latency::of(&now, Some(&before)).workers[0].forwarding_us;
        assert_eq!(found.count, 100);
        assert!(
            (39.0..41.0).contains(&found.p50) && found.p99 < 41.0 && (199.0..204.0).contains(&found.max),
            "{found:?}"
        );
        assert_eq!(Latency::of(&now, None).workers[0].forwarding_us.count, 0, "what the worker itself says");
    }
}
