// SPDX-License-Identifier: Apache-2.0
//! `millrace status`: what the segment and the processes say, as one structure. JSON and text are both made from it.
//!
//! The names of the JSON's fields are an interface: labs and operators' scripts read them. Add, never rename.

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::ids::WorkerId;
use dataplane_abi::segment::key_records;
use dataplane_shm::Segment;
use serde::Serialize;

use crate::interface::{self, InterfaceStatus};
use crate::ledger::{CohortLedger, Ledger, ReceiveLedger, load};
use crate::processes::Processes;

/// A worker that runs turns at least every 0.1 s; one that has not for this long stands still.
const STILL_MS: u64 = 1000;

/// Declares the counters that are reported as they are and summed over workers.
macro_rules! counts {
    ($($(#[doc = $doc:literal])* $field:ident <- $source:ident),* $(,)?) => {
        /// Counters of a worker, or their sums.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
        pub(crate) struct Counts { $($(#[doc = $doc])* pub(crate) $field: u64),* }
        impl Counts {
            fn read(counters: &WorkerCounters) -> Self {
                Self { $($field: load(&counters.$source)),* }
            }
            fn add(&mut self, other: &Self) {
                $(self.$field = self.$field.wrapping_add(other.$field);)*
            }
            /// Name and value of each.
            pub(crate) fn named(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }
            /// Which counter of the segment each one is.
            #[cfg(test)]
            pub(crate) const SOURCES: &[&str] = &[$(stringify!($source)),*];
            /// Gives each counter of the segment a number of its own: `first`, `first + 1`, …
            #[cfg(test)]
            pub(crate) fn fill(counters: &WorkerCounters, first: u64) {
                let cells = [$(&counters.$source),*];
                for (cell, value) in cells.into_iter().zip(first..) {
                    cell.store(value, std::sync::atomic::Ordering::Relaxed);
                }
            }
        }
    };
}

counts! {
    rx_bytes <- rx_bytes,
    tx_packets <- tx_packets,
    tx_bytes <- tx_bytes,
    turns <- turns,
    turns_long <- turns_long,
    turns_long_work <- turns_long_work,
    allocations_after_start <- allocations,
    rtx_sent <- rtx_sent,
    rtx_missed <- rtx_missed,
    rtcp_sent <- rtcp_sent,
    reply_lost <- reply_lost,
    injected <- injected,
    stale_references <- stale_references,
    intent_refused <- intent_refused,
    rx_overflow <- rx_overflow,
    transports_owned <- transports_owned,
    flows <- flows,
    lag_skips <- lag_skips,
    chunks <- chunks,
    rescans <- rescans,
    doorbells_lost <- doorbells_lost,
    tx_errors <- tx_errors,
    rx_by_xdp <- rx_by_xdp,
    tx_by_xdp <- tx_by_xdp,
    rx_discarded <- rx_discarded,
    classifier_errors <- classifier_errors,
}

/// Forwarding latency (arrival → given to the kernel), µs; of `status` since the worker's start, renewed once per second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Latency {
    /// Median.
    pub(crate) p50: f64,
    /// 99 % are below.
    pub(crate) p99: f64,
    /// 99.9 % are below.
    pub(crate) p999: f64,
    /// Longest.
    pub(crate) max: f64,
    /// Packets measured.
    pub(crate) count: u64,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct WorkerStatus {
    /// Its number.
    pub(crate) worker: u16,
    /// It has said so, and its process lives.
    pub(crate) running: bool,
    /// CPU that it is pinned to.
    pub(crate) cpu: Option<u64>,
    /// `uring`, `sockets`, `xdp`, `simulated`, or `none` before one is open.
    pub(crate) port: &'static str,
    /// The socket port beside an `xdp` port, or the same as `port`.
    pub(crate) socket_port: &'static str,
    /// Packets that came from the port.
    pub(crate) rx_packets: u64,
    /// Longest turn by the clock, µs: whatever held it.
    pub(crate) turn_max_us: f64,
    /// Longest turn without the kernel's part and without gaps, µs.
    pub(crate) turn_work_max_us: f64,
    /// Longest time of one turn in the port's system calls, µs.
    pub(crate) turn_kernel_max_us: f64,
    /// Longest stretch of a turn in which the worker did nothing, µs.
    pub(crate) turn_gap_max_us: f64,
    /// Since its last turn; none before the first.
    pub(crate) heartbeat_age_ms: Option<u64>,
    /// Everything else that it counts.
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// Fates of received packets.
    pub(crate) ledger: ReceiveLedger,
    /// Every received packet has one fate.
    pub(crate) ledger_exact: bool,
    /// rx + taken − Σ fates.
    pub(crate) ledger_gap: i64,
    /// Fates of (stored packet, member).
    pub(crate) cohort_ledger: CohortLedger,
    /// Every (stored packet, member) has one fate.
    pub(crate) cohort_ledger_exact: bool,
    /// offered − (sent + skipped + pending).
    pub(crate) cohort_ledger_gap: i64,
    /// Forwarding latency.
    pub(crate) latency_us: Latency,
    /// Its histogram since the counters were made; buckets as in `abi::latency`.
    #[serde(skip)]
    pub(crate) histogram: Vec<u64>,
}

/// Sums over the workers.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Totals {
    /// Packets that came from the ports.
    pub(crate) rx_packets: u64,
    /// Everything else.
    #[serde(flatten)]
    pub(crate) counts: Counts,
    /// Fates of received packets.
    pub(crate) ledger: ReceiveLedger,
    /// Exact at every worker.
    pub(crate) ledger_exact: bool,
    /// Fates of (stored packet, member).
    pub(crate) cohort_ledger: CohortLedger,
    /// Exact at every worker.
    pub(crate) cohort_ledger_exact: bool,
    /// Σ handed − Σ taken: packets between two workers. Workers are read one after the other, so it may be below zero.
    pub(crate) handed_in_flight: i64,
}

/// Entries of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tables {
    /// Published transports.
    pub(crate) transports: u64,
    /// Published tracks.
    pub(crate) tracks: u64,
    /// Published subscriptions.
    pub(crate) subscriptions: u64,
    /// Published rooms.
    pub(crate) rooms: u64,
    /// 5-tuples that workers know.
    pub(crate) flows: u64,
    /// Published transports whose keys are there.
    pub(crate) keys: u64,
}

/// Most entries of the tables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Capacities {
    /// Transports.
    pub(crate) transports: u32,
    /// Tracks.
    pub(crate) tracks: u32,
    /// Subscriptions.
    pub(crate) subscriptions: u32,
    /// Rooms.
    pub(crate) rooms: u32,
    /// Key records.
    pub(crate) keys: usize,
}

/// The segment's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SegmentStatus {
    /// Random id of this segment's life, hexadecimal.
    pub(crate) boot_id: String,
    /// Publications of intent.
    pub(crate) epoch: u64,
    /// Starts of the data plane.
    pub(crate) dataplane_starts: u64,
}

/// Everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Status {
    /// Nothing is wrong.
    pub(crate) ok: bool,
    /// What is wrong, for people.
    pub(crate) problems: Vec<String>,
    /// Which way packets take, for people.
    pub(crate) fast_path: String,
    /// Interfaces that are served past the kernel's stack.
    pub(crate) interfaces: Vec<InterfaceStatus>,
    /// The processes.
    pub(crate) processes: Processes,
    /// One per worker.
    pub(crate) workers: Vec<WorkerStatus>,
    /// Their sums.
    pub(crate) totals: Totals,
    /// Live entries.
    pub(crate) tables: Tables,
    /// Most entries of each.
    pub(crate) capacities: Capacities,
    /// The segment.
    pub(crate) segment: SegmentStatus,
}

