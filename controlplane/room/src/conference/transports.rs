// SPDX-License-Identifier: Apache-2.0
//! Transports: they come, change, are validated, lose consent, go.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{Attendance, Conference, Due, HeldSlot, HeldTrack, Liveness, Place, Role, Session, event, tell_room};
use crate::{
    Command, Departure, Direction, Event, EventKind, LeaveReason, MediaKind, Member, NewTrack, Notice, Outcome,
    Publish, RecordKey, Renegotiation, RoomError, RoomName, Slot, Source, TransportId, TransportSpec, TransportState,
    Watch,
};

impl Conference {
    pub(super) fn publish(&mut self, now: Instant, publish: Publish, out: &mut Outcome) -> Result<(), RoomError> {
        let Publish { room, participant, name, transport, tracks } = publish;
        let id = transport.id;
        self.refuse_known(id)?;
        self.admit_publisher(&room, &participant, tracks.len())?;
        if transport.direction != Direction::Publisher {
            return Err(RoomError::ForeignTrack);
        }
        let new_track = |spec: crate::TrackSpec| {
            let source = match spec.kind {
                MediaKind::Audio => Source::Microphone,
                MediaKind::Video => Source::Camera,
            };
            NewTrack { spec, source, muted: false }
        };
        let tracks: Vec<_> = tracks.into_iter().map(new_track).collect();
        self.check_tracks(id, &tracks, &BTreeSet::new())?;
        let member = Member { room, participant };
        // Admission has seen that whoever has the name is lost.
        if self.participant(&member).is_ok() {
            self.remove_participant(&member, Departure::Replaced, LeaveReason::Replaced, out);
        }
        self.enter(&member, name, Attendance::ByTransport, Some(id));
        self.open_session(now, &member, transport, out);
        out.events.push(event(EventKind::Published { tracks: tracks.len() }, &member, id));
        for track in tracks {
            self.add_track(id, track, out);
        }
        self.tell_joined(&member, out);
        Ok(())
    }

    pub(super) fn bring_transport(
        &mut self,
        now: Instant,
        member: &Member,
        spec: TransportSpec,
        (tracks, slots): (Vec<NewTrack>, Vec<Slot>),
        out: &mut Outcome,
    ) -> Result<(), RoomError> {
        let id = spec.id;
        self.refuse_known(id)?;
        if self.participant(member)?.attendance == Attendance::ByTransport || spec.direction != Direction::Both {
            return Err(RoomError::ForeignTrack);
        }
        // What an old transport has goes with it, so it does not count.
        self.check_track_limit(tracks.len())?;
        self.check_tracks(id, &tracks, &BTreeSet::new())?;
        self.check_slots(&BTreeMap::new(), &slots, &[])?;
        self.end_transport_of(member, LeaveReason::Renewed, out);
        self.participant_mut(member)?.transport = Some(id);
        self.open_session(now, member, spec, out);
        out.events.push(event(EventKind::Published { tracks: tracks.len() }, member, id));
        self.publish_tracks(member, id, tracks, out);
        self.open_slots(id, slots, out);
        self.tell_state(member, out);
        Ok(())
    }

    pub(super) fn renegotiate(
        &mut self,
        member: &Member,
        change: Renegotiation,
        out: &mut Outcome,
    ) -> Result<(), RoomError> {
        let id = self.participant(member)?.transport.ok_or(RoomError::NoTransport)?;
        let Some(Session { role: Role::Participant { tracks, slots, .. }, .. }) = self.sessions.get(&id) else {
            return Err(RoomError::NoTransport);
        };
        let ended: BTreeSet<_> = change.ended_tracks.iter().copied().collect();
        if let Some(track) = ended.iter().find(|track| !tracks.iter().any(|held| held.spec.id == **track)) {
            return Err(RoomError::UnknownTrack { track: *track });
        }
        if let Some(mid) = change.closed_slots.iter().find(|mid| !slots.contains_key(*mid)) {
            return Err(RoomError::UnknownMid { mid: mid.clone() });
        }
        self.check_track_limit(tracks.len() - ended.len() + change.new_tracks.len())?;
        self.check_tracks(id, &change.new_tracks, &ended)?;
        self.check_slots(slots, &change.new_slots, &change.closed_slots)?;
        for track in ended {
            self.end_track(id, track, out);
            tell_room(member, Notice::TrackUnpublished { participant: member.participant.clone(), track }, out);
        }
        for mid in &change.closed_slots {
            self.close_slot(id, mid, out);
        }
        self.publish_tracks(member, id, change.new_tracks, out);
        self.open_slots(id, change.new_slots, out);
        out.changed.insert(RecordKey::Participant(member.clone()));
        Ok(())
    }

