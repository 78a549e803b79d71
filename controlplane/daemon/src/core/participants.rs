// SPDX-License-Identifier: Apache-2.0
//! Participants over a WebSocket: they join, resume, choose what they see, mute, leave; and they are told.
//!
//! Every request gets one reply, into the same outbox as the events, so that both come in the order in which they happened.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

use controlplane_room::{
    Audience, Command, Departure, Input, Member, Notice, Outcome, RecordKey, RoomError, SlotWish, SubscriptionId,
    TrackId,
};
use controlplane_signaling::{
    Ask, CloseCode, ConnectionId, Entry, ErrorCode, Joined, LimitsView, MAX_MESSAGE_LEN, Outbox, OwnTrack, Refused,
    RefusedSlot, ResumeToken, Rights, ServerMessage, SlotState, TransportHeld,
};
use zeroize::Zeroizing;

use super::presence::{Link, Presence, ResumeHash};
use super::{Core, wire};
use crate::entropy::{self, NoEntropy};
use crate::plane::DataPlane;

/// Longest display name, as `joined` says it.
const NAME_BYTES: usize = 64;
/// Program and version, as `joined` says it.
const SERVER: &str = concat!("millrace ", env!("CARGO_PKG_VERSION"));

/// Who asks.
#[derive(Debug)]
pub(super) struct Asker {
    pub(super) connection: ConnectionId,
    pub(super) peer: IpAddr,
    pub(super) outbox: Outbox,
}

impl<P: DataPlane> Core<P> {
    /// Answers one request of a WebSocket.
    pub(super) fn on_ask(&mut self, now: Instant, asker: Asker, id: u64, ask: Ask) {
        let outbox = asker.outbox.clone();
        let answered = match (self.member_by_connection.get(&asker.connection).cloned(), ask) {
            (None, Ask::Join(entry)) => self.join(now, asker, id, entry),
            (None, Ask::Resume(token)) => self.resume(now, asker, id, &token),
            (Some(_), Ask::Join(_) | Ask::Resume(_)) => {
                Err(Refused::new(ErrorCode::AlreadyJoined, "this connection has joined already"))
            }
            (None, Ask::Offer(_) | Ask::Subscribe(_) | Ask::Mute { .. } | Ask::Leave) => {
                Err(Refused::new(ErrorCode::NotJoined, "join first"))
            }
            (Some(member), Ask::Offer(offer)) => self.offer(now, &member, asker.peer, id, &offer),
            (Some(member), Ask::Subscribe(slots)) => self.subscribe(now, &member, id, slots),
            (Some(member), Ask::Mute { track, muted }) => self.mute(now, &member, id, (track, muted)),
            (Some(member), Ask::Leave) => self.leave_room(now, &member, id),
        };
        if let Err(refused) = answered {
            if let Some(suppressed) = self.log.admit(now, "refused") {
                tracing::info!(code = ?refused.code, field = refused.field.as_deref(), suppressed, "request refused");
            }
            // Who does not take it is closed by its own task.
            let _ = outbox.reply(&ServerMessage::error(Some(id), refused));
        }
    }

    /// A WebSocket has gone: its participant is away, unless another one has taken its place.
    pub(super) fn on_disconnected(&mut self, now: Instant, connection: ConnectionId) {
        let Some(member) = self.member_by_connection.remove(&connection) else { return };
        if self.presences.unlink(&member, connection) {
            self.feed(now, Input::Away { member });
        }
    }

    fn join(&mut self, now: Instant, asker: Asker, id: u64, entry: Entry) -> Result<(), Refused> {
        let token = new_token()?;
        let Entry { room, name, rights } = entry;
        let outcome = self.conference.handle(now, Input::Join { room, name });
        let outcome = outcome.map_err(|error| wire::room_refusal(&error))?;
        let full = || Refused::new(ErrorCode::ServerFull, "the participant could not be made");
        let member = outcome.member.clone().ok_or_else(full)?;
        let link = Link { connection: asker.connection, outbox: asker.outbox };
        let presence = Presence { rights, resume: ResumeHash::of(&token), link: Some(link.clone()) };
        self.presences.insert(&member, presence);
        self.member_by_connection.insert(asker.connection, member.clone());
        self.welcome(&member, &link, id, (&token, false));
        self.complete(now, outcome);
        Ok(())
    }

