// SPDX-License-Identifier: Apache-2.0
//! Frames for datagrams to send: a fixed pool, each with its message header beside it.
//!
//! ```text
//!  free ── reserve ──▶ reserved ── commit ──▶ committed ── take ──▶ kernel ── put_back ──▶ free
//!                                                 retry ◀── again ──┘   (the send buffer was full)
//! ```
//!
//! A frame is in exactly one of these places. Frames leave in the order of their commits; those to try again go first.

use std::collections::VecDeque;

use dataplane_abi::limits::FRAME_BYTES;

use crate::ancillary::{NAME_BYTES, SEND_CONTROL_BYTES};
use crate::memory::Region;
use crate::paths::Route;
use crate::socket::SetupError;

/// Frames that a pool has at most.
const FRAMES_MAX: u16 = 16_384;

/// What sendmsg is told of a frame. The pointers point into the same head and to the frame's payload.
#[repr(C, align(64))]
struct Head {
    message: libc::msghdr,
    vector: libc::iovec,
    name: [u8; NAME_BYTES],
    // ---- 100 bytes; the control messages are aligned as cmsghdr wants
    control: Control,
}

#[repr(C, align(8))]
struct Control([u8; SEND_CONTROL_BYTES]);

const _: () = assert!(size_of::<Head>() == 192);

/// The pool.
#[derive(Debug)]
pub(crate) struct TxFrames {
    heads: Region,
    payloads: Region,
    free: Vec<u16>,
    committed: VecDeque<u16>,
    retry: VecDeque<u16>,
    reserved: Option<Reserved>,
}

#[derive(Clone, Copy, Debug)]
struct Reserved {
    frame: u16,
    len: usize,
}

impl TxFrames {
    pub(crate) fn new(frames: u16) -> Result<Self, SetupError> {
        let frames = frames.clamp(1, FRAMES_MAX);
        let count = usize::from(frames);
        Ok(Self {
            heads: Region::new(count * size_of::<Head>())?,
            payloads: Region::new(count * FRAME_BYTES)?,
            free: (0..frames).rev().collect(),
            committed: VecDeque::with_capacity(count),
            retry: VecDeque::with_capacity(count),
            reserved: None,
        })
    }

    /// Frames that can be reserved.
    pub(crate) const fn room(&self) -> usize {
        self.free.len() + self.reserved.is_some() as usize
    }

    pub(crate) fn has_retries(&self) -> bool {
        !self.retry.is_empty()
    }

    pub(crate) fn reserve(&mut self, route: &Route, len: usize) -> Option<&mut [u8]> {
        if len > FRAME_BYTES {
            return None;
        }
        let frame = match self.reserved {
            Some(Reserved { frame, .. }) => frame,
            None => self.free.pop()?,
        };
        self.reserved = Some(Reserved { frame, len });
        self.address(frame, route)?;
        // SAFETY: because a reserved frame is in no other place, neither the kernel nor another reference knows it.
        unsafe { self.payloads.bytes_mut(usize::from(frame) * FRAME_BYTES, len) }
    }

    /// Writes the head of a frame that the kernel does not have.
    fn address(&mut self, frame: u16, route: &Route) -> Option<()> {
        let head = self.head(frame)?;
        let payload = self.payloads.address(usize::from(frame) * FRAME_BYTES, FRAME_BYTES)?;
        // SAFETY: because `head` is inside the region and no reference into it exists; this computes an address only.
        let name = unsafe { &raw mut (*head).name };
        // SAFETY: as for `name`.
        let vector = unsafe { &raw mut (*head).vector };
        // SAFETY: as for `name`.
        let control = unsafe { &raw mut (*head).control };
        let mut message = empty_message();
        message.msg_name = name.cast();
        message.msg_namelen = u32::try_from(route.name.len).ok()?;
        message.msg_iov = vector;
        message.msg_iovlen = 1;
        if route.control.len != 0 {
            message.msg_control = control.cast();
            message.msg_controllen = route.control.len;
        }
        let contents = Head {
            message,
            vector: libc::iovec { iov_base: payload.as_ptr().cast(), iov_len: 0 },
            name: route.name.bytes,
            control: Control(route.control.bytes),
        };
        // SAFETY: because `head` is aligned (the region is page aligned, heads are 192 bytes), inside the region, and the
        // kernel does not have the frame.
        unsafe { head.write(contents) };
        Some(())
    }

    fn head(&self, frame: u16) -> Option<*mut Head> {
        let address = self.heads.address(usize::from(frame) * size_of::<Head>(), size_of::<Head>())?;
        Some(address.as_ptr().cast())
    }

