// SPDX-License-Identifier: Apache-2.0
//! The frame table of a UMEM: who holds each frame, and how far each ring is reserved (CONTRACTS 5).
//!
//! ```text
//!  FrameTableHeader | FrameRings × queue × worker (a cache line each) | one byte per frame: free, fill, tx, worker n
//! ```
//!
//! It lies beside the UMEM, in a memfd of its own or in a region of one (behind the geometry), and outlives the data plane: AF_XDP rings alone do
//! not tell a frame that the dead worker held from one that the kernel still holds. It must never hold what follows from
//! the bytes: free lists are derived. A table of another version is refused, never migrated.

use core::mem::size_of;
use core::sync::atomic::AtomicU64;

use crate::ids::WorkerId;
use crate::layout::{record, shared_record};
use crate::limits::WORKERS;

/// Frames that a table may have: 4 Mi × 1 B = 4 MiB, for a UMEM of 8 GiB.
pub const FRAMES_MOST: u32 = 1 << 22;
/// Queues that a table may have: 256 × 64 workers × 64 B = 1 MiB.
pub const QUEUES_MOST: u16 = 256;

record!(
    /// Header of a frame table: written once by its creator before anyone attaches.
    FrameTableHeader, version 1, size 64 {
        /// Record version; stored last.
        version: u16,
        /// Record size.
        size: u16,
        /// Bytes of a frame of the UMEM.
        frame_bytes: u32,
        /// Frames of the UMEM.
        frames: u32,
        /// Queues.
        queues: u16,
        /// Workers.
        workers: u16,
        /// Rings: four per queue and worker.
        rings: u32,
        /// Zero.
        reserve: [u32; 11],
    }
);

shared_record!(
    /// The reserved positions of one worker's four rings of one queue; that worker is the only writer. A word is 0 until the
    /// ring is used, then [`RING_USED`] with the position in its low half, which wraps as the kernel's index does.
    FrameRings, version 1, size 64 {
        /// Fill: slots written, up to here.
        fill: AtomicU64,
        /// Rx: descriptors taken, up to here.
        rx: AtomicU64,
        /// Tx: slots written, up to here.
        tx: AtomicU64,
        /// Completion: entries taken, up to here.
        completion: AtomicU64,
        /// Zero.
        reserve: [AtomicU64; 4],
    }
);

record!(
    /// What an AF_XDP port was made for: written once by the keeper in front of the frame table, read by the data plane.
    UmemGeometry, version 1, size 128 {
        /// Record version; zero until the record is complete.
        version: u16,
        /// Record size.
        size: u16,
        /// The interface's index.
        interface: u32,
        /// Receive queues that are served.
        queues: u16,
        /// Workers.
        workers: u16,
        /// Bytes of a frame.
        frame_bytes: u32,
        /// Frames to receive into, per queue.
        rx_frames: u32,
        /// Frames to send from, per worker.
        tx_frames: u32,
        /// Entries of a socket's rx ring.
        rx_ring: u32,
        /// Entries of a socket's tx ring.
        tx_ring: u32,
        /// Entries of a queue's fill ring.
        fill_ring: u32,
        /// Entries of a queue's completion ring.
        completion_ring: u32,
        /// The interface's MTU.
        mtu: u32,
        /// Version of the classifier's maps.
        classifier: u32,
        /// The interface's address.
        mac: [u8; 6],
        /// How the classifier is attached: 1 native, 2 generic.
        mode: u8,
        /// Zero.
        reserve_mode: u8,
        /// Zero.
        reserve: [u32; 18],
    }
);

/// Bytes between the start of the memfd and the frame table in it: a page, which holds the [`UmemGeometry`].
pub const GEOMETRY_BYTES: usize = 4096;

/// Set in a word of [`FrameRings`] from the first reservation on.
pub const RING_USED: u64 = 1 << 32;

/// Values of a frame's byte; every other one is of nobody, and no frame of it is ever freed.
pub mod frame_code {
    /// Nobody's: a worker may claim it. What a fresh table says of every frame.
    pub const FREE: u8 = 0;
    /// The kernel's, from the fill ring until the rx ring gave it back.
    pub const FILL: u8 = 1;
    /// The kernel's, from the tx ring until the completion ring gave it back.
    pub const TX: u8 = 2;
    /// Worker 0's; worker n's is this plus n.
    pub const WORKER: u8 = 0x40;
}
const _: () = assert!(frame_code::WORKER as usize + WORKERS <= 0x80);

/// Who holds a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FrameState {
    /// Nobody: a worker may claim it.
    Free,
    /// The kernel, to receive into.
    Fill,
    /// The kernel, to send.
    Tx,
    /// A worker: in its hands or in its private free list.
    Worker(WorkerId),
}

impl FrameState {
    /// The byte; none for a worker that the layout has no room for.
    #[inline]
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "below 64")]
    pub const fn code(self) -> Option<u8> {
        match self {
            Self::Free => Some(frame_code::FREE),
            Self::Fill => Some(frame_code::FILL),
            Self::Tx => Some(frame_code::TX),
            Self::Worker(worker) if worker.index() < WORKERS => Some(frame_code::WORKER + worker.0 as u8),
            Self::Worker(_) => None,
        }
    }

    /// What a byte says; none for a byte that no version writes.
    #[inline]
    #[must_use]
    pub const fn of_code(code: u8) -> Option<Self> {
        match code {
            frame_code::FREE => Some(Self::Free),
            frame_code::FILL => Some(Self::Fill),
            frame_code::TX => Some(Self::Tx),
            _ => match code.checked_sub(frame_code::WORKER) {
                Some(worker) if (worker as usize) < WORKERS => Some(Self::Worker(WorkerId(worker as u16))),
                _ => None,
            },
        }
    }
}

/// What a table is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameShape {
    /// Frames of the UMEM.
    pub frames: u32,
    /// Bytes of a frame.
    pub frame_bytes: u32,
    /// Queues.
    pub queues: u16,
    /// Workers.
    pub workers: u16,
}

impl FrameShape {
    /// What tests start with.
    pub const SMALL: Self = Self { frames: 64, frame_bytes: 2048, queues: 2, workers: 2 };

    /// Fill, rx, tx and completion ring of each worker on each queue.
    #[must_use]
    pub const fn rings(&self) -> u32 {
        4 * self.queues as u32 * self.workers as u32
    }
}

/// Offsets within a frame table, from its start; the start is aligned to 64 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// First [`FrameRings`]; that of (queue, worker) is number queue × workers + worker.
    pub rings: usize,
    /// Byte of frame 0; the others follow.
    pub states: usize,
    /// Size of the table, whole pages.
    pub bytes: usize,
}

/// The table's layout.
#[must_use]
pub const fn frame_layout(shape: &FrameShape) -> FrameLayout {
    let rings = size_of::<FrameTableHeader>();
    let states = rings + shape.queues as usize * shape.workers as usize * size_of::<FrameRings>();
    let bytes = (states + shape.frames as usize + 4095) & !4095;
    FrameLayout { rings, states, bytes }
}
