// SPDX-License-Identifier: Apache-2.0
//! The state machine: who is in which room, who publishes what, who receives it, and until when.
//!
//! ```text
//!            publish / watch                validated                consent lost
//!   (none) ───────────────────► pending ───────────────► live ◄──────────────────────► lost
//!                                  │ 30 s                  │ leave      consent back     │ 60 s
//!                                  └──────────────────────►┴► (none) ◄───────────────────┘
//! ```
//!
//! It must never leave a subscription whose track is gone, a track whose transport is gone, or an empty room.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::{
    Command, Direction, DisplayName, ParticipantId, RoomError, RoomKey, RoomName, SubscriptionId, SubscriptionSpec,
    TrackSpec, TransportId, TransportSpec,
};

/// What one server holds at most, and how long it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rooms.
    pub rooms: usize,
    /// Publishers in one room.
    pub publishers_per_room: usize,
    /// Viewers' transports in one room.
    pub viewers_per_room: usize,
    /// Tracks of one publisher.
    pub tracks_per_publisher: usize,
    /// How long a transport may stay without its first valid check.
    pub validation_timeout: Duration,
    /// How long a transport stays after its consent (RFC 7675) has run out.
    pub lost_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rooms: 1000,
            publishers_per_room: 100,
            viewers_per_room: 1000,
            tracks_per_publisher: 8,
            validation_timeout: Duration::from_secs(30),
            lost_timeout: Duration::from_secs(60),
        }
    }
}

/// A participant that begins to publish.
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

/// A participant that begins to receive another's tracks.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The room.
    pub room: RoomName,
    /// The publisher's transport, as [`Conference::publication`] gave it.
    pub publisher: TransportId,
    /// The transport that was answered.
    pub transport: TransportSpec,
    /// The tracks to receive, all of that publisher.
    pub subscriptions: Vec<SubscriptionSpec>,
}

/// What happens to a conference.
#[derive(Clone, Debug)]
pub enum Input {
    /// Somebody publishes.
    Publish(Publish),
    /// Somebody watches.
    Watch(Watch),
    /// A transport goes by a decision from outside: DELETE, a failed handshake, a full table.
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
}

/// What people may want to read about: the journal's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A transport was accepted for a viewer.
    Watching,
    /// A transport was accepted for a publisher, with this many tracks.
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
    /// The publisher's id; for a viewer `None`.
    pub participant: Option<ParticipantId>,
    /// The transport.
    pub transport: TransportId,
}

/// What an input led to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// For the data plane, in this order.
    pub commands: Vec<Command>,
    /// For people.
    pub events: Vec<Event>,
}

/// What a viewer's answer is made from.
#[derive(Clone, Copy, Debug)]
pub struct Publication<'a> {
    /// The publisher's transport.
    pub transport: TransportId,
    /// Its id.
    pub participant: &'a ParticipantId,
    /// Its name on screen.
    pub name: &'a DisplayName,
    /// Its tracks.
    pub tracks: &'a [TrackSpec],
}

/// A publisher in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublisherSummary {
    /// Its id.
    pub participant: ParticipantId,
    /// Its name on screen.
    pub name: DisplayName,
    /// Audio tracks.
    pub audio_tracks: usize,
    /// Video tracks.
    pub video_tracks: usize,
    /// Whether its transport is validated and has consent.
    pub live: bool,
}

/// A room in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomSummary {
    /// Its name.
    pub room: RoomName,
    /// Who publishes, by id.
    pub publishers: Vec<PublisherSummary>,
    /// Viewers' transports.
    pub viewers: usize,
}

