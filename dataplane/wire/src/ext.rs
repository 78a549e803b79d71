// SPDX-License-Identifier: Apache-2.0
//! RTP header extensions: their URIs as small stable numbers, and the bytes of those the data plane reads or writes.
//!
//! Must never renumber [`ExtKind`]: the numbers stand in shared memory.

/// A header extension this project knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum ExtKind {
    /// Media identification (RFC 9143).
    Mid = 1,
    /// RTP stream id (RFC 8852).
    Rid = 2,
    /// Repaired RTP stream id (RFC 8852).
    RepairedRid = 3,
    /// Absolute send time, 24-bit 6.18 seconds.
    AbsSendTime = 4,
    /// Transport-wide sequence number (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    TransportSeq = 5,
    /// Client-to-mixer audio level (RFC 6464).
    AudioLevel = 6,
    /// Transmission time offset (RFC 5450).
    TransmissionOffset = 7,
    /// Coordination of video orientation (3GPP TS 26.114).
    VideoOrientation = 8,
    /// Playout delay limits.
    PlayoutDelay = 9,
    /// Absolute capture time.
    AbsCaptureTime = 10,
    /// Colour space and HDR metadata.
    ColorSpace = 11,
    /// Screen or camera.
    ContentType = 12,
    /// Sender-side frame timing.
    VideoTiming = 13,
    /// AV1 dependency descriptor.
    DependencyDescriptor = 14,
    /// Video layers allocation.
    VideoLayersAllocation = 15,
    /// Mixer-to-client audio levels (RFC 6465).
    CsrcAudioLevel = 16,
    /// Generic frame descriptor, version 00.
    GenericFrameDescriptor = 17,
}

const KINDS: [(ExtKind, &str); 17] = [
    (ExtKind::Mid, "urn:ietf:params:rtp-hdrext:sdes:mid"),
    (ExtKind::Rid, "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id"),
    (ExtKind::RepairedRid, "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id"),
    (ExtKind::AbsSendTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"),
    (ExtKind::TransportSeq, "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"),
    (ExtKind::AudioLevel, "urn:ietf:params:rtp-hdrext:ssrc-audio-level"),
    (ExtKind::TransmissionOffset, "urn:ietf:params:rtp-hdrext:toffset"),
    (ExtKind::VideoOrientation, "urn:3gpp:video-orientation"),
    (ExtKind::PlayoutDelay, "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"),
    (ExtKind::AbsCaptureTime, "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time"),
    (ExtKind::ColorSpace, "http://www.webrtc.org/experiments/rtp-hdrext/color-space"),
    (ExtKind::ContentType, "http://www.webrtc.org/experiments/rtp-hdrext/video-content-type"),
    (ExtKind::VideoTiming, "http://www.webrtc.org/experiments/rtp-hdrext/video-timing"),
    (
        ExtKind::DependencyDescriptor,
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension",
    ),
    (ExtKind::VideoLayersAllocation, "http://www.webrtc.org/experiments/rtp-hdrext/video-layers-allocation00"),
    (ExtKind::CsrcAudioLevel, "urn:ietf:params:rtp-hdrext:csrc-audio-level"),
    (ExtKind::GenericFrameDescriptor, "http://www.webrtc.org/experiments/rtp-hdrext/generic-frame-descriptor-00"),
];

impl ExtKind {
    /// The kind negotiated by this URI, compared byte for byte.
    #[must_use]
    pub fn from_uri(uri: &str) -> Option<Self> {
        KINDS.iter().find(|(_, known)| *known == uri).map(|(kind, _)| *kind)
    }

    /// The URI for SDP.
    #[must_use]
    pub fn uri(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, uri)| *uri)
    }

    /// The kind with this number.
    #[must_use]
    pub fn from_u8(number: u8) -> Option<Self> {
        KINDS.iter().map(|(kind, _)| *kind).find(|kind| *kind as u8 == number)
    }

    /// All kinds in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _)| *kind)
    }
}

/// Client-to-mixer audio level (RFC 6464 §3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AudioLevel {
    /// Whether the sender believes the packet holds speech; meaningless unless `vad=on` was negotiated.
    pub is_voice: bool,
    /// Level in -dBov: 0 is loudest, 127 silence.
    pub level: u8,
}

impl AudioLevel {
    /// Parses the first byte; the two-byte form may be padded.
    #[inline]
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let byte = *data.first()?;
        Some(Self { is_voice: byte & 0x80 != 0, level: byte & 0x7F })
    }

    /// The element's byte; levels above 127 become 127.
    #[inline]
    #[must_use]
    pub fn emit(self) -> [u8; 1] {
        [(u8::from(self.is_voice) << 7) | self.level.min(127)]
    }
}

/// Absolute send time: seconds modulo 64 in units of 2^-18 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbsSendTime(u32);

impl AbsSendTime {
    /// From a clock in microseconds; any epoch, it wraps every 64 s.
    #[inline]
    #[must_use]
    pub const fn from_us(us: u64) -> Self {
        let wrapped = us % 64_000_000;
        let ticks = (wrapped << 18) / 1_000_000;
        #[expect(clippy::cast_possible_truncation, reason = "64 s in 6.18 is below 2^24")]
        Self(ticks as u32)
    }

