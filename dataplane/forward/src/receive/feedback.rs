// SPDX-License-Identifier: Apache-2.0
//! SRTCP: terminated per leg (MEDIA_RULES G10). Receivers' NACKs become retransmission requests, PLI and FIR become one
//! wish at the source's owner, reports become round trips and loss.

use core::num::NonZeroU64;
use std::sync::Arc;

use dataplane_abi::drop_reason::DropReason;
use dataplane_abi::durable::{RtcpSenderDurable, TransportDurable};
use dataplane_abi::ids::IngressId;
use dataplane_abi::ring::event_kind;
use dataplane_io::port::RxMeta;
use dataplane_shm::publish;
use dataplane_wire::rtcp::{Compound, Packet, ReportBlock, Sr};

use crate::counting::{add, bump, read, set};
use crate::hold::window::Window;
use crate::objects::egress::Feed;
use crate::receive::classify::Fate;
use crate::receive::ingress::reason;
use crate::reported::Reported;
use crate::send::rtx::RtxRequest;
use crate::worker::{Now, Worker};

/// Numbers of one NACK that are looked at: more is a case for a keyframe, and one receiver must not fill the queue.
const NACKS_AT_ONCE: usize = 256;

impl Worker {
    pub(crate) fn feedback(&mut self, leg_slot: u32, bytes: &[u8], meta: &RxMeta, now: Now) -> Fate {
        let segment = Arc::clone(&self.segment);
        let Some(leg) = self.legs.get(leg_slot) else { return Fate::Dropped(DropReason::StaleTransport) };
        let Some(rx) = leg.rtcp.as_ref() else { return Fate::Dropped(DropReason::NoKeys) };
        let Some(durable) = segment.transport(leg.transport.slot) else {
            return Fate::Dropped(DropReason::StaleTransport);
        };
        let mut plain = std::mem::take(&mut self.rtcp_in);
        let verdict = match rx.unprotect_rtcp(bytes, plain.as_mut_slice()) {
            Err(error) => {
                bump(&durable.auth_failures);
                let reason = reason(error);
                Fate::Dropped(if reason == DropReason::RtpMalformed { DropReason::RtcpMalformed } else { reason })
            }
            Ok(opened) => {
                let sender = dataplane_wire::rtcp::sender_ssrc(bytes).unwrap_or(0);
                if accept(durable, sender, opened.index) {
                    bump(&durable.rx_packets);
                    add(&durable.rx_bytes, bytes.len() as u64);
                    self.compound(leg_slot, plain.get(..opened.len).unwrap_or(&[]), meta, now)
                } else {
                    Fate::Dropped(DropReason::Replayed)
                }
            }
        };
        self.rtcp_in = plain;
        verdict
    }

    fn compound(&mut self, leg_slot: u32, plain: &[u8], meta: &RxMeta, now: Now) -> Fate {
        let Ok(compound) = Compound::parse(plain) else { return Fate::Dropped(DropReason::RtcpMalformed) };
        for raw in compound.packets() {
            // A packet that makes no sense spoils itself, not its neighbours.
            let Ok(packet) = raw else { continue };
            match packet {
                Packet::Sr(sr) => {
                    self.sender_report(leg_slot, &sr, meta, now);
                    sr.reports().for_each(|block| self.report_block(leg_slot, &block, now));
                }
                Packet::Rr(rr) => rr.reports().for_each(|block| self.report_block(leg_slot, &block, now)),
                Packet::Bye(bye) => bye.ssrcs().for_each(|ssrc| self.bye(leg_slot, ssrc, now)),
                Packet::Nack(nack) => self.nack(leg_slot, nack.media_ssrc, nack.lost()),
                Packet::Pli(pli) => self.keyframe_wish(leg_slot, pli.media_ssrc, now),
                Packet::Fir(fir) => fir.entries().for_each(|entry| self.keyframe_wish(leg_slot, entry.ssrc, now)),
                Packet::Sdes(_)
                | Packet::App(_)
                | Packet::Twcc(_)
                | Packet::Remb(_)
                | Packet::Ccfb(_)
                | Packet::Xr(_)
                | Packet::Unknown(_) => {}
            }
        }
        Fate::Consumed
    }

    /// Keeps the publisher's (NTP, RTP) pair, on our NTP clock: one offset per leg, so that its streams stay in sync.
    fn sender_report(&mut self, leg_slot: u32, sr: &Sr<'_>, meta: &RxMeta, now: Now) {
        let segment = Arc::clone(&self.segment);
        let Some(leg) = self.legs.get_mut(leg_slot) else { return };
        let Some(source) = self.sources.get(&(leg.transport.slot, sr.ssrc)) else { return };
        let Some(id) = self.ingresses.get(source.ingress).map(|ingress| ingress.id) else { return };
        let Some(durable) = segment.ingress(id).filter(|_| !source.is_rtx) else { return };
        let age = now.mono_ns.saturating_sub(meta.arrival_ns);
        let arrival_ntp = now.ntp.wrapping_sub(ns_to_ntp(age));
        // Where both clocks agree to the last bit, they differ by that bit from here on.
        let first = || NonZeroU64::new(arrival_ntp.wrapping_sub(sr.ntp)).unwrap_or(NonZeroU64::MIN);
        let offset = leg.ntp_offset.get_or_insert_with(first).get();
        let ntp = sr.ntp.wrapping_add(offset);
        Reported { ntp, rtp_ts: sr.rtp_ts, arrival_ns: meta.arrival_ns }.store(durable);
    }