    pub(crate) fn commit(&mut self, len: usize) {
        let Some(reserved) = self.reserved.take() else { return };
        let Some(head) = self.head(reserved.frame) else { return };
        // SAFETY: because the head is inside the region and the kernel does not have the frame.
        unsafe { (*head).vector.iov_len = len.min(reserved.len) };
        self.committed.push_back(reserved.frame);
    }

    /// The next frame for the kernel.
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.take_retry().or_else(|| self.committed.pop_front())
    }

    /// The next frame that was flushed already.
    pub(crate) fn take_retry(&mut self) -> Option<u16> {
        self.retry.pop_front()
    }

    /// The kernel had no room for the frame: it goes first at the next try, as the `nth` of those that came back from the
    /// same submission.
    pub(crate) fn again(&mut self, frame: u16, nth: usize) {
        self.retry.insert(nth.min(self.retry.len()), frame);
    }

    /// The kernel is done with the frame.
    pub(crate) fn put_back(&mut self, frame: u16) {
        self.free.push(frame);
    }

    /// The message header of a taken frame; valid until the frame is put back.
    pub(crate) fn message(&self, frame: u16) -> Option<*const libc::msghdr> {
        let head = self.head(frame)?;
        // SAFETY: because `head` is inside the region; this computes an address only.
        Some(unsafe { &raw const (*head).message })
    }

    /// The kernel may have frames for ever.
    pub(crate) const fn leak(&mut self) {
        self.heads.leak();
        self.payloads.leak();
    }
}

/// A message header with nothing in it.
pub(crate) fn empty_message() -> libc::msghdr {
    // SAFETY: because all of msghdr's fields are integers and raw pointers, for which zero is a value.
    unsafe { core::mem::zeroed() }
}

/// Whether a refused frame may be tried again: the send buffer is full, or a signal came.
pub(crate) const fn is_temporary(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::EINTR)
}

#[cfg(test)]
mod tests {
    use dataplane_abi::flow::{FlowKey, map_v4};

    use super::*;
    use crate::paths::{Binding, PathTable};
    use crate::port::Ecn;

    fn pool(frames: u16) -> (TxFrames, Route) {
        let (local, remote) = (map_v4([127, 0, 0, 1]), map_v4([127, 0, 0, 2]));
        let flow = FlowKey { local, remote, local_port: 7, remote_port: 9, reserve: 0 };
        let mut paths = PathTable::new(Binding { is_v6: true, port: 7 }, 1);
        let slot = paths.open(&flow, 46, Ecn(1)).unwrap();
        (TxFrames::new(frames).unwrap(), *paths.route(slot).unwrap())
    }

    fn commit(frames: &mut TxFrames, route: &Route) -> Option<u16> {
        frames.reserve(route, 8)?;
        frames.commit(8);
        frames.committed.back().copied()
    }

    #[test]
    fn frames_that_found_no_room_go_first_and_in_their_order() {
        let (mut frames, route) = pool(8);
        let committed: Vec<u16> = (0..6).map(|_| commit(&mut frames, &route).unwrap()).collect();
        let taken: Vec<u16> = (0..5).map(|_| frames.take().unwrap()).collect();
        assert_eq!(taken, committed[..5]);
        frames.put_back(taken[0]);
        (1..5).for_each(|nth| frames.again(taken[nth], nth - 1));
        // The next submission takes two of them, which find no room again.
        let retried = [frames.take_retry().unwrap(), frames.take_retry().unwrap()];
        (0..2).for_each(|nth| frames.again(retried[nth], nth));
        let rest: Vec<u16> = core::iter::from_fn(|| frames.take()).collect();
        assert_eq!(rest, committed[1..]);
    }

    #[test]
    fn a_frame_is_in_one_place() {
        let (mut frames, route) = pool(2);
        assert_eq!(frames.room(), 2);
        frames.reserve(&route, 1).unwrap();
        assert_eq!((frames.room(), frames.free.len()), (2, 1), "reserved and not committed can be lent again");
        frames.commit(1);
        frames.commit(1);
        assert_eq!((frames.room(), frames.committed.len()), (1, 1), "a commit without a frame does nothing");
        let frame = frames.take().unwrap();
        assert_eq!((frames.room(), frames.take()), (1, None));
        frames.put_back(frame);
        assert_eq!(frames.room(), 2);
    }

    #[test]
    fn a_commit_is_never_longer_than_its_reservation() {
        let (mut frames, route) = pool(1);
        frames.reserve(&route, 100).unwrap();
        frames.commit(5000);
        let frame = frames.take().unwrap();
        let message = frames.message(frame).unwrap();
        // SAFETY: because the frame's head was written by `reserve`, and nobody writes to it meanwhile.
        let vector = unsafe { (*message).msg_iov };
        // SAFETY: because the header points to the vector in the same head.
        assert_eq!(unsafe { (*vector).iov_len }, 100);
    }
}
