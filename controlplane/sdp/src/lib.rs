// SPDX-License-Identifier: Apache-2.0
//! Offers in, answers out: SDP as WebRTC speaks it (RFC 8829 JSEP, RFC 9143 BUNDLE).
//!
//! ```text
//!  text ── Offer::parse ──► Offer ──┬── answer_publisher   ──► PublisherAnswer   { sdp, facts for the tables }
//!                                   ├── answer_viewer      ──► ViewerAnswer      { sdp, facts for the tables }
//!                                   └── answer_participant ──► ParticipantAnswer { sdp, facts, Negotiated }
//!                                             ▲                                              │ for the next offer
//!                                             └──────────────────────────────────────────────┘
//! ```
//!
//! The browser always offers and the server always answers, over one bundled transport, as an ICE-lite agent.
//! Lines are split and joined by `sdp-types`; their meaning is this crate's.
//!
//! It must never touch a socket, a clock or a random source, never keep state between calls, and never accept more
//! text, lines or list items than the limits in [`limits`] say: an offer is the first thing that a stranger sends.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod answer;
mod attribute;
mod codec;
mod compose;
mod error;
mod extension;
mod h264;
mod ids;
pub mod limits;
mod negotiated;
mod offer;
mod parse;
mod participant;
mod policy;
mod publisher;
mod server;
mod viewer;

pub use answer::{DtlsFacts, DtlsRole, Rejected};
pub use codec::{Codec, CodecKind, Feedback, Fmtp};
pub use error::{Place, SdpError, SdpErrorKind};
pub use extension::{ExtKind, ExtMap, Extension};
pub use h264::{H264Format, H264Profile};
pub use ids::{Mid, Pt, Rid, Ssrc};
pub use negotiated::{Negotiated, NegotiatedSection, SectionUse, SlotIdentity};
pub use offer::{
    Direction, Fingerprint, HashAlgorithm, IceParams, MediaKind, Msid, Offer, OfferedCandidate, OfferedEncoding,
    OfferedMedia, OfferedRid, Setup, SsrcInfo, Transport,
};
pub use participant::{NewSlot, ParticipantAnswer, ParticipantError, Slot, SlotCodec, Standing, answer_participant};
pub use policy::{ExtensionPolicy, FeedbackPolicy, Policy};
pub use publisher::{PublishedTrack, PublisherAnswer, answer_publisher};
pub use server::{Candidate, ServerParams};
pub use viewer::{SendTrack, Unmatched, ViewerAnswer, ViewerLeg, answer_viewer};
