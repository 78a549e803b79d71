// SPDX-License-Identifier: Apache-2.0
//! The only writer of intent: commands become table entries.
//!
//! ```text
//!  room::Command ──► Programmer ── records ──► IntentWriter ──► heads, change rings ──► workers
//!                       └─ ids of the conference ↔ (slot, generation) of the tables
//! ```
//!
//! It must never decide anything: what a command says is what is published. It must never print a key.
#![forbid(unsafe_code)]

mod adopt;
mod records;

use std::collections::BTreeMap;

use controlplane_room::{
    Command, Found, Known, RoomKey, RoomName, Shown, SubscriptionId, SubscriptionSpec, TrackId, TrackSpec, TransportId,
    TransportSpec,
};
use dataplane_abi::ids::{KeyRef, RoomRef, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{KeyIntent, TransportIntent};
use dataplane_shm::intent::IntentError;
use dataplane_shm::{IntentWriter, Segment};

pub use records::KeyMaterial;

/// A table of the segment has no free slot; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the {table} table is full ({capacity} entries)")]
pub struct TableFull {
    /// Which, as `millrace status` calls it.
    pub table: &'static str,
    /// How many entries it has.
    pub capacity: usize,
}

/// Why keys are not installed; nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// There is no free slot for them.
    #[error(transparent)]
    Full(TableFull),
    /// The profile is not served, or a key or salt has another length than the profile says.
    #[error("keys of SRTP profile {profile:#06x} that are not its own")]
    Unusable {
        /// IANA number.
        profile: u16,
    },
}

/// A transport as it was programmed.
struct Programmed {
    reference: TransportRef,
    record: TransportIntent,
    cname: String,
    key: Option<KeyRef>,
}

/// Turns commands into table entries.
pub struct Programmer {
    writer: IntentWriter,
    /// On the heap one by one: a map's nodes are half empty.
    transports: BTreeMap<TransportId, Box<Programmed>>,
    by_slot: BTreeMap<u32, TransportId>,
    tracks: BTreeMap<TrackId, TrackRef>,
    subscriptions: BTreeMap<SubscriptionId, SubscriptionRef>,
    rooms: BTreeMap<RoomKey, (RoomRef, usize)>,
}

impl Programmer {
    /// Becomes the writer of a segment, and takes away what a predecessor published: its sessions are not known here.
    ///
    /// # Errors
    /// When intent or keys are not writable.
    pub fn attach(segment: &Segment) -> Result<Self, IntentError> {
        Self::adopt(segment, &Known::default()).map(|(programmer, _)| programmer)
    }

    /// Becomes the writer of a segment and goes on with what a predecessor published: slots, generations and keys of what is
    /// known stay as they are, and no worker sees a change. What nobody knows is taken away, its keys wiped. Says what of the
    /// known was found: what was not has ended, and nothing is published in its place. Death at any instruction leaves less to
    /// take away for the next one.
    ///
    /// # Errors
    /// When intent or keys are not writable.
    pub fn adopt(segment: &Segment, known: &Known) -> Result<(Self, Found), IntentError> {
        adopt::adopt(segment, known)
    }

    /// The transport of a slot and generation, if it is the current one.
    #[must_use]
    pub fn transport_of(&self, reference: TransportRef) -> Option<TransportId> {
        let id = *self.by_slot.get(&reference.slot)?;
        (self.transports.get(&id)?.reference == reference).then_some(id)
    }

    /// Slot and generation of a transport.
    #[must_use]
    pub fn reference_of(&self, transport: TransportId) -> Option<TransportRef> {
        self.transports.get(&transport).map(|programmed| programmed.reference)
    }

    /// Programs one command. Removing what is not there is not an error.
    ///
    /// # Errors
    /// [`TableFull`]; only commands that add or set can fail.
    pub fn apply(&mut self, command: Command) -> Result<(), TableFull> {
        self.writer.collect();
        match command {
            Command::AddTransport { room, name, spec } => self.add_transport(room, &name, &spec),
            Command::RemoveTransport { transport } => {
                self.remove_transport(transport);
                Ok(())
            }
            Command::AddTrack { room, spec } => self.add_track(room, &spec),
            Command::RemoveTrack { track, .. } => {
                if let Some(reference) = self.tracks.remove(&track) {
                    let _ = self.writer.retract_track(reference.slot);
                }
                Ok(())
            }
            Command::AddSubscription { id, spec, .. } => self.add_subscription(id, &spec),
            Command::SetSubscription { id, shown, .. } => self.set_subscription(id, shown.as_ref()),
            Command::RemoveSubscription { id, .. } => {
                if let Some(reference) = self.subscriptions.remove(&id) {
                    let _ = self.writer.retract_subscription(reference.slot);
                }
                Ok(())
            }
        }
    }

    fn full(&self, table: &'static str) -> TableFull {
        let capacities = self.writer.segment().capacities();
        let capacity = match table {
            "transports" => capacities.transports,
            "tracks" => capacities.tracks,
            "rooms" => capacities.rooms,
            _ => capacities.subscriptions,
        };
        TableFull { table, capacity: capacity as usize }
    }

    fn room(&mut self, key: RoomKey, name: &RoomName) -> Result<RoomRef, TableFull> {
        if let Some((reference, users)) = self.rooms.get_mut(&key) {
            *users += 1;
            return Ok(*reference);
        }
        let reference = self.writer.allocate_room().ok_or_else(|| self.full("rooms"))?;
        let record = records::room(reference, name);
        if self.writer.publish_room(reference.slot, &record).is_err() {
            let _ = self.writer.retract_room(reference.slot);
            return Err(self.full("rooms"));
        }
        self.rooms.insert(key, (reference, 1));
        Ok(reference)
    }

