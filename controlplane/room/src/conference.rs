// SPDX-License-Identifier: Apache-2.0
//! The state machine: who is in which room, who publishes what, who receives it, and until when.
//!
//! ```text
//! transport     restart / publish / watch         validated                consent lost
//!                 (none) ───────────────► pending ─────────► live ◄──────────────────────► lost
//!                                           │ 30 s            │ leave      consent back     │ 60 s
//!                                           └────────────────►┴► (none) ◄───────────────────┘
//!
//! participant          join                 away              5 s: told            55 s
//!                 (none) ───► connected ◄──────────► away ──────────► told lost ────────► (none)
//!                                         connected
//! ```
//!
//! A WHIP publisher is a participant without a WebSocket: it is there as long as its transport. It must never leave a
//! subscription whose track is gone, a track whose transport is gone, a track in two slots of one participant, or an empty room.

mod participants;
mod records;
mod slots;
mod transports;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use crate::{
    Audience, DisplayName, Event, EventKind, Input, Limits, Member, Notice, Outcome, ParticipantId, ParticipantState,
    ParticipantView, RecordKey, RoomError, RoomKey, RoomName, Slot, SlotView, Snapshot, Source, SubscriptionId,
    SubscriptionSpec, TrackId, TrackSpec, TrackView, TransportId, TransportSpec,
};

/// What a viewer's answer is made from.
#[derive(Clone, Debug)]
pub struct Publication<'a> {
    /// The publisher's transport.
    pub transport: TransportId,
    /// Its id.
    pub participant: &'a ParticipantId,
    /// Its name on screen.
    pub name: &'a DisplayName,
    /// Its tracks.
    pub tracks: Vec<&'a TrackSpec>,
}

/// A participant in a list of rooms.
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
    /// Its participants, by id; not those who are lost.
    pub publishers: Vec<PublisherSummary>,
    /// Viewers' transports.
    pub viewers: usize,
}

#[derive(Debug)]
struct Room {
    key: RoomKey,
    participants: BTreeMap<ParticipantId, Participant>,
    viewers: BTreeSet<TransportId>,
}

/// Whether somebody speaks for a participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attendance {
    /// A WHIP publisher: its transport does.
    ByTransport,
    /// Its WebSocket is connected.
    Connected,
    /// Its WebSocket is gone; `told`: the room knows.
    Away { gone: Instant, told: bool, due: Instant },
}

#[derive(Debug)]
struct Participant {
    name: DisplayName,
    attendance: Attendance,
    transport: Option<TransportId>,
    /// What the room was told last.
    state: ParticipantState,
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
struct HeldTrack {
    spec: TrackSpec,
    source: Source,
    muted: bool,
}

impl HeldTrack {
    fn view(&self) -> TrackView {
        TrackView { id: self.spec.id, kind: self.spec.kind, source: self.source, muted: self.muted }
    }
}

#[derive(Debug)]
struct HeldSlot {
    slot: Slot,
    id: SubscriptionId,
    is_open: bool,
    /// Whether the data plane has it: from the first track on, until the transport ends.
    is_programmed: bool,
    /// The track and its highest encoding.
    shown: Option<(TrackId, Option<u8>)>,
}

#[derive(Debug)]
enum Role {
    Participant {
        participant: ParticipantId,
        tracks: Vec<HeldTrack>,
        slots: BTreeMap<String, HeldSlot>,
        viewers: BTreeSet<TransportId>,
    },
    Viewer {
        publisher: Option<TransportId>,
        /// A few; a map's node would have room for eleven.
        subscriptions: Vec<(SubscriptionId, SubscriptionSpec)>,
    },
}

#[derive(Debug)]
struct Session {
    room: RoomName,
    spec: TransportSpec,
    liveness: Liveness,
    role: Role,
}

impl Session {
    fn participant(&self) -> Option<&ParticipantId> {
        match &self.role {
            Role::Participant { participant, .. } => Some(participant),
            Role::Viewer { .. } => None,
        }
    }

    fn tracks(&self) -> &[HeldTrack] {
        match &self.role {
            Role::Participant { tracks, .. } => tracks,
            Role::Viewer { .. } => &[],
        }
    }

    fn is_lost(&self) -> bool {
        matches!(self.liveness, Liveness::Lost { .. })
    }
}

/// Where a subscription belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    transport: TransportId,
    /// The slot; `None`: a viewer's.
    mid: Option<String>,
}

/// Whose deadline it is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Transport(TransportId),
    Participant(Member),
}

