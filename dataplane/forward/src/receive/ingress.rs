// SPDX-License-Identifier: Apache-2.0
//! SRTP into the packet store: the plaintext is unprotected straight into the log and becomes visible when its tag has
//! verified. Replay window and roll-over counter move only after that.

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::durable::IngressDurable;
use dataplane_abi::ring::event_kind;
use dataplane_abi::store::{STORED_EXTENSIONS, StoredHead, packet_flags};
use dataplane_io::port::RxMeta;
use dataplane_shm::publish;
use dataplane_shm::store::{LogWriter, StoredInfo};
use dataplane_srtp::{ReplayWindow, SrtpError};
use dataplane_wire::codec::{self, FrameInfo};
use dataplane_wire::ext::ExtKind;
use dataplane_wire::rtp::RtpHeader;

use crate::counting::{add, bump, read, set};
use crate::keys::Durable;
use crate::objects::ingress::Ingress;
use crate::receive::classify::{Fate, Received};
use crate::receive::missing;
use crate::worker::{Now, Worker};

/// Chunks of 64 KiB that a video stream may hold: 4 s at 4 Mbit/s.
const VIDEO_CHUNKS: u32 = 32;
/// Chunks that an audio stream may hold.
const AUDIO_CHUNKS: u32 = 2;

/// A packet whose tag has verified: header fields, and where its payload lies in the reserved room.
pub(crate) struct Opened {
    pub(crate) ext_seq: u64,
    pub(crate) payload_len: usize,
    pub(crate) is_repaired: bool,
}

/// Maps what SRTP says to a drop reason.
pub(crate) fn reason(error: SrtpError) -> DropReason {
    match error {
        SrtpError::TooShort | SrtpError::TooLong | SrtpError::BadHeader | SrtpError::IndexMismatch => {
            DropReason::RtpMalformed
        }
        SrtpError::AuthFailed | SrtpError::Unencrypted => DropReason::SrtpAuth,
        SrtpError::Replayed => DropReason::Replayed,
        SrtpError::TooOld => DropReason::ReplayTooOld,
        SrtpError::Exhausted | SrtpError::NoRoom => DropReason::StoreFull,
        SrtpError::NoKey => DropReason::NoKeys,
    }
}

impl Worker {
    /// RTP of a validated flow.
    pub(crate) fn media(&mut self, leg_slot: u32, bytes: &[u8], meta: &RxMeta, now: Now) -> Fate {
        let Ok(header) = RtpHeader::parse(bytes) else { return Fate::Dropped(DropReason::RtpMalformed) };
        let Some(leg) = self.legs.get(leg_slot) else { return Fate::Dropped(DropReason::StaleTransport) };
        if self.media_keys.get(leg.media_keys).is_none() {
            return Fate::Dropped(DropReason::NoKeys);
        }
        let transport = leg.transport;
        let fate = match self.sources.get(&(transport.slot, header.ssrc())) {
            Some(source) if source.is_rtx => self.retransmission(leg_slot, source.ingress, bytes, meta, now),
            Some(source) => self.original(leg_slot, source.ingress, bytes, meta, now),
            None => self.learn(leg_slot, &header, bytes, meta, now),
        };
        if let Some(durable) = self.segment.transport(transport.slot) {
            if fate == Fate::Dropped(DropReason::SrtpAuth) {
                bump(&durable.auth_failures);
            } else {
                bump(&durable.rx_packets);
                add(&durable.rx_bytes, bytes.len() as u64);
            }
        }
        fate
    }

    /// A packet of a known media SSRC.
    pub(crate) fn original(&mut self, leg_slot: u32, ingress_slot: u32, bytes: &[u8], meta: &RxMeta, now: Now) -> Fate {
        let segment = Arc::clone(&self.segment);
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let Some(durable) = segment.ingress(ingress.id) else { return Fate::Dropped(DropReason::StaleTransport) };
        let Some(rx) = self.legs.get(leg_slot).and_then(|leg| self.media_keys.get(leg.media_keys)) else {
            return Fate::Dropped(DropReason::NoKeys);
        };
        let window = ReplayWindow { top: &durable.top, bits: &durable.bits };
        let Some(log) = ingress.log.as_mut() else {
            // No log is opened for a forgery.
            return match rx.receive_rtp(bytes, window, &Durable, self.scratch.as_mut_slice()) {
                Ok(opened) => self.store_scratch(
                    leg_slot,
                    ingress_slot,
                    Received { bytes, meta, now },
                    (opened.index, opened.payload_len),
                ),
                Err(error) => Fate::Dropped(reason(error)),
            };
        };
        let Some(room) = log.reserve(&mut self.chunks, bytes.len()) else {
            return Fate::Dropped(DropReason::StoreFull);
        };
        let opened = match rx.receive_rtp(bytes, window, &Durable, room) {
            Ok(opened) => opened,
            Err(error) => {
                log.abandon();
                return Fate::Dropped(reason(error));
            }
        };
        let opened = Opened { ext_seq: opened.index, payload_len: opened.payload_len, is_repaired: false };
        self.store(leg_slot, ingress_slot, Received { bytes, meta, now }, &opened)
    }

