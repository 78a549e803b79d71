// SPDX-License-Identifier: Apache-2.0
//! Conference state without input or output: rooms, participants, tracks and subscriptions.
//!
//! [`Conference`] takes `(now, input)` and returns the [`Command`]s that make the data plane agree and the
//! [`Event`]s that people may want to read. It owns every deadline of a transport that is not a protocol's own.
//!
//! It must never read a clock, draw a random number, speak SDP or touch a table: time, identifiers and negotiated
//! parameters are arguments. Every collection is ordered, so equal inputs give equal outputs.
#![forbid(unsafe_code)]

mod command;
mod conference;
mod error;
mod name;

pub use command::{
    Codec, CodecMap, Command, Direction, Encoding, Extension, Extensions, IceCredentials, MediaKind, RoomKey,
    SubscriptionId, SubscriptionSpec, TrackId, TrackSpec, TransportId, TransportSpec,
};
pub use conference::{
    Conference, Event, EventKind, Input, LeaveReason, Limits, Outcome, Publication, Publish, PublisherSummary,
    RoomSummary, Watch,
};
pub use error::RoomError;
pub use name::{DisplayName, NameError, ParticipantId, RoomName};
