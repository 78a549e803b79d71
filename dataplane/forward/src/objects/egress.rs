// SPDX-License-Identifier: Apache-2.0
//! An egress stream: one sent SSRC, fixed for a receiver's slot, whatever is shown in it (MEDIA_RULES G1).
//! Its numbers are a cohort's plus the constants kept here.

use core::num::NonZeroU32;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::ids::{IngressId, SubscriptionRef, TrackRef};
use dataplane_abi::intent::{SubscriptionIntent, TrackIntent};
use dataplane_abi::limits::{EXTENSIONS, SEGMENTS};
use dataplane_wire::codec::Codec;

use crate::hold::on_demand::OnDemand;
use crate::objects::NONE;
use crate::objects::gate::Gate;
use crate::objects::leg::ROUNDS;

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

/// The stretches of the durable record that began in this life, one bit for each place. They have the format of the newest
/// one or the one before: of what was sent in an older one nothing is sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stretches {
    began: u8,
    leaves_gap: u8,
    is_former: u8,
    newest: Format,
    former: Format,
}

const _: () = assert!(SEGMENTS <= 8);

impl Stretches {
    const fn new(format: Format) -> Self {
        Self { began: 0, leaves_gap: 0, is_former: 0, newest: format, former: format }
    }

    fn begin(&mut self, at: usize, Stretch { format, leaves_gap }: Stretch) {
        if self.newest != format {
            let newest = self.began & !self.is_former;
            if self.former != format {
                self.began = newest;
            }
            self.is_former = newest;
            self.former = core::mem::replace(&mut self.newest, format);
        }
        let bit = bit_of(at);
        self.began |= bit;
        self.is_former &= !bit;
        self.leaves_gap = if leaves_gap { self.leaves_gap | bit } else { self.leaves_gap & !bit };
    }

    fn get(&self, at: usize) -> Option<Stretch> {
        let has = |bits: u8| bits & bit_of(at) != 0;
        let format = if has(self.is_former) { self.former } else { self.newest };
        has(self.began).then(|| Stretch { format, leaves_gap: has(self.leaves_gap) })
    }
}

/// The bit of a place; none where there is no such place.
fn bit_of(at: usize) -> u8 {
    u32::try_from(at).ok().and_then(|at| 1_u8.checked_shl(at)).unwrap_or(0)
}

/// Whose packets a stretch carries. Another SSRC or another track in the same place has clocks and numbers of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    pub(crate) ingress: IngressId,
    /// Of the track.
    pub(crate) generation: NonZeroU32,
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

/// One sent stream. What each packet needs comes first: two cache lines.
#[repr(C, align(64))]
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
    /// Cohort whose keyframe is awaited, and the position among those that wait.
    pub(crate) waiting: u32,
    pub(crate) waiting_position: u32,
    /// Generation of the cohort that the constants belong to.
    pub(crate) generation: u32,
    pub(crate) clock_rate: u32,
    /// RTP ticks by which the receiver's clock is ahead of the wall's since a switch to something older.
    pub(crate) ahead: u32,
    /// The gate of its retransmissions, once there are any.
    pub(crate) gate: OnDemand<Gate>,
    /// Whose packets the stretch in use carries: constants other than the number stay while it is the same.
    pub(crate) source: Option<Origin>,
    /// The middle 32 bits of the NTP times of its sender reports, by their place among the leg's rounds; 0 = none.
    reports: [u32; ROUNDS],
    stretches: Stretches,
    pub(crate) max_encoding: u8,
    /// Kind of the track that is shown; none until its record was read.
    pub(crate) kind: Option<MediaKind>,
    pub(crate) feed: Feed,
    // 192 bytes
}

/// Cache lines of an [`Egress`] that each packet needs.
pub(crate) const EGRESS_LINES: usize = 2;
const _: () =
    assert!(core::mem::offset_of!(Egress, extension_ids) == 64 && core::mem::offset_of!(Egress, waiting) == 128);
