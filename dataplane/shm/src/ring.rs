// SPDX-License-Identifier: Apache-2.0
//! SPSC rings: in the segment between the planes, and in private memory between workers.
//!
//! ```text
//!  RingHeader: produced | overflows … consumed          entries: capacity × size_of::<T>()
//! ```
//!
//! One producer and one consumer per ring. Push and pop copy, never block, never allocate. In the segment the other side
//! is not trusted: a position out of range is refused and counted, an entry overwritten meanwhile is wrong, not undefined.
#![expect(unsafe_code, reason = "entries of private rings are plain copies")]

use core::marker::PhantomData;
use core::mem::{align_of, size_of};
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::pod::Pod;
use dataplane_abi::ring::RingHeader;

use crate::mapping::Mapping;
use crate::publish;
use crate::words;

pub mod protocol;

use protocol::{ConsumerCursor, ProducerCursor};

/// The ring has no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the ring is full")]
pub struct Full;

/// Where a ring lies.
struct Memory<T> {
    mapping: Arc<Mapping>,
    /// Offset of the header.
    header: usize,
    /// Offset of the first entry.
    entries: usize,
    /// Entries, a power of two.
    capacity: usize,
    /// Both sides are this process: entries are plain copies, of any `Copy` type.
    is_private: bool,
    entry: PhantomData<fn(T) -> T>,
}

impl<T: Copy> Memory<T> {
    fn over(mapping: Arc<Mapping>, header: usize, capacity: usize, is_private: bool) -> Option<Self> {
        if !capacity.is_power_of_two() {
            return None;
        }
        let _: &RingHeader = mapping.record(header)?;
        let entries = header.checked_add(size_of::<RingHeader>())?;
        let memory = Self { mapping, header, entries, capacity, is_private, entry: PhantomData };
        memory.mapping.at(entries, capacity.checked_mul(size_of::<T>())?, align_of::<u64>())?;
        Some(memory)
    }

    #[inline]
    fn header(&self) -> Option<&RingHeader> {
        self.mapping.record(self.header)
    }

    #[inline]
    fn offset_of(&self, position: u64) -> usize {
        let index = position & (self.capacity as u64 - 1);
        self.entries + usize::try_from(index).unwrap_or(0) * size_of::<T>()
    }

    /// Address of a private entry.
    #[inline]
    fn private_entry(&self, position: u64) -> Option<NonNull<T>> {
        debug_assert!(self.is_private);
        Some(self.mapping.at(self.offset_of(position), size_of::<T>(), align_of::<T>())?.cast())
    }

    #[inline]
    fn write(&self, position: u64, entry: &T) -> Option<()> {
        if self.is_private {
            let at = self.private_entry(position)?;
            // SAFETY: the entry is this side's alone because its position was claimed and is not published yet, and the
            // other side is the one `Consumer` of the same process, which follows the same protocol.
            unsafe { at.write(*entry) };
            return Some(());
        }
        let words = self.mapping.words(self.offset_of(position), size_of::<T>() / 8)?;
        // SAFETY: `T` is `Pod` because only `Producer::shared`, which demands it, makes memory that is not private.
        unsafe { words::put_unchecked(words, entry) }.then_some(())
    }

    #[inline]
    fn read(&self, position: u64) -> Option<T> {
        if self.is_private {
            let at = self.private_entry(position)?;
            // SAFETY: the entry was written and is this side's alone because its position is published and not released,
            // and the other side is the one `Producer` of the same process, which follows the same protocol.
            return Some(unsafe { at.read() });
        }
        let words = self.mapping.words(self.offset_of(position), size_of::<T>() / 8)?;
        // SAFETY: `T` is `Pod` because only `Consumer::shared`, which demands it, makes memory that is not private.
        unsafe { words::take_unchecked(words) }
    }
}

/// The writing end of a ring.
pub struct Producer<T> {
    memory: Memory<T>,
    cursor: ProducerCursor,
}

impl<T: Pod> Producer<T> {
    /// The writing end of a ring in the segment; there must be one at a time.
    pub(crate) fn shared(mapping: Arc<Mapping>, header: usize, capacity: usize) -> Option<Self> {
        let _ = words::words_of::<T>();
        Self::over(Memory::over(mapping, header, capacity, false)?)
    }
}

impl<T: Copy> Producer<T> {
    fn over(memory: Memory<T>) -> Option<Self> {
        let header = memory.header()?;
        let cursor = ProducerCursor::attach(&header.produced, &header.consumed);
        Some(Self { memory, cursor })
    }

    /// Writes one entry.
    ///
    /// # Errors
    /// [`Full`], counted in the header, where a consumer of a change ring sees it ([`Consumer::overflowed`]).
    #[inline]
    pub fn push(&mut self, entry: &T) -> Result<(), Full> {
        let header = self.memory.header().ok_or(Full)?;
        let Some(position) = self.cursor.claim(&header.consumed, self.memory.capacity as u64) else {
            publish::store_u64(&header.overflows, header.overflows.load(Ordering::Relaxed).wrapping_add(1));
            return Err(Full);
        };
        self.memory.write(position, entry).ok_or(Full)?;
        self.cursor.publish(&header.produced);
        Ok(())
    }

