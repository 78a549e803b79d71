// SPDX-License-Identifier: Apache-2.0
//! An offer with its meaning: what a client says that it has, wants and is. Whether that is acceptable is decided by
//! the answers; here only grammar and bounds are. It must never print an ICE password.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;

use crate::codec::Codec;
use crate::error::{Place, SdpError};
use crate::extension::ExtMap;
use crate::ids::{Mid, Rid, Ssrc};

/// What an m-line is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum MediaKind {
    /// `m=audio`.
    Audio,
    /// `m=video`.
    Video,
    /// `m=application`: data channels.
    Application,
    /// Anything else.
    Other,
}

/// Direction as the offerer sees it (RFC 3264 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sends and receives; what holds when nothing is written.
    SendRecv,
    /// Sends.
    SendOnly,
    /// Receives.
    RecvOnly,
    /// Neither.
    Inactive,
}

/// Who opens the DTLS association (RFC 4145 §4, RFC 8842 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Setup {
    /// The offerer is ready for both.
    ActPass,
    /// The offerer is the DTLS client.
    Active,
    /// The offerer is the DTLS server.
    Passive,
}

/// Hash of a certificate fingerprint that is good enough, weakest first (RFC 8122 §5; MD5 and SHA-1 are not).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HashAlgorithm {
    /// SHA-256, 32 bytes.
    Sha256,
    /// SHA-384, 48 bytes.
    Sha384,
    /// SHA-512, 64 bytes.
    Sha512,
}

/// Hash of a DTLS certificate (`a=fingerprint`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Hash function.
    pub algorithm: HashAlgorithm,
    /// The hash of the DER, as long as the function makes it.
    pub bytes: Vec<u8>,
}

/// ICE credentials of the client. `Debug` leaves the password out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceParams {
    /// Username fragment.
    pub ufrag: String,
    /// Password, 22 to 256 characters.
    pub pwd: String,
}

/// A candidate of the client. An ICE-lite server needs none of them; they are for logs and tests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedCandidate {
    /// Foundation.
    pub foundation: String,
    /// Component: 1 is RTP (and RTCP with it).
    pub component: u16,
    /// Transport in lower case: `udp` or `tcp`.
    pub transport: String,
    /// Priority.
    pub priority: u32,
    /// Address, `None` for an mDNS name (`….local`).
    pub ip: Option<IpAddr>,
    /// Port.
    pub port: u16,
    /// `host`, `srflx`, `prflx` or `relay`.
    pub kind: String,
}

/// Ids of the MediaStream and its track (RFC 8830).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Msid {
    /// MediaStream id, `-` for none.
    pub stream: String,
    /// Track id, empty where the offer gives only a stream.
    pub track: String,
}

/// All `a=ssrc` lines of one SSRC (RFC 5576).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SsrcInfo {
    /// The SSRC.
    pub ssrc: Ssrc,
    /// Its `cname`.
    pub cname: Option<String>,
    /// Its `msid`, of clients that do not write `a=msid`.
    pub msid: Option<Msid>,
}

/// One stream of `a=simulcast:send` (RFC 8853 §5.1): the first of its alternatives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedEncoding {
    /// Its name.
    pub rid: Rid,
    /// True if it starts paused (`~`).
    pub is_paused: bool,
}

/// One `a=rid` (RFC 8851 §10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedRid {
    /// Its name.
    pub rid: Rid,
    /// True for `send`, false for `recv`.
    pub is_send: bool,
    /// Payload types that it is limited to (`pt=`), empty for all.
    pub pts: Vec<crate::ids::Pt>,
    /// Restrictions without `pt=`, as written; empty for none.
    pub restrictions: String,
}

