// SPDX-License-Identifier: Apache-2.0
//! One worker's AF_XDP port: its sockets, frames and paths.
//!
//! ```text
//!  rx ring ─ receive ─▶ batch ─ release: pass, then home ─▶ own queue: refill ─▶ fill ring
//!                                                         └▶ shared queue: lane ─▶ its keeper's inbox
//!  free ─ reserve ─▶ reserved ─ commit: head, checksum ─▶ pending ─ flush: pass, kick ─▶ tx ring … completion ring
//!                                            free ◀─ home ◀─ reap: pass ◀──────────────────────────────────┘
//! ```
//!
//! A frame is in exactly one of these places, and the frame table says who holds it. It must never wait, log or allocate
//! after construction.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::frames::FrameState;
use dataplane_abi::limits::BATCH;
use dataplane_abi::xdp::STAMP_BYTES;
use dataplane_shm::frames::{FrameTable, Ring as TableRing, RingKind};
use dataplane_wire::udp;
use rustix::time::{ClockId, clock_gettime};

use super::geometry::{FRAME_BYTES, Geometry, Home, Pair};
use super::head::{HEAD_BYTES, Head};
use super::open::{XdpConfig, id};
use super::returns::{Inbox, Outbox};
use super::ring::{Descriptor, Ring};
use crate::memory::Region;
use crate::nexthop::NextHops;
use crate::paths::{Slots, index_of};
use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use crate::wait::{self, Wait, Watch};

/// Where a sent frame's payload begins: on a cache line, with room for the longest head in front.
const PAYLOAD_AT: usize = 128;
/// Longest UDP payload of a frame.
const PAYLOAD_MOST: usize = FRAME_BYTES as usize - PAYLOAD_AT;
/// Frames passed through a ring at a time.
const CHUNK: usize = 64;
/// Kicks of one flush: in copy mode one takes 32 frames, or as many as the kernel lets us say (`setup`).
const KICKS: u32 = 64;
/// An arrival stamp older than this is none of ours.
const STAMP_AGE_NS: u64 = 10_000_000_000;
/// A keeper that sleeps is woken when so many of its frames wait for it.
const NUDGE_AT: usize = 1024;

const _: () = assert!(PAYLOAD_AT >= HEAD_BYTES && STAMP_BYTES == size_of::<u64>());

/// An eventfd per worker, by which the others wake it for frames that wait.
pub(super) type Nudges = Vec<OwnedFd>;

/// The rings of a queue, at the worker that keeps them.
#[derive(Debug)]
pub(super) struct Keep {
    fill: Ring,
    completion: Ring,
    /// Frames of this queue that are to go into the fill ring.
    refill: Vec<u32>,
}

impl Keep {
    pub(super) fn new(fill: Ring, completion: Ring, rx_frames: u32) -> Self {
        Self { fill, completion, refill: Vec::with_capacity(rx_frames as usize) }
    }
}

/// One socket of a worker.
#[derive(Debug)]
pub(super) struct Socket {
    fd: OwnedFd,
    pair: Pair,
    rx: Ring,
    tx: Ring,
    keep: Option<Keep>,
    /// Frames of the current batch, in the ring's order.
    held: Vec<u32>,
}

impl Socket {
    pub(super) fn new(fd: OwnedFd, pair: Pair, rx: Ring, tx: Ring, keep: Option<Keep>) -> Self {
        Self { fd, pair, rx, tx, keep, held: Vec::with_capacity(BATCH) }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub(super) const fn pair(&self) -> Pair {
        self.pair
    }

    pub(super) const fn keeps(&self) -> bool {
        self.keep.is_some()
    }

    const fn ring(&self, kind: RingKind) -> TableRing {
        TableRing { kind, queue: self.pair.queue, worker: id(self.pair.worker) }
    }
}

/// Both ways between two workers that share a queue.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) to: Outbox,
    pub(super) from: Inbox,
    pub(super) is_nudged: bool,
}

