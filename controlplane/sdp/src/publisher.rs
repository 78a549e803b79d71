// SPDX-License-Identifier: Apache-2.0
//! The answer to a publisher (WHIP, RFC 9725): one codec per track, simulcast as offered. It must never accept a track
//! that could not be told from another on the wire.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::answer::{
    AnsweredCodec, Decision, DtlsFacts, Flow, Rejected, Section, accepted, check_extension_ids, check_offer,
    codec_names, gate, is_usable_pt, negotiate_extensions, negotiate_feedback, negotiate_transport, nothing_accepted,
    rejected, tagged,
};
use crate::codec::{Codec, CodecKind, Feedback, Fmtp};
use crate::compose::compose;
use crate::error::SdpError;
use crate::extension::{ExtKind, Extension};
use crate::h264::{H264Format, H264Profile};
use crate::ids::{Mid, Pt, Rid, Ssrc};
use crate::offer::{Direction, IceParams, MediaKind, Msid, Offer, OfferedEncoding, OfferedMedia, OfferedRid};
use crate::policy::Policy;
use crate::server::ServerParams;

/// A track that a publisher sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublishedTrack {
    /// Position of its m-line in the offer, the first is 0.
    pub index: usize,
    /// Its m-line.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// The one codec that the answer leaves.
    pub codec: CodecKind,
    /// Payload type of its packets.
    pub pt: Pt,
    /// Payload type of its retransmissions.
    pub rtx_pt: Option<Pt>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Parameters of the stream as the publisher offered them: what viewers are matched against.
    pub fmtp: Fmtp,
    /// SSRCs told in the offer with those of their retransmissions; empty for Chromium's simulcast, which is learned
    /// from the MID and RID header extensions.
    pub ssrcs: Vec<(Ssrc, Option<Ssrc>)>,
    /// Simulcast encodings in the order of the offer; empty without simulcast.
    pub rids: Vec<Rid>,
    /// Header extensions in its packets.
    pub extensions: Vec<Extension>,
    /// Feedback that may be sent to the publisher.
    pub feedback: Feedback,
    /// `a=rtcp-rsize`: reduced-size RTCP may be sent (RFC 5506).
    pub rtcp_rsize: bool,
    /// One- and two-byte header extensions may be mixed (RFC 8285 §4.1.2).
    pub extmap_allow_mixed: bool,
    /// CNAME, if the offer tells it.
    pub cname: Option<String>,
    /// MediaStream and track id, if the offer tells them.
    pub msid: Option<Msid>,
}

/// The answer to a publisher and the facts that the tables need. `Debug` leaves the text out: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct PublisherAnswer {
    /// The answer, lines end in CRLF.
    pub sdp: String,
    /// For the DTLS handshake.
    pub dtls: DtlsFacts,
    /// Credentials of the client.
    pub ice: IceParams,
    /// The tracks that flow, in the order of the m-lines.
    pub tracks: Vec<PublishedTrack>,
    /// The m-lines that were rejected.
    pub rejected: Vec<Rejected>,
}

impl fmt::Debug for PublisherAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherAnswer")
            .field("dtls", &self.dtls)
            .field("ice", &self.ice)
            .field("tracks", &self.tracks)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

/// Answers a publisher: every audio and video m-line that is sent to us, in one codec each.
///
/// # Errors
/// A field that is missing or unusable in the m-line whose transport is used, or no m-line that can be accepted.
pub fn answer_publisher(offer: &Offer, server: &ServerParams, policy: &Policy) -> Result<PublisherAnswer, SdpError> {
    check_offer(offer)?;
    let mut decisions = Vec::with_capacity(offer.media.len());
    let mut taken = Taken::default();
    for media in &offer.media {
        let decision = decide(offer, media, policy, &taken)?;
        if let Decision::Accept(section) = &decision {
            taken.add(section);
        }
        decisions.push(decision);
    }
    check_extension_ids(&decisions)?;
    let tracks: Vec<PublishedTrack> =
        accepted(&decisions).filter(|section| section.flow == Flow::ToServer).map(published_track).collect();
    let Some(tagged) = tagged(offer, &decisions).filter(|_| !tracks.is_empty()) else {
        return Err(nothing_accepted(offer, &decisions));
    };
    let (dtls, ice) = negotiate_transport(tagged.media)?;
    let sdp = compose(offer, server, dtls.we_are, &decisions);
    Ok(PublisherAnswer { sdp, dtls, ice, tracks, rejected: rejected(offer, &decisions) })
}

