// SPDX-License-Identifier: Apache-2.0
//! From intent to derived state: the change ring names what changed, the worker copies the record, validates the copy and
//! uses only the copy. Runs between batches, at most 64 changes per turn.

pub(crate) mod records;

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::codec::{EgressMode, MediaKind, NO_PT, TransportKind, transport_flags};
use dataplane_abi::ids::{IngressId, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::limits::ENCODINGS;
use dataplane_abi::ring::{Change, change_kind};
use dataplane_shm::publish;
use dataplane_srtp::{RtcpRxContext, RxContext, TxContext};
use dataplane_wire::codec::Codec;

use crate::changes::records::{begin_egress, begin_ingress, begin_transport, restore_paths, resume_egress};
use crate::counting::bump;
use crate::keys;
use crate::objects::NONE;
use crate::objects::egress::Egress;
use crate::objects::ingress::Ingress;
use crate::objects::leg::{Leg, flows_of};
use crate::receive::recorder::Recorder;
use crate::worker::{Now, Source, Worker};

/// Changes that one turn applies.
const CHANGES_PER_TURN: usize = 64;
/// Slots that a rescan looks at in one turn: about 0.1 ms where they are empty.
const SLOTS_PER_TURN: u32 = 4096;
/// A first sequence number lies below this, so that the peer sees no wrap before it has locked on (RELIABILITY S7).
const FIRST_SEQ_MASK: u64 = 0x7fff;

impl Worker {
    /// Applies what the programmer changed; true where more is waiting.
    pub fn apply_changes(&mut self, now: Now) -> bool {
        if self.changes.overflowed() {
            self.rescan_at = Some(0);
        }
        if let Some(at) = self.rescan_at {
            self.rescan_at = self.rescan(at, now);
            return true;
        }
        for _ in 0..CHANGES_PER_TURN {
            let Some(change) = self.changes.pop() else { return false };
            self.apply(&change, now);
        }
        true
    }

    fn apply(&mut self, change: &Change, now: Now) {
        self.step();
        match change.kind {
            change_kind::TRANSPORT => self.transport_changed(change.slot, now),
            change_kind::TRACK => self.track_changed(change.slot),
            change_kind::SUBSCRIPTION => self.subscription_changed(change.slot, now),
            change_kind::ROOM => {}
            _ => {
                self.count(|counters| bump(&counters.stale_references));
            }
        }
    }

    /// Reads every published record: at start, and where the change ring overflowed. A part of the slots per turn; where the
    /// next one begins, until all are read. Changes wait in their ring meanwhile.
    fn rescan(&mut self, at: u32, now: Now) -> Option<u32> {
        self.step();
        if at == 0 {
            self.changes.catch_up();
            self.count(|counters| bump(&counters.rescans));
        }
        let capacities = *self.segment.capacities();
        let subscriptions = capacities.tracks;
        let transports = subscriptions.saturating_add(capacities.subscriptions);
        let all = transports.saturating_add(capacities.transports);
        let end = at.saturating_add(SLOTS_PER_TURN).min(all);
        for slot in at..end {
            if slot < subscriptions {
                self.track_changed(slot);
            } else if slot < transports {
                self.subscription_changed(slot.saturating_sub(subscriptions), now);
            } else {
                self.transport_changed(slot.saturating_sub(transports), now);
            }
        }
        (end < all).then_some(end)
    }

    fn refuse(&self) {
        self.count(|counters| bump(&counters.intent_refused));
    }

    fn transport_changed(&mut self, slot: u32, now: Now) {
        let Some(intent) = self.segment.intent_transport(slot) else {
            self.remove_transport(slot);
            return;
        };
        let transport = TransportRef::at(slot, intent.generation);
        if transport.is_none() || TransportKind::from_code(intent.kind) != Some(TransportKind::Webrtc) {
            self.refuse();
            self.remove_transport(slot);
            return;
        }
        if self.doors.get(slot).is_some_and(|door| door.transport != transport) {
            self.remove_transport(slot);
        }
        if !self.doors.upsert(transport, &intent.credentials) {
            self.refuse();
            return;
        }
        if let Some(leg) = self.leg_of(transport) {
            self.update_leg(leg, &intent);
        } else if self.owns(transport) {
            self.create_leg(transport, now);
        }
    }

    /// Whether the durable record names this worker as the owner of this generation.
    pub(crate) fn owns(&self, transport: TransportRef) -> bool {
        let Some(durable) = self.segment.transport(transport.slot) else { return false };
        durable.owner.load(Ordering::Acquire) == self.owner_word(transport)
    }

    /// The word that claims a transport for this worker.
    pub(crate) fn owner_word(&self, transport: TransportRef) -> u64 {
        (u64::from(transport.generation) << 32) | (u64::from(self.config.worker.0) + 1)
    }

    /// Takes a transport that the durable record gives to this worker; finds its paths there, its tracks and subscriptions
    /// in the links.
    pub(crate) fn create_leg(&mut self, transport: TransportRef, now: Now) -> Option<u32> {
        let intent = self.segment.intent_transport(transport.slot)?;
        if intent.generation != transport.generation {
            return None;
        }
        let mut leg = Leg::new(transport, now.mono_ns);
        let durable = self.segment.transport(transport.slot)?;
        if durable.generation.load(Ordering::Acquire) != transport.generation {
            // Claimed just now, or by a predecessor that died before it had begun the record.
            begin_transport(durable, transport.generation);
        }
        restore_paths(&mut leg, durable);
        let slot = self.legs.insert(leg).ok()?;
        *self.leg_at.get_mut(transport.index())? = slot.saturating_add(1);
        self.update_leg(slot, &intent);
        let segment = Arc::clone(&self.segment);
        for flow in segment.transport(transport.slot).into_iter().flat_map(flows_of) {
            self.admit(flow, None, transport, now);
        }
        let mut track = self.tracks_of.first(transport.slot);
        while let Some(at) = track {
            track = self.tracks_of.after(at);
            self.track_changed(at);
        }
        let mut subscription = self.subscriptions_of.first(transport.slot);
        while let Some(at) = subscription {
            subscription = self.subscriptions_of.after(at);
            self.subscription_changed(at, now);
        }
        self.wheel.arm(slot, now.mono_ns.saturating_add(u64::from(transport.slot % 20) * 1_000_000));
        self.count(|counters| counters.transports_owned.store(self.legs.len() as u64, Ordering::Relaxed));
        Some(slot)
    }

    fn update_leg(&mut self, slot: u32, intent: &TransportIntent) {
        let Some(leg) = self.legs.get_mut(slot) else { return };
        leg.apply(intent);
        self.begin_recorder(slot);
        let Some(leg) = self.legs.get_mut(slot) else { return };
        if leg.key == intent.key {
            return;
        }
        leg.key = intent.key;
        let record = if intent.key.is_none() { None } else { self.segment.key(intent.key) };
        let masters = record.as_ref().and_then(keys::masters);
        let is_refused = masters.is_none() && !intent.key.is_none();
        (leg.rtcp, leg.tx) =
            masters.map_or((None, None), |(rx, tx)| (Some(RtcpRxContext::new(&rx)), Some(TxContext::new(&tx))));
        self.renew_media_keys(slot);
        if is_refused {
            self.refuse();
        }
    }

    /// A recorder for a leg that sends media and has agreed on transport-cc.
    fn begin_recorder(&mut self, leg_slot: u32) {
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        if leg.has_ingress && leg.flags & transport_flags::TRANSPORT_CC != 0 && leg.recorder == NONE {
            leg.recorder = self.recorders.insert(Recorder::new()).unwrap_or(NONE);
        }
    }

    /// Keys for the media of a leg: most legs send none, and these are the larger half of a leg's keys.
    fn renew_media_keys(&mut self, leg_slot: u32) {
        let Self { legs, media_keys, segment, .. } = self;
        let Some(leg) = legs.get_mut(leg_slot) else { return };
        media_keys.remove(std::mem::replace(&mut leg.media_keys, NONE));
        if !leg.has_ingress || leg.key.is_none() {
            return;
        }
        let masters = segment.key(leg.key).as_ref().and_then(keys::masters);
        if let Some((rx, _)) = masters
            && let Ok(slot) = media_keys.insert(RxContext::new(&rx))
        {
            leg.media_keys = slot;
        }
    }

    fn remove_transport(&mut self, slot: u32) {
        let Some((transport, flows)) = self.doors.remove(slot) else { return };
        let is_owner = self.leg_of(transport).is_some();
        for flow in flows.into_iter().flatten() {
            self.forget_flow(flow, transport, is_owner);
        }
        self.count(|counters| counters.flows.store(self.flows.len() as u64, Ordering::Relaxed));
        let Some(leg) = self.leg_of(transport) else { return };
        let mut track = self.tracks_of.first(slot);
        while let Some(at) = track {
            track = self.tracks_of.after(at);
            self.remove_track_state(at);
        }
        let mut subscription = self.subscriptions_of.first(slot);
        while let Some(at) = subscription {
            subscription = self.subscriptions_of.after(at);
            self.remove_egress(at);
        }
        if let Some(leg) = self.legs.remove(leg) {
            self.media_keys.remove(leg.media_keys);
            self.recorders.remove(leg.recorder);
            for path in leg.paths.into_iter().flatten() {
                self.closed_paths.push(path);
            }
        }
        if let Some(place) = self.leg_at.get_mut(slot as usize) {
            *place = 0;
        }
        if let Some(durable) = self.segment.transport(slot)
            && durable.owner.load(Ordering::Relaxed) == self.owner_word(transport)
        {
            publish::store_u32(&durable.generation, 0);
            publish::store_u64(&durable.owner, 0);
        }
        self.count(|counters| counters.transports_owned.store(self.legs.len() as u64, Ordering::Relaxed));
    }

    fn track_changed(&mut self, slot: u32) {
        let intent = self.segment.intent_track(slot);
        let track = TrackRef::at(slot, intent.as_ref().map_or(0, |intent| intent.generation));
        self.forget_other_tracks(track);
        let Some(intent) = intent else {
            self.tracks_of.unlink(slot);
            return;
        };
        if !is_valid_track(&intent) {
            self.refuse();
            self.forget_other_tracks(TrackRef::at(slot, 0));
            return;
        }
        self.tracks_of.link(intent.transport.slot, slot);
        let Some(leg) = self.leg_of(intent.transport) else { return };
        for (encoding, signalled) in (0_u8..).zip(intent.encodings.iter().take(usize::from(intent.encoding_count))) {
            let id = IngressId::of(slot, encoding);
            if self.ingress_of(id).is_none() {
                self.create_ingress(id, track, leg, &intent, (signalled.ssrc, signalled.rtx_ssrc));
            }
        }
    }

    /// The slot means `track` from here on: streams and cohorts of other generations go.
    fn forget_other_tracks(&mut self, track: TrackRef) {
        for encoding in (0_u8..).take(ENCODINGS) {
            let id = IngressId::of(track.slot, encoding);
            let ingress = self.ingress_of(id).and_then(|slot| self.ingresses.get(slot));
            if ingress.is_some_and(|ingress| ingress.track != track) {
                self.remove_ingress(id);
            }
            let cohort = self.cohort_of(id).and_then(|slot| self.cohorts.get(slot));
            if cohort.is_some_and(|cohort| cohort.track != track) {
                self.remove_cohort(id);
            }
        }
    }

    fn create_ingress(
        &mut self,
        id: IngressId,
        track: TrackRef,
        leg: u32,
        intent: &TrackIntent,
        signalled: (u32, u32),
    ) {
        let Some(ingress) = Ingress::new(id, track, leg, intent) else { return };
        let Ok(slot) = self.ingresses.insert(ingress) else { return };
        if let Some(place) = self.ingress_at.get_mut(id.index()) {
            *place = slot.saturating_add(1);
        }
        let had_ingress = self.legs.get_mut(leg).map(|owner| std::mem::replace(&mut owner.has_ingress, true));
        if had_ingress == Some(false) {
            self.renew_media_keys(leg);
        }
        self.begin_recorder(leg);
        let segment = Arc::clone(&self.segment);
        let Some(durable) = segment.ingress(id) else { return };
        if durable.generation.load(Ordering::Acquire) != track.generation {
            begin_ingress(durable, track.generation);
        }
        // A predecessor's log is not readable any more: its chunks went back with its pool.
        publish::store_u64(&durable.log, 0);
        publish::store_u64(&durable.keyframe, 0);
        let (ssrc, rtx_ssrc) = signalled;
        let learned = (durable.ssrc.load(Ordering::Relaxed), durable.rtx_ssrc.load(Ordering::Relaxed));
        self.bind_source(leg, slot, if learned.0 != 0 { learned.0 } else { ssrc }, false);
        self.bind_source(leg, slot, if learned.1 != 0 { learned.1 } else { rtx_ssrc }, true);
    }

    /// Lets an SSRC of a leg mean an ingress stream; stored so that a successor knows it.
    pub(crate) fn bind_source(&mut self, leg: u32, ingress_slot: u32, ssrc: u32, is_rtx: bool) {
        if ssrc == 0 {
            return;
        }
        let Some(transport) = self.legs.get(leg).map(|leg| leg.transport) else { return };
        let Some(id) = self.ingresses.get(ingress_slot).map(|ingress| ingress.id) else { return };
        if !self.sources.insert((transport.slot, ssrc), Source { ingress: ingress_slot, is_rtx }) {
            return;
        }
        if let Some(durable) = self.segment.ingress(id) {
            publish::store_u32(if is_rtx { &durable.rtx_ssrc } else { &durable.ssrc }, ssrc);
        }
    }

    /// Forgets the ingress streams of a track.
    fn remove_track_state(&mut self, track_slot: u32) {
        for encoding in (0_u8..).take(ENCODINGS) {
            self.remove_ingress(IngressId::of(track_slot, encoding));
        }
    }

    fn remove_ingress(&mut self, id: IngressId) {
        let Some(slot) = self.ingress_of(id) else { return };
        let Some(mut ingress) = self.ingresses.remove(slot) else { return };
        ingress.missing.forget(&mut self.missing);
        if let Some(place) = self.ingress_at.get_mut(id.index()) {
            *place = 0;
        }
        if let Some(log) = ingress.log {
            log.close(&mut self.chunks);
        }
        let Some(durable) = self.segment.ingress(id) else { return };
        let ssrcs = [durable.ssrc.load(Ordering::Relaxed), durable.rtx_ssrc.load(Ordering::Relaxed)];
        if let Some(transport) = self.legs.get(ingress.leg).map(|leg| leg.transport) {
            for ssrc in ssrcs {
                let key = (transport.slot, ssrc);
                if self.sources.get(&key).is_some_and(|source| source.ingress == slot) {
                    self.sources.remove(&key);
                }
            }
        }
        publish::store_u64(&durable.log, 0);
        publish::store_u64(&durable.keyframe, 0);
        publish::store_u32(&durable.generation, 0);
    }

    pub(crate) fn subscription_changed(&mut self, slot: u32, now: Now) {
        let Some(intent) = self.segment.intent_subscription(slot) else {
            self.remove_egress(slot);
            self.subscriptions_of.unlink(slot);
            return;
        };
        if !is_valid_subscription(&intent) {
            self.refuse();
            self.remove_egress(slot);
            return;
        }
        self.subscriptions_of.link(intent.transport.slot, slot);
        let subscription = SubscriptionRef::at(slot, intent.generation);
        if let Some(known) = self.egress_of(slot).and_then(|slot| self.egresses.get(slot)) {
            if known.subscription == subscription {
                self.update_egress(slot, &intent, now);
                return;
            }
            self.remove_egress(slot);
        }
        if let Some(leg) = self.leg_of(intent.transport) {
            self.create_egress(subscription, leg, &intent, now);
        }
    }

    /// What is shown, policy and header extensions may change while a subscription lives; its identity may not.
    fn update_egress(&mut self, subscription_slot: u32, intent: &SubscriptionIntent, now: Now) {
        let Some(slot) = self.egress_of(subscription_slot) else { return };
        let Some(egress) = self.egresses.get_mut(slot) else { return };
        if !egress.is_of(intent) {
            self.refuse();
            return;
        }
        egress.max_encoding = intent.max_encoding;
        egress.extension_ids = intent.extension_ids;
        if egress.shows_other(intent) {
            self.show(slot, intent, now);
        }
    }

    /// Another track in a slot, or none: what was shown goes at once, what comes begins where a decoder can begin. The receiver
    /// sees the numbers go on.
    fn show(&mut self, slot: u32, intent: &SubscriptionIntent, now: Now) {
        self.leave_cohorts(slot);
        if let Some(egress) = self.egresses.get_mut(slot) {
            egress.show(intent);
        }
        self.find_source(slot, now);
    }

    /// Reads the record of the track that a stream shows; false where it is not published (yet), or makes no sense.
    pub(crate) fn describe_egress(&mut self, slot: u32) -> bool {
        let Some(egress) = self.egresses.get_mut(slot) else { return false };
        let track = self.segment.intent_track(egress.track.slot);
        let track = track.filter(|track| track.generation == egress.track.generation && is_valid_track(track));
        track.is_some_and(|track| egress.describe(&track))
    }

    pub(crate) fn egress_of(&self, subscription_slot: u32) -> Option<u32> {
        self.egress_at.get(subscription_slot as usize)?.checked_sub(1)
    }

    fn create_egress(&mut self, subscription: SubscriptionRef, leg: u32, intent: &SubscriptionIntent, now: Now) {
        // CONTRACTS 3 of the design: one SSRC of a transport never means two slots while its key lives.
        let key = (intent.transport.slot, intent.ssrc);
        if self.egress_by_ssrc.get(&key).is_some() {
            self.refuse();
            return;
        }
        let mut egress = Egress::new(subscription, leg, intent);
        let first = self.next_random() & FIRST_SEQ_MASK;
        let first_rtx = self.next_random() & FIRST_SEQ_MASK;
        if let Some(durable) = self.segment.egress(subscription.slot) {
            if durable.generation.load(Ordering::Acquire) == subscription.generation {
                resume_egress(&mut egress, durable, &self.segment, now);
            } else {
                begin_egress(durable, subscription.generation, intent, (first.max(1), first_rtx.max(1)));
            }
        }
        let Ok(slot) = self.egresses.insert(egress) else { return };
        if let Some(place) = self.egress_at.get_mut(subscription.index()) {
            *place = slot.saturating_add(1);
        }
        self.egress_by_ssrc.insert(key, slot);
        self.show(slot, intent, now);
    }

    pub(crate) fn remove_egress(&mut self, subscription_slot: u32) {
        let Some(slot) = self.egress_of(subscription_slot) else { return };
        self.leave_cohorts(slot);
        let Some(mut egress) = self.egresses.remove(slot) else { return };
        egress.gate.forget(&mut self.gates);
        if let Some(place) = self.egress_at.get_mut(subscription_slot as usize) {
            *place = 0;
        }
        if let Some(transport) = self.legs.get(egress.leg).map(|leg| leg.transport) {
            self.egress_by_ssrc.remove(&(transport.slot, egress.ssrc));
            if egress.last.is_any {
                // A receiver whose BYE finds no place learns of the end by signalling.
                self.byes.push((transport, egress.ssrc));
            }
        }
    }

    /// A stream is gone: its receivers have no source.
    pub(crate) fn remove_cohort(&mut self, id: IngressId) {
        let Some(cohort) = self.cohort_of(id) else { return };
        self.empty_cohort(cohort);
        if let Some(mut cohort) = self.cohorts.remove(cohort) {
            cohort.numbers.forget(&mut self.maps);
        }
        if let Some(place) = self.cohort_at.get_mut(id.index()) {
            *place = 0;
        }
    }
}

fn is_valid_track(intent: &TrackIntent) -> bool {
    intent.generation != 0
        && MediaKind::from_code(intent.kind).is_some()
        && Codec::from_u8(intent.codec).is_some()
        && (1..=ENCODINGS).contains(&usize::from(intent.encoding_count))
        && (8000..=192_000).contains(&intent.clock_rate)
        && intent.pt < 128
        && usize::from(intent.mid_len) <= intent.mid.len()
        && usize::from(intent.cname_len) <= intent.cname.len()
        && intent.encodings.iter().all(|encoding| usize::from(encoding.rid_len) <= encoding.rid.len())
}

fn is_valid_subscription(intent: &SubscriptionIntent) -> bool {
    intent.generation != 0
        && intent.ssrc != 0
        && intent.ssrc != intent.rtx_ssrc
        && (intent.rtx_ssrc == 0 || intent.rtx_pt < 128 || intent.rtx_pt == NO_PT)
        && (intent.pt < 128 || intent.track.is_none())
        && EgressMode::from_code(intent.mode) == Some(EgressMode::Rewrite)
        && usize::from(intent.mid_len) <= intent.mid.len()
}
