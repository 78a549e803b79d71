// SPDX-License-Identifier: Apache-2.0
//! What is known of the interface that the data plane serves past the kernel's stack, for those who look from outside: two
//! records in the durable memfd, one of the keeper's and one of the data plane's, so that a tool needs no descriptor of a BPF
//! map or of a socket. They must never be what anybody serves by.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::layout::shared_record;
use crate::xdp::XdpFate;

/// Fates that the layout has room for.
pub const FATE_SLOTS: usize = 40;
const _: () = assert!(XdpFate::COUNT <= FATE_SLOTS);

shared_record!(
    /// An interface as the keeper knows it.
    InterfaceRecord, version 1, size 1024 {
        /// Record version; stored last.
        version: AtomicU64,
        /// 0 = none was asked for, 1 = the classifier is attached, 2 = it is not: `reason` says why.
        state: AtomicU64,
        /// The interface's number.
        index: AtomicU64,
        /// Its name, UTF-8, zero-padded.
        name: [AtomicU64; 2],
        /// 1 = native, 2 = generic.
        mode: AtomicU64,
        /// Receive queues that are served.
        queues: AtomicU64,
        /// Sockets: one per (queue, worker) pair.
        sockets: AtomicU64,
        /// MTU.
        mtu: AtomicU64,
        /// How often the classifier was attached.
        attached: AtomicU64,
        /// How often sockets were made for a data plane.
        handed: AtomicU64,
        /// Why not native, or why not at all; UTF-8, zero-padded.
        reason: [AtomicU64; 64],
        /// Zero.
        reserve: [AtomicU64; 53],
    }
);

shared_record!(
    /// An interface as the data plane sees it; written once per second by a thread that is no worker.
    InterfaceCounters, version 1, size 2048 {
        /// Record version; stored last.
        version: AtomicU64,
        /// 1 while the data plane has its sockets bound.
        is_open: AtomicU64,
        /// 1 = zero-copy, 2 = copy.
        copy_mode: AtomicU64,
        /// How long a queue was busy with a predecessor's sockets, ns.
        waited_ns: AtomicU64,
        /// When this record was written last, monotonic ns.
        updated_ns: AtomicU64,
        /// Frames by fate, in the order of [`XdpFate`], since the classifier was loaded.
        fates: [AtomicU64; FATE_SLOTS],
        /// Redirected frames without an arrival stamp.
        unstamped: AtomicU64,
        /// Frames dropped at sockets since they were made: too long, or for a reason that is none below.
        rx_dropped: AtomicU64,
        /// Frames dropped because an rx ring was full.
        rx_ring_full: AtomicU64,
        /// Times that the kernel found no frame in a fill ring.
        fill_ring_empty: AtomicU64,
        /// Descriptors in fill rings that named no frame.
        rx_invalid: AtomicU64,
        /// Descriptors in tx rings that named no frame.
        tx_invalid: AtomicU64,
        /// Times that the kernel found a tx ring empty.
        tx_ring_empty: AtomicU64,
        /// Paths that are served past the kernel's stack.
        served: AtomicU64,
        /// Paths that the socket port serves: not resolved yet, peer on this host, route by another interface, no route,
        /// neighbour unknown, no room in the table.
        unserved: [AtomicU64; 8],
        /// Next hops.
        hops: AtomicU64,
        /// Addresses that the classifier knows as ours.
        locals: AtomicU64,
        /// Why not zero-copy; UTF-8, zero-padded.
        why_copy: [AtomicU64; 64],
        /// Zero.
        reserve: [AtomicU64; 129],
    }
);

/// Stores as much of a text as there is room for.
pub fn store_text(cells: &[AtomicU64], text: &str) {
    let mut bytes = text.bytes();
    for cell in cells {
        let word = core::array::from_fn(|_| bytes.next().unwrap_or(0));
        cell.store(u64::from_le_bytes(word), Ordering::Relaxed);
    }
}

/// The bytes of a text, without the padding. They may end in the middle of a character, and be anything.
pub fn text_bytes(cells: &[AtomicU64]) -> impl Iterator<Item = u8> + '_ {
    cells.iter().flat_map(|cell| cell.load(Ordering::Relaxed).to_le_bytes()).take_while(|byte| *byte != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was_stored_and_cut_where_the_room_ends() {
        let cells: [AtomicU64; 2] = core::array::from_fn(|_| AtomicU64::new(u64::MAX));
        for (text, read) in [
            ("", ""),
            ("eth0", "eth0"),
            ("exactly sixteen.", "exactly sixteen."),
            ("seventeen letters", "seventeen letter"),
        ] {
            store_text(&cells, text);
            assert!(text_bytes(&cells).eq(read.bytes()), "{text}");
        }
    }
}
