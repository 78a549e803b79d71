// SPDX-License-Identifier: Apache-2.0
//! An ingress stream: one received SSRC of a track whose publisher this worker owns.

use dataplane_abi::codec::MediaKind;
use dataplane_abi::ids::{IngressId, TrackRef};
use dataplane_abi::intent::TrackIntent;
use dataplane_shm::store::LogWriter;
use dataplane_wire::codec::Codec;

use crate::hold::on_demand::OnDemand;
use crate::receive::missing::Missing;

/// Receiver-report arithmetic of RFC 3550 §6.4.1 and appendix A.8.
#[derive(Clone, Copy, Default)]
pub(crate) struct Reception {
    /// First number received + 1; 0 = none.
    pub(crate) base: u64,
    pub(crate) received: u64,
    pub(crate) expected_prior: u64,
    pub(crate) received_prior: u64,
    /// Interarrival jitter × 16, in clock ticks.
    pub(crate) jitter_x16: u32,
    /// Transit of the packet before, in clock ticks.
    pub(crate) transit: u32,
}

impl Reception {
    /// Counts a packet that arrived at `arrival_ns` with media time `rtp_ts`.
    pub(crate) fn count(&mut self, ext_seq: u64, arrival_ns: u64, rtp_ts: u32, clock_rate: u32) {
        if self.base == 0 {
            self.base = ext_seq.saturating_add(1);
        }
        self.received = self.received.saturating_add(1);
        let ticks = u128::from(arrival_ns).wrapping_mul(u128::from(clock_rate)) / 1_000_000_000;
        let arrival = u32::try_from(ticks & u128::from(u32::MAX)).unwrap_or(0);
        let transit = arrival.wrapping_sub(rtp_ts);
        if self.received > 1 {
            let delta = transit.wrapping_sub(self.transit).cast_signed().unsigned_abs().min(1 << 24);
            // RFC 3550 A.8: J += |D| − J/16, kept scaled by 16.
            self.jitter_x16 =
                self.jitter_x16.saturating_add(delta).saturating_sub(self.jitter_x16.saturating_add(8) >> 4);
        }
        self.transit = transit;
    }
}

/// One encoding of a track, as its owner sees it.
pub(crate) struct Ingress {
    pub(crate) id: IngressId,
    pub(crate) track: TrackRef,
    /// Slot of the publisher's leg.
    pub(crate) leg: u32,
    pub(crate) kind: MediaKind,
    pub(crate) codec: Codec,
    pub(crate) pt: u8,
    pub(crate) rtx_pt: u8,
    pub(crate) clock_rate: u32,
    pub(crate) feedback: u16,
    pub(crate) log: Option<LogWriter>,
    /// The list of what it misses, once there was something.
    pub(crate) missing: OnDemand<Missing>,
    pub(crate) reception: Reception,
    /// RTP timestamp of the packet before, for frame starts that no descriptor marks.
    pub(crate) last_rtp_ts: Option<u32>,
    /// RTP timestamp of the newest keyframe: its further packets start nothing (H1).
    pub(crate) keyframe_rtp_ts: Option<u32>,
    pub(crate) keyframe_wanted: bool,
    pub(crate) keyframe_asked_ns: u64,
    pub(crate) fir_seq: u8,
    /// Workers with receivers of this stream.
    pub(crate) worker_mask: u64,
    /// Packets were stored since the doorbells rang last.
    pub(crate) is_announced: bool,
}

impl Ingress {
    pub(crate) fn new(id: IngressId, track: TrackRef, leg: u32, intent: &TrackIntent) -> Option<Self> {
        Some(Self {
            id,
            track,
            leg,
            kind: MediaKind::from_code(intent.kind)?,
            codec: Codec::from_u8(intent.codec)?,
            pt: intent.pt,
            rtx_pt: intent.rtx_pt,
            clock_rate: intent.clock_rate,
            feedback: intent.feedback,
            log: None,
            missing: OnDemand::none(),
            reception: Reception::default(),
            last_rtp_ts: None,
            keyframe_rtp_ts: None,
            keyframe_wanted: false,
            keyframe_asked_ns: 0,
            fir_seq: 0,
            worker_mask: 0,
            is_announced: false,
        })
    }
}
