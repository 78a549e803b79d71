// SPDX-License-Identifier: Apache-2.0
//! The frame table of a UMEM: what a successor needs to take over AF_XDP rings (CONTRACTS 5).
//!
//! ```text
//!              claim                    pass(fill | tx): reserved, marks, producer index
//!   free ───────────────▶ worker n ─────────────────────────────────────────────▶ fill | tx: the kernel's
//!     ▲                    │   ▲   pass(rx | completion): reserved, marks, consumer index            │
//!     └─── reclaim ────────┘   └──────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Every step is one publishing store, and after each of them the bytes, the reserved positions and the rings together say
//! where every frame is. Free lists are the workers' own and rebuilt from the bytes. It must never free a frame because it is
//! in no ring: that frame may be the kernel's. Its user is the AF_XDP port.

use core::mem::size_of;
use core::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use dataplane_abi::frames::{
    FRAMES_MOST, FrameLayout, FrameRings, FrameShape, FrameState, FrameTableHeader, QUEUES_MOST, RING_USED, frame_code,
    frame_layout,
};
use dataplane_abi::ids::WorkerId;
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::WORKERS;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create};

use crate::mapping::Mapping;
use crate::publish;
use crate::words;

const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW);
/// Alignment of a table's start: its ring words have cache lines of their own.
const ALIGN: usize = 64;

/// Which of the four rings.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum RingKind {
    /// Frames to receive into, to the kernel.
    Fill,
    /// Received frames, from the kernel.
    Rx,
    /// Frames to send, to the kernel.
    Tx,
    /// Sent frames, from the kernel.
    Completion,
}

impl RingKind {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Fill, Self::Rx, Self::Tx, Self::Completion];

    /// What the byte of a frame says while the kernel has it because of this ring.
    const fn kernel_state(self) -> FrameState {
        match self {
            Self::Fill | Self::Rx => FrameState::Fill,
            Self::Tx | Self::Completion => FrameState::Tx,
        }
    }

    /// Whether the worker is the ring's producer.
    const fn gives(self) -> bool {
        matches!(self, Self::Fill | Self::Tx)
    }
}

/// One ring; its worker is the only one who passes frames through it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Ring {
    /// Which of the four.
    pub kind: RingKind,
    /// Queue.
    pub queue: u16,
    /// Worker.
    pub worker: WorkerId,
}

/// Where a dead worker's ring stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RingPosition {
    /// The ring.
    pub ring: Ring,
    /// The index in the ring's own memory that the worker wrote: producer of fill and tx, consumer of rx and completion.
    pub index: u32,
    /// Entries of the ring.
    pub entries: u32,
}

/// What [`FrameTable::reclaim`] did, in frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reclaimed {
    /// `worker n` before and free now; those taken back from slots are among them.
    pub freed: u32,
    /// Lay in slots of fill and tx that the kernel was never told of.
    pub taken_back: u32,
    /// Lie in slots of rx and completion that are not released: the successor takes them again.
    pub left_to_kernel: u32,
    /// Slots whose frame is outside the table or in a state that no order of stores leaves; untouched.
    pub refused: u32,
}

/// Why a table is not made or attached to; both sides' numbers.
#[derive(thiserror::Error, Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameTableError {
    /// A system call failed.
    #[error("frame table: {0}")]
    System(#[from] rustix::io::Errno),
    /// Another version of the table.
    #[error(
        "frame table: version is {found_version} of {found_size} bytes, ours is {} of {} bytes; another version does not attach",
        FrameTableHeader::VERSION,
        FrameTableHeader::SIZE
    )]
    Version {
        /// The header's version.
        found_version: u16,
        /// The header's size of itself.
        found_size: u16,
    },
    /// A shape that no build makes.
    #[error("frame table: {what} is {found}, must be {least} to {most}{}", if *.power { ", a power of two" } else { "" })]
    Shape {
        /// Which number.
        what: &'static str,
        /// Found.
        found: u32,
        /// Least.
        least: u32,
        /// Most.
        most: u32,
        /// Whether it has to be a power of two.
        power: bool,
    },
    /// The header says another number of rings than its queues and workers make.
    #[error("frame table: {found} rings, its queues and workers make {expected}")]
    Rings {
        /// The header's number.
        found: u32,
        /// Four per queue and worker.
        expected: u32,
    },
    /// The memory is too small for the shape, or not aligned.
    #[error("frame table: {found} bytes from byte {start}, needed are {needed}, aligned to 64")]
    Size {
        /// Bytes that there are.
        found: u64,
        /// Where the table starts.
        start: usize,
        /// Bytes needed.
        needed: u64,
    },
    /// The memfd could shrink under us.
    #[error("frame table: seals are {found:#x}, need shrink and grow ({needed:#x})")]
    Seals {
        /// Its seals.
        found: u32,
        /// What is needed.
        needed: u32,
    },
    /// The mapping is read-only.
    #[error("frame table: the mapping is read-only")]
    ReadOnly,
}

