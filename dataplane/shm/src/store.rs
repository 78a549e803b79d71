// SPDX-License-Identifier: Apache-2.0
//! The packet store: per ingress stream a log of plaintext packets (CONTRACTS 10).
//!
//! ```text
//!  directory chunk: 2048 slots        slot = {tag, place, info, arrival}      tag = generation‖ext_seq + 1, or 0
//!  data chunks:     [StoredHead | payload] …     the owner worker writes, any worker reads
//! ```
//!
//! A reader checks the tag before and after it used the bytes. Shared plaintext is [`StoreBytes`], never `&[u8]`: it may
//! change while it is read. Must never give a reader bytes under a tag that still holds when they are another packet's.

use core::mem::size_of;
use std::sync::Arc;

use dataplane_abi::limits::{CHUNK_BYTES, LOG_SLOTS};
use dataplane_abi::store::{LogSlot, StoredHead};

use crate::mapping::Mapping;

mod bytes;
mod pool;
mod reader;
mod writer;

pub use bytes::StoreBytes;
pub use pool::ChunkPool;
pub use reader::{LogReader, Stored};
pub use writer::{Keep, LogWriter};

/// Longest room that can be reserved for a packet.
pub const ROOM_BYTES: usize = 2048;
/// Bytes of the head in front of each payload.
pub(crate) const HEAD_BYTES: usize = size_of::<StoredHead>();

/// What a slot says about a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StoredInfo {
    /// RTP timestamp.
    pub rtp_ts: u32,
    /// `packet_flags`.
    pub flags: u32,
    /// Arrival, monotonic ns.
    pub arrival_ns: u64,
}

/// The mapped store.
#[derive(Clone, Debug)]
pub(crate) struct StoreMap {
    mapping: Arc<Mapping>,
}

impl StoreMap {
    pub(crate) const fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping }
    }

    #[inline]
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Chunks that exist.
    pub(crate) fn chunks(&self) -> u32 {
        u32::try_from(self.mapping.bytes() / CHUNK_BYTES).unwrap_or(u32::MAX).saturating_sub(1)
    }

    /// A slot of a directory.
    #[inline]
    pub(crate) fn slot(&self, directory: u32, index: usize) -> Option<&LogSlot> {
        self.mapping.record(chunk_offset(directory) + (index % LOG_SLOTS) * size_of::<LogSlot>())
    }
}

/// Offset of a chunk in the store memfd.
#[inline]
pub(crate) const fn chunk_offset(chunk: u32) -> usize {
    CHUNK_BYTES + chunk as usize * CHUNK_BYTES
}

/// The index of a packet's slot.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "less than LOG_SLOTS")]
pub(crate) const fn slot_index(ext_seq: u64) -> usize {
    (ext_seq % LOG_SLOTS as u64) as usize
}

const EXT_SEQ_BITS: u32 = 48;

/// The tag of a packet: generation of the log (16 bits), ext_seq + 1 (48 bits). None when ext_seq is out of range.
#[inline]
pub(crate) const fn tag_of(generation: u16, ext_seq: u64) -> Option<u64> {
    if ext_seq >= (1 << EXT_SEQ_BITS) - 1 {
        return None;
    }
    Some(((generation as u64) << EXT_SEQ_BITS) | (ext_seq + 1))
}

/// The ext_seq of a tag; none for an empty slot.
#[inline]
pub(crate) const fn ext_seq_of(tag: u64) -> Option<u64> {
    (tag & ((1 << EXT_SEQ_BITS) - 1)).checked_sub(1)
}

const PLACE_BITS: u32 = 40;

/// Offset and length in one word.
#[inline]
pub(crate) const fn place_of(offset: usize, bytes: usize) -> u64 {
    (offset as u64) | ((bytes as u64) << PLACE_BITS)
}

/// The inverse of [`place_of`].
#[inline]
pub(crate) const fn split_place(place: u64) -> (usize, usize) {
    ((place & ((1 << PLACE_BITS) - 1)) as usize, (place >> PLACE_BITS) as usize)
}

const _: () = assert!(size_of::<usize>() == 8, "offsets into the store need 40 bits");