/// How many m-lines are accepted so far.
#[derive(Default)]
struct Taken {
    sections: usize,
    audio: usize,
    video: usize,
}

impl Taken {
    fn add(&mut self, section: &Section<'_>) {
        self.sections += 1;
        match (section.flow, section.media.kind) {
            (Flow::ToServer, MediaKind::Audio) => self.audio += 1,
            (Flow::ToServer, MediaKind::Video) => self.video += 1,
            _ => {}
        }
    }

    fn is_full(&self, kind: MediaKind, policy: &Policy) -> bool {
        match kind {
            MediaKind::Audio => self.audio >= policy.max_audio_tracks,
            MediaKind::Video => self.video >= policy.max_video_tracks,
            MediaKind::Application | MediaKind::Other => true,
        }
    }
}

fn decide<'a>(
    offer: &Offer,
    media: &'a OfferedMedia,
    policy: &Policy,
    taken: &Taken,
) -> Result<Decision<'a>, SdpError> {
    let mid = match gate(offer, media, taken.sections > 0)? {
        Ok(mid) => mid,
        Err(reason) => return Ok(Decision::Reject(reason)),
    };
    let Some((codec, kind)) = choose_codec(media, policy) else {
        let reason = format!("none of its codecs is accepted ({})", codec_names(media));
        return Ok(Decision::Reject(reason));
    };
    let flow = match media.direction {
        Direction::SendRecv | Direction::SendOnly => Flow::ToServer,
        Direction::RecvOnly | Direction::Inactive => Flow::None,
    };
    if flow == Flow::ToServer && taken.is_full(media.kind, policy) {
        return Ok(Decision::Reject("there are more tracks of its kind than one participant may publish".to_owned()));
    }
    Ok(Decision::Accept(Box::new(sending_section(media, mid, flow, (codec, kind), policy))))
}

/// An m-line of a publisher in one codec.
pub(crate) fn sending_section<'a>(
    media: &'a OfferedMedia,
    mid: &'a Mid,
    flow: Flow,
    (codec, kind): (&'a Codec, CodecKind),
    policy: &Policy,
) -> Section<'a> {
    let feedback = negotiate_feedback(codec, &policy.publisher_feedback);
    let rtx_pt = codec.rtx_pt.filter(|pt| is_usable_pt(*pt));
    let fmtp = answered_fmtp(kind, &codec.fmtp).to_string();
    let mut section = Section {
        media,
        mid,
        flow,
        codec: AnsweredCodec { codec, kind, rtx_pt, fmtp, feedback },
        alternatives: Vec::new(),
        extensions: negotiate_extensions(media, flow, &policy.publisher_extensions, feedback),
        rids: Vec::new(),
        more: Vec::new(),
    };
    if flow == Flow::ToServer {
        section.rids = accepted_rids(&section, policy);
        section.more = simulcast_lines(&section.rids, codec.pt);
    }
    section
}

/// The codec of a format, if a publisher may send it in this m-line.
pub(crate) fn accepted_kind(media: &OfferedMedia, codec: &Codec, policy: &Policy) -> Option<CodecKind> {
    let kind = codec.kind.filter(|kind| policy.codecs(media.kind).contains(kind))?;
    (kind.accepts(&codec.fmtp) && is_usable_pt(codec.pt)).then_some(kind)
}

/// The first codec of the offer that is accepted; of an H.264 offer the format that most receivers decode, if the
/// policy wants it.
pub(crate) fn choose_codec<'a>(media: &'a OfferedMedia, policy: &Policy) -> Option<(&'a Codec, CodecKind)> {
    let accepted = |codec: &'a Codec| Some((codec, accepted_kind(media, codec, policy)?));
    let (first, kind) = media.codecs.iter().find_map(accepted)?;
    if kind != CodecKind::H264 || !policy.prefers_constrained_baseline {
        return Some((first, kind));
    }
    let most_decoded = |codec: &Codec| {
        H264Format::parse(&codec.fmtp).is_some_and(|format| {
            format.profile == Some(H264Profile::ConstrainedBaseline) && format.packetization_mode == 1
        })
    };
    let formats = media.codecs.iter().filter_map(accepted).filter(|(_, kind)| *kind == CodecKind::H264);
    let preferred = formats.map(|(codec, _)| codec).find(|codec| most_decoded(codec));
    Some((preferred.unwrap_or(first), kind))
}

