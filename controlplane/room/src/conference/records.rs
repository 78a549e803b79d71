// SPDX-License-Identifier: Apache-2.0
//! From the conference to records, and back after a restart.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::tell_room;
use super::{Attendance, Conference, Due, HeldSlot, HeldTrack, Liveness, Participant, Place, Role, Room, Session};
use crate::{
    Command, Found, Known, KnownTransport, LeaveReason, Limits, Member, Notice, Outcome, ParticipantRecord,
    ParticipantState, Record, RecordKey, RecordedLiveness, RoomKey, RoomName, SlotRecord, SubscriptionId, TrackId,
    TrackRecord, TransportId, TransportRecord, ViewerRecord,
};

impl Conference {
    /// What is to be kept of a participant or viewer; `None` when it is gone, and its record with it.
    #[must_use]
    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        match key {
            RecordKey::Participant(member) => {
                let held = self.participant(member).ok()?;
                let session = held.transport.and_then(|id| self.sessions.get(&id));
                Some(Record::Participant(Box::new(ParticipantRecord {
                    member: member.clone(),
                    room: self.room_key(&member.room)?,
                    name: held.name.clone(),
                    has_socket: held.attendance != Attendance::ByTransport,
                    transport: session.and_then(transport_record),
                })))
            }
            RecordKey::Viewer(id) => {
                let session = self.sessions.get(id)?;
                let Role::Viewer { publisher, subscriptions } = &session.role else { return None };
                Some(Record::Viewer(Box::new(ViewerRecord {
                    room: session.room.clone(),
                    key: self.room_key(&session.room)?,
                    publisher: *publisher,
                    transport: session.spec.clone(),
                    liveness: recorded(session.liveness),
                    subscriptions: subscriptions.iter().map(|(_, spec)| spec.clone()).collect(),
                })))
            }
        }
    }

    /// All that has a record.
    #[must_use]
    pub fn record_keys(&self) -> Vec<RecordKey> {
        let participants = self.rooms.iter().flat_map(|(room, held)| {
            let member = |id: &crate::ParticipantId| Member { room: room.clone(), participant: id.clone() };
            held.participants.keys().map(move |id| RecordKey::Participant(member(id)))
        });
        let viewers = self.rooms.values().flat_map(|held| held.viewers.iter().copied().map(RecordKey::Viewer));
        participants.chain(viewers).collect()
    }

    /// The conference of a predecessor: the same rooms, participants and transports, deadlines begun anew, every WebSocket
    /// away since `now`. Next, [`Self::known`] is compared with the data plane and the outcome given to [`Self::settle`].
    /// A record that contradicts another (the removal of one of them was not written any more) is left out.
    #[must_use]
    pub fn restore(now: Instant, limits: Limits, mut records: Vec<Record>) -> Self {
        let mut conference = Self::new(limits);
        // Of two rooms of one name the younger one is there; and who watches comes after whom it watches.
        records.sort_by_key(|record| match record {
            Record::Participant(record) => (Reverse(record.room.0), false),
            Record::Viewer(record) => (Reverse(record.key.0), true),
        });
        for record in records {
            match record {
                Record::Participant(record) => conference.restore_participant(now, *record),
                Record::Viewer(record) => conference.restore_viewer(now, *record),
            }
        }
        conference
    }

    /// The room of a record, made if need be; `None` when the name or the key is another's.
    fn restore_room(&mut self, name: &RoomName, key: RoomKey) -> Option<&mut Room> {
        let is_other = self.rooms.iter().any(|(held, room)| (held == name) != (room.key == key));
        if is_other {
            return None;
        }
        self.next_room = self.next_room.max(key.0.saturating_add(1));
        let room = || Room { key, participants: BTreeMap::new(), viewers: BTreeSet::new() };
        Some(self.rooms.entry(name.clone()).or_insert_with(room))
    }

    fn restore_participant(&mut self, now: Instant, record: ParticipantRecord) {
        let ParticipantRecord { member, room, name, has_socket, transport } = record;
        // A WHIP publisher without a transport is nobody; a transport or a track is one participant's.
        let transport = transport.filter(|held| {
            !self.sessions.contains_key(&held.spec.id)
                && held.tracks.iter().all(|track| !self.tracks.contains_key(&track.spec.id))
        });
        if (!has_socket && transport.is_none()) || self.participant(&member).is_ok() {
            return;
        }
        let Some(room) = self.restore_room(&member.room, room) else { return };
        let attendance = if has_socket { Attendance::Connected } else { Attendance::ByTransport };
        let id = transport.as_ref().map(|held| held.spec.id);
        let held = Participant { name, attendance, transport: id, state: ParticipantState::Joining };
        room.participants.insert(member.participant.clone(), held);
        if let Some(record) = transport {
            self.restore_transport(now, &member, record);
        }
        // It was just inserted.
        let _ = self.away(now, &member);
        self.set_state(&member);
    }

    /// Sets what the room would be told, without telling.
    fn set_state(&mut self, member: &Member) {
        let Ok(state) = self.participant(member).map(|held| self.state_of(held)) else { return };
        if let Ok(held) = self.participant_mut(member) {
            held.state = state;
        }
    }

    fn restore_transport(&mut self, now: Instant, member: &Member, record: TransportRecord) {
        let TransportRecord { spec, liveness, tracks, slots } = record;
        let id = spec.id;
        let held = |track: TrackRecord| HeldTrack { spec: track.spec, source: track.source, muted: track.muted };
        let tracks: Vec<_> = tracks.into_iter().map(held).collect();
        self.tracks.extend(tracks.iter().map(|track| (track.spec.id, id)));
        let mut by_mid = BTreeMap::new();
        for SlotRecord { slot, is_open } in slots {
            let subscription = self.subscription_id();
            self.places.insert(subscription, Place { transport: id, mid: Some(slot.mid.clone()) });
            let held = HeldSlot { slot, id: subscription, is_open, is_programmed: false, shown: None };
            by_mid.insert(held.slot.mid.clone(), held);
        }
        let participant = member.participant.clone();
        let role = Role::Participant { participant, tracks, slots: by_mid, viewers: BTreeSet::new() };
        self.restore_session(
            now,
            Session { room: member.room.clone(), spec, liveness: Liveness::Live, role },
            liveness,
        );
    }

    fn restore_viewer(&mut self, now: Instant, record: ViewerRecord) {
        let ViewerRecord { room, key, publisher, transport, liveness, subscriptions } = record;
        let id = transport.id;
        if self.sessions.contains_key(&id) {
            return;
        }
        let Some(held) = self.restore_room(&room, key) else { return };
        held.viewers.insert(id);
        let publisher =
            publisher.filter(|publisher| self.sessions.get(publisher).is_some_and(|held| held.room == room));
        let mut own = Vec::with_capacity(subscriptions.len());
        for spec in subscriptions {
            if publisher.is_none() || self.tracks.get(&spec.track).copied() != publisher {
                continue;
            }
            let subscription = self.subscription_id();
            self.places.insert(subscription, Place { transport: id, mid: None });
            self.receivers.entry(spec.track).or_default().insert(subscription);
            own.push((subscription, spec));
        }
        if let Some(publisher) = publisher {
            self.attach_viewer(publisher, id);
        }
        let role = Role::Viewer { publisher, subscriptions: own };
        self.restore_session(now, Session { room, spec: transport, liveness: Liveness::Live, role }, liveness);
    }

    fn restore_session(&mut self, now: Instant, session: Session, recorded: RecordedLiveness) {
        let id = session.spec.id;
        let liveness = match recorded {
            RecordedLiveness::Pending => Liveness::Pending { deadline: now + self.limits.validation_timeout },
            RecordedLiveness::Live => Liveness::Live,
            RecordedLiveness::Lost => Liveness::Lost { deadline: now + self.limits.lost_timeout },
        };
        if let Some(deadline) = liveness.deadline() {
            self.deadlines.insert((deadline, Due::Transport(id)));
        }
        self.sessions.insert(id, Session { liveness, ..session });
    }

    /// What should be in the data plane.
    #[must_use]
    pub fn known(&self) -> Known {
        let mut known = Known { tracks: self.tracks.clone(), ..Known::default() };
        for (id, session) in &self.sessions {
            let Some(room) = self.room_key(&session.room) else { continue };
            known.transports.push(KnownTransport { room, spec: session.spec.clone() });
            match &session.role {
                Role::Participant { slots, .. } => {
                    known.subscriptions.extend(slots.values().map(|held| ((*id, held.slot.ssrc), held.id)));
                }
                Role::Viewer { subscriptions, .. } => {
                    known.subscriptions.extend(subscriptions.iter().map(|(own, spec)| ((*id, spec.ssrc), *own)));
                }
            }
        }
        known
    }

    /// Ends what the data plane does not have (it ended after its record was written) and what has no keys yet (its handshake
    /// died with the predecessor), and takes over what slots show.
    pub fn settle(&mut self, found: &Found) -> Outcome {
        let mut out = Outcome::default();
        self.settle_subscriptions(found, &mut out);
        let ids: Vec<_> = self.sessions.keys().copied().collect();
        for id in ids {
            if found.transports.get(&id) == Some(&true) {
                // Keys come after the first check: a record that says otherwise is late.
                let _ = self.validated(id, &mut out);
            } else {
                // Nobody's: it was in the list.
                let _ = self.leave(id, LeaveReason::NotResumed, &mut out);
            }
        }
        let missing: Vec<_> = self.tracks.iter().filter(|(track, _)| !found.tracks.contains(track)).collect();
        let missing: Vec<(TrackId, TransportId)> = missing.into_iter().map(|(track, id)| (*track, *id)).collect();
        for (track, id) in missing {
            self.end_track(id, track, &mut out);
            self.touch(id, &mut out);
            if let Some(member) = self.member_of(id) {
                let participant = member.participant.clone();
                tell_room(&member, Notice::TrackUnpublished { participant, track }, &mut out);
            }
        }
        out
    }

    /// Slots show what the segment says; a viewer's subscription that is not there, or shows nothing, is over.
    fn settle_subscriptions(&mut self, found: &Found, out: &mut Outcome) {
        for (id, place) in self.places.clone() {
            let shown = found.subscriptions.get(&id);
            match place.mid {
                None if shown.is_none_or(|shown| shown.track.is_none()) => {
                    self.remove_viewer_subscription(place.transport, id, out);
                }
                None => {}
                Some(mid) => {
                    let Some(shown) = shown else { continue };
                    let track = shown.track.filter(|track| self.tracks.contains_key(track));
                    self.settle_slot((place.transport, &mid), id, track.map(|track| (track, shown.max_encoding)), out);
                }
            }
        }
    }

    fn settle_slot(
        &mut self,
        (transport, mid): (TransportId, &str),
        id: SubscriptionId,
        shown: Option<(TrackId, Option<u8>)>,
        out: &mut Outcome,
    ) {
        let Some(held) = self.slot_mut(transport, mid) else { return };
        held.is_programmed = true;
        match shown {
            // Its section was closed, and the end of what it shows was not published any more.
            Some(_) if !held.is_open => {
                out.commands.push(Command::SetSubscription { id, transport, shown: None });
            }
            Some((track, max_encoding)) => {
                held.shown = Some((track, max_encoding));
                self.receivers.entry(track).or_default().insert(id);
            }
            None => {}
        }
    }
}

fn recorded(liveness: Liveness) -> RecordedLiveness {
    match liveness {
        Liveness::Pending { .. } => RecordedLiveness::Pending,
        Liveness::Live => RecordedLiveness::Live,
        Liveness::Lost { .. } => RecordedLiveness::Lost,
    }
}

fn transport_record(session: &Session) -> Option<TransportRecord> {
    let Role::Participant { tracks, slots, .. } = &session.role else { return None };
    let track = |held: &HeldTrack| TrackRecord { spec: held.spec.clone(), source: held.source, muted: held.muted };
    let slot = |held: &HeldSlot| SlotRecord { slot: held.slot.clone(), is_open: held.is_open };
    Some(TransportRecord {
        spec: session.spec.clone(),
        liveness: recorded(session.liveness),
        tracks: tracks.iter().map(track).collect(),
        slots: slots.values().map(slot).collect(),
    })
}
