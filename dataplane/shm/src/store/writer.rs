// SPDX-License-Identifier: Apache-2.0
//! Writing a log: the owner worker of an ingress stream.
//!
//! ```text
//!  chunks, oldest first:  [ … ] [ … ] [ … used |            ]      reserve: head space and room at `used`
//!                           └ goes first: its slots' tags are zeroed before its bytes may be overwritten
//! ```
//!
//! Reserve and commit neither allocate nor wait. Must never overwrite bytes that a slot with a tag names.

use core::ops::Range;
use core::sync::atomic::Ordering;

use dataplane_abi::ids::IngressId;
use dataplane_abi::limits::{CHUNK_BYTES, LOG_SLOTS};
use dataplane_abi::store::{StoredHead, packet_flags};

use crate::publish;
use crate::store::pool::ChunkUse;
use crate::store::{ChunkPool, HEAD_BYTES, ROOM_BYTES, StoreMap, StoredInfo};
use crate::store::{bytes, chunk_offset, ext_seq_of, place_of, pool, slot_index, split_place, tag_of};
use crate::sync::fence;

/// Packets start at multiples of this.
const PACKET_ALIGN: usize = 16;
const SECOND_NS: u64 = 1_000_000_000;

/// Data chunks that a log may have: 8 MiB, more than 4 s at 16 Mbit/s.
const MAX_SHARE: usize = 128;

/// How long packets are kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// 1 s.
    Audio,
    /// 2 s, or back to the last keyframe if that is longer, but at most 4 s.
    Video,
}

/// Reserved and not committed.
#[derive(Clone, Copy, Debug)]
struct Room {
    offset: usize,
    len: usize,
}

/// The log of one ingress stream; one writer.
#[derive(Debug)]
pub struct LogWriter {
    store: StoreMap,
    ingress: IngressId,
    directory: u32,
    generation: u16,
    /// The data chunk that is written; none before the first packet. The older ones are in the pool's list, from `oldest` on.
    newest: Option<ChunkUse>,
    oldest: u32,
    /// Data chunks at most, and in use.
    share: usize,
    count: usize,
    /// Bytes used of the newest chunk.
    used: usize,
    room: Option<Room>,
    top: Option<u64>,
    keyframe: Option<u64>,
    laps: u64,
}

impl LogWriter {
    /// Opens a log of at most `share_chunks` data chunks (at least 2, plus one for the directory) and stores its name in
    /// `IngressDurable::log`. None when the pool is empty or the ingress id is out of range.
    #[must_use]
    pub fn open(pool: &mut ChunkPool, ingress: IngressId, share_chunks: u32) -> Option<Self> {
        let share = (share_chunks as usize).clamp(2, MAX_SHARE);
        pool.segment().ingress(ingress)?;
        let (directory, generation) = pool.take_directory()?;
        let log = Self {
            store: pool.store().clone(),
            ingress,
            directory,
            generation,
            newest: None,
            oldest: 0,
            share,
            count: 0,
            used: 0,
            room: None,
            top: None,
            keyframe: None,
            laps: 0,
        };
        publish::store_u64(&pool.segment().ingress(ingress)?.log, log.directory());
        Some(log)
    }

    /// Room of `len` ≤ 2048 bytes in the log, to be written by `unprotect`; visible to nobody before [`Self::commit`].
    /// When the share or the pool is used up, the oldest chunk of this log goes, counted. None when `len` is too long or
    /// not even one chunk is to be had.
    #[inline]
    pub fn reserve(&mut self, pool: &mut ChunkPool, len: usize) -> Option<&mut [u8]> {
        if len > ROOM_BYTES {
            return None;
        }
        if self.count == 0 || self.used + HEAD_BYTES + len > CHUNK_BYTES {
            self.roll_over(pool)?;
        }
        let offset = chunk_offset(self.newest?.chunk) + self.used + HEAD_BYTES;
        self.room = Some(Room { offset, len });
        bytes::room(&mut self.store, offset, len)
    }

