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
mod compatible;
mod conference;
mod error;
mod input;
mod limits;
mod name;
mod notice;
mod record;
mod slot;

pub use command::{
    Codec, CodecMap, Command, Direction, Encoding, Extension, Extensions, IceCredentials, MediaKind, RoomKey, Shown,
    SubscriptionId, SubscriptionSpec, TrackId, TrackSpec, TransportId, TransportSpec,
};
pub use conference::{Conference, Publication, PublisherSummary, RoomSummary};
pub use error::RoomError;
pub use input::{Event, EventKind, Input, LeaveReason, NewTrack, Outcome, Publish, Renegotiation, Watch};
pub use limits::Limits;
pub use name::{DisplayName, NameError, ParticipantId, RoomName};
pub use notice::{
    Audience, Departure, Member, Notice, ParticipantState, ParticipantView, Snapshot, Source, TrackView, TransportState,
};
pub use record::{
    Found, FoundSubscription, Known, KnownTransport, ParticipantRecord, Record, RecordKey, RecordedLiveness,
    SlotRecord, TrackRecord, TransportRecord, ViewerRecord,
};
pub use slot::{Slot, SlotAnswer, SlotView, SlotWish};
