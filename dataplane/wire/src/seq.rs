// SPDX-License-Identifier: Apache-2.0
//! Arithmetic on numbers that wrap: RTP sequence numbers (16 bits) and timestamps (32 bits).
//!
//! Must never compare wrapping numbers with `<`: only the signed distance has a meaning.

/// Signed distance `a - b` on the circle of 2^16 numbers: positive when `a` is ahead.
#[inline]
#[must_use]
pub const fn diff(a: u16, b: u16) -> i16 {
    a.wrapping_sub(b).cast_signed()
}

/// Whether `a` is strictly ahead of `b`. At the exact half circle neither is.
#[inline]
#[must_use]
pub const fn newer(a: u16, b: u16) -> bool {
    diff(a, b) > 0
}

/// Signed distance `a - b` on the circle of 2^32 numbers.
#[inline]
#[must_use]
pub const fn diff32(a: u32, b: u32) -> i32 {
    a.wrapping_sub(b).cast_signed()
}

/// Whether `a` is strictly ahead of `b`. At the exact half circle neither is.
#[inline]
#[must_use]
pub const fn newer32(a: u32, b: u32) -> bool {
    diff32(a, b) > 0
}

/// The extended number (`ROC << 16 | seq`) nearest to `reference_ext`, by the guess of RFC 3711 §3.3.1.
///
/// The guess for the roll-over count is that of the reference, one less or one more. It saturates at zero: with a
/// reference in the first circle a number "from before" is placed in that first circle, so it comes out larger than the
/// reference. At the exact half circle the roll-over count of the reference is kept, as in the RFC.
#[inline]
#[must_use]
pub const fn unroll(reference_ext: u64, seq: u16) -> u64 {
    unroll_bits::<16>(reference_ext, seq as u64)
}

/// [`unroll`] for 32-bit numbers such as RTP timestamps.
#[inline]
#[must_use]
pub const fn unroll32(reference_ext: u64, value: u32) -> u64 {
    unroll_bits::<32>(reference_ext, value as u64)
}

#[inline]
const fn unroll_bits<const BITS: u32>(reference_ext: u64, value: u64) -> u64 {
    let circle = 1_u64 << BITS;
    let half = circle >> 1;
    let low = reference_ext & (circle - 1);
    let base = reference_ext - low;
    let base = if low < half {
        if value.saturating_sub(low) > half { base.saturating_sub(circle) } else { base }
    } else if low - half > value {
        // 2^64 - 1 is out of reach of any stream; the guess then stays in its circle.
        match base.checked_add(circle) {
            Some(next) => next,
            None => base,
        }
    } else {
        base
    };
    base | value
}

/// The wire number of an extended number.
#[inline]
#[must_use]
pub const fn low16(ext: u64) -> u16 {
    let [.., a, b] = ext.to_be_bytes();
    u16::from_be_bytes([a, b])
}

/// The roll-over count of an extended sequence number (RFC 3711 §3.2.1).
#[inline]
#[must_use]
pub const fn roc(ext: u64) -> u32 {
    let [_, _, a, b, c, d, _, _] = ext.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn distance_is_signed_across_the_wrap() {
        assert_eq!(diff(1, 65535), 2);
        assert_eq!(diff(65535, 1), -2);
        assert_eq!(diff32(1, u32::MAX), 2);
        assert!(newer(0, 65535) && !newer(65535, 0) && !newer(7, 7));
        assert!(newer32(0, u32::MAX));
    }

    // RFC 3711 §3.3.1
    #[test]
    fn guess_moves_the_roll_over_count_by_at_most_one() {
        assert_eq!(unroll(0x1_FFFF, 0), 0x2_0000);
        assert_eq!(unroll(0x2_0000, 0xFFFF), 0x1_FFFF);
        assert_eq!(unroll(0x2_0005, 0x8005), 0x2_8005);
        assert_eq!(unroll(0x2_8005, 0x0005), 0x2_0005);
        assert_eq!(unroll(0x2_8006, 0x0005), 0x3_0005);
        assert_eq!(unroll(5, 0xFFFA), 0xFFFA, "saturates in the first circle");
        assert_eq!(unroll32(0xFFFF_FFFF, 3), 0x1_0000_0003);
        assert_eq!(unroll32(0x1_0000_0003, 0xFFFF_FFFF), 0xFFFF_FFFF);
        assert_eq!(unroll(u64::MAX, 0) & 0xFFFF, 0);
        assert_eq!((roc(0x0007_1234), low16(0x0007_1234)), (7, 0x1234));
    }

    proptest! {
        #[test]
        fn nearby_numbers_are_restored(reference in 0x1_0000_u64..1 << 48, step in -0x7FFF_i64..0x8000) {
            let wanted = reference.checked_add_signed(step).unwrap();
            prop_assert_eq!(unroll(reference, low16(wanted)), wanted);
        }
    }
}
