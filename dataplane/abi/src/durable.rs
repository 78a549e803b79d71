// SPDX-License-Identifier: Apache-2.0
//! Durable state: what a successor of a worker must know. One writer each, the owner worker; the control plane and the CLI
//! map it read-only.
//!
//! Every number that goes onto the wire under a key is stored here *before* the frame that carries it is visible to the
//! kernel, so that (key, SSRC, index) is used once whatever dies when.

use core::sync::atomic::{AtomicU16, AtomicU32, AtomicU64};

use crate::layout::shared_record;
use crate::limits::{PATHS, REPLAY_WORDS, RTCP_REPLAY_WORDS, RTCP_SENDERS, SEGMENTS};

shared_record!(
    /// A validated 5-tuple.
    PathDurable, version 1, size 64 {
        /// `FlowKey::to_words`; the last word is stored last and 0 means empty.
        flow: [AtomicU64; 5],
        /// Monotonic time of the last valid check, ns.
        checked_ns: AtomicU64,
        /// Local port slot is derived; zero.
        reserve: [AtomicU64; 2],
    }
);

shared_record!(
    /// SRTCP replay state of one sender of RTCP.
    RtcpSenderDurable, version 1, size 32 {
        /// SSRC | 1 << 32 once in use.
        ssrc: AtomicU64,
        /// Highest index received + 1.
        top: AtomicU64,
        /// Circular map.
        bits: [AtomicU64; RTCP_REPLAY_WORDS],
    }
);

/// States of a transport in [`TransportDurable::state`].
pub mod transport_state {
    /// No check has been verified.
    pub const WAITING: u32 = 0;
    /// A path is validated; egress allowed once keys are there.
    pub const VALIDATED: u32 = 1;
    /// Consent expired: egress stopped.
    pub const SILENT: u32 = 2;
}

shared_record!(
    /// A transport as its owner worker knows it.
    TransportDurable, version 1, size 1024 {
        /// Record version.
        version: AtomicU16,
        /// Record size.
        size: AtomicU16,
        /// Generation of the object that this describes; stored last when the record is begun.
        generation: AtomicU32,
        /// (generation << 32) | worker + 1, claimed by compare-and-swap; low half 0 = none.
        owner: AtomicU64,
        /// See `transport_state`.
        state: AtomicU32,
        /// Index + 1 into `paths` of the path in use; 0 = none.
        active_path: AtomicU32,
        /// When the last valid check arrived (RFC 7675), monotonic ns.
        consent_ns: AtomicU64,
        /// When the first check was verified, monotonic ns.
        validated_ns: AtomicU64,
        /// Validated 5-tuples.
        paths: [PathDurable; PATHS],
        /// SRTCP index of the next packet that we send (31 bits).
        srtcp_next: AtomicU64,
        /// Transport-wide sequence number of the next packet that we send.
        twcc_next: AtomicU64,
        /// SRTCP replay windows.
        rtcp_senders: [RtcpSenderDurable; RTCP_SENDERS],
        /// Packets received that passed authentication.
        rx_packets: AtomicU64,
        /// Their bytes (UDP payload).
        rx_bytes: AtomicU64,
        /// Packets sent.
        tx_packets: AtomicU64,
        /// Their bytes (UDP payload).
        tx_bytes: AtomicU64,
        /// Packets that failed authentication.
        auth_failures: AtomicU64,
        /// Round trip from RTCP, µs; 0 = not known.
        rtt_us: AtomicU64,
        /// Zero.
        reserve: [AtomicU64; 51],
    }
);

