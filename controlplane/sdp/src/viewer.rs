// SPDX-License-Identifier: Apache-2.0
//! The answer to a viewer (WHEP): tracks are put into the m-lines that can decode them, under the viewer's own payload
//! types and our own SSRCs. It must never offer a viewer a stream that its decoder was not negotiated for.

use std::fmt;

use crate::answer::{
    AnsweredCodec, Decision, DtlsFacts, Flow, Rejected, Section, check_extension_ids, check_offer, codec_names, gate,
    is_usable_pt, negotiate_extensions, negotiate_feedback, negotiate_transport, nothing_accepted, rejected, tagged,
};
use crate::codec::{Codec, CodecKind, Feedback, Fmtp};
use crate::compose::compose;
use crate::error::SdpError;
use crate::extension::Extension;
use crate::ids::{Mid, Pt, Ssrc, is_token_byte};
use crate::offer::{Direction, IceParams, MediaKind, Offer, OfferedMedia};
use crate::policy::Policy;
use crate::server::ServerParams;

/// A track that is to be sent to a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendTrack {
    /// Codec of the published track; it also says audio or video.
    pub codec: CodecKind,
    /// Its parameters, as [`crate::PublishedTrack::fmtp`] has them.
    pub fmtp: Fmtp,
    /// SSRC of the egress stream.
    pub ssrc: Ssrc,
    /// SSRC of its retransmissions, used if the viewer takes them.
    pub rtx_ssrc: Option<Ssrc>,
    /// CNAME: equal for tracks that are to be played in sync.
    pub cname: String,
    /// MediaStream id (RFC 8830: token characters, at most 64).
    pub msid_stream: String,
    /// Track id.
    pub msid_track: String,
}

/// One track on its way to a viewer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ViewerLeg {
    /// Which of the tracks given to [`answer_viewer`], the first is 0.
    pub send_index: usize,
    /// Position of the m-line in the offer, the first is 0.
    pub index: usize,
    /// The m-line that carries it.
    pub mid: Mid,
    /// Audio or video.
    pub kind: MediaKind,
    /// Codec.
    pub codec: CodecKind,
    /// The viewer's payload type for it.
    pub pt: Pt,
    /// The viewer's payload type for its retransmissions.
    pub rtx_pt: Option<Pt>,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// SSRC of the egress stream.
    pub ssrc: Ssrc,
    /// SSRC of its retransmissions; there exactly if `rtx_pt` is.
    pub rtx_ssrc: Option<Ssrc>,
    /// Header extensions that the viewer takes.
    pub extensions: Vec<Extension>,
    /// Feedback that the viewer may send.
    pub feedback: Feedback,
    /// `a=rtcp-rsize`: reduced-size RTCP may be sent (RFC 5506).
    pub rtcp_rsize: bool,
    /// One- and two-byte header extensions may be mixed (RFC 8285 §4.1.2).
    pub extmap_allow_mixed: bool,
}

/// A track that the viewer cannot be sent, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmatched {
    /// Which of the tracks given to [`answer_viewer`], the first is 0.
    pub send_index: usize,
    /// Why, for logs and for the page.
    pub reason: String,
}

/// The answer to a viewer and the facts that the tables need. `Debug` leaves the text out: it holds a password.
#[derive(Clone, PartialEq, Eq)]
pub struct ViewerAnswer {
    /// The answer, lines end in CRLF.
    pub sdp: String,
    /// For the DTLS handshake.
    pub dtls: DtlsFacts,
    /// Credentials of the client.
    pub ice: IceParams,
    /// The tracks that flow, in the order of the m-lines.
    pub legs: Vec<ViewerLeg>,
    /// The tracks that do not.
    pub unmatched: Vec<Unmatched>,
    /// The m-lines that were rejected.
    pub rejected: Vec<Rejected>,
}

impl fmt::Debug for ViewerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ViewerAnswer")
            .field("dtls", &self.dtls)
            .field("ice", &self.ice)
            .field("legs", &self.legs)
            .field("unmatched", &self.unmatched)
            .field("rejected", &self.rejected)
            .finish_non_exhaustive()
    }
}

