// SPDX-License-Identifier: Apache-2.0
//! RTP header extensions by name (RFC 8285, rule G9). An extension that is not listed here is never negotiated.

use crate::offer::Direction;
use serde::{Deserialize, Serialize};

/// A header extension that the forwarding path knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ExtKind {
    /// `sdes:mid` (RFC 9143 §15).
    Mid,
    /// `sdes:rtp-stream-id` (RFC 8852 §4.1).
    Rid,
    /// `sdes:repaired-rtp-stream-id` (RFC 8852 §4.2).
    RepairedRid,
    /// `ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `csrc-audio-level` (RFC 6465).
    CsrcAudioLevel,
    /// `abs-send-time`.
    AbsSendTime,
    /// `abs-capture-time`.
    AbsCaptureTime,
    /// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportCc,
    /// `toffset` (RFC 5450).
    TransmissionOffset,
    /// `urn:3gpp:video-orientation` (3GPP TS 26.114).
    VideoOrientation,
    /// `playout-delay`.
    PlayoutDelay,
    /// `video-content-type`.
    VideoContentType,
    /// `video-timing`.
    VideoTiming,
    /// `color-space`.
    ColorSpace,
    /// AV1 dependency descriptor, of any codec.
    DependencyDescriptor,
    /// `video-layers-allocation00`.
    VideoLayersAllocation,
    /// `generic-frame-descriptor-00`.
    GenericFrameDescriptor,
    /// Frame marking (RFC 9626).
    FrameMarking,
}

/// Every kind with the URI that names it in `a=extmap`.
const URI_BY_KIND: [(ExtKind, &str); 18] = [
    (ExtKind::Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (ExtKind::Rid, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    (ExtKind::RepairedRid, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
    (ExtKind::AudioLevel, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (ExtKind::CsrcAudioLevel, "urn:ietf:params:rtp-hdrext:csrc-audio-level"),
    (ExtKind::AbsSendTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (ExtKind::AbsCaptureTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (ExtKind::TransportCc, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    (ExtKind::TransmissionOffset, "urn:ietf:params:rtp-hdrext:toffset"),
    (ExtKind::VideoOrientation, "urn:3gpp:video-orientation"),
    (ExtKind::PlayoutDelay, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (ExtKind::VideoContentType, "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type"),
    (ExtKind::VideoTiming, "http://www.webrtc.org/experiments/rtp-hdrext/video-timing"),
    (ExtKind::ColorSpace, "http://www.webrtc.org/experiments/rtp-hdrext/color-space"),
    (
        ExtKind::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
    (ExtKind::VideoLayersAllocation, "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00"),
    (ExtKind::GenericFrameDescriptor, "http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-00"),
    (ExtKind::FrameMarking, "urn:ietf:params:rtp-hdrext:framemarking"),
];

impl ExtKind {
    /// The kind that `uri` names, if it is one of ours.
    pub fn from_uri(uri: &str) -> Option<Self> {
        URI_BY_KIND.iter().find(|(_, known)| *known == uri).map(|(kind, _)| *kind)
    }

    /// The URI that names the kind in `a=extmap`.
    pub fn uri(self) -> &'static str {
        URI_BY_KIND.iter().find(|(kind, _)| *kind == self).map_or("", |(_, uri)| *uri)
    }
}

/// One `a=extmap` of an offer (RFC 8285 §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtMap {
    /// Identifier, 1..=255 or 4096..=4351 for one that the offerer leaves to the answerer.
    pub id: u16,
    /// Direction as the offerer sees it.
    pub direction: Direction,
    /// True if the direction is written in the line, so that the answer writes one too.
    pub has_direction: bool,
    /// Name of the extension.
    pub uri: String,
    /// The kind that the URI names, `None` if it is not known here.
    pub kind: Option<ExtKind>,
    /// What follows the URI, such as `vad=off`; empty in nearly every offer.
    pub attributes: String,
}

/// A negotiated header extension: what packets of the m-line carry under which identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extension {
    /// Identifier on the wire, 1..=255; beyond 14 only the two-byte form carries it (RFC 8285 §4.3).
    pub id: u8,
    /// What it carries.
    pub kind: ExtKind,
}