    /// The room reserved last, as it was filled: what `commit` will make readable.
    #[inline]
    pub fn reserved(&mut self) -> Option<&[u8]> {
        let room = self.room?;
        bytes::room(&mut self.store, room.offset, room.len).map(|room| &*room)
    }

    /// Makes the packet in the reserved room readable: `payload` is its place within the room; the head is written in
    /// front of it (its `payload_len` is filled in). False, and nothing is stored, when nothing is reserved, the place lies
    /// outside the room, the number is older than what the directory holds, or is there already.
    #[inline]
    pub fn commit(&mut self, ext_seq: u64, head: &StoredHead, payload: Range<usize>, info: &StoredInfo) -> bool {
        let Some(room) = self.room.take() else { return false };
        let (Some(tag), true) = (tag_of(self.generation, ext_seq), self.takes(ext_seq)) else { return false };
        if payload.start > payload.end || payload.end > room.len {
            return false;
        }
        let mut head = *head;
        head.payload_len = u16::try_from(payload.end - payload.start).unwrap_or(u16::MAX);
        // The head goes right in front of the payload; where that is inside the room, the RTP header there was used up.
        let offset = room.offset + payload.start - HEAD_BYTES;
        if !bytes::write_head(&mut self.store, offset, &head) {
            return false;
        }
        let Some(slot) = self.store.slot(self.directory, slot_index(ext_seq)) else { return false };
        if slot.tag.load(Ordering::Relaxed) != 0 {
            slot.tag.store(0, Ordering::Relaxed);
            // Pairs with the fence in `Stored::still_valid`: whoever sees the fields below sees that the old tag is gone.
            fence(Ordering::Release);
        }
        slot.place.store(place_of(offset, HEAD_BYTES + payload.end - payload.start), Ordering::Relaxed);
        slot.info.store(u64::from(info.rtp_ts) | (u64::from(info.flags) << 32), Ordering::Relaxed);
        slot.arrival_ns.store(info.arrival_ns, Ordering::Relaxed);
        publish::store_u64(&slot.tag, tag);
        self.used = (self.used + HEAD_BYTES + payload.end).next_multiple_of(PACKET_ALIGN);
        self.note(ext_seq, info);
        true
    }

    /// Whether the directory has a place for this number.
    #[inline]
    fn takes(&self, ext_seq: u64) -> bool {
        if self.top.is_some_and(|top| ext_seq.saturating_add(LOG_SLOTS as u64) <= top) {
            return false;
        }
        let held = self.store.slot(self.directory, slot_index(ext_seq)).map(|slot| slot.tag.load(Ordering::Relaxed));
        held.and_then(ext_seq_of).is_none_or(|held| held < ext_seq)
    }

    #[inline]
    fn note(&mut self, ext_seq: u64, info: &StoredInfo) {
        if let Some(newest) = &mut self.newest {
            newest.lowest = newest.lowest.min(ext_seq);
            newest.highest = newest.highest.max(ext_seq);
            newest.newest_ns = newest.newest_ns.max(info.arrival_ns);
        }
        self.top = self.top.max(Some(ext_seq));
        if info.flags & packet_flags::KEYFRAME != 0 {
            self.keyframe = self.keyframe.max(Some(ext_seq));
        }
    }

    /// Gives the reserved room back, because the tag did not verify.
    #[inline]
    pub const fn abandon(&mut self) {
        self.room = None;
    }

    /// Lets go of whole chunks that are older than the policy asks for; returns how many. Call it about once per second.
    pub fn trim(&mut self, pool: &mut ChunkPool, now_ns: u64, keep: Keep) -> usize {
        self.release_while(pool, |chunk, keyframe| {
            let age_ns = now_ns.saturating_sub(chunk.newest_ns);
            match keep {
                Keep::Audio => age_ns > SECOND_NS,
                Keep::Video => {
                    let is_needed = keyframe.is_some_and(|keyframe| chunk.highest >= keyframe);
                    age_ns > 4 * SECOND_NS || (age_ns > 2 * SECOND_NS && !is_needed)
                }
            }
        })
    }

