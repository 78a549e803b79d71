// SPDX-License-Identifier: Apache-2.0
//! The few header fields that SRTP needs. Everything is proven against the slice that is given;
//! an extension's elements are never looked at.

use crate::SrtpError;

/// What SRTP needs of an RTP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RtpHeader {
    /// Bytes of fixed header, CSRC list and extension; at most the slice's length.
    pub(crate) len: usize,
    pub(crate) seq: u16,
    pub(crate) ssrc: u32,
}

/// Parses the header at the start of `bytes` (RFC 3550 §5.1, §5.3.1).
pub(crate) fn rtp_header(bytes: &[u8]) -> Result<RtpHeader, SrtpError> {
    let Some(&[first, _, s0, s1, _, _, _, _, c0, c1, c2, c3]) = bytes.first_chunk::<12>() else {
        return Err(SrtpError::TooShort);
    };
    if first >> 6 != 2 {
        return Err(SrtpError::BadHeader);
    }
    let mut len = 12 + 4 * usize::from(first & 0x0f);
    if first & 0x10 != 0 {
        let extension = bytes.get(len..).and_then(|tail| tail.first_chunk::<4>());
        let Some(&[_, _, l0, l1]) = extension else {
            return Err(SrtpError::BadHeader);
        };
        len += 4 + 4 * usize::from(u16::from_be_bytes([l0, l1]));
    }
    if len > bytes.len() {
        return Err(SrtpError::BadHeader);
    }
    Ok(RtpHeader { len, seq: u16::from_be_bytes([s0, s1]), ssrc: u32::from_be_bytes([c0, c1, c2, c3]) })
}

/// Sender SSRC of an RTCP compound packet (RFC 3550 §6.1).
pub(crate) fn rtcp_ssrc(bytes: &[u8]) -> Result<u32, SrtpError> {
    let Some(&[first, _, _, _, c0, c1, c2, c3]) = bytes.first_chunk::<8>() else {
        return Err(SrtpError::TooShort);
    };
    if first >> 6 != 2 {
        return Err(SrtpError::BadHeader);
    }
    Ok(u32::from_be_bytes([c0, c1, c2, c3]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_never_reaches_beyond_its_slice() {
        let mut bytes = [0x1f; 100];
        (bytes[14], bytes[15]) = (0, 2);
        for (first, len) in [(0x80, 12), (0x8f, 72), (0x90, 24)] {
            bytes[0] = first;
            for given in 0..=100 {
                let parsed = rtp_header(&bytes[..given]);
                if given < 12 {
                    assert_eq!(parsed, Err(SrtpError::TooShort));
                } else if given < len {
                    assert_eq!(parsed, Err(SrtpError::BadHeader));
                } else {
                    let header = RtpHeader { len, seq: 0x1f1f, ssrc: 0x1f1f_1f1f };
                    assert_eq!(parsed, Ok(header));
                }
            }
        }
    }
}