/// Why a step was not taken; nothing was stored.
#[derive(thiserror::Error, Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameRefused {
    /// No such ring in this table, or of another worker than the one that is reclaimed.
    #[error("no ring {0:?} here")]
    NoRing(Ring),
    /// No such frame or worker.
    #[error("frame {frame} to {state:?}: no such frame or worker here")]
    NoFrame {
        /// The frame.
        frame: u32,
        /// What it was to be.
        state: FrameState,
    },
    /// The frame is not where it has to come from: it would be in two places.
    #[error("frame {frame} is {found:?}, not {expected:?}")]
    NotThere {
        /// The frame.
        frame: u32,
        /// What its byte says; none for no frame or no known code.
        found: Option<FrameState>,
        /// What it must say.
        expected: FrameState,
    },
    /// A ring whose index and reserved position are further apart than it has entries.
    #[error("{ring:?}: index {index}, reserved {reserved}, entries {entries}")]
    Position {
        /// The ring.
        ring: Ring,
        /// Its index.
        index: u32,
        /// Its reserved position.
        reserved: u32,
        /// Its entries.
        entries: u32,
    },
    /// A ring that the dead worker used and whose position was not given.
    #[error("{0:?} was used, and its position is not given")]
    Missing(Ring),
}

/// A mapped frame table.
#[derive(Clone, Debug)]
pub struct FrameTable {
    mapping: Arc<Mapping>,
    start: usize,
    shape: FrameShape,
    layout: FrameLayout,
}

impl FrameTable {
    /// Makes a memfd, sealed against shrinking and growing, with a table in which every frame is free.
    ///
    /// # Errors
    /// A shape out of bounds, or what the kernel says.
    pub fn create(shape: &FrameShape) -> Result<(OwnedFd, Self), FrameTableError> {
        check_shape(shape)?;
        let bytes = frame_layout(shape).bytes;
        let fd = memfd_create("millrace-frames", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, bytes as u64)?;
        fcntl_add_seals(&fd, SEALS | SealFlags::SEAL)?;
        let mapping = Arc::new(Mapping::of_memfd(fd.as_fd(), bytes, true)?);
        let table = Self::create_in(mapping, 0, shape)?;
        Ok((fd, table))
    }

    /// Makes a table at byte `start` (a multiple of 64) of a mapping; what lies there is overwritten.
    ///
    /// # Errors
    /// A shape out of bounds, a mapping that is too small or read-only.
    pub fn create_in(mapping: Arc<Mapping>, start: usize, shape: &FrameShape) -> Result<Self, FrameTableError> {
        check_shape(shape)?;
        let table = Self::over(mapping, start, shape)?;
        let needed = table.layout.bytes;
        let missing = FrameTableError::Size { found: table.mapping.bytes() as u64, start, needed: needed as u64 };
        for word in table.mapping.words(start, needed / 8).ok_or(missing)? {
            word.store(0, Ordering::Relaxed);
        }
        let header = header_of(shape);
        let words = table.mapping.words(start, words::words_of::<FrameTableHeader>()).ok_or(missing)?;
        let first = words::fill_tail(words, &header).ok_or(missing)?;
        // Version and size lie in the first word: a table that is begun and not finished has none.
        publish::store_word(words.first().ok_or(missing)?, first);
        Ok(table)
    }

    /// Maps the table in a memfd of its own.
    ///
    /// # Errors
    /// [`FrameTableError`] with both sides' numbers.
    pub fn attach(fd: BorrowedFd<'_>) -> Result<Self, FrameTableError> {
        let found = u64::try_from(fstat(fd)?.st_size).unwrap_or(0);
        let least = size_of::<FrameTableHeader>() as u64;
        let bytes = usize::try_from(found).ok().filter(|_| found >= least);
        let bytes = bytes.ok_or(FrameTableError::Size { found, start: 0, needed: least })?;
        let seals = fcntl_get_seals(fd)?;
        if !seals.contains(SEALS) {
            return Err(FrameTableError::Seals { found: seals.bits(), needed: SEALS.bits() });
        }
        Self::attach_in(Arc::new(Mapping::of_memfd(fd, bytes, true)?), 0)
    }

