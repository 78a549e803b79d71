// SPDX-License-Identifier: Apache-2.0
//! Counters of one worker: written by it with relaxed stores, read by anyone.

use core::sync::atomic::AtomicU64;

use crate::drop_reason::{DropReason, SkipReason};
use crate::latency::LATENCY_BUCKETS;
use crate::layout::shared_record;

/// Drop counters that the layout has room for.
pub const DROP_SLOTS: usize = 48;
/// Skip counters that the layout has room for.
pub const SKIP_SLOTS: usize = 16;
const _: () = assert!(DropReason::COUNT <= DROP_SLOTS && SkipReason::COUNT <= SKIP_SLOTS);

shared_record!(
    /// A worker's counters.
    WorkerCounters, version 2, size 16384 {
        /// Record version.
        version: AtomicU64,
        /// 1 while the worker runs.
        running: AtomicU64,
        /// Last turn, monotonic ns: a worker that stands still is seen.
        heartbeat_ns: AtomicU64,
        /// Turns.
        turns: AtomicU64,
        /// Longest turn since start, ns, by the clock: whatever held it.
        turn_max_ns: AtomicU64,
        /// Turns longer than 500 µs by the clock.
        turns_long: AtomicU64,
        /// Packets that came from the ports.
        rx_packets: AtomicU64,
        /// Their bytes.
        rx_bytes: AtomicU64,
        /// Packets given to the ports.
        tx_packets: AtomicU64,
        /// Their bytes.
        tx_bytes: AtomicU64,
        /// Media packets that lie in the store.
        stored: AtomicU64,
        /// STUN requests answered.
        answered: AtomicU64,
        /// RTCP, and padding-only packets.
        consumed: AtomicU64,
        /// DTLS given to the control plane.
        punted: AtomicU64,
        /// Packets given to their owner worker.
        handed: AtomicU64,
        /// Packets taken from other workers; they count in `stored` … `dropped` here too.
        taken: AtomicU64,
        /// Packets dropped, by reason.
        dropped: [AtomicU64; DROP_SLOTS],
        /// Stored packets × members, begun.
        offered: AtomicU64,
        /// Of them sent.
        sent: AtomicU64,
        /// Of them skipped, by reason.
        skipped: [AtomicU64; SKIP_SLOTS],
        /// Of them under way in this instant.
        pending: AtomicU64,
        /// Retransmissions sent.
        rtx_sent: AtomicU64,
        /// NACKed packets that could not be sent again.
        rtx_missed: AtomicU64,
        /// RTCP packets sent.
        rtcp_sent: AtomicU64,
        /// Replies (STUN) that the port had no room for.
        reply_lost: AtomicU64,
        /// DTLS datagrams of the control plane sent.
        injected: AtomicU64,
        /// Stale references met in rings.
        stale_references: AtomicU64,
        /// Intent records that failed validation.
        intent_refused: AtomicU64,
        /// Heap allocations on this thread after its first turn.
        allocations: AtomicU64,
        /// Forwarding latency since the worker's start (arrival → given to the kernel), ns: p50, p99, p99.9, max; count.
        latency_ns: [AtomicU64; 5],
        /// CPU that the worker is pinned to + 1; 0 = not pinned.
        cpu: AtomicU64,
        /// Port in use: 1 = uring, 2 = plain sockets, 3 = xdp, 4 = simulated.
        port: AtomicU64,
        /// Datagrams that the port lost on the way in (socket queue overflow).
        rx_overflow: AtomicU64,
        /// Transports that this worker owns.
        transports_owned: AtomicU64,
        /// Entries of the flow table.
        flows: AtomicU64,
        /// Cursors over their lag cap.
        lag_skips: AtomicU64,
        /// Chunks of the packet store in use by this worker.
        chunks: AtomicU64,
        /// Change-ring overflows answered by a rescan.
        rescans: AtomicU64,
        /// Doorbells lost because a ring was full (the cursor finds the packets at the next one).
        doorbells_lost: AtomicU64,
        /// Sends that the kernel refused.
        tx_errors: AtomicU64,
        /// Longest turn without the kernel's part and without gaps, ns: what the worker itself took.
        turn_work_max_ns: AtomicU64,
        /// Longest time of one turn in the port's system calls, ns.
        turn_kernel_max_ns: AtomicU64,
        /// Longest stretch of a turn in which the worker did nothing, ns: an interrupt, another program, the hypervisor.
        turn_gap_max_ns: AtomicU64,
        /// Turns whose work was longer than 500 µs.
        turns_long_work: AtomicU64,
        /// Of the received packets, those that came past the kernel's stack.
        rx_by_xdp: AtomicU64,
        /// Of the packets sent, those that left past it.
        tx_by_xdp: AtomicU64,
        /// Socket port beside: 1 = uring, 2 = plain sockets.
        socket_port: AtomicU64,
        /// Flows and failed checks that the classifier could not be told: a map was full, or the kernel refused.
        classifier_errors: AtomicU64,
        /// Frames that were received and not delivered: no UDP datagrams, fragments, or longer than a frame.
        rx_discarded: AtomicU64,
        /// Frames given to the kernel by forwarding latency; buckets as in `abi::latency`. Never falls: two looks have the
        /// latencies between them.
        latency: [AtomicU64; LATENCY_BUCKETS],
        /// Zero.
        reserve: [AtomicU64; 525],
    }
);
