// SPDX-License-Identifier: Apache-2.0
//! What publisher and viewer answers share: which m-lines may be accepted at all, whose transport is used, what of the
//! offer is echoed. An answer must never contain a payload type, an identifier or an attribute that the offer has not,
//! except for what is the server's own.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use crate::codec::{Codec, CodecKind, Feedback};
use crate::error::{Place, SdpError, SdpErrorKind};
use crate::extension::{ExtKind, ExtMap, Extension};
use crate::ids::{Mid, Pt};
use crate::offer::{Direction, Fingerprint, IceParams, MediaKind, Offer, OfferedMedia, OfferedRid, Setup};
use crate::policy::{ExtensionPolicy, FeedbackPolicy};

/// Transports that are accepted: what WebRTC clients write (RFC 8829 §5.1.2).
const ACCEPTED_PROTOS: [&str; 3] = ["UDP/TLS/RTP/SAVPF", "UDP/TLS/RTP/SAVP", "RTP/SAVPF"];
/// Largest identifier of the one-byte form of header extensions (RFC 8285 §4.2).
const MAX_ONE_BYTE_ID: u8 = 14;

/// Our side of the DTLS handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DtlsRole {
    /// We wait for the client's hello (`a=setup:passive`).
    Server,
    /// We send the first hello (`a=setup:active`).
    Client,
}

/// What the DTLS handshake needs from the offer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsFacts {
    /// Our role.
    pub we_are: DtlsRole,
    /// Fingerprints of the strongest hash function offered; the certificate of the client must match one of them.
    pub remote_fingerprints: Vec<Fingerprint>,
}

/// An m-line that the answer rejects (port 0), and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Position in the offer, the first is 0.
    pub index: usize,
    /// Its mid, if it has one.
    pub mid: Option<Mid>,
    /// What it is for.
    pub kind: MediaKind,
    /// Why, for logs and for the person who wrote the client.
    pub reason: String,
}

/// Which way media flows in an accepted m-line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// From the offerer to us.
    ToServer,
    /// From us to the offerer.
    FromServer,
    /// Not at all.
    None,
}

impl Flow {
    /// The direction line of the answer.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Self::ToServer => "recvonly",
            Self::FromServer => "sendonly",
            Self::None => "inactive",
        }
    }
}

/// A header extension as the answer writes it.
#[derive(Debug, Clone)]
pub(crate) struct AnsweredExtension {
    pub(crate) extension: Extension,
    pub(crate) line: String,
}

/// What an answer says about one m-line.
pub(crate) enum Decision<'a> {
    Accept(Box<Section<'a>>),
    Reject(String),
}

/// A codec as the answer writes it.
pub(crate) struct AnsweredCodec<'a> {
    pub(crate) codec: &'a Codec,
    pub(crate) kind: CodecKind,
    pub(crate) rtx_pt: Option<Pt>,
    /// Parameters as `a=fmtp` writes them, empty for no line.
    pub(crate) fmtp: String,
    pub(crate) feedback: Feedback,
}

/// An accepted m-line.
pub(crate) struct Section<'a> {
    pub(crate) media: &'a OfferedMedia,
    pub(crate) mid: &'a Mid,
    pub(crate) flow: Flow,
    pub(crate) codec: AnsweredCodec<'a>,
    /// Further codecs, for an m-line in which the codec may change from packet to packet.
    pub(crate) alternatives: Vec<AnsweredCodec<'a>>,
    pub(crate) extensions: Vec<AnsweredExtension>,
    /// Accepted encodings of a simulcast track.
    pub(crate) rids: Vec<&'a OfferedRid>,
    /// Attributes that only this kind of answer has.
    pub(crate) more: Vec<(&'static str, String)>,
}

impl Section<'_> {
    /// The negotiated header extensions without their text.
    pub(crate) fn extensions(&self) -> Vec<Extension> {
        self.extensions.iter().map(|answered| answered.extension).collect()
    }

    /// All its codecs, in the order of the answer.
    pub(crate) fn codecs(&self) -> impl Iterator<Item = &AnsweredCodec<'_>> {
        std::iter::once(&self.codec).chain(&self.alternatives)
    }
}

/// Faults that concern the offer as a whole.
pub(crate) fn check_offer(offer: &Offer) -> Result<(), SdpError> {
    if offer.is_ice_lite {
        // RFC 8445 §6.1.1: between two lite agents nobody sends checks, so no address is ever proved.
        let detail = "this server is ICE-lite, the client has to do the checks";
        return Err(SdpError::new(SdpErrorKind::Unsupported, "a=ice-lite", Place::Session).with_detail(detail));
    }
    Ok(())
}

