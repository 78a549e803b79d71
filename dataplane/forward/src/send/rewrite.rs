// SPDX-License-Identifier: Apache-2.0
//! One packet for one receiver: the cohort's numbers plus the receiver's constants, sealed from the shared plaintext into
//! the frame that the port lends. Numbers are stored before the frame can be seen.

use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::durable::EgressDurable;
use dataplane_abi::store::{StoredHead, packet_flags};
use dataplane_io::port::{PathSlot, Port};
use dataplane_shm::store::{StoreBytes, Stored, StoredInfo};
use dataplane_shm::{Segment, publish};
use dataplane_srtp::{MAX_RTP_INDEX, Plaintext, SharedBytes, TxContext};
use dataplane_wire::codec::{Codec, Field, FrameInfo, PictureId, vp8};

use crate::counting::{add, bump};
use crate::hold::slab::Slab;
use crate::hold::window::Window;
use crate::objects::cohort::Current;
use crate::objects::egress::{Constants, Egress, LastSent};
use crate::objects::leg::Leg;
use crate::send::head::{Head, Heads};
use crate::send::seal::seal;
use crate::worker::{Now, Worker};

/// Longest UDP payload that is ever sent: an Ethernet MTU less IPv6 and UDP headers.
pub(crate) const LONGEST_DATAGRAM: usize = 1452;
/// Payload bytes that may be patched: the longest descriptor lies within.
const PREFIX_BYTES: usize = 16;
/// Offset of a field that a descriptor does not have.
pub(crate) const NO_FIELD: u8 = 0xff;

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

/// Whom a packet goes to.
pub(crate) struct Receiver<'w> {
    pub(crate) egress: &'w mut Egress,
    pub(crate) leg: &'w mut Leg,
    pub(crate) durable: &'w EgressDurable,
    pub(crate) segment: &'w Segment,
    pub(crate) dscp: u8,
}

impl<'w> Receiver<'w> {
    /// The receiver behind an egress stream, if all of it is there.
    #[inline]
    pub(crate) fn of(
        egress_slot: u32,
        tables: (&'w mut Slab<Egress>, &'w mut Slab<Leg>, &'w Segment),
        dscp: u8,
    ) -> Option<Self> {
        let (egresses, legs, segment) = tables;
        let egress = egresses.get_mut(egress_slot)?;
        let leg = legs.get_mut(egress.leg)?;
        let durable = segment.egress(egress.subscription.slot)?;
        Some(Self { egress, leg, durable, segment, dscp })
    }

    /// Whether its packets are worth gathering (see [`crate::send::lanes`]).
    #[inline]
    pub(crate) fn has_lanes(&self) -> bool {
        self.leg.tx.as_ref().is_some_and(TxContext::has_lanes)
    }
}

impl<'s> Packet<'s> {
    pub(crate) fn of(current: Current, stored: Stored<'s>) -> Self {
        let Current { number, is_late, .. } = current;
        Self { number, is_late, head: stored.head(), info: stored.info(), stored }
    }
}

impl Worker {
    /// Sends a packet to a receiver with a cursor of its own.
    pub(crate) fn send_packet<P: Port>(
        &mut self,
        port: &mut P,
        egress_slot: u32,
        packet: &Packet<'_>,
        now: Now,
    ) -> Outcome {
        let Self { segment, egresses, legs, config, .. } = self;
        let Some(mut receiver) = Receiver::of(egress_slot, (egresses, legs, segment), config.dscp) else {
            return Outcome::Skipped(SkipReason::MemberLeft);
        };
        if port.tx_room() == 0 {
            return Outcome::Full;
        }
        send_to(port, &mut receiver, packet, &mut Heads::new(), now)
    }
}

/// Sends a packet to a receiver. The port has room, unless the one that serves this path alone has none.
#[inline]
pub(crate) fn send_to<P: Port>(
    port: &mut P,
    receiver: &mut Receiver<'_>,
    packet: &Packet<'_>,
    heads: &mut Heads,
    now: Now,
) -> Outcome {
    let Admitted { path, index, head } = match admit(port, receiver, packet, heads, now) {
        Ok(admitted) => admitted,
        Err(reason) => return Outcome::Skipped(reason),
    };
    let Some(tx) = receiver.leg.tx.as_ref() else { return Outcome::Skipped(SkipReason::NoKeys) };
    let Some(frame) = port.reserve(path, head.bound()) else {
        return Outcome::Skipped(refused(port, path, head.bound()));
    };
    let Some(last) = spend(receiver, packet, index) else { return Outcome::Skipped(SkipReason::NumberSpent) };
    let Some(written) = write_media(frame, receiver.egress, head, packet, index) else {
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
        receiver.egress.last = last;
    }
    note_sent(receiver, packet, len);
    Outcome::Sent(len)
}

/// A packet that a receiver may have.
pub(crate) struct Admitted<'h> {
    pub(crate) path: PathSlot,
    pub(crate) index: u64,
    pub(crate) head: &'h Head,
}

