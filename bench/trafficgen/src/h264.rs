// SPDX-License-Identifier: Apache-2.0
//! H.264's heads (RFC 6184, packetization mode 1): a keyframe begins with its parameter sets in a STAP-A, and a slice that is
//! longer than a packet lies in FU-As. Written from the RFC and read by nothing of the server's, so that each checks the other.

use crate::fragment::{Bytes, Fragment, LONGEST};

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
/// Constrained baseline at level 3.1, 1280 × 720 (H.264 §7.3.2.1.1).
const SPS: [u8; 9] = [0x67, 0x42, 0xC0, 0x1F, 0xDA, 0x01, 0x40, 0x16, 0xE4];
const PPS: [u8; 4] = [0x68, 0xCE, 0x3C, 0x80];
/// First bytes of a slice header: macroblock 0 of a picture with I slices only, with P slices only (§7.3.3).
const I_SLICE: u8 = 0x88;
const P_SLICE: u8 = 0x9A;

/// Writes the head of a packet whose payload is so long; its length.
pub(crate) fn head(out: &mut [u8; LONGEST], at: Fragment, payload: usize) -> usize {
    let mut bytes = Bytes::new(out);
    let (kind, importance, slice) = if at.is_keyframe { (IDR, 0x60, I_SLICE) } else { (SLICE, 0x40, P_SLICE) };
    if at.is_keyframe && at.nth == 0 {
        bytes.push(0x60 | STAP_A);
        for unit in [&SPS[..], &PPS[..]] {
            bytes.extend(&[0, u8::try_from(unit.len()).unwrap_or(0)]);
            bytes.extend(unit);
        }
        let rest = payload.saturating_sub(bytes.len() + 2);
        bytes.extend(&u16::try_from(rest).unwrap_or(u16::MAX).to_be_bytes());
        // A picture of one packet is here; else what fills the packet says nothing of the picture.
        bytes.extend(if at.packets == 1 { &[0x60 | IDR, I_SLICE] } else { &[SEI, 0] });
        return bytes.len();
    }
    // Of a keyframe the first packet holds the parameter sets alone.
    let before = u64::from(at.is_keyframe);
    let (is_first, is_last) = (at.nth == before, at.is_last());
    if is_first && is_last {
        bytes.extend(&[importance | kind, slice]);
        return bytes.len();
    }
    bytes.extend(&[importance | FU_A, u8::from(is_first) << 7 | u8::from(is_last) << 6 | kind]);
    if is_first {
        bytes.push(slice);
    }
    bytes.len()
}

/// Bytes of the head in front of a payload; `None` where it is cut, or none that is written here.
pub(crate) fn head_len(payload: &[u8]) -> Option<usize> {
    match payload.first()? & 0x1F {
        STAP_A => {
            let mut at = 1;
            loop {
                let length = payload.get(at..at + 2)?;
                at += 2;
                match payload.get(at)? & 0x1F {
                    SEI | IDR => return Some(at + 2),
                    _ => at += usize::from(u16::from_be_bytes([length[0], length[1]])),
                }
            }
        }
        FU_A => Some(2 + usize::from(payload.get(1)? >> 7)),
        SLICE | IDR => Some(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 6184 §5.3, §5.7.1 and §5.8, by hand.
    #[test]
    fn heads_are_as_the_rfc_draws_them() {
        let written = |is_keyframe, nth, packets| {
            let mut out = [0; LONGEST];
            let len = head(&mut out, Fragment { nth, packets, is_keyframe }, 1200);
            assert_eq!(head_len(&out), Some(len), "{nth} of {packets}");
            out[..len].to_vec()
        };
        let sets = [&[0x78, 0, 9][..], &SPS, &[0, 4], &PPS].concat();
        assert_eq!(written(true, 0, 4), [&sets[..], &[0x04, 0x9C, 6, 0]].concat(), "1200 - 20 bytes behind");
        assert_eq!(written(true, 1, 4), [0x7C, 0x85, 0x88]);
        assert_eq!(written(true, 2, 4), [0x7C, 0x05]);
        assert_eq!(written(true, 3, 4), [0x7C, 0x45]);
        assert_eq!(written(true, 1, 2), [0x65, 0x88], "an FU never begins and ends");
        assert_eq!(written(true, 0, 1), [&sets[..], &[0x04, 0x9C, 0x65, 0x88]].concat());
        assert_eq!(written(false, 0, 3), [0x5C, 0x81, 0x9A]);
        assert_eq!(written(false, 2, 3), [0x5C, 0x41]);
        assert_eq!(written(false, 0, 1), [0x41, 0x9A]);
    }

    #[test]
    fn a_head_that_is_cut_or_another_is_none() {
        for wrong in [&[][..], &[0x78], &[0x78, 0, 9, 0x67, 0x42], &[0x7C], &[0x90, 0x80]] {
            assert_eq!(head_len(wrong), None, "{wrong:x?}");
        }
    }
}
