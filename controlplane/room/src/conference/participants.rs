// SPDX-License-Identifier: Apache-2.0
//! Participants: who comes, is away, comes back, goes.

use std::time::Instant;

use super::{Attendance, Conference, Due, HeldTrack, Liveness, Participant, Role, tell_room};
use crate::{
    Audience, Departure, DisplayName, LeaveReason, Member, Notice, Outcome, ParticipantId, ParticipantState, RecordKey,
    RoomError, RoomName, TrackId, TransportState,
};

impl Conference {
    pub(super) fn join(&mut self, room: &RoomName, name: DisplayName, out: &mut Outcome) -> Result<(), RoomError> {
        self.admit_participant(room)?;
        let participant = self.free_id(room, &name);
        let member = Member { room: room.clone(), participant };
        self.enter(&member, name, Attendance::Connected, None);
        self.tell_joined(&member, out);
        out.changed.insert(RecordKey::Participant(member.clone()));
        out.member = Some(member);
        Ok(())
    }

    /// The id made of a name, with the lowest number that makes it free.
    fn free_id(&self, room: &RoomName, name: &DisplayName) -> ParticipantId {
        let id = name.participant_id();
        let Some(held) = self.rooms.get(room) else { return id };
        // One number more than there are participants is always free.
        let numbers = 1..=held.participants.len() + 1;
        let mut ids = numbers.map(|number| id.numbered(number));
        ids.find(|id| !held.participants.contains_key(id)).unwrap_or(id)
    }

    /// Makes a participant; its room is made if it is not there.
    pub(super) fn enter(
        &mut self,
        member: &Member,
        name: DisplayName,
        attendance: Attendance,
        transport: Option<crate::TransportId>,
    ) {
        let held = Participant { name, attendance, transport, state: ParticipantState::Joining };
        self.room_entry(&member.room).participants.insert(member.participant.clone(), held);
    }

    /// Tells the room of somebody who came, with what it publishes.
    pub(super) fn tell_joined(&self, member: &Member, out: &mut Outcome) {
        let Ok(held) = self.participant(member) else { return };
        let participant = self.view(&member.participant, held);
        tell_room(member, Notice::ParticipantJoined { participant }, out);
    }

    pub(super) fn connected(&mut self, member: &Member, out: &mut Outcome) -> Result<(), RoomError> {
        let held = self.participant_mut(member)?;
        let Attendance::Away { due, .. } = held.attendance else { return Ok(()) };
        held.attendance = Attendance::Connected;
        self.deadlines.remove(&(due, Due::Participant(member.clone())));
        self.tell_state(member, out);
        Ok(())
    }

    pub(super) fn away(&mut self, now: Instant, member: &Member) -> Result<(), RoomError> {
        let limits = self.limits;
        let held = self.participant_mut(member)?;
        if held.attendance != Attendance::Connected {
            return Ok(());
        }
        let gone = now + limits.resume_ttl;
        let due = (now + limits.away_grace).min(gone);
        held.attendance = Attendance::Away { gone, told: false, due };
        self.deadlines.insert((due, Due::Participant(member.clone())));
        Ok(())
    }

    /// A deadline of somebody who is away: first the room is told, then it is over.
    pub(super) fn expire_participant(&mut self, member: &Member, out: &mut Outcome) {
        let Ok(held) = self.participant_mut(member) else { return };
        let Attendance::Away { gone, told, due } = held.attendance else { return };
        if told || due >= gone {
            self.remove_participant(member, Departure::Lost, LeaveReason::ParticipantGone, out);
            return;
        }
        held.attendance = Attendance::Away { gone, told: true, due: gone };
        self.deadlines.insert((gone, Due::Participant(member.clone())));
        self.tell_state(member, out);
    }

    pub(super) fn leave_participant(
        &mut self,
        member: &Member,
        reason: Departure,
        out: &mut Outcome,
    ) -> Result<(), RoomError> {
        self.participant(member)?;
        self.remove_participant(member, reason, LeaveReason::ParticipantGone, out);
        Ok(())
    }

    /// Takes a participant out with all that is its own, then its empty room.
    pub(super) fn remove_participant(
        &mut self,
        member: &Member,
        departure: Departure,
        reason: LeaveReason,
        out: &mut Outcome,
    ) {
        if let Some(transport) = self.transport_of(member) {
            self.end_session(transport, reason, out);
        }
        let Some(room) = self.rooms.get_mut(&member.room) else { return };
        let Some(held) = room.participants.remove(&member.participant) else { return };
        if let Attendance::Away { due, .. } = held.attendance {
            self.deadlines.remove(&(due, Due::Participant(member.clone())));
        }
        let participant = member.participant.clone();
        tell_room(member, Notice::ParticipantLeft { participant, reason: departure }, out);
        out.changed.insert(RecordKey::Participant(member.clone()));
        self.leave_room_if_empty(&member.room);
    }

    /// Ends the transport of a participant that stays; the room is told which tracks went with it.
    pub(super) fn end_transport_of(&mut self, member: &Member, reason: LeaveReason, out: &mut Outcome) {
        let Some(transport) = self.transport_of(member) else { return };
        let tracks = self.own_tracks(member);
        self.end_session(transport, reason, out);
        for (_, track) in tracks {
            tell_room(member, Notice::TrackUnpublished { participant: member.participant.clone(), track }, out);
        }
        out.changed.insert(RecordKey::Participant(member.clone()));
    }

    /// Tells the room what a participant's state has become, if it is another than it was told last.
    pub(super) fn tell_state(&mut self, member: &Member, out: &mut Outcome) {
        let Ok(held) = self.participant(member) else { return };
        let state = self.state_of(held);
        if held.state == state {
            return;
        }
        if let Ok(held) = self.participant_mut(member) {
            held.state = state;
        }
        tell_room(member, Notice::ParticipantState { participant: member.participant.clone(), state }, out);
    }

    pub(super) fn state_of(&self, held: &Participant) -> ParticipantState {
        if matches!(held.attendance, Attendance::Away { told: true, .. }) {
            return ParticipantState::Lost;
        }
        match held.transport.and_then(|id| self.sessions.get(&id)).map(|session| session.liveness) {
            Some(Liveness::Lost { .. }) => ParticipantState::Lost,
            Some(Liveness::Live) => ParticipantState::Live,
            Some(Liveness::Pending { .. }) | None => ParticipantState::Joining,
        }
    }

    pub(super) fn mute(
        &mut self,
        member: &Member,
        track: TrackId,
        muted: bool,
        out: &mut Outcome,
    ) -> Result<(), RoomError> {
        let transport = self.participant(member)?.transport;
        let session = transport.and_then(|id| self.sessions.get_mut(&id)).map(|session| &mut session.role);
        let Some(Role::Participant { tracks, .. }) = session else { return Err(RoomError::UnknownTrack { track }) };
        let own = |held: &&mut HeldTrack| held.spec.id == track;
        let held = tracks.iter_mut().find(own).ok_or(RoomError::UnknownTrack { track })?;
        if held.muted != muted {
            held.muted = muted;
            tell_room(member, Notice::TrackMuted { participant: member.participant.clone(), track, muted }, out);
            out.changed.insert(RecordKey::Participant(member.clone()));
        }
        Ok(())
    }

    /// Tells a participant what becomes of its own transport. Nobody listens for a WHIP publisher.
    pub(super) fn tell_transport(&self, member: &Member, state: TransportState, out: &mut Outcome) {
        if self.participant(member).is_ok_and(|held| held.attendance != Attendance::ByTransport) {
            out.notices.push((Audience::Participant(member.clone()), Notice::Transport { state }));
        }
    }
}
