// SPDX-License-Identifier: Apache-2.0
//! An egress stream: one sent SSRC, fixed for a receiver's slot, whatever is shown in it (MEDIA_RULES G1).
//! Its numbers are a cohort's plus the constants kept here.

use dataplane_abi::codec::MediaKind;
use dataplane_abi::ids::{IngressId, SubscriptionRef, TrackRef};
use dataplane_abi::intent::{SubscriptionIntent, TrackIntent};
use dataplane_abi::limits::{EXTENSIONS, SEGMENTS};
use dataplane_wire::codec::Codec;

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

/// How packets of a stretch are written: what depends on the codec of the track that is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    pub(crate) codec: Codec,
    pub(crate) pt: u8,
    /// `NO_PT` where retransmissions were not agreed.
    pub(crate) rtx_pt: u8,
}

/// A stretch of numbering that began in this life of the worker, beside its durable record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) format: Format,
    /// The number before its first one was left out (MEDIA_RULES G4): it is nobody's.
    pub(crate) leaves_gap: bool,
}

/// Whose packets a stretch carries. Another SSRC or another track in the same place has clocks and numbers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) ingress: IngressId,
    /// Of the track.
    pub(crate) generation: u32,
    pub(crate) ssrc: u32,
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

/// Sender reports that are remembered, so that a report about one of them tells the round trip.
const REPORTS: usize = 4;

/// A sender report that went out.
#[derive(Clone, Copy, Default)]
struct ReportSent {
    /// The middle 32 bits of its NTP time.
    middle: u32,
    /// When, in microseconds modulo 2^32.
    at_us: u32,
}

/// One sent stream. What each packet needs comes first: two cache lines.
#[repr(C, align(128))]
pub(crate) struct Egress {
    pub(crate) constants: Constants,
    /// The cohort's number that the stretch of numbering in use begins with; those before it are not this stream's.
    pub(crate) first_number: u64,
    pub(crate) last: LastSent,
    /// Slot of the receiver's leg.
    pub(crate) leg: u32,
    pub(crate) ssrc: u32,
    pub(crate) subscription: SubscriptionRef,
    // 64 bytes
    pub(crate) extension_ids: [u8; EXTENSIONS],
    pub(crate) mid: [u8; 16],
    pub(crate) mid_len: u8,
    pub(crate) format: Format,
    pub(crate) rtx_ssrc: u32,
    /// What is shown; none = nothing.
    pub(crate) track: TrackRef,
    /// Cohort whose numbers are in use, and the position among its members.
    pub(crate) cohort: u32,
    pub(crate) position: u32,
    // 128 bytes
    /// Next number to read in the log while catching up.
    pub(crate) cursor: u64,
    pub(crate) burst_ns: u64,
    /// Bytes that catching up may send at once.
    pub(crate) burst_bytes: u32,
    /// Cohort whose keyframe is awaited, and the position among those that wait.
    pub(crate) waiting: u32,
    pub(crate) waiting_position: u32,
    /// Generation of the cohort that the constants belong to.
    pub(crate) generation: u32,
    pub(crate) clock_rate: u32,
    /// RTP ticks by which the receiver's clock is ahead of the wall's since a switch to something older.
    pub(crate) ahead: u32,
    /// Slot of the gate of its retransmissions, once there are any.
    pub(crate) gate: u32,
    /// Whose packets the stretch in use carries: constants other than the number stay while it is the same.
    pub(crate) source: Option<Origin>,
    // 192 bytes, less 4
    /// The stretches of the durable record that began in this life, in the same places.
    pub(crate) stretches: [Option<Stretch>; SEGMENTS],
    reports_sent: [ReportSent; REPORTS],
    reports_count: u8,
    pub(crate) max_encoding: u8,
    /// Kind of the track that is shown; none until its record was read.
    pub(crate) kind: Option<MediaKind>,
    pub(crate) feed: Feed,
}

/// Cache lines of an [`Egress`] that each packet needs.
pub(crate) const EGRESS_LINES: usize = 2;
const _: () =
    assert!(core::mem::offset_of!(Egress, extension_ids) == 64 && core::mem::offset_of!(Egress, cursor) == 128);
// A participant of a meeting has dozens.
const _: () = assert!(size_of::<Option<Egress>>() == 256);

