// SPDX-License-Identifier: Apache-2.0
//! Frames for received datagrams, provided to the kernel through a buffer ring.
//!
//! ```text
//!  buffer ring   entry 0 | entry 1 | …        16 bytes each: address, length, buffer id; the tail lies in entry 0
//!  frame         recvmsg_out 16 | name 32 | control 208 | payload 2048
//! ```
//!
//! A buffer belongs to the kernel from `give` until its completion, to the port from there until `give`.

use core::sync::atomic::{AtomicU16, Ordering};

use io_uring::IoUring;
use io_uring::types::BufRingEntry;

use dataplane_abi::limits::FRAME_BYTES;

use crate::ancillary::RECEIVE_CONTROL_BYTES;
use crate::memory::Region;
use crate::socket::SetupError;
use crate::transmit::empty_message;

/// `struct io_uring_recvmsg_out`.
const OUT_BYTES: usize = 16;
/// Room for the peer's address: `sockaddr_in6` rounded up.
const NAME_ROOM: usize = 32;
/// Bytes before the payload.
const HEAD_BYTES: usize = OUT_BYTES + NAME_ROOM + RECEIVE_CONTROL_BYTES;
const BUFFER_BYTES: usize = HEAD_BYTES + FRAME_BYTES;
const BUFFERS_MAX: u16 = 32_768;
/// The only buffer group of the ring.
pub(super) const GROUP: u16 = 0;

const _: () = assert!(HEAD_BYTES == 256);
const _: () = assert!(size_of::<BufRingEntry>() == 16);

/// A received datagram inside its buffer; all ranges lie inside the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Datagram<'a> {
    pub(super) name: &'a [u8],
    pub(super) control: &'a [u8],
    /// Payload bytes, which begin at the buffer's `HEAD_BYTES`.
    pub(super) payload_len: usize,
    /// The datagram was longer than the frame, or its control messages than theirs.
    pub(super) is_truncated: bool,
}

/// The buffer ring and its frames.
#[derive(Debug)]
pub(super) struct RxBuffers {
    entries: Region,
    frames: Region,
    count: u16,
    tail: u16,
    /// Buffers that the kernel does not have.
    outside: u16,
}

impl RxBuffers {
    /// Maps and registers the buffers and gives all of them to the kernel.
    pub(super) fn new(ring: &IoUring, buffers: u16) -> Result<Self, SetupError> {
        let count = buffers.clamp(1, BUFFERS_MAX).next_power_of_two();
        let mut this = Self {
            entries: Region::new(usize::from(count) * size_of::<BufRingEntry>())?,
            frames: Region::new(usize::from(count) * BUFFER_BYTES)?,
            count,
            tail: 0,
            outside: count,
        };
        let entries = this.entries.address(0, 0).map_or(0, |address| address.as_ptr().addr() as u64);
        // SAFETY: because the region holds `count` entries, is page aligned, and outlives the ring's use of it: the port
        // quiets the ring before it unmaps, or leaks the region.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries, count, GROUP, 0) }
            .map_err(SetupError::io("io_uring_register(PBUF_RING)"))?;
        for buffer in 0..count {
            this.give(buffer);
        }
        this.publish();
        Ok(this)
    }

    /// The message header of the multishot receive: how much room name and control messages have.
    pub(super) fn message() -> libc::msghdr {
        let mut message = empty_message();
        message.msg_namelen = u32::try_from(NAME_ROOM).unwrap_or(0);
        message.msg_controllen = RECEIVE_CONTROL_BYTES;
        message
    }

    /// Buffers that the kernel may fill.
    pub(super) const fn provided(&self) -> u16 {
        self.count - self.outside
    }

    pub(super) const fn count(&self) -> u16 {
        self.count
    }

    /// The kernel has filled a buffer.
    pub(super) const fn took_one(&mut self) {
        self.outside = self.outside.saturating_add(1);
    }

    /// Writes a buffer into the ring; the kernel sees it after `publish`.
    pub(super) fn give(&mut self, buffer: u16) {
        let at = usize::from(self.tail & (self.count - 1)) * size_of::<BufRingEntry>();
        let Some(entry) = self.entries.address(at, size_of::<BufRingEntry>()) else { return };
        let Some(frame) = self.frames.address(usize::from(buffer) * BUFFER_BYTES, BUFFER_BYTES) else { return };
        // SAFETY: because the entry lies between the kernel's head and our tail, so that the kernel does not read it before
        // `publish`; its last two bytes (the tail, in entry 0) are not touched by the three setters.
        let entry = unsafe { entry.cast::<BufRingEntry>().as_mut() };
        entry.set_addr(frame.as_ptr().addr() as u64);
        entry.set_len(u32::try_from(BUFFER_BYTES).unwrap_or(0));
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
        self.outside = self.outside.saturating_sub(1);
    }

    /// Shows the given buffers to the kernel.
    pub(super) fn publish(&self) {
        let Some(base) = self.entries.address(0, size_of::<BufRingEntry>()) else { return };
        // SAFETY: because `base` is the address of the ring's first entry, in which the tail lies.
        let tail = unsafe { BufRingEntry::tail(base.cast().as_ptr()) };
        // SAFETY: because the tail is aligned to two bytes, inside the mapping, and written by this thread alone.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        // Pairs with the kernel's smp_load_acquire of the tail (Linux io_uring/kbuf.c io_ring_buffer_select); without it
        // the kernel may read an entry before its address is there.
        tail.store(self.tail, Ordering::Release);
    }

    /// Reads what the kernel wrote into a completed buffer.
    pub(super) fn datagram(&self, buffer: u16, len: usize) -> Option<Datagram<'_>> {
        if len < HEAD_BYTES {
            return None;
        }
        // SAFETY: because the buffer was completed and not given again, the kernel does not write to it.
        let bytes = unsafe { self.frames.bytes(usize::from(buffer) * BUFFER_BYTES, len) }?;
        let out = |at: usize| bytes.get(at..)?.first_chunk::<4>().copied().map(u32::from_ne_bytes);
        let (name_len, control_len, payload_len, flags) = (out(0)?, out(4)?, out(8)?, out(12)?);
        let truncated = (libc::MSG_TRUNC | libc::MSG_CTRUNC).cast_unsigned();
        let payload_len = usize::try_from(payload_len).ok()?;
        Some(Datagram {
            name: bytes.get(OUT_BYTES..)?.get(..usize::try_from(name_len).ok()?.min(NAME_ROOM))?,
            control: bytes
                .get(OUT_BYTES + NAME_ROOM..)?
                .get(..usize::try_from(control_len).ok()?.min(RECEIVE_CONTROL_BYTES))?,
            payload_len: payload_len.min(len - HEAD_BYTES),
            is_truncated: flags & truncated != 0 || payload_len > len - HEAD_BYTES,
        })
    }

    /// The payload of a completed buffer.
    pub(super) fn payload(&self, buffer: u16, len: usize) -> Option<&[u8]> {
        if len > FRAME_BYTES {
            return None;
        }
        // SAFETY: because the buffer was completed and not given again, the kernel does not write to it.
        unsafe { self.frames.bytes(usize::from(buffer) * BUFFER_BYTES + HEAD_BYTES, len) }
    }

    /// The kernel may write to the buffers for ever.
    pub(super) const fn leak(&mut self) {
        self.entries.leak();
        self.frames.leak();
    }
}
