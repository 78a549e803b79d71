// SPDX-License-Identifier: Apache-2.0
//! Writing a log: the owner worker of an ingress stream.

use core::ops::Range;

use dataplane_abi::ids::IngressId;
use dataplane_abi::store::StoredHead;

use crate::store::{ChunkPool, StoredInfo};

/// How long packets are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// 1 s.
    Audio,
    /// 2 s, or back to the last keyframe if that is longer, but at most 4 s.
    Video,
}

/// The log of one ingress stream; one writer.
#[derive(Debug)]
pub struct LogWriter {
    ingress: IngressId,
}

impl LogWriter {
    /// Opens a log of at most `share_chunks` data chunks (at least 2, plus one for the directory) and stores its name in
    /// `IngressDurable::log`. None when the pool is empty or the ingress id is out of range.
    #[must_use]
    pub fn open(_pool: &mut ChunkPool, _ingress: IngressId, _share_chunks: u32) -> Option<Self> {
        todo!()
    }

    /// Room of `len` ≤ 2048 bytes in the log, to be written by `unprotect`; visible to nobody before [`Self::commit`].
    /// When the share or the pool is used up, the oldest chunk of this log goes, counted. None when `len` is too long or
    /// not even one chunk is to be had.
    #[inline]
    pub fn reserve(&mut self, _pool: &mut ChunkPool, _len: usize) -> Option<&mut [u8]> {
        todo!()
    }

    /// Makes the packet in the reserved room readable: `payload` is its place within the room; the head is written in
    /// front of it (its `payload_len` is filled in). False, and nothing is stored, when nothing is reserved, the place lies
    /// outside the room, the number is older than what the directory holds, or is there already.
    #[inline]
    pub fn commit(&mut self, _ext_seq: u64, _head: &StoredHead, _payload: Range<usize>, _info: &StoredInfo) -> bool {
        todo!()
    }

    /// Gives the reserved room back, because the tag did not verify.
    #[inline]
    pub fn abandon(&mut self) {}

    /// Lets go of whole chunks that are older than the policy asks for; returns how many. Call it about once per second.
    pub fn trim(&mut self, _pool: &mut ChunkPool, _now_ns: u64, _keep: Keep) -> usize {
        todo!()
    }

    /// Lets go of whole chunks with nothing from `ext_seq` on; returns how many.
    pub fn trim_before(&mut self, _pool: &mut ChunkPool, _ext_seq: u64) -> usize {
        todo!()
    }

    /// Lets go of the oldest chunk, unless it is being written; for "the oldest of the largest goes".
    pub fn release_oldest(&mut self, _pool: &mut ChunkPool) -> bool {
        todo!()
    }

    /// The highest ext_seq committed.
    #[must_use]
    pub const fn top(&self) -> Option<u64> {
        None
    }

    /// The word for `IngressDurable::log` and `Segment::log_reader`: (generation << 32) | directory chunk + 1.
    #[must_use]
    pub const fn directory(&self) -> u64 {
        0
    }

    /// The ingress stream.
    #[must_use]
    pub const fn ingress(&self) -> IngressId {
        self.ingress
    }

    /// Data chunks in use.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        0
    }

    /// Chunks that went because share or pool were used up.
    #[must_use]
    pub const fn laps(&self) -> u64 {
        0
    }

    /// Makes the log unreadable, clears `IngressDurable::log`, and gives all chunks back.
    pub fn close(self, _pool: &mut ChunkPool) {
        todo!()
    }
}
