// SPDX-License-Identifier: Apache-2.0
//! The answer to a participant that sends and receives over one PeerConnection: sections that send are tracks,
//! sections that only receive are slots, in which any track of the room may be shown later without SDP. It must never
//! change what an earlier answer said about a section that stays.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::answer::{
    AnsweredCodec, Decision, DtlsFacts, Flow, Rejected, Section, check_extension_ids, check_offer, codec_names, gate,
    is_usable_pt, negotiate_extensions, negotiate_feedback, negotiate_transport, nothing_accepted, rejected, tagged,
};
use crate::codec::{Codec, CodecKind, Feedback, Fmtp};
use crate::compose::compose;
use crate::error::SdpError;
use crate::extension::Extension;
use crate::ids::{Mid, Pt, Ssrc};
use crate::limits::MAX_SLOTS_PER_KIND;
use crate::negotiated::{Negotiated, NegotiatedSection, SectionUse, SlotIdentity};
use crate::offer::{Direction, IceParams, MediaKind, Offer, OfferedMedia};
use crate::policy::Policy;
use crate::publisher::{PublishedTrack, accepted_kind, choose_codec, published_track, sending_section};
use crate::server::ServerParams;
use crate::viewer::stream_lines;

/// A codec that a slot can carry, under the client's payload types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotCodec {
    /// Codec.
    pub codec: CodecKind,
    /// The client's payload type for it.
    pub pt: Pt,
    /// The client's payload type for its retransmissions.
    pub rtx_pt: Option<Pt>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Parameters as the client offered them: what [`SlotCodec::decodes`] compares.
    pub fmtp: Fmtp,
}

/// A section that only receives: what we send in it may change at any packet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Position of its m-line in the offer, the first is 0.
    pub index: usize,
    /// Its m-line. The answer names the slot's MediaStream `slot-<mid>`.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// SSRC of what is shown in it.
    pub ssrc: Ssrc,
    /// SSRC of retransmissions; there exactly if a codec has an `rtx_pt`.
    pub rtx_ssrc: Option<Ssrc>,
    /// The codecs that it can carry, in the client's order; at least one.
    pub codecs: Vec<SlotCodec>,
    /// Header extensions that the client takes.
    pub extensions: Vec<Extension>,
    /// Feedback that the client may send, for all codecs of the slot.
    pub feedback: Feedback,
    /// `a=rtcp-rsize`: reduced-size RTCP may be sent (RFC 5506).
    pub rtcp_rsize: bool,
    /// One- and two-byte header extensions may be mixed (RFC 8285 §4.1.2).
    pub extmap_allow_mixed: bool,
}

/// How a section of this answer stands to the answer before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It was not there, or was used for nothing.
    New,
    /// As it was.
    Kept,
    /// The same section with other payload types, SSRCs or extensions: what was in it ends, and begins anew.
    Changed,
}

/// A section that is to become a slot.
#[derive(Debug, Clone, Copy)]
pub struct NewSlot<'a> {
    /// Its mid.
    pub mid: &'a Mid,
    /// Audio or video.
    pub kind: MediaKind,
}

/// The answer to a participant and the facts that the tables need. `Debug` leaves the text out: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ParticipantAnswer {
    /// The answer, lines end in CRLF.
    pub sdp: String,
    /// For the DTLS handshake; as before in a further answer.
    pub dtls: DtlsFacts,
    /// Credentials of the client; as before in a further answer.
    pub ice: IceParams,
    /// The tracks that flow, in the order of the m-lines.
    pub tracks: Vec<(PublishedTrack, Standing)>,
    /// The slots, in the order of the m-lines.
    pub slots: Vec<(Slot, Standing)>,
    /// Mids whose track has ended: it was in the answer before and is not any more.
    pub ended_tracks: Vec<Mid>,
    /// Mids of slots that take nothing any more.
    pub ended_slots: Vec<Mid>,
    /// The m-lines that were rejected, those that the client has switched off included.
    pub rejected: Vec<Rejected>,
    /// What the answer to the next offer of this PeerConnection must know.
    pub negotiated: Negotiated,
}

/// Why a participant's offer is not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ParticipantError {
    /// The offer cannot be read or served.
    Offer(SdpError),
    /// The offer is of another PeerConnection, or restarts ICE; the text says what differs.
    RestartNeeded(&'static str),
    /// More slots of one kind than [`MAX_SLOTS_PER_KIND`].
    TooManySlots {
        /// Audio or video.
        kind: MediaKind,
        /// How many may be.
        limit: usize,
    },
    /// More tracks of one kind than the policy allows.
    TooManyTracks {
        /// Audio or video.
        kind: MediaKind,
        /// How many may be.
        limit: usize,
    },
}

