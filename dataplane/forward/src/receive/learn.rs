// SPDX-License-Identifier: Apache-2.0
//! Which stream an unknown SSRC is: learned from MID and RID (RFC 8852, RFC 9143), else from a payload type that only one track
//! has, and only from packets whose tag verifies. A forged SSRC costs no memory.

use dataplane_abi::codec::NO_PT;
use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::ids::IngressId;
use dataplane_abi::intent::TrackIntent;
use dataplane_abi::limits::ENCODINGS;
use dataplane_io::port::RxMeta;
use dataplane_srtp::ReplayWindow;
use dataplane_wire::ext::ExtKind;
use dataplane_wire::rtp::RtpHeader;

use crate::changes::reset_windows;
use crate::keys::Durable;
use crate::objects::ingress::Reception;
use crate::receive::classify::Fate;
use crate::receive::ingress::{Opened, open_log, reason};
use crate::worker::{Now, Worker};

/// What the extensions of a packet say about its stream.
#[derive(Clone, Copy, Default)]
struct Names<'a> {
    mid: Option<&'a [u8]>,
    rid: Option<&'a [u8]>,
    repaired_rid: Option<&'a [u8]>,
}

impl Worker {
    /// An SSRC that is bound to no stream yet.
    pub(crate) fn learn(
        &mut self,
        leg_slot: u32,
        header: &RtpHeader<'_>,
        bytes: &[u8],
        meta: &RxMeta,
        now: Now,
    ) -> Fate {
        let Some(leg) = self.legs.get(leg_slot) else { return Fate::Dropped(DropReason::StaleTransport) };
        let Some(rx) = leg.rx.as_ref() else { return Fate::Dropped(DropReason::NoKeys) };
        // RFC 3711 §3.3.1: the first packet of an SSRC has roll-over count 0.
        let index = u64::from(header.seq());
        let opened = match rx.unprotect_rtp(bytes, index, self.scratch.as_mut_slice()) {
            Ok(opened) => opened,
            Err(error) => return Fate::Dropped(reason(error)),
        };
        let mut names = Names::default();
        for element in header.extensions() {
            match leg.extension_kind(element.id) {
                Some(ExtKind::Mid) => names.mid = Some(element.data),
                Some(ExtKind::Rid) => names.rid = Some(element.data),
                Some(ExtKind::RepairedRid) => names.repaired_rid = Some(element.data),
                _ => {}
            }
        }
        let transport = leg.transport;
        let Some((id, is_rtx)) = self.match_stream(transport.slot, header.pt(), names) else {
            self.note_transport_seq(leg_slot, header, meta);
            return Fate::Dropped(DropReason::UnknownSsrc);
        };
        let Some(ingress_slot) = self.ingress_of(id) else { return Fate::Dropped(DropReason::UnknownSsrc) };
        self.rebind(leg_slot, ingress_slot, header.ssrc(), is_rtx);
        if is_rtx {
            return self.retransmission(leg_slot, ingress_slot, bytes, meta, now);
        }
        self.store_first(leg_slot, ingress_slot, bytes, opened.payload_len, (index, meta), now)
    }

    /// Finds the encoding that a packet names, among the tracks of its transport.
    fn match_stream(&self, transport_slot: u32, pt: u8, names: Names<'_>) -> Option<(IngressId, bool)> {
        let mut found = None;
        for track_slot in self.tracks_of.of(transport_slot) {
            let Some(track) = self.segment.intent_track(track_slot) else { continue };
            let is_rtx = track.rtx_pt != NO_PT && pt == track.rtx_pt;
            if pt != track.pt && !is_rtx {
                continue;
            }
            let mid = track.mid.get(..usize::from(track.mid_len)).unwrap_or(&[]);
            if names.mid.is_some_and(|named| named != mid) {
                continue;
            }
            let rid = if is_rtx { names.repaired_rid.or(names.rid) } else { names.rid };
            let Some(encoding) = encoding_of(&track, rid) else { continue };
            if found.is_some() {
                // Two tracks fit: without a MID there is no telling.
                return None;
            }
            found = Some((IngressId::of(track_slot, encoding), is_rtx));
        }
        found
    }

    /// Binds an SSRC to a stream; a stream that had another one begins anew.
    fn rebind(&mut self, leg_slot: u32, ingress_slot: u32, ssrc: u32, is_rtx: bool) {
        let segment = self.segment.clone();
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else { return };
        let Some(durable) = segment.ingress(ingress.id) else { return };
        let cell = if is_rtx { &durable.rtx_ssrc } else { &durable.ssrc };
        let before = cell.load(core::sync::atomic::Ordering::Relaxed);
        if before != 0 && before != ssrc {
            if let Some(transport) = self.legs.get(leg_slot).map(|leg| leg.transport) {
                self.sources.remove(&(transport.slot, before));
            }
            if !is_rtx {
                if let Some(log) = ingress.log.take() {
                    log.close(&mut self.chunks);
                }
                ingress.missing.clear();
                ingress.reception = Reception::default();
                ingress.last_rtp_ts = None;
                ingress.keyframe_rtp_ts = None;
            }
            reset_windows(durable);
        }
        self.bind_source(leg_slot, ingress_slot, ssrc, is_rtx);
    }

    /// Stores the packet that taught us its SSRC: its plaintext lies in the scratch buffer.
    fn store_first(
        &mut self,
        leg_slot: u32,
        ingress_slot: u32,
        bytes: &[u8],
        payload_len: usize,
        (index, meta): (u64, &RxMeta),
        now: Now,
    ) -> Fate {
        let segment = self.segment.clone();
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let Some(durable) = segment.ingress(ingress.id) else { return Fate::Dropped(DropReason::StaleTransport) };
        if ingress.log.is_none() {
            ingress.log = open_log(&mut self.chunks, ingress, durable);
        }
        let Some(log) = ingress.log.as_mut() else { return Fate::Dropped(DropReason::StoreFull) };
        let Some(room) = log.reserve(&mut self.chunks, bytes.len()) else {
            return Fate::Dropped(DropReason::StoreFull);
        };
        let window = ReplayWindow { top: &durable.top, bits: &durable.bits };
        let copied = room.get_mut(..payload_len).zip(self.scratch.get(..payload_len));
        let Some((to, from)) = copied else { return self.give_up_room(ingress_slot, DropReason::StoreFull) };
        to.copy_from_slice(from);
        if let Err(replay) = window.accept_with(index, &Durable) {
            log.abandon();
            return Fate::Dropped(reason(replay.into()));
        }
        let opened = Opened { ext_seq: index, payload_len, is_repaired: false };
        self.store(leg_slot, ingress_slot, bytes, &opened, meta, now)
    }
}

/// The encoding that a RID names; without a RID the only one.
fn encoding_of(track: &TrackIntent, rid: Option<&[u8]>) -> Option<u8> {
    let encodings = track.encodings.iter().take(usize::from(track.encoding_count).min(ENCODINGS));
    match rid {
        Some(rid) => {
            let named = |known: &dataplane_abi::intent::EncodingIntent| {
                known.rid.get(..usize::from(known.rid_len)) == Some(rid)
            };
            let mut encodings = (0_u8..).zip(encodings);
            encodings.find(|(_, known)| named(known)).map(|(encoding, _)| encoding).or_else(|| {
                (track.encoding_count == 1 && track.encodings.first().is_some_and(|known| known.rid_len == 0))
                    .then_some(0)
            })
        }
        None => (track.encoding_count == 1).then_some(0),
    }
}