    pub(super) fn watch(&mut self, now: Instant, watch: Watch, out: &mut Outcome) -> Result<(), RoomError> {
        let Watch { room, publisher, transport, subscriptions } = watch;
        let id = transport.id;
        self.refuse_known(id)?;
        let limit = self.limits.viewers_per_room;
        let held = self.rooms.get(&room).ok_or_else(|| RoomError::RoomNotPublished { room: room.clone() })?;
        if held.viewers.len() >= limit {
            return Err(RoomError::TooManyViewers { room, limit });
        }
        let key = held.key;
        let session = self.sessions.get(&publisher).filter(|session| session.room == room);
        let Some(Session { role: Role::Participant { tracks, .. }, .. }) = session else {
            return Err(RoomError::RoomNotPublished { room });
        };
        let is_own = |spec: &crate::SubscriptionSpec| {
            spec.transport == id && tracks.iter().any(|track| track.spec.id == spec.track)
        };
        if transport.direction != Direction::Viewer || !subscriptions.iter().all(is_own) {
            return Err(RoomError::ForeignTrack);
        }
        self.attach_viewer(publisher, id);
        self.room_entry(&room).viewers.insert(id);
        out.commands.push(Command::AddTransport { room: key, name: room.clone(), spec: transport.clone() });
        let mut own = Vec::with_capacity(subscriptions.len());
        for spec in subscriptions {
            let subscription = self.subscription_id();
            self.places.insert(subscription, Place { transport: id, mid: None });
            self.receivers.entry(spec.track).or_default().insert(subscription);
            out.commands.push(Command::AddSubscription { room: key, id: subscription, spec: spec.clone() });
            own.push((subscription, spec));
        }
        out.events.push(Event { kind: EventKind::Watching, room: room.clone(), participant: None, transport: id });
        let role = Role::Viewer { publisher: Some(publisher), subscriptions: own };
        self.insert(now, Session { room, spec: transport, liveness: Liveness::Live, role });
        out.changed.insert(RecordKey::Viewer(id));
        Ok(())
    }

    pub(super) fn attach_viewer(&mut self, publisher: TransportId, viewer: TransportId) {
        if let Some(Session { role: Role::Participant { viewers, .. }, .. }) = self.sessions.get_mut(&publisher) {
            viewers.insert(viewer);
        }
    }

    /// A participant's session without tracks and slots, and the command that goes with it.
    fn open_session(&mut self, now: Instant, member: &Member, spec: TransportSpec, out: &mut Outcome) {
        let Some(room) = self.room_key(&member.room) else { return };
        out.commands.push(Command::AddTransport { room, name: member.room.clone(), spec: spec.clone() });
        let participant = member.participant.clone();
        let role =
            Role::Participant { participant, tracks: Vec::new(), slots: BTreeMap::new(), viewers: BTreeSet::new() };
        self.insert(now, Session { room: member.room.clone(), spec, liveness: Liveness::Live, role });
        out.changed.insert(RecordKey::Participant(member.clone()));
    }

