// SPDX-License-Identifier: Apache-2.0
//! One packet for one receiver: the cohort's numbers plus the receiver's constants, sealed from the shared plaintext into
//! the frame that the port lends. Numbers are stored before the frame can be seen.

use std::sync::Arc;

use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::durable::EgressDurable;
use dataplane_abi::limits::EGRESS_DATAGRAM_BYTES;
use dataplane_abi::store::{STORED_EXTENSIONS, StoredHead, packet_flags};
use dataplane_io::port::Port;
use dataplane_shm::publish;
use dataplane_shm::store::{StoreBytes, Stored, StoredInfo};
use dataplane_srtp::{MAX_RTP_INDEX, Plaintext, SharedBytes};
use dataplane_wire::codec::{Codec, Field, FrameInfo, PictureId, vp8};
use dataplane_wire::ext::{AbsSendTime, ExtKind};
use dataplane_wire::rtp::HeaderWriter;
use dataplane_wire::seq;

use crate::counting::{add, bump};
use crate::hold::window::Window;
use crate::objects::egress::{Constants, Egress, Format, LastSent};
use crate::send::seal::seal;
use crate::worker::{Now, Worker};

/// Longest UDP payload that is ever sent: an Ethernet MTU less IPv6 and UDP headers.
const LONGEST_DATAGRAM: usize = 1452;
/// Payload bytes that may be patched: the longest descriptor lies within.
const PREFIX_BYTES: usize = 16;
const FIXED_HEADER: usize = 12;
const EXTENSION_HEADER: usize = 4;
/// Offset of a field that a descriptor does not have.
pub(crate) const NO_FIELD: u8 = 0xff;
/// Longest tag of any profile.
const TAG_BYTES: usize = 16;
const ELEMENTS: usize = STORED_EXTENSIONS + 2;

/// What became of one packet for one receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// Committed to the port, with its length.
    Sent(usize),
    /// Not sent.
    Skipped(SkipReason),
    /// The port has no room: try again.
    Full,
}

/// A stored packet with its cohort's number.
pub(crate) struct Packet<'s> {
    pub(crate) number: u64,
    pub(crate) is_late: bool,
    pub(crate) head: StoredHead,
    pub(crate) info: StoredInfo,
    pub(crate) stored: Stored<'s>,
}

/// Shared plaintext as the cipher reads it.
pub(crate) struct Shared<'s>(pub(crate) StoreBytes<'s>);

impl Plaintext for Shared<'_> {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn copy_to(&self, dst: &mut [u8]) {
        self.0.copy_to(dst);
    }
    fn shared(&self) -> Option<SharedBytes<'_>> {
        Some(SharedBytes::from(self.0.as_atomics()))
    }
}

/// The identity under which a packet goes out: the stream's, or its retransmissions'.
#[derive(Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) ssrc: u32,
    pub(crate) pt: u8,
    pub(crate) codec: Codec,
    pub(crate) index: u64,
    /// The original sequence number in front of the payload (RFC 4588 §4).
    pub(crate) original: Option<u16>,
}