impl SlotCodec {
    /// True if a track in this codec with these parameters (as [`PublishedTrack::fmtp`] has them) can be shown.
    pub fn decodes(&self, codec: CodecKind, fmtp: &Fmtp) -> bool {
        self.codec == codec && codec.decode_rank(&self.fmtp, fmtp).is_some()
    }
}

impl Slot {
    /// The codec of the slot that decodes such a track best; the client's first among equals.
    pub fn codec_for(&self, codec: CodecKind, fmtp: &Fmtp) -> Option<&SlotCodec> {
        let same = self.codecs.iter().filter(|held| held.codec == codec);
        let ranked = same.filter_map(|held| Some((codec.decode_rank(&held.fmtp, fmtp)?, held)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, held)| held)
    }
}

impl fmt::Debug for ParticipantAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParticipantAnswer")
            .field("dtls", &self.dtls)
            .field("ice", &self.ice)
            .field("tracks", &self.tracks)
            .field("slots", &self.slots)
            .field("ended_tracks", &self.ended_tracks)
            .field("ended_slots", &self.ended_slots)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

/// Answers a participant: sections that send (and receive) become tracks in one codec each, sections that only
/// receive become slots with every codec that both ends have.
///
/// `new_slot` is asked once for each section that becomes a slot for the first time, also if an error follows.
/// `previous` is what the last answer of the same PeerConnection left; with it `server` names the same transport as
/// then, and its session number and version are not used.
///
/// # Errors
/// An offer that cannot be served, that is of another transport than `previous`, or that goes beyond a limit.
pub fn answer_participant(
    offer: &Offer,
    server: &ServerParams,
    policy: &Policy,
    mut new_slot: impl FnMut(NewSlot<'_>) -> SlotIdentity,
    previous: Option<&Negotiated>,
) -> Result<ParticipantAnswer, ParticipantError> {
    check_offer(offer)?;
    if let Some(previous) = previous {
        previous.check_continuity(offer)?;
    }
    let mut plan = Plan { policy, previous, taken: Taken::default(), sections: Vec::with_capacity(offer.media.len()) };
    let mut decisions = Vec::with_capacity(offer.media.len());
    for media in &offer.media {
        let decision = match gate(offer, media, plan.taken.sections > 0)? {
            Ok(mid) => plan.decide(media, mid, &mut new_slot)?,
            Err(reason) => Decision::Reject(reason),
        };
        if matches!(decision, Decision::Reject(_)) {
            plan.push(media, SectionUse::Gone, None, false);
        }
        decisions.push(decision);
    }
    check_extension_ids(&decisions)?;
    let Some(tagged) = tagged(offer, &decisions) else {
        return Err(nothing_accepted(offer, &decisions).into());
    };
    let (mut dtls, ice) = negotiate_transport(tagged.media)?;
    let mut server = server.clone();
    if let Some(previous) = previous {
        previous.check_transport(tagged.media, &dtls)?;
        dtls = previous.dtls.clone();
        server.session_id = previous.session_id;
        server.session_version = previous.session_version.saturating_add(1);
    }
    let sdp = compose(offer, &server, dtls.we_are, &decisions);
    let (session_id, session_version) = (server.session_id, server.session_version);
    let sections = plan.sections;
    let rejected = rejected(offer, &decisions);
    let negotiated = Negotiated { session_id, session_version, ice, dtls, sections };
    Ok(summarize(sdp, rejected, negotiated, previous))
}

/// How many sections are accepted so far.
#[derive(Default)]
struct Taken {
    sections: usize,
    audio_tracks: usize,
    video_tracks: usize,
    audio_slots: usize,
    video_slots: usize,
}

/// What the sections become.
struct Plan<'p> {
    policy: &'p Policy,
    previous: Option<&'p Negotiated>,
    taken: Taken,
    sections: Vec<NegotiatedSection>,
}

