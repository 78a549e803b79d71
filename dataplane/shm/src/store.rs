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

use std::sync::Arc;

use dataplane_abi::limits::CHUNK_BYTES;

use crate::mapping::Mapping;

mod pool;
mod reader;
mod writer;

pub use pool::ChunkPool;
pub use reader::{LogReader, StoreBytes, Stored};
pub use writer::{Keep, LogWriter};

/// Longest room that can be reserved for a packet.
pub const ROOM_BYTES: usize = 2048;

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
    pub(crate) fn new(mapping: Arc<Mapping>) -> Self {
        Self { mapping }
    }
}

/// Offset of a chunk in the store memfd.
pub(crate) const fn chunk_offset(chunk: u32) -> usize {
    CHUNK_BYTES + chunk as usize * CHUNK_BYTES
}
