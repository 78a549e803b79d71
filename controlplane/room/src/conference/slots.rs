// SPDX-License-Identifier: Apache-2.0
//! Slots and subscriptions: who is shown where.
//!
//! A slot becomes a subscription of the data plane when it first shows something, and stays one until its transport ends: its
//! SSRC is spent with its first packet.

use super::{Conference, HeldSlot, Role, Session};
use crate::compatible::{codec_for, max_encoding};
use crate::{
    Command, Event, EventKind, Member, Outcome, RecordKey, RoomError, Shown, SlotAnswer, SlotWish, SubscriptionId,
    SubscriptionSpec, TrackId, TrackSpec, TransportId,
};

impl Conference {
    pub(super) fn subscribe(
        &mut self,
        member: &Member,
        wishes: Vec<SlotWish>,
        out: &mut Outcome,
    ) -> Result<(), RoomError> {
        let transport = self.participant(member)?.transport;
        for wish in wishes {
            let unknown = || RoomError::UnknownMid { mid: wish.mid.clone() };
            let shown = transport.ok_or_else(unknown).and_then(|id| self.grant(id, &wish, out));
            out.slots.push(SlotAnswer { mid: wish.mid, shown });
        }
        Ok(())
    }

    /// Grants one wish or changes nothing.
    fn grant(&mut self, id: TransportId, wish: &SlotWish, out: &mut Outcome) -> Result<Option<TrackId>, RoomError> {
        let held = self.slot(id, &wish.mid).filter(|held| held.is_open);
        let held = held.ok_or_else(|| RoomError::UnknownMid { mid: wish.mid.clone() })?;
        let Some(track) = wish.track else {
            self.empty_slot(id, &wish.mid, out);
            return Ok(None);
        };
        let spec = self.track_for(id, track).ok_or(RoomError::UnknownTrack { track })?;
        let codec = codec_for(&held.slot, spec);
        let codec = codec.map_err(|why| RoomError::NotCompatible { mid: wish.mid.clone(), why })?;
        let shown = Shown { track, codec, max_encoding: max_encoding(spec.encodings.len(), wish.max_height) };
        if held.shown == Some((track, shown.max_encoding)) {
            return Ok(Some(track));
        }
        if let Some(other) = self.slot_showing(id, track).filter(|mid| *mid != wish.mid) {
            self.empty_slot(id, &other, out);
        }
        self.fill_slot(id, &wish.mid, shown, out);
        Ok(Some(track))
    }

    fn slot(&self, id: TransportId, mid: &str) -> Option<&HeldSlot> {
        match &self.sessions.get(&id)?.role {
            Role::Participant { slots, .. } => slots.get(mid),
            Role::Viewer { .. } => None,
        }
    }

    pub(super) fn slot_mut(&mut self, id: TransportId, mid: &str) -> Option<&mut HeldSlot> {
        match &mut self.sessions.get_mut(&id)?.role {
            Role::Participant { slots, .. } => slots.get_mut(mid),
            Role::Viewer { .. } => None,
        }
    }

    /// A track of somebody else in the room of `id`.
    fn track_for(&self, id: TransportId, track: TrackId) -> Option<&TrackSpec> {
        let owner = *self.tracks.get(&track).filter(|owner| **owner != id)?;
        let (owner, own) = (self.sessions.get(&owner)?, self.sessions.get(&id)?);
        let found = owner.tracks().iter().find(|held| held.spec.id == track).filter(|_| owner.room == own.room)?;
        Some(&found.spec)
    }

    /// The slot of `id` that shows a track. One track has few receivers of one transport: one.
    fn slot_showing(&self, id: TransportId, track: TrackId) -> Option<String> {
        let Role::Participant { slots, .. } = &self.sessions.get(&id)?.role else { return None };
        let found = slots.values().find(|held| held.shown.is_some_and(|(shown, _)| shown == track))?;
        Some(found.slot.mid.clone())
    }

    fn fill_slot(&mut self, id: TransportId, mid: &str, shown: Shown, out: &mut Outcome) {
        let key = self.sessions.get(&id).and_then(|session| self.room_key(&session.room));
        let (Some(room), Some(held)) = (key, self.slot_mut(id, mid)) else { return };
        let track = shown.track;
        let (subscription, before) = (held.id, held.shown.replace((track, shown.max_encoding)));
        if held.is_programmed {
            out.commands.push(Command::SetSubscription { id: subscription, transport: id, shown: Some(shown) });
        } else {
            held.is_programmed = true;
            let spec = subscription_spec(id, held, shown);
            out.commands.push(Command::AddSubscription { room, id: subscription, spec });
        }
        if let Some((before, _)) = before {
            self.forget_receiver(before, subscription);
        }
        self.receivers.entry(track).or_default().insert(subscription);
    }

    fn empty_slot(&mut self, id: TransportId, mid: &str, out: &mut Outcome) {
        let Some(held) = self.slot_mut(id, mid) else { return };
        let Some((track, _)) = held.shown.take() else { return };
        let subscription = held.id;
        out.commands.push(Command::SetSubscription { id: subscription, transport: id, shown: None });
        self.forget_receiver(track, subscription);
    }

    pub(super) fn close_slot(&mut self, id: TransportId, mid: &str, out: &mut Outcome) {
        self.empty_slot(id, mid, out);
        if let Some(held) = self.slot_mut(id, mid) {
            held.is_open = false;
        }
    }

