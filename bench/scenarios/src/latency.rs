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

/// The latencies of all arrivals from `from_ns` to `until_ns` of a probe's send time, ns. An id means the probe that was sent
/// last before the arrival.
///
/// # Errors
/// Never in practice: the histogram's bounds are constants.
pub fn of(probes: &[Probe], arrivals: &[Arrival], from_ns: u64, until_ns: u64) -> Result<Histogram<u64>> {
    let mut sent: BTreeMap<(bool, u32), Vec<u64>> = BTreeMap::new();
    for probe in probes {
        sent.entry((probe.is_video, probe.id)).or_default().push(probe.sent_ns);
    }
    let mut histogram = Histogram::new_with_bounds(1, LONGEST_NS, 3)?;
    for arrival in arrivals {
        let times = sent.get(&(arrival.is_video, arrival.id)).map_or(&[][..], Vec::as_slice);
        let before = times.partition_point(|time| *time <= arrival.at_ns);
        let Some(sent_ns) = before.checked_sub(1).and_then(|at| times.get(at)) else { continue };
        let latency_ns = arrival.at_ns - sent_ns;
        if (from_ns..until_ns).contains(sent_ns) && latency_ns < LONGEST_NS {
            histogram.saturating_record(latency_ns.max(1));
        }
    }
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
