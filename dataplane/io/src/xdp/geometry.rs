// SPDX-License-Identifier: Apache-2.0
//! What an AF_XDP port is made of: queues, workers, frames and rings, and which frame is whose at home.
//!
//! ```text
//!  UMEM      rx of queue 0 | rx of queue 1 | … | tx of worker 0 | tx of worker 1 | …      frames of 2048 bytes
//!  sockets   one per (queue, worker) pair, by queue, then by worker
//!  pairs     as many queues as workers or more: queue q is worker q mod workers'
//!            fewer: worker w serves queue w mod queues, which it shares
//! ```
//!
//! The first worker of a queue (queue mod workers) keeps its fill and completion rings. The keeper writes the geometry in
//! front of the frame table, the data plane reads it from there; it never changes.

use std::os::fd::BorrowedFd;

use dataplane_abi::frames::{FRAMES_MOST, FrameShape, GEOMETRY_BYTES, UmemGeometry};
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::WORKERS;
use dataplane_abi::xdp::QUEUES;
use dataplane_shm::{Mapping, publish, words};
use rustix::fs::fstat;

use super::XdpError;

/// Bytes of a frame: the smallest that the kernel takes, and an Ethernet frame of 1500 bytes with the kernel's 256 in front.
pub const FRAME_BYTES: u32 = 2048;
/// Frames that a worker receives into: 300 ms of 13,000 packets/s, the time of a takeover.
const RX_FRAMES: u32 = 4096;
/// Frames that a worker sends from.
const TX_FRAMES: u32 = 4096;
/// Frames that a queue keeps to receive into, however many queues a worker has.
const RX_FRAMES_LEAST: u32 = 1024;
/// Entries of a socket's rx and tx rings; half of its frames, so that a worker that stands still does not hold all frames
/// of the queue that it shares.
const RING_ENTRIES: u32 = 2048;

// One worker on one queue: 8192 frames × 2 KiB = 16 MiB, 8 KiB of frame table, 2 × 2048 × 16 B + 2 × 4096 × 8 B = 128 KiB of rings.
const _: () = assert!((RX_FRAMES + TX_FRAMES) as usize * FRAME_BYTES as usize == 16 << 20);
const _: () = assert!(RX_FRAMES.is_power_of_two() && TX_FRAMES.is_power_of_two() && RING_ENTRIES.is_power_of_two());

/// How the classifier is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// In the driver.
    Native,
    /// In the kernel's generic path, behind the driver: one copy more, on any interface.
    Generic,
}

/// What is known of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its index.
    pub index: u32,
    /// Its address.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: u32,
}

/// A socket's place: one worker on one queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Pair {
    /// The queue.
    pub queue: u16,
    /// The worker.
    pub worker: u16,
}

/// Where a frame returns to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// The fill ring of a queue, which the queue's first worker keeps.
    Fill {
        /// The queue.
        queue: u16,
        /// Its first worker.
        worker: u16,
    },
    /// The free list of a worker.
    Tx {
        /// The worker.
        worker: u16,
    },
}

impl Home {
    /// The worker.
    #[must_use]
    pub const fn worker(self) -> u16 {
        match self {
            Self::Fill { worker, .. } | Self::Tx { worker } => worker,
        }
    }
}

/// The geometry of a port; see the module.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Geometry {
    /// The interface.
    pub interface: Interface,
    /// How the classifier is attached.
    pub mode: Mode,
    /// Receive queues that are served.
    pub queues: u16,
    /// Workers.
    pub workers: u16,
    /// Frames to receive into, per queue.
    pub rx_frames: u32,
    /// Frames to send from, per worker.
    pub tx_frames: u32,
    /// Entries of a socket's rx ring.
    pub rx_ring: u32,
    /// Entries of a socket's tx ring.
    pub tx_ring: u32,
    /// Entries of a queue's fill ring.
    pub fill_ring: u32,
    /// Entries of a queue's completion ring.
    pub completion_ring: u32,
    /// Version of the classifier's maps ([`dataplane_abi::xdp::XDP_VERSION`]).
    pub classifier: u32,
}