/// What the ICE and DTLS lines that hold for an m-line say, its own or those of the session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Transport {
    /// `a=ice-ufrag` and `a=ice-pwd`.
    pub ice: Option<IceParams>,
    /// Words of `a=ice-options`.
    pub ice_options: Vec<String>,
    /// The acceptable fingerprints.
    pub fingerprints: Vec<Fingerprint>,
    /// True if there are fingerprints but all of them are of functions too weak to accept.
    pub has_only_weak_fingerprints: bool,
    /// `a=setup`.
    pub setup: Option<Setup>,
}

/// One m-line of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferedMedia {
    /// Position in the offer, the first is 0.
    pub index: usize,
    /// `a=mid`.
    pub mid: Option<Mid>,
    /// What it is for.
    pub kind: MediaKind,
    /// The word after `m=`, as written.
    pub kind_name: String,
    /// Port; 0 without `a=bundle-only` is an m-line that the offerer has switched off (RFC 9143 §6).
    pub port: u16,
    /// `a=bundle-only`.
    pub is_bundle_only: bool,
    /// Transport, such as `UDP/TLS/RTP/SAVPF`.
    pub proto: String,
    /// The formats of the m-line as written, for a rejection that echoes them.
    pub formats: String,
    /// Direction, as the offerer sees it.
    pub direction: Direction,
    /// ICE and DTLS lines that hold here.
    pub transport: Transport,
    /// `a=rtcp-mux` or `a=rtcp-mux-only`.
    pub rtcp_mux: bool,
    /// `a=rtcp-rsize`.
    pub rtcp_rsize: bool,
    /// `a=extmap-allow-mixed`, here or in the session.
    pub extmap_allow_mixed: bool,
    /// Formats of an RTP m-line in the offer's order; empty for others.
    pub codecs: Vec<Codec>,
    /// Header extensions, those of the session included.
    pub extmaps: Vec<ExtMap>,
    /// SSRCs in order of appearance.
    pub ssrcs: Vec<SsrcInfo>,
    /// `a=ssrc-group:FID`: a stream and its retransmissions.
    pub fid_groups: Vec<(Ssrc, Ssrc)>,
    /// SSRCs that only repair others (FID and FEC-FR), never media of their own.
    pub repair_ssrcs: Vec<Ssrc>,
    /// `a=rid` lines.
    pub rids: Vec<OfferedRid>,
    /// `a=simulcast:send`, in the order of the offer; empty without simulcast.
    pub simulcast_send: Vec<OfferedEncoding>,
    /// `a=msid`, the first one.
    pub msid: Option<Msid>,
    /// Candidates of the client.
    pub candidates: Vec<OfferedCandidate>,
}

/// An offer (RFC 8829 §5.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// `a=group:BUNDLE` in its order, the first group; empty without one.
    pub bundle: Vec<Mid>,
    /// `a=ice-lite`: the offerer does no checks.
    pub is_ice_lite: bool,
    /// `a=extmap-allow-mixed` at the session.
    pub extmap_allow_mixed: bool,
    /// m-lines in the offer's order.
    pub media: Vec<OfferedMedia>,
}

impl MediaKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Application => "application",
            Self::Other => "other",
        }
    }
}

impl OfferedMedia {
    /// The m-line as errors name it.
    pub fn place(&self) -> Place {
        Place::Media { index: self.index + 1, mid: self.mid.clone() }
    }

    /// True if the offerer has switched the m-line off (port 0 and not `bundle-only`).
    pub fn is_disabled(&self) -> bool {
        self.port == 0 && !self.is_bundle_only
    }
}

impl HashAlgorithm {
    /// The function's name in `a=fingerprint`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of the hash in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

impl fmt::Debug for IceParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceParams").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

impl Offer {
    /// Reads an offer of at most 64 KiB and 64 m-lines; lines end in CRLF or LF.
    ///
    /// # Errors
    /// The first line or field that breaks its grammar, a bound of [`crate::limits`], or uniqueness.
    pub fn parse(text: &str) -> Result<Self, SdpError> {
        crate::parse::parse_offer(text)
    }
}
