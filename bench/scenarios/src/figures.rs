// SPDX-License-Identifier: Apache-2.0
//! Figures of a run: its row of the table, its part of the JSON, and what it is held to.

use bench_scenarios::latency;
use bench_scenarios::run::{Outcome, Setup};
use serde_json::{Value, json};
use tools_netlab::console;
use tools_netlab::report::Report;

/// A run whose calibrations lie farther apart is refused, percent.
const MOST_DRIFT: f64 = 10.0;

/// Forwarding latency at a quantile, µs.
pub(crate) fn quantile_us(outcome: &Outcome, quantile: f64) -> f64 {
    count(outcome.latency.value_at_quantile(quantile)) / 1000.0
}

/// A report that names the machine, the command and the media.
pub(crate) fn begin(name: &str, setup: &Setup) -> Report {
    let mut report = Report::start(name);
    report.note("command", json!(std::env::args().collect::<Vec<_>>()));
    report.note("cipher", setup.table.cipher.name());
    report.note("port", "AF_XDP, copy mode, veth");
    report.note(
        "media",
        json!({
            "video": format!("{:?}", setup.media.video), "audio": format!("{:?}", setup.media.audio),
        }),
    );
    report
}

/// The table's head.
pub(crate) fn heading() {
    console::line(&format!(
        "  {:<12} {:>9} {:>9} {:>9} {:>7} {:>10} {:>9} {:>9} {:>9} {:>8} {:>9}",
        "run", "pps", "proc us", "core us", "busy %", "lost", "p50 us", "p99 us", "p99.9 us", "drift %", "samples"
    ));
}

/// Notes the figures of a run and prints its row.
pub(crate) fn note(report: &mut Report, name: &str, outcome: &Outcome) {
    let figures = latency::figures(&outcome.latency);
    let at = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    console::line(&format!(
        "  {name:<12} {:>9.0} {:>9.3} {:>9.3} {:>7.1} {:>10} {:>9.0} {:>9.0} {:>9.0} {:>8.1} {:>9}",
        outcome.rate(),
        outcome.process_us(),
        outcome.core_us(),
        outcome.usage.busy_by_spinner(outcome.idle_rate()) * 100.0,
        outcome.expected - outcome.delivered,
        at("p50_us"),
        at("p99_us"),
        at("p999_us"),
        outcome.drift_percent(),
        format!("{}/{}", outcome.verdict.right, outcome.verdict.right + outcome.verdict.wrong),
    ));
    report.note(name, all(outcome, figures));
}

fn all(outcome: &Outcome, latency: Value) -> Value {
    json!({
        "packets_per_second": outcome.rate(), "forwarded": outcome.forwarded, "window_s": outcome.usage.seconds,
        "process_us": outcome.process_us(), "core_us": outcome.core_us(),
        "busy_by_process": outcome.usage.busy_by_process(),
        "busy_by_spinner": outcome.usage.busy_by_spinner(outcome.idle_rate()),
        "process_ticks": outcome.usage.process_ticks,
        "calibration": {
            "loops_per_second": outcome.idle_rates, "drift_percent": outcome.drift_percent(),
            "longest_gaps_us": outcome.idle_gaps_ns.map(|ns| count(ns) / 1000.0),
        },
        "generator": { "sent": outcome.sent.total(), "refused": outcome.sent.refused, "late_frames": outcome.sent.late },
        "expected": outcome.expected, "delivered": outcome.delivered,
        "lost": { "video": outcome.lost[0], "audio": outcome.lost[1] },
        "backward": outcome.backward, "strange_streams": outcome.strange_streams,
        "sink": {
            "control": outcome.totals.control, "others": outcome.totals.others, "unknown": outcome.totals.unknown,
            "no_room": outcome.totals.no_room, "samples": outcome.totals.samples, "probes": outcome.totals.probes,
        },
        "latency": latency, "samples": outcome.verdict.figures(),
        "server_log_tail": outcome.log.lines().rev().take(4).collect::<Vec<_>>(),
    })
}

/// Notes the figures of a run and holds it to nothing lost, intact samples, a quiet machine and, where given, a cost.
pub(crate) fn judge(report: &mut Report, name: &str, outcome: &Outcome, most_us: Option<f64>) {
    note(report, name, outcome);
    report.at_most(format!("{name}.calibration_drift"), Some(outcome.drift_percent()), "%", MOST_DRIFT);
    report.exactly(format!("{name}.lost"), Some(count(outcome.expected - outcome.delivered)), "packets", 0.0);
    report.holds(format!("{name}.something_forwarded"), outcome.delivered > 0);
    report.exactly(format!("{name}.backward"), Some(count(outcome.backward)), "packets", 0.0);
    report.exactly(format!("{name}.samples_wrong"), Some(count(outcome.verdict.wrong)), "packets", 0.0);
    report.at_least(format!("{name}.samples_right"), Some(count(outcome.verdict.right)), "packets", 1.0);
    report.exactly(format!("{name}.generator_refused"), Some(count(outcome.sent.refused)), "packets", 0.0);
    if let Some(most) = most_us {
        report.at_most(format!("{name}.process_us"), Some(outcome.process_us()), "us", most);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
pub(crate) const fn count(value: u64) -> f64 {
    value as f64
}
