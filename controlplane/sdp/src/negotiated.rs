// SPDX-License-Identifier: Apache-2.0
//! What one offer and answer of a participant leave behind for the next (RFC 3264 §8): which m-line is what, and whose
//! transport it is. It must never let a later offer change the transport, nor give a section another meaning.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::answer::{DtlsFacts, DtlsRole};
use crate::error::{Place, SdpError, SdpErrorKind};
use crate::ids::{Mid, Ssrc};
use crate::offer::{IceParams, MediaKind, Offer, OfferedMedia, Setup};
use crate::participant::{ParticipantError, Slot};
use crate::publisher::PublishedTrack;

/// What a slot is called on the wire for as long as its transport lives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotIdentity {
    /// SSRC of what is shown in it.
    pub ssrc: Ssrc,
    /// SSRC of retransmissions, used if the client takes them.
    pub rtx_ssrc: Ssrc,
    /// CNAME of both in the answer; token characters, at most 64.
    pub cname: String,
}

/// What an m-line of a participant is used for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SectionUse {
    /// The participant sends a track in it.
    Track(PublishedTrack),
    /// We send in it.
    Slot(Slot),
    /// Nothing flows; it may be used again.
    Idle,
    /// Rejected, or switched off by the client; another section may take the m-line over (RFC 8829 §5.2.2).
    Gone,
}

/// One m-line after an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NegotiatedSection {
    /// Its mid, if it has one.
    pub mid: Option<Mid>,
    /// What it is for.
    pub kind: MediaKind,
    /// What it is used for.
    pub used_as: SectionUse,
    /// What it is called as a slot, if it ever was one.
    pub identity: Option<SlotIdentity>,
    /// True if the participant ever sent in it.
    pub has_sent: bool,
}

/// What the answer to a further offer must know of those before. It holds the client's ICE password: wherever it is
/// written, only the server may read it; `Debug` leaves the password out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiated {
    /// Number of the session in `o=`.
    pub session_id: u64,
    /// Version in `o=` of the last answer.
    pub session_version: u64,
    /// Credentials of the client.
    pub ice: IceParams,
    /// What was agreed about DTLS.
    pub dtls: DtlsFacts,
    /// The m-lines, in the offer's order.
    pub sections: Vec<NegotiatedSection>,
}

impl Negotiated {
    /// The section with this mid that is not gone.
    pub fn section(&self, mid: &Mid) -> Option<&NegotiatedSection> {
        let found = self.sections.iter().find(|section| section.mid.as_ref() == Some(mid));
        found.filter(|section| section.used_as != SectionUse::Gone)
    }

    /// RFC 3264 §8: m-lines stay where they are and what they are, new ones come behind them.
    pub(crate) fn check_continuity(&self, offer: &Offer) -> Result<(), SdpError> {
        if offer.media.len() < self.sections.len() {
            let detail = format!("{} m-lines, the offer before had {}", offer.media.len(), self.sections.len());
            return Err(SdpError::new(SdpErrorKind::Conflict, "m=", Place::Session).with_detail(detail));
        }
        for (media, before) in offer.media.iter().zip(&self.sections) {
            let may_differ = before.used_as == SectionUse::Gone || media.is_disabled();
            if !may_differ && (media.mid != before.mid || media.kind != before.kind) {
                let name = before.mid.as_ref().map_or("-", Mid::as_str);
                let detail = format!("mid {name} was in this m-line in the offer before");
                return Err(SdpError::new(SdpErrorKind::Conflict, "a=mid", media.place()).with_detail(detail));
            }
        }
        Ok(())
    }

    /// The transport stays as it was agreed, or another one is needed.
    pub(crate) fn check_transport(&self, media: &OfferedMedia, now: &DtlsFacts) -> Result<(), ParticipantError> {
        if media.transport.ice.as_ref() != Some(&self.ice) {
            return Err(ParticipantError::RestartNeeded("the ICE credentials are other ones"));
        }
        let (old, new) = (&self.dtls.remote_fingerprints, &now.remote_fingerprints);
        if old.len() != new.len() || !new.iter().all(|fingerprint| old.contains(fingerprint)) {
            return Err(ParticipantError::RestartNeeded("the certificate is another one"));
        }
        // RFC 8842 §5.2: an offer of the same association may leave the role open, which then stays.
        let stays = match media.transport.setup {
            Some(Setup::Active) => self.dtls.we_are == DtlsRole::Server,
            Some(Setup::Passive) => self.dtls.we_are == DtlsRole::Client,
            Some(Setup::ActPass) | None => true,
        };
        if stays { Ok(()) } else { Err(ParticipantError::RestartNeeded("the DTLS role is another one")) }
    }
}

impl fmt::Display for ParticipantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offer(error) => error.fmt(f),
            Self::RestartNeeded(why) => write!(f, "{why}: the offer needs `restart`"),
            Self::TooManySlots { kind, limit } => write!(f, "more than {limit} {} slots", kind.name()),
            Self::TooManyTracks { kind, limit } => write!(f, "more than {limit} {} tracks", kind.name()),
        }
    }
}

impl std::error::Error for ParticipantError {}

impl From<SdpError> for ParticipantError {
    fn from(error: SdpError) -> Self {
        Self::Offer(error)
    }
}
