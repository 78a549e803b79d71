// SPDX-License-Identifier: Apache-2.0
//! What the conference asks of the data plane: plain values, complete in themselves.
//!
//! A command names what should be; it knows no slot, worker, layer or cohort. Order matters: a transport is added
//! before its tracks and subscriptions, and removed after them.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::RoomName;

/// A transport: one peer connection of one participant. Never given twice, not even after a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TransportId(pub u64);

/// A room as the data plane knows it. Never given twice within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoomKey(pub u64);

/// A track's global id: 128 random bits (CONTRACTS 14).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TrackId(pub [u8; 16]);

/// A subscription. Never given twice within a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SubscriptionId(pub u64);

/// An ICE user name fragment and its password. It does not print, and is wiped when it goes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCredentials {
    /// The fragment, as in `a=ice-ufrag`.
    pub ufrag: String,
    /// The password, as in `a=ice-pwd`.
    pub pwd: String,
}

impl Drop for IceCredentials {
    fn drop(&mut self) {
        self.pwd.zeroize();
    }
}

impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IceCredentials(..)")
    }
}

/// Which way media goes on a transport, seen from the participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// The participant sends.
    Publisher,
    /// The participant receives.
    Viewer,
    /// The participant sends, and has slots to receive in.
    Both,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum MediaKind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// A codec that the data plane forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Codec {
    /// RFC 7587.
    Opus,
    /// RFC 7741.
    Vp8,
    /// RFC 9628.
    Vp9,
    /// RFC 6184.
    H264,
    /// AOM's RTP payload format for AV1.
    Av1,
}

/// A codec and the payload types that stand for it on one transport.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CodecMap {
    /// The codec.
    pub codec: Codec,
    /// The format parameters of the answer (`a=fmtp`): what tells two profiles of one codec apart; often empty.
    pub fmtp: String,
    /// The payload type of media.
    pub pt: u8,
    /// The payload type of its retransmissions (RFC 4588), if negotiated.
    pub rtx_pt: Option<u8>,
    /// The RTP clock, in Hz.
    pub clock_rate_hz: u32,
}

/// A header extension that is forwarded or acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Extension {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    Mid,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    RtpStreamId,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    RepairedRtpStreamId,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level` (RFC 6464).
    AudioLevel,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    AbsSendTime,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    TransportCc,
    /// AV1's dependency descriptor.
    DependencyDescriptor,
    /// `urn:3gpp:video-orientation`.
    VideoOrientation,
    /// `urn:ietf:params:rtp-hdrext:toffset` (RFC 5450).
    TransmissionOffset,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/playout-delay`.
    PlayoutDelay,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-content-type`.
    VideoContentType,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-timing`.
    VideoTiming,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/color-space`.
    ColorSpace,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time`.
    AbsCaptureTime,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00`.
    VideoLayersAllocation,
}

/// The header extension ids negotiated for one media section (RFC 8285).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extensions(pub Vec<(Extension, u8)>);

impl Extensions {
    /// The id that stands for `extension`, if it was negotiated.
    #[must_use]
    pub fn id(&self, extension: Extension) -> Option<u8> {
        self.0.iter().find(|(known, _)| *known == extension).map(|(_, id)| *id)
    }
}

/// One encoding of a published track: a rid (simulcast) or an SSRC that the offer declared, or neither when the
/// stream can only be told by its MID.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Encoding {
    /// The restriction identifier (RFC 8851), simulcast only. The order of encodings is the offer's.
    pub rid: Option<String>,
    /// The media SSRC, if the offer declared it.
    pub ssrc: Option<u32>,
    /// The SSRC of its retransmissions, if the offer declared it.
    pub rtx_ssrc: Option<u32>,
}

