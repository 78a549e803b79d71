// SPDX-License-Identifier: Apache-2.0
//! Runs of several systems in turn, again and again, and the ratios between them: each peer's cost by ours of the same round,
//! so that a machine that slows down slows both. It must never average over a run that it refused.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use tools_netlab::console;
use tools_netlab::report::Report;

use crate::measure::{Outcome, Setup};
use crate::systems::System;

/// A run whose calibrations lie farther apart is refused, percent.
const MOST_DRIFT: f64 = 10.0;
/// Times that a refused run is repeated.
const TRIES: u32 = 3;
/// What a peer may lose and still counts as carrying its receivers.
pub const MOST_LOSS: f64 = 0.001;
/// Shares of the wanted number of receivers that are tried where a peer does not carry it, in percent.
const LADDER: [u32; 7] = [100, 70, 50, 35, 25, 15, 10];

/// A ratio over all rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The middle one.
    pub median: f64,
    /// The smallest.
    pub least: f64,
    /// The largest.
    pub most: f64,
}

impl Ratio {
    /// Of all rounds; `None` without one.
    #[must_use]
    pub fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let median = *values.get(values.len() / 2)?;
        Some(Self { median, least: *values.first()?, most: *values.last()? })
    }
}

/// One run that is not refused; prints its row.
///
/// # Errors
/// When the run cannot be set up, or the machine is not quiet enough.
pub fn run(system: System, setup: &Setup<'_>) -> Result<Outcome> {
    for _ in 0..TRIES {
        let at = || format!("{} with {} receivers", system.name(), setup.receivers);
        let outcome = system.run(setup).with_context(at)?;
        row(system, setup.receivers, &outcome);
        if outcome.drift_percent() <= MOST_DRIFT {
            return Ok(outcome);
        }
        console::line("  refused: the machine changed its speed meanwhile");
    }
    bail!("{}: the machine is not quiet", system.name())
}

/// The largest number of receivers up to `setup`'s that the system carries.
///
/// # Errors
/// When a run cannot be set up, or it carries not even a tenth.
pub fn largest(system: System, setup: &Setup<'_>) -> Result<u32> {
    for share in LADDER {
        let receivers = (setup.receivers * share / 100).max(1);
        if run(system, &Setup { receivers, ..*setup })?.loss() <= MOST_LOSS {
            return Ok(receivers);
        }
    }
    bail!("{} does not carry {} receivers", system.name(), setup.receivers / 10)
}

/// Runs the peers against ours, `rounds` times, with the same number of receivers; ratios and verdicts go into the report.
///
/// # Errors
/// When a run cannot be set up.
pub fn rounds(report: &mut Report, peers: &[System], setup: &Setup<'_>, rounds: u32) -> Result<()> {
    let mut all: BTreeMap<System, Vec<Outcome>> = BTreeMap::new();
    for _ in 0..rounds {
        for system in [System::Millrace].iter().chain(peers) {
            all.entry(*system).or_default().push(run(*system, setup)?);
        }
    }
    let count = setup.receivers;
    for (system, outcomes) in &all {
        let name = format!("{}.{count}", system.name());
        let wrong: u64 = outcomes.iter().map(|outcome| outcome.samples[1]).sum();
        let right = outcomes.iter().map(|outcome| outcome.samples[0]).min().unwrap_or(0);
        report.check(format!("{name}.samples_wrong"), wrong, "packets", "= 0", wrong == 0);
        report.check(format!("{name}.samples_right"), right, "packets", ">= 1", right >= 1);
        let loss = outcomes.iter().map(Outcome::loss).fold(0.0, f64::max);
        report.at_most(format!("{name}.loss"), Some(loss), "", MOST_LOSS);
        report.note(name, json!(outcomes.iter().map(Outcome::figures).collect::<Vec<_>>()));
    }
    for peer in peers {
        compare(report, &all, (*peer, System::Millrace), count, peer.bar());
    }
    if peers.contains(&System::MillraceUring) && peers.contains(&System::FloorSendmmsg) {
        compare(report, &all, (System::FloorSendmmsg, System::MillraceUring), count, Some(1.5));
    }
    Ok(())
}

/// How many times the cost of `ours` that of `peer` is.
fn compare(
    report: &mut Report,
    all: &BTreeMap<System, Vec<Outcome>>,
    (peer, ours): (System, System),
    count: u32,
    bar: Option<f64>,
) {
    let of = |system| all.get(&system).map_or(&[][..], Vec::as_slice);
    let ratios = of(peer).iter().zip(of(ours)).map(|(peer, ours)| peer.process_us() / ours.process_us());
    let ratio = Ratio::of(ratios.collect());
    let name = format!("{}.{count}.times_{}", peer.name(), ours.name());
    if let Some(Ratio { median, least, most }) = ratio {
        let [peer, ours] = [peer.name(), ours.name()];
        console::line(&format!(
            "  1 to {count}: {peer} takes {median:.1} times what {ours} takes ({least:.1} to {most:.1})"
        ));
        report.note(name.clone(), json!({"median": median, "least": least, "most": most}));
    }
    if let Some(bar) = bar {
        report.at_least(name, ratio.map(|ratio| ratio.median), "times", bar);
    }
}

/// What the columns of the rows are.
pub fn heading() {
    console::line(&format!(
        "  {:<15} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>9}",
        "system",
        "receivers",
        "pps",
        "proc us",
        "core us",
        "busy %",
        "loss %",
        "p50 us",
        "p99 us",
        "drift %",
        "samples"
    ));
}

fn row(system: System, receivers: u32, outcome: &Outcome) {
    let latency = |key: &str| outcome.latency[key].as_f64().unwrap_or(0.0);
    let rate = outcome.figures()["forwarded"].as_f64().unwrap_or(0.0) / outcome.usage.seconds;
    let [right, wrong] = outcome.samples;
    console::line(&format!(
        "  {:<15} {receivers:>9} {rate:>9.0} {:>9.3} {:>9.3} {:>9.1} {:>9.3} {:>9.0} {:>9.0} {:>8.1} {:>9}",
        system.name(),
        outcome.process_us(),
        outcome.core_us(),
        outcome.usage.busy_by_process() * 100.0,
        outcome.loss() * 100.0,
        latency("p50_us"),
        latency("p99_us"),
        outcome.drift_percent(),
        format!("{right}/{}", right + wrong),
    ));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ratio_is_the_middle_one_with_its_bounds() {
        let ratio = Ratio::of(vec![3.0, 1.0, 2.0]).expect("a ratio");
        assert_eq!((ratio.median, ratio.least, ratio.most), (2.0, 1.0, 3.0));
        assert_eq!(Ratio::of(Vec::new()), None);
    }
}