    /// Lets go of whole chunks with nothing from `ext_seq` on; returns how many.
    pub fn trim_before(&mut self, pool: &mut ChunkPool, ext_seq: u64) -> usize {
        self.release_while(pool, |chunk, _| chunk.highest < ext_seq)
    }

    /// Lets go of the oldest chunk, unless it is being written; for "the oldest of the largest goes".
    pub fn release_oldest(&mut self, pool: &mut ChunkPool) -> bool {
        let mut is_first = true;
        self.release_while(pool, |_, _| core::mem::take(&mut is_first)) == 1
    }

    fn release_while(&mut self, pool: &mut ChunkPool, mut goes: impl FnMut(&ChunkUse, Option<u64>) -> bool) -> usize {
        let mut released = 0;
        while self.count > 1 && pool.used(self.oldest).is_some_and(|oldest| goes(oldest, self.keyframe)) {
            let Some(chunk) = self.forget_oldest(pool) else { break };
            pool.put(chunk);
            released += 1;
        }
        released
    }

    /// Starts a chunk: from the pool while the share lasts, else the oldest of this log.
    fn roll_over(&mut self, pool: &mut ChunkPool) -> Option<()> {
        let fresh = if self.count < self.share { pool.take() } else { None };
        let chunk = match fresh {
            Some(chunk) => chunk,
            None => {
                let chunk = self.forget_oldest(pool)?;
                self.laps += 1;
                chunk
            }
        };
        match self.newest.replace(ChunkUse::empty(chunk)) {
            Some(before) => pool.note_use(ChunkUse { newer: chunk, ..before }),
            None => self.oldest = chunk,
        }
        self.count += 1;
        self.used = 0;
        Some(())
    }

    /// Makes the packets of the oldest chunk unreadable; the chunk may be overwritten afterwards.
    fn forget_oldest(&mut self, pool: &ChunkPool) -> Option<u32> {
        let left = self.count.checked_sub(1)?;
        let oldest = if left == 0 { self.newest.take()? } else { *pool.used(self.oldest)? };
        self.oldest = oldest.newer;
        self.count = left;
        let last = oldest.highest.min(oldest.lowest.saturating_add(LOG_SLOTS as u64 - 1));
        for slot in (oldest.lowest..=last).filter_map(|ext_seq| self.store.slot(self.directory, slot_index(ext_seq))) {
            let (offset, _) = split_place(slot.place.load(Ordering::Relaxed));
            if offset / CHUNK_BYTES == chunk_offset(oldest.chunk) / CHUNK_BYTES {
                slot.tag.store(0, Ordering::Relaxed);
            }
        }
        // Pairs with the fence in `Stored::still_valid`: whoever sees a byte that is written from here on sees the tag gone.
        fence(Ordering::Release);
        Some(oldest.chunk)
    }

    /// The highest ext_seq committed.
    #[must_use]
    pub const fn top(&self) -> Option<u64> {
        self.top
    }

    /// The word for `IngressDurable::log` and `Segment::log_reader`: (generation << 32) | directory chunk + 1.
    #[must_use]
    pub const fn directory(&self) -> u64 {
        pool::log_word(self.directory, self.generation)
    }

    /// The ingress stream.
    #[must_use]
    pub const fn ingress(&self) -> IngressId {
        self.ingress
    }

    /// Data chunks in use.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.count
    }

    /// Chunks that went because share or pool were used up.
    #[must_use]
    pub const fn laps(&self) -> u64 {
        self.laps
    }

    /// Makes the log unreadable, clears `IngressDurable::log`, and gives all chunks back.
    pub fn close(mut self, pool: &mut ChunkPool) {
        if let Some(ingress) = pool.segment().ingress(self.ingress)
            && ingress.log.load(Ordering::Relaxed) == self.directory()
        {
            publish::store_u64(&ingress.log, 0);
        }
        pool::clear_directory(&self.store, self.directory);
        while let Some(chunk) = self.forget_oldest(pool) {
            pool.put(chunk);
        }
        pool.put_directory(self.directory);
    }
}
