// SPDX-License-Identifier: Apache-2.0
//! What one server holds at most, and how long it waits.

use std::time::Duration;

/// What one server holds at most, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rooms.
    pub rooms: usize,
    /// Participants in one room, WHIP publishers among them.
    pub participants_per_room: usize,
    /// Viewers' (WHEP) transports in one room.
    pub viewers_per_room: usize,
    /// Tracks of one participant.
    pub tracks_per_participant: usize,
    /// Slots of one participant for audio, and as many for video.
    pub slots_per_kind: usize,
    /// How long a transport may stay without its first valid check.
    pub validation_timeout: Duration,
    /// How long a transport stays after its consent (RFC 7675) has run out.
    pub lost_timeout: Duration,
    /// How long a WebSocket may be away before the room is told.
    pub away_grace: Duration,
    /// How long a participant stays after its WebSocket has gone.
    pub resume_ttl: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rooms: 1000,
            participants_per_room: 100,
            viewers_per_room: 1000,
            tracks_per_participant: 8,
            slots_per_kind: 49,
            validation_timeout: Duration::from_secs(30),
            lost_timeout: Duration::from_secs(60),
            away_grace: Duration::from_secs(5),
            resume_ttl: Duration::from_secs(60),
        }
    }
}
