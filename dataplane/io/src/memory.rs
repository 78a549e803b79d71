// SPDX-License-Identifier: Apache-2.0
//! Memory that the kernel is told addresses of: mapped once, never moved, zero at first.
//!
//! It hands out plain slices only through `unsafe` calls, since the kernel may be writing to any part of it.

use core::ptr::NonNull;
use std::os::fd::BorrowedFd;

use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use crate::socket::SetupError;

/// A mapping: anonymous and private, or of a file that the kernel shares.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a region may move between threads because it is memory of the process, bound to no thread, and has one owner.
unsafe impl Send for Region {}

impl Region {
    /// Maps `len` bytes of a file from byte `offset` on, shared; all pages are there when this returns.
    pub(crate) fn of_file(
        what: &'static str,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> Result<Self, SetupError> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::POPULATE);
        // SAFETY: because no address is asked for, the kernel chooses unused ones and no existing object is replaced.
        let base = unsafe { mmap(core::ptr::null_mut(), len, protection, flags, file, offset) };
        let base = base.map_err(SetupError::errno(what))?.cast::<u8>();
        let base = NonNull::new(base).ok_or_else(|| SetupError::errno(what)(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len })
    }

    /// Maps the first `len` bytes of a memfd, shared, in huge pages where the machine grants them
    /// (/sys/kernel/mm/transparent_hugepage/shmem_enabled = `advise`); all pages are there when this returns, from Linux 5.14 on.
    pub(crate) fn of_memfd(what: &'static str, file: BorrowedFd<'_>, len: usize) -> Result<Self, SetupError> {
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: because no address is asked for, the kernel chooses unused ones and no existing object is replaced.
        let base = unsafe { mmap(core::ptr::null_mut(), len, protection, flags, file, 0) };
        let base = base.map_err(SetupError::errno(what))?;
        for advice in [Advice::LinuxHugepage, Advice::LinuxPopulateWrite] {
            // SAFETY: because both only say which pages are there and how large they are, no content changes.
            let _ = unsafe { madvise(base, len, advice) };
        }
        let base = NonNull::new(base.cast::<u8>()).ok_or_else(|| SetupError::errno(what)(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len })
    }

    /// Maps `len` bytes, page aligned; pages are taken as they are touched.
    pub(crate) fn new(len: usize) -> Result<Self, SetupError> {
        let refused = |error: rustix::io::Errno| SetupError { what: "mmap of packet frames", source: error.into() };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: because no address is asked for, the kernel chooses unused ones and no existing object is replaced.
        let base = unsafe { mmap_anonymous(core::ptr::null_mut(), len, protection, MapFlags::PRIVATE) };
        let base =
            NonNull::new(base.map_err(refused)?.cast::<u8>()).ok_or_else(|| refused(rustix::io::Errno::NOMEM))?;
        Ok(Self { base, len })
    }

    /// The address of `len` bytes at `offset`, if they lie inside.
    pub(crate) fn address(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: because offset + len <= self.len was checked above, the result stays inside the mapping.
        Some(unsafe { self.base.add(offset) })
    }

    /// Borrows bytes.
    ///
    /// # Safety
    /// Neither the kernel nor another reference may write to them while the slice lives.
    pub(crate) unsafe fn bytes(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let address = self.address(offset, len)?;
        // SAFETY: because `address` checked the bounds, the mapping is initialised (zero pages) and lives as long as self;
        // that nobody writes is the caller's promise.
        Some(unsafe { core::slice::from_raw_parts(address.as_ptr(), len) })
    }

    /// Borrows bytes for writing.
    ///
    /// # Safety
    /// Neither the kernel nor another reference may use them while the slice lives.
    pub(crate) unsafe fn bytes_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        let address = self.address(offset, len)?;
        // SAFETY: because `address` checked the bounds, the mapping is initialised (zero pages) and lives as long as self;
        // that nobody else uses the bytes is the caller's promise.
        Some(unsafe { core::slice::from_raw_parts_mut(address.as_ptr(), len) })
    }

    /// Never unmaps: for memory that the kernel may still write to.
    pub(crate) const fn leak(&mut self) {
        self.len = 0;
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: because the mapping is ours alone, references to it borrow self, and an owner whose kernel side is not
        // quiet has called `leak`.
        let _ = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
    }
}
