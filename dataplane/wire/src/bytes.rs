// SPDX-License-Identifier: Apache-2.0
//! Bounds-checked big-endian reads.
//!
//! Must never index or slice without a check: every function answers `None` outside the buffer.

/// Reads `N` bytes at `at`.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// Reads one byte.
#[inline]
pub(crate) fn u8_at(bytes: &[u8], at: usize) -> Option<u8> {
    bytes.get(at).copied()
}

/// Reads a 16-bit number in network order.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}

/// Reads a 24-bit number in network order.
#[inline]
pub(crate) fn be24(bytes: &[u8], at: usize) -> Option<u32> {
    let [a, b, c] = array(bytes, at)?;
    Some(u32::from_be_bytes([0, a, b, c]))
}

/// Reads a 32-bit number in network order.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// Reads a 64-bit number in network order.
#[inline]
pub(crate) fn be64(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// The `len` bytes starting at `at`.
#[inline]
pub(crate) fn slice(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..at.checked_add(len)?)
}

/// `len` rounded up to whole 32-bit words.
#[inline]
pub(crate) const fn padded_len(len: usize) -> usize {
    len.saturating_add(3) & !3
}

/// A cursor that consumes bytes from the front.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte.
    #[inline]
    pub(crate) const fn begin(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes consumed so far.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Bytes not consumed yet.
    #[inline]
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Consumes one byte.
    #[inline]
    pub(crate) fn u8(&mut self) -> Option<u8> {
        let value = u8_at(self.bytes, self.at)?;
        self.at = self.at.saturating_add(1);
        Some(value)
    }

    /// Consumes a 16-bit number in network order.
    #[inline]
    pub(crate) fn be16(&mut self) -> Option<u16> {
        let value = be16(self.bytes, self.at)?;
        self.at = self.at.saturating_add(2);
        Some(value)
    }

    /// Consumes `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let value = slice(self.bytes, self.at, len)?;
        self.at = self.at.saturating_add(len);
        Some(value)
    }
}
