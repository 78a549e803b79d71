// SPDX-License-Identifier: Apache-2.0
//! Why the conference refused an input.

use crate::{MediaKind, ParticipantId, RoomName, TrackId, TransportId};

/// Why an input was refused. Nothing has changed when one of these is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// A live publisher of the room has this id already.
    #[error("participant {participant} is publishing in room {room} already")]
    NameTaken {
        /// The room.
        room: RoomName,
        /// The id that is taken.
        participant: ParticipantId,
    },
    /// Nobody of that id publishes in the room.
    #[error("participant {participant} has not published in room {room}; try again")]
    ParticipantNotPublished {
        /// The room.
        room: RoomName,
        /// The id that was asked for.
        participant: ParticipantId,
    },
    /// Nobody publishes in the room at all.
    #[error("nobody has published in room {room}; try again")]
    RoomNotPublished {
        /// The room.
        room: RoomName,
    },
    /// The server holds as many rooms as it may.
    #[error("the server holds {limit} rooms, as many as it may")]
    TooManyRooms {
        /// [`crate::Limits::rooms`].
        limit: usize,
    },
    /// The room holds as many participants as it may.
    #[error("room {room} has {limit} participants, as many as it may")]
    TooManyParticipants {
        /// The room.
        room: RoomName,
        /// [`crate::Limits::participants_per_room`].
        limit: usize,
    },
    /// The room holds as many viewers as it may.
    #[error("room {room} has {limit} viewers, as many as it may")]
    TooManyViewers {
        /// The room.
        room: RoomName,
        /// [`crate::Limits::viewers_per_room`].
        limit: usize,
    },
    /// A participant brought more tracks than one may.
    #[error("a participant publishes at most {limit} tracks")]
    TooManyTracks {
        /// [`crate::Limits::tracks_per_participant`].
        limit: usize,
    },
    /// A participant brought more slots of one kind than one may.
    #[error("a participant has at most {limit} {kind:?} slots")]
    TooManySlots {
        /// Of which kind.
        kind: MediaKind,
        /// [`crate::Limits::slots_per_kind`].
        limit: usize,
    },
    /// No participant has that id in that room (any more).
    #[error("participant {participant} is not in room {room}")]
    UnknownParticipant {
        /// The room.
        room: RoomName,
        /// The id.
        participant: ParticipantId,
    },
    /// The participant has no transport that could be changed: it has to offer with `restart`.
    #[error("there is no transport; offer with \"restart\": true")]
    NoTransport,
    /// The participant has no such slot.
    #[error("there is no slot with mid {mid}")]
    UnknownMid {
        /// The mid.
        mid: String,
    },
    /// The track is not (any more) in the room, or it is the participant's own where another's is needed, or another's where
    /// its own is needed.
    #[error("there is no such track to choose")]
    UnknownTrack {
        /// The track.
        track: TrackId,
    },
    /// The slot's codecs do not include the track's, or one is audio and the other video.
    #[error("slot {mid} does not take this track: {why}")]
    NotCompatible {
        /// The slot.
        mid: String,
        /// What differs.
        why: &'static str,
    },
    /// No transport has that id (it left, or its time ran out).
    #[error("transport {} is not there", transport.0)]
    UnknownTransport {
        /// The id.
        transport: TransportId,
    },
    /// The caller gave an id twice: a defect of the caller, refused instead of believed.
    #[error("transport {} is there already", transport.0)]
    TransportExists {
        /// The id.
        transport: TransportId,
    },
    /// A subscription names a track that its publisher does not have, or a track a transport that is not its own.
    #[error("a subscription names a track that is not the publisher's")]
    ForeignTrack,
    /// The caller gave a mid, an SSRC or a track id twice: a defect of the caller.
    #[error("a mid, an SSRC or a track id is given twice")]
    GivenTwice,
}