impl Geometry {
    /// The geometry with the usual sizes.
    ///
    /// # Errors
    /// Queues or workers that the layout has no room for.
    pub fn new(interface: Interface, mode: Mode, queues: u16, workers: u16) -> Result<Self, XdpError> {
        let sharers = u32::from(workers).div_ceil(u32::from(queues).max(1));
        let owned = u32::from(queues).div_ceil(u32::from(workers).max(1));
        let rx_frames = if sharers > 1 { RX_FRAMES * sharers } else { (RX_FRAMES / owned.max(1)).max(RX_FRAMES_LEAST) };
        let geometry = Self {
            interface,
            mode,
            queues,
            workers,
            rx_frames,
            tx_frames: TX_FRAMES,
            rx_ring: RING_ENTRIES,
            tx_ring: RING_ENTRIES,
            fill_ring: rx_frames.next_power_of_two(),
            completion_ring: (TX_FRAMES * sharers).next_power_of_two(),
            classifier: dataplane_abi::xdp::XDP_VERSION,
        };
        geometry.check()?;
        Ok(geometry)
    }

    /// Every number within what this build serves, whoever wrote it.
    fn check(&self) -> Result<(), XdpError> {
        let most = |value: usize| u32::try_from(value).unwrap_or(u32::MAX);
        let workers_most = most(WORKERS);
        let sharers = u32::from(self.workers).div_ceil(u32::from(self.queues).max(1));
        let checks = [
            ("queues", u32::from(self.queues), 1, most(QUEUES)),
            ("workers", u32::from(self.workers), 1, workers_most),
            ("rx_frames", self.rx_frames, 1, FRAMES_MOST / 2),
            ("tx_frames", self.tx_frames, 1, FRAMES_MOST / (2 * workers_most)),
            ("frames", self.frames(), 1, FRAMES_MOST),
            ("rx_ring", self.rx_ring, 1, 1 << 20),
            ("tx_ring", self.tx_ring, 1, 1 << 20),
            ("fill_ring", self.fill_ring, self.rx_frames, 1 << 20),
            ("completion_ring", self.completion_ring, self.tx_frames.saturating_mul(sharers), 1 << 22),
        ];
        for (what, found, least, most) in checks {
            let is_ring = what.ends_with("ring");
            if found < least || found > most || (is_ring && !found.is_power_of_two()) {
                return Err(XdpError::Geometry { what, found, least, most });
            }
        }
        Ok(())
    }

    /// All sockets, in the order in which they are handed over (`xsk0`, `xsk1`, …).
    pub fn pairs(&self) -> impl Iterator<Item = Pair> + use<> {
        let (queues, workers) = (self.queues.max(1), self.workers.max(1));
        (0..queues).flat_map(move |queue| {
            let first = queue % workers;
            let step = if queues < workers { queues } else { workers };
            (first..workers).step_by(usize::from(step)).map(move |worker| Pair { queue, worker })
        })
    }

    /// The worker that keeps a queue's fill and completion rings.
    #[must_use]
    pub const fn first_worker(&self, queue: u16) -> u16 {
        match queue.checked_rem(self.workers) {
            Some(worker) => worker,
            None => 0,
        }
    }

    /// The queue that a worker sends on.
    #[must_use]
    pub const fn tx_queue(&self, worker: u16) -> u16 {
        match worker.checked_rem(self.queues) {
            Some(queue) => queue,
            None => 0,
        }
    }

    /// Frames in all.
    #[must_use]
    pub const fn frames(&self) -> u32 {
        self.first_tx_frame().saturating_add((self.workers as u32).saturating_mul(self.tx_frames))
    }

    /// Bytes of the UMEM.
    #[must_use]
    pub const fn umem_bytes(&self) -> usize {
        self.frames() as usize * FRAME_BYTES as usize
    }

    const fn first_tx_frame(&self) -> u32 {
        (self.queues as u32).saturating_mul(self.rx_frames)
    }

    /// The frames to receive into of a queue.
    #[must_use]
    pub const fn rx_range(&self, queue: u16) -> core::ops::Range<u32> {
        let first = queue as u32 * self.rx_frames;
        first..first + self.rx_frames
    }