/// Whether a receiver may have a packet: where it goes, under which number, with which head.
#[inline]
pub(crate) fn admit<'h, P: Port>(
    port: &mut P,
    receiver: &mut Receiver<'_>,
    packet: &Packet<'_>,
    heads: &'h mut Heads,
    now: Now,
) -> Result<Admitted<'h>, SkipReason> {
    let Receiver { egress, leg, durable, segment, dscp } = receiver;
    let path = leg.open_path(segment, *dscp, port).ok_or(SkipReason::NoPath)?;
    if leg.tx.is_none() {
        return Err(SkipReason::NoKeys);
    }
    let index = packet.number.wrapping_add(egress.constants.seq);
    let window = Window { top: &durable.next_index, bits: &durable.spent };
    let is_fresh = index >= durable.next_index.load(core::sync::atomic::Ordering::Relaxed);
    let may_take = is_fresh || (packet.is_late && window.is_unused(index));
    if packet.number < egress.first_number || !may_take {
        return Err(SkipReason::NumberSpent);
    }
    if index > MAX_RTP_INDEX {
        return Err(SkipReason::CipherRefused);
    }
    let head = heads.head(egress, packet, now).filter(|head| head.bound() <= LONGEST_DATAGRAM);
    Ok(Admitted { path, index, head: head.ok_or(SkipReason::TooLong)? })
}

/// Why a port lends no frame: it does not know the path, or the one that serves it alone is full: nobody else waits for that one.
pub(crate) fn refused<P: Port>(port: &mut P, path: PathSlot, len: usize) -> SkipReason {
    if port.room_for(path, len) == 0 { SkipReason::TxFull } else { SkipReason::NoPath }
}

/// CONTRACTS 3 of the design: the number is spent here, whatever happens to the frame. What is sent last then; nothing where
/// the number was spent before.
#[inline]
pub(crate) fn spend(receiver: &Receiver<'_>, packet: &Packet<'_>, index: u64) -> Option<LastSent> {
    let durable = receiver.durable;
    if !(Window { top: &durable.next_index, bits: &durable.spent }).take_next(index) {
        return None;
    }
    let last = last_of(receiver.egress, packet);
    if !packet.is_late {
        publish::store_u64(&durable.last, last_word(&last));
    }
    Some(last)
}

/// Counts a packet that was committed.
#[inline]
pub(crate) fn note_sent(receiver: &mut Receiver<'_>, packet: &Packet<'_>, len: usize) {
    let Receiver { leg, durable, .. } = receiver;
    bump(&durable.packets);
    add(&durable.octets, u64::from(packet.head.payload_len));
    leg.unsaid_packets = leg.unsaid_packets.saturating_add(1);
    leg.unsaid_bytes = leg.unsaid_bytes.saturating_add(len as u64);
}

/// Goes the way of [`send_to`] for a packet that this receiver has had, in vain: the frame is not committed, no number is taken,
/// and what is sealed lies in `scratch`, under the number that the packet had. Nothing where it has not had it.
pub(crate) fn rehearse_to<P: Port>(
    port: &mut P,
    receiver: &mut Receiver<'_>,
    packet: &Packet<'_>,
    (heads, scratch): (&mut Heads, &mut [u8]),
    now: Now,
) -> Option<()> {
    let Receiver { egress, leg, durable, segment, dscp } = receiver;
    let path = leg.open_path(segment, *dscp, port)?;
    let tx = leg.tx.as_ref()?;
    let index = packet.number.wrapping_add(egress.constants.seq);
    if packet.number < egress.first_number || index >= durable.next_index.load(core::sync::atomic::Ordering::Relaxed) {
        return None;
    }
    let head = heads.head(egress, packet, now).filter(|head| head.bound() <= LONGEST_DATAGRAM)?;
    let identity =
        Identity { ssrc: egress.ssrc, pt: egress.format.pt, codec: egress.format.codec, index, original: None };
    let frame = port.reserve(path, head.bound())?;
    write_start(frame, egress, head, &egress.constants, packet, identity)?;
    let written = write_start(scratch, egress, head, &egress.constants, packet, identity)?;
    seal(tx, index, scratch, written, Shared(packet.stored.payload().slice(written.of_payload))).ok()?;
    Some(())
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

/// Writes the start of a packet of the stream itself.
#[inline]
pub(crate) fn write_media(
    frame: &mut [u8],
    egress: &Egress,
    head: &Head,
    packet: &Packet<'_>,
    index: u64,
) -> Option<Written> {
    let identity =
        Identity { ssrc: egress.ssrc, pt: egress.format.pt, codec: egress.format.codec, index, original: None };
    write_start(frame, egress, head, &egress.constants, packet, identity)
}

/// Writes header, original sequence number and patched prefix.
#[inline]
pub(crate) fn write_start(
    frame: &mut [u8],
    egress: &Egress,
    head: &Head,
    constants: &Constants,
    packet: &Packet<'_>,
    identity: Identity,
) -> Option<Written> {
    let head_len = head.write(frame, egress, identity, packet.info.rtp_ts.wrapping_add(constants.rtp_ts))?;
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
