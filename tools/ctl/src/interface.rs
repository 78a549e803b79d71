// SPDX-License-Identifier: Apache-2.0
//! The interface that is served past the kernel's stack: how, why not better, what became of its frames, and which paths the
//! socket port serves instead. Read from the segment: no descriptor of a map or a socket is needed.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use dataplane_abi::interface::text_bytes;
use dataplane_abi::xdp::XdpFate;
use dataplane_shm::Segment;
use serde::Serialize;
use std::sync::atomic::AtomicU64;

use crate::ledger::load;
use crate::status::Totals;
use crate::text::{cells, number, table};

/// Why a path is served by the socket port, in the order of the record.
const UNSERVED: [&str; 6] = ["pending", "local", "other_interface", "unreachable", "no_neighbour", "table_full"];

/// One interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct InterfaceStatus {
    /// Its name.
    pub(crate) name: String,
    /// The classifier is attached.
    pub(crate) attached: bool,
    /// The data plane has its sockets bound.
    pub(crate) open: bool,
    /// `native`, `generic` or `none`.
    pub(crate) mode: &'static str,
    /// Why not native, or why not at all; empty where there is nothing to say.
    pub(crate) reason: String,
    /// `zero-copy`, `copy` or `none`.
    pub(crate) frames: &'static str,
    /// Why not zero-copy, or why the sockets could not be bound.
    pub(crate) why_copy: String,
    /// Receive queues that are served.
    pub(crate) queues: u64,
    /// Sockets: one per queue and worker.
    pub(crate) sockets: u64,
    /// MTU.
    pub(crate) mtu: u64,
    /// How often the classifier was attached.
    pub(crate) times_attached: u64,
    /// How often sockets were made for a data plane.
    pub(crate) times_handed: u64,
    /// How long the last start waited for a predecessor's sockets, ms.
    pub(crate) waited_ms: u64,
    /// Of all packets received, those that came this way; none before the first packet.
    pub(crate) rx_share: Option<f64>,
    /// Of all packets sent, those that left this way.
    pub(crate) tx_share: Option<f64>,
    /// Frames by what the classifier made of them.
    pub(crate) fates: BTreeMap<&'static str, u64>,
    /// Redirected without an arrival stamp.
    pub(crate) unstamped: u64,
    /// What the sockets count.
    pub(crate) socket_counters: BTreeMap<&'static str, u64>,
    /// Paths that are served past the kernel's stack.
    pub(crate) paths_by_xdp: u64,
    /// Paths that the socket port serves, by reason.
    pub(crate) paths_by_socket: BTreeMap<&'static str, u64>,
    /// Next hops.
    pub(crate) next_hops: u64,
    /// Addresses of this host.
    pub(crate) addresses: u64,
    /// Since the counters were renewed, which happens once per second.
    pub(crate) age_ms: u64,
}

fn text(cells: &[AtomicU64]) -> String {
    String::from_utf8_lossy(&text_bytes(cells).collect::<Vec<u8>>()).into_owned()
}

#[expect(clippy::cast_precision_loss, reason = "a share of packets")]
fn share(part: u64, all: u64) -> Option<f64> {
    (all > 0).then(|| part as f64 / all as f64)
}