shared_record!(
    /// One received stream: an encoding of a track, with its retransmissions.
    IngressDurable, version 1, size 1024 {
        /// Record version.
        version: AtomicU16,
        /// Record size.
        size: AtomicU16,
        /// Generation of the track that this belongs to; stored last when the record is begun.
        generation: AtomicU32,
        /// SSRC learned or signalled; 0 = not known.
        ssrc: AtomicU32,
        /// SSRC of retransmissions; 0 = not known.
        rtx_ssrc: AtomicU32,
        /// Highest index received + 1 (ROC‖seq).
        top: AtomicU64,
        /// Replay map of the stream.
        bits: [AtomicU64; REPLAY_WORDS],
        /// Highest index received + 1 of the retransmissions.
        rtx_top: AtomicU64,
        /// Replay map of the retransmissions.
        rtx_bits: [AtomicU64; REPLAY_WORDS],
        /// NTP time of the last sender report (RFC 3550 §6.4.1).
        sr_ntp: AtomicU64,
        /// RTP time of the last sender report.
        sr_rtp: AtomicU64,
        /// Arrival of the last sender report, monotonic ns.
        sr_arrival_ns: AtomicU64,
        /// Packets received.
        packets: AtomicU64,
        /// Payload bytes received.
        bytes: AtomicU64,
        /// Packets repaired by retransmission.
        repaired: AtomicU64,
        /// Packets given up.
        lost: AtomicU64,
        /// Keyframes seen.
        keyframes: AtomicU64,
        /// Keyframe requests sent.
        keyframe_requests: AtomicU64,
        /// NACKed sequence numbers sent.
        nacks: AtomicU64,
        /// Chunk of the log's directory + 1 (low half), generation of the log (bits 32..48); 0 = no log.
        log: AtomicU64,
        /// Last packet's arrival, monotonic ns.
        last_arrival_ns: AtomicU64,
        /// Highest number in the log + 1.
        stored_top: AtomicU64,
        /// Number of the newest keyframe's first packet + 1; 0 = none in the log.
        keyframe: AtomicU64,
        /// When it arrived, monotonic ns.
        keyframe_ns: AtomicU64,
        /// RTP timestamp of the newest packet in the log.
        newest_rtp_ts: AtomicU64,
        /// Zero.
        reserve: [AtomicU64; 44],
    }
);

shared_record!(
    /// A stretch of an egress stream's numbering: from `first` on, packets came from `ingress` with these constants.
    SegmentDurable, version 1, size 32 {
        /// First egress index (ROC‖seq) of the stretch; stored last, 0 = empty.
        first: AtomicU64,
        /// Ingress id in the low half, cohort generation in the high half.
        cohort: AtomicU64,
        /// Egress index − cohort number, two's complement.
        seq_offset: AtomicU64,
        /// RTP timestamp offset (low half), picture id offset (bits 32..48), TL0PICIDX offset (48..56), KEYIDX offset (56..64).
        constants: AtomicU64,
    }
);

shared_record!(
    /// One sent stream.
    EgressDurable, version 1, size 512 {
        /// Record version.
        version: AtomicU16,
        /// Record size.
        size: AtomicU16,
        /// Generation of the subscription; stored last when the record is begun.
        generation: AtomicU32,
        /// SSRC on the wire.
        ssrc: AtomicU32,
        /// SSRC of retransmissions.
        rtx_ssrc: AtomicU32,
        /// Highest index (ROC‖seq) spent + 1.
        next_index: AtomicU64,
        /// Circular map of the spent ones behind it.
        spent: [AtomicU64; RTCP_REPLAY_WORDS],
        /// Next index of the retransmission stream; every smaller one is spent.
        rtx_next: AtomicU64,
        /// Generation of the transport's keys under which these numbers were spent.
        key: AtomicU64,
        /// RTP timestamp of the last packet (low half); last picture id (32..48), TL0PICIDX (48..56), KEYIDX (56..64).
        last: AtomicU64,
        /// Packets sent, without retransmissions.
        packets: AtomicU64,
        /// Payload octets sent (RFC 3550 §6.4.1).
        octets: AtomicU64,
        /// Retransmissions sent.
        retransmitted: AtomicU64,
        /// NACKed sequence numbers received.
        nacked: AtomicU64,
        /// Keyframe requests received.
        keyframe_requests: AtomicU64,
        /// Source of the newest stretch: ingress id + 1 (low half), generation of its track (high half); 0 = none. Gone before
        /// the stretch is stored, there again after it.
        source: AtomicU64,
        /// Fraction lost of the last receiver report (bits 0..8), its highest sequence number (bits 32..64).
        report: AtomicU64,
        /// Stretches of the numbering, a ring.
        segments: [SegmentDurable; SEGMENTS],
        /// Stretches written so far; the newest is (count − 1) mod the ring's size.
        segment_count: AtomicU64,
        /// Zero.
        reserve: [AtomicU64; 16],
    }
);