/// The mid of an m-line that can share our one transport, or the reason why it is rejected.
///
/// # Errors
/// A field without which an m-line of this kind cannot be WebRTC.
pub(crate) fn gate<'a>(
    offer: &Offer,
    media: &'a OfferedMedia,
    has_accepted: bool,
) -> Result<Result<&'a Mid, String>, SdpError> {
    match media.kind {
        MediaKind::Audio | MediaKind::Video => {}
        MediaKind::Application => return Ok(Err("data channels are not served".to_owned())),
        MediaKind::Other => return Ok(Err("only audio and video are served".to_owned())),
    }
    if media.is_disabled() {
        return Ok(Err("the offer has switched it off (port 0)".to_owned()));
    }
    if !ACCEPTED_PROTOS.contains(&media.proto.as_str()) {
        return Ok(Err("its transport is not UDP/TLS/RTP/SAVPF".to_owned()));
    }
    let Some(mid) = &media.mid else {
        return Err(SdpError::new(SdpErrorKind::Missing, "a=mid", media.place()));
    };
    let is_bundled = if offer.bundle.is_empty() { !has_accepted } else { offer.bundle.contains(mid) };
    if !is_bundled {
        return Ok(Err("it is not in the BUNDLE group, and there is one transport only".to_owned()));
    }
    if !media.rtcp_mux {
        // RFC 8834 §4.5: RTCP on a port of its own is not served.
        return Err(SdpError::new(SdpErrorKind::Missing, "a=rtcp-mux", media.place()));
    }
    Ok(Ok(mid))
}

/// Payload types that RTCP packet types cannot be mistaken for (RFC 5761 §4).
pub(crate) fn is_usable_pt(pt: Pt) -> bool {
    !(64..=95).contains(&pt.0)
}

/// The formats that the offer names, for the reason of a rejection.
pub(crate) fn codec_names(media: &OfferedMedia) -> String {
    let mut names: Vec<&str> = Vec::new();
    for codec in media.codecs.iter().filter(|codec| !codec.name.eq_ignore_ascii_case("rtx")) {
        if !names.contains(&codec.name.as_str()) {
            names.push(&codec.name);
        }
    }
    names.join(", ")
}

/// Feedback that both sides have.
pub(crate) fn negotiate_feedback(codec: &Codec, policy: &FeedbackPolicy) -> Feedback {
    let offered = codec.feedback;
    Feedback {
        nack: offered.nack && policy.nack,
        pli: offered.pli && policy.pli,
        fir: offered.fir && policy.fir,
        transport_cc: offered.transport_cc && policy.transport_cc,
        remb: offered.remb && policy.remb,
    }
}

/// Header extensions that both sides have, under the offerer's identifiers, in the direction of the m-line (G9).
pub(crate) fn negotiate_extensions(
    media: &OfferedMedia,
    flow: Flow,
    policy: &ExtensionPolicy,
    feedback: Feedback,
) -> Vec<AnsweredExtension> {
    let max_id = if media.extmap_allow_mixed { policy.max_id } else { policy.max_id.min(MAX_ONE_BYTE_ID) };
    let accepted = policy.kinds(media.kind);
    let mut answered: Vec<AnsweredExtension> = Vec::new();
    for offered in &media.extmaps {
        let (Some(kind), Ok(id)) = (offered.kind, u8::try_from(offered.id)) else { continue };
        let is_first = answered.iter().all(|earlier| earlier.extension.kind != kind);
        // The transport-wide number without the feedback would make senders wait for reports that never come.
        let is_useful = kind != ExtKind::TransportCc || feedback.transport_cc;
        if id <= max_id && is_first && is_useful && accepted.contains(&kind) && flows(offered.direction, flow) {
            let line = extmap_line(offered, flow);
            answered.push(AnsweredExtension { extension: Extension { id, kind }, line });
        }
    }
    answered
}

/// RFC 8285 §7: an extension that the offerer only sends can only be received, and the reverse.
fn flows(offered: Direction, flow: Flow) -> bool {
    match (offered, flow) {
        (Direction::SendRecv, _) => true,
        (Direction::SendOnly, flow) => flow == Flow::ToServer,
        (Direction::RecvOnly, flow) => flow == Flow::FromServer,
        (Direction::Inactive, _) => false,
    }
}

fn extmap_line(offered: &ExtMap, flow: Flow) -> String {
    let mut line = offered.id.to_string();
    if offered.has_direction {
        line.push('/');
        line.push_str(flow.attribute());
    }
    line.push(' ');
    line.push_str(&offered.uri);
    if !offered.attributes.is_empty() {
        line.push(' ');
        line.push_str(&offered.attributes);
    }
    line
}

