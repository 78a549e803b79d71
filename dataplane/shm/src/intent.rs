// SPDX-License-Identifier: Apache-2.0
//! Writing intent: the programmer's side of the tables, keys and change rings.
//!
//! ```text
//!  allocate ──> fill a free record ──> swing the head ──> change ring of each worker ──> limbo ──> free
//! ```
//!
//! Free lists and generations live in private memory and are rebuilt from the published heads when a programmer attaches:
//! what no head reaches is free. Must never change a record that is published, and never run in two processes at once.

use core::sync::atomic::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

use dataplane_abi::ids::{KeyRef, RoomRef, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{KeyIntent, RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::ring::Change;
use dataplane_abi::segment::key_records;

use crate::mapping::Mapping;
use crate::publish;
use crate::segment::Segment;

mod announce;
pub mod head;
pub(crate) mod keys;
pub mod kind;
mod table;

use announce::Announcer;
use table::Table;

/// Why intent could not be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum IntentError {
    /// The segment was not attached with the right to write intent and keys.
    #[error("intent and keys are not mapped writable")]
    ReadOnly,
    /// A slot outside the table.
    #[error("slot {slot} is outside the table of {capacity}")]
    OutOfRange {
        /// The slot.
        slot: u32,
        /// Slots of the table.
        capacity: u32,
    },
    /// The slot is not allocated, or to another generation.
    #[error("slot {slot} has generation {allocated}, not {given}")]
    Stale {
        /// The slot.
        slot: u32,
        /// The generation in use, 0 = none.
        allocated: u32,
        /// The generation that was given.
        given: u32,
    },
    /// A key is written once; a rekey takes another slot.
    #[error("key slot {slot} is written already")]
    KeyWritten {
        /// The slot.
        slot: u32,
    },
    /// Every record is published or waits for a worker's acknowledgement.
    #[error("no free record: {waiting} wait for workers to acknowledge")]
    NoRecord {
        /// Records in limbo.
        waiting: usize,
    },
}

/// The one writer of intent.
pub struct IntentWriter {
    segment: Segment,
    intent: Arc<Mapping>,
    keys: Arc<Mapping>,
    workers: Announcer,
    transports: Table<TransportIntent>,
    tracks: Table<TrackIntent>,
    subscriptions: Table<SubscriptionIntent>,
    rooms: Table<RoomIntent>,
    /// Oldest first, so that a slot rests as long as possible.
    free_keys: VecDeque<u32>,
    /// Generation that each key slot has, 0 = free.
    live_keys: Vec<u32>,
}

impl core::fmt::Debug for IntentWriter {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "IntentWriter({:02x?})", self.segment.boot_id())
    }
}

macro_rules! table_api {
    ($what:literal, $table:ident, $record:ident, $reference:ident, $allocate:ident, $publish:ident, $retract:ident) => {
        #[doc = concat!("A free ", $what, " slot, with a generation that it never had; none when the table is full.")]
        pub fn $allocate(&mut self) -> Option<$reference> {
            self.$table.allocate(&self.intent)
        }
        #[doc = concat!("Publishes a ", $what, ": fills in version and size, swings the head, tells every worker.")]
        /// The record's generation must be the one that was allocated.
        ///
        /// # Errors
        /// Out of range, another generation, or no free record.
        pub fn $publish(&mut self, slot: u32, record: &$record) -> Result<(), IntentError> {
            self.$table.publish(&self.intent, &mut self.workers, slot, record)
        }
        #[doc = concat!("Takes a ", $what, " away, published or only allocated, tells every worker, and frees the slot.")]
        ///
        /// # Errors
        /// Out of range, or not allocated.
        pub fn $retract(&mut self, slot: u32) -> Result<(), IntentError> {
            self.$table.retract(&self.intent, &mut self.workers, slot)
        }
    };
}

impl IntentWriter {
    /// Becomes the writer: reads back the published heads, frees what no head reaches, wipes keys that no published
    /// transport refers to, writes its process id, and makes every worker rescan (the predecessor may have died between a
    /// head and its announcement).
    ///
    /// # Errors
    /// When intent or keys are not writable.
    pub fn attach(segment: &Segment) -> Result<Self, IntentError> {
        Self::rebuild(segment).ok_or(IntentError::ReadOnly)
    }

    fn rebuild(segment: &Segment) -> Option<Self> {
        let intent = Arc::clone(segment.writable_intent()?);
        let keys = Arc::clone(segment.writable_keys()?);
        let layout = segment.intent_layout();
        let mut writer = Self {
            segment: segment.clone(),
            workers: Announcer::new(segment)?,
            transports: Table::rebuild(&intent, layout)?,
            tracks: Table::rebuild(&intent, layout)?,
            subscriptions: Table::rebuild(&intent, layout)?,
            rooms: Table::rebuild(&intent, layout)?,
            free_keys: VecDeque::new(),
            live_keys: Vec::new(),
            intent,
            keys,
        };
        writer.rebuild_keys()?;
        publish::store_u64(&segment.state().programmer_pid, u64::from(std::process::id()));
        writer.workers.demand_rescan();
        Some(writer)
    }