impl Lane {
    /// Takes a frame that came home; the other worker is awake, then.
    fn take(&mut self) -> Option<u32> {
        let frame = self.from.pop()?;
        self.is_nudged = false;
        Some(frame)
    }
}

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
    geometry: Geometry,
    worker: u16,
    umem: Region,
    table: FrameTable,
    sockets: Vec<Socket>,
    /// The socket that is sent on.
    tx: usize,
    /// The socket that is received from first; moves on with each batch.
    first: usize,
    batch: Vec<Packet>,
    free: Vec<u32>,
    reserved: Option<Reserved>,
    pending: Vec<Pending>,
    /// For passing frames through a ring.
    chunk: Vec<u32>,
    watch: Option<Watch>,
    /// By worker; few, so that they are searched.
    lanes: Vec<(u16, Lane)>,
    nudges: Arc<Nudges>,
    paths: Slots<Path>,
    next_hops: Arc<NextHops>,
    config: XdpConfig,
    /// What the kernel said of the last kick: the interface is down, or gone.
    is_down: bool,
    is_lost: bool,
    rx_discarded: u64,
    frames_refused: u64,
}

impl XdpPort {
    pub(super) fn new(
        geometry: Geometry,
        worker: u16,
        (umem, table): (Region, FrameTable),
        next_hops: Arc<NextHops>,
        config: XdpConfig,
    ) -> Self {
        Self {
            geometry,
            worker,
            umem,
            table,
            sockets: Vec::new(),
            tx: 0,
            first: 0,
            batch: Vec::with_capacity(BATCH),
            free: Vec::with_capacity(geometry.tx_frames as usize),
            reserved: None,
            pending: Vec::with_capacity(geometry.tx_ring as usize),
            chunk: Vec::with_capacity(geometry.rx_frames.max(geometry.tx_ring) as usize),
            watch: None,
            lanes: Vec::new(),
            nudges: Arc::default(),
            paths: Slots::new(config.paths),
            next_hops,
            config,
            is_down: false,
            is_lost: false,
            rx_discarded: 0,
            frames_refused: 0,
        }
    }

    pub(super) fn set_nudges(&mut self, nudges: Arc<Nudges>) {
        self.nudges = nudges;
    }

    pub(super) fn add_lane(&mut self, worker: u16, lane: Lane) {
        self.lanes.push((worker, lane));
    }

    pub(super) fn add_socket(&mut self, socket: Socket) {
        if socket.pair.queue == self.geometry.tx_queue(self.worker) {
            self.tx = self.sockets.len();
        }
        self.sockets.push(socket);
    }

    /// Takes this worker's frames: those to send from, and those of the queues that it keeps, which it gives to the kernel.
    pub(super) fn claim_frames(&mut self) {
        let worker = id(self.worker);
        for frame in self.geometry.tx_range(self.worker).rev() {
            if self.table.claim(frame, worker) {
                self.free.push(frame);
            }
        }
        for socket in &mut self.sockets {
            let queue = socket.pair.queue;
            let Some(keep) = &mut socket.keep else { continue };
            let claimed = self.geometry.rx_range(queue).filter(|frame| self.table.claim(*frame, worker));
            keep.refill.extend(claimed);
        }
        self.refill();
        self.watch = Some(Watch::new(self.watched()));
    }

    /// Sleeps until a packet is here or with others who are asked (readable, or writable where that is said).
    pub(crate) fn sleep(&mut self, added: &[(BorrowedFd<'_>, bool)], timeout: Duration) {
        if let Some(watch) = &mut self.watch {
            watch.sleep(added, timeout);
        }
        self.quiet();
    }

    /// The sockets and their places, to be put into the classifier's map once the port is open.
    pub fn sockets(&self) -> impl Iterator<Item = (Pair, BorrowedFd<'_>)> {
        self.sockets.iter().map(|socket| (socket.pair, socket.fd.as_fd()))
    }

    /// What a sleeping worker polls: its sockets, and the eventfd by which others wake it for frames that wait.
    fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let nudge = self.nudges.get(usize::from(self.worker)).map(AsFd::as_fd);
        self.sockets.iter().map(|socket| socket.fd.as_fd()).chain(nudge)
    }

    /// The worker is awake.
    fn quiet(&self) {
        if let Some(nudge) = self.nudges.get(usize::from(self.worker)) {
            let _ = rustix::io::read(nudge, &mut [0; 8]);
        }
    }

    /// Whether the interface takes nothing at present.
    pub(crate) const fn is_down(&self) -> bool {
        self.is_down
    }

    /// Whether packets wait.
    pub(crate) fn has_packets(&self) -> bool {
        self.sockets.iter().any(|socket| socket.rx.filled() != 0)
    }

    /// Whether the interface is gone: the port serves nothing any more and has to be opened anew.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.is_lost || self.next_hops.is_lost()
    }

