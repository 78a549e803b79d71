// SPDX-License-Identifier: Apache-2.0
//! What a restarted control plane needs: records of participants and viewers, and what the data plane still has of them.
//!
//! ```text
//!  records ──► Conference::restore ──► known() ──► the programmer compares it with the segment ──► Found
//!                                                                     Conference::settle ◄─────────┘
//! ```
//!
//! A record says who somebody is and what was negotiated. What a slot shows and whether keys are installed is not in it: the
//! segment says so, and it is never behind.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    DisplayName, Member, RoomKey, RoomName, Slot, Source, SubscriptionId, SubscriptionSpec, TrackId, TrackSpec,
    TransportId, TransportSpec,
};

/// What a record is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RecordKey {
    /// A participant, with its transport, tracks and slots. WHIP publishers are participants.
    Participant(Member),
    /// A WHEP viewer.
    Viewer(TransportId),
}

/// How far a transport was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecordedLiveness {
    /// No valid check yet.
    Pending,
    /// Validated.
    Live,
    /// Without consent.
    Lost,
}

/// A published track.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackRecord {
    /// What was negotiated.
    pub spec: TrackSpec,
    /// What it shows.
    pub source: Source,
    /// Whether its publisher muted it.
    pub muted: bool,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotRecord {
    /// What was negotiated.
    pub slot: Slot,
    /// Whether its section still receives.
    pub is_open: bool,
}

/// A transport that sends, receives or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportRecord {
    /// What was negotiated. Secret: it holds passwords.
    pub spec: TransportSpec,
    /// How far it was.
    pub liveness: RecordedLiveness,
    /// What it publishes, in order.
    pub tracks: Vec<TrackRecord>,
    /// Where it receives, by mid.
    pub slots: Vec<SlotRecord>,
}

/// A participant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParticipantRecord {
    /// Who, and where.
    pub member: Member,
    /// The room's key.
    pub room: RoomKey,
    /// Its name on screen.
    pub name: DisplayName,
    /// Whether it joined over a WebSocket; a WHIP publisher is there as long as its transport.
    pub has_socket: bool,
    /// Its transport, if it has one.
    pub transport: Option<TransportRecord>,
}

/// A WHEP viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewerRecord {
    /// Its room.
    pub room: RoomName,
    /// The room's key.
    pub key: RoomKey,
    /// Whom it watches; `None` when the publisher has gone.
    pub publisher: Option<TransportId>,
    /// What was negotiated. Secret: it holds passwords.
    pub transport: TransportSpec,
    /// How far it was.
    pub liveness: RecordedLiveness,
    /// What it receives.
    pub subscriptions: Vec<SubscriptionSpec>,
}

/// What is kept of one participant or viewer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record {
    /// A participant.
    Participant(Box<ParticipantRecord>),
    /// A viewer.
    Viewer(Box<ViewerRecord>),
}

impl Record {
    /// What it is about.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Participant(record) => RecordKey::Participant(record.member.clone()),
            Self::Viewer(record) => RecordKey::Viewer(record.transport.id),
        }
    }

    /// Its transport's id, if it has a transport.
    #[must_use]
    pub fn transport(&self) -> Option<TransportId> {
        match self {
            Self::Participant(record) => record.transport.as_ref().map(|transport| transport.spec.id),
            Self::Viewer(record) => Some(record.transport.id),
        }
    }
}

/// A transport that should be in the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownTransport {
    /// Its room.
    pub room: RoomKey,
    /// What was negotiated: it is recognised by our credentials.
    pub spec: TransportSpec,
}

/// What the records say the data plane has: what it has beyond that belongs to nobody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Transports.
    pub transports: Vec<KnownTransport>,
    /// Tracks and whose they are.
    pub tracks: BTreeMap<TrackId, TransportId>,
    /// Subscriptions, recognised by the receiver's transport and the SSRC that is sent there.
    pub subscriptions: BTreeMap<(TransportId, u32), SubscriptionId>,
}

/// What a subscription was found to deliver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundSubscription {
    /// The track; `None`: nothing.
    pub track: Option<TrackId>,
    /// Highest encoding; `None`: any.
    pub max_encoding: Option<u8>,
}

/// What the data plane was found to have of [`Known`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Transports, and whether their keys are installed.
    pub transports: BTreeMap<TransportId, bool>,
    /// Tracks.
    pub tracks: BTreeSet<TrackId>,
    /// Subscriptions and what they deliver.
    pub subscriptions: BTreeMap<SubscriptionId, FoundSubscription>,
}
