// SPDX-License-Identifier: Apache-2.0
//! Plaintext that many receivers share. It is never written here, and never seen as `&[u8]` when another
//! process may write it.

use core::marker::PhantomData;
use core::sync::atomic::AtomicU8;

/// Bytes in one piece that may change while they are read. Only the cipher kernels read them.
///
/// The loan keeps the memory mapped; nothing keeps its content. What a kernel makes of bytes that changed under it is
/// a packet with a valid tag and torn content, so the owner of such memory asks whether it was lapped *after* the
/// call and discards the packet then.
#[derive(Clone, Copy)]
pub struct SharedBytes<'a> {
    start: *const u8,
    len: usize,
    lent: PhantomData<&'a [AtomicU8]>,
}

impl<'a> From<&'a [u8]> for SharedBytes<'a> {
    #[inline]
    fn from(bytes: &'a [u8]) -> Self {
        Self { start: bytes.as_ptr(), len: bytes.len(), lent: PhantomData }
    }
}

impl<'a> From<&'a [AtomicU8]> for SharedBytes<'a> {
    #[inline]
    fn from(bytes: &'a [AtomicU8]) -> Self {
        Self { start: bytes.as_ptr().cast(), len: bytes.len(), lent: PhantomData }
    }
}

impl SharedBytes<'_> {
    /// Where the bytes begin.
    #[inline]
    #[must_use]
    pub const fn as_ptr(&self) -> *const u8 {
        self.start
    }

    /// Length in bytes.
    #[inline]
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Shared plaintext that is read but never changed.
///
/// It exists so that a packet store can hand in memory that another process maps: such bytes are
/// no `&[u8]`. An implementation copies exactly [`len`](Self::len) bytes and must not panic when
/// `dst` has another length (it then copies the common prefix).
pub trait Plaintext {
    /// Length in bytes; the same on each call.
    fn len(&self) -> usize;

    /// Copies all bytes to `dst`, which has [`len`](Self::len) bytes.
    fn copy_to(&self, dst: &mut [u8]);

    /// The bytes where they lie, when they lie in one piece: a cipher kernel then reads them there and
    /// [`copy_to`](Self::copy_to) is not called. It has [`len`](Self::len) bytes.
    fn shared(&self) -> Option<SharedBytes<'_>> {
        None
    }

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Plaintext for &[u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn copy_to(&self, dst: &mut [u8]) {
        for (to, from) in dst.iter_mut().zip(self.iter()) {
            *to = *from;
        }
    }

    fn shared(&self) -> Option<SharedBytes<'_>> {
        Some(SharedBytes::from(*self))
    }
}

impl<P: Plaintext> Plaintext for &P {
    fn len(&self) -> usize {
        P::len(self)
    }

    fn copy_to(&self, dst: &mut [u8]) {
        P::copy_to(self, dst);
    }

    fn shared(&self) -> Option<SharedBytes<'_>> {
        P::shared(self)
    }
}
