// SPDX-License-Identifier: Apache-2.0
//! What frame headers are read from. A slice knows its length; an XDP program has two pointers, and the kernel's verifier
//! accepts a read only where it stands behind a comparison of the two. One parser serves both.
//!
//! Must never hand out a reference: the bytes are copied.

use crate::bytes;

/// Bytes that can be read at offsets.
pub trait Window: Copy {
    /// `N` bytes at `at`; `None` when they reach beyond the end.
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]>;

    /// Whether there are at least `end` bytes.
    fn reaches(self, end: usize) -> bool;

    /// The byte at `at`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the verifier must see the comparison in front of the read")]
    fn byte(self, at: usize) -> Option<u8> {
        let [byte] = self.array(at)?;
        Some(byte)
    }

    /// The 16-bit number in network order at `at`.
    #[inline(always)]
    #[expect(clippy::inline_always, reason = "the verifier must see the comparison in front of the read")]
    fn be16(self, at: usize) -> Option<u16> {
        Some(u16::from_be_bytes(self.array(at)?))
    }
}

impl Window for &[u8] {
    #[inline]
    fn array<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        bytes::array(self, at)
    }

    #[inline]
    fn reaches(self, end: usize) -> bool {
        self.len() >= end
    }
}
