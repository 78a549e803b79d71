// SPDX-License-Identifier: Apache-2.0
//! Retransmissions from the publisher (RFC 4588): unwrapped, and stored as the original that they are.

use std::sync::Arc;

use dataplane_abi::drop_reason::DropReason;
use dataplane_io::port::RxMeta;
use dataplane_srtp::ReplayWindow;
use dataplane_wire::rtp::RtpHeader;
use dataplane_wire::seq;

use crate::counting::read;
use crate::keys::Durable;
use crate::receive::classify::{Fate, Received};
use crate::receive::ingress::{Opened, reason};
use crate::worker::{Now, Worker};

/// The original sequence number in front of the payload.
const OSN_BYTES: usize = 2;

impl Worker {
    pub(crate) fn retransmission(
        &mut self,
        leg_slot: u32,
        ingress_slot: u32,
        bytes: &[u8],
        meta: &RxMeta,
        now: Now,
    ) -> Fate {
        let segment = Arc::clone(&self.segment);
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let Some(durable) = segment.ingress(ingress.id) else { return Fate::Dropped(DropReason::StaleTransport) };
        let Some(rx) = self.legs.get(leg_slot).and_then(|leg| self.media_keys.get(leg.media_keys)) else {
            return Fate::Dropped(DropReason::NoKeys);
        };
        let window = ReplayWindow { top: &durable.rtx_top, bits: &durable.rtx_bits };
        let opened = match rx.receive_rtp(bytes, window, &Durable, self.scratch.as_mut_slice()) {
            Ok(opened) => opened,
            Err(error) => return Fate::Dropped(reason(error)),
        };
        let Ok(header) = RtpHeader::parse(bytes) else { return Fate::Dropped(DropReason::RtpMalformed) };
        let payload = self.scratch.get(..opened.payload_len).unwrap_or(&[]);
        let padding = if header.has_padding() { payload.last().map_or(0, |last| usize::from(*last)) } else { 0 };
        let is_probe = payload.len() < OSN_BYTES.saturating_add(padding) || header.pt() != ingress.rtx_pt;
        let top = read(&durable.top);
        let Some(original) = payload.first_chunk::<OSN_BYTES>().filter(|_| !is_probe && top != 0) else {
            // Padding on the RTX stream probes bandwidth (libwebrtc) and carries nothing.
            self.note_transport_seq(leg_slot, &header, meta);
            return Fate::Consumed;
        };
        let ext_seq = seq::unroll(top.saturating_sub(1), u16::from_be_bytes(*original));
        let media = ReplayWindow { top: &durable.top, bits: &durable.bits };
        let Some(log) = ingress.log.as_mut().filter(|_| media.check(ext_seq).is_ok()) else {
            self.note_transport_seq(leg_slot, &header, meta);
            return Fate::Dropped(DropReason::RtxUseless);
        };
        let Some(room) = log.reserve(&mut self.chunks, bytes.len()) else {
            return Fate::Dropped(DropReason::StoreFull);
        };
        let payload_len = opened.payload_len.saturating_sub(OSN_BYTES);
        let copied = room.get_mut(..payload_len).zip(self.scratch.get(OSN_BYTES..opened.payload_len));
        let Some((to, from)) = copied else { return self.give_up_room(ingress_slot, DropReason::StoreFull) };
        to.copy_from_slice(from);
        if media.accept_with(ext_seq, &Durable).is_err() {
            return self.give_up_room(ingress_slot, DropReason::RtxUseless);
        }
        let opened = Opened { ext_seq, payload_len, is_repaired: true };
        self.store(leg_slot, ingress_slot, Received { bytes, meta, now }, &opened)
    }
}
