// SPDX-License-Identifier: Apache-2.0
//! What the server sends to a participant's client (docs/PROTOCOL.md): replies, which have the request's id, and events.

use axum::extract::ws::Utf8Bytes;
use controlplane_room::TrackId;
use serde::{Serialize, Serializer};

use crate::code::{ErrorCode, Refused};
use crate::message::Source;

/// How far somebody's media is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParticipantState {
    /// The transport is validated.
    Live,
    /// No transport yet.
    Joining,
    /// No consent, or the WebSocket is away.
    Lost,
}

/// Audio or video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Audio.
    Audio,
    /// Video.
    Video,
}

/// A published track, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackView {
    /// Its id.
    #[serde(serialize_with = "hex")]
    pub id: TrackId,
    /// Audio or video.
    pub kind: Kind,
    /// What it shows.
    pub source: Source,
    /// Whether its sender says that it is muted.
    pub muted: bool,
}

/// A participant, as others see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ParticipantView {
    /// Its id.
    pub id: String,
    /// Its name on screen.
    pub name: String,
    /// How far it is.
    pub state: ParticipantState,
    /// What it publishes.
    pub tracks: Vec<TrackView>,
}

/// What one's own section publishes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OwnTrack {
    /// The section.
    pub mid: String,
    /// The track's id.
    #[serde(serialize_with = "hex")]
    pub track: TrackId,
}

/// A slot of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotView {
    /// The section.
    pub mid: String,
    /// Audio or video.
    pub kind: Kind,
}

/// What a slot shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SlotState {
    /// The section.
    pub mid: String,
    /// The track, or `null`.
    #[serde(serialize_with = "optional_hex")]
    pub track: Option<TrackId>,
}

/// A section that was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RejectedSection {
    /// The section; empty if it has no mid.
    pub mid: String,
    /// Why, for a person.
    pub reason: String,
}

/// A slot that does not show what was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedSlot {
    /// The section.
    pub mid: String,
    /// Why.
    pub code: ErrorCode,
    /// Why, for a person.
    pub message: String,
}

/// Bounds that a client should know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LimitsView {
    /// Longest message.
    pub message_bytes: usize,
    /// Slots of one kind.
    pub slots_per_kind: usize,
    /// Tracks of one participant.
    pub tracks: usize,
    /// Longest display name.
    pub name_bytes: usize,
}

/// Whether a resumed PeerConnection may stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportHeld {
    /// It may.
    Kept,
    /// There is none: offer with `restart`.
    None,
}

/// `joined`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Joined {
    /// The request's id.
    pub id: u64,
    /// The room.
    pub room: String,
    /// One's own id.
    #[serde(rename = "self")]
    pub own: String,
    /// What resumes this participant, in hex.
    pub resume: String,
    /// How long, in seconds.
    pub resume_ttl_s: u64,
    /// Whether this is a resumed participant.
    pub resumed: bool,
    /// Whether its PeerConnection may stay.
    pub transport: TransportHeld,
    /// What its slots show, when its PeerConnection may stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slots: Option<Vec<SlotState>>,
    /// What it publishes, when its PeerConnection may stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracks: Option<Vec<OwnTrack>>,
    /// Everybody else.
    pub participants: Vec<ParticipantView>,
    /// Bounds.
    pub limits: LimitsView,
    /// Program and version.
    pub server: String,
}

/// State of one's own transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportState {
    /// Keys are installed.
    Secured,
    /// No consent for 30 s.
    Lost,
    /// Consent is back.
    Back,
    /// It can never carry media; offer with `restart`.
    Failed,
}

/// Why a participant is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// By its own request.
    Left,
    /// It did not come back in time.
    Lost,
    /// Another took its place.
    Replaced,
    /// The server removed it.
    Removed,
}

/// Everything that the server sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "docs/PROTOCOL.md documents each; the names are its names")]
pub enum ServerMessage {
    Joined(Box<Joined>),
    Answer {
        id: u64,
        sdp: String,
        tracks: Vec<OwnTrack>,
        slots: Vec<SlotView>,
        rejected: Vec<RejectedSection>,
    },
    Subscribed {
        id: u64,
        slots: Vec<SlotState>,
        #[serde(skip_serializing_if = "Vec::is_empty")]
        refused: Vec<RefusedSlot>,
    },
    Ok {
        id: u64,
    },
    Left {
        id: u64,
    },
    Pong {
        id: u64,
    },
    Error {
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<u64>,
        code: ErrorCode,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<String>,
    },
    ParticipantJoined {
        participant: ParticipantView,
    },
    ParticipantLeft {
        participant: String,
        reason: LeftReason,
    },
    ParticipantState {
        participant: String,
        state: ParticipantState,
    },
    TrackPublished {
        participant: String,
        track: TrackView,
    },
    TrackUnpublished {
        participant: String,
        #[serde(serialize_with = "hex")]
        track: TrackId,
    },
    TrackMuted {
        participant: String,
        #[serde(serialize_with = "hex")]
        track: TrackId,
        muted: bool,
    },
    Transport {
        state: TransportState,
        #[serde(skip_serializing_if = "Option::is_none")]
        message: Option<String>,
    },
    Closing {
        reason: &'static str,
        retry_after_s: u32,
    },
}

impl ServerMessage {
    /// The error reply to `id`.
    #[must_use]
    pub fn error(id: Option<u64>, refused: Refused) -> Self {
        let Refused { code, message, field } = refused;
        Self::Error { id, code, message, field }
    }

    /// The text on the wire; made once, however many it goes to.
    #[must_use]
    pub fn encode(&self) -> Encoded {
        // Nothing in it can fail to be written: no map keys, no foreign serializers.
        Encoded(serde_json::to_string(self).unwrap_or_default().into())
    }
}

/// A message ready to be sent. Copies share the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded(pub(crate) Utf8Bytes);

impl Encoded {
    /// The JSON.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

fn hex<S: Serializer>(track: &TrackId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{:032x}", u128::from_be_bytes(track.0)))
}

fn optional_hex<S: Serializer>(track: &Option<TrackId>, serializer: S) -> Result<S::Ok, S::Error> {
    match track {
        Some(track) => hex(track, serializer),
        None => serializer.serialize_none(),
    }
}