/// All rooms of one server.
#[derive(Debug)]
pub struct Conference {
    limits: Limits,
    rooms: BTreeMap<RoomName, Room>,
    sessions: BTreeMap<TransportId, Session>,
    /// Whose each track is.
    tracks: BTreeMap<TrackId, TransportId>,
    /// Who receives each track; no entry where nobody does.
    receivers: BTreeMap<TrackId, BTreeSet<SubscriptionId>>,
    places: BTreeMap<SubscriptionId, Place>,
    deadlines: BTreeSet<(Instant, Due)>,
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
            tracks: BTreeMap::new(),
            receivers: BTreeMap::new(),
            places: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            next_room: 1,
            next_subscription: 1,
        }
    }

    /// Takes one input and says what is to be done about it.
    ///
    /// # Errors
    /// [`RoomError`]; nothing has changed then.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<Outcome, RoomError> {
        let mut out = Outcome::default();
        match input {
            Input::Join { room, name } => self.join(&room, name, &mut out)?,
            Input::Connected { member } => self.connected(&member, &mut out)?,
            Input::Away { member } => self.away(now, &member)?,
            Input::Transport { member, spec, tracks, slots } => {
                self.bring_transport(now, &member, spec, (tracks, slots), &mut out)?;
            }
            Input::Renegotiate { member, change } => self.renegotiate(&member, change, &mut out)?,
            Input::Subscribe { member, wishes } => self.subscribe(&member, wishes, &mut out)?,
            Input::Mute { member, track, muted } => self.mute(&member, track, muted, &mut out)?,
            Input::LeaveParticipant { member, reason } => self.leave_participant(&member, reason, &mut out)?,
            Input::Secured { transport } => self.secured(transport, &mut out)?,
            Input::NotProgrammed { id } => self.not_programmed(id),
            Input::Publish(publish) => self.publish(now, publish, &mut out)?,
            Input::Watch(watch) => self.watch(now, watch, &mut out)?,
            Input::Leave { transport, reason } => self.leave(transport, reason, &mut out)?,
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

    /// Whether `participant` may publish `tracks` tracks by WHIP in `room`; asked before an answer is made.
    ///
    /// # Errors
    /// [`RoomError::NameTaken`] or one of the limits.
    pub fn admit_publisher(
        &self,
        room: &RoomName,
        participant: &ParticipantId,
        tracks: usize,
    ) -> Result<(), RoomError> {
        if tracks > self.limits.tracks_per_participant {
            return Err(RoomError::TooManyTracks { limit: self.limits.tracks_per_participant });
        }
        if let Some(held) = self.rooms.get(room).and_then(|held| held.participants.get(participant)) {
            let session = held.transport.and_then(|id| self.sessions.get(&id));
            // A publisher that has lost consent is not live: whoever comes back under its name takes its place.
            return if held.attendance == Attendance::ByTransport && session.is_some_and(Session::is_lost) {
                Ok(())
            } else {
                Err(RoomError::NameTaken { room: room.clone(), participant: participant.clone() })
            };
        }
        self.admit_participant(room)
    }

    /// Whether one more participant may come to `room`.
    fn admit_participant(&self, room: &RoomName) -> Result<(), RoomError> {
        let Some(held) = self.rooms.get(room) else {
            return if self.rooms.len() < self.limits.rooms {
                Ok(())
            } else {
                Err(RoomError::TooManyRooms { limit: self.limits.rooms })
            };
        };
        let limit = self.limits.participants_per_room;
        if held.participants.len() >= limit {
            return Err(RoomError::TooManyParticipants { room: room.clone(), limit });
        }
        Ok(())
    }

    /// What `participant` publishes in `room`; whoever brought its transport last when no one is named.
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
        let participants = &self.rooms.get(room).ok_or_else(absent)?.participants;
        let found = participants.iter().filter(|(id, _)| participant.is_none_or(|asked| asked == *id));
        let found = found.filter_map(|(id, held)| {
            let transport = held.transport?;
            let session = self.sessions.get(&transport).filter(|session| !session.is_lost())?;
            // Somebody who only watches so far is not yet worth watching.
            let publishes = held.attendance == Attendance::ByTransport || !session.tracks().is_empty();
            publishes.then(|| Publication {
                transport,
                participant: id,
                name: &held.name,
                tracks: session.tracks().iter().map(|track| &track.spec).collect(),
            })
        });
        // Transport ids are given in ascending order, so the largest is the latest.
        found.max_by_key(|found| found.transport).ok_or_else(absent)
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

    /// The room as `member` finds it: everybody else. `None` when there is no such participant.
    #[must_use]
    pub fn snapshot(&self, member: &Member) -> Option<Snapshot> {
        self.participant(member).ok()?;
        let others = self.rooms.get(&member.room)?.participants.iter().filter(|(id, _)| **id != member.participant);
        Some(Snapshot { participants: others.map(|(id, held)| self.view(id, held)).collect() })
    }

    /// A participant's transport.
    #[must_use]
    pub fn transport_of(&self, member: &Member) -> Option<TransportId> {
        self.participant(member).ok()?.transport
    }

    /// Whose a transport is; `None` for a viewer's.
    #[must_use]
    pub fn member_of(&self, transport: TransportId) -> Option<Member> {
        let session = self.sessions.get(&transport)?;
        Some(Member { room: session.room.clone(), participant: session.participant()?.clone() })
    }

    /// What a participant publishes, by mid of its own sections, in the order of publication.
    #[must_use]
    pub fn own_tracks(&self, member: &Member) -> Vec<(String, TrackId)> {
        let session = self.transport_of(member).and_then(|id| self.sessions.get(&id));
        let tracks = session.map_or(&[][..], Session::tracks);
        tracks.iter().map(|track| (track.spec.mid.clone(), track.spec.id)).collect()
    }

    /// A participant's open slots, by mid.
    #[must_use]
    pub fn slots(&self, member: &Member) -> Vec<SlotView> {
        let session = self.transport_of(member).and_then(|id| self.sessions.get(&id));
        let Some(Session { role: Role::Participant { slots, .. }, .. }) = session else { return Vec::new() };
        let open = slots.values().filter(|held| held.is_open);
        let view = |held: &HeldSlot| SlotView {
            mid: held.slot.mid.clone(),
            kind: held.slot.kind,
            track: held.shown.map(|(track, _)| track),
        };
        open.map(view).collect()
    }

    fn participant(&self, member: &Member) -> Result<&Participant, RoomError> {
        let found = self.rooms.get(&member.room).and_then(|room| room.participants.get(&member.participant));
        found.ok_or_else(|| unknown(member))
    }

    fn participant_mut(&mut self, member: &Member) -> Result<&mut Participant, RoomError> {
        let room = self.rooms.get_mut(&member.room);
        room.and_then(|room| room.participants.get_mut(&member.participant)).ok_or_else(|| unknown(member))
    }

    fn view(&self, id: &ParticipantId, held: &Participant) -> ParticipantView {
        let session = held.transport.and_then(|id| self.sessions.get(&id));
        let tracks = session.map_or(&[][..], Session::tracks);
        ParticipantView {
            id: id.clone(),
            name: held.name.clone(),
            state: held.state,
            tracks: tracks.iter().map(HeldTrack::view).collect(),
        }
    }

    fn summary(&self, name: &RoomName, room: &Room) -> RoomSummary {
        // Who has lost consent cannot be watched, so it is not shown.
        let shown = room.participants.iter().filter(|(_, held)| held.state != ParticipantState::Lost);
        let publishers = shown.map(|(id, held)| {
            let view = self.view(id, held);
            let video_tracks = view.tracks.iter().filter(|track| track.kind == crate::MediaKind::Video).count();
            PublisherSummary {
                participant: view.id,
                name: view.name,
                audio_tracks: view.tracks.len() - video_tracks,
                video_tracks,
                live: view.state == ParticipantState::Live,
            }
        });
        RoomSummary { room: name.clone(), publishers: publishers.collect(), viewers: room.viewers.len() }
    }

    fn room_entry(&mut self, name: &RoomName) -> &mut Room {
        let next = &mut self.next_room;
        self.rooms.entry(name.clone()).or_insert_with(|| {
            let key = RoomKey(*next);
            *next += 1;
            Room { key, participants: BTreeMap::new(), viewers: BTreeSet::new() }
        })
    }

    fn leave_room_if_empty(&mut self, name: &RoomName) {
        if self.rooms.get(name).is_some_and(|room| room.participants.is_empty() && room.viewers.is_empty()) {
            self.rooms.remove(name);
        }
    }

    fn room_key(&self, name: &RoomName) -> Option<RoomKey> {
        self.rooms.get(name).map(|room| room.key)
    }

    fn subscription_id(&mut self) -> SubscriptionId {
        let id = SubscriptionId(self.next_subscription);
        self.next_subscription += 1;
        id
    }

    /// Does what is due, in the order in which it became due.
    fn expire(&mut self, now: Instant, out: &mut Outcome) {
        while let Some((at, due)) = self.deadlines.first().cloned() {
            if at > now {
                return;
            }
            self.deadlines.pop_first();
            match due {
                Due::Transport(id) => self.expire_transport(id, out),
                Due::Participant(member) => self.expire_participant(&member, out),
            }
        }
    }

    /// Notes that a transport's record, or its participant's, has changed.
    fn touch(&self, id: TransportId, out: &mut Outcome) {
        let Some(session) = self.sessions.get(&id) else { return };
        out.changed.insert(match session.participant() {
            Some(participant) => {
                RecordKey::Participant(Member { room: session.room.clone(), participant: participant.clone() })
            }
            None => RecordKey::Viewer(id),
        });
    }
}

fn unknown(member: &Member) -> RoomError {
    RoomError::UnknownParticipant { room: member.room.clone(), participant: member.participant.clone() }
}

/// Tells everybody in the room but the one whom it is about.
fn tell_room(member: &Member, notice: Notice, out: &mut Outcome) {
    let audience = Audience::Room { room: member.room.clone(), except: member.participant.clone() };
    out.notices.push((audience, notice));
}

fn event(kind: EventKind, member: &Member, transport: TransportId) -> Event {
    Event { kind, room: member.room.clone(), participant: Some(member.participant.clone()), transport }
}

#[cfg(test)]
mod tests;
