// SPDX-License-Identifier: Apache-2.0
//! What a datagram on the one media port is: RFC 7983 by its first byte, RFC 5761 by its second.
//!
//! Must never look further than two bytes: the class only chooses the parser.

/// The protocol of a datagram (RFC 7983 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Class {
    /// First byte 0..=3.
    Stun = 0,
    /// First byte 16..=19.
    Zrtp = 1,
    /// First byte 20..=63.
    Dtls = 2,
    /// First byte 64..=79.
    TurnChannel = 3,
    /// First byte 128..=191; [`is_rtcp`] tells the two apart.
    RtpOrRtcp = 4,
    /// Everything else, the empty datagram included.
    Unknown = 5,
}

/// Classifies a datagram by its first byte.
#[inline]
#[must_use]
pub const fn classify(datagram: &[u8]) -> Class {
    match datagram {
        [0..=3, ..] => Class::Stun,
        [16..=19, ..] => Class::Zrtp,
        [20..=63, ..] => Class::Dtls,
        [64..=79, ..] => Class::TurnChannel,
        [128..=191, ..] => Class::RtpOrRtcp,
        _ => Class::Unknown,
    }
}

/// Whether a datagram of class [`Class::RtpOrRtcp`] is RTCP: packet types 192..=223 (RFC 5761 §4).
#[inline]
#[must_use]
pub const fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [_, 192..=223, ..])
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 7983 §7
    #[test]
    fn every_first_byte_has_its_class() {
        for byte in 0..=255_u8 {
            let wanted = match byte {
                0..=3 => Class::Stun,
                16..=19 => Class::Zrtp,
                20..=63 => Class::Dtls,
                64..=79 => Class::TurnChannel,
                128..=191 => Class::RtpOrRtcp,
                4..=15 | 80..=127 | 192..=255 => Class::Unknown,
            };
            assert_eq!(classify(&[byte, 0]), wanted);
        }
        assert_eq!(classify(&[]), Class::Unknown);
    }

    // RFC 5761 §4
    #[test]
    fn rtcp_is_told_from_rtp_with_marker() {
        assert!(is_rtcp(&[0x80, 200]) && is_rtcp(&[0x80, 192]) && is_rtcp(&[0x8F, 223]));
        assert!(!is_rtcp(&[0x80, 0xE0]), "marker with payload type 96");
        assert!(!is_rtcp(&[0x80, 111]) && !is_rtcp(&[0x80]));
    }
}
