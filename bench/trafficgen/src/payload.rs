// SPDX-License-Identifier: Apache-2.0
//! What a packet carries: a payload descriptor that a server may read and rewrite, and behind it bytes that say which packet of
//! which track it is, so that who decrypts it can tell whether it is what was sent.

use crate::{av1, fragment, h264, svc};

/// Bytes of the descriptor of video (VP8: X, I, L and K, a 15-bit picture id; RFC 7741 §4.2), and of audio (Opus: TOC).
const VIDEO_HEAD: usize = 7;
const AUDIO_HEAD: usize = 1;
/// SSRC and number of the packet, and when it was made, monotonic ns; 0 = not known.
const NAME: usize = 20;

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

/// The temporal layer of a frame, as VP8's descriptor names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layer {
    /// From 0, which can be decoded without the others.
    pub id: u8,
    /// TL0PICIDX: number of the frame of layer 0 that it builds on.
    pub base: u8,
    /// No other frame builds on it.
    pub is_droppable: bool,
}

impl Layer {
    /// The layer of the frame that is `since` after the last keyframe, of `layers`, with `bases` frames of layer 0 before
    /// that keyframe: 0 0 0…, 0 1 0 1…, or 0 2 1 2….
    #[must_use]
    pub fn of(since: u64, layers: u8, bases: u64) -> Self {
        let (id, base) = match (layers, since % 4) {
            (0 | 1, _) => (0, since),
            (2, at) => (u8::from(at % 2 == 1), since / 2),
            (_, 0) => (0, since / 4),
            (_, 2) => (1, since / 4),
            _ => (2, since / 4),
        };
        Self { id, base: (bases + base).to_le_bytes()[0], is_droppable: layers > 1 && id + 1 >= layers }
    }

    /// Frames of layer 0 among the first `frames` after a keyframe, the keyframe included.
    #[must_use]
    pub const fn bases(frames: u64, layers: u8) -> u64 {
        match layers {
            0 | 1 => frames,
            2 => frames.div_ceil(2),
            _ => frames.div_ceil(4),
        }
    }
}

/// Writes the payload of a packet without layers; `out` is as long as it shall be, [`SHORTEST`] at least.
pub fn write(out: &mut [u8], is_video: bool, ssrc: u32, place: Place) {
    let layer = Layer { id: 0, base: place.frame.to_le_bytes()[0], is_droppable: false };
    write_layered(out, is_video, ssrc, place, layer);
}

/// Writes the payload of a packet of a layer; `out` is as long as it shall be, [`SHORTEST`] at least.
pub fn write_layered(out: &mut [u8], is_video: bool, ssrc: u32, place: Place, layer: Layer) {
    write_made(out, is_video, ssrc, (place, layer), 0);
}

/// The same with the time at which it was made.
pub(crate) fn write_made(out: &mut [u8], is_video: bool, ssrc: u32, (place, layer): (Place, Layer), made_ns: u64) {
    let mut head = [0_u8; VIDEO_HEAD];
    let head = if is_video {
        let picture = 0x8000 | u16::try_from(place.frame & 0x7fff).unwrap_or(0);
        let [picture_high, picture_low] = picture.to_be_bytes();
        let start = 0x80 | (u8::from(layer.is_droppable) << 5) | (u8::from(place.is_first) << 4);
        // TID, and Y: a frame of an upper layer may be switched to (RFC 7741 §4.2).
        let tid = (layer.id << 6) | (u8::from(layer.id > 0) << 5);
        // An inter frame has the lowest bit of the first byte behind the descriptor set (RFC 6386 §9.1).
        let vp8 = if place.is_keyframe && place.is_first { 0x10 } else { 0x11 };
        head = [start, 0xF0, picture_high, picture_low, layer.base, tid, vp8];
        &head[..]
    } else {
        head[0] = 0x78;
        &head[..AUDIO_HEAD]
    };
    write_behind(out, head, ssrc, (place.number, made_ns));
}

/// Writes a payload behind a descriptor: which packet it is, and when it was made.
pub(crate) fn write_behind(out: &mut [u8], head: &[u8], ssrc: u32, (number, made_ns): (u64, u64)) {
    let name = (ssrc.to_be_bytes(), number.to_be_bytes(), made_ns.to_be_bytes());
    let mut at = 0;
    for part in [head, &name.0[..], &name.1[..], &name.2[..]] {
        if let Some(field) = out.get_mut(at..at + part.len()) {
            field.copy_from_slice(part);
        }
        at += part.len();
    }
    let rest = out.get_mut(at..).unwrap_or(&mut []);
    for (field, part) in rest.chunks_mut(PATTERN).zip(filler(number)) {
        field.copy_from_slice(&part[..field.len()]);
    }
}

