// SPDX-License-Identifier: Apache-2.0
//! What the commands show of a segment that is made and filled in this process, and read through read-only access.

use std::sync::atomic::{AtomicU64, Ordering};

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::drop_reason::{DropReason, SkipReason};
use dataplane_abi::ids::{KeyRef, WorkerId};
use dataplane_abi::intent::{RoomIntent, TrackIntent, TransportIntent};
use dataplane_abi::interface::store_text;
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::Capacities;
use dataplane_abi::xdp::XdpFate;
use dataplane_shm::{Access, IntentWriter, Segment, SegmentFds};
use serde_json::{Value, json};

use crate::drops::Drops;
use crate::processes::{Process, Processes};
use crate::status::{Counts, Status, collect};
use crate::{golden, text};

/// The clock when the status is taken.
const NOW_NS: u64 = 5_000_000_000;

fn set(cell: &AtomicU64, value: u64) {
    cell.store(value, Ordering::Relaxed);
}

/// A segment of two workers, both in the middle of a call.
fn segment() -> (SegmentFds, Segment) {
    let (fds, writable) = Segment::create(&Capacities::SMALL).unwrap();
    for worker in 0..2_u16 {
        let counters = writable.counters(WorkerId(worker)).unwrap();
        Counts::fill(counters, 1_000_000 * (u64::from(worker) + 1));
        fill(counters);
        set(&counters.cpu, u64::from(1 - worker) * 4);
        set(&counters.port, u64::from(worker) + 1);
        set(&counters.heartbeat_ns, NOW_NS - 3_000_000);
    }
    (fds, writable)
}

/// Ledgers that close: 100 + 7 packets, 50 × members.
fn fill(counters: &WorkerCounters) {
    set(&counters.running, 1);
    set(&counters.turn_max_ns, 912_600);
    set(&counters.turn_work_max_ns, 212_300);
    set(&counters.turn_kernel_max_ns, 134_000);
    set(&counters.turn_gap_max_ns, 850_400);
    set(&counters.rx_packets, 100);
    set(&counters.taken, 7);
    for (cell, value) in [
        (&counters.stored, 60),
        (&counters.answered, 10),
        (&counters.consumed, 9),
        (&counters.punted, 8),
        (&counters.handed, 7),
        (&counters.dropped[DropReason::SrtpAuth.index()], 11),
        (&counters.dropped[DropReason::UnknownFlow.index()], 2),
        (&counters.offered, 50),
        (&counters.sent, 44),
        (&counters.skipped[SkipReason::NoPath.index()], 5),
        (&counters.pending, 1),
    ] {
        set(cell, value);
    }
    for (cell, value) in counters.latency_ns.iter().zip([41_000, 210_500, 480_000, 1_200_000, 44]) {
        set(cell, value);
    }
}

fn alive(pid: u32) -> Process {
    Process { pid: Some(pid), alive: true, stopped: false, rss_kib: Some(8192 + u64::from(pid)) }
}

fn processes() -> Processes {
    Processes { keeper: alive(101), dataplane: alive(102), controlplane: alive(103) }
}

/// As the command does it: through descriptors, with no right to write.
fn read(fds: &SegmentFds, processes: Processes) -> Status {
    let reader = Segment::attach(fds.borrow_for(Access::Reader), Access::Reader).unwrap();
    collect(&reader, processes, NOW_NS)
}

