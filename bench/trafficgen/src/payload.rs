// SPDX-License-Identifier: Apache-2.0
//! What a packet carries: a payload descriptor that a server may read and rewrite, and behind it bytes that say which packet of
//! which track it is, so that who decrypts it can tell whether it is what was sent.

/// Bytes of the descriptor of video (VP8: X, I, L and K, a 15-bit picture id; RFC 7741 §4.2), and of audio (Opus: TOC).
const VIDEO_HEAD: usize = 7;
const AUDIO_HEAD: usize = 1;
/// SSRC and number of the packet.
const NAME: usize = 12;

/// Place of a packet in its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Packet of the stream, from 0.
    pub number: u64,
    /// Frame of the stream, from 0.
    pub frame: u64,
    /// First packet of its frame.
    pub is_first: bool,
    /// Its frame can be decoded without others.
    pub is_keyframe: bool,
}

/// Writes the payload of a packet; `out` is as long as it shall be, [`SHORTEST`] at least.
pub fn write(out: &mut [u8], is_video: bool, ssrc: u32, place: Place) {
    let mut head = [0_u8; VIDEO_HEAD];
    let head = if is_video {
        let picture = 0x8000 | u16::try_from(place.frame & 0x7fff).unwrap_or(0);
        let [picture_high, picture_low] = picture.to_be_bytes();
        let tl0 = place.frame.to_le_bytes()[0];
        let start = if place.is_first { 0x90 } else { 0x80 };
        // An inter frame has the lowest bit of the first byte behind the descriptor set (RFC 6386 §9.1).
        let vp8 = if place.is_keyframe && place.is_first { 0x10 } else { 0x11 };
        head = [start, 0xF0, picture_high, picture_low, tl0, 0, vp8];
        &head[..]
    } else {
        head[0] = 0x78;
        &head[..AUDIO_HEAD]
    };
    let name = [&ssrc.to_be_bytes()[..], &place.number.to_be_bytes()[..]].concat();
    let bytes = head.iter().copied().chain(name).chain(filler(place.number));
    out.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
}

/// The shortest payload that says what it is.
pub const SHORTEST: usize = VIDEO_HEAD + NAME;

/// Which packet a decrypted payload is: SSRC on the publisher's leg and number; `None` where it is not what was sent.
#[must_use]
pub fn read(payload: &[u8], is_video: bool) -> Option<(u32, u64)> {
    let body = payload.get(if is_video { VIDEO_HEAD } else { AUDIO_HEAD }..)?;
    let (ssrc, rest) = body.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    rest.iter().copied().eq(filler(number).take(rest.len())).then(|| (u32::from_be_bytes(*ssrc), number))
}

fn filler(number: u64) -> impl Iterator<Item = u8> {
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    core::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    })
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_which_packet_it_is_and_a_changed_byte_is_seen() {
        for (is_video, len) in [(true, 1200), (false, 160), (true, SHORTEST)] {
            let mut payload = vec![0; len];
            let place = Place { number: 77, frame: 9, is_first: true, is_keyframe: true };
            write(&mut payload, is_video, 1001, place);
            assert_eq!(read(&payload, is_video), Some((1001, 77)));
            if len > SHORTEST {
                payload[len - 1] ^= 1;
                assert_eq!(read(&payload, is_video), None);
            }
        }
        assert_eq!(read(&[0; 5], true), None);
    }
}