    /// The frames to send from of a worker.
    #[must_use]
    pub const fn tx_range(&self, worker: u16) -> core::ops::Range<u32> {
        let first = self.first_tx_frame() + worker as u32 * self.tx_frames;
        first..first + self.tx_frames
    }

    /// Where a frame returns to.
    #[must_use]
    pub fn home(&self, frame: u32) -> Option<Home> {
        if frame >= self.frames() {
            return None;
        }
        Some(match frame.checked_sub(self.first_tx_frame()) {
            None => {
                let queue = u16::try_from(frame.checked_div(self.rx_frames)?).ok()?;
                Home::Fill { queue, worker: self.first_worker(queue) }
            }
            Some(nth) => Home::Tx { worker: u16::try_from(nth.checked_div(self.tx_frames)?).ok()? },
        })
    }

    /// What the frame table is made for.
    #[must_use]
    pub const fn shape(&self) -> FrameShape {
        FrameShape { frames: self.frames(), frame_bytes: FRAME_BYTES, queues: self.queues, workers: self.workers }
    }

    fn record(&self) -> UmemGeometry {
        let mut record = UmemGeometry::zeroed();
        record.version = UmemGeometry::VERSION;
        record.size = u16::try_from(UmemGeometry::SIZE).unwrap_or(0);
        record.interface = self.interface.index;
        record.queues = self.queues;
        record.workers = self.workers;
        record.frame_bytes = FRAME_BYTES;
        record.rx_frames = self.rx_frames;
        record.tx_frames = self.tx_frames;
        record.rx_ring = self.rx_ring;
        record.tx_ring = self.tx_ring;
        record.fill_ring = self.fill_ring;
        record.completion_ring = self.completion_ring;
        record.mtu = self.interface.mtu;
        record.classifier = self.classifier;
        record.mac = self.interface.mac;
        record.mode = match self.mode {
            Mode::Native => 1,
            Mode::Generic => 2,
        };
        record
    }

    /// Writes the record at the start of a mapping.
    pub(super) fn write(&self, mapping: &Mapping) -> Result<(), XdpError> {
        let record = self.record();
        let words = mapping.words(0, words::words_of::<UmemGeometry>()).ok_or(XdpError::NoGeometry)?;
        let first = words::fill_tail(words, &record).ok_or(XdpError::NoGeometry)?;
        // Version and size lie in the first word: a record that is begun and not finished has none.
        publish::store_word(words.first().ok_or(XdpError::NoGeometry)?, first);
        Ok(())
    }

