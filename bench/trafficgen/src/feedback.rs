// SPDX-License-Identifier: Apache-2.0
//! What a server says to a publisher, as far as a camera listens: that a keyframe is wanted.

/// Payload-specific feedback (RFC 4585 §6.1), and its formats PLI (§6.3.1) and FIR (RFC 5104 §4.3.1).
const PSFB: u8 = 206;
const PLI: u8 = 1;
const FIR: u8 = 4;
const HEAD: usize = 12;
const FIR_ENTRY: usize = 8;

/// SSRCs of which a compound RTCP packet, decrypted, wants a keyframe.
pub(crate) fn wanted_keyframes(compound: &[u8]) -> Vec<u32> {
    let mut wanted = Vec::new();
    let mut rest = compound;
    while let Some((head, _)) = rest.split_first_chunk::<4>() {
        let len = (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1) * 4;
        let Some((packet, behind)) = rest.split_at_checked(len) else { break };
        if head[1] == PSFB {
            match head[0] & 0x1f {
                PLI => wanted.extend(ssrc(packet.get(8..))),
                FIR => {
                    let entries = packet.get(HEAD..).unwrap_or(&[]).chunks_exact(FIR_ENTRY);
                    wanted.extend(entries.filter_map(|entry| ssrc(Some(entry))));
                }
                _ => {}
            }
        }
        rest = behind;
    }
    wanted
}

fn ssrc(bytes: Option<&[u8]>) -> Option<u32> {
    bytes?.first_chunk::<4>().map(|bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    // RFC 4585 §6.3.1, RFC 5104 §4.3.1.
    #[test]
    fn pli_and_fir_are_found_in_a_compound() {
        let rr = [0x80, 201, 0, 1, 0, 0, 0, 1];
        let pli = [0x81, 206, 0, 2, 0, 0, 0, 1, 0, 0, 0, 7];
        let fir = [0x84, 206, 0, 6, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 8, 5, 0, 0, 0, 0, 0, 0, 9, 5, 0, 0, 0];
        let nack = [0x81, 205, 0, 3, 0, 0, 0, 1, 0, 0, 0, 6, 0, 1, 0, 0];
        assert_eq!(wanted_keyframes(&[&rr[..], &pli, &nack, &fir].concat()), [7, 8, 9]);
        for len in 0..pli.len() {
            assert_eq!(wanted_keyframes(&pli[..len]), [0; 0]);
        }
    }
}