    /// Inserts a session that waits for its first check.
    fn insert(&mut self, now: Instant, session: Session) {
        let (id, deadline) = (session.spec.id, now + self.limits.validation_timeout);
        self.deadlines.insert((deadline, Due::Transport(id)));
        self.sessions.insert(id, Session { liveness: Liveness::Pending { deadline }, ..session });
    }

    fn publish_tracks(&mut self, member: &Member, id: TransportId, tracks: Vec<NewTrack>, out: &mut Outcome) {
        for new in tracks {
            let track = self.add_track(id, new, out);
            tell_room(member, Notice::TrackPublished { participant: member.participant.clone(), track }, out);
        }
    }

    fn add_track(&mut self, id: TransportId, new: NewTrack, out: &mut Outcome) -> crate::TrackView {
        let NewTrack { spec, source, muted } = new;
        let held = HeldTrack { spec, source, muted };
        let view = held.view();
        self.tracks.insert(view.id, id);
        if let Some(Session { room, role: Role::Participant { tracks, .. }, .. }) = self.sessions.get_mut(&id)
            && let Some(key) = self.rooms.get(room).map(|room| room.key)
        {
            out.commands.push(Command::AddTrack { room: key, spec: held.spec.clone() });
            tracks.push(held);
        }
        view
    }

    fn open_slots(&mut self, id: TransportId, slots: Vec<Slot>, out: &mut Outcome) {
        for slot in slots {
            if let Some(held) = self.slot_mut(id, &slot.mid).filter(|held| is_same_slot(&held.slot, &slot)) {
                held.slot = slot;
                held.is_open = true;
                continue;
            }
            self.remove_slot(id, &slot.mid, out);
            let subscription = self.subscription_id();
            let Some(Session { role: Role::Participant { slots, .. }, .. }) = self.sessions.get_mut(&id) else {
                return;
            };
            self.places.insert(subscription, Place { transport: id, mid: Some(slot.mid.clone()) });
            let held = HeldSlot { slot, id: subscription, is_open: true, is_programmed: false, shown: None };
            slots.insert(held.slot.mid.clone(), held);
        }
    }

    fn refuse_known(&self, transport: TransportId) -> Result<(), RoomError> {
        if self.sessions.contains_key(&transport) {
            return Err(RoomError::TransportExists { transport });
        }
        Ok(())
    }

    fn check_track_limit(&self, count: usize) -> Result<(), RoomError> {
        let limit = self.limits.tracks_per_participant;
        if count > limit { Err(RoomError::TooManyTracks { limit }) } else { Ok(()) }
    }

    /// Tracks must be of their transport, and their ids free.
    fn check_tracks(
        &self,
        id: TransportId,
        tracks: &[NewTrack],
        ended: &BTreeSet<crate::TrackId>,
    ) -> Result<(), RoomError> {
        let mut ids = BTreeSet::new();
        for track in tracks {
            if track.spec.transport != id {
                return Err(RoomError::ForeignTrack);
            }
            let is_held = self.tracks.contains_key(&track.spec.id) || ended.contains(&track.spec.id);
            if is_held || !ids.insert(track.spec.id) {
                return Err(RoomError::GivenTwice);
            }
        }
        Ok(())
    }

