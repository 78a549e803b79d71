// SPDX-License-Identifier: Apache-2.0
//! One worker's AF_XDP port: what is in its frames, and its paths. Where the frames go is `frames`' business.
//!
//! A frame's bytes are touched only while the frame is the worker's: received and not released, or reserved and not
//! flushed. It must never wait, log or allocate after construction.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::BATCH;
use dataplane_abi::xdp::STAMP_BYTES;
use dataplane_shm::frames::FrameTable;
use dataplane_wire::udp;
use rustix::time::{ClockId, clock_gettime};

use super::frames::{Frames, frame_of};
use super::geometry::{FRAME_BYTES, Pair};
use super::head::{HEAD_BYTES, Head};
use super::nap::Nap;
use super::open::XdpConfig;
use super::ring::Descriptor;
use crate::memory::Region;
use crate::nexthop::NextHops;
use crate::paths::{Slots, index_of};
use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::wait::{self, Wait, Watch};

/// Where a sent frame's payload begins: on a cache line, with room for the longest head in front.
const PAYLOAD_AT: usize = 128;
/// Longest UDP payload of a frame.
const PAYLOAD_MOST: usize = FRAME_BYTES as usize - PAYLOAD_AT;
/// An arrival stamp older than this is none of ours.
const STAMP_AGE_NS: u64 = 10_000_000_000;

const _: () = assert!(PAYLOAD_AT >= HEAD_BYTES && STAMP_BYTES == size_of::<u64>());

/// A packet of the current batch.
#[derive(Clone, Copy, Debug)]
struct Packet {
    at: usize,
    len: usize,
    meta: RxMeta,
}

#[derive(Clone, Copy, Debug)]
struct Reserved {
    frame: u32,
    path: PathSlot,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    frame: u32,
    descriptor: Descriptor,
}

/// A path: its head, and what its next hop was at an epoch.
#[derive(Debug)]
struct Path {
    head: Head,
    epoch: u64,
    generation: u32,
    /// Longest UDP payload; none while the path is not served here.
    most: Option<usize>,
}

/// One worker's port; see the module.
#[derive(Debug)]
pub struct XdpPort {
    frames: Frames,
    umem: Region,
    /// The socket that is received from first; moves on with each batch.
    first: usize,
    batch: Vec<Packet>,
    reserved: Option<Reserved>,
    pending: Vec<Pending>,
    watch: Watch,
    nap: Nap,
    paths: Slots<Path>,
    next_hops: Arc<NextHops>,
    config: XdpConfig,
    rx_discarded: u64,
}

impl XdpPort {
    pub(super) fn new(mut frames: Frames, umem: Region, next_hops: Arc<NextHops>, config: XdpConfig) -> Self {
        frames.claim();
        let watch = Watch::new(frames.watched());
        let pending = Vec::with_capacity(frames.geometry().tx_ring as usize);
        Self {
            frames,
            umem,
            first: 0,
            batch: Vec::with_capacity(BATCH),
            reserved: None,
            pending,
            watch,
            nap: Nap::new(),
            paths: Slots::new(config.paths),
            next_hops,
            config,
            rx_discarded: 0,
        }
    }