impl Worker {
    /// Sends a packet to a member of its cohort.
    pub(crate) fn send_packet<P: Port>(
        &mut self,
        port: &mut P,
        egress_slot: u32,
        packet: &Packet<'_>,
        now: Now,
    ) -> Outcome {
        let segment = Arc::clone(&self.segment);
        let Some(leg_slot) = self.egresses.get(egress_slot).map(|egress| egress.leg) else {
            return Outcome::Skipped(SkipReason::MemberLeft);
        };
        let Some(path) = self.active_path(leg_slot, port) else { return Outcome::Skipped(SkipReason::NoPath) };
        let Some(egress) = self.egresses.get_mut(egress_slot) else {
            return Outcome::Skipped(SkipReason::MemberLeft);
        };
        let Some(leg) = self.legs.get(leg_slot) else { return Outcome::Skipped(SkipReason::MemberLeft) };
        let Some(tx) = leg.tx.as_ref() else { return Outcome::Skipped(SkipReason::NoKeys) };
        let Some(durable) = segment.egress(egress.subscription.slot) else {
            return Outcome::Skipped(SkipReason::MemberLeft);
        };
        let index = packet.number.wrapping_add(egress.constants.seq);
        let window = Window { top: &durable.next_index, bits: &durable.spent };
        let is_fresh = index >= durable.next_index.load(core::sync::atomic::Ordering::Relaxed);
        if packet.number < egress.first_number || (!packet.is_late && !is_fresh) || !window.is_unused(index) {
            return Outcome::Skipped(SkipReason::NumberSpent);
        }
        if index > MAX_RTP_INDEX {
            return Outcome::Skipped(SkipReason::CipherRefused);
        }
        let Format { codec, pt, .. } = egress.format;
        let identity = Identity { ssrc: egress.ssrc, pt, codec, index, original: None };
        let bound = bound(egress, packet);
        if bound > LONGEST_DATAGRAM {
            return Outcome::Skipped(SkipReason::TooLong);
        }
        if port.tx_room() == 0 {
            return Outcome::Full;
        }
        // With room, only a path that the port does not know is refused.
        let Some(frame) = port.reserve(path, bound) else { return Outcome::Skipped(SkipReason::NoPath) };
        // CONTRACTS 3 of the design: the number is spent here, whatever happens to the frame.
        if !window.take(index) {
            return Outcome::Skipped(SkipReason::NumberSpent);
        }
        let last = last_of(egress, packet);
        if !packet.is_late {
            publish::store_u64(&durable.last, last_word(&last));
        }
        let Some(written) = write_head(frame, egress, &egress.constants, packet, identity, now) else {
            return Outcome::Skipped(SkipReason::TooLong);
        };
        let rest = Shared(packet.stored.payload().slice(written.of_payload));
        let Ok(len) = seal(tx, index, frame, written, rest) else {
            return Outcome::Skipped(SkipReason::CipherRefused);
        };
        if !packet.stored.still_valid() {
            return Outcome::Skipped(SkipReason::StoreLapped);
        }
        port.commit(len);
        if !packet.is_late {
            egress.last = last;
        }
        note_sent(durable, packet);
        if let Some(transport) = segment.transport(leg.transport.slot) {
            bump(&transport.tx_packets);
            add(&transport.tx_bytes, len as u64);
        }
        Outcome::Sent(len)
    }
}

fn note_sent(durable: &EgressDurable, packet: &Packet<'_>) {
    bump(&durable.packets);
    add(&durable.octets, u64::from(packet.head.payload_len));
}

/// An upper bound of the datagram's length.
pub(crate) fn bound(egress: &Egress, packet: &Packet<'_>) -> usize {
    let kept = usize::from(packet.head.extension_count);
    let lens = packet.head.extension_lens.iter().take(kept).map(|len| usize::from(*len).saturating_add(2));
    let own = egress.mid().len().saturating_add(2).saturating_add(5);
    let extensions = lens.fold(own, usize::saturating_add).next_multiple_of(4).saturating_add(EXTENSION_HEADER);
    let plain = FIXED_HEADER.saturating_add(extensions).saturating_add(packet.stored.payload().len());
    plain.saturating_add(2).saturating_add(TAG_BYTES)
}

/// How the start of a packet was written.
#[derive(Clone, Copy)]
pub(crate) struct Written {
    /// Header with extensions.
    pub(crate) head_len: usize,
    /// Bytes behind the header that are in the frame: original sequence number and patched prefix.
    pub(crate) in_place: usize,
    /// Bytes of the stored payload among them.
    pub(crate) of_payload: usize,
}

