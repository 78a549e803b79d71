// SPDX-License-Identifier: Apache-2.0
//! The RTP header of a packet, built once per tile for all receivers that agreed on the same extension ids; what differs
//! between them is patched in: payload type, sequence number, timestamp, SSRC and the MID.

use dataplane_abi::limits::{EGRESS_DATAGRAM_BYTES, EXTENSIONS};
use dataplane_abi::store::{STORED_EXTENSIONS, packet_flags};
use dataplane_wire::ext::{AbsSendTime, ExtKind};
use dataplane_wire::rtp::HeaderWriter;
use dataplane_wire::seq;

use crate::objects::egress::Egress;
use crate::send::rewrite::{Identity, Packet};
use crate::worker::Now;

const FIXED_HEADER: usize = 12;
const EXTENSION_HEADER: usize = 4;
/// Longest tag of any profile.
const TAG_BYTES: usize = 16;
const ELEMENTS: usize = STORED_EXTENSIONS + 2;
/// Longest header: the fixed one, the block's, and elements of 16 bytes with heads of two, padded.
const HEAD_BYTES: usize = (FIXED_HEADER + EXTENSION_HEADER + ELEMENTS * 18).next_multiple_of(4);
/// What is copied at once where it suffices: a cache line.
const USUAL_BYTES: usize = 64;
const MID_BYTES: usize = 16;
const MARKER: u8 = 0x80;

/// Heads of one packet that are kept: kinds of browsers that a room usually has.
const WAYS: usize = 4;

/// What a head depends on besides the packet and the time.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    extension_ids: [u8; EXTENSIONS],
    mid_len: u8,
}

impl Shape {
    const fn of(egress: &Egress) -> Self {
        Self { extension_ids: egress.extension_ids, mid_len: egress.mid_len }
    }

    fn id(&self, kind: ExtKind) -> u8 {
        self.extension_ids.get(kind as usize).copied().unwrap_or(0)
    }
}

/// A header with everything in it that receivers share.
pub(crate) struct Head {
    shape: Shape,
    bytes: [u8; HEAD_BYTES],
    len: usize,
    /// Where the MID's bytes are; 0 = it has none.
    mid_at: usize,
    marker: u8,
    /// An upper bound of the datagram's length.
    bound: usize,
}

impl Head {
    /// Builds the header of a packet for receivers such as `egress`.
    pub(crate) fn build(egress: &Egress, packet: &Packet<'_>, now: Now) -> Option<Self> {
        let shape = Shape::of(egress);
        let send_time = AbsSendTime::from_raw(u32::try_from((now.ntp >> 14) & 0x00ff_ffff).ok()?).emit();
        let mid = [0; MID_BYTES];
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
        put(shape.id(ExtKind::Mid), mid.get(..usize::from(shape.mid_len))?);
        put(shape.id(ExtKind::AbsSendTime), &send_time);
        let bound = bound(egress, packet);
        let is_short = bound <= EGRESS_DATAGRAM_BYTES;
        for at in (0..usize::from(packet.head.extension_count).min(STORED_EXTENSIONS)).filter(|_| is_short) {
            let kind = packet.head.extension_codes.get(at).copied().and_then(ExtKind::from_u8)?;
            let len = usize::from(*packet.head.extension_lens.get(at)?);
            put(shape.id(kind), packet.head.extensions.get(at)?.get(..len)?);
        }
        let mut bytes = [0; HEAD_BYTES];
        let listed = elements.get(..count)?.iter().copied();
        let emitted = HeaderWriter::default().emit(&mut bytes, listed).ok()?;
        let has_mid = shape.id(ExtKind::Mid) != 0 && shape.mid_len != 0;
        let mid_at = if has_mid { usize::from(*emitted.element_offsets.first()?) } else { 0 };
        let marker = if packet.info.flags & packet_flags::MARKER != 0 { MARKER } else { 0 };
        Some(Self { shape, bytes, len: emitted.header_len, mid_at, marker, bound })
    }

    /// An upper bound of the datagram's length, whatever is in front of the payload and behind it.
    pub(crate) const fn bound(&self) -> usize {
        self.bound
    }

    /// Writes the header of one receiver; its length. Nothing where the frame is too short.
    #[inline]
    pub(crate) fn write(&self, frame: &mut [u8], egress: &Egress, identity: Identity, rtp_ts: u32) -> Option<usize> {
        match (frame.first_chunk_mut::<USUAL_BYTES>(), self.bytes.first_chunk::<USUAL_BYTES>()) {
            (Some(to), Some(from)) if self.len <= USUAL_BYTES => *to = *from,
            _ => frame.get_mut(..self.len)?.copy_from_slice(self.bytes.get(..self.len)?),
        }
        if self.mid_at != 0 {
            let mid = egress.mid();
            let place = frame.get_mut(self.mid_at..)?.get_mut(..mid.len())?;
            // A MID has a byte or two.
            for (to, from) in place.iter_mut().zip(mid) {
                *to = *from;
            }
        }
        let [first, second, s0, s1, t0, t1, t2, t3, c0, c1, c2, c3] = frame.first_chunk_mut::<FIXED_HEADER>()?;
        let _ = first;
        *second = self.marker | (identity.pt & !MARKER);
        [*s0, *s1] = seq::low16(identity.index).to_be_bytes();
        [*t0, *t1, *t2, *t3] = rtp_ts.to_be_bytes();
        [*c0, *c1, *c2, *c3] = identity.ssrc.to_be_bytes();
        Some(self.len)
    }
}

/// An upper bound of the datagram's length.
fn bound(egress: &Egress, packet: &Packet<'_>) -> usize {
    let kept = usize::from(packet.head.extension_count);
    let lens = packet.head.extension_lens.iter().take(kept).map(|len| usize::from(*len).saturating_add(2));
    let own = usize::from(egress.mid_len).saturating_add(2).saturating_add(5);
    let extensions = lens.fold(own, usize::saturating_add).next_multiple_of(4).saturating_add(EXTENSION_HEADER);
    let plain = FIXED_HEADER.saturating_add(extensions).saturating_add(packet.stored.payload().len());
    plain.saturating_add(2).saturating_add(TAG_BYTES)
}

/// The heads of one packet in one tile.
pub(crate) struct Heads {
    ways: [Option<Head>; WAYS],
    next: usize,
}

impl Heads {
    pub(crate) const fn new() -> Self {
        Self { ways: [const { None }; WAYS], next: 0 }
    }

    /// Forgets the heads of another packet or time.
    pub(crate) fn clear(&mut self) {
        for way in &mut self.ways {
            *way = None;
        }
        self.next = 0;
    }

    /// The head for a receiver, built where nobody before it had the same.
    #[inline]
    pub(crate) fn head(&mut self, egress: &Egress, packet: &Packet<'_>, now: Now) -> Option<&Head> {
        let shape = Shape::of(egress);
        let fits = |way: &Option<Head>| way.as_ref().is_some_and(|head| head.shape == shape);
        let at = match self.ways.iter().position(fits) {
            Some(at) => at,
            None => self.build(egress, packet, now)?,
        };
        self.ways.get(at)?.as_ref()
    }

    #[cold]
    fn build(&mut self, egress: &Egress, packet: &Packet<'_>, now: Now) -> Option<usize> {
        let at = self.next % WAYS;
        *self.ways.get_mut(at)? = Some(Head::build(egress, packet, now)?);
        self.next = at.saturating_add(1);
        Some(at)
    }
}
