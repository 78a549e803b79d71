// SPDX-License-Identifier: Apache-2.0
//! One mmap of one memfd (or of anonymous memory), seen as atomics.
//!
//! The one place that turns offsets into references: bounds and alignment are checked here, so that every other module
//! works on `&AtomicU64` and shared records. It must never hand out a plain reference to bytes that others may change.
#![expect(unsafe_code, reason = "mmap and the references into it")]

use core::mem::{align_of, size_of};
use core::ptr::NonNull;
use core::sync::atomic::AtomicU64;
use std::os::fd::BorrowedFd;

use dataplane_abi::pod::SharedRecord;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

/// A mapping; unmapped when dropped.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    bytes: usize,
    writable: bool,
}

// SAFETY: a mapping may move between threads because it is memory of the process, bound to no thread.
unsafe impl Send for Mapping {}
// SAFETY: a mapping may be shared because every access through `&Mapping` is an atomic one or an argued raw copy.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `bytes` of a memfd, shared.
    ///
    /// # Errors
    /// What mmap says.
    pub fn of_memfd(fd: BorrowedFd<'_>, bytes: usize, writable: bool) -> rustix::io::Result<Self> {
        let access = if writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
        // SAFETY: the kernel picks the address, so the mapping overlaps nothing because it is fresh.
        let start = unsafe { mmap(core::ptr::null_mut(), bytes, access, MapFlags::SHARED, fd, 0)? };
        // A wish: the machine grants it where /sys/kernel/mm/transparent_hugepage/shmem_enabled says `advise`.
        // SAFETY: the advice changes no content, because it only says how large the pages may be.
        let _ = unsafe { madvise(start, bytes, Advice::LinuxHugepage) };
        Self::over(start.cast(), bytes, writable)
    }

    /// Has the kernel fill in the pages of `len` bytes from `offset` on, as writing to each would, in one call: a page costs a fifth
    /// of what it costs to run into it. Nothing happens where they do not lie inside, or on a kernel before 5.14.
    pub fn populate(&self, offset: usize, len: usize) {
        let Some(start) = self.at(offset, len, 1).filter(|_| self.writable) else { return };
        // SAFETY: the advice changes no content, because the pages of a shared mapping are filled in as they are in the file.
        let _ = unsafe { madvise(start.as_ptr().cast(), len, Advice::LinuxPopulateWrite) };
    }

    /// Maps anonymous memory of this process; pages are taken when first touched.
    ///
    /// # Errors
    /// What mmap says.
    pub fn anonymous(bytes: usize) -> rustix::io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel picks the address, so the mapping overlaps nothing because it is fresh.
        let start = unsafe { mmap_anonymous(core::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, flags)? };
        Self::over(start.cast(), bytes, true)
    }

    fn over(start: *mut u8, bytes: usize, writable: bool) -> rustix::io::Result<Self> {
        let start = NonNull::new(start).ok_or(rustix::io::Errno::NOMEM)?;
        Ok(Self { start, bytes, writable })
    }

    /// Size in bytes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether stores are possible; a store into a mapping that is not kills the process (SIGSEGV).
    #[must_use]
    pub const fn is_writable(&self) -> bool {
        self.writable
    }

    /// The record at `offset`; none when it does not lie inside the mapping or is not aligned.
    #[inline]
    #[must_use]
    pub fn record<T: SharedRecord>(&self, offset: usize) -> Option<&T> {
        let at = self.at(offset, size_of::<T>(), align_of::<T>())?.cast::<T>();
        // SAFETY: the reference is valid because `at` lies inside this mapping and is aligned, and because a
        // `SharedRecord` consists of atomics, for which any content and any concurrent change is fine.
        Some(unsafe { at.as_ref() })
    }

    /// `count` words from `offset` on.
    #[inline]
    #[must_use]
    pub fn words(&self, offset: usize, count: usize) -> Option<&[AtomicU64]> {
        let bytes = count.checked_mul(size_of::<u64>())?;
        let at = self.at(offset, bytes, align_of::<u64>())?.cast::<AtomicU64>();
        // SAFETY: the slice is valid because its whole length lies inside this mapping and is aligned, and because
        // atomics accept any content and concurrent change.
        Some(unsafe { core::slice::from_raw_parts(at.as_ptr(), count) })
    }

    /// Address of `bytes` bytes at `offset`, which all lie inside the mapping; valid while the mapping lives.
    #[inline]
    pub(crate) fn at(&self, offset: usize, bytes: usize, align: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(bytes)? > self.bytes || !offset.is_multiple_of(align) {
            return None;
        }
        // SAFETY: the result stays inside the mapping because `offset + bytes <= self.bytes` was just checked.
        Some(unsafe { self.start.add(offset) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nothing refers to the mapping any more because every reference borrows `self`, which ends here.
        let unmapped = unsafe { munmap(self.start.as_ptr().cast(), self.bytes) };
        debug_assert!(unmapped.is_ok(), "munmap of a whole mapping");
    }
}
