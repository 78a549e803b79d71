// SPDX-License-Identifier: Apache-2.0
//! Where a worker's frames go: its rings, its free list, and the ways to the workers that it shares a queue with.
//!
//! ```text
//!  rx ring ─ held ─ release: pass, then home ─▶ own queue: refill ─▶ fill ring
//!                                           └▶ shared queue: lane ─▶ its keeper's inbox
//!  free ─ the port's hands ─ send: pass, kick ─▶ tx ring … completion ring
//!    ▲                                                      │
//!    └──────────── home ◀─ reap: pass ◀─────────────────────┘
//! ```
//!
//! A frame is in exactly one of these places, and the frame table says who holds it before any index of a ring does. It
//! must never look into a frame.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dataplane_abi::frames::FrameState;
use dataplane_abi::ids::WorkerId;
use dataplane_abi::limits::BATCH;
use dataplane_shm::frames::{FrameTable, Ring as TableRing, RingKind};

use super::geometry::{FRAME_BYTES, Geometry, Home, Pair};
use super::returns::{Inbox, Outbox};
use super::ring::{Descriptor, Ring};

/// Frames passed through a completion ring at a time.
const CHUNK: u32 = 64;
/// Kicks of one flush: in copy mode one takes 32 frames, or as many as the kernel lets us say (`setup`).
const KICKS: u32 = 64;
/// A worker that sleeps is woken when so many of its frames wait for it.
const NUDGE_AT: usize = 1024;

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
    pub(super) rx: Ring,
    tx: Ring,
    keep: Option<Keep>,
    /// Frames of the current batch, in the ring's order.
    pub(super) held: Vec<u32>,
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
    to: Outbox,
    from: Inbox,
    is_nudged: bool,
}

impl Lane {
    pub(super) const fn new(to: Outbox, from: Inbox) -> Self {
        Self { to, from, is_nudged: false }
    }

    /// Takes a frame that came home; the other worker is awake, then.
    fn take(&mut self) -> Option<u32> {
        let frame = self.from.pop()?;
        self.is_nudged = false;
        Some(frame)
    }
}

/// The frames of one worker.
#[derive(Debug)]
pub(super) struct Frames {
    geometry: Geometry,
    worker: u16,
    table: FrameTable,
    pub(super) sockets: Vec<Socket>,
    /// The socket that is sent on.
    tx: usize,
    pub(super) free: Vec<u32>,
    /// For passing frames through a ring.
    chunk: Vec<u32>,
    /// By worker; few, so that they are searched.
    lanes: Vec<(u16, Lane)>,
    nudges: Arc<Nudges>,
    /// What the kernel said of the last kick: the interface is down, or gone.
    pub(super) is_down: bool,
    pub(super) is_lost: bool,
    /// Frames that were not where they had to come from.
    pub(super) refused: u64,
}

impl Frames {
    pub(super) fn new(geometry: Geometry, worker: u16, table: FrameTable, nudges: Arc<Nudges>) -> Self {
        Self {
            geometry,
            worker,
            table,
            sockets: Vec::new(),
            tx: 0,
            free: Vec::with_capacity(geometry.tx_frames as usize),
            chunk: Vec::with_capacity(BATCH.max(geometry.tx_ring as usize)),
            lanes: Vec::new(),
            nudges,
            is_down: false,
            is_lost: false,
            refused: 0,
        }
    }

    pub(super) const fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    pub(super) const fn worker(&self) -> u16 {
        self.worker
    }