    /// Finds the table at byte `start` of a mapping.
    ///
    /// # Errors
    /// [`FrameTableError`] with both sides' numbers.
    pub fn attach_in(mapping: Arc<Mapping>, start: usize) -> Result<Self, FrameTableError> {
        let header: Option<FrameTableHeader> =
            mapping.words(start, words::words_of::<FrameTableHeader>()).and_then(words::take);
        let needed = size_of::<FrameTableHeader>() as u64;
        let header = header.ok_or_else(|| FrameTableError::Size { found: mapping.bytes() as u64, start, needed })?;
        if (header.version, usize::from(header.size)) != (FrameTableHeader::VERSION, FrameTableHeader::SIZE) {
            return Err(FrameTableError::Version { found_version: header.version, found_size: header.size });
        }
        let FrameTableHeader { frames, frame_bytes, queues, workers, .. } = header;
        let shape = FrameShape { frames, frame_bytes, queues, workers };
        check_shape(&shape)?;
        if header.rings != shape.rings() {
            return Err(FrameTableError::Rings { found: header.rings, expected: shape.rings() });
        }
        Self::over(mapping, start, &shape)
    }

    fn over(mapping: Arc<Mapping>, start: usize, shape: &FrameShape) -> Result<Self, FrameTableError> {
        let layout = frame_layout(shape);
        let (found, needed) = (mapping.bytes() as u64, layout.bytes as u64);
        mapping.at(start, layout.bytes, ALIGN).ok_or(FrameTableError::Size { found, start, needed })?;
        if !mapping.is_writable() {
            return Err(FrameTableError::ReadOnly);
        }
        Ok(Self { mapping, start, shape: *shape, layout })
    }

    /// What the table was made for.
    #[must_use]
    pub const fn shape(&self) -> &FrameShape {
        &self.shape
    }

    #[inline]
    fn byte(&self, frame: u32) -> Option<&AtomicU8> {
        if frame >= self.shape.frames {
            return None;
        }
        self.mapping.record(self.start + self.layout.states + frame as usize)
    }

    #[inline]
    fn word(&self, ring: Ring) -> Option<&AtomicU64> {
        let (queues, workers) = (usize::from(self.shape.queues), usize::from(self.shape.workers));
        if usize::from(ring.queue) >= queues || ring.worker.index() >= workers {
            return None;
        }
        let number = usize::from(ring.queue) * workers + ring.worker.index();
        let rings: &FrameRings =
            self.mapping.record(self.start + self.layout.rings + number * size_of::<FrameRings>())?;
        Some(match ring.kind {
            RingKind::Fill => &rings.fill,
            RingKind::Rx => &rings.rx,
            RingKind::Tx => &rings.tx,
            RingKind::Completion => &rings.completion,
        })
    }

    /// Frees every frame and forgets every ring: for the first port on fresh rings, when the kernel has let go of all
    /// earlier ones (their sockets are closed and the queues can be bound again). Nobody else uses the table meanwhile.
    ///
    /// # Errors
    /// None that a table of its own shape gives.
    pub fn free_all(&self) -> Result<(), FrameRefused> {
        for queue in 0..self.shape.queues {
            for worker in (0..self.shape.workers).map(WorkerId) {
                for kind in RingKind::ALL {
                    let ring = Ring { kind, queue, worker };
                    publish::store_u64(self.word(ring).ok_or(FrameRefused::NoRing(ring))?, 0);
                }
            }
        }
        for frame in 0..self.shape.frames {
            self.mark(frame, FrameState::Free)?;
        }
        Ok(())
    }

    /// Who holds a frame; none when there is no such frame or its byte is no known code.
    #[inline]
    #[must_use]
    pub fn state(&self, frame: u32) -> Option<FrameState> {
        // Pairs with the Release in `publish::store_u8`; without it a successor may see the byte and not the slot before it.
        FrameState::of_code(self.byte(frame)?.load(Ordering::Acquire))
    }

