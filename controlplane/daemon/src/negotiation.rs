// SPDX-License-Identifier: Apache-2.0
//! Between SDP's facts and the conference's specifications: plain translation, no decisions.

use controlplane_dtls::{Fingerprint, FingerprintAlgorithm, Role};
use controlplane_ice as ice;
use controlplane_room::{
    Codec, CodecMap, Encoding, Extension, Extensions, IceCredentials, MediaKind, Slot, SubscriptionSpec, TrackId,
    TrackSpec, TransportId,
};
use controlplane_sdp as sdp;
use controlplane_signaling::{Problem, ProblemKind};

/// A problem that names the line of the offer at fault. Its detail goes back to the sender and nowhere else.
pub(crate) fn sdp_problem(error: &sdp::SdpError) -> Problem {
    let kind = match error.kind {
        sdp::SdpErrorKind::TooLarge
        | sdp::SdpErrorKind::Malformed
        | sdp::SdpErrorKind::Missing
        | sdp::SdpErrorKind::Conflict => ProblemKind::BadOffer,
        sdp::SdpErrorKind::Unsupported | sdp::SdpErrorKind::NothingAccepted => ProblemKind::UnsupportedOffer,
    };
    Problem::new(kind, error.to_string()).at(error.field)
}

/// Our candidates as an answer writes them.
pub(crate) fn candidates(from: &[ice::Candidate]) -> Vec<sdp::Candidate> {
    let convert = |held: &ice::Candidate| sdp::Candidate {
        foundation: held.foundation.to_string(),
        priority: held.priority,
        ip: held.ip,
        port: held.port,
    };
    from.iter().map(convert).collect()
}

/// Our side of the handshake.
pub(crate) fn dtls_role(facts: &sdp::DtlsFacts) -> Role {
    match facts.we_are {
        sdp::DtlsRole::Server => Role::Server,
        sdp::DtlsRole::Client => Role::Client,
    }
}

/// The certificates that the peer may present.
pub(crate) fn fingerprints(facts: &sdp::DtlsFacts) -> Vec<Fingerprint> {
    let convert = |held: &sdp::Fingerprint| {
        let algorithm = match held.algorithm {
            sdp::HashAlgorithm::Sha256 => FingerprintAlgorithm::Sha256,
            sdp::HashAlgorithm::Sha384 => FingerprintAlgorithm::Sha384,
            sdp::HashAlgorithm::Sha512 => FingerprintAlgorithm::Sha512,
        };
        Fingerprint::new(algorithm, held.bytes.clone()).ok()
    };
    facts.remote_fingerprints.iter().filter_map(convert).collect()
}

/// The peer's credentials.
pub(crate) fn credentials(from: &sdp::IceParams) -> IceCredentials {
    IceCredentials { ufrag: from.ufrag.clone(), pwd: from.pwd.clone() }
}

/// A published track; `None` for what is neither audio nor video.
pub(crate) fn track(id: TrackId, transport: TransportId, from: &sdp::PublishedTrack) -> Option<TrackSpec> {
    Some(TrackSpec {
        id,
        transport,
        mid: from.mid.as_str().to_owned(),
        kind: media_kind(from.kind)?,
        codecs: vec![CodecMap {
            codec: codec(from.codec),
            fmtp: from.fmtp.to_string(),
            pt: from.pt.0,
            rtx_pt: from.rtx_pt.map(|pt| pt.0),
            clock_rate_hz: from.clock_rate,
        }],
        extensions: extensions(&from.extensions),
        encodings: encodings(from),
        nack: from.feedback.nack,
        pli: from.feedback.pli,
        fir: from.feedback.fir,
    })
}

/// One encoding per rid, else one per declared SSRC, else one that is learned by MID.
fn encodings(from: &sdp::PublishedTrack) -> Vec<Encoding> {
    let declared = |at: usize| from.ssrcs.get(at).map(|(ssrc, rtx)| (ssrc.0, rtx.map(|rtx| rtx.0)));
    let encoding = |rid: Option<String>, at: usize| {
        let (ssrc, rtx_ssrc) = declared(at).map_or((None, None), |(ssrc, rtx)| (Some(ssrc), rtx));
        Encoding { rid, ssrc, rtx_ssrc }
    };
    if from.rids.is_empty() {
        return (0..from.ssrcs.len().max(1)).map(|at| encoding(None, at)).collect();
    }
    let paired = from.ssrcs.len() == from.rids.len();
    let rids = from.rids.iter().enumerate();
    rids.map(|(at, rid)| encoding(Some(rid.as_str().to_owned()), if paired { at } else { usize::MAX })).collect()
}

/// What a viewer is offered of a track; `None` if the track has no codec.
pub(crate) fn send_track(
    track: &TrackSpec,
    participant: &str,
    cname: &str,
    ssrcs: (u32, u32),
) -> Option<sdp::SendTrack> {
    let map = track.codecs.first()?;
    Some(sdp::SendTrack {
        codec: codec_kind(map.codec),
        fmtp: sdp::Fmtp::parse(&map.fmtp),
        ssrc: sdp::Ssrc(ssrcs.0),
        rtx_ssrc: Some(sdp::Ssrc(ssrcs.1)),
        cname: cname.to_owned(),
        msid_stream: participant.to_owned(),
        msid_track: format!("{:032x}", u128::from_be_bytes(track.id.0)),
    })
}

