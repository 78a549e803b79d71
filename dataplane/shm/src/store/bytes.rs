// SPDX-License-Identifier: Apache-2.0
//! Bytes of the store: shared while they may change, exclusive while they are reserved.
//!
//! The one place of the store that turns offsets into bytes. Must never hand out `&[u8]` of what others may write.
#![expect(unsafe_code, reason = "bytes of the store")]

use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use dataplane_abi::store::StoredHead;

use crate::mapping::Mapping;
use crate::store::{HEAD_BYTES, StoreMap};

/// Shared plaintext: may change while it is copied, so it is never a slice of bytes.
#[derive(Clone, Copy)]
pub struct StoreBytes<'store> {
    bytes: &'store [AtomicU8],
}

impl core::fmt::Debug for StoreBytes<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "StoreBytes({})", self.bytes.len())
    }
}

impl<'store> StoreBytes<'store> {
    /// `len` bytes at `offset`, if they lie in the store.
    #[inline]
    pub(crate) fn at(mapping: &'store Mapping, offset: usize, len: usize) -> Option<Self> {
        let start = mapping.at(offset, len, 1)?.cast::<AtomicU8>();
        // SAFETY: the slice is valid because all of it lies inside the mapping, which lives as long as 'store, and because
        // atomics accept any content and concurrent change.
        let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), len) };
        Some(Self { bytes })
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is nothing.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The bytes as what they are: memory that others may write.
    #[inline]
    #[must_use]
    pub const fn as_atomics(&self) -> &'store [AtomicU8] {
        self.bytes
    }

    /// Copies as much as fits into `dst`; returns how many bytes.
    #[inline]
    pub fn copy_to(&self, dst: &mut [u8]) -> usize {
        let len = self.bytes.len().min(dst.len());
        let (Some(from), Some(to)) = (self.bytes.get(..len), dst.get_mut(..len)) else { return 0 };
        // SAFETY: eight `AtomicU8` may be seen as one `AtomicU64` because both are plain memory with any content valid;
        // `align_to` keeps alignment.
        let (before, words, _) = unsafe { from.align_to::<AtomicU64>() };
        let (head, rest) = to.split_at_mut(before.len());
        copy_single(before, head);
        let (middle, last) = rest.split_at_mut(words.len() * 8);
        for (word, eight) in words.iter().zip(middle.chunks_exact_mut(8)) {
            eight.copy_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        let after = from.get(len - last.len()..).unwrap_or_default();
        copy_single(after, last);
        len
    }

    /// Copies at most `n` bytes; returns how many.
    #[inline]
    pub fn copy_prefix(&self, n: usize, dst: &mut [u8]) -> usize {
        let n = n.min(self.bytes.len());
        self.bytes.get(..n).map_or(0, |bytes| Self { bytes }.copy_to(dst))
    }

    /// The bytes from `from` on; empty when there are none.
    #[inline]
    #[must_use]
    pub fn slice(&self, from: usize) -> Self {
        Self { bytes: self.bytes.get(from..).unwrap_or_default() }
    }
}

#[inline]
fn copy_single(from: &[AtomicU8], to: &mut [u8]) {
    for (byte, place) in from.iter().zip(to) {
        *place = byte.load(Ordering::Relaxed);
    }
}

/// The reserved room, exclusive until it is committed.
#[inline]
pub(super) fn room(store: &mut StoreMap, offset: usize, len: usize) -> Option<&mut [u8]> {
    let start = store.mapping().at(offset, len, 1)?;
    // SAFETY: the slice is exclusive because the chunk belongs to one `LogWriter`, which is borrowed mutably through its
    // `StoreMap`, and because no slot names these bytes: tags that did were zeroed before the chunk was taken again. A
    // reader that is late reads them with atomic loads and discards the copy, since its tag no longer holds.
    Some(unsafe { core::slice::from_raw_parts_mut(start.as_ptr(), len) })
}

/// Writes a head at `offset` of the reserved place.
#[inline]
pub(super) fn write_head(store: &mut StoreMap, offset: usize, head: &StoredHead) -> bool {
    let Some(start) = store.mapping().at(offset, HEAD_BYTES, 1) else { return false };
    // SAFETY: these bytes are the writer's alone for the reasons given in `room`; the write allows any alignment.
    unsafe { start.cast::<StoredHead>().write_unaligned(*head) };
    true
}

/// A copy of a head, possibly torn; any bytes are a head.
#[inline]
pub(super) fn read_head(bytes: StoreBytes<'_>) -> StoredHead {
    let mut copy = [0_u8; HEAD_BYTES];
    bytes.copy_to(&mut copy);
    // SAFETY: any bytes are a `StoredHead` because it is `Pod`; the array has its size and the read allows any alignment.
    unsafe { copy.as_ptr().cast::<StoredHead>().read_unaligned() }
}