/// Reads everything; `now_ns` is monotonic.
pub(crate) fn collect(segment: &Segment, processes: Processes, now_ns: u64) -> Status {
    let is_alive = processes.dataplane.alive;
    let workers: Vec<WorkerStatus> = (0..u16::try_from(segment.capacities().workers).unwrap_or(u16::MAX))
        .filter_map(|worker| Some(worker_status(worker, segment.counters(WorkerId(worker))?, is_alive, now_ns)))
        .collect();
    let mut totals = Totals { ledger_exact: true, cohort_ledger_exact: true, ..Totals::default() };
    for worker in &workers {
        totals.rx_packets = totals.rx_packets.wrapping_add(worker.rx_packets);
        totals.counts.add(&worker.counts);
        totals.ledger.add(&worker.ledger);
        totals.ledger_exact &= worker.ledger_exact;
        totals.cohort_ledger.add(&worker.cohort_ledger);
        totals.cohort_ledger_exact &= worker.cohort_ledger_exact;
    }
    totals.handed_in_flight = totals.ledger.handed.wrapping_sub(totals.ledger.taken).cast_signed();
    let state = segment.state();
    let interfaces = interface::collect(segment, &totals, is_alive, now_ns);
    let mut problems = problems(&processes, &workers);
    problems.extend(interface::problems(&interfaces, is_alive));
    Status {
        ok: problems.is_empty(),
        problems,
        fast_path: fast_path(&workers),
        interfaces,
        tables: tables(segment, totals.counts.flows),
        capacities: capacities(segment),
        segment: SegmentStatus {
            boot_id: segment.boot_id().iter().map(|byte| format!("{byte:02x}")).collect(),
            epoch: load(&state.epoch),
            dataplane_starts: load(&state.dataplane_starts),
        },
        processes,
        workers,
        totals,
    }
}

#[expect(clippy::cast_precision_loss, reason = "below 2^53 ns, which is 104 days")]
pub(crate) fn us(ns: u64) -> f64 {
    ns as f64 / 1000.0
}

