// SPDX-License-Identifier: Apache-2.0
//! Why the conference refused an input.

use crate::{ParticipantId, RoomName, TransportId};

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
    /// The room holds as many publishers as it may.
    #[error("room {room} has {limit} publishers, as many as it may")]
    TooManyPublishers {
        /// The room.
        room: RoomName,
        /// [`crate::Limits::publishers_per_room`].
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
    /// A publisher brought more tracks than one may.
    #[error("a participant publishes at most {limit} tracks")]
    TooManyTracks {
        /// [`crate::Limits::tracks_per_publisher`].
        limit: usize,
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
    /// A subscription names a track that its publisher does not have.
    #[error("a subscription names a track that is not the publisher's")]
    ForeignTrack,
}
