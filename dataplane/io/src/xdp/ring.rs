// SPDX-License-Identifier: Apache-2.0
//! The rings that an AF_XDP socket shares with the kernel, mapped.
//!
//! Indices run freely and are reduced to the ring's entries where a slot is touched. Which index may be stored when is
//! the frame table's business: this page only reads, and writes slots that the kernel does not look at yet.

use core::ptr::NonNull;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use super::XdpError;
use crate::memory::Region;

/// One of the four.
#[derive(Debug)]
pub(super) struct Ring {
    map: Region,
    producer: usize,
    consumer: usize,
    flags: usize,
    slots: usize,
    entries: u32,
}

/// A descriptor of a rx or tx ring (`struct xdp_desc`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Descriptor {
    /// Offset of the packet in the UMEM.
    pub(super) offset: u64,
    pub(super) len: u32,
}

/// Where the four rings lie in their mappings.
pub(super) fn offsets(socket: BorrowedFd<'_>) -> Result<libc::xdp_mmap_offsets, XdpError> {
    // SAFETY: because all of its fields are integers, for which zero is a value.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { core::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of::<libc::xdp_mmap_offsets>()).unwrap_or(0);
    let (fd, out) = (socket.as_raw_fd(), (&raw mut offsets).cast());
    // SAFETY: because `offsets` outlives the call and `len` is its length; the socket is open as long as it is borrowed.
    let result = unsafe { libc::getsockopt(fd, libc::SOL_XDP, libc::XDP_MMAP_OFFSETS, out, &raw mut len) };
    if result == 0 {
        Ok(offsets)
    } else {
        Err(XdpError::System { what: "getsockopt(XDP_MMAP_OFFSETS)", source: io::Error::last_os_error() })
    }
}

impl Ring {
    /// Maps a ring with slots of `slot_bytes`; `entries` is a power of two.
    pub(super) fn map(
        socket: BorrowedFd<'_>,
        at: &libc::xdp_ring_offset,
        page: u64,
        entries: u32,
        slot_bytes: usize,
    ) -> Result<Self, XdpError> {
        let offset = |value: u64| usize::try_from(value).unwrap_or(usize::MAX / 2);
        let slots = offset(at.desc);
        let len = slots.saturating_add(entries as usize * slot_bytes);
        let map = Region::of_file("mmap of an AF_XDP ring", socket, page, len)?;
        let ring = Self {
            map,
            producer: offset(at.producer),
            consumer: offset(at.consumer),
            flags: offset(at.flags),
            slots,
            entries,
        };
        let words = [ring.producer, ring.consumer, ring.flags];
        // Asked once, so that no access needs to fail later.
        if words.iter().all(|at| at.is_multiple_of(4) && ring.map.address(*at, 4).is_some()) {
            Ok(ring)
        } else {
            Err(XdpError::System { what: "offsets of an AF_XDP ring", source: io::ErrorKind::InvalidData.into() })
        }
    }

    fn word(&self, at: usize) -> &AtomicU32 {
        static NOWHERE: AtomicU32 = AtomicU32::new(0);
        let Some(address) = self.map.address(at, 4) else { return &NOWHERE };
        // SAFETY: because the word lies inside the mapping and is aligned, which `map` checked; it is changed by atomic
        // accesses only, here and in the kernel.
        unsafe { AtomicU32::from_ptr(address.cast::<u32>().as_ptr()) }
    }

    pub(super) fn producer(&self) -> &AtomicU32 {
        self.word(self.producer)
    }

    pub(super) fn consumer(&self) -> &AtomicU32 {
        self.word(self.consumer)
    }

    pub(super) const fn entries(&self) -> u32 {
        self.entries
    }

    /// Entries between the two indices, never more than there are. On a ring that the kernel fills, their slots may be read
    /// afterwards; on one that it empties, all others may be written.
    #[inline]
    pub(super) fn filled(&self) -> u32 {
        // Pairs with the kernel's Release of its index (Linux net/xdp/xsk_queue.h); without it slots may be read before they
        // are written, or written before they are read. Our own index is read by the same load.
        let produced = self.producer().load(Ordering::Acquire);
        produced.wrapping_sub(self.consumer().load(Ordering::Acquire)).min(self.entries)
    }

    /// Whether the kernel wants a system call to go on.
    #[inline]
    pub(super) fn needs_wakeup(&self) -> bool {
        self.word(self.flags).load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn slot<T>(&self, position: u32) -> Option<NonNull<T>> {
        let index = (position & (self.entries - 1)) as usize;
        Some(self.map.address(self.slots + index * size_of::<T>(), size_of::<T>())?.cast())
    }

    /// The offset in a slot of a fill or completion ring.
    #[inline]
    pub(super) fn offset(&self, position: u32) -> Option<u64> {
        // SAFETY: because the slot lies inside the mapping and is aligned to its size; the kernel has written it and does not
        // write to it again before our index has passed it.
        Some(unsafe { self.slot::<u64>(position)?.read() })
    }

    /// Writes a slot of a fill ring that the kernel does not read before the producer index has passed it.
    #[inline]
    pub(super) fn set_offset(&mut self, position: u32, offset: u64) {
        if let Some(slot) = self.slot::<u64>(position) {
            // SAFETY: because the slot lies inside the mapping and is aligned, and the kernel does not look at it.
            unsafe { slot.write(offset) };
        }
    }

    /// The descriptor in a slot of a rx ring.
    #[inline]
    pub(super) fn descriptor(&self, position: u32) -> Option<Descriptor> {
        // SAFETY: as in `offset`.
        let found = unsafe { self.slot::<libc::xdp_desc>(position)?.read() };
        Some(Descriptor { offset: found.addr, len: found.len })
    }

    /// Writes a slot of a tx ring; see `set_offset`.
    #[inline]
    pub(super) fn set_descriptor(&mut self, position: u32, descriptor: Descriptor) {
        if let Some(slot) = self.slot::<libc::xdp_desc>(position) {
            // SAFETY: as in `set_offset`.
            unsafe { slot.write(libc::xdp_desc { addr: descriptor.offset, len: descriptor.len, options: 0 }) };
        }
    }
}