    /// Sleeps until a packet is here or with others who are asked (readable, or writable where that is said).
    pub(crate) fn sleep(&mut self, added: &[(BorrowedFd<'_>, bool)], timeout: Duration) {
        let timeout = if let Some(taken) = self.frames.held_up() {
            timeout.min(self.nap.next(taken))
        } else {
            self.nap.end();
            timeout
        };
        self.watch.sleep(added, timeout);
        if self.watch.found(self.frames.nudge_place()) {
            self.frames.quiet();
        }
    }

    /// Whether the last sleep found the `nth` of the others readable.
    pub(crate) fn found_added(&self, nth: usize) -> bool {
        self.watch.found_added(nth)
    }

    /// The sockets and their places, to be put into the classifier's map once the port is open.
    pub fn sockets(&self) -> impl Iterator<Item = (Pair, BorrowedFd<'_>)> {
        self.frames.sockets.iter().map(|socket| (socket.pair(), socket.fd()))
    }

    /// Whether the interface takes nothing at present.
    pub(crate) const fn is_down(&self) -> bool {
        self.frames.is_down
    }

    /// Whether packets wait.
    pub(crate) fn has_packets(&self) -> bool {
        self.frames.sockets.iter().any(|socket| socket.rx.filled() != 0)
    }

    /// Whether the interface is gone: the port serves nothing any more and has to be opened anew.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.frames.is_lost || self.next_hops.is_lost()
    }

    /// Frames that were received and not delivered: no UDP datagrams, or fragments.
    #[must_use]
    pub const fn rx_discarded(&self) -> u64 {
        self.rx_discarded
    }

    /// Frames that were not where they had to come from; always 0, or this port or the kernel is wrong.
    #[must_use]
    pub const fn frames_refused(&self) -> u64 {
        self.frames.refused
    }

    /// The table of this port's next hops.
    #[must_use]
    pub const fn next_hops(&self) -> &Arc<NextHops> {
        &self.next_hops
    }

    /// The frame table, for counting.
    #[must_use]
    pub const fn table(&self) -> &FrameTable {
        self.frames.table()
    }

    /// Whether a payload of `len` bytes may go by this port now; the check of each `reserve`.
    #[inline]
    pub(crate) fn serves(&mut self, slot: PathSlot, len: usize) -> bool {
        let Some(path) = self.paths.get_mut(slot).filter(|_| !self.frames.is_down) else { return false };
        let epoch = self.next_hops.epoch();
        if path.epoch != epoch {
            let hop = self.next_hops.answer(self.frames.worker(), index_of(slot), path.generation).ok();
            if let Some(hop) = &hop {
                path.head.set_link(self.frames.geometry().interface.mac, hop);
            }
            path.most = hop.map(|hop| usize::from(hop.mtu).saturating_sub(path.head.ip_bytes()).min(PAYLOAD_MOST));
            path.epoch = epoch;
        }
        path.most.is_some_and(|most| len <= most)
    }

    /// Entries of the tx ring that are neither the kernel's nor promised.
    fn ring_room(&self) -> usize {
        self.frames.tx_room().saturating_sub(self.pending.len())
    }
}

fn now_ns() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Reads a received frame: the packet and its arrival. The stamp in front is taken, so that the frame's next packet does
/// not have it.
fn read(umem: &mut Region, at: usize, len: usize, now_ns: u64) -> Option<Packet> {
    let stamp_at = at.checked_sub(STAMP_BYTES)?;
    // SAFETY: because the descriptor came out of the rx ring and its frame is not given back yet: the kernel does not have
    // it, and no slice of it lives while self is borrowed mutably.
    let stamp = unsafe { umem.bytes_mut(stamp_at, STAMP_BYTES) }?.first_chunk_mut::<STAMP_BYTES>()?;
    let stamp_ns = u64::from_ne_bytes(core::mem::take(stamp));
    let is_plausible = stamp_ns <= now_ns && now_ns - stamp_ns < STAMP_AGE_NS;
    // SAFETY: as for the stamp.
    let frame = unsafe { umem.bytes(at, len) }?;
    let datagram = udp::parse_frame(frame).ok()?;
    let flow = FlowKey {
        local: datagram.dst_ip,
        remote: datagram.src_ip,
        local_port: datagram.dst_port,
        remote_port: datagram.src_port,
        reserve: 0,
    };
    let arrival_ns = if is_plausible { stamp_ns } else { now_ns };
    let meta = RxMeta { flow, arrival_ns, ecn: Ecn(datagram.ecn) };
    Some(Packet { at: at + datagram.payload_offset, len: datagram.payload.len(), meta })
}

impl Port for XdpPort {
    fn kind(&self) -> PortKind {
        PortKind::Xdp
    }

