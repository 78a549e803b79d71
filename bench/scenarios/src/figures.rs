// SPDX-License-Identifier: Apache-2.0
//! Figures of a run: its row of the table, its part of the JSON, and what it is held to.

use bench_scenarios::latency;
use bench_scenarios::run::{Outcome, Setup};
use bench_trafficgen::Shape;
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
    let Ok(plan) = setup.table.plan() else { return report };
    report.note(
        "call",
        json!({
            "publishers": plan.publishers.len(), "tracks": plan.tracks(), "receivers": plan.receivers.len(),
            "streams": plan.streams(),
        }),
    );
    report.note("media", json!({ "video": shape(&setup.media.video), "audio": shape(&setup.media.audio) }));
    report
}

fn shape(shape: &Shape) -> Value {
    json!({
        "frames_per_second": shape.frame_rate, "packets_per_second": shape.packet_rate, "payload_bytes": shape.payload,
        "frames_between_keyframes": shape.keyframe_every, "frames_between_probes": shape.probe_every,
    })
}

/// The table's head.
pub(crate) fn heading() {
    console::line(&format!(
        "  {:<14} {:>9} {:>8} {:>8} {:>7} {:>9} {:>8} {:>9} {:>9} {:>10} {:>10} {:>9} {:>8} {:>8} {:>9}",
        "run",
        "pps",
        "proc us",
        "core us",
        "busy %",
        "lost",
        "p50 us",
        "p99 us",
        "p99.9 us",
        "server p50",
        "server p99",
        "gap us",
        "drift %",
        "ref ns",
        "samples"
    ));
}

/// What the columns of the table mean.
pub(crate) fn legend() {
    console::line(
        "  p50 … p99.9: from the generator's send call to the sink; server: from a packet's arrival at it to when its copy was given \
         to the kernel, since its start; gap: the longest that the server's idle core did not run anything at all; ref: what a fixed packet, sealed and sent from \
         socket to socket, takes on that core before and after (in a busy host more: compare runs of one figure)",
    );
}

/// Notes the figures of a run and prints its row.
pub(crate) fn note(report: &mut Report, name: &str, outcome: &Outcome) {
    let figures = latency::figures(&outcome.latency);
    let at = |key: &str| figures[key].as_f64().unwrap_or(0.0);
    let server = |at: usize| outcome.server_us.map_or_else(|| "?".to_owned(), |us| format!("{:.1}", us[at]));
    console::line(&format!(
        "  {name:<14} {:>9.0} {:>8.3} {:>8.3} {:>7.1} {:>9} {:>8.0} {:>9.0} {:>9.0} {:>10} {:>10} {:>9.0} {:>8.1} {:>8.0} {:>9}",
        outcome.rate(),
        outcome.process_us(),
        outcome.core_us(),
        outcome.usage.busy_by_spinner(outcome.calibrations.idle_rate()) * 100.0,
        outcome.missing(),
        at("p50_us"),
        at("p99_us"),
        at("p999_us"),
        server(0),
        server(1),
        outcome.calibrations.longest_gap_us(),
        outcome.calibrations.drift_percent(),
        outcome.calibrations.packet_ns(),
        format!("{}/{}", outcome.verdict.right, outcome.verdict.right + outcome.verdict.wrong),
    ));
    report.note(name, all(outcome, figures));
}

fn all(outcome: &Outcome, latency: Value) -> Value {
    json!({
        "packets_per_second": outcome.rate(), "forwarded": outcome.forwarded, "window_s": outcome.usage.seconds,
        "process_us": outcome.process_us(), "core_us": outcome.core_us(),
        "busy_by_process": outcome.usage.busy_by_process(),
        "busy_by_spinner": outcome.usage.busy_by_spinner(outcome.calibrations.idle_rate()),
        "process_ticks": outcome.usage.process_ticks, "workers_ns": outcome.workers_ns,
        "calibration": outcome.calibrations.figures(),
        "generator": {
            "sent": outcome.sent.total(), "refused": outcome.sent.refused, "late_frames": outcome.sent.late,
            "keyframes_asked": outcome.sent.keyframes_asked,
        },
        "expected": outcome.expected, "delivered": outcome.delivered,
        "lost": { "video": outcome.lost[0], "audio": outcome.lost[1] },
        "backward": outcome.backward, "strange_streams": outcome.strange_streams,
        "wire_dropped": { "at_server": outcome.wire_dropped[0], "at_sink": outcome.wire_dropped[1] },
        "sink": {
            "control": outcome.totals.control, "others": outcome.totals.others, "unknown": outcome.totals.unknown,
            "no_room": outcome.totals.no_room, "samples": outcome.totals.samples, "probes": outcome.totals.probes,
        },
        "latency": latency,
        "server_latency": outcome.server_us.map(|us| json!({ "p50_us": us[0], "p99_us": us[1], "p999_us": us[2] })),
        "back_end": outcome.back_end,
        "samples": outcome.verdict.figures(),
        "server_log_tail": outcome.log.lines().rev().take(4).collect::<Vec<_>>(),
    })
}

/// Notes the figures of a run and holds it to nothing lost, intact samples, a quiet machine and, where given, a cost.
pub(crate) fn judge(report: &mut Report, name: &str, outcome: &Outcome, most_us: Option<f64>) {
    note(report, name, outcome);
    report.at_most(format!("{name}.calibration_drift"), Some(outcome.calibrations.drift_percent()), "%", MOST_DRIFT);
    report.exactly(format!("{name}.lost"), Some(count(outcome.missing())), "packets", 0.0);
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