fn testdata(name: &str) -> String {
    format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn every_counter_of_a_worker_is_reported() {
    const BY_HAND: [&str; 25] = [
        "version",
        "running",
        "heartbeat_ns",
        "turn_max_ns",
        "turn_work_max_ns",
        "turn_kernel_max_ns",
        "turn_gap_max_ns",
        "rx_packets",
        "stored",
        "answered",
        "consumed",
        "punted",
        "handed",
        "taken",
        "dropped",
        "offered",
        "sent",
        "skipped",
        "pending",
        "latency_ns",
        "latency",
        "cpu",
        "port",
        "socket_port",
        "reserve",
    ];
    let fields = WorkerCounters::FIELDS.iter().map(|field| field.name);
    let missing: Vec<_> = fields.filter(|name| !BY_HAND.contains(name) && !Counts::SOURCES.contains(name)).collect();
    assert_eq!(missing, [""; 0], "add these to counts! in status.rs");
}

#[test]
fn the_labs_find_every_field_that_they_read() {
    let (fds, _) = segment();
    let status = serde_json::to_value(read(&fds, processes())).unwrap();
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    let worker = &status["workers"][0];
    assert_eq!(
        worker["ledger"],
        json!({"stored": 60, "answered": 10, "consumed": 9, "punted": 8, "handed": 7, "taken": 7, "dropped": 13})
    );
    assert_eq!(worker["cohort_ledger"], json!({"offered": 50, "sent": 44, "skipped": 5, "pending": 1}));
    assert_eq!(worker["latency_us"], json!({"p50": 41.0, "p99": 210.5, "p999": 480.0, "max": 1200.0, "count": 44}));
    let scalars = [
        ("worker", json!(0)),
        ("running", json!(true)),
        ("cpu", json!(3)),
        ("port", json!("uring")),
        ("rx_packets", json!(100)),
        ("turn_max_us", json!(912.6)),
        ("turn_work_max_us", json!(212.3)),
        ("turn_kernel_max_us", json!(134.0)),
        ("turn_gap_max_us", json!(850.4)),
        ("heartbeat_age_ms", json!(3)),
        ("ledger_exact", json!(true)),
        ("cohort_ledger_exact", json!(true)),
    ];
    for (name, value) in scalars {
        assert_eq!(worker[name], value, "{name}");
    }
    assert_eq!(status["workers"][1]["cpu"], Value::Null);
    // Counters that are passed on as they are: each has its own number, in the order of their names here.
    let counts = Counts::default().named();
    for (value, (name, _)) in (1_000_000_u64..).zip(&counts) {
        assert_eq!(worker[name], json!(value), "{name}");
        assert_eq!(status["totals"][name], json!(3 * 1_000_000 + 2 * (value - 1_000_000)), "{name}");
    }
    for name in ["rx_bytes", "tx_packets", "tx_bytes", "turns", "turns_long", "allocations_after_start", "rtx_sent"] {
        assert!(counts.iter().any(|(known, _)| *known == name), "{name}");
    }
    assert_eq!(status["processes"]["dataplane"], json!({"pid": 102, "alive": true, "stopped": false, "rss_kib": 8294}));
    assert_eq!(status["totals"]["rx_packets"], json!(200));
}

#[test]
fn live_entries_of_the_tables_are_counted() {
    let (fds, writable) = segment();
    let mut intent = IntentWriter::attach(&writable).unwrap();
    for is_keyed in [true, false, false] {
        let at = intent.allocate_transport().unwrap();
        let mut record = TransportIntent::zeroed();
        record.generation = at.generation;
        record.key = if is_keyed { KeyRef::at(0, 1) } else { KeyRef::NONE };
        intent.publish_transport(at.slot, &record).unwrap();
    }
    let track = intent.allocate_track().unwrap();
    intent.publish_track(track.slot, &TrackIntent { generation: track.generation, ..TrackIntent::zeroed() }).unwrap();
    let room = intent.allocate_room().unwrap();
    intent.publish_room(room.slot, &RoomIntent { generation: room.generation, ..RoomIntent::zeroed() }).unwrap();
    intent.retract_room(room.slot).unwrap();
    let status = serde_json::to_value(read(&fds, processes())).unwrap();
    let flows = status["totals"]["flows"].clone();
    assert_eq!(
        status["tables"],
        json!({"transports": 3, "tracks": 1, "subscriptions": 0, "rooms": 0, "flows": flows, "keys": 1})
    );
    assert_eq!(status["capacities"]["subscriptions"], json!(256));
}

#[test]
fn drops_name_every_reason_and_their_sum_is_the_ledgers() {
    let (fds, _) = segment();
    let status = read(&fds, processes());
    let drops = serde_json::to_value(Drops::of(&status)).unwrap();
    let totals = drops["totals"].as_object().unwrap();
    assert_eq!(totals.len(), DropReason::COUNT);
    for reason in DropReason::ALL {
        let expected = match reason.name() {
            "srtp_auth" => 22,
            "unknown_flow" => 4,
            _ => 0,
        };
        assert_eq!(totals[reason.name()], json!(expected), "{}", reason.name());
    }
    assert_eq!(drops["skipped"].as_object().unwrap().len(), SkipReason::COUNT);
    assert_eq!(drops["skipped"]["no_path"], json!(10));
    let sum: u64 = totals.values().filter_map(Value::as_u64).sum();
    assert_eq!(sum, status.totals.ledger.dropped);
    assert_eq!(drops["workers"][1]["dropped"]["srtp_auth"], json!(11));
}

#[test]
fn in_order_is_said_only_when_nothing_is_wrong() {
    let (fds, writable) = segment();
    assert_eq!(read(&fds, processes()).problems, [""; 0]);
    let counters = writable.counters(WorkerId(1)).unwrap();
    set(&counters.rx_packets, 103);
    set(&counters.sent, 45);
    let status = read(&fds, processes());
    assert!(!status.ok && !status.totals.ledger_exact && !status.workers[1].ledger_exact);
    assert_eq!(
        status.problems,
        ["worker 1: receive ledger is off by 3 packets", "worker 1: send ledger is off by -1 packets"]
    );
    assert!(status.workers[0].ledger_exact);
}

/// As the keeper and the data plane describe an interface.
fn name_interface(segment: &Segment) {
    let (record, counters) = (segment.interface().unwrap(), segment.interface_counters().unwrap());
    store_text(&record.name, "eth0");
    store_text(&record.reason, "the driver of eth0 does not run XDP programs");
    store_text(&counters.why_copy, "the classifier is attached in generic mode");
    for (cell, value) in [
        (&record.state, 1),
        (&record.mode, 2),
        (&record.queues, 1),
        (&record.sockets, 2),
        (&record.mtu, 1500),
        (&counters.is_open, 1),
        (&counters.copy_mode, 2),
        (&counters.fates[XdpFate::RedirectFlow.index()], 900),
        (&counters.fates[XdpFate::DropRtp.index()], 31),
        (&counters.rx_ring_full, 4),
        (&counters.served, 7),
        (&counters.unserved[1], 2),
        (&counters.unserved[4], 1),
        (&counters.updated_ns, NOW_NS - 400_000_000),
    ] {
        set(cell, value);
    }
    for worker in 0..2 {
        set(&segment.counters(WorkerId(worker)).unwrap().rx_by_xdp, 95);
    }
}

#[test]
fn an_interface_is_shown_with_its_mode_its_shares_and_its_reasons() {
    let (fds, writable) = segment();
    assert!(read(&fds, processes()).interfaces.is_empty(), "none was named");
    name_interface(&writable);
    let status = read(&fds, processes());
    assert_eq!(status.problems, [""; 0]);
    let json = serde_json::to_value(&status).unwrap();
    let interface = &json["interfaces"][0];
    for (name, value) in [
        ("name", json!("eth0")),
        ("mode", json!("generic")),
        ("frames", json!("copy")),
        ("attached", json!(true)),
        ("open", json!(true)),
        ("rx_share", json!(0.95)),
        ("queues", json!(1)),
        ("sockets", json!(2)),
        ("paths_by_xdp", json!(7)),
        ("age_ms", json!(400)),
    ] {
        assert_eq!(interface[name], value, "{name}");
    }
    assert_eq!(interface["fates"].as_object().unwrap().len(), XdpFate::COUNT);
    assert_eq!(interface["fates"]["redirect_flow"], json!(900));
    assert_eq!(interface["paths_by_socket"]["no_neighbour"], json!(1));
    assert_eq!(interface["socket_counters"]["rx_ring_full"], json!(4));
    let reasons: Vec<&String> = interface["paths_by_socket"].as_object().unwrap().keys().collect();
    assert_eq!(reasons, ["local", "no_neighbour", "other_interface", "pending", "table_full", "unreachable"]);
    golden::compare(&testdata("status-xdp.txt"), &text::status(&status));
    set(&writable.interface_counters().unwrap().is_open, 0);
    set(&writable.interface().unwrap().state, 2);
    let problems = read(&fds, processes()).problems;
    assert_eq!(problems, ["eth0 is not served past the kernel's stack: the driver of eth0 does not run XDP programs"]);
}

#[test]
fn a_worker_that_stands_still_is_seen() {
    let (fds, writable) = segment();
    set(&writable.counters(WorkerId(0)).unwrap().heartbeat_ns, NOW_NS - 2_500_000_000);
    set(&writable.counters(WorkerId(1)).unwrap().running, 0);
    let problems = read(&fds, processes()).problems;
    assert_eq!(
        problems,
        ["worker 0 has stood still for 2500 ms", "worker 1 does not run; the data plane's messages say why"]
    );
}

#[test]
fn a_dead_plane_is_named_and_the_counters_are_there() {
    let (fds, _) = segment();
    let dead = Process { pid: Some(102), ..Process::default() };
    let status = read(&fds, Processes { dataplane: dead, ..processes() });
    assert_eq!(status.problems, ["the data plane (pid 102) is dead: no media flows; the keeper's messages say why"]);
    assert!(!status.workers[0].running);
    assert_eq!(status.totals.rx_packets, 200);
    let stopped = Process { stopped: true, ..alive(103) };
    let status = read(&fds, Processes { controlplane: stopped, ..processes() });
    assert_eq!(status.problems, ["the control plane is stopped by a signal; `kill -CONT 103` lets it go on"]);
}

#[test]
fn the_text_of_status_and_drops_is_the_committed_one() {
    let (fds, writable) = segment();
    let status = read(&fds, processes());
    golden::compare(&testdata("status.txt"), &text::status(&status));
    golden::compare(&testdata("drops.txt"), &text::drops(&Drops::of(&status), false));
    set(&writable.counters(WorkerId(1)).unwrap().rx_packets, 103);
    let dead = Process { pid: Some(102), ..Process::default() };
    let status = read(&fds, Processes { dataplane: dead, controlplane: Process::default(), ..processes() });
    golden::compare(&testdata("status-wrong.txt"), &text::status(&status));
}

#[test]
fn all_reasons_are_shown_when_asked_for() {
    let (fds, _) = segment();
    let shown = text::drops(&Drops::of(&read(&fds, processes())), true);
    for name in DropReason::ALL.iter().map(|reason| reason.name()).chain(SkipReason::ALL.iter().map(|it| it.name())) {
        assert!(shown.contains(&format!("  {name} ")), "{name}");
    }
}

#[test]
fn rates_are_differences_over_time() {
    let (fds, writable) = segment();
    let before = read(&fds, processes()).totals;
    let counters = writable.counters(WorkerId(0)).unwrap();
    set(&counters.rx_packets, 1100);
    set(&counters.rx_bytes, 1_000_000 + 1_000_000);
    set(&counters.stored, 1060);
    let after = read(&fds, processes()).totals;
    let line = text::rates(&before, &after, std::time::Duration::from_secs(2));
    assert_eq!(line, "in 500 packets/s, 4.00 Mbit/s; out 0 packets/s, 0.00 Mbit/s; dropped 0/s, skipped 0/s\n");
}
