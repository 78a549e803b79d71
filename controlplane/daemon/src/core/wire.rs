// SPDX-License-Identifier: Apache-2.0
//! Between the conference's words and the WebSocket's: plain translation, no decisions.

use controlplane_room::{
    Departure, MediaKind, Notice, ParticipantState, ParticipantView, RoomError, SlotAnswer, Source, TrackView,
    TransportState,
};
use controlplane_sdp as sdp;
use controlplane_signaling as wire;
use controlplane_signaling::{ErrorCode, Refused, ServerMessage};

use crate::negotiation;

/// The event of a notice.
pub(super) fn event(notice: Notice) -> ServerMessage {
    match notice {
        Notice::ParticipantJoined { participant } => {
            ServerMessage::ParticipantJoined { participant: participant_view(participant) }
        }
        Notice::ParticipantLeft { participant, reason } => {
            ServerMessage::ParticipantLeft { participant: participant.to_string(), reason: left_reason(reason) }
        }
        Notice::ParticipantState { participant, state } => {
            ServerMessage::ParticipantState { participant: participant.to_string(), state: participant_state(state) }
        }
        Notice::TrackPublished { participant, track } => {
            ServerMessage::TrackPublished { participant: participant.to_string(), track: track_view(track) }
        }
        Notice::TrackUnpublished { participant, track } => {
            ServerMessage::TrackUnpublished { participant: participant.to_string(), track }
        }
        Notice::TrackMuted { participant, track, muted } => {
            ServerMessage::TrackMuted { participant: participant.to_string(), track, muted }
        }
        Notice::Transport { state } => {
            let (state, message) = match state {
                TransportState::Secured => (wire::TransportState::Secured, None),
                TransportState::Lost => (wire::TransportState::Lost, None),
                TransportState::Back => (wire::TransportState::Back, None),
                TransportState::Failed { message } => (wire::TransportState::Failed, Some(message.to_owned())),
            };
            ServerMessage::Transport { state, message }
        }
    }
}

/// A participant.
pub(super) fn participant_view(from: ParticipantView) -> wire::ParticipantView {
    wire::ParticipantView {
        id: from.id.to_string(),
        name: from.name.to_string(),
        state: participant_state(from.state),
        tracks: from.tracks.into_iter().map(track_view).collect(),
    }
}

fn track_view(from: TrackView) -> wire::TrackView {
    wire::TrackView { id: from.id, kind: kind(from.kind), source: wire_source(from.source), muted: from.muted }
}

fn participant_state(state: ParticipantState) -> wire::ParticipantState {
    match state {
        ParticipantState::Joining => wire::ParticipantState::Joining,
        ParticipantState::Live => wire::ParticipantState::Live,
        ParticipantState::Lost => wire::ParticipantState::Lost,
    }
}

fn left_reason(reason: Departure) -> wire::LeftReason {
    match reason {
        Departure::Left => wire::LeftReason::Left,
        Departure::Lost => wire::LeftReason::Lost,
        Departure::Replaced => wire::LeftReason::Replaced,
        Departure::Removed => wire::LeftReason::Removed,
    }
}

/// Audio or video.
pub(super) fn kind(kind: MediaKind) -> wire::Kind {
    match kind {
        MediaKind::Audio => wire::Kind::Audio,
        MediaKind::Video => wire::Kind::Video,
    }
}

fn wire_source(source: Source) -> wire::Source {
    match source {
        Source::Camera => wire::Source::Camera,
        Source::Microphone => wire::Source::Microphone,
        Source::Screen => wire::Source::Screen,
        Source::ScreenAudio => wire::Source::ScreenAudio,
    }
}

/// What a section says that it sends.
pub(super) fn source(source: wire::Source) -> Source {
    match source {
        wire::Source::Camera => Source::Camera,
        wire::Source::Microphone => Source::Microphone,
        wire::Source::Screen => Source::Screen,
        wire::Source::ScreenAudio => Source::ScreenAudio,
    }
}

/// What became of the wishes: the slots that were served, and those that were not.
pub(super) fn slot_answers(answers: Vec<SlotAnswer>) -> (Vec<wire::SlotState>, Vec<wire::RefusedSlot>) {
    let (mut served, mut refused) = (Vec::new(), Vec::new());
    for SlotAnswer { mid, shown } in answers {
        match shown {
            Ok(track) => served.push(wire::SlotState { mid, track }),
            Err(error) => {
                let Refused { code, message, .. } = room_refusal(&error);
                refused.push(wire::RefusedSlot { mid, code, message });
            }
        }
    }
    (served, refused)
}

/// A refusal of the conference.
pub(super) fn room_refusal(error: &RoomError) -> Refused {
    let (code, field) = match error {
        RoomError::NameTaken { .. } => (ErrorCode::BadName, Some("name")),
        RoomError::TooManyParticipants { .. } | RoomError::TooManyViewers { .. } => (ErrorCode::RoomFull, Some("room")),
        RoomError::TooManyTracks { .. } => (ErrorCode::TooManyTracks, None),
        RoomError::TooManySlots { .. } => (ErrorCode::TooManySlots, None),
        RoomError::NoTransport => (ErrorCode::RestartNeeded, Some("restart")),
        RoomError::UnknownMid { .. } => (ErrorCode::UnknownMid, None),
        RoomError::UnknownTrack { .. } => (ErrorCode::UnknownTrack, Some("track")),
        RoomError::NotCompatible { .. } => (ErrorCode::NotCompatible, None),
        RoomError::UnknownParticipant { .. } => (ErrorCode::NotJoined, None),
        RoomError::TooManyRooms { .. }
        | RoomError::ParticipantNotPublished { .. }
        | RoomError::RoomNotPublished { .. }
        | RoomError::UnknownTransport { .. }
        | RoomError::TransportExists { .. }
        | RoomError::ForeignTrack
        | RoomError::GivenTwice => (ErrorCode::ServerFull, None),
    };
    let refused = Refused::new(code, error.to_string());
    match field {
        Some(field) => refused.at(field),
        None => refused,
    }
}

/// A refusal of an offer.
pub(super) fn offer_refusal(error: &sdp::ParticipantError) -> Refused {
    match error {
        sdp::ParticipantError::Offer(error) => negotiation::sdp_problem(error).into(),
        sdp::ParticipantError::RestartNeeded(_) => {
            Refused::new(ErrorCode::RestartNeeded, error.to_string()).at("restart")
        }
        sdp::ParticipantError::TooManySlots { .. } => Refused::new(ErrorCode::TooManySlots, error.to_string()),
        sdp::ParticipantError::TooManyTracks { .. } => Refused::new(ErrorCode::TooManyTracks, error.to_string()),
    }
}
