// SPDX-License-Identifier: Apache-2.0
//! A participant's view of its room, kept as a client keeps it: one snapshot, then nothing but notices.

use std::collections::BTreeMap;

use controlplane_room::{
    Audience, Conference, Member, Notice, Outcome, ParticipantId, ParticipantView, TransportState,
};

/// What one client knows.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) member: Member,
    others: BTreeMap<ParticipantId, ParticipantView>,
    /// What it was told about its own transport, in order.
    pub(crate) transport: Vec<TransportState>,
}

impl Client {
    /// As `joined` finds it.
    pub(crate) fn new(conference: &Conference, member: &Member) -> Self {
        let snapshot = conference.snapshot(member).expect("is in the room");
        let others = snapshot.participants.into_iter().map(|view| (view.id.clone(), view)).collect();
        Self { member: member.clone(), others, transport: Vec::new() }
    }

    /// Takes what is meant for it.
    pub(crate) fn take(&mut self, outcome: &Outcome) {
        for (audience, notice) in &outcome.notices {
            let is_meant = match audience {
                Audience::Room { room, except } => *room == self.member.room && *except != self.member.participant,
                Audience::Participant(member) => *member == self.member,
            };
            if is_meant {
                self.apply(notice);
            }
        }
    }

    fn apply(&mut self, notice: &Notice) {
        match notice {
            Notice::ParticipantJoined { participant } => {
                assert!(self.others.insert(participant.id.clone(), participant.clone()).is_none(), "came twice");
            }
            Notice::ParticipantLeft { participant, .. } => {
                assert!(self.others.remove(participant).is_some(), "went without having come");
            }
            Notice::ParticipantState { participant, state } => {
                let held = self.known(participant);
                assert_ne!(held.state, *state, "told what is known");
                held.state = *state;
            }
            Notice::TrackPublished { participant, track } => {
                let tracks = &mut self.known(participant).tracks;
                assert!(tracks.iter().all(|held| held.id != track.id), "published twice");
                tracks.push(*track);
            }
            Notice::TrackUnpublished { participant, track } => {
                let tracks = &mut self.known(participant).tracks;
                let at = tracks.iter().position(|held| held.id == *track).expect("was published");
                tracks.remove(at);
            }
            Notice::TrackMuted { participant, track, muted } => {
                let tracks = &mut self.known(participant).tracks;
                let held = tracks.iter_mut().find(|held| held.id == *track).expect("is published");
                assert_ne!(held.muted, *muted, "told what is known");
                held.muted = *muted;
            }
            Notice::Transport { state } => self.transport.push(state.clone()),
        }
    }

    fn known(&mut self, id: &ParticipantId) -> &mut ParticipantView {
        self.others.get_mut(id).expect("is known")
    }

    /// Whether it knows the room as it is.
    pub(crate) fn assert_knows(&self, conference: &Conference) {
        let snapshot = conference.snapshot(&self.member).expect("is in the room");
        assert_eq!(self.others.values().cloned().collect::<Vec<_>>(), snapshot.participants);
    }
}
