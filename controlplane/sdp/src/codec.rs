// SPDX-License-Identifier: Apache-2.0
//! Codecs of an m-line and the question whether two ends mean the same by them.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::h264::H264Format;
use crate::ids::Pt;
use crate::limits::MAX_FMTP_BYTES;
use crate::offer::MediaKind;

/// A codec that the forwarding path knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum CodecKind {
    /// Opus (RFC 7587), 48 kHz, two channels in SDP whatever is sent.
    Opus,
    /// VP8 (RFC 7741).
    Vp8,
    /// VP9 (RFC 9628), profile 0.
    Vp9,
    /// H.264 (RFC 6184), packetization modes 0 and 1.
    H264,
    /// AV1 (AOM RTP payload v1.0.0), profile 0.
    Av1,
}

impl CodecKind {
    /// The codec that `a=rtpmap` names (names compare without case, RFC 4855 §3), if it is one of ours.
    pub fn from_rtpmap(name: &str, clock_rate: u32, channels: u8) -> Option<Self> {
        let all = [Self::Opus, Self::Vp8, Self::Vp9, Self::H264, Self::Av1];
        all.into_iter().find(|kind| {
            kind.name().eq_ignore_ascii_case(name) && kind.clock_rate() == clock_rate && kind.channels() == channels
        })
    }

    /// The encoding name as `a=rtpmap` spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Opus => "opus",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::H264 => "H264",
            Self::Av1 => "AV1",
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate(self) -> u32 {
        match self {
            Self::Opus => 48_000,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 90_000,
        }
    }

    /// Channels as `a=rtpmap` counts them, 1 where it does not say.
    pub fn channels(self) -> u8 {
        match self {
            Self::Opus => 2,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => 1,
        }
    }

    /// What the codec is for.
    pub fn media_kind(self) -> MediaKind {
        match self {
            Self::Opus => MediaKind::Audio,
            Self::Vp8 | Self::Vp9 | Self::H264 | Self::Av1 => MediaKind::Video,
        }
    }

    /// The parameters that name the format, as opposed to limits of a receiver or descriptions of a stream.
    pub(crate) fn format_parameters(self) -> &'static [&'static str] {
        match self {
            Self::Opus | Self::Vp8 => &[],
            Self::Vp9 => &["profile-id"],
            Self::H264 => &["level-asymmetry-allowed", "packetization-mode", "profile-level-id"],
            Self::Av1 => &["level-idx", "profile", "tier"],
        }
    }

    /// True if a stream with these parameters can be accepted from a publisher.
    pub(crate) fn accepts(self, fmtp: &Fmtp) -> bool {
        match self {
            Self::Opus | Self::Vp8 => true,
            Self::Vp9 => fmtp.get("profile-id").unwrap_or("0") == "0",
            Self::Av1 => fmtp.get("profile").unwrap_or("0") == "0",
            Self::H264 => H264Format::parse(fmtp).is_some_and(|format| format.is_acceptable()),
        }
    }

    /// How well a receiver with parameters `receiver` decodes a stream with parameters `stream`: 0 is exact, larger
    /// is less exact, `None` is not at all.
    pub(crate) fn decode_rank(self, receiver: &Fmtp, stream: &Fmtp) -> Option<u8> {
        let equal = |key: &str| receiver.get(key).unwrap_or("0") == stream.get(key).unwrap_or("0");
        match self {
            Self::Opus | Self::Vp8 => Some(0),
            // RFC 9628 §6: streams of another profile are not decodable.
            Self::Vp9 => equal("profile-id").then_some(0),
            // AV1 RTP payload §7.2.1: `profile` is 0 where absent.
            Self::Av1 => equal("profile").then_some(0),
            Self::H264 => H264Format::parse(receiver)?.decode_rank(&H264Format::parse(stream)?),
        }
    }
}

impl Feedback {
    /// What both have.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            nack: self.nack && other.nack,
            pli: self.pli && other.pli,
            fir: self.fir && other.fir,
            transport_cc: self.transport_cc && other.transport_cc,
            remb: self.remb && other.remb,
        }
    }
}

impl fmt::Display for CodecKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The parameters of an `a=fmtp` line: `key=value` or a bare word, separated by semicolons, in the order written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Fmtp(Vec<(String, Option<String>)>);

impl Fmtp {
    /// Splits the value of `a=fmtp` without its payload type; what is beyond the length limit is left out.
    pub fn parse(text: &str) -> Self {
        let within_limit = text.len() <= MAX_FMTP_BYTES;
        let parts = text.split(';').map(str::trim).filter(|part| within_limit && !part.is_empty());
        Self(
            parts
                .map(|part| match part.split_once('=') {
                    Some((key, value)) => (key.trim().to_owned(), Some(value.trim().to_owned())),
                    None => (part.to_owned(), None),
                })
                .collect(),
        )
    }

    /// The value of `key`, whose case does not matter; the first one if it is written twice.
    pub fn get(&self, key: &str) -> Option<&str> {
        let found = self.0.iter().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
        found.1.as_deref()
    }

    /// True if there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Only the parameters with these names, in their order here.
    pub(crate) fn only(&self, keys: &[&str]) -> Self {
        let known = |name: &str| keys.iter().any(|key| key.eq_ignore_ascii_case(name));
        Self(self.0.iter().filter(|(name, _)| known(name)).cloned().collect())
    }

    /// Sets `key` to `value`, in place if it is there.
    pub(crate) fn set(&mut self, key: &str, value: &str) {
        match self.0.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(key)) {
            Some((_, old)) => *old = Some(value.to_owned()),
            None => self.0.push((key.to_owned(), Some(value.to_owned()))),
        }
    }
}

impl From<String> for Fmtp {
    fn from(text: String) -> Self {
        Self::parse(&text)
    }
}

impl From<Fmtp> for String {
    fn from(fmtp: Fmtp) -> Self {
        fmtp.to_string()
    }
}

impl fmt::Display for Fmtp {
    /// The parameters as `a=fmtp` writes them after the payload type.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (key, value)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ";" };
            match value {
                Some(value) => write!(f, "{separator}{key}={value}")?,
                None => write!(f, "{separator}{key}")?,
            }
        }
        Ok(())
    }
}

/// Feedback messages of a codec (`a=rtcp-fb`, RFC 4585 §4.2), of those that the server can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Feedback {
    /// `nack`.
    pub nack: bool,
    /// `nack pli`.
    pub pli: bool,
    /// `ccm fir`.
    pub fir: bool,
    /// `transport-cc`.
    pub transport_cc: bool,
    /// `goog-remb`.
    pub remb: bool,
}

/// One payload type of an m-line with all that the offer says about it. Repair and redundancy formats (rtx, red,
/// ulpfec) are in the list too: the list is the offer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Codec {
    /// Payload type.
    pub pt: Pt,
    /// Encoding name as the offer spells it.
    pub name: String,
    /// RTP clock rate in Hz.
    pub clock_rate: u32,
    /// Audio channels, 1 where the offer does not say.
    pub channels: u8,
    /// The codec, `None` if it is not one of ours.
    pub kind: Option<CodecKind>,
    /// Parameters.
    pub fmtp: Fmtp,
    /// Feedback messages that the offer lists for it.
    pub feedback: Feedback,
    /// Payload type of its retransmissions: the rtx format whose `apt` is this one (RFC 4588 §8.6).
    pub rtx_pt: Option<Pt>,
}