    /// Stores a packet whose tag has verified and whose payload lies in the scratch buffer: the first of a log.
    pub(crate) fn store_scratch(
        &mut self,
        leg_slot: u32,
        ingress_slot: u32,
        received: Received<'_>,
        (ext_seq, payload_len): (u64, usize),
    ) -> Fate {
        let segment = Arc::clone(&self.segment);
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let Some(durable) = segment.ingress(ingress.id) else { return Fate::Dropped(DropReason::StaleTransport) };
        if ingress.log.is_none() {
            ingress.log = open_log(&mut self.chunks, ingress, durable);
        }
        let Some(log) = ingress.log.as_mut() else { return Fate::Dropped(DropReason::StoreFull) };
        let Some(room) = log.reserve(&mut self.chunks, received.bytes.len()) else {
            return Fate::Dropped(DropReason::StoreFull);
        };
        let copied = room.get_mut(..payload_len).zip(self.scratch.get(..payload_len));
        let Some((to, from)) = copied else { return self.give_up_room(ingress_slot, DropReason::StoreFull) };
        to.copy_from_slice(from);
        let opened = Opened { ext_seq, payload_len, is_repaired: false };
        self.store(leg_slot, ingress_slot, received, &opened)
    }

    /// The tag has verified and the payload lies in the reserved room: parse once, commit, announce.
    pub(crate) fn store(
        &mut self,
        leg_slot: u32,
        ingress_slot: u32,
        Received { bytes, meta, now }: Received<'_>,
        opened: &Opened,
    ) -> Fate {
        let Ok(header) = RtpHeader::parse(bytes) else {
            return self.give_up_room(ingress_slot, DropReason::RtpMalformed);
        };
        self.note_transport_seq(leg_slot, &header, meta);
        let segment = Arc::clone(&self.segment);
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let Some(durable) = segment.ingress(ingress.id) else { return Fate::Dropped(DropReason::StaleTransport) };
        if !opened.is_repaired && header.pt() != ingress.pt {
            return self.give_up_room(ingress_slot, DropReason::UnknownPayloadType);
        }
        let Some(leg) = self.legs.get(leg_slot) else { return Fate::Dropped(DropReason::StaleTransport) };
        let Some(log) = ingress.log.as_mut() else { return Fate::Dropped(DropReason::StoreFull) };
        let Some(room) = log.reserved().and_then(|room| room.get(..opened.payload_len)) else {
            return self.give_up_room(ingress_slot, DropReason::StoreFull);
        };
        let Some(payload) = without_padding(room, header.has_padding()) else {
            return self.give_up_room(ingress_slot, DropReason::RtpMalformed);
        };
        let dependency =
            header.extensions().find(|element| leg.extension_kind(element.id) == Some(ExtKind::DependencyDescriptor));
        let info = codec::parse(ingress.codec, payload, dependency.map(|element| element.data)).unwrap_or_default();
        let mut head = stored_head(&info);
        for element in header.extensions() {
            if let Some(kind) = leg.extension_kind(element.id) {
                keep_extension(&mut head, kind, element.data);
            }
        }
        let payload_len = payload.len();
        let flags = packet_facts(
            &info,
            header.marker(),
            header.timestamp(),
            (payload_len == 0, opened.is_repaired),
            (ingress.last_rtp_ts, ingress.keyframe_rtp_ts),
        );
        let stored = StoredInfo { rtp_ts: header.timestamp(), flags, arrival_ns: meta.arrival_ns };
        if !log.commit(opened.ext_seq, &head, 0..payload_len, &stored) {
            return Fate::Dropped(DropReason::TooLate);
        }
        let missed = read(&durable.stored_top)..opened.ext_seq;
        if !opened.is_repaired {
            ingress.reception.count(opened.ext_seq, meta.arrival_ns, header.timestamp(), ingress.clock_rate);
            self.rehearsal.hear(ingress.kind, ingress_slot, header.ssrc());
        }
        if let Some(missing) = ingress.missing.get_mut(&mut self.missing) {
            missing.close(opened.ext_seq);
        }
        let is_late = note_stored(ingress, durable, opened.ext_seq, &stored, payload_len);
        let mut wants_keyframe = false;
        let is_behind = !is_late && missed.start != 0;
        if is_behind && missing::open(&mut self.missing, &mut ingress.missing, missed, now.mono_ns) {
            // Too many to ask for one by one: a keyframe is cheaper.
            wants_keyframe = ingress.kind == MediaKind::Video;
        }
        let id = ingress.id;
        if wants_keyframe {
            self.want_keyframe(id, now);
        }
        self.announce_packet(ingress_slot, opened.ext_seq, is_late, now);
        if payload_len == 0 { Fate::Consumed } else { Fate::Stored }
    }