    /// The frames in a state, by a scan: what a free list is rebuilt from.
    pub fn frames_in(&self, state: FrameState) -> impl Iterator<Item = u32> + '_ {
        (0..self.shape.frames).filter(move |frame| self.state(*frame) == Some(state))
    }

    /// Stores who holds a frame: always before the index of a ring that passes it on. [`Self::pass`] keeps that order.
    ///
    /// # Errors
    /// No such frame or worker.
    #[inline]
    pub fn mark(&self, frame: u32, state: FrameState) -> Result<(), FrameRefused> {
        let refused = FrameRefused::NoFrame { frame, state };
        let byte = self.byte(frame).ok_or(refused)?;
        publish::store_u8(byte, state.code().ok_or(refused)?);
        Ok(())
    }

    /// Takes a free frame for a worker; false when it is not free, or another worker was faster.
    #[inline]
    #[must_use]
    pub fn claim(&self, frame: u32, worker: WorkerId) -> bool {
        let (Some(byte), Some(code)) = (self.byte(frame), FrameState::Worker(worker).code()) else { return false };
        publish::claim_u8(byte, frame_code::FREE, code)
    }

    /// Stores that `count` more slots of a ring are about to be passed, and returns the position after them: the value that
    /// the ring's index gets once their frames are marked. The slots of fill and tx are written *before*: a successor
    /// reads every slot up to the reserved position, and what an older lap left there may be the kernel's.
    ///
    /// # Errors
    /// No such ring.
    #[inline]
    pub fn reserve(&self, ring: Ring, count: u32) -> Result<u32, FrameRefused> {
        let word = self.word(ring).ok_or(FrameRefused::NoRing(ring))?;
        let end = position_of(word.load(Ordering::Relaxed)).wrapping_add(count);
        // Pairs with the Acquire in `reserved`; without it a successor may read slots that are not written.
        publish::store_u64(word, RING_USED | u64::from(end));
        Ok(end)
    }

    /// The position reserved so far; none for a ring that was never used.
    #[must_use]
    pub fn reserved(&self, ring: Ring) -> Option<u32> {
        // Pairs with the Release in `reserve`.
        let word = self.word(ring)?.load(Ordering::Acquire);
        (word & RING_USED != 0).then(|| position_of(word))
    }

    /// Passes different frames through a ring, in the one order that a successor can make sense of: reserve, mark, then
    /// the ring's index. Fill and tx: the frames are the worker's, and the ring's next slots hold them, in this order.
    /// Rx and completion: the frames are those of the ring's next slots; what the batch leaves behind is stored by then,
    /// and no frame of it has been used for anything else. Afterwards they are the worker's.
    ///
    /// # Errors
    /// No such ring, or a frame that is not where it has to come from; nothing is stored.
    #[inline]
    pub fn pass(&self, ring: Ring, frames: &[u32], index: &AtomicU32) -> Result<(), FrameRefused> {
        let (worker, kernel) = (FrameState::Worker(ring.worker), ring.kind.kernel_state());
        let (from, to) = if ring.kind.gives() { (worker, kernel) } else { (kernel, worker) };
        for &frame in frames {
            let found = self.state(frame);
            if found != Some(from) {
                return Err(FrameRefused::NotThere { frame, found, expected: from });
            }
        }
        let count = u32::try_from(frames.len()).map_err(|_| FrameRefused::NoRing(ring))?;
        let end = self.reserve(ring, count)?;
        for &frame in frames {
            self.mark(frame, to)?;
        }
        // Pairs with the kernel's Acquire of the index; without it the kernel may use a slot before it is written.
        publish::store_u32(index, end);
        Ok(())
    }

    /// Frees what a dead worker held: the frames that are `worker n`, and those in slots of its fill and tx rings between
    /// index and reserved position. Frames that it had begun to take from rx and completion and not released are
    /// left where they are: the successor takes them again. Everything else is the kernel's.
    ///
    /// `rings` are all rings that the worker used (each once); `frame_at` reads the frame in the slot of a position, which
    /// it reduces to the ring's entries. The worker is dead, its successor has not begun; others may go on. May itself die
    /// at any store: the next successor does it again.
    ///
    /// # Errors
    /// Positions that are missing or cannot be: nothing is stored, and rings, UMEM and table are made anew.
    pub fn reclaim(
        &self,
        worker: WorkerId,
        rings: &[RingPosition],
        frame_at: impl Fn(Ring, u32) -> Option<u32>,
    ) -> Result<Reclaimed, FrameRefused> {
        self.check_positions(worker, rings)?;
        let mut reclaimed = Reclaimed::default();
        for at in rings {
            self.settle(at, &frame_at, &mut reclaimed)?;
        }
        // Only behind the last ring: a freed frame may be claimed by another worker at once, and no slot that a further
        // successor would read may name it then.
        for frame in self.frames_in(FrameState::Worker(worker)) {
            self.mark(frame, FrameState::Free)?;
            reclaimed.freed = reclaimed.freed.saturating_add(1);
        }
        Ok(reclaimed)
    }

    fn check_positions(&self, worker: WorkerId, rings: &[RingPosition]) -> Result<(), FrameRefused> {
        for &RingPosition { ring, index, entries } in rings {
            self.word(ring).filter(|_| ring.worker == worker).ok_or(FrameRefused::NoRing(ring))?;
            let reserved = self.reserved(ring).unwrap_or(0);
            if reserved.wrapping_sub(index) > entries {
                return Err(FrameRefused::Position { ring, index, reserved, entries });
            }
        }
        for queue in 0..self.shape.queues {
            for kind in RingKind::ALL {
                let ring = Ring { kind, queue, worker };
                if self.reserved(ring).is_some() && !rings.iter().any(|at| at.ring == ring) {
                    return Err(FrameRefused::Missing(ring));
                }
            }
        }
        Ok(())
    }

    /// Gives the frames between index and reserved position to whom they belong, then lets reserved be the index again.
    fn settle(
        &self,
        at: &RingPosition,
        frame_at: &impl Fn(Ring, u32) -> Option<u32>,
        reclaimed: &mut Reclaimed,
    ) -> Result<(), FrameRefused> {
        let &RingPosition { ring, index, .. } = at;
        let Some(reserved) = self.reserved(ring) else { return Ok(()) };
        let (worker, kernel) = (FrameState::Worker(ring.worker), ring.kind.kernel_state());
        let (owner, count) = if ring.kind.gives() {
            (worker, &mut reclaimed.taken_back)
        } else {
            (kernel, &mut reclaimed.left_to_kernel)
        };
        for offset in 0..reserved.wrapping_sub(index) {
            let frame = frame_at(ring, index.wrapping_add(offset));
            let state = frame.and_then(|frame| self.state(frame));
            let Some(frame) = frame.filter(|_| state == Some(worker) || state == Some(kernel)) else {
                reclaimed.refused = reclaimed.refused.saturating_add(1);
                continue;
            };
            self.mark(frame, owner)?;
            *count = count.saturating_add(1);
        }
        let word = self.word(ring).ok_or(FrameRefused::NoRing(ring))?;
        publish::store_u64(word, RING_USED | u64::from(index));
        Ok(())
    }
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the low half of the word")]
const fn position_of(word: u64) -> u32 {
    word as u32
}

