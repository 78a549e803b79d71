// SPDX-License-Identifier: Apache-2.0
//! What participants are told, one for one the events of `docs/PROTOCOL.md`.
//!
//! Whoever has a [`Snapshot`] and every [`Notice`] after it knows the room: nothing is told that a snapshot would not show,
//! and nothing changes in a snapshot that is not told.

use serde::{Deserialize, Serialize};

use crate::{DisplayName, MediaKind, ParticipantId, RoomName, TrackId};

/// A participant of a room, by both names: what a connection stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    /// The room.
    pub room: RoomName,
    /// The participant.
    pub participant: ParticipantId,
}

/// What a track shows or lets hear.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Source {
    /// A camera.
    Camera,
    /// A microphone.
    Microphone,
    /// A shared screen or window.
    Screen,
    /// The sound of a shared screen.
    ScreenAudio,
}

/// How far a participant is, as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ParticipantState {
    /// No transport yet, or one without its first valid check.
    Joining,
    /// Its transport is validated and has consent.
    Live,
    /// No consent, or its WebSocket has been away for [`crate::Limits::away_grace`].
    Lost,
}

/// A track as the room sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackView {
    /// Its id.
    pub id: TrackId,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it shows.
    pub source: Source,
    /// Whether its publisher said that it is silent or dark.
    pub muted: bool,
}

/// A participant as the room sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantView {
    /// Its id.
    pub id: ParticipantId,
    /// Its name on screen.
    pub name: DisplayName,
    /// How far it is.
    pub state: ParticipantState,
    /// What it publishes, in the order of publication.
    pub tracks: Vec<TrackView>,
}

/// A room as one participant finds it: everybody else, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The others.
    pub participants: Vec<ParticipantView>,
}

/// Why a participant is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Departure {
    /// It said so.
    Left,
    /// It did not come back in time.
    Lost,
    /// Another of its name took its place (WHIP only; a person whose name is taken gets a number).
    Replaced,
    /// A decision of the server.
    Removed,
}

/// What becomes of a participant's own transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportState {
    /// Keys are installed.
    Secured,
    /// No consent for 30 s; egress has stopped.
    Lost,
    /// Consent is back.
    Back,
    /// It is gone; a new offer with `restart` is needed.
    Failed {
        /// Why, for people.
        message: &'static str,
    },
}

/// Something that participants are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// `participant_joined`.
    ParticipantJoined {
        /// Who, with what it publishes already.
        participant: ParticipantView,
    },
    /// `participant_left`; its tracks are gone with it.
    ParticipantLeft {
        /// Who.
        participant: ParticipantId,
        /// Why.
        reason: Departure,
    },
    /// `participant_state`.
    ParticipantState {
        /// Who.
        participant: ParticipantId,
        /// Its state from here on.
        state: ParticipantState,
    },
    /// `track_published`.
    TrackPublished {
        /// Whose.
        participant: ParticipantId,
        /// What.
        track: TrackView,
    },
    /// `track_unpublished`; slots that showed it are empty.
    TrackUnpublished {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
    },
    /// `track_muted`.
    TrackMuted {
        /// Whose.
        participant: ParticipantId,
        /// Which.
        track: TrackId,
        /// Whether it is muted from here on.
        muted: bool,
    },
    /// `transport`, to its own participant only.
    Transport {
        /// Its state from here on.
        state: TransportState,
    },
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Everybody in the room but one: the one who did it, or whom it is about.
    Room {
        /// The room.
        room: RoomName,
        /// Who is left out.
        except: ParticipantId,
    },
    /// One participant.
    Participant(Member),
}
