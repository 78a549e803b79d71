// SPDX-License-Identifier: Apache-2.0
//! AV1's heads (AOM, RTP Payload Format for AV1 1.0 §4.4): the aggregation header, a sequence header in front of a keyframe,
//! and a frame in as many fragments as it needs. Read by nothing of the server's, so that each checks the other.

use crate::fragment::{Bytes, Fragment, LONGEST};

const IS_CONTINUED: u8 = 0x80;
const CONTINUES: u8 = 0x40;
const BEGINS_SEQUENCE: u8 = 0x08;
/// An OBU of a sequence header without a size: main profile, level 3.1, 1280 × 720 (AV1 §5.5).
const SEQUENCE: [u8; 12] = [0x08, 0x00, 0x00, 0x00, 0x2D, 0x4C, 0xFF, 0xB3, 0xC0, 0x18, 0x00, 0x80];
/// An OBU of a frame without a size, and the first byte of its header: a keyframe, an inter frame, both shown (§5.9).
const KEY_FRAME: [u8; 2] = [0x30, 0x10];
const INTER_FRAME: [u8; 2] = [0x30, 0x30];

/// Writes the head of a packet; its length.
pub(crate) fn head(out: &mut [u8; LONGEST], at: Fragment) -> usize {
    let mut bytes = Bytes::new(out);
    let begins = at.is_keyframe && at.nth == 0;
    let marks = [
        (IS_CONTINUED, at.nth > 0),
        (CONTINUES, !at.is_last()),
        // W: elements of the packet; the last one has no length.
        (if begins { 0x20 } else { 0x10 }, true),
        (BEGINS_SEQUENCE, begins),
    ];
    bytes.push(marks.iter().filter(|(_, is_set)| *is_set).fold(0, |byte, (bit, _)| byte | bit));
    if begins {
        bytes.push(u8::try_from(SEQUENCE.len()).unwrap_or(0));
        bytes.extend(&SEQUENCE);
    }
    if at.nth == 0 {
        bytes.extend(if at.is_keyframe { &KEY_FRAME } else { &INTER_FRAME });
    }
    bytes.len()
}

/// Bytes of the head in front of a payload; `None` where it is cut.
pub(crate) fn head_len(payload: &[u8]) -> Option<usize> {
    let aggregation = *payload.first()?;
    let before = if aggregation & BEGINS_SEQUENCE == 0 { 1 } else { 2 + usize::from(*payload.get(1)?) };
    Some(before + if aggregation & IS_CONTINUED == 0 { 2 } else { 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    // §4.4, by hand.
    #[test]
    fn heads_are_as_the_payload_format_draws_them() {
        let written = |is_keyframe, nth, packets| {
            let mut out = [0; LONGEST];
            let len = head(&mut out, Fragment { nth, packets, is_keyframe });
            assert_eq!(head_len(&out), Some(len), "{nth} of {packets}");
            out[..len].to_vec()
        };
        assert_eq!(written(true, 0, 3), [&[0x68, 12][..], &SEQUENCE, &KEY_FRAME].concat(), "Y, two elements, N");
        assert_eq!(written(true, 1, 3), [0xD0]);
        assert_eq!(written(true, 2, 3), [0x90]);
        assert_eq!(written(false, 0, 1), [0x10, 0x30, 0x30]);
        assert_eq!(written(false, 0, 2), [0x50, 0x30, 0x30]);
        assert_eq!(head_len(&[]), None);
    }
}
