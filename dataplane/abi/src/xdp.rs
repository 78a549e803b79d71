// SPDX-License-Identifier: Apache-2.0
//! The classifier's maps: their names, capacities and records, and the fates of a frame. The XDP program and user space
//! are compiled from this page, so it must never hold anything that the bpfel target cannot compile: no allocation, no
//! formatting on a path, no loop without a small bound.
//!
//! | map | type | key | value | written by |
//! |---|---|---|---|---|
//! | [`FLOWS`] | hash | [`FlowKey`](crate::flow::FlowKey) | [`FlowEntry`] | workers, at admission |
//! | [`XSKS`] | `XskMap` | [`xsk_key`] | socket | data plane, after bind |
//! | [`STRANGERS`] | array | queue, `u32` | [`StrangerEntry`] | data plane, when a transport is claimed or lost |
//! | [`FAILURES`] | LRU hash | [`FailureKey`] | [`FailureEntry`] | workers, at a check that fails |
//! | [`LOCALS`] | hash | address, v4-mapped | [`LocalEntry`] | whoever follows our addresses |
//! | [`CONFIG`] | array of one | `0_u32` | [`XdpConfig`] | keeper |
//! | [`COUNTERS`] | per-CPU array | [`XdpFate::index`] or [`UNSTAMPED`] | `u64` | classifier |
//!
//! Numbers are in the machine's byte order, addresses in the network's. Memory at the default capacities: 32,768 flows ×
//! 120 B + 16,384 prefixes × 88 B = 5.1 MiB, the rest below 100 KiB.

use crate::drop_reason::reasons;
use crate::flow::FlowKey;
use crate::layout::{Record, record};
use crate::limits::{PATHS, WORKERS};

/// Version of maps and records. The classifier passes every frame to the kernel while [`XdpConfig::version`] is another one.
pub const XDP_VERSION: u32 = 1;
/// Name of the program in the object.
pub const PROGRAM: &str = "millrace_xdp";

/// Flow to owner worker: one entry for each admitted 5-tuple.
pub const FLOWS: &str = "FLOWS";
/// (queue, worker) to `AF_XDP` socket.
pub const XSKS: &str = "XSKS";
/// Queue to the worker that answers unknown sources.
pub const STRANGERS: &str = "STRANGERS";
/// Prefix to its failed checks.
pub const FAILURES: &str = "FAILURES";
/// Our addresses.
pub const LOCALS: &str = "LOCALS";
/// The one [`XdpConfig`].
pub const CONFIG: &str = "CONFIG";
/// Frames by fate, per CPU.
pub const COUNTERS: &str = "COUNTERS";

/// Names under which map descriptors are handed over, in the order of the table above.
pub const HANDOVER: [(&str, &str); 7] = [
    (FLOWS, "map_flows"),
    (XSKS, "map_xsks"),
    (STRANGERS, "map_strangers"),
    (FAILURES, "map_failures"),
    (LOCALS, "map_locals"),
    (CONFIG, "map_config"),
    (COUNTERS, "map_counters"),
];

/// Receive queues of one interface that the layout has room for.
pub const QUEUES: usize = 64;
/// Entries of [`XSKS`]: 4096 × 8 B = 32 KiB.
pub const XSK_ENTRIES: u32 = 64 * 64;
/// Entries of [`FAILURES`]; the least recently used prefix goes.
pub const FAILURE_ENTRIES: u32 = 16_384;
/// Entries of [`LOCALS`].
pub const LOCAL_ENTRIES: u32 = 256;
/// Slots of [`COUNTERS`] for each CPU.
pub const COUNTER_ENTRIES: u32 = 64;
/// Slot of [`COUNTERS`] that is no fate: frames that were redirected without an arrival stamp because the driver offers
/// no room for metadata.
pub const UNSTAMPED: u32 = COUNTER_ENTRIES - 1;

/// Bytes of XDP metadata in front of every redirected frame: `bpf_ktime_get_ns`, which is `CLOCK_MONOTONIC`, as `u64` in the
/// machine's byte order. The kernel leaves these bytes of a UMEM frame alone when a frame comes without metadata, so a
/// reader zeroes them before it gives the frame back to the fill ring, and reads zero as "no stamp".
pub const STAMP_BYTES: usize = 8;

/// One for each of a transport's paths.
const FLOWS_PER_TRANSPORT: u32 = 4;
/// Stride of [`xsk_key`].
const WORKER_STRIDE: u32 = 64;

/// Entries of [`FLOWS`] for as many transports: all paths of each.
#[must_use]
pub const fn flow_entries(transports: u32) -> u32 {
    transports.saturating_mul(FLOWS_PER_TRANSPORT)
}

/// The key in [`XSKS`] of worker `worker`'s socket on queue `queue`.
#[must_use]
pub const fn xsk_key(queue: u32, worker: u32) -> u32 {
    queue.wrapping_mul(WORKER_STRIDE).wrapping_add(worker)
}