    fn resume(&mut self, now: Instant, asker: Asker, id: u64, token: &ResumeToken) -> Result<(), Refused> {
        let unknown = || Refused::new(ErrorCode::ResumeUnknown, "there is nothing to resume; join anew").at("resume");
        let member = self.presences.find(token).ok_or_else(unknown)?;
        let token = new_token()?;
        let outcome = self.conference.handle(now, Input::Connected { member: member.clone() });
        let mut outcome = outcome.map_err(|_| unknown())?;
        let link = Link { connection: asker.connection, outbox: asker.outbox };
        if let Some(before) = self.presences.relink(&member, ResumeHash::of(&token), link.clone()) {
            self.member_by_connection.remove(&before.connection);
            before.outbox.close(CloseCode::Replaced);
        }
        self.member_by_connection.insert(link.connection, member.clone());
        self.welcome(&member, &link, id, (&token, true));
        // The token is another one.
        outcome.changed.insert(RecordKey::Participant(member));
        self.complete(now, outcome);
        Ok(())
    }

    /// Sends `joined`. What is told after it belongs to a room that the client knows.
    fn welcome(&self, member: &Member, link: &Link, id: u64, (token, resumed): (&ResumeToken, bool)) {
        let others = self.conference.snapshot(member).unwrap_or_default().participants;
        let is_kept = resumed && self.conference.transport_of(member).is_some();
        let slots = self.conference.slots(member).into_iter();
        let slots = slots.map(|slot| SlotState { mid: slot.mid, track: slot.track });
        let joined = Joined {
            id,
            room: member.room.to_string(),
            own: member.participant.to_string(),
            resume: token.to_hex(),
            resume_ttl_s: self.limits.resume_ttl.as_secs(),
            resumed,
            transport: if is_kept { TransportHeld::Kept } else { TransportHeld::None },
            slots: is_kept.then(|| slots.collect()),
            tracks: is_kept.then(|| self.own_tracks(member)),
            participants: others.into_iter().map(wire::participant_view).collect(),
            limits: LimitsView {
                message_bytes: MAX_MESSAGE_LEN,
                slots_per_kind: self.limits.slots_per_kind,
                tracks: self.limits.tracks_per_participant,
                name_bytes: NAME_BYTES,
            },
            server: SERVER.to_owned(),
        };
        // Who does not take it is closed by its own task, and is away then.
        let _ = link.outbox.welcome(&ServerMessage::Joined(Box::new(joined)));
    }

    /// What a participant publishes, by its own sections.
    pub(super) fn own_tracks(&self, member: &Member) -> Vec<OwnTrack> {
        let tracks = self.conference.own_tracks(member).into_iter();
        tracks.map(|(mid, track)| OwnTrack { mid, track }).collect()
    }

    pub(super) fn rights(&self, member: &Member) -> Option<Rights> {
        self.presences.get(member).map(|presence| presence.rights)
    }

    /// Puts a reply into the outbox of whoever asked.
    pub(super) fn reply(&self, member: &Member, message: &ServerMessage) {
        self.presences.tell(member, message.encode());
    }