impl Plan<'_> {
    fn push(&mut self, media: &OfferedMedia, used_as: SectionUse, identity: Option<SlotIdentity>, has_sent: bool) {
        self.taken.sections += usize::from(used_as != SectionUse::Gone);
        let (mid, kind) = (media.mid.clone(), media.kind);
        self.sections.push(NegotiatedSection { mid, kind, used_as, identity, has_sent });
    }

    fn decide<'a>(
        &mut self,
        media: &'a OfferedMedia,
        mid: &'a Mid,
        new_slot: &mut impl FnMut(NewSlot<'_>) -> SlotIdentity,
    ) -> Result<Decision<'a>, ParticipantError> {
        let before = self.previous.and_then(|previous| previous.section(mid));
        let identity = before.and_then(|section| section.identity.clone());
        let has_sent = before.is_some_and(|section| section.has_sent);
        // A section that was made for sending does not become a slot when it stops.
        let is_slot = identity.is_some() || !has_sent;
        match media.direction {
            Direction::SendRecv | Direction::SendOnly => self.track(media, mid, before, Flow::ToServer),
            Direction::RecvOnly if is_slot => {
                let identity = identity.unwrap_or_else(|| new_slot(NewSlot { mid, kind: media.kind }));
                self.slot(media, mid, (identity, has_sent), Flow::FromServer)
            }
            Direction::Inactive if identity.is_some() => match identity {
                Some(identity) => self.slot(media, mid, (identity, has_sent), Flow::None),
                None => self.track(media, mid, before, Flow::None),
            },
            Direction::RecvOnly | Direction::Inactive => self.track(media, mid, before, Flow::None),
        }
    }

    /// A section of the publishing side, flowing or stopped.
    fn track<'a>(
        &mut self,
        media: &'a OfferedMedia,
        mid: &'a Mid,
        before: Option<&NegotiatedSection>,
        flow: Flow,
    ) -> Result<Decision<'a>, ParticipantError> {
        let Some(choice) = track_codec(media, before, self.policy) else { return Ok(no_codec(media)) };
        let section = sending_section(media, mid, flow, choice, self.policy);
        let identity = before.and_then(|section| section.identity.clone());
        if flow != Flow::ToServer {
            self.push(media, SectionUse::Idle, identity, before.is_some_and(|section| section.has_sent));
            return Ok(Decision::Accept(Box::new(section)));
        }
        let (count, limit) = match media.kind {
            MediaKind::Audio => (&mut self.taken.audio_tracks, self.policy.max_audio_tracks),
            MediaKind::Video | MediaKind::Application | MediaKind::Other => {
                (&mut self.taken.video_tracks, self.policy.max_video_tracks)
            }
        };
        *count += 1;
        if *count > limit {
            return Err(ParticipantError::TooManyTracks { kind: media.kind, limit });
        }
        self.push(media, SectionUse::Track(published_track(&section)), identity, true);
        Ok(Decision::Accept(Box::new(section)))
    }

    /// A slot, shown or stopped.
    fn slot<'a>(
        &mut self,
        media: &'a OfferedMedia,
        mid: &'a Mid,
        (identity, has_sent): (SlotIdentity, bool),
        flow: Flow,
    ) -> Result<Decision<'a>, ParticipantError> {
        let Some(section) = slot_section(media, mid, &identity, flow, self.policy) else { return Ok(no_codec(media)) };
        let used_as = match flow {
            Flow::FromServer => SectionUse::Slot(slot_facts(&section, &identity)),
            Flow::ToServer | Flow::None => SectionUse::Idle,
        };
        let (count, limit) = match media.kind {
            MediaKind::Audio => (&mut self.taken.audio_slots, MAX_SLOTS_PER_KIND),
            MediaKind::Video | MediaKind::Application | MediaKind::Other => {
                (&mut self.taken.video_slots, MAX_SLOTS_PER_KIND)
            }
        };
        *count += usize::from(flow == Flow::FromServer);
        if *count > limit {
            return Err(ParticipantError::TooManySlots { kind: media.kind, limit });
        }
        self.push(media, used_as, Some(identity), has_sent);
        Ok(Decision::Accept(Box::new(section)))
    }
}

fn no_codec(media: &OfferedMedia) -> Decision<'_> {
    Decision::Reject(format!("no codec in common ({})", codec_names(media)))
}

/// The codec of a track: the one that it had, else the one that the policy prefers for participants, else the
/// publisher's choice.
fn track_codec<'a>(
    media: &'a OfferedMedia,
    before: Option<&NegotiatedSection>,
    policy: &Policy,
) -> Option<(&'a Codec, CodecKind)> {
    let accepted = || media.codecs.iter().filter_map(|codec| Some((codec, accepted_kind(media, codec, policy)?)));
    let had = match before.map(|section| &section.used_as) {
        Some(SectionUse::Track(track)) => {
            accepted().find(|(codec, kind)| *kind == track.codec && codec.pt == track.pt && codec.fmtp == track.fmtp)
        }
        _ => None,
    };
    let preferred = || accepted().find(|(_, kind)| Some(*kind) == policy.participant_video);
    had.or_else(preferred).or_else(|| choose_codec(media, policy))
}