const fn header_of(shape: &FrameShape) -> FrameTableHeader {
    let mut header = FrameTableHeader::zeroed();
    header.version = FrameTableHeader::VERSION;
    header.size = HEADER_SIZE;
    header.frame_bytes = shape.frame_bytes;
    header.frames = shape.frames;
    header.queues = shape.queues;
    header.workers = shape.workers;
    header.rings = shape.rings();
    header
}

#[expect(clippy::cast_possible_truncation, reason = "64")]
const HEADER_SIZE: u16 = FrameTableHeader::SIZE as u16;

fn check_shape(shape: &FrameShape) -> Result<(), FrameTableError> {
    let workers_most = u32::try_from(WORKERS).unwrap_or(u32::MAX);
    let checks = [
        ("frames", shape.frames, 1, FRAMES_MOST, false),
        // Aligned mode of a UMEM: chunks from 2 KiB to the (huge) page, powers of two (kernel net/xdp/xdp_umem.c).
        ("frame_bytes", shape.frame_bytes, 2048, 65_536, true),
        ("queues", u32::from(shape.queues), 1, u32::from(QUEUES_MOST), false),
        ("workers", u32::from(shape.workers), 1, workers_most, false),
    ];
    for (what, found, least, most, power) in checks {
        if found < least || found > most || (power && !found.is_power_of_two()) {
            return Err(FrameTableError::Shape { what, found, least, most, power });
        }
    }
    Ok(())
}
