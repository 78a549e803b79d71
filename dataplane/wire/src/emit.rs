// SPDX-License-Identifier: Apache-2.0
//! Bounds-checked writes into a lent slice.
//!
//! Must never write outside the slice: a write that does not fit changes nothing and reports [`EmitError::NoSpace`].

/// Why bytes were not emitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmitError {
    /// The lent slice is too short; its contents beyond what was finished before are unspecified.
    NoSpace,
    /// More entries than the format's count field holds.
    TooMany,
    /// A value the format cannot carry (id 0, an over-long text, an arrival delta beyond 16 bits, …).
    InvalidValue,
}

/// A cursor over a lent slice.
#[derive(Debug)]
pub(crate) struct Emitter<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl<'a> Emitter<'a> {
    /// Starts at the first byte.
    #[inline]
    pub(crate) fn begin(out: &'a mut [u8]) -> Self {
        Self { out, at: 0 }
    }

    /// Bytes written so far.
    #[inline]
    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Goes back to an earlier position.
    #[inline]
    pub(crate) fn rewind(&mut self, at: usize) {
        self.at = self.at.min(at);
    }

    /// Bytes that still fit.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.out.len().saturating_sub(self.at)
    }

    /// What was written so far.
    #[inline]
    pub(crate) fn written(&self) -> &[u8] {
        self.out.get(..self.at).unwrap_or_default()
    }

    /// Appends bytes.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), EmitError> {
        let end = self.at.checked_add(bytes.len()).ok_or(EmitError::NoSpace)?;
        let slot = self.out.get_mut(self.at..end).ok_or(EmitError::NoSpace)?;
        slot.copy_from_slice(bytes);
        self.at = end;
        Ok(())
    }

    /// Appends one byte.
    #[inline]
    pub(crate) fn u8(&mut self, value: u8) -> Result<(), EmitError> {
        self.put(&[value])
    }

    /// Appends a 16-bit number in network order.
    #[inline]
    pub(crate) fn be16(&mut self, value: u16) -> Result<(), EmitError> {
        self.put(&value.to_be_bytes())
    }

    /// Appends a 32-bit number in network order.
    #[inline]
    pub(crate) fn be32(&mut self, value: u32) -> Result<(), EmitError> {
        self.put(&value.to_be_bytes())
    }

    /// Appends zero bytes until the distance from `start` is a multiple of four.
    #[inline]
    pub(crate) fn pad4(&mut self, start: usize) -> Result<(), EmitError> {
        while !self.at.saturating_sub(start).is_multiple_of(4) {
            self.u8(0)?;
        }
        Ok(())
    }

    /// Overwrites bytes that were written before.
    #[inline]
    pub(crate) fn patch(&mut self, at: usize, bytes: &[u8]) -> Result<(), EmitError> {
        let end = at.checked_add(bytes.len()).ok_or(EmitError::NoSpace)?;
        if end > self.at {
            return Err(EmitError::NoSpace);
        }
        let slot = self.out.get_mut(at..end).ok_or(EmitError::NoSpace)?;
        slot.copy_from_slice(bytes);
        Ok(())
    }
}