    pub(crate) fn give_up_room(&mut self, ingress_slot: u32, reason: DropReason) -> Fate {
        if let Some(log) = self.ingresses.get_mut(ingress_slot).and_then(|ingress| ingress.log.as_mut()) {
            log.abandon();
        }
        Fate::Dropped(reason)
    }

    /// Arrival for transport-cc: of authentic packets only.
    pub(crate) fn note_transport_seq(&mut self, leg_slot: u32, header: &RtpHeader<'_>, meta: &RxMeta) {
        let Some(leg) = self.legs.get(leg_slot) else { return };
        if self.recorders.get(leg.recorder).is_none() {
            return;
        }
        let element = header.extensions().find(|element| leg.extension_kind(element.id) == Some(ExtKind::TransportSeq));
        let Some(number) = element.and_then(|element| dataplane_wire::ext::parse_transport_seq(element.data)) else {
            return;
        };
        if let Some(recorder) = self.recorders.get_mut(leg.recorder) {
            recorder.record(number, meta.arrival_ns);
        }
    }

    /// Queues the doorbells of a stored packet; the first one of a stream is told to the control plane.
    fn announce_packet(&mut self, ingress_slot: u32, ext_seq: u64, is_late: bool, now: Now) {
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else { return };
        let (id, leg, is_first) = (ingress.id, ingress.leg, ingress.reception.received == 1 && !is_late);
        if !ingress.is_announced && self.announced.push(ingress_slot) {
            ingress.is_announced = true;
        }
        if is_late {
            self.ring_late(ingress_slot, ext_seq);
        }
        if is_first {
            let transport = self.legs.get(leg).map_or(dataplane_abi::ids::TransportRef::NONE, |leg| leg.transport);
            self.tell(event_kind::FIRST_MEDIA, transport, now, u64::from(id.0));
        }
    }
}

/// Opens a stream's log and stores its name for the readers.
fn open_log(
    chunks: &mut dataplane_shm::store::ChunkPool,
    ingress: &Ingress,
    durable: &IngressDurable,
) -> Option<LogWriter> {
    let share = if ingress.kind == MediaKind::Audio { AUDIO_CHUNKS } else { VIDEO_CHUNKS };
    // Before the log's name is stored: whoever sees the log finds no number of another one.
    publish::store_u64(&durable.stored_top, 0);
    publish::store_u64(&durable.keyframe, 0);
    LogWriter::open(chunks, ingress.id, share)
}