/// Answers a viewer: each track goes into the first m-line of its kind that receives and has its codec.
///
/// # Errors
/// A field that is missing or unusable in the m-line whose transport is used, or no m-line that can be accepted.
pub fn answer_viewer(
    offer: &Offer,
    server: &ServerParams,
    policy: &Policy,
    send: &[SendTrack],
) -> Result<ViewerAnswer, SdpError> {
    check_offer(offer)?;
    let mut plan = Plan { policy, send, is_sent: vec![false; send.len()], reasons: vec![None; send.len()] };
    let mut decisions = Vec::with_capacity(offer.media.len());
    let mut legs = Vec::new();
    for media in &offer.media {
        let (decision, leg) = match gate(offer, media, !legs.is_empty())? {
            Ok(mid) => plan.decide(media, mid),
            Err(reason) => (Decision::Reject(reason), None),
        };
        decisions.push(decision);
        legs.extend(leg);
    }
    check_extension_ids(&decisions)?;
    let Some(tagged) = tagged(offer, &decisions) else {
        return Err(nothing_accepted(offer, &decisions));
    };
    let (dtls, ice) = negotiate_transport(tagged.media)?;
    let sdp = compose(offer, server, dtls.we_are, &decisions);
    Ok(ViewerAnswer { sdp, dtls, ice, legs, unmatched: plan.unmatched(), rejected: rejected(offer, &decisions) })
}

/// Which track goes where.
struct Plan<'p> {
    policy: &'p Policy,
    send: &'p [SendTrack],
    is_sent: Vec<bool>,
    /// Why a track could not go into the last m-line that it was tried for.
    reasons: Vec<Option<String>>,
}

impl Plan<'_> {
    /// Fills the m-line with the first track that is not sent yet and that it can carry.
    fn decide<'a>(&mut self, media: &'a OfferedMedia, mid: &'a Mid) -> (Decision<'a>, Option<ViewerLeg>) {
        if !matches!(media.direction, Direction::SendRecv | Direction::RecvOnly) {
            return (Decision::Reject("it receives nothing".to_owned()), None);
        }
        let mut tried = Vec::new();
        for (send_index, track) in self.send.iter().enumerate() {
            let is_waiting = self.is_sent.get(send_index) == Some(&false);
            if !is_waiting || track.codec.media_kind() != media.kind {
                continue;
            }
            if let Some(codec) = matching_codec(media, track) {
                if let Some(is_sent) = self.is_sent.get_mut(send_index) {
                    *is_sent = true;
                }
                let section = section_for(media, mid, codec, track, self.policy);
                let leg = viewer_leg(send_index, &section, track);
                return (Decision::Accept(Box::new(section)), Some(leg));
            }
            let format = if track.fmtp.is_empty() { String::new() } else { format!(" {}", track.fmtp) };
            tried.push(format!("{}{format}", track.codec));
            if let Some(reason) = self.reasons.get_mut(send_index) {
                let offered = codec_names(media);
                *reason = Some(format!("{} does not take {}{format} (offers {offered})", media.place(), track.codec));
            }
        }
        let reason = match tried.as_slice() {
            [] => "there is no track for it".to_owned(),
            formats => format!("it takes none of the tracks ({})", formats.join(", ")),
        };
        (Decision::Reject(reason), None)
    }

    fn unmatched(self) -> Vec<Unmatched> {
        let flags = self.is_sent.into_iter().zip(self.reasons).enumerate();
        flags
            .filter(|(_, (is_sent, _))| !is_sent)
            .map(|(send_index, (_, reason))| {
                let reason = reason.unwrap_or_else(|| "the offer has no m-line left that receives its kind".to_owned());
                Unmatched { send_index, reason }
            })
            .collect()
    }
}

/// The format of the m-line that decodes the track best; the first in the offer among equals (H3).
fn matching_codec<'a>(media: &'a OfferedMedia, track: &SendTrack) -> Option<&'a Codec> {
    let ranked = media.codecs.iter().filter_map(|codec| {
        let kind = codec.kind.filter(|kind| *kind == track.codec && is_usable_pt(codec.pt))?;
        Some((kind.decode_rank(&codec.fmtp, &track.fmtp)?, codec))
    });
    ranked.min_by_key(|(rank, _)| *rank).map(|(_, codec)| codec)
}

