// SPDX-License-Identifier: Apache-2.0
//! The checks that every lab holds the server to, whatever the clients did.

use serde_json::json;

use super::counters::Status;
use super::server::Server;
use crate::report::Report;

/// The longest turn of a worker, as far as it is the worker's own: by the clock, what shares the machine with it makes it longer.
const TURN_US: f64 = 500.0;
/// Microseconds that take its place: `cargo xtask test` gives more. The kernel handles other people's packets in interrupts on
/// a worker's core, and no clock of a thread tells them from its own work.
const TURN_VARIABLE: &str = "MILLRACE_LAB_TURN_US";

fn turn_bound_us() -> f64 {
    std::env::var(TURN_VARIABLE).ok().and_then(|bound| bound.parse().ok()).unwrap_or(TURN_US)
}

/// Both ledgers close, no heap allocation between two snapshots, no long turn. Notes latency and every counter.
pub(crate) fn judge_counters(report: &mut Report, before: &Status, after: &Status) {
    report.exactly("server.rx_ledger_gap", after.rx_ledger_gap(), "packets", 0.0);
    report.exactly("server.cohort_ledger_gap", after.cohort_ledger_gap(), "packets", 0.0);
    let allocations = before.allocations_after_start().zip(after.allocations_after_start());
    report.exactly("server.allocations_in_window", allocations.map(|(old, new)| new - old), "allocations", 0.0);
    report.at_most("server.turn_max_us", after.turn_work_max_us(), "us", turn_bound_us());
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
