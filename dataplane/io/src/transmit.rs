// SPDX-License-Identifier: Apache-2.0
//! Frames for datagrams to send: a fixed pool, each with its message header beside it.
//!
//! ```text
//!  free ── reserve ──▶ reserved ── commit ──▶ committed ── take ──▶ kernel ── put_back ──▶ free
//!                                                 retry ◀── again ──┘   (the send buffer was full)
//! ```
//!
//! A frame is in exactly one of these places. Frames leave in the order of their commits; those to try again go first.
//!
//! Frames of one length that are committed one after the other for one path are a *train*: one message of several buffers,
//! which the kernel cuts into datagrams again (UDP_SEGMENT, `udp(7)`), so that its stack is walked once. The last one may be
//! shorter. A train is named by its first frame and goes everywhere as one; where the kernel refuses it, it is taken apart.

use std::collections::VecDeque;

use dataplane_abi::limits::FRAME_BYTES;

use crate::ancillary::{Emitter, NAME_BYTES, SEND_CONTROL_BYTES};
use crate::memory::Region;
use crate::paths::Route;
use crate::port::PathSlot;
use crate::socket::SetupError;

/// Frames that a pool has at most.
const FRAMES_MAX: u16 = 16_384;

/// Frames of a train at most: a burst of the pipeline. The kernel takes 64 (Linux include/linux/udp.h UDP_MAX_SEGMENTS).
const TRAIN: usize = 8;
/// Bytes of the control message UDP_SEGMENT: head, 16 bits, padding.
const SEGMENT_BYTES: usize = 24;

/// What sendmsg is told of a frame. The pointers point into the same head and to payloads.
#[repr(C, align(64))]
struct Head {
    message: libc::msghdr,
    vectors: [libc::iovec; TRAIN],
    name: [u8; NAME_BYTES],
    // ---- 212 bytes; the control messages are aligned as cmsghdr wants
    control: Control,
}

#[repr(C, align(8))]
struct Control([u8; SEND_CONTROL_BYTES + SEGMENT_BYTES]);

const _: () = assert!(size_of::<Head>() == 320);