    fn subscribe(
        &mut self,
        now: Instant,
        member: &Member,
        id: u64,
        slots: Vec<controlplane_signaling::SlotWish>,
    ) -> Result<(), Refused> {
        if !self.rights(member).is_some_and(|rights| rights.subscribe) {
            return Err(Refused::new(ErrorCode::Forbidden, "the token does not grant \"subscribe\""));
        }
        let wish = |slot: controlplane_signaling::SlotWish| SlotWish {
            mid: slot.mid,
            track: slot.track,
            max_height: slot.max_height.map(u32::from),
        };
        let wishes = slots.into_iter().map(wish).collect();
        let outcome = self.conference.handle(now, Input::Subscribe { member: member.clone(), wishes });
        let mut outcome = outcome.map_err(|error| wire::room_refusal(&error))?;
        let (mut served, mut refused) = wire::slot_answers(std::mem::take(&mut outcome.slots));
        let full = self.program_each(std::mem::take(&mut outcome.commands));
        self.complete(now, outcome);
        for (subscription, mid) in full {
            self.feed(now, Input::NotProgrammed { id: subscription });
            served.retain(|slot| slot.mid != mid);
            let message = "the table of subscriptions is full".to_owned();
            refused.push(RefusedSlot { mid, code: ErrorCode::ServerFull, message });
        }
        self.reply(member, &ServerMessage::Subscribed { id, slots: served, refused });
        Ok(())
    }

    /// Programs what can be; gives the subscriptions that did not fit, with their slots.
    fn program_each(&mut self, commands: Vec<Command>) -> Vec<(SubscriptionId, String)> {
        let mut full = Vec::new();
        for command in commands {
            let mut adds = None;
            if let Command::AddSubscription { id, spec, .. } = &command {
                adds = Some((*id, spec.mid.clone()));
            }
            if self.plane.apply(command).is_err() {
                full.extend(adds);
            }
        }
        full
    }

    fn mute(&mut self, now: Instant, member: &Member, id: u64, (track, muted): (TrackId, bool)) -> Result<(), Refused> {
        let outcome = self.conference.handle(now, Input::Mute { member: member.clone(), track, muted });
        let outcome = outcome.map_err(|error: RoomError| wire::room_refusal(&error))?;
        self.reply(member, &ServerMessage::Ok { id });
        self.complete(now, outcome);
        Ok(())
    }

    fn leave_room(&mut self, now: Instant, member: &Member, id: u64) -> Result<(), Refused> {
        let input = Input::LeaveParticipant { member: member.clone(), reason: Departure::Left };
        let outcome = self.conference.handle(now, input).map_err(|error| wire::room_refusal(&error))?;
        if let Some(presence) = self.presences.remove(member)
            && let Some(link) = presence.link
        {
            self.member_by_connection.remove(&link.connection);
            let _ = link.outbox.reply(&ServerMessage::Left { id });
            link.outbox.close(CloseCode::Left);
        }
        self.complete(now, outcome);
        Ok(())
    }

    /// Carries an outcome out whose commands only remove.
    fn complete(&mut self, now: Instant, outcome: Outcome) {
        if let Err(full) = self.carry_out(now, outcome) {
            tracing::error!("the data plane refused a removal: {full}");
        }
    }

    /// Tells participants what has happened.
    pub(super) fn announce(&self, audience: &Audience, notice: Notice) {
        let text = wire::event(notice).encode();
        match audience {
            Audience::Room { room, except } => self.presences.tell_room(room, except, &text),
            Audience::Participant(member) => self.presences.tell(member, text),
        }
    }

    /// Forgets participants that are gone, and closes the WebSocket that one may still have.
    pub(super) fn settle(&mut self, changed: &BTreeSet<RecordKey>) {
        for key in changed {
            if let RecordKey::Participant(member) = key
                && self.conference.snapshot(member).is_none()
                && let Some(link) = self.presences.remove(member).and_then(|presence| presence.link)
            {
                self.member_by_connection.remove(&link.connection);
                link.outbox.close(CloseCode::Removed);
            }
        }
    }
}

fn new_token() -> Result<ResumeToken, Refused> {
    let bytes = entropy::bytes().map_err(|error: NoEntropy| Refused::new(ErrorCode::ServerFull, error.to_string()))?;
    Ok(ResumeToken(Zeroizing::new(bytes)))
}