    /// Frames that were received and not delivered: no UDP datagrams, or fragments.
    #[must_use]
    pub const fn rx_discarded(&self) -> u64 {
        self.rx_discarded
    }

    /// Frames that were not where they had to come from; always 0, or this port or the kernel is wrong.
    #[must_use]
    pub const fn frames_refused(&self) -> u64 {
        self.frames_refused
    }

    /// The table of this port's next hops.
    #[must_use]
    pub const fn next_hops(&self) -> &Arc<NextHops> {
        &self.next_hops
    }

    /// The frame table, for counting.
    #[must_use]
    pub const fn table(&self) -> &FrameTable {
        &self.table
    }

    /// Whether a payload of `len` bytes may go by this port now; the check of each `reserve`.
    #[inline]
    pub(crate) fn serves(&mut self, slot: PathSlot, len: usize) -> bool {
        let Some(path) = self.paths.get_mut(slot).filter(|_| !self.is_down) else { return false };
        let epoch = self.next_hops.epoch();
        if path.epoch != epoch {
            let hop = self.next_hops.answer(self.worker, index_of(slot), path.generation).ok();
            if let Some(hop) = &hop {
                path.head.set_link(self.geometry.interface.mac, hop);
            }
            path.most = hop.map(|hop| usize::from(hop.mtu).saturating_sub(path.head.ip_bytes()).min(PAYLOAD_MOST));
            path.epoch = epoch;
        }
        path.most.is_some_and(|most| len <= most)
    }

    /// Entries of the tx ring that are neither the kernel's nor promised.
    fn ring_room(&self) -> usize {
        let room = |socket: &Socket| (socket.tx.entries() - socket.tx.filled()) as usize;
        self.sockets.get(self.tx).map_or(0, room).saturating_sub(self.pending.len())
    }

    /// Sends a frame home that is this worker's.
    fn go_home(&mut self, frame: u32) {
        let Some(home) = self.geometry.home(frame) else {
            self.frames_refused += 1;
            return;
        };
        let worker = home.worker();
        if worker == self.worker {
            return self.keep_frame(frame, home);
        }
        let Some((_, lane)) = self.lanes.iter_mut().find(|(other, _)| *other == worker) else {
            self.frames_refused += 1;
            return;
        };
        if !lane.to.push(frame) {
            self.frames_refused += 1;
        }
        let waiting = lane.to.len();
        if waiting < NUDGE_AT {
            lane.is_nudged = false;
        } else if !lane.is_nudged {
            lane.is_nudged = true;
            wake(&self.nudges, worker);
        }
    }

    /// Puts a frame of this worker's into its place.
    fn keep_frame(&mut self, frame: u32, home: Home) {
        match home {
            Home::Tx { .. } => self.free.push(frame),
            Home::Fill { queue, .. } => {
                let kept = self.sockets.iter_mut().find(|socket| socket.pair.queue == queue);
                if let Some(keep) = kept.and_then(|socket| socket.keep.as_mut()) {
                    keep.refill.push(frame);
                } else {
                    self.frames_refused += 1;
                }
            }
        }
    }

    /// Gives the frames that wait to the kernel, to receive into.
    fn refill(&mut self) {
        for socket in &mut self.sockets {
            let ring = socket.ring(RingKind::Fill);
            let Some(keep) = socket.keep.as_mut().filter(|keep| !keep.refill.is_empty()) else { continue };
            let produced = keep.fill.producer().load(Ordering::Relaxed);
            let room = (keep.fill.entries() - keep.fill.filled()) as usize;
            let count = keep.refill.len().min(room);
            let rest = keep.refill.len() - count;
            for (position, frame) in (produced..).zip(keep.refill.iter().skip(rest)) {
                keep.fill.set_offset(position, u64::from(*frame) * u64::from(FRAME_BYTES));
            }
            let frames = keep.refill.get(rest..).unwrap_or_default();
            self.frames_refused += pass(&self.table, ring, frames, &keep.fill);
            keep.refill.truncate(rest);
            if keep.fill.needs_wakeup() {
                // The driver has run dry and waits for us (zero-copy).
                self.is_lost |= is_gone(kick(socket.fd.as_fd(), Way::Receive));
            }
        }
    }

