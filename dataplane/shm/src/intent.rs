// SPDX-License-Identifier: Apache-2.0
//! Writing intent: the programmer's side of the tables, keys and change rings.
//!
//! ```text
//!  allocate ──> fill a free record ──> swing the head ──> change ring of each worker ──> limbo ──> free
//! ```
//!
//! Free lists and generations live in private memory and are rebuilt from the published heads when a programmer attaches:
//! what no head reaches is free. Must never change a record that is published, and never run in two processes at once.

use dataplane_abi::ids::{KeyRef, RoomRef, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{KeyIntent, RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::ring::Change;

use crate::segment::Segment;

pub mod head;
pub(crate) mod keys;
pub mod kind;

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
    /// Every record is published or waits for a worker's acknowledgement.
    #[error("no free record: {waiting} wait for workers to acknowledge")]
    NoRecord {
        /// Records in limbo.
        waiting: usize,
    },
}

/// The one writer of intent.
#[derive(Debug)]
pub struct IntentWriter {
    segment: Segment,
}

macro_rules! table_api {
    ($what:literal, $record:ident, $reference:ident, $allocate:ident, $publish:ident, $retract:ident) => {
        #[doc = concat!("A free ", $what, " slot, with a generation that it never had; none when the table is full.")]
        pub fn $allocate(&mut self) -> Option<$reference> {
            todo!()
        }
        #[doc = concat!("Publishes a ", $what, ": fills in version and size, swings the head, tells every worker.")]
        /// The record's generation must be the one that was allocated.
        ///
        /// # Errors
        /// Out of range, another generation, or no free record.
        pub fn $publish(&mut self, _slot: u32, _record: &$record) -> Result<(), IntentError> {
            todo!()
        }
        #[doc = concat!("Takes a ", $what, " away, published or only allocated, tells every worker, and frees the slot.")]
        ///
        /// # Errors
        /// Out of range, or not allocated.
        pub fn $retract(&mut self, _slot: u32) -> Result<(), IntentError> {
            todo!()
        }
    };
}

impl IntentWriter {
    /// Becomes the writer: reads back the published heads, frees what no head reaches, wipes keys that no published
    /// transport refers to, writes its process id, and makes every worker rescan.
    ///
    /// # Errors
    /// When intent or keys are not writable.
    pub fn attach(segment: &Segment) -> Result<Self, IntentError> {
        Ok(Self { segment: segment.clone() })
    }

    table_api!("transport", TransportIntent, TransportRef, allocate_transport, publish_transport, retract_transport);
    table_api!("track", TrackIntent, TrackRef, allocate_track, publish_track, retract_track);
    table_api!(
        "subscription",
        SubscriptionIntent,
        SubscriptionRef,
        allocate_subscription,
        publish_subscription,
        retract_subscription
    );
    table_api!("room", RoomIntent, RoomRef, allocate_room, publish_room, retract_room);

    /// A free key slot, with a generation that it never had.
    pub fn allocate_key(&mut self) -> Option<KeyRef> {
        todo!()
    }

    /// Writes a key into its allocated slot; version, size and generation are filled in. Publish the transport that refers
    /// to it afterwards.
    ///
    /// # Errors
    /// Out of range, or another generation than the allocated one.
    pub fn write_key(&mut self, _key: KeyRef, _record: &KeyIntent) -> Result<(), IntentError> {
        todo!()
    }

    /// Overwrites a key with zeroes and frees its slot.
    ///
    /// # Errors
    /// Out of range, or another generation than the allocated one.
    pub fn zeroise_key(&mut self, _key: KeyRef) -> Result<(), IntentError> {
        todo!()
    }

    /// Tells every worker that a slot changed; publish and retract do so themselves. A full ring is counted, and its worker
    /// rescans.
    pub fn notify(&mut self, _change: Change) {
        todo!()
    }

    /// Frees the records that every running worker has acknowledged; returns how many still wait.
    pub fn collect(&mut self) -> usize {
        todo!()
    }

    /// The segment that is written.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }
}
