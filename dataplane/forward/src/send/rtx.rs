// SPDX-License-Identifier: Apache-2.0
//! NACK answered from the store (RFC 4588, MEDIA_RULES G11): number → stretch → cohort map → log slot. No packet is kept per
//! receiver; the retransmission has an SSRC and numbers of its own, so that no (key, SSRC, index) is used twice (G12).

use std::sync::Arc;

use dataplane_abi::codec::NO_PT;
use dataplane_abi::durable::EgressDurable;
use dataplane_abi::ids::IngressId;
use dataplane_abi::limits::SEGMENTS;
use dataplane_abi::store::packet_flags;
use dataplane_io::port::Port;
use dataplane_shm::publish;
use dataplane_srtp::MAX_RTP_INDEX;
use dataplane_wire::seq;

use crate::counting::{bump, read};
use crate::objects::egress::{Constants, Egress, Format, Stretch};
use crate::objects::gate::Gate;
use crate::send::head::Head;
use crate::send::rewrite::{Identity, Packet, Shared, write_start};
use crate::send::tile::Progress;
use crate::worker::{Now, Worker};

/// A number is sent again at most so often, and not within the round trip.
const TRIES: u8 = 6;
const GAP_MS_MIN: u32 = 20;
const GAP_MS_MAX: u32 = 100;
/// Requests looked at in one tile.
const REQUESTS: usize = 128;

/// One number that a receiver misses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RtxRequest {
    pub(crate) egress: u32,
    pub(crate) seq: u16,
}

/// Where an egress number came from.
struct Sent {
    ingress: IngressId,
    /// Of the cohort.
    generation: u32,
    constants: Constants,
    format: Format,
    number: u64,
}

impl Worker {
    pub(crate) fn send_retransmissions<P: Port>(&mut self, port: &mut P, now: Now, progress: &mut Progress) {
        for _ in 0..REQUESTS {
            if progress.is_done() {
                return;
            }
            let Some(request) = self.rtx.pop() else { return };
            self.step();
            match self.retransmit(port, request, now) {
                Some(Ok(len)) => {
                    progress.committed(len);
                    self.count(|counters| bump(&counters.rtx_sent));
                }
                Some(Err(())) => {
                    progress.is_full = true;
                    self.rtx.push_front(request);
                    return;
                }
                None => {
                    self.count(|counters| bump(&counters.rtx_missed));
                }
            }
        }
    }

    /// Gives the gate of a stream back whose receiver misses nothing.
    pub(crate) fn drop_idle_gate(&mut self, egress_slot: u32, now: Now) {
        let Self { egresses, gates, .. } = self;
        let Some(egress) = egresses.get_mut(egress_slot) else { return };
        if egress.gate.get(gates).is_some_and(|gate| gate.is_idle(millis(now))) {
            egress.gate.forget(gates);
        }
    }

    /// The length sent, or `Err` where the port is full, or nothing where it cannot or may not be sent again.
    fn retransmit<P: Port>(&mut self, port: &mut P, request: RtxRequest, now: Now) -> Option<Result<usize, ()>> {
        let segment = Arc::clone(&self.segment);
        let leg_slot = self.egresses.get(request.egress)?.leg;
        let path = self.active_path(leg_slot, port)?;
        let egress = self.egresses.get_mut(request.egress).filter(|egress| egress.rtx_ssrc != 0)?;
        let leg = self.legs.get_mut(leg_slot)?;
        let tx = leg.tx.as_ref()?;
        let durable = segment.egress(egress.subscription.slot)?;
        if port.tx_room() == 0 {
            return Some(Err(()));
        }
        let rtt_us = segment.transport(leg.transport.slot).map_or(0, |transport| read(&transport.rtt_us));
        let gap_ms = u32::try_from(rtt_us / 1000).unwrap_or(GAP_MS_MAX).clamp(GAP_MS_MIN, GAP_MS_MAX);
        let now_ms = millis(now);
        let sent = sent_as(egress, durable, request.seq).filter(|sent| sent.format.rtx_pt < NO_PT)?;
        let cohort = self.cohort_at.get(sent.ingress.index())?.checked_sub(1)?;
        let cohort = self.cohorts.get(cohort).filter(|cohort| cohort.generation == sent.generation)?;
        let ext_seq = cohort.numbers.ext_seq(&self.maps, sent.number)?;
        let stored = segment.log_reader(cohort.log)?.get(ext_seq)?;
        if stored.info().flags & packet_flags::PADDING != 0
            || !egress.gate.get_or_make(&mut self.gates, Gate::new)?.may_pass(request.seq, now_ms, gap_ms, TRIES)
        {
            return None;
        }
        let packet = Packet { number: sent.number, is_late: true, head: stored.head(), info: stored.info(), stored };
        let index = read(&durable.rtx_next);
        if index > MAX_RTP_INDEX {
            return None;
        }
        let Format { codec, rtx_pt: pt, .. } = sent.format;
        let identity = Identity { ssrc: egress.rtx_ssrc, pt, codec, index, original: Some(request.seq) };
        let head = Head::build(egress, &packet, now)?;
        let frame = port.reserve(path, head.bound())?;
        // CONTRACTS 3 of the design: spent before it can be seen.
        publish::store_u64(&durable.rtx_next, index.saturating_add(1));
        let written = write_start(frame, egress, &head, &sent.constants, &packet, identity)?;
        let rest = Shared(packet.stored.payload().slice(written.of_payload));
        let len = tx.protect_rtp(index, frame, written.head_len, written.in_place, rest).ok()?;
        if !packet.stored.still_valid() {
            return None;
        }
        port.commit(len);
        bump(&durable.retransmitted);
        leg.unsaid_packets = leg.unsaid_packets.saturating_add(1);
        leg.unsaid_bytes = leg.unsaid_bytes.saturating_add(len as u64);
        Some(Ok(len))
    }
}

/// Modulo 2^32: no gate is kept that long.
fn millis(now: Now) -> u32 {
    u32::try_from((now.mono_ns / 1_000_000) & u64::from(u32::MAX)).unwrap_or(0)
}

/// How an egress number was sent: by the newest stretch that begins at or before it.
fn sent_as(egress: &Egress, durable: &EgressDurable, wire: u16) -> Option<Sent> {
    let next = read(&durable.next_index);
    // Where the peer's number lies before the first circle's beginning, `unroll` places it ahead of everything sent.
    let index = seq::unroll(next.checked_sub(1)?, wire);
    if index >= next {
        return None;
    }
    let count = read(&durable.segment_count);
    let mut left_out = None;
    for back in 1..=count.min(SEGMENTS as u64) {
        let at = usize::try_from((count - back) % SEGMENTS as u64).ok()?;
        let stored = durable.segments.get(at)?;
        let first = read(&stored.first);
        if left_out == Some(index) {
            return None;
        }
        // A predecessor's stretches name numbers of its cohorts, which nobody has.
        let Stretch { format, leaves_gap } = egress.stretch(at)?;
        if first != 0 && index >= first {
            let cohort = read(&stored.cohort);
            let constants = Constants::from_words(read(&stored.seq_offset), read(&stored.constants));
            return Some(Sent {
                ingress: IngressId(u32::try_from(cohort & u64::from(u32::MAX)).ok()?),
                generation: u32::try_from(cohort >> 32).ok()?,
                constants,
                format,
                number: index.wrapping_sub(constants.seq),
            });
        }
        left_out = first.checked_sub(1).filter(|_| leaves_gap);
    }
    None
}