/// The shortest payload that says what it is.
pub const SHORTEST: usize = fragment::LONGEST + NAME;

/// What a payload says of its packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Said {
    /// SSRC on the publisher's leg.
    pub ssrc: u32,
    /// Packet of the stream, from 0.
    pub number: u64,
    /// When it was made, monotonic ns; 0 = not known.
    pub made_ns: u64,
}

/// Which packet a decrypted payload is: SSRC on the publisher's leg and number; `None` where it is not what was sent. For VP8
/// and Opus.
#[must_use]
pub fn read(payload: &[u8], is_video: bool) -> Option<(u32, u64)> {
    read_behind(payload, if is_video { VIDEO_HEAD } else { AUDIO_HEAD }).map(|said| (said.ssrc, said.number))
}

/// What a decrypted payload of a codec says; `None` where it is not what was sent.
#[must_use]
pub fn read_of(codec: &str, payload: &[u8]) -> Option<Said> {
    match codec {
        "opus" => read_behind(payload, AUDIO_HEAD),
        "vp9" => read_behind(payload, svc::descriptor_len(payload)?),
        "h264" => read_behind(payload, h264::head_len(payload)?),
        "av1" => read_behind(payload, av1::head_len(payload)?),
        _ => read_behind(payload, VIDEO_HEAD),
    }
}

fn read_behind(payload: &[u8], head: usize) -> Option<Said> {
    let (ssrc, rest) = payload.get(head..)?.split_first_chunk::<4>()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (made_ns, rest) = rest.split_first_chunk::<8>()?;
    let number = u64::from_be_bytes(*number);
    rest.chunks(PATTERN).zip(filler(number)).all(|(field, part)| *field == part[..field.len()]).then(|| Said {
        ssrc: u32::from_be_bytes(*ssrc),
        number,
        made_ns: u64::from_be_bytes(*made_ns),
    })
}

/// Bytes of a part of the filler.
const PATTERN: usize = 2048;

/// Made once and copied: a generator that makes 150 words for each of 124,000 packets per second has a core less for them.
static NOISE: [u8; 2 * PATTERN] = noise();

/// Bytes that repeat after [`PATTERN`], as far along as the number says.
fn filler(number: u64) -> impl Iterator<Item = &'static [u8]> {
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let from = usize::from(u16::from_be_bytes([mixed[0], mixed[1]])) % PATTERN;
    core::iter::repeat(NOISE.get(from..from + PATTERN).unwrap_or(&[]))
}

const fn noise() -> [u8; 2 * PATTERN] {
    let (mut bytes, mut state, mut at) = ([0; 2 * PATTERN], 1_u64, 0);
    while at < PATTERN {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes[at] = state.to_be_bytes()[0];
        bytes[at + PATTERN] = bytes[at];
        at += 1;
    }
    bytes
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

    // RFC 7741 §4.2: TID, Y, N and TL0PICIDX.
    #[test]
    fn layers_alternate_and_only_frames_of_layer_0_count() {
        let of = |layers| (0..6).map(|frame| Layer::of(frame, layers, 5)).map(|l| (l.id, l.base)).collect::<Vec<_>>();
        assert_eq!(of(1), [(0, 5), (0, 6), (0, 7), (0, 8), (0, 9), (0, 10)]);
        assert_eq!(of(2), [(0, 5), (1, 5), (0, 6), (1, 6), (0, 7), (1, 7)]);
        assert_eq!(of(3), [(0, 5), (2, 5), (1, 5), (2, 5), (0, 6), (2, 6)]);
        for layers in 1..=3 {
            let counted = (0..30).filter(|frame| Layer::of(*frame, layers, 0).id == 0).count() as u64;
            assert_eq!(Layer::bases(30, layers), counted, "{layers}");
        }
        let mut payload = [0; SHORTEST];
        let place = Place { number: 1, frame: 3, is_first: false, is_keyframe: false };
        write_layered(&mut payload, true, 7, place, Layer::of(3, 3, 0));
        assert_eq!(payload[..6], [0xA0, 0xF0, 0x80, 3, 0, 0xA0], "N; X I L T K; picture; TL0PICIDX; TID 2 and Y");
    }
}