/// The accepted m-lines share a transport, so an identifier means the same in all of them (RFC 9143 §12): a packet
/// is read before it is known to which m-line it belongs.
pub(crate) fn check_extension_ids(decisions: &[Decision<'_>]) -> Result<(), SdpError> {
    let mut meaning: BTreeMap<u8, (ExtKind, usize)> = BTreeMap::new();
    for section in accepted(decisions) {
        for Extension { id, kind } in section.extensions() {
            let (known, index) = *meaning.entry(id).or_insert((kind, section.media.index));
            if known != kind {
                let detail = format!("id {id} is {} in m-line {}", known.uri(), index + 1);
                let error = SdpError::new(SdpErrorKind::Conflict, "a=extmap", section.media.place());
                return Err(error.with_detail(detail));
            }
        }
    }
    Ok(())
}

/// The accepted m-lines, in the offer's order.
pub(crate) fn accepted<'a, 'b>(decisions: &'b [Decision<'a>]) -> impl Iterator<Item = &'b Section<'a>> {
    decisions.iter().filter_map(|decision| match decision {
        Decision::Accept(section) => Some(section.as_ref()),
        Decision::Reject(_) => None,
    })
}

/// The rejected m-lines with their reasons.
pub(crate) fn rejected(offer: &Offer, decisions: &[Decision<'_>]) -> Vec<Rejected> {
    let pairs = offer.media.iter().zip(decisions);
    pairs
        .filter_map(|(media, decision)| match decision {
            Decision::Accept(_) => None,
            Decision::Reject(reason) => {
                let (index, mid, kind) = (media.index, media.mid.clone(), media.kind);
                Some(Rejected { index, mid, kind, reason: reason.clone() })
            }
        })
        .collect()
}

/// The error for an answer in which nothing would flow; it lists why.
pub(crate) fn nothing_accepted(offer: &Offer, decisions: &[Decision<'_>]) -> SdpError {
    /// m-lines whose reasons are listed.
    const LISTED: usize = 8;
    let reasons: Vec<String> = offer
        .media
        .iter()
        .zip(decisions)
        .take(LISTED)
        .map(|(media, decision)| match decision {
            Decision::Accept(_) => format!("{}: no direction in which media could flow", media.place()),
            Decision::Reject(reason) => format!("{}: {reason}", media.place()),
        })
        .collect();
    SdpError::new(SdpErrorKind::NothingAccepted, "m=", Place::Session).with_detail(reasons.join("; "))
}

/// The accepted m-line whose ICE and DTLS lines hold for all (RFC 9143 §7.3.1): the first of the BUNDLE group that is
/// accepted and has a transport of its own.
pub(crate) fn tagged<'b, 'a>(offer: &Offer, decisions: &'b [Decision<'a>]) -> Option<&'b Section<'a>> {
    let has_transport = |section: &&Section<'_>| !section.media.is_bundle_only;
    let by_mid = |mid: &Mid| accepted(decisions).find(|section| section.mid == mid);
    let mut grouped = offer.bundle.iter().filter_map(by_mid);
    grouped.find(has_transport).or_else(|| accepted(decisions).next())
}

/// What ICE and DTLS need of the m-line whose transport is used.
pub(crate) fn negotiate_transport(media: &OfferedMedia) -> Result<(DtlsFacts, IceParams), SdpError> {
    let error = |kind, field| SdpError::new(kind, field, media.place());
    let missing = |field| error(SdpErrorKind::Missing, field);
    let transport = &media.transport;
    let ice = transport.ice.clone().ok_or_else(|| missing("a=ice-ufrag"))?;
    if transport.has_only_weak_fingerprints {
        let detail = "none is sha-256, sha-384 or sha-512";
        return Err(error(SdpErrorKind::Unsupported, "a=fingerprint").with_detail(detail));
    }
    let strongest = transport.fingerprints.iter().map(|fingerprint| fingerprint.algorithm).max();
    let algorithm = strongest.ok_or_else(|| missing("a=fingerprint"))?;
    let remote_fingerprints =
        transport.fingerprints.iter().filter(|fingerprint| fingerprint.algorithm == algorithm).cloned().collect();
    let we_are = match transport.setup.ok_or_else(|| missing("a=setup"))? {
        // RFC 8842 §5.3: as the server we choose the SRTP profile.
        Setup::ActPass | Setup::Active => DtlsRole::Server,
        Setup::Passive => DtlsRole::Client,
    };
    Ok((DtlsFacts { we_are, remote_fingerprints }, ice))
}