// A participant of a meeting has dozens.
const _: () = assert!(size_of::<Option<Egress>>() == 192);

impl Egress {
    /// A stream that shows nothing yet: [`Self::show`] and [`Self::describe`] say what.
    pub(crate) fn new(subscription: SubscriptionRef, leg: u32, intent: &SubscriptionIntent) -> Self {
        let format = Format { codec: Codec::Opus, pt: intent.pt, rtx_pt: intent.rtx_pt };
        Self {
            subscription,
            track: TrackRef::NONE,
            leg,
            kind: None,
            format,
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
            stretches: Stretches::new(format),
            last: LastSent::default(),
            ahead: 0,
            gate: OnDemand::none(),
            reports: [0; ROUNDS],
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

    /// The stretch at a place of the durable record begins.
    pub(crate) fn begin_stretch(&mut self, at: usize, leaves_gap: bool) {
        self.stretches.begin(at, Stretch { format: self.format, leaves_gap });
    }

    /// The stretch at a place of the durable record; nothing where it began in another life, or its format is forgotten.
    pub(crate) fn stretch(&self, at: usize) -> Option<Stretch> {
        self.stretches.get(at)
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

    /// Remembers its sender report of a round by the middle 32 bits of the report's NTP time; 0 where it had none.
    pub(crate) fn note_report(&mut self, round: usize, middle: u32) {
        if let Some(place) = self.reports.get_mut(round) {
            *place = middle;
        }
    }

    /// The round of the sender report that a receiver names by its middle 32 bits.
    pub(crate) fn round_of(&self, middle: u32) -> Option<usize> {
        self.reports.iter().position(|sent| middle != 0 && *sent == middle)
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

    #[test]
    fn stretches_keep_the_newest_format_and_the_one_before() {
        let mut intent = SubscriptionIntent::zeroed();
        let mut egress = Egress::new(SubscriptionRef::at(0, 1), 0, &intent);
        let mut show = |egress: &mut Egress, pt: u8| {
            intent.pt = pt;
            egress.show(&intent);
        };
        let pts = |egress: &Egress| [0, 1, 2, 3].map(|at| egress.stretch(at).map(|stretch| stretch.format.pt));
        show(&mut egress, 96);
        egress.begin_stretch(0, true);
        egress.begin_stretch(1, false);
        let gaps = [0, 1, 2].map(|at| egress.stretch(at).map(|stretch| stretch.leaves_gap));
        assert_eq!(gaps, [Some(true), Some(false), None]);
        show(&mut egress, 97);
        show(&mut egress, 98);
        egress.begin_stretch(2, true);
        assert_eq!(pts(&egress), [Some(96), Some(96), Some(98), None], "nothing began as 97");
        show(&mut egress, 97);
        show(&mut egress, 96);
        egress.begin_stretch(1, false);
        assert_eq!(pts(&egress), [Some(96), Some(96), Some(98), None]);
        show(&mut egress, 99);
        egress.begin_stretch(3, false);
        assert_eq!(pts(&egress), [Some(96), Some(96), None, Some(99)], "98 is two formats ago");
        egress.begin_stretch(0, false);
        assert_eq!(egress.stretch(0).map(|stretch| (stretch.format.pt, stretch.leaves_gap)), Some((99, false)));
        assert_eq!(egress.stretch(SEGMENTS), None);
    }

    #[test]
    fn a_report_is_known_by_its_time_until_its_round_comes_again() {
        let mut egress = Egress::new(SubscriptionRef::at(0, 1), 0, &SubscriptionIntent::zeroed());
        egress.note_report(1, 77);
        egress.note_report(2, 78);
        assert_eq!([77, 78, 79, 0].map(|middle| egress.round_of(middle)), [Some(1), Some(2), None, None]);
        egress.note_report(1, 0);
        assert_eq!(egress.round_of(77), None);
    }
}