record!(
    /// The owner of an admitted flow.
    #[derive(PartialEq, Eq, Debug)]
    FlowEntry, version 1, size 16 {
        /// The worker; below [`WORKERS`].
        worker: u32,
        /// Zero.
        reserve: [u32; 3],
    }
);

record!(
    /// Who answers unknown sources of one queue.
    #[derive(PartialEq, Eq, Debug)]
    StrangerEntry, version 1, size 8 {
        /// The worker; below [`WORKERS`]. Zero until somebody writes it.
        worker: u32,
        /// Zero.
        reserve: u32,
    }
);

record!(
    /// The prefix whose failed checks are counted together: /24 of IPv4, /48 of IPv6.
    #[derive(PartialEq, Eq, Hash, Debug)]
    FailureKey, version 1, size 8 {
        /// 4 or 6.
        family: u8,
        /// The first six bytes of an IPv6 address; the first three of an IPv4 address and zeros.
        prefix: [u8; 6],
        /// Zero.
        reserve: u8,
    }
);

record!(
    /// Failed checks of a prefix in its present window.
    #[derive(PartialEq, Eq, Debug)]
    FailureEntry, version 1, size 16 {
        /// `CLOCK_MONOTONIC` of the window's first failure.
        window_start_ns: u64,
        /// Failures since.
        failures: u64,
    }
);

record!(
    /// Marks an address as ours.
    #[derive(PartialEq, Eq, Debug)]
    LocalEntry, version 1, size 8 {
        /// One.
        is_local: u64,
    }
);

record!(
    /// What the classifier is told.
    #[derive(PartialEq, Eq, Debug)]
    XdpConfig, version 1, size 64 {
        /// [`XDP_VERSION`]; zero = not configured, everything passes.
        version: u32,
        /// The UDP port that is ours.
        media_port: u32,
        /// Receive queues in use.
        queues: u32,
        /// Workers in use.
        workers: u32,
        /// Failed checks of one prefix in one window from which on its unknown sources are dropped.
        failure_limit: u32,
        /// Zero.
        reserve_a: u32,
        /// Length of that window.
        failure_window_ns: u64,
        /// Zero.
        reserve: [u64; 4],
    }
);

/// [`XdpConfig::failure_limit`] unless set otherwise.
pub const FAILURE_LIMIT: u32 = 100;
/// [`XdpConfig::failure_window_ns`] unless set otherwise.
pub const FAILURE_WINDOW_NS: u64 = 1_000_000_000;

impl XdpConfig {
    /// A config with the default limit on failures.
    #[must_use]
    pub const fn new(media_port: u16, queues: u32, workers: u32) -> Self {
        Self {
            version: XDP_VERSION,
            media_port: media_port as u32,
            queues,
            workers,
            failure_limit: FAILURE_LIMIT,
            failure_window_ns: FAILURE_WINDOW_NS,
            ..Self::zeroed()
        }
    }
}

impl FailureKey {
    /// The prefix of a v4-mapped or IPv6 address.
    #[must_use]
    #[inline]
    pub const fn of(address: [u8; 16]) -> Self {
        match address {
            [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, a, b, c, _] => {
                Self { family: 4, prefix: [a, b, c, 0, 0, 0], reserve: 0 }
            }
            [a, b, c, d, e, f, ..] => Self { family: 6, prefix: [a, b, c, d, e, f], reserve: 0 },
        }
    }
}

impl FailureEntry {
    /// Whether a prefix with these failures is over the limit at `now_ns`. A clock that lies before the window's start
    /// counts as inside it: two CPUs may differ by a little.
    #[must_use]
    #[inline]
    pub const fn is_limited(&self, now_ns: u64, limit: u32, window_ns: u64) -> bool {
        self.failures >= limit as u64 && now_ns.saturating_sub(self.window_start_ns) < window_ns
    }

    /// The entry after one more failure at `now_ns`.
    #[must_use]
    pub const fn after_failure(&self, now_ns: u64, window_ns: u64) -> Self {
        if self.failures == 0 || now_ns.saturating_sub(self.window_start_ns) >= window_ns {
            return Self { window_start_ns: now_ns, failures: 1 };
        }
        Self { window_start_ns: self.window_start_ns, failures: self.failures.saturating_add(1) }
    }
}