    /// What a receiver says about one of our streams.
    fn report_block(&mut self, leg_slot: u32, block: &ReportBlock, now: Now) {
        let Some(transport) = self.legs.get(leg_slot).map(|leg| leg.transport) else { return };
        let Some(slot) = self.egress_by_ssrc.get(&(transport.slot, block.ssrc)) else { return };
        let Some(egress) = self.egresses.get(slot) else { return };
        if let Some(durable) = self.segment.egress(egress.subscription.slot) {
            set(&durable.report, u64::from(block.fraction_lost) | (u64::from(block.highest_seq) << 32));
        }
        let round = egress.round_of(block.last_sr);
        let since_us = round.and_then(|round| self.legs.get(leg_slot)?.since_round_us(round, now.mono_ns));
        let Some(since_us) = since_us else { return };
        let delay_us = u64::from(block.delay_since_last_sr).saturating_mul(1_000_000) >> 16;
        let rtt_us = u64::from(since_us).saturating_sub(delay_us);
        if let Some(durable) = self.segment.transport(transport.slot) {
            set(&durable.rtt_us, rtt_us.max(1));
        }
    }

    fn bye(&mut self, leg_slot: u32, ssrc: u32, now: Now) {
        let Some(transport) = self.legs.get(leg_slot).map(|leg| leg.transport) else { return };
        let Some(source) = self.sources.get(&(transport.slot, ssrc)) else { return };
        let Some(id) = self.ingresses.get(source.ingress).map(|ingress| ingress.id) else { return };
        if !source.is_rtx {
            self.tell(event_kind::BYE, transport, now, u64::from(id.0));
        }
    }

    fn nack(&mut self, leg_slot: u32, media_ssrc: u32, lost: impl Iterator<Item = u16>) {
        let Some(transport) = self.legs.get(leg_slot).map(|leg| leg.transport) else { return };
        let Some(egress) = self.egress_by_ssrc.get(&(transport.slot, media_ssrc)) else { return };
        let mut count = 0_u64;
        for seq in lost.take(NACKS_AT_ONCE) {
            count = count.saturating_add(1);
            if !self.rtx.push(RtxRequest { egress, seq }) {
                self.count(|counters| bump(&counters.rtx_missed));
            }
        }
        let durable = self.egresses.get(egress).and_then(|egress| self.segment.egress(egress.subscription.slot));
        if let Some(durable) = durable {
            add(&durable.nacked, count);
        }
    }

    fn keyframe_wish(&mut self, leg_slot: u32, media_ssrc: u32, now: Now) {
        let Some(transport) = self.legs.get(leg_slot).map(|leg| leg.transport) else { return };
        let Some(slot) = self.egress_by_ssrc.get(&(transport.slot, media_ssrc)) else { return };
        let Some(egress) = self.egresses.get(slot) else { return };
        if let Some(durable) = self.segment.egress(egress.subscription.slot) {
            bump(&durable.keyframe_requests);
        }
        let cohort = match egress.feed {
            Feed::Member | Feed::CatchUp => egress.cohort,
            Feed::Idle | Feed::Waiting => egress.waiting,
        };
        let Some(id) = self.cohorts.get(cohort).map(|cohort| cohort.ingress) else { return };
        self.ask_keyframe(id, now);
    }

    /// A wish for a keyframe, from here or from another worker: the source's owner alone throttles and sends.
    pub(crate) fn want_keyframe(&mut self, id: IngressId, _now: Now) {
        let Some(slot) = self.ingress_of(id) else { return };
        let Some(ingress) = self.ingresses.get_mut(slot) else { return };
        if !ingress.keyframe_wanted && self.keyframes.push(slot) {
            ingress.keyframe_wanted = true;
        }
    }
}

/// RFC 3711 §3.3.2: each sender of SRTCP has an index of its own. The senders of a transport are few; a ninth takes the
/// place of the first.
fn accept(durable: &TransportDurable, sender: u32, index: u32) -> bool {
    let wanted = u64::from(sender) | (1 << 32);
    let known = durable.rtcp_senders.iter().find(|kept| read(&kept.ssrc) == wanted);
    let kept = known.or_else(|| {
        let free = durable.rtcp_senders.iter().find(|kept| read(&kept.ssrc) == 0);
        let kept = free.or_else(|| durable.rtcp_senders.first())?;
        begin_sender(kept, wanted);
        Some(kept)
    });
    kept.is_some_and(|kept| Window { top: &kept.top, bits: &kept.bits }.take(u64::from(index)))
}

fn begin_sender(kept: &RtcpSenderDurable, ssrc: u64) {
    publish::store_u64(&kept.ssrc, 0);
    publish::store_u64(&kept.top, 0);
    for word in &kept.bits {
        publish::store_u64(word, 0);
    }
    publish::store_u64(&kept.ssrc, ssrc);
}

/// Nanoseconds as 32.32 fixed point.
pub(crate) fn ns_to_ntp(ns: u64) -> u64 {
    let wide = (u128::from(ns) << 32) / 1_000_000_000;
    u64::try_from(wide & u128::from(u64::MAX)).unwrap_or(0)
}
