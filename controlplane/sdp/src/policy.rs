// SPDX-License-Identifier: Apache-2.0
//! What the server is willing to accept. Pure data: the order among accepted things is always the offer's.

use crate::codec::CodecKind;
use crate::extension::ExtKind;
use crate::offer::MediaKind;

/// Feedback messages that the answer may contain, if the offer does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedbackPolicy {
    /// Generic NACK (RFC 4585 §6.2.1).
    pub nack: bool,
    /// Picture loss indication (RFC 4585 §6.3.1).
    pub pli: bool,
    /// Full intra request (RFC 5104 §4.3.1).
    pub fir: bool,
    /// Transport-wide congestion control; without it the header extension is not negotiated either.
    pub transport_cc: bool,
    /// Receiver estimated maximum bitrate (draft-alvestrand-rmcat-remb-03).
    pub remb: bool,
}

/// Header extensions that the answer may contain, by kind of m-line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtensionPolicy {
    /// Of audio m-lines.
    pub audio: Vec<ExtKind>,
    /// Of video m-lines.
    pub video: Vec<ExtKind>,
    /// Largest identifier: 14 keeps to the one-byte form; up to 255 where the offer has `extmap-allow-mixed`.
    pub max_id: u8,
}

/// What is accepted of an offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Audio codecs that are accepted.
    pub audio_codecs: Vec<CodecKind>,
    /// Video codecs that are accepted.
    pub video_codecs: Vec<CodecKind>,
    /// Feedback between publishers and the server.
    pub publisher_feedback: FeedbackPolicy,
    /// Feedback between viewers and the server.
    pub viewer_feedback: FeedbackPolicy,
    /// Header extensions in packets from publishers.
    pub publisher_extensions: ExtensionPolicy,
    /// Header extensions in packets to viewers.
    pub viewer_extensions: ExtensionPolicy,
    /// Audio m-lines of a publisher that are accepted at most, the rest get port 0.
    pub max_audio_tracks: usize,
    /// Video m-lines of a publisher that are accepted at most, the rest get port 0.
    pub max_video_tracks: usize,
    /// Simulcast encodings of a track that are accepted at most, in the order of the offer.
    pub max_encodings: usize,
    /// Among the H.264 formats of a publisher, take constrained baseline in packetization mode 1 if it is there:
    /// the one that every H.264 receiver decodes. False takes the first acceptable format.
    pub prefers_constrained_baseline: bool,
    /// The video codec that participants of a call send if they offer it, wherever it stands: the one that every
    /// other participant decodes. `None` takes the first acceptable format.
    pub participant_video: Option<CodecKind>,
}

impl ExtensionPolicy {
    /// The accepted kinds of an m-line of this kind; none for others than audio and video.
    pub fn kinds(&self, kind: MediaKind) -> &[ExtKind] {
        match kind {
            MediaKind::Audio => &self.audio,
            MediaKind::Video => &self.video,
            MediaKind::Application | MediaKind::Other => &[],
        }
    }
}

impl Policy {
    /// The accepted codecs of an m-line of this kind; none for others than audio and video.
    pub fn codecs(&self, kind: MediaKind) -> &[CodecKind] {
        match kind {
            MediaKind::Audio => &self.audio_codecs,
            MediaKind::Video => &self.video_codecs,
            MediaKind::Application | MediaKind::Other => &[],
        }
    }
}

impl Default for Policy {
    /// What the forwarding path does: Opus, VP8, VP9, H.264 and AV1; transport-cc from publishers only.
    fn default() -> Self {
        let feedback = FeedbackPolicy { nack: true, pli: true, fir: true, transport_cc: false, remb: false };
        Self {
            audio_codecs: vec![CodecKind::Opus],
            video_codecs: vec![CodecKind::Vp8, CodecKind::Vp9, CodecKind::H264, CodecKind::Av1],
            publisher_feedback: FeedbackPolicy { transport_cc: true, ..feedback },
            viewer_feedback: feedback,
            publisher_extensions: ExtensionPolicy {
                audio: vec![ExtKind::Mid, ExtKind::AudioLevel, ExtKind::TransportCc, ExtKind::AbsCaptureTime],
                video: vec![
                    ExtKind::Mid,
                    ExtKind::Rid,
                    ExtKind::RepairedRid,
                    ExtKind::TransportCc,
                    ExtKind::VideoOrientation,
                    ExtKind::PlayoutDelay,
                    ExtKind::ColorSpace,
                    ExtKind::AbsCaptureTime,
                    ExtKind::DependencyDescriptor,
                    ExtKind::VideoLayersAllocation,
                ],
                max_id: u8::MAX,
            },
            viewer_extensions: ExtensionPolicy {
                audio: vec![ExtKind::Mid, ExtKind::AudioLevel, ExtKind::TransportCc, ExtKind::AbsCaptureTime],
                video: vec![
                    ExtKind::Mid,
                    ExtKind::TransportCc,
                    ExtKind::VideoOrientation,
                    ExtKind::PlayoutDelay,
                    ExtKind::ColorSpace,
                    ExtKind::AbsCaptureTime,
                ],
                max_id: 14,
            },
            max_audio_tracks: 4,
            max_video_tracks: 4,
            max_encodings: 3,
            prefers_constrained_baseline: true,
            participant_video: Some(CodecKind::Vp8),
        }
    }
}
