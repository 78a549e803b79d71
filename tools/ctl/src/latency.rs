// SPDX-License-Identifier: Apache-2.0
//! `millrace latency`: from a packet's arrival to the moment when it was given to the kernel, by worker.

use serde::Serialize;

use crate::status::{Latency as Figures, Status};
use crate::text::{cells, number, table};

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct WorkerLatency {
    /// Its number.
    pub(crate) worker: u16,
    /// The port that it works on.
    pub(crate) port: &'static str,
    /// Percentiles since its start, µs.
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
    /// The part of a status that is about time.
    pub(crate) fn of(status: &Status) -> Self {
        let workers = status.workers.iter().map(|worker| WorkerLatency {
            worker: worker.worker,
            port: worker.port,
            forwarding_us: worker.latency_us.clone(),
            turn_max_us: worker.turn_max_us,
            turns_long: worker.counts.turns_long,
        });
        Self {
            measures: "arrival stamp to handover to the kernel, since the worker's start",
            workers: workers.collect(),
        }
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