    pub(super) const fn table(&self) -> &FrameTable {
        &self.table
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
    pub(super) fn claim(&mut self) {
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
    }

    /// What a sleeping worker polls: its sockets, and the eventfd by which others wake it for frames that wait.
    pub(super) fn watched(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let nudge = self.nudges.get(usize::from(self.worker)).map(AsFd::as_fd);
        self.sockets.iter().map(|socket| socket.fd.as_fd()).chain(nudge)
    }

    /// How many frames (modulo 2^32) the device has taken so far, where it had no room for all that was sent or has every
    /// frame there is: it does not say when that is over, so that it has to be asked again.
    pub(super) fn held_up(&self) -> Option<u32> {
        let socket = self.sockets.get(self.tx)?;
        let is_held_up = socket.tx.filled() != 0 || self.free.is_empty();
        is_held_up.then(|| socket.tx.consumer().load(Ordering::Relaxed))
    }

    /// The place of the nudge among what is watched.
    pub(super) const fn nudge_place(&self) -> usize {
        self.sockets.len()
    }

    /// The worker is awake.
    pub(super) fn quiet(&self) {
        if let Some(nudge) = self.nudges.get(usize::from(self.worker)) {
            let _ = rustix::io::read(nudge, &mut [0; 8]);
        }
    }

    /// Entries of the tx ring that the kernel does not have.
    pub(super) fn tx_room(&self) -> usize {
        self.sockets.get(self.tx).map_or(0, |socket| (socket.tx.entries() - socket.tx.filled()) as usize)
    }

    /// Gives the batch's frames back.
    pub(super) fn release(&mut self) {
        for index in 0..self.sockets.len() {
            let Some(socket) = self.sockets.get_mut(index).filter(|socket| !socket.held.is_empty()) else { continue };
            let ring = socket.ring(RingKind::Rx);
            self.refused += pass(&self.table, ring, &socket.held, &socket.rx);
            self.chunk.clear();
            self.chunk.append(&mut socket.held);
            self.send_chunk_home();
        }
        self.refill();
    }

    /// Gives frames to the kernel to send, in their order; there is room for them.
    pub(super) fn send(&mut self, frames: impl Iterator<Item = (u32, Descriptor)>) {
        let Some(socket) = self.sockets.get_mut(self.tx) else { return };
        let produced = socket.tx.producer().load(Ordering::Relaxed);
        self.chunk.clear();
        for (nth, (frame, descriptor)) in (0_u32..).zip(frames) {
            socket.tx.set_descriptor(produced.wrapping_add(nth), descriptor);
            self.chunk.push(frame);
        }
        if !self.chunk.is_empty() {
            self.refused += pass(&self.table, socket.ring(RingKind::Tx), &self.chunk, &socket.tx);
            self.kick();
        }
    }

    /// Takes back what the kernel and the other workers are done with.
    pub(super) fn reap(&mut self) {
        self.complete();
        self.collect();
        self.refill();
        self.kick();
        self.ask_for_frames();
    }

    /// Sends a frame home that is this worker's.
    fn go_home(&mut self, frame: u32) {
        let Some(home) = self.geometry.home(frame) else {
            self.refused += 1;
            return;
        };
        let worker = home.worker();
        if worker == self.worker {
            return self.keep_frame(frame, home);
        }
        let Some((_, lane)) = self.lanes.iter_mut().find(|(other, _)| *other == worker) else {
            self.refused += 1;
            return;
        };
        if !lane.to.push(frame) {
            self.refused += 1;
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
                    self.refused += 1;
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
            self.refused += pass(&self.table, ring, frames, &keep.fill);
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
            while self.complete_some(index) {}
        }
    }

    /// Takes some from one of them; false where none are left.
    fn complete_some(&mut self, index: usize) -> bool {
        let Some(socket) = self.sockets.get(index) else { return false };
        let Some(keep) = &socket.keep else { return false };
        let count = keep.completion.filled().min(CHUNK);
        if count == 0 {
            return false;
        }
        let consumed = keep.completion.consumer().load(Ordering::Relaxed);
        self.chunk.clear();
        let offsets = (0..count).filter_map(|nth| keep.completion.offset(consumed.wrapping_add(nth)));
        self.chunk.extend(offsets.map(frame_of));
        self.refused += pass(&self.table, socket.ring(RingKind::Completion), &self.chunk, &keep.completion);
        self.send_chunk_home();
        true
    }

    /// Sends the frames of `chunk` home.
    fn send_chunk_home(&mut self) {
        for nth in 0..self.chunk.len() {
            if let Some(frame) = self.chunk.get(nth).copied() {
                self.go_home(frame);
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
                    _ => self.refused += 1,
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

    /// Tells the kernel to look at an empty tx ring.
    pub(super) fn rehearse(&self) {
        if let Some(socket) = self.sockets.get(self.tx)
            && socket.tx.needs_wakeup()
        {
            kick(socket.fd.as_fd(), Way::Send);
        }
    }

    /// A sharer that runs out of frames asks the keeper of its queue to look for them, and one that has none left again each
    /// time: the keeper may have looked before the device was done with any, and sleeps on.
    fn ask_for_frames(&mut self) {
        let keeper = self.geometry.first_worker(self.geometry.tx_queue(self.worker));
        if keeper == self.worker || self.free.len() >= NUDGE_AT {
            return;
        }
        let is_out = self.free.is_empty();
        if let Some((_, lane)) =
            self.lanes.iter_mut().find(|(other, lane)| *other == keeper && (is_out || !lane.is_nudged))
        {
            lane.is_nudged = true;
            wake(&self.nudges, keeper);
        }
    }
}

/// The frame that an offset of the UMEM lies in.
pub(super) fn frame_of(offset: u64) -> u32 {
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

/// A worker's identity in the frame table.
const fn id(worker: u16) -> WorkerId {
    WorkerId(worker)
}
