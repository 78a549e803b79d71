// SPDX-License-Identifier: Apache-2.0
//! What happens to a conference, and what comes of it.

use std::collections::BTreeSet;

use crate::{
    Audience, Command, Departure, DisplayName, Member, Notice, ParticipantId, RecordKey, RoomName, Slot, SlotAnswer,
    SlotWish, Source, SubscriptionId, SubscriptionSpec, TrackId, TrackSpec, TransportId, TransportSpec,
};

/// A participant that begins to publish by WHIP: it is there as long as its transport.
#[derive(Clone, Debug)]
pub struct Publish {
    /// The room; made if it is not there.
    pub room: RoomName,
    /// What the participant is called in URLs.
    pub participant: ParticipantId,
    /// What the participant is called on screen.
    pub name: DisplayName,
    /// The transport that was answered.
    pub transport: TransportSpec,
    /// The tracks that were answered.
    pub tracks: Vec<TrackSpec>,
}

/// A viewer (WHEP) that begins to receive a participant's tracks. Nobody sees it.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The room.
    pub room: RoomName,
    /// The publisher's transport, as [`crate::Conference::publication`] gave it.
    pub publisher: TransportId,
    /// The transport that was answered.
    pub transport: TransportSpec,
    /// The tracks to receive, all of that publisher.
    pub subscriptions: Vec<SubscriptionSpec>,
}

/// A track that a participant begins to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTrack {
    /// What was negotiated.
    pub spec: TrackSpec,
    /// What it shows.
    pub source: Source,
    /// Whether it begins muted.
    pub muted: bool,
}

/// What another offer of the same PeerConnection changes; what it does not name stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Renegotiation {
    /// Tracks that come.
    pub new_tracks: Vec<NewTrack>,
    /// Tracks whose sections do not send any more.
    pub ended_tracks: Vec<TrackId>,
    /// Slots that come. One that was closed may open again: with the SSRCs that it had it is the same, with others another.
    pub new_slots: Vec<Slot>,
    /// Slots whose sections do not receive any more, by mid.
    pub closed_slots: Vec<String>,
}

/// What happens to a conference.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody comes over a WebSocket; [`Outcome::member`] says under which id. Its socket counts as connected.
    Join {
        /// The room; made if it is not there.
        room: RoomName,
        /// What it is called on screen; its id is made of it, with a number behind it where that is taken.
        name: DisplayName,
    },
    /// A participant's WebSocket is back.
    Connected {
        /// Whose.
        member: Member,
    },
    /// A participant's WebSocket is gone. Others are told after [`crate::Limits::away_grace`]; after
    /// [`crate::Limits::resume_ttl`] the participant is gone.
    Away {
        /// Whose.
        member: Member,
    },
    /// A participant's offer with `restart` was answered: an old transport of it ends, with its tracks.
    Transport {
        /// Whose.
        member: Member,
        /// The transport that was answered; direction [`crate::Direction::Both`].
        spec: TransportSpec,
        /// The tracks that were answered.
        tracks: Vec<NewTrack>,
        /// The slots that were answered; all are empty.
        slots: Vec<Slot>,
    },
    /// Another offer of the same PeerConnection was answered.
    Renegotiate {
        /// Whose.
        member: Member,
        /// What it changes.
        change: Renegotiation,
    },
    /// A participant says what its slots show. Wishes are granted in order and each by itself: [`Outcome::slots`].
    Subscribe {
        /// Whose.
        member: Member,
        /// One per slot.
        wishes: Vec<SlotWish>,
    },
    /// A participant says that a track of its own is muted or not.
    Mute {
        /// Whose.
        member: Member,
        /// Which.
        track: TrackId,
        /// Whether it is muted.
        muted: bool,
    },
    /// A participant goes, with all that is its own.
    LeaveParticipant {
        /// Who.
        member: Member,
        /// Why.
        reason: Departure,
    },
    /// A transport's keys are installed.
    Secured {
        /// The transport.
        transport: TransportId,
    },
    /// The data plane had no room for a slot's subscription ([`Command::AddSubscription`] failed): the slot is empty, and the
    /// next wish tries again.
    NotProgrammed {
        /// The subscription.
        id: SubscriptionId,
    },
    /// Somebody publishes by WHIP.
    Publish(Publish),
    /// Somebody watches by WHEP.
    Watch(Watch),
    /// A transport goes by a decision from outside: DELETE, a failed handshake, a full table. A participant with a WebSocket
    /// stays and is told to offer again; a WHIP publisher goes with its transport.
    Leave {
        /// The transport that goes.
        transport: TransportId,
        /// Why.
        reason: LeaveReason,
    },
    /// The transport's first valid connectivity check was answered.
    Validated {
        /// The transport.
        transport: TransportId,
    },
    /// No check for 30 s (RFC 7675); the data plane has stopped its egress.
    ConsentLost {
        /// The transport.
        transport: TransportId,
    },
    /// Checks came back.
    ConsentBack {
        /// The transport.
        transport: TransportId,
    },
    /// A deadline has come.
    Tick,
}

/// Why a transport is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LeaveReason {
    /// It was asked for.
    Asked,
    /// No valid check came in time.
    NeverValidated,
    /// Consent ran out and did not come back.
    ConsentLost,
    /// A publisher of the same name took its place while it was lost.
    Replaced,
    /// Its DTLS handshake failed, so it can never carry media.
    HandshakeFailed,
    /// The data plane has no room for it.
    TableFull,
    /// Its participant brought a new transport.
    Renewed,
    /// Its participant is gone.
    ParticipantGone,
    /// The control plane died before its handshake was done, or the data plane does not have it any more.
    NotResumed,
}

/// What people may want to read about: the journal's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A transport was accepted for a viewer.
    Watching,
    /// A transport was accepted for a participant, with this many tracks.
    Published {
        /// How many.
        tracks: usize,
    },
    /// The transport's first valid check was answered.
    Joined,
    /// Consent ran out.
    ConsentLost,
    /// Consent came back.
    ConsentBack,
    /// A viewer's subscriptions ended because the publisher went.
    PublisherLeft,
    /// The transport is gone.
    Left(LeaveReason),
}

/// Something that happened to one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The room.
    pub room: RoomName,
    /// The participant's id; for a viewer `None`.
    pub participant: Option<ParticipantId>,
    /// The transport.
    pub transport: TransportId,
}

/// What an input led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the data plane, in this order.
    pub commands: Vec<Command>,
    /// For the journal.
    pub events: Vec<Event>,
    /// For participants, in this order.
    pub notices: Vec<(Audience, Notice)>,
    /// Whose records are to be written anew, or removed where [`crate::Conference::record`] has none.
    pub changed: BTreeSet<RecordKey>,
    /// Who joined, after [`Input::Join`].
    pub member: Option<Member>,
    /// What became of the wishes, after [`Input::Subscribe`].
    pub slots: Vec<SlotAnswer>,
}
