// SPDX-License-Identifier: Apache-2.0
//! An egress stream: one sent SSRC, fixed for a receiver's slot, whatever is shown in it (MEDIA_RULES G1).
//! Its numbers are a cohort's plus the constants kept here.

use dataplane_abi::codec::MediaKind;
use dataplane_abi::ids::{IngressId, SubscriptionRef, TrackRef};
use dataplane_abi::intent::{SubscriptionIntent, TrackIntent};
use dataplane_abi::limits::EXTENSIONS;
use dataplane_wire::codec::Codec;
use dataplane_wire::ext::ExtKind;

use crate::objects::NONE;

/// What is added to a cohort's numbers for one receiver.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct Constants {
    pub(crate) seq: u64,
    pub(crate) rtp_ts: u32,
    pub(crate) picture_id: u16,
    pub(crate) tl0: u8,
    pub(crate) keyidx: u8,
}

impl Constants {
    /// All but `seq` in one word, for the durable segment.
    pub(crate) fn to_word(self) -> u64 {
        u64::from(self.rtp_ts)
            | (u64::from(self.picture_id) << 32)
            | (u64::from(self.tl0) << 48)
            | (u64::from(self.keyidx) << 56)
    }

    /// The inverse of [`Self::to_word`], with `seq`.
    pub(crate) fn from_words(seq: u64, word: u64) -> Self {
        let [a, b, c, d, p, q, tl0, keyidx] = word.to_le_bytes();
        Self { seq, rtp_ts: u32::from_le_bytes([a, b, c, d]), picture_id: u16::from_le_bytes([p, q]), tl0, keyidx }
    }
}

/// What was sent last, so that a switch goes on from there.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct LastSent {
    pub(crate) rtp_ts: u32,
    pub(crate) picture_id: u16,
    pub(crate) tl0: u8,
    pub(crate) keyidx: u8,
    pub(crate) arrival_ns: u64,
    /// A packet was sent since the stream began.
    pub(crate) is_any: bool,
    /// The last packet ended its frame.
    pub(crate) is_frame_end: bool,
}

/// Where an egress stream gets its packets from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Feed {
    /// From nowhere yet: no encoding is alive, or the path is not there.
    Idle,
    /// It waits for a keyframe of the cohort in `Egress::waiting`.
    Waiting,
    /// It reads the log with a cursor of its own until it meets its cohort's.
    CatchUp,
    /// It is a member of `Egress::cohort`.
    Member,
}

const GATE: usize = 64;

/// When a number was retransmitted last: repeats within the round trip are ignored (MEDIA_RULES G11).
#[derive(Clone, Copy, Default)]
struct GateEntry {
    seq: u16,
    tries: u8,
    at_ms: u32,
}

/// One sent stream.
pub(crate) struct Egress {
    pub(crate) subscription: SubscriptionRef,
    pub(crate) track: TrackRef,
    /// Slot of the receiver's leg.
    pub(crate) leg: u32,
    pub(crate) kind: MediaKind,
    pub(crate) codec: Codec,
    pub(crate) clock_rate: u32,
    pub(crate) ssrc: u32,
    pub(crate) rtx_ssrc: u32,
    pub(crate) pt: u8,
    pub(crate) rtx_pt: u8,
    pub(crate) max_encoding: u8,
    pub(crate) mid: [u8; 16],
    pub(crate) mid_len: u8,
    pub(crate) extension_ids: [u8; EXTENSIONS],
    pub(crate) cname: [u8; 32],
    pub(crate) cname_len: u8,
    pub(crate) feed: Feed,
    /// Cohort whose numbers are in use, and the position among its members.
    pub(crate) cohort: u32,
    pub(crate) position: u32,
    /// Cohort whose keyframe is awaited, and the position among those that wait.
    pub(crate) waiting: u32,
    pub(crate) waiting_position: u32,
    pub(crate) constants: Constants,
    /// The cohort's number that the stretch of numbering in use begins with; those before it are not this stream's.
    pub(crate) first_number: u64,
    /// Generation of the cohort that the constants belong to.
    pub(crate) generation: u32,
    /// Whose packets the stretch in use carries, and their SSRC: constants other than the number stay while it is the same.
    pub(crate) source: Option<(IngressId, u32)>,
    pub(crate) last: LastSent,
    /// Next number to read in the log while catching up.
    pub(crate) cursor: u64,
    /// Bytes that catching up may send at once.
    pub(crate) burst_bytes: u64,
    pub(crate) burst_ns: u64,
    gate: [GateEntry; GATE],
    /// (middle 32 bits of the NTP time in our last sender reports, when they were sent).
    pub(crate) reports_sent: [(u32, u64); 4],
    pub(crate) reports_count: usize,
}

impl Egress {
    pub(crate) fn new(
        subscription: SubscriptionRef,
        leg: u32,
        intent: &SubscriptionIntent,
        track: &TrackIntent,
        now_ns: u64,
    ) -> Option<Self> {
        Some(Self {
            subscription,
            track: intent.track,
            leg,
            kind: MediaKind::from_code(track.kind)?,
            codec: Codec::from_u8(track.codec)?,
            clock_rate: track.clock_rate,
            ssrc: intent.ssrc,
            rtx_ssrc: intent.rtx_ssrc,
            pt: intent.pt,
            rtx_pt: intent.rtx_pt,
            max_encoding: intent.max_encoding,
            mid: intent.mid,
            mid_len: intent.mid_len,
            extension_ids: intent.extension_ids,
            cname: track.cname,
            cname_len: track.cname_len,
            feed: Feed::Idle,
            cohort: NONE,
            position: NONE,
            waiting: NONE,
            waiting_position: NONE,
            constants: Constants::default(),
            first_number: 0,
            generation: 0,
            source: None,
            last: LastSent::default(),
            cursor: 0,
            burst_bytes: 0,
            burst_ns: now_ns,
            gate: [GateEntry::default(); GATE],
            reports_sent: [(0, 0); 4],
            reports_count: 0,
        })
    }

    /// Id of an extension on this stream's m-line; 0 = not agreed.
    pub(crate) fn extension_id(&self, kind: ExtKind) -> u8 {
        self.extension_ids.get(kind as usize).copied().unwrap_or(0)
    }

    /// The MID to send.
    pub(crate) fn mid(&self) -> &[u8] {
        self.mid.get(..usize::from(self.mid_len)).unwrap_or(&[])
    }

    /// The CNAME of its source.
    pub(crate) fn cname(&self) -> &[u8] {
        self.cname.get(..usize::from(self.cname_len)).unwrap_or(&[])
    }

    /// Whether `seq` may be retransmitted: at most `max_tries` times, at least `gap_ms` apart.
    pub(crate) fn may_retransmit(&mut self, seq: u16, now_ms: u32, gap_ms: u32, max_tries: u8) -> bool {
        let Some(entry) = self.gate.get_mut(usize::from(seq) % GATE) else { return false };
        if entry.seq != seq || entry.tries == 0 {
            *entry = GateEntry { seq, tries: 1, at_ms: now_ms };
            return true;
        }
        if entry.tries >= max_tries || now_ms.wrapping_sub(entry.at_ms) < gap_ms {
            return false;
        }
        entry.tries = entry.tries.saturating_add(1);
        entry.at_ms = now_ms;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_survive_the_durable_record() {
        let constants = Constants { seq: u64::MAX - 5, rtp_ts: 0xDEAD_BEEF, picture_id: 0x7FFF, tl0: 200, keyidx: 31 };
        assert_eq!(Constants::from_words(constants.seq, constants.to_word()), constants);
    }
}
