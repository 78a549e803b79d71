// SPDX-License-Identifier: Apache-2.0
//! A worker's own part of the chunks: plain free lists, no atomics.
//!
//! A chunk that was a directory once is only ever a directory again, so that no payload can pose as slots for a reader that
//! is late. Must never give out a chunk that a readable slot still names.

use core::sync::atomic::Ordering;

use dataplane_abi::ids::IngressId;
use dataplane_abi::limits::{CHUNK_BYTES, ENCODINGS, LOG_SLOTS};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::publish;
use crate::segment::Segment;
use crate::store::{StoreMap, chunk_offset};
use crate::sync::fence;

/// Chunks whose pages a pool has filled in from the start: 4 MiB, what five cameras keep.
const READY_CHUNKS: u32 = 64;

/// A data chunk of a log and what lies in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChunkUse {
    pub(super) chunk: u32,
    /// The next newer chunk of the same log; of no meaning in the newest.
    pub(super) newer: u32,
    /// Lowest ext_seq; above `highest` when the chunk is empty.
    pub(super) lowest: u64,
    pub(super) highest: u64,
    /// Latest arrival, ns.
    pub(super) newest_ns: u64,
}

impl ChunkUse {
    pub(super) const fn empty(chunk: u32) -> Self {
        Self { chunk, newer: 0, lowest: u64::MAX, highest: 0, newest_ns: 0 }
    }
}

/// Free chunks of one worker.
#[derive(Debug)]
pub struct ChunkPool {
    segment: Segment,
    store: StoreMap,
    first_chunk: u32,
    data: Vec<u32>,
    /// By chunk: what lies in it, where it is a log's and not its newest. 40 B for 64 KiB.
    uses: Vec<ChunkUse>,
    directories: Vec<u32>,
    generation: u16,
    /// Chunks below this have their pages: lower ones are given out first.
    ready: u32,
}

impl ChunkPool {
    /// The chunks `first_chunk .. first_chunk + count`, as far as they exist, all free: logs that a predecessor left in them
    /// are made unreadable and forgotten first. None when store or durable state are not mapped writable.
    ///
    /// A chunk belongs to one living pool: the predecessor of this one must be dead (process or thread) before it is made.
    #[must_use]
    pub fn new(segment: &Segment, first_chunk: u32, count: u32) -> Option<Self> {
        let store = segment.store()?.clone();
        if !segment.owns_durable() || !store.mapping().is_writable() {
            return None;
        }
        let end = first_chunk.saturating_add(count).min(store.chunks());
        let chunks = first_chunk..end;
        let mut generation = [0_u8; 2];
        getrandom(&mut generation, GetRandomFlags::empty()).ok()?;
        let mut directories = Vec::with_capacity(chunks.len());
        let ingresses = u32::try_from(segment.capacities().tracks as usize * ENCODINGS).ok()?;
        for ingress in (0..ingresses).filter_map(|id| segment.ingress(IngressId(id))) {
            let log = ingress.log.load(Ordering::Acquire);
            let Some(chunk) = directory_of(log).filter(|chunk| chunks.contains(chunk)) else { continue };
            publish::store_u64(&ingress.log, 0);
            clear_directory(&store, chunk);
            if !directories.contains(&chunk) {
                directories.push(chunk);
            }
        }
        // The first chunks are given out first, so that the memory that is touched stays small.
        let uses = vec![ChunkUse::empty(0); chunks.len()];
        let mut data = Vec::with_capacity(chunks.len());
        data.extend(chunks.rev().filter(|chunk| !directories.contains(chunk)));
        let generation = u16::from_ne_bytes(generation);
        let ready = first_chunk.saturating_add(READY_CHUNKS).min(end);
        if let Some(count) = ready.checked_sub(first_chunk) {
            store.mapping().populate(chunk_offset(first_chunk), count as usize * CHUNK_BYTES);
        }
        Some(Self { segment: segment.clone(), store, first_chunk, data, uses, directories, generation, ready })
    }

    /// Free chunks that can hold packets.
    #[must_use]
    pub const fn free(&self) -> usize {
        self.data.len()
    }

    pub(super) const fn segment(&self) -> &Segment {
        &self.segment
    }

    pub(super) const fn store(&self) -> &StoreMap {
        &self.store
    }

    #[inline]
    pub(super) fn take(&mut self) -> Option<u32> {
        let chunk = self.data.pop()?;
        // A packet that ran into the sixteen pages one by one would wait for each.
        if chunk >= self.ready {
            self.ready = chunk + 1;
            self.store.mapping().populate(chunk_offset(chunk), CHUNK_BYTES);
        }
        Some(chunk)
    }

    /// What lies in a chunk that is not the newest of its log.
    pub(super) fn used(&self, chunk: u32) -> Option<&ChunkUse> {
        self.uses.get(chunk.checked_sub(self.first_chunk)? as usize)
    }

    /// Remembers what lies in a chunk that is the newest of its log no more.
    pub(super) fn note_use(&mut self, used: ChunkUse) {
        let at = used.chunk.checked_sub(self.first_chunk);
        if let Some(place) = at.and_then(|at| self.uses.get_mut(at as usize)) {
            *place = used;
        }
    }

    #[inline]
    pub(super) fn put(&mut self, chunk: u32) {
        self.data.push(chunk);
    }

    /// An empty directory and its log's generation.
    pub(super) fn take_directory(&mut self) -> Option<(u32, u16)> {
        let chunk = self.directories.pop().or_else(|| self.take())?;
        clear_directory(&self.store, chunk);
        self.generation = self.generation.wrapping_add(1);
        Some((chunk, self.generation))
    }

    pub(super) fn put_directory(&mut self, chunk: u32) {
        self.directories.push(chunk);
    }
}

/// Makes every slot of a directory unreadable.
pub(super) fn clear_directory(store: &StoreMap, chunk: u32) {
    for slot in (0..LOG_SLOTS).filter_map(|index| store.slot(chunk, index)) {
        slot.tag.store(0, Ordering::Relaxed);
    }
    // Pairs with the fence in `Stored::still_valid`: whoever sees bytes that are written from here on sees the tag gone.
    fence(Ordering::Release);
}

/// The directory chunk in a word of `IngressDurable::log`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half of the word")]
pub(super) const fn directory_of(log: u64) -> Option<u32> {
    (log as u32).checked_sub(1)
}

/// The generation in a word of `IngressDurable::log`.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "bits 32 to 48 of the word")]
pub(super) const fn generation_of(log: u64) -> u16 {
    (log >> 32) as u16
}

/// A word of `IngressDurable::log`.
#[inline]
pub(super) const fn log_word(directory: u32, generation: u16) -> u64 {
    ((generation as u64) << 32) | (directory as u64 + 1)
}