/// What the segment says; nothing where no interface was named.
pub(crate) fn collect(segment: &Segment, totals: &Totals, is_alive: bool, now_ns: u64) -> Vec<InterfaceStatus> {
    let (Some(record), Some(counters)) = (segment.interface(), segment.interface_counters()) else { return Vec::new() };
    let state = load(&record.state);
    if state == 0 {
        return Vec::new();
    }
    let named = |names: &[&'static str], values: &[AtomicU64]| -> BTreeMap<&'static str, u64> {
        names.iter().copied().zip(values.iter().map(load)).collect()
    };
    let fates: Vec<&str> = XdpFate::ALL.iter().map(|fate| fate.name()).collect();
    let socket_counters = [
        ("rx_dropped", &counters.rx_dropped),
        ("rx_ring_full", &counters.rx_ring_full),
        ("fill_ring_empty", &counters.fill_ring_empty),
        ("rx_invalid", &counters.rx_invalid),
        ("tx_invalid", &counters.tx_invalid),
        ("tx_ring_empty", &counters.tx_ring_empty),
    ];
    let is_open = is_alive && load(&counters.is_open) == 1;
    vec![InterfaceStatus {
        name: text(&record.name),
        attached: state == 1,
        open: is_open,
        mode: ["none", "native", "generic"].get(index(&record.mode)).copied().unwrap_or("none"),
        reason: text(&record.reason),
        frames: ["none", "zero-copy", "copy"].get(index(&counters.copy_mode)).copied().unwrap_or("none"),
        why_copy: text(&counters.why_copy),
        queues: load(&record.queues),
        sockets: load(&record.sockets),
        mtu: load(&record.mtu),
        times_attached: load(&record.attached),
        times_handed: load(&record.handed),
        waited_ms: load(&counters.waited_ns) / 1_000_000,
        rx_share: share(totals.counts.rx_by_xdp, totals.rx_packets),
        tx_share: share(totals.counts.tx_by_xdp, totals.counts.tx_packets),
        fates: named(&fates, &counters.fates),
        unstamped: load(&counters.unstamped),
        socket_counters: socket_counters.into_iter().map(|(name, cell)| (name, load(cell))).collect(),
        paths_by_xdp: load(&counters.served),
        paths_by_socket: named(&UNSERVED, &counters.unserved),
        next_hops: load(&counters.hops),
        addresses: load(&counters.locals),
        age_ms: now_ns.saturating_sub(load(&counters.updated_ns)) / 1_000_000,
    }]
}

fn index(cell: &AtomicU64) -> usize {
    usize::try_from(load(cell)).unwrap_or(usize::MAX)
}

/// What is wrong: an interface was named, and the kernel's stack carries the packets.
pub(crate) fn problems(interfaces: &[InterfaceStatus], is_alive: bool) -> Vec<String> {
    let wrong = |interface: &InterfaceStatus| {
        let name = &interface.name;
        if !interface.attached {
            return Some(format!("{name} is not served past the kernel's stack: {}", interface.reason));
        }
        (is_alive && !interface.open)
            .then(|| format!("the AF_XDP sockets of {name} are not bound: {}", interface.why_copy))
    };
    interfaces.iter().filter_map(wrong).collect()
}

/// The section of `millrace status`.
pub(crate) fn show(interfaces: &[InterfaceStatus]) -> String {
    let Some(_) = interfaces.first() else { return String::new() };
    let head = ["INTERFACE", "XDP", "FRAMES", "QUEUES", "SOCKETS", "RECEIVED BY XDP", "SENT BY XDP"];
    let mut rows = vec![cells(head)];
    let mut lines = String::new();
    for it in interfaces {
        rows.push(vec![
            it.name.clone(),
            it.mode.into(),
            if it.open { it.frames.into() } else { "none".into() },
            number(it.queues),
            number(it.sockets),
            percent(it.rx_share),
            percent(it.tx_share),
        ]);
        let reasons = match (it.attached, it.open) {
            (false, _) => [("not in use", it.reason.as_str()), ("", "")],
            (true, false) => [("not native", it.reason.as_str()), ("sockets not bound", it.why_copy.as_str())],
            (true, true) => [("not native", it.reason.as_str()), ("not zero-copy", it.why_copy.as_str())],
        };
        for (title, why) in reasons {
            if !why.is_empty() {
                let _ = writeln!(lines, "  {title}: {why}");
            }
        }
        let _ = writeln!(
            lines,
            "  paths: {} by XDP, {} by the socket port{}",
            it.paths_by_xdp,
            sum(&it.paths_by_socket),
            counts(&it.paths_by_socket)
        );
        let _ = writeln!(lines, "  classifier: {} frames{}", sum(&it.fates), counts(&it.fates));
        let _ = writeln!(lines, "  sockets: {} events{}", sum(&it.socket_counters), counts(&it.socket_counters));
    }
    format!("{}{lines}", table(&rows))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "-".into(), |share| format!("{:.1} %", share * 100.0))
}

fn sum(counts: &BTreeMap<&'static str, u64>) -> u64 {
    counts.values().fold(0, |sum, count| sum.wrapping_add(*count))
}

/// Those that are not zero, the largest first.
fn counts(counts: &BTreeMap<&'static str, u64>) -> String {
    let mut sorted: Vec<_> = counts.iter().filter(|(_, count)| **count > 0).collect();
    sorted.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), **name));
    let words: Vec<String> = sorted.into_iter().map(|(name, count)| format!("{count} {name}")).collect();
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}
