// SPDX-License-Identifier: Apache-2.0
//! Text for people, made from the same structures as the JSON: it must never know more than they do.

use std::fmt::Write as _;
use std::time::Duration;

use crate::drops::{ByReason, Drops, explain_beside, explain_dropped, explain_skipped};
use crate::interface;
use crate::status::{Status, Totals, WorkerStatus};

/// Aligned columns: words to the left, numbers to the right.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells = |column: usize| rows.iter().filter_map(move |row| row.get(column));
    let widths: Vec<usize> =
        (0..columns).map(|column| cells(column).map(|cell| cell.chars().count()).max().unwrap_or(0)).collect();
    let is_words: Vec<bool> = (0..columns)
        .map(|column| column == 0 || cells(column).all(|cell| cell.starts_with(char::is_alphabetic)))
        .collect();
    let mut text = String::new();
    for row in rows {
        let padded = row.iter().zip(&widths).zip(&is_words).map(|((cell, width), is_words)| {
            if *is_words { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        text.push_str(padded.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

pub(crate) fn cells<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(String::from).to_vec()
}

pub(crate) fn number(value: impl ToString) -> String {
    value.to_string()
}

pub(crate) fn optional(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".into(), number)
}

/// `millrace status`.
pub(crate) fn status(status: &Status) -> String {
    let parts = [
        verdict(status),
        processes(status),
        format!("{}\n", status.fast_path),
        interface::show(&status.interfaces),
        workers(&status.workers),
        traffic(status),
        receive_ledger(status),
        cohort_ledger(status),
        tables(status),
        counters(&status.totals),
    ];
    parts.iter().filter(|part| !part.trim().is_empty()).cloned().collect::<Vec<_>>().join("\n")
}

fn verdict(status: &Status) -> String {
    if status.ok {
        return "Everything is in order.\n".into();
    }
    status.problems.iter().map(|problem| format!("WRONG: {problem}\n")).collect()
}

fn processes(status: &Status) -> String {
    let mut rows = vec![cells(["PROCESS", "STATE", "PID", "MEMORY"])];
    for (name, process) in status.processes.named() {
        let memory = process.rss_kib.map(|kib| bytes(kib.saturating_mul(1024)));
        rows.push(vec![name.into(), process.state().into(), optional(process.pid), optional(memory)]);
    }
    table(&rows)
}

fn workers(workers: &[WorkerStatus]) -> String {
    let mut rows = vec![cells(["WORKER", "STATE", "CPU", "PORT", "LAST TURN", "TURNS", "> 500 us"])];
    if let Some(head) = rows.first_mut() {
        head.extend(cells(["LONGEST", "WORK", "KERNEL", "GAP"]));
        head.extend(cells(["LATENCY p50", "p99", "p99.9", "max"]));
    }
    for worker in workers {
        let mut row = vec![
            number(worker.worker),
            if worker.running { "runs".into() } else { "stands".into() },
            worker.cpu.map_or_else(|| "any".into(), number),
            worker.port.into(),
            worker.heartbeat_age_ms.map_or_else(|| "-".into(), |age| format!("{age} ms")),
            number(worker.counts.turns),
            number(worker.counts.turns_long),
        ];
        let longest = [worker.turn_max_us, worker.turn_work_max_us, worker.turn_kernel_max_us, worker.turn_gap_max_us];
        row.extend(longest.map(us));
        let latency = &worker.latency_us;
        let figures = [latency.p50, latency.p99, latency.p999, latency.max];
        row.extend(figures.map(|figure| if latency.count == 0 { "-".into() } else { us(figure) }));
        rows.push(row);
    }
    table(&rows)
}

/// One row per worker and, where there are several, their sum.
fn per_worker(head: &[&str], status: &Status, row: impl Fn(&WorkerStatus) -> Vec<String>, sum: Vec<String>) -> String {
    let mut rows = vec![head.iter().map(|word| (*word).to_owned()).collect()];
    for worker in &status.workers {
        let mut cells = vec![number(worker.worker)];
        cells.extend(row(worker));
        rows.push(cells);
    }
    if status.workers.len() > 1 {
        let mut cells = vec!["all".to_owned()];
        cells.extend(sum);
        rows.push(cells);
    }
    table(&rows)
}

fn traffic(status: &Status) -> String {
    let row = |packets_in: u64, counts: &crate::status::Counts| {
        vec![number(packets_in), bytes(counts.rx_bytes), number(counts.tx_packets), bytes(counts.tx_bytes)]
    };
    let sum = row(status.totals.rx_packets, &status.totals.counts);
    let head = ["WORKER", "RECEIVED", "BYTES", "SENT", "BYTES"];
    per_worker(&head, status, |worker| row(worker.rx_packets, &worker.counts), sum)
}

fn gap(gap: i64) -> String {
    if gap == 0 { "exact".into() } else { format!("off by {gap}") }
}

fn receive_ledger(status: &Status) -> String {
    let row = |ledger: &crate::ledger::ReceiveLedger| {
        [
            ledger.rx,
            ledger.taken,
            ledger.stored,
            ledger.answered,
            ledger.consumed,
            ledger.punted,
            ledger.handed,
            ledger.dropped,
        ]
        .map(number)
        .to_vec()
    };
    let with = |mut cells: Vec<String>, last: String| {
        cells.push(last);
        cells
    };
    let head = [
        "WORKER",
        "RECEIVED",
        "+ TAKEN",
        "= STORED",
        "+ ANSWERED",
        "+ CONSUMED",
        "+ PUNTED",
        "+ HANDED",
        "+ DROPPED",
        "LEDGER",
    ];
    let is_exact = if status.totals.ledger_exact { "exact" } else { "not exact" };
    let sum = with(row(&status.totals.ledger), is_exact.into());
    per_worker(&head, status, |worker| with(row(&worker.ledger), gap(worker.ledger_gap)), sum)
}

fn cohort_ledger(status: &Status) -> String {
    let row = |ledger: &crate::ledger::CohortLedger, last: String| {
        let mut cells = [ledger.offered, ledger.sent, ledger.skipped, ledger.pending].map(number).to_vec();
        cells.push(last);
        cells
    };
    let is_exact = if status.totals.cohort_ledger_exact { "exact" } else { "not exact" };
    let sum = row(&status.totals.cohort_ledger, is_exact.into());
    let head = ["WORKER", "OFFERED", "= SENT", "+ SKIPPED", "+ PENDING", "LEDGER"];
    per_worker(&head, status, |worker| row(&worker.cohort_ledger, gap(worker.cohort_ledger_gap)), sum)
}

fn tables(status: &Status) -> String {
    let (live, most) = (&status.tables, &status.capacities);
    let mut rows = vec![cells(["TABLE", "ENTRIES", "MOST"])];
    for (name, live, most) in [
        ("rooms", live.rooms, Some(u64::from(most.rooms))),
        ("transports", live.transports, Some(u64::from(most.transports))),
        ("tracks", live.tracks, Some(u64::from(most.tracks))),
        ("subscriptions", live.subscriptions, Some(u64::from(most.subscriptions))),
        ("keys", live.keys, Some(most.keys as u64)),
        ("flows", live.flows, None),
    ] {
        rows.push(vec![name.into(), number(live), optional(most)]);
    }
    table(&rows)
}

/// Counters that have no column of their own and are not zero.
fn counters(totals: &Totals) -> String {
    const SHOWN: [&str; 6] = ["rx_bytes", "tx_packets", "tx_bytes", "turns", "turns_long", "flows"];
    let mut rows = vec![cells(["COUNTER", "ALL WORKERS"])];
    let counts = totals.counts.named().into_iter();
    rows.extend(
        counts
            .filter(|(name, count)| *count > 0 && !SHOWN.contains(name))
            .map(|(name, count)| vec![name.into(), number(count)]),
    );
    if rows.len() == 1 { String::new() } else { table(&rows) }
}

/// Rates between two statuses.
pub(crate) fn rates(before: &Totals, after: &Totals, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64().max(0.001);
    let packets = |before: u64, after: u64| ratio(after.saturating_sub(before), seconds);
    let mbit = |before: u64, after: u64| ratio(after.saturating_sub(before), seconds) * 8.0 / 1e6;
    format!(
        "in {:.0} packets/s, {:.2} Mbit/s; out {:.0} packets/s, {:.2} Mbit/s; dropped {:.0}/s, skipped {:.0}/s\n",
        packets(before.rx_packets, after.rx_packets),
        mbit(before.counts.rx_bytes, after.counts.rx_bytes),
        packets(before.counts.tx_packets, after.counts.tx_packets),
        mbit(before.counts.tx_bytes, after.counts.tx_bytes),
        packets(before.ledger.dropped, after.ledger.dropped),
        packets(before.cohort_ledger.skipped, after.cohort_ledger.skipped),
    )
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
fn ratio(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

fn us(value: f64) -> String {
    format!("{value:.1} us")
}

/// Bytes in the largest binary unit that leaves a whole number before the point.
pub(crate) fn bytes(count: u64) -> String {
    let mut value = ratio(count, 1.0);
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{count} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.1} TiB")
}

/// `millrace drops`: the largest first; zeros only if asked for.
pub(crate) fn drops(drops: &Drops, is_all: bool) -> String {
    let parts = [
        section("DROPPED", "received packets", drops.rx_packets, &drops.totals, is_all, explain_dropped),
        section("NOT SENT", "packets for receivers", drops.offered, &drops.skipped, is_all, explain_skipped),
        beside(drops, is_all),
    ];
    parts.iter().filter(|part| !part.is_empty()).cloned().collect::<Vec<_>>().join("\n")
}

fn section(
    title: &str,
    of_what: &str,
    of: u64,
    counts: &ByReason,
    is_all: bool,
    explain: fn(&str) -> &'static str,
) -> String {
    let sum = counts.values().fold(0_u64, |sum, count| sum.wrapping_add(*count));
    format!("{title}: {sum} of {of} {of_what}\n{}", reasons(counts, is_all, explain))
}

fn beside(drops: &Drops, is_all: bool) -> String {
    let rows = reasons(&drops.beside, is_all, explain_beside);
    if rows.is_empty() { rows } else { format!("BESIDE: counted by no ledger\n{rows}") }
}

/// Count, name, meaning.
fn reasons(counts: &ByReason, is_all: bool, explain: fn(&str) -> &'static str) -> String {
    let mut sorted: Vec<(&String, u64)> =
        counts.iter().map(|(name, count)| (name, *count)).filter(|(_, count)| is_all || *count > 0).collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let widest = sorted.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let digits = sorted.iter().map(|(_, count)| count.to_string().len()).max().unwrap_or(0);
    sorted.iter().fold(String::new(), |mut text, (name, count)| {
        let _ = writeln!(text, "  {count:>digits$}  {name:<widest$}  {}", explain(name));
        text
    })
}