    /// Slots must be within the limit, and their mids and SSRCs given once, but for one that opens again as it was; one that
    /// is another under its old mid has SSRCs of its own.
    fn check_slots(&self, held: &BTreeMap<String, HeldSlot>, new: &[Slot], closed: &[String]) -> Result<(), RoomError> {
        let stays = |mid: &String| !closed.contains(mid) && !new.iter().any(|slot| slot.mid == *mid);
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let open = held.iter().filter(|(mid, held)| held.is_open && held.slot.kind == kind && stays(mid));
            let count = open.count() + new.iter().filter(|slot| slot.kind == kind).count();
            if count > self.limits.slots_per_kind {
                return Err(RoomError::TooManySlots { kind, limit: self.limits.slots_per_kind });
            }
        }
        let ssrcs = |slot: &Slot| [Some(slot.ssrc), slot.rtx_ssrc].into_iter().flatten();
        let mut mids = BTreeSet::new();
        let mut used: BTreeSet<u32> = held.values().flat_map(|held| ssrcs(&held.slot)).collect();
        for slot in new {
            if !mids.insert(&slot.mid) {
                return Err(RoomError::GivenTwice);
            }
            let is_same = held.get(&slot.mid).is_some_and(|held| is_same_slot(&held.slot, slot));
            if !is_same && !ssrcs(slot).all(|ssrc| used.insert(ssrc)) {
                return Err(RoomError::GivenTwice);
            }
        }
        Ok(())
    }

    pub(super) fn set_liveness(&mut self, id: TransportId, liveness: Liveness) -> Result<Event, RoomError> {
        let session = self.sessions.get_mut(&id).ok_or(RoomError::UnknownTransport { transport: id })?;
        if let Some(deadline) = session.liveness.deadline() {
            self.deadlines.remove(&(deadline, Due::Transport(id)));
        }
        if let Some(deadline) = liveness.deadline() {
            self.deadlines.insert((deadline, Due::Transport(id)));
        }
        session.liveness = liveness;
        let participant = session.participant().cloned();
        Ok(Event { kind: EventKind::Joined, room: session.room.clone(), participant, transport: id })
    }

    fn liveness(&self, id: TransportId) -> Result<Liveness, RoomError> {
        self.sessions.get(&id).map(|held| held.liveness).ok_or(RoomError::UnknownTransport { transport: id })
    }

    /// Tells the room and the participant itself, and notes the record.
    fn told(&mut self, id: TransportId, own: Option<TransportState>, out: &mut Outcome) {
        self.touch(id, out);
        let Some(member) = self.member_of(id) else { return };
        self.tell_state(&member, out);
        if let Some(state) = own {
            self.tell_transport(&member, state, out);
        }
    }

    pub(super) fn secured(&mut self, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        self.liveness(id)?;
        if let Some(member) = self.member_of(id) {
            self.tell_transport(&member, TransportState::Secured, out);
        }
        Ok(())
    }

    pub(super) fn validated(&mut self, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        if matches!(self.liveness(id)?, Liveness::Pending { .. }) {
            out.events.push(self.set_liveness(id, Liveness::Live)?);
            self.told(id, None, out);
        }
        Ok(())
    }

    pub(super) fn consent_lost(&mut self, now: Instant, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        // A transport that was never validated has no consent to lose: its own deadline stands.
        if self.liveness(id)? == Liveness::Live {
            let event = self.set_liveness(id, Liveness::Lost { deadline: now + self.limits.lost_timeout })?;
            out.events.push(Event { kind: EventKind::ConsentLost, ..event });
            self.told(id, Some(TransportState::Lost), out);
        }
        Ok(())
    }

    pub(super) fn consent_back(&mut self, id: TransportId, out: &mut Outcome) -> Result<(), RoomError> {
        if matches!(self.liveness(id)?, Liveness::Lost { .. }) {
            let event = self.set_liveness(id, Liveness::Live)?;
            out.events.push(Event { kind: EventKind::ConsentBack, ..event });
            self.told(id, Some(TransportState::Back), out);
        }
        Ok(())
    }

    pub(super) fn expire_transport(&mut self, id: TransportId, out: &mut Outcome) {
        let reason = match self.liveness(id) {
            Ok(Liveness::Pending { .. }) => LeaveReason::NeverValidated,
            Ok(Liveness::Live | Liveness::Lost { .. }) | Err(_) => LeaveReason::ConsentLost,
        };
        // An unknown transport has no deadline (its end takes it along), so there is nothing to report.
        let _ = self.leave(id, reason, out);
    }

    pub(super) fn leave(&mut self, id: TransportId, reason: LeaveReason, out: &mut Outcome) -> Result<(), RoomError> {
        self.liveness(id)?;
        let Some(member) = self.member_of(id) else {
            self.end_session(id, reason, out);
            return Ok(());
        };
        if self.participant(&member)?.attendance == Attendance::ByTransport {
            self.remove_participant(&member, departure(reason), reason, out);
            return Ok(());
        }
        self.end_transport_of(&member, reason, out);
        self.tell_state(&member, out);
        self.tell_transport(&member, TransportState::Failed { message: failure(reason) }, out);
        Ok(())
    }

    /// Takes a transport out: who receives from it, its own subscriptions, its tracks, then itself.
    pub(super) fn end_session(&mut self, id: TransportId, reason: LeaveReason, out: &mut Outcome) {
        self.touch(id, out);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(deadline) = session.liveness.deadline() {
            self.deadlines.remove(&(deadline, Due::Transport(id)));
        }
        let (room, participant) = (session.room.clone(), session.participant().cloned());
        match &mut session.role {
            Role::Participant { tracks, viewers, .. } => {
                let (viewers, tracks) = (std::mem::take(viewers), tracks.iter().map(|track| track.spec.id).collect());
                self.end_published(viewers, tracks, id, out);
                self.remove_slots(id, out);
            }
            Role::Viewer { publisher, .. } => {
                let publisher = publisher.take();
                self.end_viewing(id, publisher, out);
            }
        }
        self.sessions.remove(&id);
        out.commands.push(Command::RemoveTransport { transport: id });
        self.unseat(&room, participant.as_ref(), id);
        out.events.push(Event { kind: EventKind::Left(reason), room, participant, transport: id });
    }

    /// A transport leaves its place in its room, and the room if nobody is left in it.
    fn unseat(&mut self, room: &RoomName, participant: Option<&crate::ParticipantId>, id: TransportId) {
        let Some(held) = self.rooms.get_mut(room) else { return };
        held.viewers.remove(&id);
        if let Some(held) = participant.and_then(|participant| held.participants.get_mut(participant)) {
            held.transport = held.transport.filter(|transport| *transport != id);
        }
        self.leave_room_if_empty(room);
    }

    /// Ends what viewers and slots receive of a transport, then its tracks.
    fn end_published(
        &mut self,
        viewers: BTreeSet<TransportId>,
        tracks: Vec<crate::TrackId>,
        id: TransportId,
        out: &mut Outcome,
    ) {
        for viewer in viewers {
            self.end_watching(viewer, out);
        }
        for track in tracks {
            self.end_track(id, track, out);
        }
    }
}

