// SPDX-License-Identifier: Apache-2.0
//! H.264 formats (RFC 6184 §8.1): who can decode whose stream (rule H3).

use crate::codec::Fmtp;

/// Profile-level-id when the parameter is absent: baseline, level 1.0 (RFC 6184 §8.1).
const DEFAULT_PROFILE_LEVEL_ID: u32 = 0x42_00_0A;

/// H.264 profiles that WebRTC clients offer, 4:2:0 and 8 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum H264Profile {
    /// Constrained baseline: the one that everyone decodes.
    ConstrainedBaseline,
    /// Baseline.
    Baseline,
    /// Main.
    Main,
    /// Constrained high.
    ConstrainedHigh,
    /// High.
    High,
}

/// The parts of an H.264 `a=fmtp` that decide about compatibility.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct H264Format {
    /// From `profile-level-id`, `None` for a profile that is not in [`H264Profile`].
    pub profile: Option<H264Profile>,
    /// level_idc: ten times the level, 31 is level 3.1.
    pub level_idc: u8,
    /// `packetization-mode`: 0 or 1 (2, interleaved, is never accepted).
    pub packetization_mode: u8,
    /// `level-asymmetry-allowed=1`: each direction has its own level.
    pub level_asymmetry_allowed: bool,
}

impl H264Format {
    /// Reads the parameters; absent ones have the defaults of RFC 6184 §8.1, `None` if one is malformed.
    pub fn parse(fmtp: &Fmtp) -> Option<Self> {
        let profile_level_id = match fmtp.get("profile-level-id") {
            Some(text) if text.len() == 6 && text.is_ascii() => u32::from_str_radix(text, 16).ok()?,
            Some(_) => return None,
            None => DEFAULT_PROFILE_LEVEL_ID,
        };
        let packetization_mode = match fmtp.get("packetization-mode") {
            Some(text) => text.parse().ok()?,
            None => 0,
        };
        let [_, profile_idc, constraints, level_idc] = profile_level_id.to_be_bytes();
        Some(Self {
            profile: profile_of(profile_idc, constraints),
            level_idc,
            packetization_mode,
            level_asymmetry_allowed: fmtp.get("level-asymmetry-allowed") == Some("1"),
        })
    }

    /// True if the server can take such a stream: a known profile, not interleaved.
    pub fn is_acceptable(&self) -> bool {
        self.profile.is_some() && self.packetization_mode <= 1
    }

    /// How well a receiver that offers `self` decodes a stream of format `stream`: 0 is an exact match, larger is
    /// less exact, `None` is not at all (H3).
    ///
    /// A baseline stream is taken for decodable by constrained baseline decoders: the encoders of WebRTC clients
    /// that say baseline (Chromium's 42001f, ffmpeg's 42001e) use none of the tools that the constraint removes.
    pub fn decode_rank(&self, stream: &Self) -> Option<u8> {
        let profile_rank = profile_rank(self.profile?, stream.profile?)?;
        let mode_rank = match (self.packetization_mode, stream.packetization_mode) {
            (ours, theirs) if ours == theirs && ours <= 1 => 0,
            // RFC 6184 §6.3: a receiver of mode 1 also takes single NAL unit packets.
            (1, 0) => 1,
            _ => return None,
        };
        // RFC 6184 §8.2.2: without asymmetry the level of the receiver bounds the stream.
        if !self.level_asymmetry_allowed && self.level_idc < stream.level_idc {
            return None;
        }
        Some(profile_rank * 2 + mode_rank)
    }
}

/// Table 5 of RFC 6184 §8.1, the rows that are in use.
fn profile_of(profile_idc: u8, constraints: u8) -> Option<H264Profile> {
    let constraint = |bit: u8| constraints & (0x80 >> bit) != 0;
    match profile_idc {
        0x42 if constraint(1) => Some(H264Profile::ConstrainedBaseline),
        0x42 => Some(H264Profile::Baseline),
        0x4D if constraint(0) => Some(H264Profile::ConstrainedBaseline),
        0x4D => Some(H264Profile::Main),
        0x58 if constraint(0) && constraint(1) => Some(H264Profile::ConstrainedBaseline),
        0x58 if constraint(0) => Some(H264Profile::Baseline),
        0x64 if constraint(4) && constraint(5) => Some(H264Profile::ConstrainedHigh),
        0x64 => Some(H264Profile::High),
        _ => None,
    }
}

/// 0 for the same profile, larger for a decoder of a superset, `None` if the decoder cannot.
fn profile_rank(decoder: H264Profile, stream: H264Profile) -> Option<u8> {
    use H264Profile::{Baseline, ConstrainedBaseline, ConstrainedHigh, High, Main};
    let decoders_by_preference: &[H264Profile] = match stream {
        ConstrainedBaseline => &[ConstrainedBaseline, Baseline, Main, ConstrainedHigh, High],
        Baseline => &[Baseline, ConstrainedBaseline],
        Main => &[Main, High],
        ConstrainedHigh => &[ConstrainedHigh, High],
        High => &[High],
    };
    let position = decoders_by_preference.iter().position(|candidate| *candidate == decoder)?;
    u8::try_from(position).ok()
}