    fn receive(&mut self, max: usize) -> usize {
        if !self.batch.is_empty() || !self.has_packets() {
            return 0;
        }
        let now_ns = now_ns();
        let (mut left, count) = (max.min(BATCH), self.frames.sockets.len());
        for nth in 0..count {
            let Some(socket) = self.frames.sockets.get_mut((self.first + nth) % count) else { continue };
            if !socket.held.is_empty() {
                continue;
            }
            let consumed = socket.rx.consumer().load(Ordering::Relaxed);
            for position in 0..socket.rx.filled().min(u32::try_from(left).unwrap_or(0)) {
                let Some(found) = socket.rx.descriptor(consumed.wrapping_add(position)) else { break };
                socket.held.push(frame_of(found.offset));
                left -= 1;
                let at = usize::try_from(found.offset).unwrap_or(usize::MAX);
                match read(&mut self.umem, at, found.len as usize, now_ns) {
                    Some(packet) => self.batch.push(packet),
                    None => self.rx_discarded += 1,
                }
            }
        }
        self.first = (self.first + 1) % count.max(1);
        if self.batch.is_empty() {
            // Nothing in it was ours: nobody will release it.
            self.release();
        }
        self.batch.len()
    }

    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        let packet = self.batch.get(index)?;
        // SAFETY: because the packet's frame is the batch's, the kernel does not have it; `release`, which gives it back,
        // needs self mutably.
        let payload = unsafe { self.umem.bytes(packet.at, packet.len) }?;
        Some((payload, packet.meta))
    }

    fn release(&mut self) {
        self.batch.clear();
        self.frames.release();
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        let head = Head::new(flow, (dscp << 2) | (ecn.0 & 3)).ok_or(PathError::Unreachable)?;
        let slot = self.paths.insert(Path { head, epoch: 0, generation: 0, most: None })?;
        let generation = self.next_hops.wish(self.frames.worker(), index_of(slot), flow.local, flow.remote);
        if let Some(path) = self.paths.get_mut(slot) {
            path.generation = generation;
        }
        Ok(slot)
    }

    fn close_path(&mut self, path: PathSlot) {
        if self.paths.remove(path) {
            self.next_hops.forget(self.frames.worker(), index_of(path));
        }
    }

    fn tx_room(&self) -> usize {
        (self.frames.free.len() + usize::from(self.reserved.is_some())).min(self.ring_room())
    }

    fn room_for(&mut self, _: PathSlot, _: usize) -> usize {
        self.tx_room()
    }

    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        if !self.serves(path, len) || self.ring_room() == 0 {
            return None;
        }
        let frame = match self.reserved {
            Some(Reserved { frame, .. }) => frame,
            None => self.frames.free.pop()?,
        };
        self.reserved = Some(Reserved { frame, path, len });
        // SAFETY: because a reserved frame is this worker's and in no other place: neither the kernel nor another reference
        // knows it.
        unsafe { self.umem.bytes_mut(frame as usize * FRAME_BYTES as usize + PAYLOAD_AT, len) }
    }

    fn commit(&mut self, len: usize) {
        let Some(Reserved { frame, path, len: most }) = self.reserved.take() else { return };
        let (len, start) = (len.min(most), frame as usize * FRAME_BYTES as usize);
        let has_checksum = self.config.has_v4_checksum;
        let Some(path) = self.paths.get(path) else { return self.frames.free.push(frame) };
        // SAFETY: because the frame was reserved until now, only this port knows it.
        let bytes = unsafe { self.umem.bytes_mut(start + PAYLOAD_AT - HEAD_BYTES, HEAD_BYTES + len) };
        let parts = bytes.and_then(|bytes| bytes.split_first_chunk_mut::<HEAD_BYTES>());
        let Some((room, payload)) = parts else { return self.frames.free.push(frame) };
        let head_len = path.head.write(room, payload, has_checksum);
        let offset = (start + PAYLOAD_AT - head_len) as u64;
        let descriptor = Descriptor { offset, len: u32::try_from(head_len + len).unwrap_or(0) };
        self.pending.push(Pending { frame, descriptor });
    }

    fn flush(&mut self) -> Flushed {
        let frames = u32::try_from(self.pending.len()).unwrap_or(0);
        self.frames.send(self.pending.iter().map(|pending| (pending.frame, pending.descriptor)));
        self.pending.clear();
        Flushed { frames, errors: 0 }
    }

    fn reap(&mut self) {
        self.frames.reap();
    }

    fn rehearse(&mut self) {
        self.frames.rehearse();
    }
}

impl Wait for XdpPort {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        if !self.has_packets() {
            self.sleep(&[(wake, false)], timeout);
            if self.found_added(0) {
                wait::drain(wake);
            }
        }
    }
}
