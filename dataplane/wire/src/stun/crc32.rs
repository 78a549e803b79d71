// SPDX-License-Identifier: Apache-2.0
//! CRC-32/ISO-HDLC for FINGERPRINT (RFC 8489 §14.7, ITU V.42).
//!
//! Must never be used as a proof of origin: it only tells STUN from other traffic.

const POLYNOMIAL_REFLECTED: u32 = 0xEDB8_8320;
const TABLE: [u32; 256] = table();

/// The checksum of the concatenated parts.
#[inline]
#[must_use]
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        let [.., low] = crc.to_be_bytes();
        // The index is one byte and the table has 256 entries, so the default is unreachable.
        crc = (crc >> 8) ^ TABLE.get(usize::from(low ^ byte)).copied().unwrap_or_default();
    }
    !crc
}

#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated at compile time, where an index out of range is a build error"
)]
const fn table() -> [u32; 256] {
    let mut entries = [0_u32; 256];
    let mut n = 0_usize;
    while n < 256 {
        let mut crc = n as u32;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL_REFLECTED } else { crc >> 1 };
            bit += 1;
        }
        entries[n] = crc;
        n += 1;
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_catalogue_is_met() {
        assert_eq!(crc32(&[b"123456789"]), 0xCBF4_3926);
        assert_eq!(crc32(&[b"1234", b"", b"56789"]), 0xCBF4_3926);
        assert_eq!(crc32(&[]), 0);
    }
}