impl Egress {
    /// A stream that shows nothing yet: [`Self::show`] and [`Self::describe`] say what.
    pub(crate) fn new(subscription: SubscriptionRef, leg: u32, intent: &SubscriptionIntent, now_ns: u64) -> Self {
        Self {
            subscription,
            track: TrackRef::NONE,
            leg,
            kind: None,
            format: Format { codec: Codec::Opus, pt: intent.pt, rtx_pt: intent.rtx_pt },
            clock_rate: 0,
            ssrc: intent.ssrc,
            rtx_ssrc: intent.rtx_ssrc,
            max_encoding: intent.max_encoding,
            mid: intent.mid,
            mid_len: intent.mid_len,
            extension_ids: intent.extension_ids,
            feed: Feed::Idle,
            cohort: NONE,
            position: NONE,
            waiting: NONE,
            waiting_position: NONE,
            constants: Constants::default(),
            first_number: 0,
            generation: 0,
            source: None,
            stretches: [None; SEGMENTS],
            last: LastSent::default(),
            ahead: 0,
            cursor: 0,
            burst_bytes: 0,
            burst_ns: now_ns,
            gate: NONE,
            reports_sent: [ReportSent::default(); REPORTS],
            reports_count: 0,
        }
    }

    /// Whether intent asks for something else than what is shown.
    pub(crate) fn shows_other(&self, intent: &SubscriptionIntent) -> bool {
        let is_same_format = (self.format.pt, self.format.rtx_pt) == (intent.pt, intent.rtx_pt);
        self.track != intent.track || !(is_same_format || intent.track.is_none())
    }

    /// Another track in the slot, or none. It must have left its cohorts before.
    pub(crate) fn show(&mut self, intent: &SubscriptionIntent) {
        self.track = intent.track;
        self.kind = None;
        self.format.pt = intent.pt;
        self.format.rtx_pt = intent.rtx_pt;
    }

    /// What the shown track's record says; false where that makes no sense.
    pub(crate) fn describe(&mut self, track: &TrackIntent) -> bool {
        let (Some(kind), Some(codec)) = (MediaKind::from_code(track.kind), Codec::from_u8(track.codec)) else {
            return false;
        };
        self.kind = Some(kind);
        self.format.codec = codec;
        self.clock_rate = track.clock_rate;
        true
    }

    /// Whether the stream is the one that an intent record means: what never changes while it lives.
    pub(crate) fn is_of(&self, intent: &SubscriptionIntent) -> bool {
        let mid = intent.mid.get(..usize::from(intent.mid_len));
        (self.ssrc, self.rtx_ssrc) == (intent.ssrc, intent.rtx_ssrc) && mid == Some(self.mid())
    }

    /// The MID to send.
    pub(crate) fn mid(&self) -> &[u8] {
        self.mid.get(..usize::from(self.mid_len)).unwrap_or(&[])
    }

    /// Remembers that a sender report went out, by the middle 32 bits of its NTP time.
    pub(crate) fn note_report(&mut self, middle: u32, now_ns: u64) {
        if let Some(place) = self.reports_sent.get_mut(usize::from(self.reports_count) % REPORTS) {
            *place = ReportSent { middle, at_us: micros(now_ns) };
        }
        self.reports_count = self.reports_count.wrapping_add(1);
    }

    /// Microseconds since the sender report that a receiver names by its middle 32 bits went out.
    pub(crate) fn since_report_us(&self, middle: u32, now_ns: u64) -> Option<u32> {
        let sent = self.reports_sent.iter().find(|sent| middle != 0 && sent.middle == middle)?;
        Some(micros(now_ns).wrapping_sub(sent.at_us))
    }
}

/// Modulo 2^32: an hour and more, which no report is old.
fn micros(ns: u64) -> u32 {
    u32::try_from((ns / 1000) & u64::from(u32::MAX)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_survive_the_durable_record() {
        let constants = Constants { seq: u64::MAX - 5, rtp_ts: 0xDEAD_BEEF, picture_id: 0x7FFF, tl0: 200, keyidx: 31 };
        assert_eq!(Constants::from_words(constants.seq, constants.to_word()), constants);
    }

    #[test]
    fn the_last_four_reports_are_known_by_their_time() {
        let mut egress = Egress::new(SubscriptionRef::at(0, 1), 0, &SubscriptionIntent::zeroed(), 0);
        // The microseconds wrap in between.
        let start = u64::from(u32::MAX) * 1000;
        for at in 0..300_u32 {
            egress.note_report(at, start + u64::from(at) * 1_000_000);
        }
        let now = start + 300 * 1_000_000;
        let since: Vec<Option<u32>> = [0, 295, 296, 299].map(|middle| egress.since_report_us(middle, now)).into();
        assert_eq!(since, [None, None, Some(4000), Some(1000)]);
    }
}