    /// Reads the geometry in front of a frame table.
    ///
    /// # Errors
    /// No record, another version's, or numbers that this build does not serve.
    pub fn read(frames: BorrowedFd<'_>) -> Result<Self, XdpError> {
        let bytes = fstat(frames).map_or(0, |stat| usize::try_from(stat.st_size).unwrap_or(0));
        if bytes < GEOMETRY_BYTES {
            return Err(XdpError::NoGeometry);
        }
        let mapping = Mapping::of_memfd(frames, GEOMETRY_BYTES, false).map_err(XdpError::os("mmap of the geometry"))?;
        let words = mapping.words(0, words::words_of::<UmemGeometry>()).ok_or(XdpError::NoGeometry)?;
        let record: UmemGeometry = words::take(words).ok_or(XdpError::NoGeometry)?;
        if (record.version, usize::from(record.size)) != (UmemGeometry::VERSION, UmemGeometry::SIZE) {
            return Err(XdpError::Version { found: record.version, ours: UmemGeometry::VERSION });
        }
        if record.frame_bytes != FRAME_BYTES {
            let (least, most) = (FRAME_BYTES, FRAME_BYTES);
            return Err(XdpError::Geometry { what: "frame_bytes", found: record.frame_bytes, least, most });
        }
        let mode = match record.mode {
            1 => Mode::Native,
            2 => Mode::Generic,
            other => return Err(XdpError::Geometry { what: "mode", found: u32::from(other), least: 1, most: 2 }),
        };
        let geometry = Self {
            interface: Interface { index: record.interface, mac: record.mac, mtu: record.mtu },
            mode,
            queues: record.queues,
            workers: record.workers,
            rx_frames: record.rx_frames,
            tx_frames: record.tx_frames,
            rx_ring: record.rx_ring,
            tx_ring: record.tx_ring,
            fill_ring: record.fill_ring,
            completion_ring: record.completion_ring,
            classifier: record.classifier,
        };
        geometry.check()?;
        Ok(geometry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERFACE: Interface = Interface { index: 7, mac: [2, 0, 0, 0, 0, 1], mtu: 1500 };

    fn geometry(queues: u16, workers: u16) -> Geometry {
        Geometry::new(INTERFACE, Mode::Native, queues, workers).unwrap()
    }

    #[test]
    fn every_queue_has_its_first_worker_and_every_worker_a_queue_to_send_on() {
        for queues in 1..=9 {
            for workers in 1..=9 {
                let geometry = geometry(queues, workers);
                let pairs: Vec<Pair> = geometry.pairs().collect();
                assert!(pairs.is_sorted(), "{queues} {workers}: {pairs:?}");
                assert_eq!(pairs.len(), usize::from(queues.max(workers)), "{queues} {workers}");
                for queue in 0..queues {
                    let first = pairs.iter().find(|pair| pair.queue == queue).unwrap();
                    assert_eq!(first.worker, geometry.first_worker(queue), "{queues} {workers}");
                }
                for worker in 0..workers {
                    let own = Pair { queue: geometry.tx_queue(worker), worker };
                    assert!(pairs.contains(&own), "{queues} {workers}: {own:?}");
                }
            }
        }
    }

    #[test]
    fn every_frame_has_one_home() {
        let geometry = geometry(2, 3);
        for queue in 0..2 {
            let home = Home::Fill { queue, worker: queue };
            assert!(geometry.rx_range(queue).all(|frame| geometry.home(frame) == Some(home)));
        }
        for worker in 0..3 {
            assert!(geometry.tx_range(worker).all(|frame| geometry.home(frame) == Some(Home::Tx { worker })));
        }
        assert_eq!(geometry.tx_range(2).end, geometry.frames());
        assert_eq!(geometry.home(geometry.frames()), None);
    }

    #[test]
    fn what_is_written_is_read_and_anything_else_refused() {
        let fd = rustix::fs::memfd_create("geometry", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        let read = || Geometry::read(std::os::fd::AsFd::as_fd(&fd));
        assert!(matches!(read(), Err(XdpError::NoGeometry)));
        rustix::fs::ftruncate(&fd, GEOMETRY_BYTES as u64).unwrap();
        assert!(matches!(read(), Err(XdpError::Version { found: 0, .. })));
        let mapping = Mapping::of_memfd(std::os::fd::AsFd::as_fd(&fd), GEOMETRY_BYTES, true).unwrap();
        for (queues, workers) in [(1, 1), (1, 4), (3, 2), (64, 64)] {
            let written = Geometry { mode: Mode::Generic, ..geometry(queues, workers) };
            written.write(&mapping).unwrap();
            assert_eq!(read().unwrap(), written);
        }
        for broken in [
            Geometry { queues: 0, ..geometry(1, 1) },
            Geometry { workers: 65, ..geometry(1, 1) },
            Geometry { rx_ring: 1000, ..geometry(1, 1) },
            Geometry { fill_ring: 2048, ..geometry(1, 1) },
            Geometry { tx_frames: u32::MAX, ..geometry(1, 1) },
            Geometry { completion_ring: 4096, ..geometry(1, 2) },
        ] {
            broken.write(&mapping).unwrap();
            assert!(matches!(read(), Err(XdpError::Geometry { .. })), "{broken:?}");
        }
    }

    #[test]
    fn numbers_that_the_layout_has_no_room_for_are_refused() {
        for (queues, workers) in [(0, 1), (1, 0), (65, 1), (1, 65)] {
            assert!(Geometry::new(INTERFACE, Mode::Native, queues, workers).is_err(), "{queues} {workers}");
        }
    }
}
