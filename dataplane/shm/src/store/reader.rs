// SPDX-License-Identifier: Apache-2.0
//! Reading a log from any worker.
//!
//! Everything that a slot says is checked against the bounds of the store before it is used: a hostile or stale directory
//! gives wrong bytes at worst. Must never block the owner: a reader that is lapped finds out by itself.

use core::sync::atomic::Ordering;

use dataplane_abi::limits::CHUNK_BYTES;
use dataplane_abi::store::{LogSlot, StoredHead};

use crate::store::{HEAD_BYTES, StoreBytes, StoreMap, StoredInfo, bytes, pool, slot_index, split_place, tag_of};
use crate::sync::fence;

/// A log, to read; as cheap to make as to copy.
#[derive(Clone, Copy, Debug)]
pub struct LogReader<'store> {
    store: &'store StoreMap,
    directory: u32,
    generation: u16,
}

impl<'store> LogReader<'store> {
    #[inline]
    pub(crate) fn of(store: &'store StoreMap, log: u64) -> Option<Self> {
        let directory = pool::directory_of(log)?;
        let _: &LogSlot = store.slot(directory, 0)?;
        Some(Self { store, directory, generation: pool::generation_of(log) })
    }

    /// The packet `ext_seq`, if it is in the log.
    #[inline]
    #[must_use]
    pub fn get(&self, ext_seq: u64) -> Option<Stored<'store>> {
        let tag = tag_of(self.generation, ext_seq)?;
        let slot = self.store.slot(self.directory, slot_index(ext_seq))?;
        // Pairs with the Release of the tag in `LogWriter::commit`; without it slot and bytes may not be there yet.
        if slot.tag.load(Ordering::Acquire) != tag {
            return None;
        }
        let place = slot.place.load(Ordering::Relaxed);
        let info = slot.info.load(Ordering::Relaxed);
        let arrival_ns = slot.arrival_ns.load(Ordering::Relaxed);
        let (offset, bytes) = split_place(place);
        if offset < CHUNK_BYTES || bytes < HEAD_BYTES {
            return None;
        }
        let bytes = StoreBytes::at(self.store.mapping(), offset, bytes)?;
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
        let info = StoredInfo { rtp_ts: info as u32, flags: (info >> 32) as u32, arrival_ns };
        let stored = Stored { slot, tag, place, info, bytes };
        stored.still_valid().then_some(stored)
    }
}

/// A packet in the store, as long as its tag holds.
#[derive(Clone, Copy)]
pub struct Stored<'store> {
    slot: &'store LogSlot,
    tag: u64,
    place: u64,
    info: StoredInfo,
    bytes: StoreBytes<'store>,
}

impl core::fmt::Debug for Stored<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Stored({:?}, {:?})", self.info, self.bytes)
    }
}

impl<'store> Stored<'store> {
    /// Timestamp, flags and arrival.
    #[inline]
    #[must_use]
    pub const fn info(&self) -> StoredInfo {
        self.info
    }

    /// A copy of the head; meaningless unless [`Self::still_valid`] says so afterwards.
    #[inline]
    #[must_use]
    pub fn head(&self) -> StoredHead {
        bytes::read_head(self.bytes)
    }

    /// The payload, meaningless unless [`Self::still_valid`] says so after it was copied.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> StoreBytes<'store> {
        self.bytes.slice(HEAD_BYTES)
    }

    /// Whether everything copied from this packet so far is the packet.
    #[inline]
    #[must_use]
    pub fn still_valid(&self) -> bool {
        // Pairs with the Release fences of the writer after it zeroed a tag; without it the tag may still look right
        // although the bytes were another packet's.
        fence(Ordering::Acquire);
        self.slot.tag.load(Ordering::Relaxed) == self.tag && self.slot.place.load(Ordering::Relaxed) == self.place
    }
}