/// A transport to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportSpec {
    /// Its id.
    pub id: TransportId,
    /// Which way its media goes.
    pub direction: Direction,
    /// The credentials that checks towards us carry (ours, as in the answer).
    pub local: IceCredentials,
    /// The peer's credentials, as in its offer.
    pub remote: IceCredentials,
    /// What the participant is called in URLs; empty for a viewer. At most 64 bytes, for tools that show tables.
    pub participant: String,
    /// The SSRC of RTCP that speaks about no egress stream (RR, NACK, PLI); random, unique on this transport.
    pub rtcp_ssrc: u32,
    /// The CNAME of what we send on this transport (RFC 7022); random, says nothing about the person.
    pub cname: String,
    /// Whether transport-wide congestion control feedback was negotiated (to the publisher, from the viewer).
    pub transport_cc: bool,
    /// Whether the peer accepts reduced-size RTCP (RFC 5506).
    pub rtcp_rsize: bool,
}

/// A published track to be added.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackSpec {
    /// Its id.
    pub id: TrackId,
    /// The publisher's transport.
    pub transport: TransportId,
    /// The media section's identification tag (RFC 9143).
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// The codecs that the publisher may send, the preferred one first.
    pub codecs: Vec<CodecMap>,
    /// Its header extension ids.
    pub extensions: Extensions,
    /// Its encodings, in the offer's order; one unless simulcast was negotiated.
    pub encodings: Vec<Encoding>,
    /// Whether generic NACK may be sent to the publisher.
    pub nack: bool,
    /// Whether PLI may be sent to the publisher.
    pub pli: bool,
    /// Whether FIR may be sent to the publisher.
    pub fir: bool,
}

/// A subscription to be added: one egress stream (and its retransmissions) to a viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionSpec {
    /// The track that is received.
    pub track: TrackId,
    /// The viewer's transport.
    pub transport: TransportId,
    /// The viewer's media section (RFC 9143).
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// The SSRC that we send with; random, unique on this transport and never used on it again (CONTRACTS 3).
    pub ssrc: u32,
    /// The SSRC of retransmissions; `None` when the viewer negotiated no RTX.
    pub rtx_ssrc: Option<u32>,
    /// The codecs that the viewer takes, as payload types on its transport.
    pub codecs: Vec<CodecMap>,
    /// The viewer's header extension ids.
    pub extensions: Extensions,
    /// Whether the viewer sends generic NACK.
    pub nack: bool,
    /// Whether the viewer sends PLI.
    pub pli: bool,
    /// Highest encoding that it gets, counted from 0; `None`: any.
    pub max_encoding: Option<u8>,
}

/// What a subscription delivers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The track.
    pub track: TrackId,
    /// The track's codec as payload types on the receiver's transport.
    pub codec: CodecMap,
    /// Highest encoding that it gets, counted from 0; `None`: any.
    pub max_encoding: Option<u8>,
}

/// A change that the data plane is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// A transport comes; checks with its credentials are to be answered.
    AddTransport {
        /// The room that it belongs to.
        room: RoomKey,
        /// What the room is called, for tools that show tables.
        name: RoomName,
        /// What it is.
        spec: TransportSpec,
    },
    /// A transport goes; its tracks and subscriptions have gone before.
    RemoveTransport {
        /// The transport.
        transport: TransportId,
    },
    /// A track comes.
    AddTrack {
        /// The room that it belongs to.
        room: RoomKey,
        /// What it is.
        spec: TrackSpec,
    },
    /// A track goes; its subscriptions have gone before.
    RemoveTrack {
        /// The track.
        track: TrackId,
        /// The publisher's transport.
        transport: TransportId,
    },
    /// A viewer begins to receive a track.
    AddSubscription {
        /// The room that both belong to.
        room: RoomKey,
        /// The id of the subscription.
        id: SubscriptionId,
        /// What it is.
        spec: SubscriptionSpec,
    },
    /// A slot shows something else, or nothing. Subscription, SSRCs and mid stay; numbers go on (CONTRACTS 3).
    SetSubscription {
        /// The subscription that the slot is.
        id: SubscriptionId,
        /// The receiver's transport.
        transport: TransportId,
        /// What it shows from here on.
        shown: Option<Shown>,
    },
    /// A viewer ceases to receive a track, or the transport that a slot belongs to goes.
    RemoveSubscription {
        /// The subscription.
        id: SubscriptionId,
        /// The viewer's transport.
        transport: TransportId,
    },
}
