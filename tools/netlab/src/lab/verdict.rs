// SPDX-License-Identifier: Apache-2.0
//! The checks that every lab holds the server to, whatever the clients did.

use serde_json::json;

use super::counters::Status;
use super::server::Server;
use crate::report::Report;

/// The longest turn of a worker, as far as it is the worker's own: by the clock, what shares the machine with it makes it longer.
const TURN_US: f64 = 500.0;
/// The longest that an idle thread on a machine of the labs was ever seen to stand still was 19 ms: a longer turn is nobody
/// else's.
const EXCUSED_US: f64 = 20_000.0;
/// Microseconds that take its place: `cargo xtask test` gives more.
const TURN_VARIABLE: &str = "MILLRACE_LAB_TURN_US";

fn turn_bound_us() -> f64 {
    std::env::var(TURN_VARIABLE).ok().and_then(|bound| bound.parse().ok()).unwrap_or(TURN_US)
}

/// Both ledgers close, no heap allocation between two snapshots, no long turn. Notes latency and every counter.
pub(crate) fn judge_counters(report: &mut Report, server: &Server, before: &Status, after: &Status) {
    report.exactly("server.rx_ledger_gap", after.rx_ledger_gap(), "packets", 0.0);
    report.exactly("server.cohort_ledger_gap", after.cohort_ledger_gap(), "packets", 0.0);
    let allocations = before.allocations_after_start().zip(after.allocations_after_start());
    report.exactly("server.allocations_in_window", allocations.map(|(old, new)| new - old), "allocations", 0.0);
    judge_turns(report, server, after);
    let beside = [
        ("wall_max_us", after.turn_max_us()),
        ("kernel_max_us", after.turn_kernel_max_us()),
        ("gap_max_us", after.turn_gap_max_us()),
        ("long_by_the_clock", after.turns_long()),
    ];
    for (name, figure) in beside {
        report.note(format!("server.turn_{name}"), json!(figure));
    }
    for quantile in ["p50", "p99", "max"] {
        report.note(format!("server.latency_{quantile}_us"), json!(after.latency_us(quantile)));
    }
    report.note("server.status", after.0.clone());
}

/// No turn has more work than is allowed, or no more turns have than the machine itself makes too long, and none longer than a
/// machine was ever seen to stand still: interrupts, and a hypervisor that takes the core away, count as work by every clock
/// that a thread has (`witness`).
fn judge_turns(report: &mut Report, server: &Server, after: &Status) {
    let (longest, most_us, stops) = (after.turn_work_max_us(), turn_bound_us(), server.stops());
    let cpu_s = server.cpu_us().unwrap_or(0.0) / 1e6;
    let explained = stops.explain(cpu_s);
    let is_short = longest.is_some_and(|longest| longest <= most_us);
    let is_explained = after.turns_long_work().is_some_and(|turns| turns <= as_f64(explained))
        && longest.is_some_and(|longest| longest <= EXCUSED_US);
    let bound = format!("<= {most_us}, or at most {explained} turns above {TURN_US}, none above {EXCUSED_US}");
    report.check("server.turn_max_us", json!(longest), "us", &bound, is_short || is_explained);
    let seen = json!({ "stops": stops.count, "longest_us": stops.longest_us, "watched_s": stops.watched_s,
        "data_plane_cpu_s": cpu_s, "turns_explained": explained, "turns_long_work": after.turns_long_work() });
    report.note("server.stops_of_the_machine", seen);
}

#[expect(clippy::cast_precision_loss, reason = "a count of turns")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// No process exited, none panicked. Notes the drops.
pub(crate) fn judge_health(report: &mut Report, server: &Server) {
    let exits = server.exits();
    report.check("server.exits", json!(exits), "processes", "= []", exits.is_empty());
    let panics = server.panics();
    report.check("server.panics", panics, "panics", "= 0", panics == 0);
    report.note("server.scheduler_wait_ms", json!(server.scheduler_wait_ms()));
    report.note("server.drops", json!(server.drops().map(|drops| drops.by_reason()).ok()));
}

/// A figure for the terminal.
pub(crate) fn show(value: Option<f64>) -> String {
    value.map_or_else(|| "?".to_owned(), |value| format!("{value:.0}"))
}