    pub(super) fn forget_receiver(&mut self, track: TrackId, subscription: SubscriptionId) {
        if let Some(receivers) = self.receivers.get_mut(&track) {
            receivers.remove(&subscription);
            if receivers.is_empty() {
                self.receivers.remove(&track);
            }
        }
    }

    pub(super) fn not_programmed(&mut self, id: SubscriptionId) {
        let Some(place) = self.places.get(&id).cloned() else { return };
        let Some(held) = place.mid.and_then(|mid| self.slot_mut(place.transport, &mid)) else { return };
        held.is_programmed = false;
        if let Some((track, _)) = held.shown.take() {
            self.forget_receiver(track, id);
        }
    }

    /// Ends a track: whoever receives it first.
    pub(super) fn end_track(&mut self, id: TransportId, track: TrackId, out: &mut Outcome) {
        for subscription in self.receivers.remove(&track).unwrap_or_default() {
            let Some(place) = self.places.get(&subscription).cloned() else { continue };
            let transport = place.transport;
            match place.mid {
                Some(mid) => {
                    if let Some(held) = self.slot_mut(transport, &mid) {
                        held.shown = None;
                    }
                    out.commands.push(Command::SetSubscription { id: subscription, transport, shown: None });
                }
                None => self.remove_viewer_subscription(transport, subscription, out),
            }
        }
        self.tracks.remove(&track);
        if let Some(Session { role: Role::Participant { tracks, .. }, .. }) = self.sessions.get_mut(&id) {
            tracks.retain(|held| held.spec.id != track);
        }
        out.commands.push(Command::RemoveTrack { track, transport: id });
    }

    pub(super) fn remove_viewer_subscription(&mut self, viewer: TransportId, id: SubscriptionId, out: &mut Outcome) {
        if let Some(Session { role: Role::Viewer { subscriptions, .. }, .. }) = self.sessions.get_mut(&viewer)
            && let Some(at) = subscriptions.iter().position(|(own, _)| *own == id)
        {
            let (_, spec) = subscriptions.remove(at);
            self.forget_receiver(spec.track, id);
        }
        self.places.remove(&id);
        out.commands.push(Command::RemoveSubscription { id, transport: viewer });
        out.changed.insert(RecordKey::Viewer(viewer));
    }

    /// Ends what a viewer receives because its publisher goes; the viewer's transport stays.
    pub(super) fn end_watching(&mut self, viewer: TransportId, out: &mut Outcome) {
        let Some(session) = self.sessions.get_mut(&viewer) else { return };
        let room = session.room.clone();
        let Role::Viewer { publisher, .. } = &mut session.role else { return };
        *publisher = None;
        self.remove_viewer_subscriptions(viewer, out);
        out.changed.insert(RecordKey::Viewer(viewer));
        out.events.push(Event { kind: EventKind::PublisherLeft, room, participant: None, transport: viewer });
    }

    /// Ends what a viewer receives because it goes itself.
    pub(super) fn end_viewing(&mut self, viewer: TransportId, publisher: Option<TransportId>, out: &mut Outcome) {
        self.remove_viewer_subscriptions(viewer, out);
        let publisher = publisher.and_then(|publisher| self.sessions.get_mut(&publisher));
        if let Some(Session { role: Role::Participant { viewers, .. }, .. }) = publisher {
            viewers.remove(&viewer);
        }
    }

    fn remove_viewer_subscriptions(&mut self, viewer: TransportId, out: &mut Outcome) {
        let Some(Session { role: Role::Viewer { subscriptions, .. }, .. }) = self.sessions.get_mut(&viewer) else {
            return;
        };
        for (id, spec) in std::mem::take(subscriptions) {
            self.places.remove(&id);
            self.forget_receiver(spec.track, id);
            out.commands.push(Command::RemoveSubscription { id, transport: viewer });
        }
    }

    /// Takes away all slots of a transport that goes.
    pub(super) fn remove_slots(&mut self, id: TransportId, out: &mut Outcome) {
        let Some(Session { role: Role::Participant { slots, .. }, .. }) = self.sessions.get_mut(&id) else { return };
        for held in std::mem::take(slots).into_values() {
            self.drop_slot(id, &held, out);
        }
    }

    /// Takes away a slot whose mid another one gets.
    pub(super) fn remove_slot(&mut self, id: TransportId, mid: &str, out: &mut Outcome) {
        let Some(Session { role: Role::Participant { slots, .. }, .. }) = self.sessions.get_mut(&id) else { return };
        if let Some(held) = slots.remove(mid) {
            self.drop_slot(id, &held, out);
        }
    }

    fn drop_slot(&mut self, id: TransportId, held: &HeldSlot, out: &mut Outcome) {
        self.places.remove(&held.id);
        if let Some((track, _)) = held.shown {
            self.forget_receiver(track, held.id);
        }
        if held.is_programmed {
            out.commands.push(Command::RemoveSubscription { id: held.id, transport: id });
        }
    }
}

fn subscription_spec(transport: TransportId, held: &HeldSlot, shown: Shown) -> SubscriptionSpec {
    let slot = &held.slot;
    SubscriptionSpec {
        track: shown.track,
        transport,
        mid: slot.mid.clone(),
        kind: slot.kind,
        ssrc: slot.ssrc,
        rtx_ssrc: slot.rtx_ssrc,
        codecs: vec![shown.codec],
        extensions: slot.extensions.clone(),
        nack: slot.nack,
        pli: slot.pli,
        max_encoding: shown.max_encoding,
    }
}