fn worker_status(worker: u16, counters: &WorkerCounters, is_alive: bool, now_ns: u64) -> WorkerStatus {
    let (ledger, cohort_ledger) = (ReceiveLedger::settled(counters), CohortLedger::settled(counters));
    let heartbeat_ns = load(&counters.heartbeat_ns);
    let [p50, p99, p999, max, count] = std::array::from_fn(|index| load(&counters.latency_ns[index]));
    WorkerStatus {
        worker,
        running: is_alive && load(&counters.running) == 1,
        cpu: load(&counters.cpu).checked_sub(1),
        port: port_name(load(&counters.port)),
        socket_port: port_name(load(&counters.socket_port)),
        rx_packets: ledger.rx,
        turn_max_us: us(load(&counters.turn_max_ns)),
        turn_work_max_us: us(load(&counters.turn_work_max_ns)),
        turn_kernel_max_us: us(load(&counters.turn_kernel_max_ns)),
        turn_gap_max_us: us(load(&counters.turn_gap_max_ns)),
        heartbeat_age_ms: (heartbeat_ns > 0).then(|| now_ns.saturating_sub(heartbeat_ns) / 1_000_000),
        counts: Counts::read(counters),
        ledger_exact: ledger.gap() == 0,
        ledger_gap: ledger.gap(),
        ledger,
        cohort_ledger_exact: cohort_ledger.gap() == 0,
        cohort_ledger_gap: cohort_ledger.gap(),
        cohort_ledger,
        latency_us: Latency { p50: us(p50), p99: us(p99), p999: us(p999), max: us(max), count },
        histogram: counters.latency.iter().map(load).collect(),
    }
}

/// Names of `WorkerCounters::port`.
const fn port_name(port: u64) -> &'static str {
    match port {
        0 => "none",
        1 => "uring",
        2 => "sockets",
        3 => "xdp",
        4 => "simulated",
        _ => "unknown",
    }
}

fn tables(segment: &Segment, flows: u64) -> Tables {
    let capacities = segment.capacities();
    let count =
        |capacity: u32, is_there: &dyn Fn(u32) -> bool| (0..capacity).filter(|slot| is_there(*slot)).count() as u64;
    Tables {
        transports: count(capacities.transports, &|slot| segment.intent_transport(slot).is_some()),
        tracks: count(capacities.tracks, &|slot| segment.intent_track(slot).is_some()),
        subscriptions: count(capacities.subscriptions, &|slot| segment.intent_subscription(slot).is_some()),
        rooms: count(capacities.rooms, &|slot| segment.intent_room(slot).is_some()),
        flows,
        keys: count(capacities.transports, &|slot| segment.intent_transport(slot).is_some_and(|it| !it.key.is_none())),
    }
}

const fn capacities(segment: &Segment) -> Capacities {
    let capacities = segment.capacities();
    Capacities {
        transports: capacities.transports,
        tracks: capacities.tracks,
        subscriptions: capacities.subscriptions,
        rooms: capacities.rooms,
        keys: key_records(capacities),
    }
}

fn problems(processes: &Processes, workers: &[WorkerStatus]) -> Vec<String> {
    let mut problems = Vec::new();
    for (name, process) in processes.named() {
        if !process.alive {
            let pid = process.pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
            let meaning = match name {
                "keeper" => "nobody restarts the planes; start millrace-keeper again",
                "data plane" => "no media flows; the keeper's messages say why",
                _ => "media goes on, nobody can join; the keeper's messages say why",
            };
            problems.push(format!("the {name}{pid} is {}: {meaning}", process.state()));
        } else if process.stopped {
            let pid = process.pid.unwrap_or(0);
            problems.push(format!("the {name} is stopped by a signal; `kill -CONT {pid}` lets it go on"));
        }
    }
    for worker in workers {
        let number = worker.worker;
        if processes.dataplane.alive && !worker.running {
            problems.push(format!("worker {number} does not run; the data plane's messages say why"));
        }
        if let Some(age) = worker.heartbeat_age_ms.filter(|age| worker.running && *age > STILL_MS) {
            problems.push(format!("worker {number} has stood still for {age} ms"));
        }
        if !worker.ledger_exact {
            problems.push(format!("worker {number}: receive ledger is off by {} packets", worker.ledger_gap));
        }
        if !worker.cohort_ledger_exact {
            problems.push(format!("worker {number}: send ledger is off by {} packets", worker.cohort_ledger_gap));
        }
    }
    problems
}

fn fast_path(workers: &[WorkerStatus]) -> String {
    let on = |port: &str| {
        let numbers: Vec<String> =
            workers.iter().filter(|worker| worker.port == port).map(|worker| worker.worker.to_string()).collect();
        (!numbers.is_empty()).then(|| format!("worker {}", numbers.join(", ")))
    };
    let ways = [
        ("xdp", "AF_XDP, past the kernel's network stack"),
        ("uring", "io_uring sockets; not AF_XDP, so each packet crosses the kernel's UDP stack"),
        ("sockets", "plain batched sockets; neither AF_XDP nor io_uring, the slowest port"),
        ("simulated", "a simulated network, for tests"),
        ("none", "no port is open"),
        ("unknown", "a port that this program does not know"),
    ];
    let said: Vec<String> =
        ways.into_iter().filter_map(|(port, words)| Some(format!("{}: {words}", on(port)?))).collect();
    said.join("\n")
}