    /// Takes sent frames back from the completion rings that this worker keeps.
    fn complete(&mut self) {
        for index in 0..self.sockets.len() {
            loop {
                let Some(socket) = self.sockets.get_mut(index) else { break };
                let ring = socket.ring(RingKind::Completion);
                let Some(keep) = &socket.keep else { break };
                let consumed = keep.completion.consumer().load(Ordering::Relaxed);
                let count = keep.completion.filled().min(CHUNK as u32);
                if count == 0 {
                    break;
                }
                self.chunk.clear();
                let offsets = (0..count).filter_map(|nth| keep.completion.offset(consumed.wrapping_add(nth)));
                self.chunk.extend(offsets.map(frame_of));
                self.frames_refused += pass(&self.table, ring, &self.chunk, &keep.completion);
                for nth in 0..self.chunk.len() {
                    if let Some(frame) = self.chunk.get(nth).copied() {
                        self.go_home(frame);
                    }
                }
            }
        }
    }

    /// Takes frames that came home from other workers.
    fn collect(&mut self) {
        for index in 0..self.lanes.len() {
            while let Some(frame) = self.lanes.get_mut(index).and_then(|(_, lane)| lane.take()) {
                match self.geometry.home(frame) {
                    Some(home) if self.table.mark(frame, FrameState::Worker(id(self.worker))).is_ok() => {
                        self.keep_frame(frame, home);
                    }
                    _ => self.frames_refused += 1,
                }
            }
        }
    }

    /// Tells the kernel of frames in the tx ring, until it has them or makes no headway.
    fn kick(&mut self) {
        let Some(socket) = self.sockets.get(self.tx) else { return };
        for _ in 0..KICKS {
            let left = socket.tx.filled();
            if left == 0 || !socket.tx.needs_wakeup() {
                return;
            }
            let refused = kick(socket.fd.as_fd(), Way::Send);
            self.is_lost |= is_gone(refused);
            self.is_down = is_gone(refused) || refused == libc::ENETDOWN;
            if socket.tx.filled() == left {
                // The device is full or down. What is left goes with the next flush or reap.
                return;
            }
        }
    }

    /// A sharer that runs out of frames asks the keeper of its queue to look for them.
    fn ask_for_frames(&mut self) {
        let keeper = self.geometry.first_worker(self.geometry.tx_queue(self.worker));
        if keeper == self.worker || self.free.len() >= NUDGE_AT {
            return;
        }
        if let Some((_, lane)) = self.lanes.iter_mut().find(|(other, lane)| *other == keeper && !lane.is_nudged) {
            lane.is_nudged = true;
            wake(&self.nudges, keeper);
        }
    }
}

/// The frame that an offset of the UMEM lies in.
fn frame_of(offset: u64) -> u32 {
    u32::try_from(offset / u64::from(FRAME_BYTES)).unwrap_or(u32::MAX)
}

/// Passes frames through a ring, in the order of [`FrameTable::pass`]. Frames that are not where they have to come from are
/// lost to everybody, but the ring goes on; says how many.
fn pass(table: &FrameTable, ring: TableRing, frames: &[u32], at: &Ring) -> u64 {
    let index = match ring.kind {
        RingKind::Fill | RingKind::Tx => at.producer(),
        RingKind::Rx | RingKind::Completion => at.consumer(),
    };
    if table.pass(ring, frames, index).is_ok() {
        return 0;
    }
    refuse(table, ring, frames, index)
}

#[cold]
fn refuse(table: &FrameTable, ring: TableRing, frames: &[u32], index: &std::sync::atomic::AtomicU32) -> u64 {
    let count = u32::try_from(frames.len()).unwrap_or(0);
    if let Ok(end) = table.reserve(ring, count) {
        index.store(end, Ordering::Release);
    }
    u64::from(count)
}

fn wake(nudges: &Nudges, worker: u16) {
    if let Some(nudge) = nudges.get(usize::from(worker)) {
        // A full counter means that the other one is awake anyway.
        let _ = rustix::io::write(nudge, &1_u64.to_ne_bytes());
    }
}

#[derive(Clone, Copy)]
enum Way {
    Send,
    Receive,
}