/// Writes header, original sequence number and patched prefix.
pub(crate) fn write_head(
    frame: &mut [u8],
    egress: &Egress,
    constants: &Constants,
    packet: &Packet<'_>,
    identity: Identity,
    now: Now,
) -> Option<Written> {
    let send_time = AbsSendTime::from_raw(u32::try_from((now.ntp >> 14) & 0x00ff_ffff).ok()?).emit();
    let mut elements: [(u8, &[u8]); ELEMENTS] = [(0, &[]); ELEMENTS];
    let mut count = 0;
    let mut put = |id: u8, data| {
        if id != 0
            && !<[u8]>::is_empty(data)
            && let Some(place) = elements.get_mut(count)
        {
            *place = (id, data);
            count = usize::saturating_add(count, 1);
        }
    };
    put(egress.extension_id(ExtKind::Mid), egress.mid());
    put(egress.extension_id(ExtKind::AbsSendTime), &send_time);
    let is_short = bound(egress, packet) <= EGRESS_DATAGRAM_BYTES;
    for at in (0..usize::from(packet.head.extension_count).min(STORED_EXTENSIONS)).filter(|_| is_short) {
        let kind = packet.head.extension_codes.get(at).copied().and_then(ExtKind::from_u8)?;
        let len = usize::from(*packet.head.extension_lens.get(at)?);
        put(egress.extension_id(kind), packet.head.extensions.get(at)?.get(..len)?);
    }
    let header = HeaderWriter {
        marker: packet.info.flags & packet_flags::MARKER != 0,
        has_padding: false,
        pt: identity.pt,
        seq: seq::low16(identity.index),
        timestamp: packet.info.rtp_ts.wrapping_add(constants.rtp_ts),
        ssrc: identity.ssrc,
    };
    let listed = elements.get(..count)?.iter().copied();
    let head_len = header.emit(frame, listed).ok()?.header_len;
    let body = frame.get_mut(head_len..)?;
    let original_len = identity.original.map_or(0, |_| size_of::<u16>());
    if let Some(original) = identity.original {
        body.get_mut(..original_len)?.copy_from_slice(&original.to_be_bytes());
    }
    let of_payload = write_prefix(body.get_mut(original_len..)?, identity.codec, constants, packet)?;
    Some(Written { head_len, in_place: original_len.saturating_add(of_payload), of_payload })
}

/// Copies and patches the start of the payload where numbers in it change; how many bytes of it.
pub(crate) fn write_prefix(body: &mut [u8], codec: Codec, constants: &Constants, packet: &Packet<'_>) -> Option<usize> {
    let has_numbers = matches!(codec, Codec::Vp8 | Codec::Vp9);
    let is_patched = has_numbers && (constants.picture_id != 0 || constants.tl0 != 0 || constants.keyidx != 0);
    if !is_patched {
        return Some(0);
    }
    let payload = packet.stored.payload();
    let prefix = payload.len().min(PREFIX_BYTES);
    let start = body.get_mut(..prefix)?;
    payload.copy_prefix(prefix, start);
    let head = &packet.head;
    let field = |value: u8, offset: u8| (offset != NO_FIELD).then_some(Field { value, offset: u16::from(offset) });
    let info = FrameInfo {
        picture_id: (head.picture_id_offset != NO_FIELD).then_some(PictureId {
            value: head.picture_id,
            is_15_bit: head.picture_id_long != 0,
            offset: u16::from(head.picture_id_offset),
        }),
        tl0_pic_idx: field(head.tl0, head.tl0_offset),
        keyidx: field(head.keyidx, head.keyidx_offset),
        ..FrameInfo::default()
    };
    vp8::patch(
        start,
        &info,
        head.picture_id.wrapping_add(constants.picture_id) & 0x7fff,
        head.tl0.wrapping_add(constants.tl0),
        head.keyidx.wrapping_add(constants.keyidx) & 0x1f,
    )
    .ok()?;
    Some(prefix)
}

fn last_of(egress: &Egress, packet: &Packet<'_>) -> LastSent {
    let constants = &egress.constants;
    let sent = LastSent {
        rtp_ts: packet.info.rtp_ts.wrapping_add(constants.rtp_ts),
        arrival_ns: packet.info.arrival_ns,
        is_any: true,
        is_frame_end: packet.info.flags & packet_flags::FRAME_END != 0,
        ..egress.last
    };
    if packet.head.picture_id_offset == NO_FIELD {
        return sent;
    }
    LastSent {
        picture_id: packet.head.picture_id.wrapping_add(constants.picture_id) & 0x7fff,
        tl0: packet.head.tl0.wrapping_add(constants.tl0),
        keyidx: packet.head.keyidx.wrapping_add(constants.keyidx) & 0x1f,
        ..sent
    }
}

fn last_word(last: &LastSent) -> u64 {
    Constants { seq: 0, rtp_ts: last.rtp_ts, picture_id: last.picture_id, tl0: last.tl0, keyidx: last.keyidx }.to_word()
}