    fn rebuild_keys(&mut self) -> Option<()> {
        let count = key_records(self.segment.capacities());
        self.live_keys = vec![0; count];
        for slot in 0..self.segment.capacities().transports {
            let Some(transport) = self.segment.intent_transport(slot) else { continue };
            if self.segment.key(transport.key).is_some()
                && let Some(live) = self.live_keys.get_mut(transport.key.index())
            {
                *live = transport.key.generation;
            }
        }
        for (slot, live) in (0_u32..).zip(&self.live_keys) {
            if *live != 0 {
                continue;
            }
            self.free_keys.push_back(slot);
            let words = keys::slot_words(&self.keys, self.segment.capacities(), slot)?;
            if keys::has_remains(words) {
                keys::wipe(words);
            }
        }
        Some(())
    }

    table_api!(
        "transport",
        transports,
        TransportIntent,
        TransportRef,
        allocate_transport,
        publish_transport,
        retract_transport
    );
    table_api!("track", tracks, TrackIntent, TrackRef, allocate_track, publish_track, retract_track);
    table_api!(
        "subscription",
        subscriptions,
        SubscriptionIntent,
        SubscriptionRef,
        allocate_subscription,
        publish_subscription,
        retract_subscription
    );
    table_api!("room", rooms, RoomIntent, RoomRef, allocate_room, publish_room, retract_room);

    /// A free key slot, with a generation that it never had.
    pub fn allocate_key(&mut self) -> Option<KeyRef> {
        let slot = self.free_keys.pop_front()?;
        let words = keys::slot_words(&self.keys, self.segment.capacities(), slot)?;
        let last = keys::generation_of(words.first()?.load(Ordering::Relaxed));
        let generation = last.wrapping_add(1).max(1);
        keys::reserve(words, generation);
        *self.live_keys.get_mut(slot as usize)? = generation;
        Some(KeyRef::at(slot, generation))
    }

    /// Writes a key into its allocated slot; version, size and generation are filled in. Publish the transport that refers
    /// to it afterwards.
    ///
    /// # Errors
    /// Out of range, another generation than the allocated one, or written already.
    pub fn write_key(&mut self, key: KeyRef, record: &KeyIntent) -> Result<(), IntentError> {
        let words = self.live_key(key)?;
        if words.first().is_some_and(|first| keys::is_present(first.load(Ordering::Relaxed))) {
            return Err(IntentError::KeyWritten { slot: key.slot });
        }
        keys::write(words, record, key.generation);
        Ok(())
    }

    /// Overwrites a key with zeroes and frees its slot.
    ///
    /// # Errors
    /// Out of range, or another generation than the allocated one.
    pub fn zeroise_key(&mut self, key: KeyRef) -> Result<(), IntentError> {
        keys::wipe(self.live_key(key)?);
        if let Some(live) = self.live_keys.get_mut(key.index()) {
            *live = 0;
        }
        self.free_keys.push_back(key.slot);
        Ok(())
    }

    fn live_key(&self, key: KeyRef) -> Result<&[core::sync::atomic::AtomicU64], IntentError> {
        let capacity = u32::try_from(self.live_keys.len()).unwrap_or(u32::MAX);
        let out_of_range = IntentError::OutOfRange { slot: key.slot, capacity };
        let allocated = *self.live_keys.get(key.index()).ok_or(out_of_range)?;
        if allocated == 0 || allocated != key.generation {
            return Err(IntentError::Stale { slot: key.slot, allocated, given: key.generation });
        }
        keys::slot_words(&self.keys, self.segment.capacities(), key.slot).ok_or(out_of_range)
    }

    /// Tells every worker that a slot changed; publish and retract do so themselves. A full ring is counted, and its worker
    /// rescans.
    pub fn notify(&mut self, change: Change) {
        self.workers.announce(&change);
    }

    /// Frees the records that every running worker has acknowledged; returns how many still wait. Publishing does this by
    /// itself when it runs out.
    pub fn collect(&mut self) -> usize {
        let workers = &self.workers;
        [
            self.transports.collect(workers),
            self.tracks.collect(workers),
            self.subscriptions.collect(workers),
            self.rooms.collect(workers),
        ]
        .iter()
        .sum()
    }

    /// Records that are free at once: transports, tracks, subscriptions, rooms.
    #[must_use]
    pub fn free_records(&self) -> [usize; 4] {
        [
            self.transports.free_records(),
            self.tracks.free_records(),
            self.subscriptions.free_records(),
            self.rooms.free_records(),
        ]
    }

    /// The segment that is written.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }
}
