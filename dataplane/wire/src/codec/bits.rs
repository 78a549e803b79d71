// SPDX-License-Identifier: Apache-2.0
//! Bit reads for parameter sets.
//!
//! Must never read more bits than there are: the end answers `None`.

/// A cursor over bits, most significant first. With `skip_emulation` the 3 of `00 00 03` is passed over (H.264 §7.4.1).
#[derive(Clone, Copy, Debug)]
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
    bit: u8,
    zeros: u8,
    skip_emulation: bool,
}

impl<'a> BitReader<'a> {
    /// Starts at the first bit.
    pub(crate) const fn begin(bytes: &'a [u8], skip_emulation: bool) -> Self {
        Self { bytes, at: 0, bit: 0, zeros: 0, skip_emulation }
    }

    /// One bit.
    pub(crate) fn flag(&mut self) -> Option<bool> {
        if self.bit == 0 && self.skip_emulation && self.zeros >= 2 && *self.bytes.get(self.at)? == 3 {
            self.at = self.at.saturating_add(1);
            self.zeros = 0;
        }
        let byte = *self.bytes.get(self.at)?;
        let value = byte.wrapping_shl(u32::from(self.bit)) & 0x80 != 0;
        if self.bit == 7 {
            self.bit = 0;
            self.at = self.at.saturating_add(1);
            self.zeros = if byte == 0 { self.zeros.saturating_add(1) } else { 0 };
        } else {
            self.bit = self.bit.saturating_add(1);
        }
        Some(value)
    }

    /// Up to 32 bits as a number.
    pub(crate) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0_u32;
        for _ in 0..count.min(32) {
            value = (value << 1) | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// Passes over bits.
    pub(crate) fn skip(&mut self, count: u32) -> Option<()> {
        for _ in 0..count {
            self.flag()?;
        }
        Some(())
    }

    /// Unsigned Exp-Golomb code (H.264 §9.1), up to 31 leading zeros. Also AV1 `uvlc`.
    pub(crate) fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0_u32;
        while !self.flag()? {
            zeros = zeros.saturating_add(1);
            if zeros > 31 {
                return None;
            }
        }
        let tail = self.bits(zeros)?;
        1_u32.checked_shl(zeros)?.checked_sub(1)?.checked_add(tail)
    }

    /// Signed Exp-Golomb code.
    pub(crate) fn se(&mut self) -> Option<i32> {
        let code = self.ue()?;
        let magnitude = i32::try_from(code.div_ceil(2)).ok()?;
        if code % 2 == 1 { Some(magnitude) } else { magnitude.checked_neg() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_follow_the_table() {
        // 1 | 010 | 011 | 00100 | 00101
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut unsigned = BitReader::begin(&bytes, false);
        assert_eq!([(); 5].map(|()| unsigned.ue().unwrap()), [0, 1, 2, 3, 4]);
        let mut signed = BitReader::begin(&bytes, false);
        assert_eq!([(); 5].map(|()| signed.se().unwrap()), [0, 1, -1, 2, -2]);
        assert_eq!(BitReader::begin(&[0; 8], false).ue(), None);
    }

    #[test]
    fn emulation_prevention_is_passed_over() {
        let mut reader = BitReader::begin(&[0, 0, 3, 1], true);
        assert_eq!(reader.bits(24), Some(1));
        assert_eq!(reader.flag(), None);
        let mut reader = BitReader::begin(&[0, 0, 3, 0, 3], true);
        assert_eq!(reader.bits(32), Some(3), "one zero in front of the second 3");
    }
}