reasons!(
    /// What became of a frame: exactly one for each frame that the classifier sees.
    XdpFate {
        /// To the kernel: neither IPv4 nor IPv6.
        PassNotIp => "pass_not_ip",
        /// To the kernel: a header is cut or contradicts itself, or there are more than two VLAN tags.
        PassMalformed => "pass_malformed",
        /// To the kernel: a fragment; the kernel reassembles.
        PassFragment => "pass_fragment",
        /// To the kernel: not UDP, or UDP behind an IPv6 extension header.
        PassNotUdp => "pass_not_udp",
        /// To the kernel: UDP for another port.
        PassOtherPort => "pass_other_port",
        /// To the kernel: UDP for our port at an address that is not ours.
        PassOtherAddress => "pass_other_address",
        /// To the kernel: no config yet, or one of another version.
        PassNotConfigured => "pass_not_configured",
        /// To the kernel, which gives it to the UDP socket: no worker has a socket at this queue, as while a data plane
        /// restarts.
        PassNoSocket => "pass_no_socket",
        /// To the worker that owns the flow.
        RedirectFlow => "redirect_flow",
        /// To the worker that answers unknown sources: STUN.
        RedirectStranger => "redirect_stranger",
        /// The UDP length is below eight or beyond the packet.
        DropBadLength => "drop_bad_length",
        /// Unknown source: STUN, but its prefix has failed too many checks in this window.
        DropStrangerLimited => "drop_stranger_limited",
        /// Unknown source: fewer than two bytes.
        DropShort => "drop_short",
        /// Unknown source: first byte of STUN, without its cookie or with a length that does not fit.
        DropNotStun => "drop_not_stun",
        /// Unknown source: DTLS.
        DropDtls => "drop_dtls",
        /// Unknown source: RTP.
        DropRtp => "drop_rtp",
        /// Unknown source: RTCP.
        DropRtcp => "drop_rtcp",
        /// Unknown source: ZRTP.
        DropZrtp => "drop_zrtp",
        /// Unknown source: TURN channel data.
        DropTurnChannel => "drop_turn_channel",
        /// Unknown source: first byte in no range of RFC 7983.
        DropUnknownProtocol => "drop_unknown_protocol",
    }
);

/// What the program answers for a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// On to the kernel.
    Pass,
    /// To an `AF_XDP` socket.
    Redirect,
    /// Nowhere.
    Drop,
}

impl XdpFate {
    /// The verdict that goes with the fate. By order: first what passes, then what is redirected, then what is dropped.
    #[must_use]
    #[inline]
    pub const fn verdict(self) -> Verdict {
        let index = self.index();
        if index < Self::RedirectFlow.index() {
            Verdict::Pass
        } else if index < Self::DropBadLength.index() {
            Verdict::Redirect
        } else {
            Verdict::Drop
        }
    }
}

/// All records of the maps, for the snapshot.
pub const RECORDS: &[Record] = &[
    Record::of::<FlowEntry>(),
    Record::of::<StrangerEntry>(),
    Record::of::<FailureKey>(),
    Record::of::<FailureEntry>(),
    Record::of::<LocalEntry>(),
    Record::of::<XdpConfig>(),
];

const _: () = assert!(XdpFate::COUNT < UNSTAMPED as usize);
const _: () = assert!(FLOWS_PER_TRANSPORT as usize == PATHS && WORKER_STRIDE as usize == WORKERS);
const _: () = assert!(XSK_ENTRIES as usize == QUEUES * WORKERS);
const _: () = assert!(core::mem::size_of::<FlowKey>() == 40);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_24_bits_of_ipv4_and_48_of_ipv6() {
        let v4 = |last| FailureKey::of(crate::flow::map_v4([192, 0, 2, last]));
        assert_eq!(v4(1), v4(200));
        assert_ne!(v4(1), FailureKey::of(crate::flow::map_v4([192, 0, 3, 1])));
        let v6 = |at: usize| {
            let mut address = [0x20; 16];
            address[at] = 1;
            FailureKey::of(address)
        };
        assert_eq!(v6(6), v6(15));
        assert_ne!(v6(5), v6(6));
    }

    #[test]
    fn a_prefix_is_limited_from_the_last_allowed_failure_to_the_end_of_its_window() {
        let mut entry = FailureEntry::zeroed();
        for now in 1000..1003 {
            assert!(!entry.is_limited(now, 3, 100));
            entry = entry.after_failure(now, 100);
        }
        assert_eq!(entry, FailureEntry { window_start_ns: 1000, failures: 3 });
        assert!(entry.is_limited(1099, 3, 100) && entry.is_limited(999, 3, 100));
        assert!(!entry.is_limited(1100, 3, 100));
        assert_eq!(entry.after_failure(1100, 100), FailureEntry { window_start_ns: 1100, failures: 1 });
    }

    #[test]
    fn a_fate_is_named_after_its_verdict() {
        for fate in XdpFate::ALL {
            let prefix = match fate.verdict() {
                Verdict::Pass => "pass_",
                Verdict::Redirect => "redirect_",
                Verdict::Drop => "drop_",
            };
            assert!(fate.name().starts_with(prefix), "{}", fate.name());
        }
    }

    #[test]
    fn no_two_sockets_have_one_key() {
        assert_eq!(xsk_key(0, 63) + 1, xsk_key(1, 0));
        assert_eq!(xsk_key(63, 63) + 1, XSK_ENTRIES);
    }
}
