// SPDX-License-Identifier: Apache-2.0
//! Going on with what a predecessor published.
//!
//! Nothing is published here but the end of what is not known, from subscriptions to rooms, so that no record ever refers to
//! one that is gone. It must never publish anew what stays: workers go on as if nothing had happened.

use std::collections::{BTreeMap, BTreeSet};

use controlplane_room::{Found, FoundSubscription, Known, TrackId};
use dataplane_abi::ids::{RoomRef, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::TransportIntent;
use dataplane_shm::intent::IntentError;
use dataplane_shm::{IntentWriter, Segment};

use crate::{Programmed, Programmer, records};

pub(crate) fn adopt(segment: &Segment, known: &Known) -> Result<(Programmer, Found), IntentError> {
    let mut programmer = Programmer {
        writer: IntentWriter::attach(segment)?,
        transports: BTreeMap::new(),
        by_slot: BTreeMap::new(),
        tracks: BTreeMap::new(),
        subscriptions: BTreeMap::new(),
        rooms: BTreeMap::new(),
    };
    let mut found = Found::default();
    programmer.find_transports(segment, known, &mut found);
    let tracks = programmer.find_tracks(segment, known, &mut found);
    programmer.find_subscriptions(segment, known, &tracks, &mut found);
    programmer.retract_unknown(segment);
    Ok((programmer, found))
}

impl Programmer {
    fn find_transports(&mut self, segment: &Segment, known: &Known, found: &mut Found) {
        let by_ufrag: BTreeMap<&str, _> =
            known.transports.iter().map(|held| (held.spec.local.ufrag.as_str(), held)).collect();
        for slot in 0..segment.capacities().transports {
            let Some(record) = segment.intent_transport(slot) else { continue };
            let Some(held) = ufrag(&record).and_then(|ufrag| by_ufrag.get(ufrag)) else { continue };
            let id = held.spec.id;
            // A room that is not published, or not the one of others with its key, belongs to a record that is damaged.
            let room = segment.intent_room(record.room.slot).filter(|room| room.generation == record.room.generation);
            let is_own_room = self.rooms.get(&held.room).is_none_or(|(room, _)| *room == record.room);
            let is_known = records::is_transport(&record, &held.spec) && !self.transports.contains_key(&id);
            if room.is_none() || !is_own_room || !is_known {
                continue;
            }
            self.rooms.entry(held.room).or_insert((record.room, 0)).1 += 1;
            let reference = TransportRef::at(slot, record.generation);
            let key = (!record.key.is_none() && segment.key(record.key).is_some()).then_some(record.key);
            self.by_slot.insert(slot, id);
            let programmed = Programmed { reference, record, cname: held.spec.cname.clone(), key };
            self.transports.insert(id, Box::new(programmed));
            found.transports.insert(id, key.is_some());
        }
    }

    fn find_tracks(&mut self, segment: &Segment, known: &Known, found: &mut Found) -> BTreeMap<TrackRef, TrackId> {
        let mut by_reference = BTreeMap::new();
        for slot in 0..segment.capacities().tracks {
            let Some(record) = segment.intent_track(slot) else { continue };
            let id = TrackId(record.global_id);
            let owner = known.tracks.get(&id).and_then(|owner| self.reference_of(*owner));
            if owner == Some(record.transport) && !self.tracks.contains_key(&id) {
                let reference = TrackRef::at(slot, record.generation);
                self.tracks.insert(id, reference);
                by_reference.insert(reference, id);
                found.tracks.insert(id);
            }
        }
        by_reference
    }

    fn find_subscriptions(
        &mut self,
        segment: &Segment,
        known: &Known,
        tracks: &BTreeMap<TrackRef, TrackId>,
        found: &mut Found,
    ) {
        for slot in 0..segment.capacities().subscriptions {
            let Some(mut record) = segment.intent_subscription(slot) else { continue };
            let id = self.transport_of(record.transport);
            let Some(id) = id.and_then(|id| known.subscriptions.get(&(id, record.ssrc)).copied()) else { continue };
            if self.subscriptions.contains_key(&id) {
                continue;
            }
            let track = tracks.get(&record.track).copied();
            if track.is_none() && !record.track.is_none() {
                // What it showed is not known, so it is about to go: the slot stays and shows nothing.
                records::show(&mut record, None);
                if self.writer.publish_subscription(slot, &record).is_err() {
                    continue;
                }
            }
            self.subscriptions.insert(id, SubscriptionRef::at(slot, record.generation));
            let max_encoding = records::max_encoding(record.max_encoding);
            found.subscriptions.insert(id, FoundSubscription { track, max_encoding });
        }
    }

    /// Takes away what was not adopted: subscriptions before tracks before transports before rooms.
    fn retract_unknown(&mut self, segment: &Segment) {
        let capacities = *segment.capacities();
        let known: BTreeSet<_> = self.subscriptions.values().copied().collect();
        for slot in 0..capacities.subscriptions {
            let record = segment.intent_subscription(slot);
            if record.is_some_and(|record| !known.contains(&SubscriptionRef::at(slot, record.generation))) {
                let _ = self.writer.retract_subscription(slot);
            }
        }
        let known: BTreeSet<_> = self.tracks.values().copied().collect();
        for slot in 0..capacities.tracks {
            let record = segment.intent_track(slot);
            if record.is_some_and(|record| !known.contains(&TrackRef::at(slot, record.generation))) {
                let _ = self.writer.retract_track(slot);
            }
        }
        for slot in (0..capacities.transports).filter(|slot| !self.by_slot.contains_key(slot)) {
            let Some(record) = segment.intent_transport(slot) else { continue };
            let _ = self.writer.retract_transport(slot);
            if !record.key.is_none() {
                let _ = self.writer.zeroise_key(record.key);
            }
        }
        let known: BTreeSet<RoomRef> = self.rooms.values().map(|(room, _)| *room).collect();
        for slot in 0..capacities.rooms {
            let record = segment.intent_room(slot);
            if record.is_some_and(|record| !known.contains(&RoomRef::at(slot, record.generation))) {
                let _ = self.writer.retract_room(slot);
            }
        }
    }
}

/// Our user fragment of a published transport.
fn ufrag(record: &TransportIntent) -> Option<&str> {
    let current = record.credentials.first()?;
    let bytes = current.local_ufrag.get(..usize::from(current.local_ufrag_len))?;
    std::str::from_utf8(bytes).ok()
}