    /// From the 24-bit number; upper bits are cut.
    #[inline]
    #[must_use]
    pub const fn from_raw(raw: u32) -> Self {
        Self(raw & 0x00FF_FFFF)
    }

    /// The 24-bit number.
    #[inline]
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Microseconds modulo 64 s.
    #[inline]
    #[must_use]
    pub const fn to_us(self) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "below 64 000 000")]
        let us = ((self.0 as u64 * 1_000_000) >> 18) as u32;
        us
    }

    /// Parses exactly three bytes.
    #[inline]
    #[must_use]
    pub const fn parse(data: &[u8]) -> Option<Self> {
        match *data {
            [a, b, c] => Some(Self(u32::from_be_bytes([0, a, b, c]))),
            _ => None,
        }
    }

    /// The element's bytes.
    #[inline]
    #[must_use]
    pub const fn emit(self) -> [u8; 3] {
        let [_, a, b, c] = self.0.to_be_bytes();
        [a, b, c]
    }
}

/// Parses a transport-wide sequence number; bytes behind the first two belong to version 02 and are not read.
#[inline]
#[must_use]
pub const fn parse_transport_seq(data: &[u8]) -> Option<u16> {
    match *data {
        [a, b, ..] => Some(u16::from_be_bytes([a, b])),
        _ => None,
    }
}

/// The bytes of a transport-wide sequence number.
#[inline]
#[must_use]
pub const fn emit_transport_seq(seq: u16) -> [u8; 2] {
    seq.to_be_bytes()
}

/// A MID or RID: 1..=16 visible ASCII bytes, kept by value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SdesText {
    bytes: [u8; 16],
    len: u8,
}

impl SdesText {
    /// Longest text.
    pub const MAX_LEN: usize = 16;

    /// Parses an element; trailing zero bytes of padding senders are cut.
    #[inline]
    #[must_use]
    pub fn parse(data: &[u8]) -> Option<Self> {
        let end = data.iter().rposition(|byte| *byte != 0)?.checked_add(1)?;
        let text = data.get(..end).filter(|_| end <= Self::MAX_LEN)?;
        if !text.iter().all(u8::is_ascii_graphic) {
            return None;
        }
        let mut bytes = [0; Self::MAX_LEN];
        for (slot, byte) in bytes.iter_mut().zip(text) {
            *slot = *byte;
        }
        Some(Self { bytes, len: u8::try_from(end).ok()? })
    }

    /// The text; also the element's bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// The text.
    #[inline]
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }
}

impl core::fmt::Debug for SdesText {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_uris_are_a_bijection() {
        for (at, kind) in ExtKind::all().enumerate() {
            assert_eq!(usize::from(kind as u8), at + 1, "numbers are dense and stable");
            assert_eq!(ExtKind::from_u8(kind as u8), Some(kind));
            assert_eq!(ExtKind::from_uri(kind.uri()), Some(kind));
        }
        assert_eq!(ExtKind::from_u8(0), None);
        assert_eq!(ExtKind::from_u8(18), None);
        assert_eq!(ExtKind::from_uri(""), None);
    }

    // RFC 6464 §3
    #[test]
    fn audio_level_keeps_voice_flag_and_level() {
        let level = AudioLevel::parse(&[0x80 | 42]).unwrap();
        assert_eq!((level.is_voice, level.level), (true, 42));
        assert_eq!(level.emit(), [0x80 | 42]);
        assert_eq!(AudioLevel { is_voice: false, level: 200 }.emit(), [127]);
        assert_eq!(AudioLevel::parse(&[]), None);
    }

    #[test]
    fn abs_send_time_is_six_bits_of_seconds_and_wraps() {
        assert_eq!(AbsSendTime::from_us(1_000_000).emit(), [0x04, 0, 0]);
        assert_eq!(AbsSendTime::from_us(64_000_000 + 500_000).emit(), [0x02, 0, 0]);
        assert_eq!(AbsSendTime::parse(&[0x04, 0, 0]).unwrap().to_us(), 1_000_000);
        assert_eq!(AbsSendTime::from_us(63_999_999).raw() >> 24, 0);
        assert_eq!(AbsSendTime::parse(&[1, 2]), None);
    }

    #[test]
    fn sdes_text_is_short_and_visible() {
        assert_eq!(SdesText::parse(b"h").unwrap().as_str(), "h");
        assert_eq!(SdesText::parse(b"q\0\0").unwrap().as_bytes(), b"q");
        assert_eq!(SdesText::parse(b"0123456789abcdef").unwrap().as_str().len(), 16);
        assert_eq!(SdesText::parse(b"0123456789abcdefg"), None);
        assert_eq!(SdesText::parse(b""), None);
        assert_eq!(SdesText::parse(b"a b"), None);
        assert_eq!(parse_transport_seq(&emit_transport_seq(0xABCD)), Some(0xABCD));
        assert_eq!(parse_transport_seq(&[1]), None);
    }
}
