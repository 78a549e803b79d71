// SPDX-License-Identifier: Apache-2.0
//! The trait that every port implements: where packets enter and leave a worker.
//!
//! `forward` knows paths, not heads: it writes the UDP payload, the port writes what lies in front. A port lends its frames:
//! what `packet` gives stays unchanged until `release`, what `reserve` gives belongs to the caller until `commit` or the next
//! `reserve`. The receive half never sends, the send half never receives, so that one worker drives several ports.

use dataplane_abi::flow::FlowKey;

/// Explicit congestion notification of a datagram (RFC 3168 §5): the two low bits of the TOS or traffic class byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ecn(pub u8);

/// What a port knows about a received packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RxMeta {
    /// 5-tuple, `local` being the address that the packet was sent to.
    pub flow: FlowKey,
    /// When the packet entered (kernel or driver stamp), monotonic ns.
    pub arrival_ns: u64,
    /// ECN bits.
    pub ecn: Ecn,
}

/// Names an open path of one port; invalid after `close_path`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PathSlot(pub u32);

/// Why a path cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PathError {
    /// The path table is full.
    #[error("the port's path table is full")]
    Full,
    /// Another port has to serve this path (local route, unresolved neighbour).
    #[error("this port does not reach the address")]
    Unreachable,
}

/// What a flush did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flushed {
    /// Frames that the kernel took.
    pub frames: u32,
    /// Frames that it refused (counted as tx errors, the frames are the port's again).
    pub errors: u32,
}

/// Which port this is, for the counters (`WorkerCounters::port`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum PortKind {
    /// io_uring.
    Uring = 1,
    /// Plain batched sockets.
    Sockets = 2,
    /// AF_XDP.
    Xdp = 3,
    /// In memory, seeded.
    Simulated = 4,
}

/// Where packets enter and leave a worker.
pub trait Port {
    /// Which port this is.
    fn kind(&self) -> PortKind;

    /// Takes up to `max` (≤ `limits::BATCH`) received packets as the current batch; never blocks. Returns how many.
    /// The batch before must have been released.
    fn receive(&mut self, max: usize) -> usize;

    /// A packet of the current batch: the UDP payload and what is known about it.
    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)>;

    /// Gives the current batch's frames back.
    fn release(&mut self);

    /// Opens a path to a peer; the same 5-tuple opened twice gives two slots. `dscp` is the 6-bit code point (RFC 2474).
    ///
    /// # Errors
    /// See [`PathError`].
    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError>;

    /// Closes a path; frames committed to it are still sent.
    fn close_path(&mut self, path: PathSlot);

    /// Frames that can be reserved before the next flush, where a path is one of most. Without room everybody waits.
    fn tx_room(&self) -> usize;

    /// Frames of `len` bytes of UDP payload that can be reserved for `path` before the next flush. It is less than
    /// [`Self::tx_room`] where another port sends for this path and has less: nobody else waits for that one.
    fn room_for(&mut self, path: PathSlot, len: usize) -> usize;

    /// Lends a frame of at least `len` bytes of UDP payload for `path`, or nothing where there is no room or no such path.
    /// A frame reserved and not committed is lent again.
    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]>;

    /// The frame reserved last is complete with `len` bytes; it stays invisible to the kernel until `flush`.
    fn commit(&mut self, len: usize);

    /// Makes the committed frames visible to the kernel, in order. Every number in them must be stored before.
    fn flush(&mut self) -> Flushed;

    /// Takes back frames that the kernel is done with.
    fn reap(&mut self);

    /// Goes the way to the kernel with nothing to send, so that it is warm for what comes next.
    fn rehearse(&mut self) {}

    /// Datagrams lost on the way in since start, if the port knows (socket queue overflow).
    fn rx_overflow(&self) -> u64 {
        0
    }
}
