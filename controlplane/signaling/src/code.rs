// SPDX-License-Identifier: Apache-2.0
//! The words for what went wrong: error codes of requests, close codes of connections (docs/PROTOCOL.md).
//!
//! A message is written by this server; it never repeats a token, SDP, or what a client sent.

use serde::Serialize;

use crate::problem::{Problem, ProblemKind};

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// Not JSON, not an object, or a member that is of the wrong type or out of bounds.
    BadMessage,
    /// There is no such request.
    UnknownType,
    /// Only after `join`.
    NotJoined,
    /// Once per connection.
    AlreadyJoined,
    /// The room's name is not in the form of one.
    BadRoom,
    /// The display name is not in the form of one.
    BadName,
    /// A token is missing or not valid.
    Unauthorized,
    /// The token is not for this.
    Forbidden,
    /// The room has as many participants as it may.
    RoomFull,
    /// A table is full, or the server stops.
    ServerFull,
    /// SDP that cannot be read or served.
    BadOffer,
    /// The offer belongs to another PeerConnection than the transport.
    RestartNeeded,
    /// No such slot or section.
    UnknownMid,
    /// Not a track of another participant of the room.
    UnknownTrack,
    /// The slot cannot show the track.
    NotCompatible,
    /// More slots than `limits` allows.
    TooManySlots,
    /// More tracks than `limits` allows.
    TooManyTracks,
    /// The resume token is unknown, spent or out of time.
    ResumeUnknown,
    /// Too many joins from one address.
    RateLimited,
}

/// Why the server closes a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CloseCode {
    /// The participant left.
    Left,
    /// A binary message.
    Binary,
    /// A message that is too long.
    TooLong,
    /// The server stops.
    Restarting,
    /// Another connection resumed this participant.
    Replaced,
    /// No join in time.
    NoJoin,
    /// What was sent was not read.
    TooSlow,
    /// Removed from the room.
    Removed,
    /// Too many messages.
    TooFast,
}

impl CloseCode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> u16 {
        match self {
            Self::Left => 1000,
            Self::Binary => 1003,
            Self::TooLong => 1009,
            Self::Restarting => 1012,
            Self::Replaced => 4000,
            Self::NoJoin => 4001,
            Self::TooSlow => 4002,
            Self::Removed => 4003,
            Self::TooFast => 4008,
        }
    }

    /// The reason beside it, for a person.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Binary => "messages are text",
            Self::TooLong => "a message is too long",
            Self::Restarting => "the server restarts",
            Self::Replaced => "another connection resumed this participant",
            Self::NoJoin => "no join in time",
            Self::TooSlow => "messages were not read",
            Self::Removed => "removed from the room",
            Self::TooFast => "too many messages",
        }
    }
}

/// A refused request: code, text for a person, and the member at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Which.
    pub code: ErrorCode,
    /// What exactly.
    pub message: String,
    /// The member at fault, as `slots[0].mid`.
    pub field: Option<String>,
}

impl Refused {
    /// A refusal that is no member's fault.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), field: None }
    }

    /// The same refusal, naming the member at fault.
    #[must_use]
    pub fn at(mut self, field: impl Into<String>) -> Self {
        self.field = Some(field.into());
        self
    }
}

impl From<Problem> for Refused {
    /// What HTTP calls a problem, in the words of the WebSocket.
    fn from(problem: Problem) -> Self {
        let (code, field) = match problem.kind {
            ProblemKind::BadParameter | ProblemKind::NotFound | ProblemKind::MethodNotAllowed => {
                (ErrorCode::BadMessage, problem.field.as_deref())
            }
            ProblemKind::BadOffer
            | ProblemKind::UnsupportedOffer
            | ProblemKind::TooLarge
            | ProblemKind::UnsupportedMediaType => (ErrorCode::BadOffer, Some("sdp")),
            ProblemKind::Unauthorized => (ErrorCode::Unauthorized, Some("token")),
            ProblemKind::Forbidden => (ErrorCode::Forbidden, Some("token")),
            ProblemKind::NotPublished => (ErrorCode::UnknownTrack, None),
            ProblemKind::TooManyPending => (ErrorCode::RateLimited, None),
            ProblemKind::ResourceUnknown => (ErrorCode::ResumeUnknown, Some("resume")),
            ProblemKind::NameTaken => (ErrorCode::BadName, Some("name")),
            ProblemKind::Timeout | ProblemKind::Busy | ProblemKind::Full | ProblemKind::Stopping => {
                (ErrorCode::ServerFull, None)
            }
        };
        Self { code, field: field.map(str::to_owned), message: problem.detail }
    }
}