/// The system call by which the kernel is told to look at a ring; its error number, or 0.
fn kick(socket: BorrowedFd<'_>, way: Way) -> i32 {
    let (fd, none, flags) = (socket.as_raw_fd(), core::ptr::null_mut(), libc::MSG_DONTWAIT);
    let result = match way {
        // SAFETY: because no buffer and no address are given.
        Way::Send => unsafe { libc::sendto(fd, none, 0, flags, core::ptr::null(), 0) },
        // SAFETY: because no buffer and no address are given.
        Way::Receive => unsafe { libc::recvfrom(fd, none, 0, flags, core::ptr::null_mut(), core::ptr::null_mut()) },
    };
    if result >= 0 { 0 } else { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) }
}

/// A socket that is no longer bound says ENXIO: its interface is gone. One that is down says ENETDOWN and comes back.
const fn is_gone(errno: i32) -> bool {
    errno == libc::ENXIO
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
        let (mut left, count) = (max.min(BATCH), self.sockets.len());
        for nth in 0..count {
            let Some(socket) = self.sockets.get_mut((self.first + nth) % count) else { continue };
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
        for index in 0..self.sockets.len() {
            let Some(socket) = self.sockets.get_mut(index).filter(|socket| !socket.held.is_empty()) else { continue };
            let ring = socket.ring(RingKind::Rx);
            self.frames_refused += pass(&self.table, ring, &socket.held, &socket.rx);
            self.chunk.clear();
            self.chunk.append(&mut socket.held);
            for nth in 0..self.chunk.len() {
                if let Some(frame) = self.chunk.get(nth).copied() {
                    self.go_home(frame);
                }
            }
        }
        self.refill();
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        let head = Head::new(flow, (dscp << 2) | (ecn.0 & 3)).ok_or(PathError::Unreachable)?;
        let slot = self.paths.insert(Path { head, epoch: 0, generation: 0, most: None })?;
        let generation = self.next_hops.wish(self.worker, index_of(slot), flow.local, flow.remote);
        if let Some(path) = self.paths.get_mut(slot) {
            path.generation = generation;
        }
        Ok(slot)
    }

    fn close_path(&mut self, path: PathSlot) {
        if self.paths.remove(path) {
            self.next_hops.forget(self.worker, index_of(path));
        }
    }

    fn tx_room(&self) -> usize {
        (self.free.len() + usize::from(self.reserved.is_some())).min(self.ring_room())
    }

    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        if !self.serves(path, len) || self.ring_room() == 0 {
            return None;
        }
        let frame = match self.reserved {
            Some(Reserved { frame, .. }) => frame,
            None => self.free.pop()?,
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
        let Some(path) = self.paths.get(path) else { return self.free.push(frame) };
        // SAFETY: because the frame was reserved until now, only this port knows it.
        let bytes = unsafe { self.umem.bytes_mut(start + PAYLOAD_AT - HEAD_BYTES, HEAD_BYTES + len) };
        let parts = bytes.and_then(|bytes| bytes.split_first_chunk_mut::<HEAD_BYTES>());
        let Some((room, payload)) = parts else { return self.free.push(frame) };
        let head_len = path.head.write(room, payload, has_checksum);
        let offset = (start + PAYLOAD_AT - head_len) as u64;
        let descriptor = Descriptor { offset, len: u32::try_from(head_len + len).unwrap_or(0) };
        self.pending.push(Pending { frame, descriptor });
    }

    fn flush(&mut self) -> Flushed {
        let frames = u32::try_from(self.pending.len()).unwrap_or(0);
        let Some(socket) = self.sockets.get_mut(self.tx).filter(|_| frames != 0) else { return Flushed::default() };
        let produced = socket.tx.producer().load(Ordering::Relaxed);
        self.chunk.clear();
        for (nth, pending) in (0_u32..).zip(&self.pending) {
            socket.tx.set_descriptor(produced.wrapping_add(nth), pending.descriptor);
            self.chunk.push(pending.frame);
        }
        let refused = pass(&self.table, socket.ring(RingKind::Tx), &self.chunk, &socket.tx);
        self.frames_refused += refused;
        self.pending.clear();
        self.kick();
        Flushed { frames, errors: 0 }
    }

    fn reap(&mut self) {
        self.complete();
        self.collect();
        self.refill();
        self.kick();
        self.ask_for_frames();
    }
}

impl Wait for XdpPort {
    fn wait(&mut self, timeout: Duration, wake: BorrowedFd<'_>) {
        if !self.has_packets() {
            self.sleep(&[(wake, false)], timeout);
            wait::drain(wake);
        }
    }
}
