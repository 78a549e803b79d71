// SPDX-License-Identifier: Apache-2.0
//! Which stream an unknown SSRC is: learned from MID and RID (RFC 8852, RFC 9143), else from a payload type that only one track
//! has, and only from packets whose tag verifies. A forged SSRC costs no memory.

use core::sync::atomic::AtomicU64;
use std::sync::Arc;

use dataplane_abi::codec::NO_PT;
use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::ids::IngressId;
use dataplane_abi::intent::TrackIntent;
use dataplane_abi::limits::{ENCODINGS, REPLAY_WORDS};
use dataplane_io::port::RxMeta;
use dataplane_srtp::{ReplayWindow, SrtpError};
use dataplane_wire::ext::ExtKind;
use dataplane_wire::rtp::RtpHeader;

use crate::changes::records::{reset_media, reset_rtx};
use crate::counting::read;
use crate::keys::Durable;
use crate::objects::ingress::Reception;
use crate::receive::classify::{Fate, Received};
use crate::receive::ingress::reason;
use crate::worker::{Now, Worker};

/// An SSRC that was heard within this time does not give its stream to another one.
const ALIVE_NS: u64 = 500_000_000;

/// The window of an SSRC of which nothing was received.
static NOTHING: AtomicU64 = AtomicU64::new(0);
static NO_BITS: [AtomicU64; REPLAY_WORDS] = [const { AtomicU64::new(0) }; REPLAY_WORDS];

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
        let Some(rx) = self.media_keys.get(leg.media_keys) else { return Fate::Dropped(DropReason::NoKeys) };
        // RFC 3711 §3.3.1: the first packet of an SSRC has roll-over count 0, or 1 where those before the wrap were lost.
        let window = ReplayWindow { top: &NOTHING, bits: &NO_BITS };
        let first = window.guess(header.seq());
        let mut opened = rx.unprotect_rtp(bytes, first, self.scratch.as_mut_slice()).map(|opened| (first, opened));
        if opened == Err(SrtpError::AuthFailed)
            && let Some(index) = window.guess_alternatives(header.seq()).next()
        {
            opened = rx.unprotect_rtp(bytes, index, self.scratch.as_mut_slice()).map(|opened| (index, opened));
        }
        let (index, opened) = match opened {
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
        if !self.rebind(leg_slot, ingress_slot, header.ssrc(), is_rtx, now) {
            return Fate::Dropped(DropReason::UnknownSsrc);
        }
        if is_rtx {
            return self.retransmission(leg_slot, ingress_slot, bytes, meta, now);
        }
        let segment = Arc::clone(&self.segment);
        let Some(durable) = segment.ingress(id) else { return Fate::Dropped(DropReason::StaleTransport) };
        let window = ReplayWindow { top: &durable.top, bits: &durable.bits };
        if let Err(replay) = window.accept_with(index, &Durable) {
            return Fate::Dropped(reason(replay.into()));
        }
        self.store_scratch(leg_slot, ingress_slot, Received { bytes, meta, now }, (index, opened.payload_len))
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

    /// Binds an SSRC to a stream; a stream that had another one begins anew. False where the other one is still alive: an
    /// authentic packet of an SSRC that was left long ago may be a replay, and must not silence the one in use.
    fn rebind(&mut self, leg_slot: u32, ingress_slot: u32, ssrc: u32, is_rtx: bool, now: Now) -> bool {
        let segment = Arc::clone(&self.segment);
        let Some(ingress) = self.ingresses.get_mut(ingress_slot) else { return false };
        let Some(durable) = segment.ingress(ingress.id) else { return false };
        let cell = if is_rtx { &durable.rtx_ssrc } else { &durable.ssrc };
        let before = cell.load(core::sync::atomic::Ordering::Relaxed);
        if before != 0 && before != ssrc {
            if now.mono_ns.saturating_sub(read(&durable.last_arrival_ns)) < ALIVE_NS {
                return false;
            }
            if let Some(transport) = self.legs.get(leg_slot).map(|leg| leg.transport) {
                self.sources.remove(&(transport.slot, before));
            }
            if is_rtx {
                reset_rtx(durable);
            } else {
                if let Some(log) = ingress.log.take() {
                    log.close(&mut self.chunks);
                }
                ingress.missing.forget(&mut self.missing);
                ingress.reception = Reception::default();
                ingress.last_rtp_ts = None;
                ingress.keyframe_rtp_ts = None;
                reset_media(durable);
            }
        }
        self.bind_source(leg_slot, ingress_slot, ssrc, is_rtx);
        true
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