/// A viewer's leg; `None` for what is neither audio nor video.
pub(crate) fn subscription(track: TrackId, transport: TransportId, from: &sdp::ViewerLeg) -> Option<SubscriptionSpec> {
    Some(SubscriptionSpec {
        track,
        transport,
        mid: from.mid.as_str().to_owned(),
        kind: media_kind(from.kind)?,
        ssrc: from.ssrc.0,
        rtx_ssrc: from.rtx_ssrc.map(|ssrc| ssrc.0),
        codecs: vec![CodecMap {
            codec: codec(from.codec),
            fmtp: String::new(),
            pt: from.pt.0,
            rtx_pt: from.rtx_pt.map(|pt| pt.0),
            clock_rate_hz: from.clock_rate,
        }],
        extensions: extensions(&from.extensions),
        nack: from.feedback.nack,
        pli: from.feedback.pli,
        max_encoding: None,
    })
}

/// A participant's slot; `None` for what is neither audio nor video.
pub(crate) fn slot(from: &sdp::Slot) -> Option<Slot> {
    let codec_map = |held: &sdp::SlotCodec| CodecMap {
        codec: codec(held.codec),
        fmtp: held.fmtp.to_string(),
        pt: held.pt.0,
        rtx_pt: held.rtx_pt.map(|pt| pt.0),
        clock_rate_hz: held.clock_rate,
    };
    Some(Slot {
        mid: from.mid.as_str().to_owned(),
        kind: media_kind(from.kind)?,
        ssrc: from.ssrc.0,
        rtx_ssrc: from.rtx_ssrc.map(|ssrc| ssrc.0),
        codecs: from.codecs.iter().map(codec_map).collect(),
        extensions: extensions(&from.extensions),
        nack: from.feedback.nack,
        pli: from.feedback.pli,
    })
}

fn media_kind(kind: sdp::MediaKind) -> Option<MediaKind> {
    match kind {
        sdp::MediaKind::Audio => Some(MediaKind::Audio),
        sdp::MediaKind::Video => Some(MediaKind::Video),
        sdp::MediaKind::Application | sdp::MediaKind::Other => None,
    }
}

fn codec(kind: sdp::CodecKind) -> Codec {
    match kind {
        sdp::CodecKind::Opus => Codec::Opus,
        sdp::CodecKind::Vp8 => Codec::Vp8,
        sdp::CodecKind::Vp9 => Codec::Vp9,
        sdp::CodecKind::H264 => Codec::H264,
        sdp::CodecKind::Av1 => Codec::Av1,
    }
}

fn codec_kind(codec: Codec) -> sdp::CodecKind {
    match codec {
        Codec::Opus => sdp::CodecKind::Opus,
        Codec::Vp8 => sdp::CodecKind::Vp8,
        Codec::Vp9 => sdp::CodecKind::Vp9,
        Codec::H264 => sdp::CodecKind::H264,
        Codec::Av1 => sdp::CodecKind::Av1,
    }
}

fn extensions(from: &[sdp::Extension]) -> Extensions {
    Extensions(from.iter().filter_map(|held| Some((extension(held.kind)?, held.id))).collect())
}

/// `None` for extensions that no policy accepts: the data plane neither reads nor forwards them.
fn extension(kind: sdp::ExtKind) -> Option<Extension> {
    match kind {
        sdp::ExtKind::Mid => Some(Extension::Mid),
        sdp::ExtKind::Rid => Some(Extension::RtpStreamId),
        sdp::ExtKind::RepairedRid => Some(Extension::RepairedRtpStreamId),
        sdp::ExtKind::AudioLevel => Some(Extension::AudioLevel),
        sdp::ExtKind::AbsSendTime => Some(Extension::AbsSendTime),
        sdp::ExtKind::AbsCaptureTime => Some(Extension::AbsCaptureTime),
        sdp::ExtKind::TransportCc => Some(Extension::TransportCc),
        sdp::ExtKind::TransmissionOffset => Some(Extension::TransmissionOffset),
        sdp::ExtKind::VideoOrientation => Some(Extension::VideoOrientation),
        sdp::ExtKind::PlayoutDelay => Some(Extension::PlayoutDelay),
        sdp::ExtKind::VideoContentType => Some(Extension::VideoContentType),
        sdp::ExtKind::VideoTiming => Some(Extension::VideoTiming),
        sdp::ExtKind::ColorSpace => Some(Extension::ColorSpace),
        sdp::ExtKind::DependencyDescriptor => Some(Extension::DependencyDescriptor),
        sdp::ExtKind::VideoLayersAllocation => Some(Extension::VideoLayersAllocation),
        sdp::ExtKind::CsrcAudioLevel | sdp::ExtKind::GenericFrameDescriptor | sdp::ExtKind::FrameMarking => None,
    }
}
