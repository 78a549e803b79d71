// SPDX-License-Identifier: Apache-2.0
//! From the send times of probes and their arrivals to percentiles.

use std::collections::BTreeMap;

use anyhow::Result;
use bench_trafficgen::Probe;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::sink::Arrival;

/// What takes longer is another probe of the same id.
const LONGEST_NS: u64 = 5_000_000_000;

/// The arrival of a probe at one receiver, and how long it took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timed {
    /// When it was given to the kernel, monotonic ns.
    pub sent_ns: u64,
    /// From there to its arrival.
    pub latency_ns: u64,
    /// Of video.
    pub is_video: bool,
}

/// The latencies of all arrivals. An id means the probe that was sent last before the arrival.
#[must_use]
pub fn timed(probes: &[Probe], arrivals: &[Arrival]) -> Vec<Timed> {
    let mut sent: BTreeMap<(bool, u32), Vec<u64>> = BTreeMap::new();
    for probe in probes {
        sent.entry((probe.is_video, probe.id)).or_default().push(probe.sent_ns);
    }
    let one = |arrival: &Arrival| {
        let times = sent.get(&(arrival.is_video, arrival.id))?;
        let before = times.partition_point(|time| *time <= arrival.at_ns);
        let sent_ns = *times.get(before.checked_sub(1)?)?;
        let latency_ns = arrival.at_ns - sent_ns;
        (latency_ns < LONGEST_NS).then_some(Timed { sent_ns, latency_ns, is_video: arrival.is_video })
    };
    arrivals.iter().filter_map(one).collect()
}

/// The latencies of all arrivals of probes that were sent from `from_ns` to `until_ns`, ns.
///
/// # Errors
/// Never in practice: the histogram's bounds are constants.
pub fn of(probes: &[Probe], arrivals: &[Arrival], from_ns: u64, until_ns: u64) -> Result<Histogram<u64>> {
    let timed = timed(probes, arrivals);
    histogram(timed.iter().filter(|one| (from_ns..until_ns).contains(&one.sent_ns)))
}

/// Latencies as a histogram, ns.
///
/// # Errors
/// Never in practice: the histogram's bounds are constants.
pub fn histogram<'t>(timed: impl Iterator<Item = &'t Timed>) -> Result<Histogram<u64>> {
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3)?;
    timed.for_each(|one| histogram.saturating_record(one.latency_ns.max(1)));
    Ok(histogram)
}

/// Percentiles in µs, for a report.
#[must_use]
pub fn figures(histogram: &Histogram<u64>) -> Value {
    let us = |quantile: f64| us(histogram.value_at_quantile(quantile));
    json!({
        "probes": histogram.len(), "p50_us": us(0.5), "p90_us": us(0.9), "p99_us": us(0.99), "p999_us": us(0.999),
        "max_us": self::us(histogram.max()),
    })
}

fn us(ns: u64) -> f64 {
    crate::cpu::as_f64(ns) / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_arrival_belongs_to_the_last_probe_of_its_id() {
        let probe = |id, sent_ns| Probe { is_video: true, id, sent_ns };
        let arrival = |id, at_ns| Arrival { at_ns, receiver: 0, is_video: true, id };
        let probes = [probe(1, 1000), probe(2, 2000), probe(1, 9000)];
        let arrivals = [arrival(1, 1500), arrival(1, 9100), arrival(2, 2700), arrival(3, 5000), arrival(2, 1999)];
        let found = of(&probes, &arrivals, 0, u64::MAX).expect("bounds");
        assert_eq!((found.len(), found.min(), found.max()), (3, 100, 700));
        assert_eq!(of(&probes, &arrivals, 1500, 9000).expect("bounds").len(), 1, "only what was sent in the window");
    }
}