/// What the answer asks of the publisher's encoder. Limits that the offerer has as a receiver (`max-fs`,
/// `maxplaybackrate`) and descriptions of its stream (`sprop-…`) are not ours to repeat.
fn answered_fmtp(kind: CodecKind, offered: &Fmtp) -> Fmtp {
    match kind {
        CodecKind::Opus => {
            let mut fmtp = offered.only(&["minptime", "useinbandfec", "usedtx", "stereo"]);
            // RFC 7587 §7.1: each side says what it can use of the other; viewers can use in-band FEC and stereo.
            fmtp.set("useinbandfec", "1");
            if offered.get("sprop-stereo") == Some("1") {
                fmtp.set("stereo", "1");
            }
            fmtp
        }
        CodecKind::Vp8 | CodecKind::Vp9 | CodecKind::H264 | CodecKind::Av1 => offered.only(kind.format_parameters()),
    }
}

/// The encodings of `a=simulcast:send` that are accepted, in the offer's order (RFC 8853 §5.3.2). Without the RID
/// header extension encodings cannot be told apart, and the publisher sends one.
fn accepted_rids<'a>(section: &Section<'a>, policy: &Policy) -> Vec<&'a OfferedRid> {
    let media = section.media;
    if section.extensions.iter().all(|answered| answered.extension.kind != ExtKind::Rid) {
        return Vec::new();
    }
    let described = |encoding: &OfferedEncoding| {
        let rid = media.rids.iter().find(|rid| rid.is_send && rid.rid == encoding.rid)?;
        (rid.pts.is_empty() || rid.pts.contains(&section.codec.codec.pt)).then_some(rid)
    };
    media.simulcast_send.iter().filter_map(described).take(policy.max_encodings).collect()
}

/// `a=rid` and `a=simulcast` of the answer: the offer's, seen from the other side (RFC 8851 §6.3).
fn simulcast_lines(rids: &[&OfferedRid], pt: Pt) -> Vec<(&'static str, String)> {
    let mut lines: Vec<(&'static str, String)> = Vec::new();
    for offered in rids {
        let mut restrictions = Vec::new();
        if !offered.pts.is_empty() {
            restrictions.push(format!("pt={pt}"));
        }
        if !offered.restrictions.is_empty() {
            restrictions.push(offered.restrictions.clone());
        }
        let separator = if restrictions.is_empty() { "" } else { " " };
        lines.push(("rid", format!("{} recv{separator}{}", offered.rid, restrictions.join(";"))));
    }
    if !rids.is_empty() {
        let names: Vec<&str> = rids.iter().map(|offered| offered.rid.as_str()).collect();
        lines.push(("simulcast", format!("recv {}", names.join(";"))));
    }
    lines
}

/// Streams that the offer tells by number: those that repair no other, with their retransmissions.
fn told_ssrcs(media: &OfferedMedia, has_rtx: bool) -> Vec<(Ssrc, Option<Ssrc>)> {
    let mut primaries: Vec<Ssrc> = Vec::new();
    let grouped = media.fid_groups.iter().map(|(primary, _)| *primary);
    for ssrc in media.ssrcs.iter().map(|info| info.ssrc).chain(grouped) {
        if !primaries.contains(&ssrc) && !media.repair_ssrcs.contains(&ssrc) {
            primaries.push(ssrc);
        }
    }
    let rtx_of = |ssrc: Ssrc| media.fid_groups.iter().find(|(primary, _)| *primary == ssrc).map(|(_, rtx)| *rtx);
    primaries.into_iter().map(|ssrc| (ssrc, rtx_of(ssrc).filter(|_| has_rtx))).collect()
}

/// The track that an accepted m-line carries.
pub(crate) fn published_track(section: &Section<'_>) -> PublishedTrack {
    let media = section.media;
    let AnsweredCodec { codec, kind, rtx_pt, feedback, .. } = section.codec;
    let rids = section.rids.iter().map(|offered| offered.rid.clone()).collect();
    PublishedTrack {
        index: media.index,
        mid: section.mid.clone(),
        kind: media.kind,
        codec: kind,
        pt: codec.pt,
        rtx_pt,
        clock_rate: codec.clock_rate,
        fmtp: codec.fmtp.clone(),
        ssrcs: told_ssrcs(media, rtx_pt.is_some()),
        rids,
        extensions: section.extensions(),
        feedback,
        rtcp_rsize: media.rtcp_rsize,
        extmap_allow_mixed: media.extmap_allow_mixed,
        cname: media.ssrcs.iter().find_map(|info| info.cname.clone()),
        msid: media.msid.clone().or_else(|| media.ssrcs.iter().find_map(|info| info.msid.clone())),
    }
}