/// The pool.
#[derive(Debug)]
pub(crate) struct TxFrames {
    heads: Region,
    payloads: Region,
    free: Vec<u16>,
    committed: VecDeque<u16>,
    retry: VecDeque<u16>,
    reserved: Option<Reserved>,
    /// Frames behind a frame in its train.
    followers: Vec<Followers>,
    /// The train committed last, while another frame may join it.
    open: Option<Open>,
    has_trains: bool,
    segmented: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reserved {
    frame: u16,
    path: PathSlot,
    len: usize,
}

/// The frames behind the first of a train.
#[derive(Clone, Copy, Debug, Default)]
struct Followers {
    frames: [u16; TRAIN - 1],
    count: usize,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    lead: u16,
    path: PathSlot,
    /// Bytes of each of its frames.
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
            followers: vec![Followers::default(); count],
            open: None,
            has_trains: false,
            segmented: 0,
        })
    }

    /// Frames that can be reserved.
    pub(crate) const fn room(&self) -> usize {
        self.free.len() + self.reserved.is_some() as usize
    }

    pub(crate) fn has_retries(&self) -> bool {
        !self.retry.is_empty()
    }

    /// From here on frames are joined to trains: the kernel knows UDP_SEGMENT.
    pub(crate) const fn join_frames(&mut self, has_trains: bool) {
        self.has_trains = has_trains;
    }

    /// Frames that left behind another in a train.
    pub(crate) const fn segmented(&self) -> u64 {
        self.segmented
    }

    pub(crate) fn reserve(&mut self, path: PathSlot, route: &Route, len: usize) -> Option<&mut [u8]> {
        if len > FRAME_BYTES {
            return None;
        }
        let frame = match self.reserved {
            Some(Reserved { frame, .. }) => frame,
            None => self.free.pop()?,
        };
        self.reserved = Some(Reserved { frame, path, len });
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
        let vectors = unsafe { &raw mut (*head).vectors };
        // SAFETY: as for `name`.
        let control = unsafe { &raw mut (*head).control };
        let mut message = empty_message();
        message.msg_name = name.cast();
        message.msg_namelen = u32::try_from(route.name.len).ok()?;
        message.msg_iov = vectors.cast();
        message.msg_iovlen = 1;
        if route.control.len != 0 {
            message.msg_control = control.cast();
            message.msg_controllen = route.control.len;
        }
        let own = libc::iovec { iov_base: payload.as_ptr().cast(), iov_len: 0 };
        let mut bytes = [0; SEND_CONTROL_BYTES + SEGMENT_BYTES];
        bytes.first_chunk_mut::<SEND_CONTROL_BYTES>()?.copy_from_slice(&route.control.bytes);
        let contents = Head { message, vectors: [own; TRAIN], name: route.name.bytes, control: Control(bytes) };
        // SAFETY: because `head` is aligned (the region is page aligned, heads are 320 bytes), inside the region, and the
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
        let len = len.min(reserved.len);
        // SAFETY: because the head is inside the region, aligned, written by `address`, and the kernel does not have the frame.
        let head = unsafe { &mut *head };
        if let Some(own) = head.vectors.first_mut() {
            own.iov_len = len;
        }
        if let Some(joined) = self.join(reserved, len) {
            self.open = joined;
            return;
        }
        self.committed.push_back(reserved.frame);
        let is_lead = self.has_trains && len != 0;
        self.open = is_lead.then_some(Open { lead: reserved.frame, path: reserved.path, len });
    }

    /// Puts a frame behind the train committed last; what is open afterwards, or nothing where it does not belong there.
    fn join(&mut self, reserved: Reserved, len: usize) -> Option<Option<Open>> {
        let open = self.open.filter(|open| open.path == reserved.path && (1..=open.len).contains(&len))?;
        let payload = self.payloads.address(usize::from(reserved.frame) * FRAME_BYTES, FRAME_BYTES)?;
        let head = self.head(open.lead)?;
        let followers = self.followers.get_mut(usize::from(open.lead))?;
        // SAFETY: because the head is inside the region, aligned, and of a committed frame: the kernel does not have it.
        let head = unsafe { &mut *head };
        if followers.count == 0 {
            let at = head.message.msg_controllen;
            let mut segment = Emitter::<SEGMENT_BYTES>::new();
            segment.put_segment(u16::try_from(open.len).ok()?);
            head.control.0.get_mut(at..at + SEGMENT_BYTES)?.copy_from_slice(&segment.bytes);
            head.message.msg_control = (&raw mut head.control).cast();
            head.message.msg_controllen = at + SEGMENT_BYTES;
        }
        *followers.frames.get_mut(followers.count)? = reserved.frame;
        followers.count += 1;
        *head.vectors.get_mut(followers.count)? = libc::iovec { iov_base: payload.as_ptr().cast(), iov_len: len };
        head.message.msg_iovlen = followers.count + 1;
        self.segmented += 1;
        let is_full = followers.count + 1 == TRAIN || len < open.len;
        Some((!is_full).then_some(open))
    }

    /// Takes a train apart that the kernel refused: its frames go again one by one, first of all from the `nth` place on; how
    /// many they are. One, and nothing happens, where it is no train.
    pub(crate) fn split(&mut self, lead: u16, nth: usize) -> usize {
        let Some(followers) = self.followers.get_mut(usize::from(lead)) else { return 1 };
        let Followers { frames, count } = core::mem::take(followers);
        let Some(head) = self.head(lead).filter(|_| count != 0) else { return 1 };
        // SAFETY: because the head is inside the region, aligned, and the kernel has given the frame back.
        let head = unsafe { &mut *head };
        head.message.msg_iovlen = 1;
        head.message.msg_controllen -= SEGMENT_BYTES;
        if head.message.msg_controllen == 0 {
            head.message.msg_control = core::ptr::null_mut();
        }
        for (at, frame) in core::iter::once(lead).chain(frames.into_iter().take(count)).enumerate() {
            self.again(frame, nth + at);
        }
        self.segmented -= count as u64;
        count + 1
    }

    /// The next frame for the kernel.
    pub(crate) fn take(&mut self) -> Option<u16> {
        self.open = None;
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

    /// The kernel is done with the frame and those behind it in its train; how many they were.
    pub(crate) fn put_back(&mut self, frame: u16) -> u32 {
        self.free.push(frame);
        let Some(followers) = self.followers.get_mut(usize::from(frame)) else { return 1 };
        let Followers { frames, count } = core::mem::take(followers);
        self.free.extend(frames.iter().take(count));
        u32::try_from(count + 1).unwrap_or(1)
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

/// Whether the kernel's answer to a train says that this device or kernel takes none: it cannot sum checksums (EIO), or does
/// not know them. Other answers are about the one train, as EINVAL where a segment is longer than the way's MTU.
pub(crate) const fn takes_no_trains(errno: i32) -> bool {
    matches!(errno, libc::EIO | libc::EOPNOTSUPP | libc::ENOPROTOOPT)
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
        frames.reserve(PathSlot(0), route, 8)?;
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
        frames.reserve(PathSlot(0), &route, 1).unwrap();
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
        frames.reserve(PathSlot(0), &route, 100).unwrap();
        frames.commit(5000);
        let frame = frames.take().unwrap();
        let message = frames.message(frame).unwrap();
        // SAFETY: because the frame's head was written by `reserve`, and nobody writes to it meanwhile.
        let vector = unsafe { (*message).msg_iov };
        // SAFETY: because the header points to the vector in the same head.
        assert_eq!(unsafe { (*vector).iov_len }, 100);
    }

    #[test]
    fn frames_of_one_length_and_path_are_a_train_until_one_is_shorter_or_longer() {
        let (mut frames, route) = pool(32);
        frames.join_frames(true);
        let lens = [100, 100, 100, 99, 100, 100, 101, 101, 101, 101, 101, 101, 101, 101, 101];
        for (at, len) in lens.into_iter().enumerate() {
            // The last one is another path's.
            frames.reserve(PathSlot(u32::from(at == 14)), &route, len).unwrap();
            frames.commit(len);
        }
        let trains: Vec<u16> = core::iter::from_fn(|| frames.take()).collect();
        let room = frames.room();
        let counts: Vec<u32> = trains.iter().map(|lead| frames.put_back(*lead)).collect();
        assert_eq!(counts, [4, 2, 8, 1]);
        assert_eq!((frames.room(), frames.room() - room), (32, 15));
    }

    #[test]
    fn a_refused_train_goes_again_frame_by_frame_and_first() {
        let (mut frames, route) = pool(8);
        frames.join_frames(true);
        for len in [10, 10, 9, 10] {
            frames.reserve(PathSlot(0), &route, len).unwrap();
            frames.commit(len);
        }
        let lead = frames.take().unwrap();
        assert_eq!(frames.split(lead, 0), 3);
        let order: Vec<u16> = core::iter::from_fn(|| frames.take()).collect();
        assert_eq!((order.len(), order.first()), (4, Some(&lead)));
        for (frame, len) in order.iter().zip([10, 10, 9, 10]) {
            // SAFETY: because the frame's head was written by `reserve`, and nobody writes to it meanwhile.
            let message = unsafe { frames.message(*frame).unwrap().read() };
            // SAFETY: because the header points to the vectors in the same head.
            assert_eq!((message.msg_iovlen, unsafe { (*message.msg_iov).iov_len }), (1, len));
            assert_eq!(message.msg_controllen, route.control.len);
        }
        assert_eq!(order.iter().map(|frame| frames.put_back(*frame)).sum::<u32>(), 4);
        assert_eq!((frames.split(lead, 0), frames.segmented()), (1, 0));
    }
}