#[derive(Debug)]
struct Room {
    key: RoomKey,
    publishers: BTreeMap<ParticipantId, TransportId>,
    viewers: BTreeSet<TransportId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Liveness {
    Pending { deadline: Instant },
    Live,
    Lost { deadline: Instant },
}

impl Liveness {
    fn deadline(self) -> Option<Instant> {
        match self {
            Self::Pending { deadline } | Self::Lost { deadline } => Some(deadline),
            Self::Live => None,
        }
    }
}

#[derive(Debug)]
enum Role {
    Publisher { participant: ParticipantId, name: DisplayName, tracks: Vec<TrackSpec>, viewers: BTreeSet<TransportId> },
    Viewer { publisher: Option<TransportId>, subscriptions: Vec<SubscriptionId> },
}

#[derive(Debug)]
struct Session {
    room: RoomName,
    liveness: Liveness,
    role: Role,
}

impl Session {
    fn participant(&self) -> Option<&ParticipantId> {
        match &self.role {
            Role::Publisher { participant, .. } => Some(participant),
            Role::Viewer { .. } => None,
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.liveness, Liveness::Lost { .. })
    }
}

/// All rooms of one server.
#[derive(Debug)]
pub struct Conference {
    limits: Limits,
    rooms: BTreeMap<RoomName, Room>,
    sessions: BTreeMap<TransportId, Session>,
    deadlines: BTreeSet<(Instant, TransportId)>,
    next_room: u64,
    next_subscription: u64,
}

impl Conference {
    /// An empty conference.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            rooms: BTreeMap::new(),
            sessions: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_room: 1,
            next_subscription: 1,
        }
    }

    /// Whether `participant` may publish `tracks` tracks in `room`; asked before an answer is made.
    ///
    /// # Errors
    /// [`RoomError::NameTaken`] or one of the limits.
    pub fn admit_publisher(
        &self,
        room: &RoomName,
        participant: &ParticipantId,
        tracks: usize,
    ) -> Result<(), RoomError> {
        if tracks > self.limits.tracks_per_publisher {
            return Err(RoomError::TooManyTracks { limit: self.limits.tracks_per_publisher });
        }
        let Some(held) = self.rooms.get(room) else {
            return if self.rooms.len() < self.limits.rooms {
                Ok(())
            } else {
                Err(RoomError::TooManyRooms { limit: self.limits.rooms })
            };
        };
        if let Some(transport) = held.publishers.get(participant) {
            // A publisher that has lost consent is not live: whoever comes back under its name takes its place.
            return if self.sessions.get(transport).is_some_and(Session::is_lost) {
                Ok(())
            } else {
                Err(RoomError::NameTaken { room: room.clone(), participant: participant.clone() })
            };
        }
        if held.publishers.len() >= self.limits.publishers_per_room {
            return Err(RoomError::TooManyPublishers { room: room.clone(), limit: self.limits.publishers_per_room });
        }
        Ok(())
    }

    /// What `participant` publishes in `room`; the publisher that came last when no one is named.
    ///
    /// # Errors
    /// [`RoomError::ParticipantNotPublished`] or [`RoomError::RoomNotPublished`]: nobody, or it has lost consent.
    pub fn publication(
        &self,
        room: &RoomName,
        participant: Option<&ParticipantId>,
    ) -> Result<Publication<'_>, RoomError> {
        let absent = || match participant {
            Some(id) => RoomError::ParticipantNotPublished { room: room.clone(), participant: id.clone() },
            None => RoomError::RoomNotPublished { room: room.clone() },
        };
        let publishers = &self.rooms.get(room).ok_or_else(absent)?.publishers;
        let transport = match participant {
            Some(id) => publishers.get(id).copied(),
            // Transport ids are given in ascending order, so the largest is the latest.
            None => {
                publishers.values().copied().filter(|id| !self.sessions.get(id).is_some_and(Session::is_lost)).max()
            }
        };
        let transport = transport.ok_or_else(absent)?;
        match self.sessions.get(&transport) {
            Some(Session { role: Role::Publisher { participant, name, tracks, .. }, liveness, .. })
                if !matches!(liveness, Liveness::Lost { .. }) =>
            {
                Ok(Publication { transport, participant, name, tracks })
            }
            Some(_) | None => Err(absent()),
        }
    }

    /// Takes one input and says what is to be done about it.
    ///
    /// # Errors
    /// [`RoomError`]; nothing has changed then.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Outcome, RoomError> {
        let mut out = Outcome::default();
        match input {
            Input::Publish(publish) => self.publish(now, publish, &mut out)?,
            Input::Watch(watch) => self.watch(now, watch, &mut out)?,
            Input::Leave { transport, reason } => self.remove(transport, reason, &mut out)?,
            Input::Validated { transport } => self.validated(transport, &mut out)?,
            Input::ConsentLost { transport } => self.consent_lost(now, transport, &mut out)?,
            Input::ConsentBack { transport } => self.consent_back(transport, &mut out)?,
            Input::Tick => self.expire(now, &mut out),
        }
        Ok(out)
    }

    /// When the next [`Input::Tick`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// All rooms, by name.
    #[must_use]
    pub fn rooms(&self) -> Vec<RoomSummary> {
        self.rooms.iter().map(|(name, room)| self.summary(name, room)).collect()
    }

    /// How many transports there are.
    #[must_use]
    pub fn transports(&self) -> usize {
        self.sessions.len()
    }

    fn summary(&self, name: &RoomName, room: &Room) -> RoomSummary {
        let publishers = room.publishers.values().filter_map(|id| {
            // Who has lost consent cannot be watched, so it is not shown.
            let session = self.sessions.get(id).filter(|session| !session.is_lost())?;
            let Role::Publisher { participant, name, tracks, .. } = &session.role else { return None };
            let video_tracks = tracks.iter().filter(|track| track.kind == crate::MediaKind::Video).count();
            Some(PublisherSummary {
                participant: participant.clone(),
                name: name.clone(),
                audio_tracks: tracks.len() - video_tracks,
                video_tracks,
                live: session.liveness == Liveness::Live,
            })
        });
        RoomSummary { room: name.clone(), publishers: publishers.collect(), viewers: room.viewers.len() }
    }

    fn publish(&mut self, now: Instant, publish: Publish, out: &mut Outcome) -> Result<(), RoomError> {
        let Publish { room, participant, name, transport, tracks } = publish;
        let id = transport.id;
        self.refuse_known(id)?;
        self.admit_publisher(&room, &participant, tracks.len())?;
        if transport.direction != Direction::Publisher || tracks.iter().any(|track| track.transport != id) {
            return Err(RoomError::ForeignTrack);
        }
        let lost = self.rooms.get(&room).and_then(|held| held.publishers.get(&participant)).copied();
        if let Some(lost) = lost {
            self.remove(lost, LeaveReason::Replaced, out)?;
        }
        let held = Self::room_entry(&mut self.rooms, &mut self.next_room, &room);
        held.publishers.insert(participant.clone(), id);
        let key = held.key;
        out.commands.push(Command::AddTransport { room: key, spec: transport });
        out.commands.extend(tracks.iter().map(|track| Command::AddTrack { room: key, spec: track.clone() }));
        let kind = EventKind::Published { tracks: tracks.len() };
        out.events.push(Event { kind, room: room.clone(), participant: Some(participant.clone()), transport: id });
        let role = Role::Publisher { participant, name, tracks, viewers: BTreeSet::new() };
        self.insert(now, id, room, role);
        Ok(())
    }

    fn watch(&mut self, now: Instant, watch: Watch, out: &mut Outcome) -> Result<(), RoomError> {
        let Watch { room, publisher, transport, subscriptions } = watch;
        let id = transport.id;
        self.refuse_known(id)?;
        let limit = self.limits.viewers_per_room;
        let held = self.rooms.get_mut(&room).ok_or_else(|| RoomError::RoomNotPublished { room: room.clone() })?;
        if held.viewers.len() >= limit {
            return Err(RoomError::TooManyViewers { room, limit });
        }
        let Some(session) = self.sessions.get_mut(&publisher).filter(|session| session.room == room) else {
            return Err(RoomError::RoomNotPublished { room });
        };
        let Role::Publisher { tracks, viewers, .. } = &mut session.role else {
            return Err(RoomError::RoomNotPublished { room });
        };
        let known = |spec: &SubscriptionSpec| tracks.iter().any(|track| track.id == spec.track);
        if transport.direction != Direction::Viewer
            || !subscriptions.iter().all(|spec| spec.transport == id && known(spec))
        {
            return Err(RoomError::ForeignTrack);
        }
        viewers.insert(id);
        held.viewers.insert(id);
        let key = held.key;
        out.commands.push(Command::AddTransport { room: key, spec: transport });
        let mut ids = Vec::with_capacity(subscriptions.len());
        for spec in subscriptions {
            let subscription = SubscriptionId(self.next_subscription);
            self.next_subscription += 1;
            ids.push(subscription);
            out.commands.push(Command::AddSubscription { room: key, id: subscription, spec });
        }
        out.events.push(Event { kind: EventKind::Watching, room: room.clone(), participant: None, transport: id });
        let role = Role::Viewer { publisher: Some(publisher), subscriptions: ids };
        self.insert(now, id, room, role);
        Ok(())
    }

    fn room_entry<'a>(rooms: &'a mut BTreeMap<RoomName, Room>, next: &mut u64, name: &RoomName) -> &'a mut Room {
        rooms.entry(name.clone()).or_insert_with(|| {
            let key = RoomKey(*next);
            *next += 1;
            Room { key, publishers: BTreeMap::new(), viewers: BTreeSet::new() }
        })
    }

    fn refuse_known(&self, transport: TransportId) -> Result<(), RoomError> {
        if self.sessions.contains_key(&transport) {
            return Err(RoomError::TransportExists { transport });
        }
        Ok(())
    }

    /// Inserts a session that waits for its first check.
    fn insert(&mut self, now: Instant, id: TransportId, room: RoomName, role: Role) {
        let deadline = now + self.limits.validation_timeout;
        self.deadlines.insert((deadline, id));
        self.sessions.insert(id, Session { room, liveness: Liveness::Pending { deadline }, role });
    }

    fn set_liveness(&mut self, id: TransportId, liveness: Liveness) -> Result<Event, RoomError> {
        let session = self.sessions.get_mut(&id).ok_or(RoomError::UnknownTransport { transport: id })?;
        if let Some(deadline) = session.liveness.deadline() {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(deadline) = liveness.deadline() {
            self.deadlines.insert((deadline, id));
        }
        session.liveness = liveness;
        let participant = session.participant().cloned();
        Ok(Event { kind: EventKind::Joined, room: session.room.clone(), participant, transport: id })
    }

    fn liveness(&self, id: TransportId) -> Result<Liveness, RoomError> {
        self.sessions.get(&id).map(|held| held.liveness).ok_or(RoomError::UnknownTransport { transport: id })
    }

    fn validated(&mut self, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        if matches!(self.liveness(id)?, Liveness::Pending { .. }) {
            out.events.push(self.set_liveness(id, Liveness::Live)?);
        }
        Ok(())
    }

    fn consent_lost(&mut self, now: Instant, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        // A transport that was never validated has no consent to lose: its own deadline stands.
        if self.liveness(id)? == Liveness::Live {
            let event = self.set_liveness(id, Liveness::Lost { deadline: now + self.limits.lost_timeout })?;
            out.events.push(Event { kind: EventKind::ConsentLost, ..event });
        }
        Ok(())
    }

    fn consent_back(&mut self, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        if matches!(self.liveness(id)?, Liveness::Lost { .. }) {
            let event = self.set_liveness(id, Liveness::Live)?;
            out.events.push(Event { kind: EventKind::ConsentBack, ..event });
        }
        Ok(())
    }

    fn expire(&mut self, now: Instant, out: &mut Outcome) {
        while let Some((at, id)) = self.deadlines.first().copied() {
            if at > now {
                return;
            }
            let reason = match self.liveness(id) {
                Ok(Liveness::Pending { .. }) => LeaveReason::NeverValidated,
                Ok(Liveness::Live | Liveness::Lost { .. }) | Err(_) => LeaveReason::ConsentLost,
            };
            self.deadlines.remove(&(at, id));
            // An unknown transport has no deadline (`remove` takes it along), so there is nothing to report.
            let _ = self.remove(id, reason, out);
        }
    }

    /// Takes a transport out: subscriptions first, then tracks, then the transport, then its empty room.
    fn remove(&mut self, id: TransportId, reason: LeaveReason, out: &mut Outcome) -> Result<(), RoomError> {
        let session = self.sessions.remove(&id).ok_or(RoomError::UnknownTransport { transport: id })?;
        if let Some(deadline) = session.liveness.deadline() {
            self.deadlines.remove(&(deadline, id));
        }
        let participant = session.participant().cloned();
        match session.role {
            Role::Publisher { tracks, viewers, .. } => {
                for viewer in viewers {
                    self.end_subscriptions(viewer, out);
                }
                let gone = tracks.iter().map(|track| Command::RemoveTrack { track: track.id, transport: id });
                out.commands.extend(gone);
            }
            Role::Viewer { publisher, subscriptions } => {
                let gone = subscriptions.into_iter();
                out.commands.extend(gone.map(|sub| Command::RemoveSubscription { id: sub, transport: id }));
                if let Some(Session { role: Role::Publisher { viewers, .. }, .. }) =
                    publisher.and_then(|publisher| self.sessions.get_mut(&publisher))
                {
                    viewers.remove(&id);
                }
            }
        }
        out.commands.push(Command::RemoveTransport { transport: id });
        if let Some(room) = self.rooms.get_mut(&session.room) {
            room.viewers.remove(&id);
            room.publishers.retain(|_, transport| *transport != id);
            if room.viewers.is_empty() && room.publishers.is_empty() {
                self.rooms.remove(&session.room);
            }
        }
        out.events.push(Event { kind: EventKind::Left(reason), room: session.room, participant, transport: id });
        Ok(())
    }

    /// Ends what a viewer receives because its publisher goes; the viewer's transport stays.
    fn end_subscriptions(&mut self, viewer: TransportId, out: &mut Outcome) {
        let Some(session) = self.sessions.get_mut(&viewer) else { return };
        let Role::Viewer { publisher, subscriptions } = &mut session.role else { return };
        *publisher = None;
        let gone = std::mem::take(subscriptions).into_iter();
        out.commands.extend(gone.map(|id| Command::RemoveSubscription { id, transport: viewer }));
        let room = session.room.clone();
        out.events.push(Event { kind: EventKind::PublisherLeft, room, participant: None, transport: viewer });
    }
}

#[cfg(test)]
mod tests;
