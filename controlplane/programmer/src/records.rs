// SPDX-License-Identifier: Apache-2.0
//! From the conference's values to the segment's records.

use controlplane_room::{
    Codec, CodecMap, Extension, Extensions, MediaKind, RoomName, Shown, SubscriptionSpec, TrackSpec, TransportSpec,
};
use dataplane_abi::codec::{self, Cipher, EgressMode, NO_PT, TransportKind, feedback_flags, transport_flags};
use dataplane_abi::ids::{RoomRef, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{
    Credential, EncodingIntent, KeyIntent, RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent,
};
use dataplane_abi::limits::{ENCODINGS, EXTENSIONS};
use dataplane_wire::ext::ExtKind;
use zeroize::Zeroize;

/// SRTP keys of a transport.
pub struct KeyMaterial<'k> {
    /// IANA number of the protection profile.
    pub profile: u16,
    /// Key and salt of what we send.
    pub local: (&'k [u8], &'k [u8]),
    /// Key and salt of what we receive.
    pub remote: (&'k [u8], &'k [u8]),
}

/// Copies as much of a text as fits; the length.
fn fill(place: &mut [u8], text: &[u8]) -> u8 {
    let len = text.len().min(place.len()).min(usize::from(u8::MAX));
    for (to, from) in place.iter_mut().zip(text) {
        *to = *from;
    }
    u8::try_from(len).unwrap_or(u8::MAX)
}

pub(crate) fn room(reference: RoomRef, name: &RoomName) -> RoomIntent {
    let mut record = RoomIntent { generation: reference.generation, ..RoomIntent::zeroed() };
    fill(&mut record.name, name.as_str().as_bytes());
    record
}

pub(crate) fn transport(reference: TransportRef, room: RoomRef, spec: &TransportSpec) -> TransportIntent {
    let mut record = TransportIntent {
        generation: reference.generation,
        kind: TransportKind::Webrtc.code(),
        cipher: Cipher::None.code(),
        room,
        rtcp_ssrc: spec.rtcp_ssrc,
        ..TransportIntent::zeroed()
    };
    fill(&mut record.participant, spec.participant.as_bytes());
    if spec.transport_cc {
        record.flags |= transport_flags::TRANSPORT_CC;
    }
    if spec.rtcp_rsize {
        record.flags |= transport_flags::REDUCED_SIZE;
    }
    if let Some(current) = record.credentials.first_mut() {
        *current = credential(spec);
    }
    record
}

fn credential(spec: &TransportSpec) -> Credential {
    let mut credential = Credential::zeroed();
    credential.local_ufrag_len = fill(&mut credential.local_ufrag, spec.local.ufrag.as_bytes());
    credential.local_pwd_len = fill(&mut credential.local_pwd, spec.local.pwd.as_bytes());
    // A fragment that does not fit is not compared: the password proves the peer.
    if spec.remote.ufrag.len() <= credential.remote_ufrag.len() {
        credential.remote_ufrag_len = fill(&mut credential.remote_ufrag, spec.remote.ufrag.as_bytes());
    }
    credential
}

/// Whether a published transport is the one of `spec`: both of our credentials are its.
pub(crate) fn is_transport(record: &TransportIntent, spec: &TransportSpec) -> bool {
    let known = credential(spec);
    record.credentials.first().is_some_and(|held| {
        (held.local_ufrag, held.local_ufrag_len, held.local_pwd, held.local_pwd_len)
            == (known.local_ufrag, known.local_ufrag_len, known.local_pwd, known.local_pwd_len)
    })
}

const fn extension_kind(extension: Extension) -> ExtKind {
    match extension {
        Extension::Mid => ExtKind::Mid,
        Extension::RtpStreamId => ExtKind::Rid,
        Extension::RepairedRtpStreamId => ExtKind::RepairedRid,
        Extension::AudioLevel => ExtKind::AudioLevel,
        Extension::AbsSendTime => ExtKind::AbsSendTime,
        Extension::TransportCc => ExtKind::TransportSeq,
        Extension::DependencyDescriptor => ExtKind::DependencyDescriptor,
        Extension::VideoOrientation => ExtKind::VideoOrientation,
        Extension::TransmissionOffset => ExtKind::TransmissionOffset,
        Extension::PlayoutDelay => ExtKind::PlayoutDelay,
        Extension::VideoContentType => ExtKind::ContentType,
        Extension::VideoTiming => ExtKind::VideoTiming,
        Extension::ColorSpace => ExtKind::ColorSpace,
        Extension::AbsCaptureTime => ExtKind::AbsCaptureTime,
        Extension::VideoLayersAllocation => ExtKind::VideoLayersAllocation,
    }
}

fn set_extensions(ids: &mut [u8; EXTENSIONS], extensions: &Extensions) {
    for (extension, id) in &extensions.0 {
        if let Some(place) = ids.get_mut(usize::from(extension_kind(*extension) as u8)) {
            *place = *id;
        }
    }
}

/// Adds a track's extension ids to its transport's: in one bundle an id means one thing.
pub(crate) fn merge_extensions(record: &mut TransportIntent, extensions: &Extensions) {
    set_extensions(&mut record.extension_ids, extensions);
}

const fn kind_code(kind: MediaKind) -> u8 {
    match kind {
        MediaKind::Audio => codec::MediaKind::Audio.code(),
        MediaKind::Video => codec::MediaKind::Video.code(),
    }
}

const fn codec_code(codec: Codec) -> u8 {
    use dataplane_wire::codec::Codec as Wire;
    match codec {
        Codec::Opus => Wire::Opus as u8,
        Codec::Vp8 => Wire::Vp8 as u8,
        Codec::Vp9 => Wire::Vp9 as u8,
        Codec::H264 => Wire::H264 as u8,
        Codec::Av1 => Wire::Av1 as u8,
    }
}