/// Whether two answers mean one slot: what is known of it on the wire is the same.
fn is_same_slot(one: &Slot, other: &Slot) -> bool {
    (one.kind, one.ssrc, one.rtx_ssrc) == (other.kind, other.ssrc, other.rtx_ssrc)
}

/// Why a participant without a WebSocket goes with its transport.
fn departure(reason: LeaveReason) -> Departure {
    match reason {
        LeaveReason::Asked | LeaveReason::Renewed | LeaveReason::ParticipantGone => Departure::Left,
        LeaveReason::NeverValidated | LeaveReason::ConsentLost | LeaveReason::NotResumed => Departure::Lost,
        LeaveReason::Replaced => Departure::Replaced,
        LeaveReason::HandshakeFailed | LeaveReason::TableFull => Departure::Removed,
    }
}

/// Why a participant has to offer again.
fn failure(reason: LeaveReason) -> &'static str {
    match reason {
        LeaveReason::NeverValidated => "no connectivity check came in time",
        LeaveReason::ConsentLost => "connectivity checks ceased",
        LeaveReason::HandshakeFailed => "the DTLS handshake failed",
        LeaveReason::TableFull => "the server is full",
        LeaveReason::NotResumed => "the server restarted before the connection was secured",
        LeaveReason::Asked | LeaveReason::Replaced | LeaveReason::Renewed | LeaveReason::ParticipantGone => {
            "the transport was ended"
        }
    }
}