    /// Tells the consumer that something was not announced, as a full ring does.
    pub fn declare_overflow(&mut self) {
        if let Some(header) = self.memory.header() {
            publish::store_u64(&header.overflows, header.overflows.load(Ordering::Relaxed).wrapping_add(1));
        }
    }

    /// Entries written since the ring was made.
    #[must_use]
    pub const fn produced(&self) -> u64 {
        self.cursor.position()
    }

    /// How far the consumer has come; none when its word is not believable.
    #[must_use]
    pub fn acknowledged(&self) -> Option<u64> {
        // Pairs with the Release in `ConsumerCursor::release`; without it what the consumer did before is not seen.
        let consumed = self.memory.header()?.consumed.load(Ordering::Acquire);
        (self.cursor.position().wrapping_sub(consumed) <= self.memory.capacity as u64).then_some(consumed)
    }

    /// Entries that the consumer has not taken yet.
    #[must_use]
    pub fn len(&self) -> usize {
        let consumed = self.acknowledged().unwrap_or_else(|| self.cursor.position());
        usize::try_from(self.cursor.position().wrapping_sub(consumed)).unwrap_or(usize::MAX)
    }

    /// Whether the consumer has taken everything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// Positions of the consumer that were not believed.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.cursor.refused()
    }
}

/// The reading end of a ring.
pub struct Consumer<T> {
    memory: Memory<T>,
    cursor: ConsumerCursor,
    /// Overflows (and refused positions) that [`Self::overflowed`] has reported.
    overflows: u64,
}

impl<T: Pod> Consumer<T> {
    /// The reading end of a ring in the segment; there must be one at a time.
    pub(crate) fn shared(mapping: Arc<Mapping>, header: usize, capacity: usize) -> Option<Self> {
        let _ = words::words_of::<T>();
        Self::over(Memory::over(mapping, header, capacity, false)?)
    }
}

impl<T: Copy> Consumer<T> {
    fn over(memory: Memory<T>) -> Option<Self> {
        let header = memory.header()?;
        let cursor = ConsumerCursor::attach(&header.consumed);
        let overflows = header.overflows.load(Ordering::Acquire);
        Some(Self { memory, cursor, overflows })
    }

    /// Takes one entry, copied.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        let header = self.memory.header()?;
        let position = self.cursor.next(&header.produced, &header.consumed, self.memory.capacity as u64)?;
        let entry = self.memory.read(position);
        self.cursor.release(&header.consumed);
        entry
    }

    /// Whether the producer found the ring full (or declared it, or wrote a position that was not believed) since this was
    /// last asked: something was not announced, so read everything.
    #[must_use]
    pub fn overflowed(&mut self) -> bool {
        let Some(header) = self.memory.header() else { return false };
        // Pairs with the Release in `Producer::push`; without it the rescan may miss the head that was not announced.
        let overflows = header.overflows.load(Ordering::Acquire).wrapping_add(self.cursor.refused());
        let grown = overflows != self.overflows;
        self.overflows = overflows;
        grown
    }

    /// Lets go of everything that is in the ring, for a consumer that reads everything anyway (start, rescan).
    pub fn catch_up(&mut self) {
        let Some(header) = self.memory.header() else { return };
        // Pairs with the Release in `ProducerCursor::publish`; without it the rescan may miss what was announced.
        self.cursor.catch_up(header.produced.load(Ordering::Acquire), &header.consumed);
    }

    /// Entries to take.
    #[must_use]
    pub fn len(&self) -> usize {
        let Some(header) = self.memory.header() else { return 0 };
        let distance = header.produced.load(Ordering::Acquire).wrapping_sub(self.cursor.position());
        usize::try_from(distance).unwrap_or(usize::MAX).min(self.memory.capacity)
    }

    /// Whether there is nothing to take.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Entries that fit.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.memory.capacity
    }

    /// Positions of the producer that were not believed; each emptied the ring.
    #[must_use]
    pub const fn refused(&self) -> u64 {
        self.cursor.refused()
    }
}

impl<T: Copy> core::fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Producer(at {} of {})", self.cursor.position(), self.memory.capacity)
    }
}

impl<T: Copy> core::fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Consumer(at {} of {})", self.cursor.position(), self.memory.capacity)
    }
}

/// A ring of at least `capacity` entries (rounded up to a power of two) between two threads of this process. Its memory is
/// anonymous and taken when first touched.
///
/// # Errors
/// What mmap says.
pub fn private<T: Copy + Send + 'static>(capacity: usize) -> rustix::io::Result<(Producer<T>, Consumer<T>)> {
    const { assert!(align_of::<T>() <= 64, "entries follow a 256-byte header") };
    let invalid = rustix::io::Errno::INVAL;
    let capacity = capacity.max(1).checked_next_power_of_two().ok_or(invalid)?;
    let bytes = capacity.checked_mul(size_of::<T>()).and_then(|b| b.checked_add(size_of::<RingHeader>()));
    let mapping = Arc::new(Mapping::anonymous(bytes.ok_or(invalid)?)?);
    let writing = Memory::over(Arc::clone(&mapping), 0, capacity, true).ok_or(invalid)?;
    let reading = Memory::over(mapping, 0, capacity, true).ok_or(invalid)?;
    Ok((Producer::over(writing).ok_or(invalid)?, Consumer::over(reading).ok_or(invalid)?))
}