    fn leave_room(&mut self, room: RoomRef) {
        let Some((key, users)) =
            self.rooms.iter_mut().find(|(_, (known, _))| *known == room).map(|(key, (_, users))| (*key, users))
        else {
            return;
        };
        *users = users.saturating_sub(1);
        if *users == 0 {
            self.rooms.remove(&key);
            let _ = self.writer.retract_room(room.slot);
        }
    }

    fn add_transport(&mut self, room: RoomKey, name: &RoomName, spec: &TransportSpec) -> Result<(), TableFull> {
        let room = self.room(room, name)?;
        let Some(reference) = self.writer.allocate_transport() else {
            self.leave_room(room);
            return Err(self.full("transports"));
        };
        let record = records::transport(reference, room, spec);
        if self.writer.publish_transport(reference.slot, &record).is_err() {
            let _ = self.writer.retract_transport(reference.slot);
            self.leave_room(room);
            return Err(self.full("transports"));
        }
        self.by_slot.insert(reference.slot, spec.id);
        let programmed = Programmed { reference, record, cname: spec.cname.clone(), key: None };
        self.transports.insert(spec.id, Box::new(programmed));
        Ok(())
    }

    fn remove_transport(&mut self, transport: TransportId) {
        let Some(programmed) = self.transports.remove(&transport) else { return };
        self.by_slot.remove(&programmed.reference.slot);
        let _ = self.writer.retract_transport(programmed.reference.slot);
        if let Some(key) = programmed.key {
            let _ = self.writer.zeroise_key(key);
        }
        self.leave_room(programmed.record.room);
    }

    /// Publishes a transport's record anew after it was changed.
    fn republish(
        &mut self,
        transport: TransportId,
        change: impl FnOnce(&mut TransportIntent),
    ) -> Result<(), IntentError> {
        let Some(programmed) = self.transports.get_mut(&transport) else { return Ok(()) };
        change(&mut programmed.record);
        self.writer.publish_transport(programmed.reference.slot, &programmed.record)
    }

    fn add_track(&mut self, _room: RoomKey, spec: &TrackSpec) -> Result<(), TableFull> {
        let Some(programmed) = self.transports.get(&spec.transport) else { return Err(self.full("transports")) };
        let (owner, room, cname) = (programmed.reference, programmed.record.room, programmed.cname.clone());
        let reference = self.writer.allocate_track().ok_or_else(|| self.full("tracks"))?;
        let record = records::track(reference, owner, room, spec, &cname);
        // The extension ids are the transport's: a worker reads packets with them before it knows the track.
        let ids = self.republish(spec.transport, |record| records::merge_extensions(record, &spec.extensions));
        let published = ids.and_then(|()| self.writer.publish_track(reference.slot, &record));
        if published.is_err() {
            let _ = self.writer.retract_track(reference.slot);
            return Err(self.full("tracks"));
        }
        self.tracks.insert(spec.id, reference);
        Ok(())
    }

    fn add_subscription(&mut self, id: SubscriptionId, spec: &SubscriptionSpec) -> Result<(), TableFull> {
        let transport = self.reference_of(spec.transport).ok_or_else(|| self.full("transports"))?;
        let track = self.tracks.get(&spec.track).copied().ok_or_else(|| self.full("tracks"))?;
        let reference = self.writer.allocate_subscription().ok_or_else(|| self.full("subscriptions"))?;
        let record = records::subscription(reference, transport, track, spec);
        if self.writer.publish_subscription(reference.slot, &record).is_err() {
            let _ = self.writer.retract_subscription(reference.slot);
            return Err(self.full("subscriptions"));
        }
        self.subscriptions.insert(id, reference);
        Ok(())
    }

    /// Publishes what a slot shows from here on, in the record slot and generation that it has. The rest is
    /// read back from the segment.
    fn set_subscription(&mut self, id: SubscriptionId, shown: Option<&Shown>) -> Result<(), TableFull> {
        let Some(reference) = self.subscriptions.get(&id).copied() else { return Ok(()) };
        let Some(mut record) = self.writer.segment().intent_subscription(reference.slot) else { return Ok(()) };
        // A track that could not be added is none: the conference takes it back next.
        let track = shown.and_then(|shown| self.tracks.get(&shown.track).copied());
        records::show(&mut record, track.zip(shown));
        self.writer.publish_subscription(reference.slot, &record).map_err(|_| self.full("subscriptions"))
    }

    /// Installs the SRTP keys of a transport; a transport that has gone meanwhile is no news.
    ///
    /// # Errors
    /// See [`KeyRefused`].
    pub fn install_keys(&mut self, transport: TransportId, material: &KeyMaterial<'_>) -> Result<(), KeyRefused> {
        if !self.transports.contains_key(&transport) {
            return Ok(());
        }
        let mut record: KeyIntent = records::key(material).ok_or(KeyRefused::Unusable { profile: material.profile })?;
        let capacities = *self.writer.segment().capacities();
        let capacity = dataplane_abi::segment::key_records(&capacities);
        let full = KeyRefused::Full(TableFull { table: "keys", capacity });
        let Some(key) = self.writer.allocate_key() else {
            records::wipe(&mut record);
            return Err(full);
        };
        let written = self.writer.write_key(key, &record);
        records::wipe(&mut record);
        let cipher = record.cipher;
        let published = written.and_then(|()| {
            self.republish(transport, |intent| {
                intent.key = key;
                intent.cipher = cipher;
            })
        });
        if published.is_err() {
            let _ = self.writer.zeroise_key(key);
            return Err(full);
        }
        if let Some(programmed) = self.transports.get_mut(&transport)
            && let Some(old) = programmed.key.replace(key)
        {
            let _ = self.writer.zeroise_key(old);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
