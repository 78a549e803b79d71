// SPDX-License-Identifier: Apache-2.0
//! The answer to a publisher (WHIP, RFC 9725).
use std::fmt;

use crate::answer::{DtlsFacts, Rejected};
use crate::codec::{CodecKind, Feedback, Fmtp};
use crate::error::SdpError;
use crate::extension::Extension;
use crate::ids::{Mid, Pt, Rid, Ssrc};
use crate::offer::{IceParams, MediaKind, Msid, Offer};
use crate::policy::Policy;
use crate::server::ServerParams;

/// A track that a publisher sends.
#[derive(Debug, Clone, PartialEq, Eq)]
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
    let _ = (offer, server, policy);
    Err(SdpError::new(crate::error::SdpErrorKind::NothingAccepted, "m=", crate::error::Place::Session))
}
