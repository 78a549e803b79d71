// SPDX-License-Identifier: Apache-2.0
//! WHIP (RFC 9725), WHEP, the WebSocket of participants and the REST surface: HTTP in, [`Request`]s out, answers, events
//! and problems back.
//!
//! It must never decide anything about rooms, parse SDP, block, or log what a peer sent. Requests go to the session
//! core over a bounded queue; a full queue is an answer (503, `server_full`), not a wait.
#![forbid(unsafe_code)]

mod access;
mod admission;
mod code;
mod event;
mod message;
mod outbox;
mod page;
mod problem;
#[cfg(test)]
mod protocol_page;
mod request;
mod router;
mod socket;
mod token;

pub use access::{Access, Rights};
pub use admission::{AddressLimits, prefix_of};
pub use code::{CloseCode, ErrorCode, Refused};
pub use event::{
    Encoded, Joined, Kind, LeftReason, LimitsView, OwnTrack, ParticipantState, ParticipantView, RefusedSlot,
    RejectedSection, ServerMessage, SlotState, SlotView, TrackView, TransportHeld, TransportState,
};
pub use message::{Offer, ResumeToken, SendingSection, SlotWish, Source};
pub use outbox::{ConnectionId, Inbox, Outbox, TooSlow};
pub use problem::{Problem, ProblemKind};
pub use request::{Accepted, Ask, Client, Entry, Refusal, Request, ResourceId, SdpText};
pub use router::{Signaling, router};
pub use socket::{MAX_MESSAGE_LEN, OpenSockets, Sockets};
pub use token::{Claims, Grant, TokenError, TokenKey};