fn feedback(nack: bool, pli: bool, fir: bool) -> u16 {
    let flag = |is_set: bool, flag: u16| if is_set { flag } else { 0 };
    flag(nack, feedback_flags::NACK) | flag(pli, feedback_flags::PLI) | flag(fir, feedback_flags::FIR)
}

pub(crate) fn track(
    reference: TrackRef,
    owner: TransportRef,
    room: RoomRef,
    spec: &TrackSpec,
    cname: &str,
) -> TrackIntent {
    let mut record = TrackIntent {
        generation: reference.generation,
        transport: owner,
        room,
        global_id: spec.id.0,
        kind: kind_code(spec.kind),
        feedback: feedback(spec.nack, spec.pli, spec.fir),
        ..TrackIntent::zeroed()
    };
    if let Some(CodecMap { codec, pt, rtx_pt, clock_rate_hz, .. }) = spec.codecs.first() {
        record.codec = codec_code(*codec);
        record.pt = *pt;
        record.rtx_pt = rtx_pt.unwrap_or(NO_PT);
        record.clock_rate = *clock_rate_hz;
    }
    record.mid_len = fill(&mut record.mid, spec.mid.as_bytes());
    record.cname_len = fill(&mut record.cname, cname.as_bytes());
    record.encoding_count = u8::try_from(spec.encodings.len().clamp(1, ENCODINGS)).unwrap_or(1);
    for (place, encoding) in record.encodings.iter_mut().zip(&spec.encodings) {
        let mut one = EncodingIntent::zeroed();
        one.rid_len = fill(&mut one.rid, encoding.rid.as_deref().unwrap_or("").as_bytes());
        one.ssrc = encoding.ssrc.unwrap_or(0);
        one.rtx_ssrc = encoding.rtx_ssrc.unwrap_or(0);
        *place = one;
    }
    record
}

pub(crate) fn subscription(
    reference: SubscriptionRef,
    transport: TransportRef,
    track: TrackRef,
    spec: &SubscriptionSpec,
) -> SubscriptionIntent {
    let mut record = SubscriptionIntent {
        generation: reference.generation,
        transport,
        track,
        ssrc: spec.ssrc,
        mode: EgressMode::Rewrite.code(),
        max_encoding: encoding_code(spec.max_encoding),
        rtx_ssrc: spec.rtx_ssrc.unwrap_or(0),
        rtx_pt: NO_PT,
        feedback: feedback(spec.nack, spec.pli, false),
        ..SubscriptionIntent::zeroed()
    };
    if let Some(codec) = spec.codecs.first() {
        set_codec(&mut record, codec);
    }
    record.mid_len = fill(&mut record.mid, spec.mid.as_bytes());
    set_extensions(&mut record.extension_ids, &spec.extensions);
    record
}

/// Points a subscription at another track, or at none. What it is known by on the wire stays.
pub(crate) fn show(record: &mut SubscriptionIntent, shown: Option<(TrackRef, &Shown)>) {
    let Some((track, shown)) = shown else {
        record.track = TrackRef::NONE;
        return;
    };
    record.track = track;
    record.max_encoding = encoding_code(shown.max_encoding);
    set_codec(record, &shown.codec);
}

/// The payload types of a codec. The SSRC of retransmissions is the slot's, whatever the codec: it stays.
fn set_codec(record: &mut SubscriptionIntent, codec: &CodecMap) {
    record.pt = codec.pt;
    record.rtx_pt = codec.rtx_pt.filter(|_| record.rtx_ssrc != 0).unwrap_or(NO_PT);
}

/// The highest encoding that there may be.
const ANY_ENCODING: u8 = {
    assert!(ENCODINGS > 0 && ENCODINGS <= 8, "fits");
    #[expect(clippy::cast_possible_truncation, reason = "at most 7")]
    {
        (ENCODINGS - 1) as u8
    }
};

fn encoding_code(max_encoding: Option<u8>) -> u8 {
    max_encoding.map_or(ANY_ENCODING, |encoding| encoding.min(ANY_ENCODING))
}

/// The inverse of `encoding_code`.
pub(crate) fn max_encoding(code: u8) -> Option<u8> {
    (code < ANY_ENCODING).then_some(code)
}

/// Nothing where a length or the profile makes no sense.
pub(crate) fn key(material: &KeyMaterial<'_>) -> Option<KeyIntent> {
    let (cipher, key_len, salt_len) = match material.profile {
        0x0007 => (Cipher::AeadAes128Gcm, 16, 12),
        0x0008 => (Cipher::AeadAes256Gcm, 32, 12),
        0x0001 => (Cipher::AesCm128HmacSha1_80, 16, 14),
        _ => return None,
    };
    let mut record = KeyIntent { cipher: cipher.code(), ..KeyIntent::zeroed() };
    record.key_len = fill(&mut record.rx_key, material.remote.0);
    record.salt_len = fill(&mut record.rx_salt, material.remote.1);
    let tx_key_len = fill(&mut record.tx_key, material.local.0);
    let tx_salt_len = fill(&mut record.tx_salt, material.local.1);
    let lens = [record.key_len, tx_key_len, record.salt_len, tx_salt_len];
    if lens == [key_len, key_len, salt_len, salt_len] {
        return Some(record);
    }
    wipe(&mut record);
    None
}

/// Overwrites the copies of keys in a record that has been written.
pub(crate) fn wipe(record: &mut KeyIntent) {
    record.rx_key.zeroize();
    record.rx_salt.zeroize();
    record.tx_key.zeroize();
    record.tx_salt.zeroize();
}