/// A section in every codec that both ends have; `None` if there is none.
fn slot_section<'a>(
    media: &'a OfferedMedia,
    mid: &'a Mid,
    identity: &SlotIdentity,
    flow: Flow,
    policy: &Policy,
) -> Option<Section<'a>> {
    let answered = |codec: &'a Codec| {
        let kind = accepted_kind(media, codec, policy)?;
        let keys = match kind {
            CodecKind::Opus => &["minptime", "useinbandfec", "usedtx", "stereo"],
            CodecKind::Vp8 | CodecKind::Vp9 | CodecKind::H264 | CodecKind::Av1 => kind.format_parameters(),
        };
        let fmtp = codec.fmtp.only(keys).to_string();
        let rtx_pt = codec.rtx_pt.filter(|pt| is_usable_pt(*pt));
        let feedback = negotiate_feedback(codec, &policy.viewer_feedback);
        Some(AnsweredCodec { codec, kind, rtx_pt, fmtp, feedback })
    };
    let mut codecs = media.codecs.iter().filter_map(answered);
    let codec = codecs.next()?;
    let alternatives: Vec<AnsweredCodec<'a>> = codecs.collect();
    let extensions = negotiate_extensions(media, flow, &policy.viewer_extensions, codec.feedback);
    let mut section = Section { media, mid, flow, codec, alternatives, extensions, rids: Vec::new(), more: Vec::new() };
    if flow == Flow::FromServer {
        let name = format!("slot-{mid}");
        let rtx_ssrc = has_rtx(&section).then_some(identity.rtx_ssrc);
        section.more = stream_lines((&name, &name), &identity.cname, identity.ssrc, rtx_ssrc);
    }
    Some(section)
}

fn has_rtx(section: &Section<'_>) -> bool {
    section.codecs().any(|answered| answered.rtx_pt.is_some())
}

fn slot_facts(section: &Section<'_>, identity: &SlotIdentity) -> Slot {
    let codecs = section.codecs().map(|answered| SlotCodec {
        codec: answered.kind,
        pt: answered.codec.pt,
        rtx_pt: answered.rtx_pt,
        clock_rate: answered.codec.clock_rate,
        fmtp: answered.codec.fmtp.clone(),
    });
    let feedback = section.codecs().map(|answered| answered.feedback).reduce(Feedback::and);
    Slot {
        index: section.media.index,
        mid: section.mid.clone(),
        kind: section.media.kind,
        ssrc: identity.ssrc,
        rtx_ssrc: has_rtx(section).then_some(identity.rtx_ssrc),
        codecs: codecs.collect(),
        extensions: section.extensions(),
        feedback: feedback.unwrap_or_default(),
        rtcp_rsize: section.media.rtcp_rsize,
        extmap_allow_mixed: section.media.extmap_allow_mixed,
    }
}

/// Compares the sections with those of the answer before.
fn summarize(
    sdp: String,
    rejected: Vec<Rejected>,
    negotiated: Negotiated,
    previous: Option<&Negotiated>,
) -> ParticipantAnswer {
    let before = |mid: &Mid| previous.and_then(|previous| previous.section(mid)).map(|section| &section.used_as);
    let (mut tracks, mut slots) = (Vec::new(), Vec::new());
    for section in &negotiated.sections {
        match &section.used_as {
            SectionUse::Track(track) => {
                let standing = match before(&track.mid) {
                    Some(SectionUse::Track(old)) if is_same_stream(old, track) => Standing::Kept,
                    Some(SectionUse::Track(_)) => Standing::Changed,
                    _ => Standing::New,
                };
                tracks.push((track.clone(), standing));
            }
            SectionUse::Slot(slot) => {
                let standing = match before(&slot.mid) {
                    Some(SectionUse::Slot(old)) if old == slot => Standing::Kept,
                    Some(SectionUse::Slot(_)) => Standing::Changed,
                    _ => Standing::New,
                };
                slots.push((slot.clone(), standing));
            }
            SectionUse::Idle | SectionUse::Gone => {}
        }
    }
    let (mut ended_tracks, mut ended_slots) = (Vec::new(), Vec::new());
    for section in previous.map_or(&[][..], |previous| &previous.sections) {
        match &section.used_as {
            SectionUse::Track(old) if tracks.iter().all(|(track, _)| track.mid != old.mid) => {
                ended_tracks.push(old.mid.clone());
            }
            SectionUse::Slot(old) if slots.iter().all(|(slot, _)| slot.mid != old.mid) => {
                ended_slots.push(old.mid.clone());
            }
            SectionUse::Track(_) | SectionUse::Slot(_) | SectionUse::Idle | SectionUse::Gone => {}
        }
    }
    let (dtls, ice) = (negotiated.dtls.clone(), negotiated.ice.clone());
    ParticipantAnswer { sdp, dtls, ice, tracks, slots, ended_tracks, ended_slots, rejected, negotiated }
}

/// True if the packets of both are the same; names of streams and tracks do not matter.
fn is_same_stream(old: &PublishedTrack, new: &PublishedTrack) -> bool {
    let nameless = |track: &PublishedTrack| PublishedTrack { cname: None, msid: None, ..track.clone() };
    nameless(old) == nameless(new)
}
