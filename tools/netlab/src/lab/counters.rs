// SPDX-License-Identifier: Apache-2.0
//! What the labs read from `millrace status --json` and `millrace drops --json`: every field name is in this file.
//!
//! A missing field reads as `None`, and a check on it fails: it must never read as zero.

use std::collections::BTreeMap;

use serde_json::Value;

/// One snapshot of the server's counters.
#[derive(Debug, Clone, Default)]
pub(crate) struct Status(pub(crate) Value);

/// Fates of a packet that a worker received or took from another.
const RX_FATES: [&str; 6] = ["stored", "answered", "consumed", "punted", "handed", "dropped"];

/// Reasons for which packets of honest browsers are dropped as well. No packet that fails authentication gets that far.
const HONEST_REASONS: [&str; 1] = ["rtx_useless"];

fn number(value: &Value) -> Option<f64> {
    value.as_f64()
}

impl Status {
    fn workers(&self) -> &[Value] {
        self.0["workers"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Sum over the workers of the number at `path`; `None` when one lacks it or there is no worker.
    fn sum(&self, path: &str) -> Option<f64> {
        let values: Option<Vec<f64>> = self.workers().iter().map(|worker| number(worker.pointer(path)?)).collect();
        values.filter(|values| !values.is_empty()).map(|values| values.iter().sum())
    }

    /// Largest over the workers of the number at `path`; same rule.
    fn largest(&self, path: &str) -> Option<f64> {
        let values: Option<Vec<f64>> = self.workers().iter().map(|worker| number(worker.pointer(path)?)).collect();
        values.filter(|values| !values.is_empty()).map(|values| values.into_iter().fold(f64::MIN, f64::max))
    }

    /// Packets sent by all workers.
    pub(crate) fn tx_packets(&self) -> Option<f64> {
        self.sum("/tx_packets")
    }

    /// How far the receive ledger is from exact: Σ |rx + taken − fates| of the workers, plus |Σ handed − Σ taken|.
    pub(crate) fn rx_ledger_gap(&self) -> Option<f64> {
        let mut gap = 0.0_f64;
        for worker in self.workers() {
            let mut fates = 0.0;
            for fate in RX_FATES {
                fates += number(&worker["ledger"][fate])?;
            }
            gap += (number(&worker["rx_packets"])? + number(&worker["ledger"]["taken"])? - fates).abs();
        }
        Some(gap + (self.sum("/ledger/handed")? - self.sum("/ledger/taken")?).abs())
    }

    /// How far the cohort ledger is from exact: |offered − (sent + skipped + pending)| over all workers.
    pub(crate) fn cohort_ledger_gap(&self) -> Option<f64> {
        let settled = self.sum("/cohort_ledger/sent")? + self.sum("/cohort_ledger/skipped")?;
        Some((self.sum("/cohort_ledger/offered")? - settled - self.sum("/cohort_ledger/pending")?).abs())
    }

    /// The port that each worker has opened: `uring`, `sockets`, …
    pub(crate) fn ports(&self) -> Vec<&str> {
        self.workers().iter().filter_map(|worker| worker["port"].as_str()).collect()
    }

    /// Packets that came or left (`rx`, `tx`) over a port: `xdp`, or `socket` for what the port beside it carried.
    pub(crate) fn port_packets(&self, port: &str, way: &str) -> Option<f64> {
        let by_xdp = self.sum(&format!("/{way}_by_xdp"))?;
        if port == "xdp" { Some(by_xdp) } else { Some(self.sum(&format!("/{way}_packets"))? - by_xdp) }
    }

    /// Where XDP runs: `native`, `generic`.
    pub(crate) fn xdp_mode(&self) -> Option<&str> {
        self.0.pointer("/interfaces/0/mode")?.as_str()
    }

    /// Frames that the classifier dropped; `None` where there is none.
    pub(crate) fn xdp_dropped(&self) -> Option<f64> {
        let fates = self.0.pointer("/interfaces/0/fates")?.as_object()?;
        Some(fates.iter().filter(|(fate, _)| fate.starts_with("drop_")).filter_map(|(_, count)| number(count)).sum())
    }

    /// Frames that were for an AF_XDP socket and did not get into it; `None` where there is none.
    pub(crate) fn xdp_lost(&self) -> Option<f64> {
        let of = |name: &str| number(self.0.pointer(&format!("/interfaces/0/socket_counters/{name}"))?);
        Some(of("rx_dropped")? + of("rx_ring_full")? + of("fill_ring_empty")?)
    }

    /// Packets × members that each worker has sent.
    pub(crate) fn sent_by_worker(&self) -> Option<Vec<f64>> {
        self.workers().iter().map(|worker| number(&worker["cohort_ledger"]["sent"])).collect()
    }

    /// Packets punted to the control plane.
    pub(crate) fn punted(&self) -> Option<f64> {
        self.sum("/ledger/punted")
    }

    /// Heap allocations of the workers since they were ready.
    pub(crate) fn allocations_after_start(&self) -> Option<f64> {
        self.sum("/allocations_after_start")
    }

    /// The longest worker turn by the clock, in µs.
    pub(crate) fn turn_max_us(&self) -> Option<f64> {
        self.largest("/turn_max_us")
    }

    /// What the worker itself took in the turn in which it took longest, in µs.
    pub(crate) fn turn_work_max_us(&self) -> Option<f64> {
        self.largest("/turn_work_max_us")
    }

    /// The longest time of one turn in the port's system calls, in µs.
    pub(crate) fn turn_kernel_max_us(&self) -> Option<f64> {
        self.largest("/turn_kernel_max_us")
    }

    /// The longest stretch of a turn in which the worker did nothing, in µs.
    pub(crate) fn turn_gap_max_us(&self) -> Option<f64> {
        self.largest("/turn_gap_max_us")
    }

    /// The longest turn and its parts, for the terminal.
    pub(crate) fn turn_words(&self) -> String {
        let show = |figure: Option<f64>| figure.map_or_else(|| "?".to_owned(), |figure| format!("{figure:.0}"));
        let [work, wall] = [self.turn_work_max_us(), self.turn_max_us()].map(show);
        let [kernel, gap] = [self.turn_kernel_max_us(), self.turn_gap_max_us()].map(show);
        format!("{work} us of work ({wall} by the clock, {kernel} in the kernel, gaps of {gap})")
    }

    /// Turns longer than 500 µs by the clock.
    pub(crate) fn turns_long(&self) -> Option<f64> {
        self.sum("/turns_long")
    }

    /// Turns with more than 500 µs of the worker's own work.
    pub(crate) fn turns_long_work(&self) -> Option<f64> {
        self.sum("/turns_long_work")
    }

    /// Forwarding latency of the slowest worker at `quantile` (`p50`, `p99`, `max`), in µs.
    pub(crate) fn latency_us(&self, quantile: &str) -> Option<f64> {
        self.largest(&format!("/latency_us/{quantile}"))
    }

    /// Entries of each table.
    pub(crate) fn tables(&self) -> BTreeMap<String, f64> {
        let Some(tables) = self.0["tables"].as_object() else { return BTreeMap::new() };
        tables.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect()
    }
}

/// Drop counts by reason.
#[derive(Debug, Clone, Default)]
pub(crate) struct Drops(pub(crate) Value);

impl Drops {
    /// Every reason with its count over all workers.
    pub(crate) fn by_reason(&self) -> BTreeMap<String, f64> {
        let reasons = self.0.get("totals").or_else(|| self.0.get("reasons")).unwrap_or(&self.0);
        let Some(reasons) = reasons.as_object() else { return BTreeMap::new() };
        reasons.iter().filter_map(|(name, value)| Some((name.clone(), number(value)?))).collect()
    }

    /// Sum over the reasons for which no honest packet is dropped; `None` when no reason is reported.
    pub(crate) fn hostile(&self) -> Option<f64> {
        let reasons = self.by_reason();
        let counted = reasons.iter().filter(|(reason, _)| !HONEST_REASONS.contains(&reason.as_str()));
        (!reasons.is_empty()).then(|| counted.map(|(_, count)| count).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(dropped: u64) -> Status {
        let ledger = json!({"stored": 6, "answered": 1, "consumed": 1, "punted": 1, "handed": 1, "taken": 1,
            "dropped": dropped});
        let cohort = json!({"offered": 10, "sent": 8, "skipped": 1, "pending": 1});
        let worker = json!({"rx_packets": 10, "ledger": ledger, "cohort_ledger": cohort});
        Status(json!({"workers": [worker.clone(), worker]}))
    }

    #[test]
    fn exact_ledgers_have_no_gap_and_a_lost_packet_shows() {
        assert_eq!(status(1).rx_ledger_gap(), Some(0.0));
        assert_eq!(status(1).cohort_ledger_gap(), Some(0.0));
        assert_eq!(status(0).rx_ledger_gap(), Some(2.0), "one packet at each of two workers");
    }

    #[test]
    fn a_field_that_is_missing_reads_as_nothing_and_never_as_zero() {
        assert_eq!(status(1).turn_max_us(), None);
        assert_eq!(Status::default().rx_ledger_gap(), None);
        assert_eq!(Drops(json!({})).hostile(), None);
    }

    #[test]
    fn drops_of_honest_packets_are_not_taken_for_hostile_ones() {
        let drops = Drops(json!({"reasons": {"rtx_useless": 16, "unknown_flow": 3, "replayed": 2}}));
        assert_eq!(drops.hostile(), Some(5.0));
    }
}