fn section_for<'a>(
    media: &'a OfferedMedia,
    mid: &'a Mid,
    codec: &'a Codec,
    track: &SendTrack,
    policy: &Policy,
) -> Section<'a> {
    let feedback = negotiate_feedback(codec, &policy.viewer_feedback);
    let rtx_pt = codec.rtx_pt.filter(|pt| is_usable_pt(*pt) && track.rtx_ssrc.is_some());
    Section {
        media,
        mid,
        flow: Flow::FromServer,
        codec: AnsweredCodec {
            codec,
            kind: track.codec,
            rtx_pt,
            fmtp: answered_fmtp(codec, track).to_string(),
            feedback,
        },
        alternatives: Vec::new(),
        extensions: negotiate_extensions(media, Flow::FromServer, &policy.viewer_extensions, feedback),
        rids: Vec::new(),
        more: stream_lines(
            (&track.msid_stream, &track.msid_track),
            &track.cname,
            track.ssrc,
            track.rtx_ssrc.filter(|_| rtx_pt.is_some()),
        ),
    }
}

/// The viewer's own format; for Opus also that the stream is stereo (RFC 7587 §6.1).
fn answered_fmtp(codec: &Codec, track: &SendTrack) -> Fmtp {
    match track.codec {
        CodecKind::Opus => {
            let mut fmtp = codec.fmtp.only(&["minptime", "useinbandfec", "usedtx", "stereo"]);
            if ["stereo", "sprop-stereo"].iter().any(|key| track.fmtp.get(key) == Some("1")) {
                fmtp.set("sprop-stereo", "1");
            }
            fmtp
        }
        CodecKind::Vp8 | CodecKind::Vp9 | CodecKind::H264 | CodecKind::Av1 => {
            codec.fmtp.only(track.codec.format_parameters())
        }
    }
}

/// `a=msid` (RFC 8830) and the SSRCs with their FID group (RFC 5576 §4.2).
pub(crate) fn stream_lines(
    (stream, track): (&str, &str),
    cname: &str,
    ssrc: Ssrc,
    rtx_ssrc: Option<Ssrc>,
) -> Vec<(&'static str, String)> {
    let msid = format!("{} {}", token(stream), token(track));
    let cname = token(cname);
    let mut lines = vec![("msid", msid.clone())];
    if let Some(rtx_ssrc) = rtx_ssrc {
        lines.push(("ssrc-group", format!("FID {ssrc} {rtx_ssrc}")));
    }
    for ssrc in std::iter::once(ssrc).chain(rtx_ssrc) {
        lines.push(("ssrc", format!("{ssrc} cname:{cname}")));
        lines.push(("ssrc", format!("{ssrc} msid:{msid}")));
    }
    lines
}

/// Names may come from a publisher's offer: what is no token character (RFC 8866 §9) becomes `_`, the length is that
/// of RFC 8830 §2.
fn token(name: &str) -> String {
    /// Characters of an msid identifier.
    const MAX_CHARS: usize = 64;
    let clean = |character: char| match u8::try_from(character) {
        Ok(byte) if is_token_byte(byte) => character,
        _ => '_',
    };
    if name.is_empty() { "-".to_owned() } else { name.chars().take(MAX_CHARS).map(clean).collect() }
}

fn viewer_leg(send_index: usize, section: &Section<'_>, track: &SendTrack) -> ViewerLeg {
    let AnsweredCodec { codec, rtx_pt, feedback, .. } = section.codec;
    ViewerLeg {
        send_index,
        index: section.media.index,
        mid: section.mid.clone(),
        kind: section.media.kind,
        codec: track.codec,
        pt: codec.pt,
        rtx_pt,
        clock_rate: codec.clock_rate,
        ssrc: track.ssrc,
        rtx_ssrc: track.rtx_ssrc.filter(|_| rtx_pt.is_some()),
        extensions: section.extensions(),
        feedback,
        rtcp_rsize: section.media.rtcp_rsize,
        extmap_allow_mixed: section.media.extmap_allow_mixed,
    }
}