/// RFC 3550 §5.1: the last byte of the padding counts it.
fn without_padding(payload: &[u8], has_padding: bool) -> Option<&[u8]> {
    if !has_padding {
        return Some(payload);
    }
    let padding = usize::from(*payload.last()?);
    if padding == 0 {
        return None;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

fn stored_head(info: &FrameInfo) -> StoredHead {
    let offset = |at: u16| u8::try_from(at).unwrap_or(0xff);
    let mut head = StoredHead::zeroed();
    head.temporal_id = info.temporal_id;
    head.spatial_id = info.spatial_id;
    head.picture_id = info.picture_id.map_or(0, |id| id.value);
    head.picture_id_offset = info.picture_id.map_or(0xff, |id| offset(id.offset));
    head.picture_id_long = u8::from(info.picture_id.is_some_and(|id| id.is_15_bit));
    head.tl0 = info.tl0_pic_idx.map_or(0, |field| field.value);
    head.tl0_offset = info.tl0_pic_idx.map_or(0xff, |field| offset(field.offset));
    head.keyidx = info.keyidx.map_or(0, |field| field.value);
    head.keyidx_offset = info.keyidx.map_or(0xff, |field| offset(field.offset));
    head
}

/// Keeps the extension elements that receivers get (MEDIA_RULES G9); all others are stripped or made anew.
fn keep_extension(head: &mut StoredHead, kind: ExtKind, data: &[u8]) {
    let is_kept = matches!(
        kind,
        ExtKind::AudioLevel
            | ExtKind::VideoOrientation
            | ExtKind::PlayoutDelay
            | ExtKind::AbsCaptureTime
            | ExtKind::ColorSpace
            | ExtKind::ContentType
    );
    let at = usize::from(head.extension_count);
    if !is_kept || at >= STORED_EXTENSIONS {
        return;
    }
    let Some(place) = head.extensions.get_mut(at).and_then(|place| place.get_mut(..data.len())) else { return };
    place.copy_from_slice(data);
    if let (Some(code), Some(len)) = (head.extension_codes.get_mut(at), head.extension_lens.get_mut(at)) {
        *code = kind as u8;
        *len = u8::try_from(data.len()).unwrap_or(0);
        head.extension_count = head.extension_count.saturating_add(1);
    }
}

fn packet_facts(
    info: &FrameInfo,
    marker: bool,
    rtp_ts: u32,
    (is_padding, is_repaired): (bool, bool),
    (last_ts, keyframe_ts): (Option<u32>, Option<u32>),
) -> u32 {
    let mut flags = 0;
    let mut set = |condition: bool, flag: u32| {
        if condition {
            flags |= flag;
        }
    };
    set(info.keyframe_start && keyframe_ts != Some(rtp_ts), packet_flags::KEYFRAME);
    set(info.frame_start || last_ts != Some(rtp_ts), packet_flags::FRAME_START);
    set(info.frame_end_hint || marker, packet_flags::FRAME_END);
    set(marker, packet_flags::MARKER);
    set(is_padding, packet_flags::PADDING);
    set(is_repaired, packet_flags::REPAIRED);
    flags
}

/// Number of the newest keyframe's first packet + 1 (0 = none), and when it arrived, monotonic ns: not later than it did.
pub(crate) fn newest_keyframe(durable: &IngressDurable) -> (u64, u64) {
    let arrival_ns = durable.keyframe_ns.load(Ordering::Acquire);
    (durable.keyframe.load(Ordering::Acquire), arrival_ns)
}

/// Updates what the owner and everyone else knows of a stream; true where the packet came behind a newer one.
fn note_stored(
    ingress: &mut Ingress,
    durable: &IngressDurable,
    ext_seq: u64,
    stored: &StoredInfo,
    payload_len: usize,
) -> bool {
    let top = read(&durable.stored_top);
    let is_late = ext_seq < top;
    if !is_late {
        ingress.last_rtp_ts = Some(stored.rtp_ts);
        set(&durable.newest_rtp_ts, u64::from(stored.rtp_ts));
        publish::store_u64(&durable.stored_top, ext_seq.saturating_add(1));
    }
    if stored.flags & packet_flags::KEYFRAME != 0 && ext_seq.saturating_add(1) > read(&durable.keyframe) {
        ingress.keyframe_rtp_ts = Some(stored.rtp_ts);
        ingress.keyframe_wanted = false;
        // The time last, which `newest_keyframe` reads first: one that is half known seems older than it is, never newer.
        publish::store_u64(&durable.keyframe, ext_seq.saturating_add(1));
        publish::store_u64(&durable.keyframe_ns, stored.arrival_ns);
        bump(&durable.keyframes);
    }
    if stored.flags & packet_flags::REPAIRED != 0 {
        bump(&durable.repaired);
    }
    set(&durable.last_arrival_ns, stored.arrival_ns);
    bump(&durable.packets);
    add(&durable.bytes, payload_len as u64);
    is_late
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_taken_off_and_nonsense_refused() {
        assert_eq!(without_padding(&[1, 2, 3, 2], true), Some(&[1, 2][..]));
        assert_eq!(without_padding(&[0, 0, 3], true), Some(&[][..]));
        assert_eq!(without_padding(&[1, 2, 9], true), None);
        assert_eq!(without_padding(&[1, 2, 0], true), None);
        assert_eq!(without_padding(&[], true), None);
        assert_eq!(without_padding(&[1, 0], false), Some(&[1, 0][..]));
    }

    #[test]
    fn only_the_first_packet_of_a_keyframe_starts_one() {
        let info = FrameInfo { keyframe_start: true, ..FrameInfo::default() };
        let first = packet_facts(&info, false, 7, (false, false), (Some(6), None));
        let second = packet_facts(&info, true, 7, (false, false), (Some(7), Some(7)));
        assert_eq!(first, packet_flags::KEYFRAME | packet_flags::FRAME_START);
        assert_eq!(second, packet_flags::MARKER | packet_flags::FRAME_END);
    }
}
