// SPDX-License-Identifier: Apache-2.0
//! Which of a slot's codecs is a track's, and which of a track's encodings fits a picture's height.

use crate::{Codec, CodecMap, Slot, TrackSpec};

/// Height that the best encoding is taken to have; each one below has half of the next.
const FULL_HEIGHT: u32 = 720;
/// RFC 6184 §8.1: the profile where no `profile-level-id` says another.
const H264_DEFAULT_PROFILE: &str = "42e0";

/// The slot's payload types for what the track's publisher sends, or why there are none.
pub(crate) fn codec_for(slot: &Slot, track: &TrackSpec) -> Result<CodecMap, &'static str> {
    if slot.kind != track.kind {
        return Err("one is audio and the other video");
    }
    let Some(sent) = track.codecs.first() else { return Err("the track has no codec") };
    let found = slot.codecs.iter().find(|taken| is_same(taken, sent));
    found.cloned().ok_or("its codecs do not include the track's")
}

/// Whether two sides of one codec can be forwarded to each other without transcoding.
fn is_same(one: &CodecMap, other: &CodecMap) -> bool {
    if one.codec != other.codec || one.clock_rate_hz != other.clock_rate_hz {
        return false;
    }
    let same = |name: &str, default: &str| parameter(one, name, default) == parameter(other, name, default);
    match one.codec {
        Codec::Opus | Codec::Vp8 => true,
        Codec::Vp9 => same("profile-id", "0"),
        Codec::Av1 => same("profile", "0"),
        Codec::H264 => same("packetization-mode", "0") && h264_profile(one) == h264_profile(other),
    }
}

fn parameter<'a>(map: &'a CodecMap, name: &str, default: &'a str) -> &'a str {
    let pairs = map.fmtp.split(';').filter_map(|pair| pair.trim().split_once('='));
    let found = pairs.into_iter().find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    found.map_or(default, |(_, value)| value.trim())
}

/// The profile half of `profile-level-id`: levels say what a receiver can take, not what a bitstream is.
fn h264_profile(map: &CodecMap) -> String {
    let id = parameter(map, "profile-level-id", H264_DEFAULT_PROFILE);
    let profile = id.get(..4).unwrap_or(H264_DEFAULT_PROFILE).to_ascii_lowercase();
    // RFC 6184 table 5: constrained baseline has two spellings.
    match profile.as_str() {
        "42e0" | "42c0" | "4240" | "4d80" => "42e0".to_owned(),
        _ => profile,
    }
}

/// The highest encoding that a picture of `max_height` pixels needs; `None`: any. Encodings are in order, lowest first.
pub(crate) fn max_encoding(encodings: usize, max_height: Option<u32>) -> Option<u8> {
    let wanted = max_height?;
    let top = u8::try_from(encodings.checked_sub(1)?).ok()?;
    (0..top).find(|encoding| FULL_HEIGHT >> (top - encoding).min(31) >= wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Extensions, MediaKind, TrackId, TransportId};

    fn map(codec: Codec, fmtp: &str, pt: u8) -> CodecMap {
        CodecMap { codec, fmtp: fmtp.into(), pt, rtx_pt: None, clock_rate_hz: 90_000 }
    }

    fn slot(codecs: Vec<CodecMap>) -> Slot {
        let extensions = Extensions::default();
        let mid = "3".into();
        Slot { mid, kind: MediaKind::Video, ssrc: 1, rtx_ssrc: None, codecs, extensions, nack: true, pli: true }
    }

    fn track(codec: CodecMap) -> TrackSpec {
        TrackSpec {
            id: TrackId([1; 16]),
            transport: TransportId(1),
            mid: "0".into(),
            kind: MediaKind::Video,
            codecs: vec![codec],
            extensions: Extensions::default(),
            encodings: Vec::new(),
            nack: true,
            pli: true,
            fir: false,
        }
    }

    #[test]
    fn a_track_is_shown_with_the_payload_type_of_its_own_codec_and_profile() {
        let offered = slot(vec![
            map(Codec::Vp8, "", 96),
            map(Codec::Vp9, "profile-id=2", 98),
            map(Codec::Vp9, "profile-id=0", 99),
            map(Codec::H264, "packetization-mode=0;profile-level-id=42e01f", 102),
            map(Codec::H264, "level-asymmetry-allowed=1; packetization-mode=1; profile-level-id=64001f", 103),
            map(Codec::H264, "packetization-mode=1;profile-level-id=42C00c", 104),
        ]);
        for (sent, expected) in [
            (map(Codec::Vp8, "max-fr=30", 120), Ok(96)),
            (map(Codec::Vp9, "", 120), Ok(99)),
            (map(Codec::H264, "profile-level-id=42e034;packetization-mode=1", 120), Ok(104)),
            (map(Codec::H264, "profile-level-id=640c34;packetization-mode=1", 120), Err(())),
            (map(Codec::H264, "", 120), Ok(102)),
            (map(Codec::Av1, "", 120), Err(())),
        ] {
            let found = codec_for(&offered, &track(sent.clone())).map(|map| map.pt).map_err(drop);
            assert_eq!(found, expected, "{sent:?}");
        }
        let mut audio = track(map(Codec::Vp8, "", 1));
        audio.kind = MediaKind::Audio;
        assert_eq!(codec_for(&offered, &audio), Err("one is audio and the other video"));
    }

    #[test]
    fn a_small_picture_gets_a_small_encoding() {
        for (encodings, height, expected) in [
            (3, None, None),
            (3, Some(90), Some(0)),
            (3, Some(180), Some(0)),
            (3, Some(181), Some(1)),
            (3, Some(360), Some(1)),
            (3, Some(361), None),
            (3, Some(u32::MAX), None),
            (2, Some(360), Some(0)),
            (1, Some(1), None),
            (0, Some(1), None),
        ] {
            assert_eq!(max_encoding(encodings, height), expected, "{encodings} {height:?}");
        }
    }
}
