// SPDX-License-Identifier: Apache-2.0
//! Durable records: begun for a generation, taken over from a predecessor. The generation is stored last, so that a record
//! is either of its generation in whole or not of it at all. Must never begin a record that is in use: its numbers are spent.

use core::num::NonZeroU32;
use core::sync::atomic::Ordering;

use dataplane_abi::durable::{EgressDurable, IngressDurable, TransportDurable, transport_state};
use dataplane_abi::ids::IngressId;
use dataplane_abi::intent::SubscriptionIntent;
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::SEGMENTS;
use dataplane_shm::{Segment, publish};

use crate::counting::read;
use crate::objects::egress::{Constants, Egress, Origin};
use crate::objects::leg::Leg;
use crate::worker::Now;

/// A record's size as it is written into it.
fn size_of_record<T: Layout>() -> u16 {
    u16::try_from(T::SIZE).unwrap_or(0)
}

/// Finds a leg's path in use and consent in its record.
pub(crate) fn restore_paths(leg: &mut Leg, durable: &TransportDurable) {
    if durable.generation.load(Ordering::Acquire) != leg.transport.generation {
        return;
    }
    let active = durable.active_path.load(Ordering::Relaxed);
    leg.set_active(usize::try_from(active).ok().and_then(|active| active.checked_sub(1)));
    leg.consent_ns = read(&durable.consent_ns);
    leg.set_silent(durable.state.load(Ordering::Relaxed) == transport_state::SILENT);
}

/// Begins a transport's record for the generation that was just claimed; the generation is stored last.
pub(crate) fn begin_transport(durable: &TransportDurable, generation: u32) {
    publish::store_u32(&durable.generation, 0);
    publish::store_u16(&durable.version, TransportDurable::VERSION);
    publish::store_u16(&durable.size, size_of_record::<TransportDurable>());
    let zero64 = [
        &durable.consent_ns,
        &durable.validated_ns,
        &durable.twcc_next,
        &durable.rx_packets,
        &durable.rx_bytes,
        &durable.tx_packets,
        &durable.tx_bytes,
        &durable.auth_failures,
        &durable.rtt_us,
        &durable.srtcp_next,
    ];
    for cell in zero64 {
        publish::store_u64(cell, 0);
    }
    for path in &durable.paths {
        for word in &path.flow {
            publish::store_u64(word, 0);
        }
    }
    for sender in &durable.rtcp_senders {
        publish::store_u64(&sender.ssrc, 0);
        publish::store_u64(&sender.top, 0);
        for word in &sender.bits {
            publish::store_u64(word, 0);
        }
    }
    publish::store_u32(&durable.state, transport_state::WAITING);
    publish::store_u32(&durable.active_path, 0);
    publish::store_u32(&durable.generation, generation);
}

/// Begins the record of a received stream.
pub(crate) fn begin_ingress(durable: &IngressDurable, generation: u32) {
    publish::store_u32(&durable.generation, 0);
    publish::store_u16(&durable.version, IngressDurable::VERSION);
    publish::store_u16(&durable.size, size_of_record::<IngressDurable>());
    publish::store_u32(&durable.ssrc, 0);
    publish::store_u32(&durable.rtx_ssrc, 0);
    reset_media(durable);
    reset_rtx(durable);
    let zero64 = [
        &durable.packets,
        &durable.bytes,
        &durable.repaired,
        &durable.lost,
        &durable.keyframes,
        &durable.keyframe_requests,
        &durable.nacks,
        &durable.log,
        &durable.last_arrival_ns,
        &durable.newest_rtp_ts,
    ];
    for cell in zero64 {
        publish::store_u64(cell, 0);
    }
    publish::store_u32(&durable.generation, generation);
}

/// Forgets what was received: another SSRC has another index (RFC 3711 §3.2.3). The log must be closed before.
pub(crate) fn reset_media(durable: &IngressDurable) {
    let cells = [
        &durable.top,
        &durable.sr_ntp,
        &durable.sr_rtp,
        &durable.sr_arrival_ns,
        &durable.stored_top,
        &durable.keyframe,
        &durable.keyframe_ns,
    ];
    for cell in cells.into_iter().chain(&durable.bits) {
        publish::store_u64(cell, 0);
    }
}

/// Forgets which retransmissions were received.
pub(crate) fn reset_rtx(durable: &IngressDurable) {
    for cell in core::iter::once(&durable.rtx_top).chain(&durable.rtx_bits) {
        publish::store_u64(cell, 0);
    }
}

/// Begins the record of a sent stream. `first` = the first numbers of the stream and of its retransmissions.
pub(crate) fn begin_egress(durable: &EgressDurable, generation: u32, intent: &SubscriptionIntent, first: (u64, u64)) {
    publish::store_u32(&durable.generation, 0);
    publish::store_u16(&durable.version, EgressDurable::VERSION);
    publish::store_u16(&durable.size, size_of_record::<EgressDurable>());
    publish::store_u32(&durable.ssrc, intent.ssrc);
    publish::store_u32(&durable.rtx_ssrc, intent.rtx_ssrc);
    publish::store_u64(&durable.next_index, first.0);
    publish::store_u64(&durable.rtx_next, first.1);
    for word in &durable.spent {
        publish::store_u64(word, u64::MAX);
    }
    let zero64 = [
        &durable.key,
        &durable.last,
        &durable.packets,
        &durable.octets,
        &durable.retransmitted,
        &durable.nacked,
        &durable.keyframe_requests,
        &durable.source,
        &durable.report,
        &durable.segment_count,
    ];
    for cell in zero64 {
        publish::store_u64(cell, 0);
    }
    for segment in &durable.segments {
        publish::store_u64(&segment.first, 0);
    }
    publish::store_u32(&durable.generation, generation);
}

/// Takes a sent stream over from a predecessor: what was sent last, and its newest stretch.
pub(crate) fn resume_egress(egress: &mut Egress, durable: &EgressDurable, segment: &Segment, now: Now) {
    let last = Constants::from_words(0, read(&durable.last));
    egress.last.rtp_ts = last.rtp_ts;
    egress.last.picture_id = last.picture_id;
    egress.last.tl0 = last.tl0;
    egress.last.keyidx = last.keyidx;
    egress.last.arrival_ns = now.mono_ns;
    let Some(newest) = read(&durable.segment_count).checked_sub(1) else { return };
    let newest = usize::try_from(newest % SEGMENTS as u64).ok().and_then(|at| durable.segments.get(at));
    let Some(stretch) = newest else { return };
    egress.constants = Constants::from_words(read(&stretch.seq_offset), read(&stretch.constants));
    egress.source = stretch_origin(durable, read(&stretch.cohort), segment);
    // Nothing was sent where the predecessor died right after it had stored the stretch.
    egress.last.is_any = read(&durable.packets) > 0;
}

/// Whose packets the newest stretch carries; nothing where the predecessor died before it had stored that, or where the
/// source is another one since.
fn stretch_origin(durable: &EgressDurable, cohort: u64, segment: &Segment) -> Option<Origin> {
    let ingress = u32::try_from(cohort & u64::from(u32::MAX)).ok().map(IngressId)?;
    let (stored, generation) = source_of(durable)?;
    let generation = NonZeroU32::new(generation)?;
    let stream = segment.ingress(ingress)?;
    let is_it = stored == ingress && stream.generation.load(Ordering::Acquire) == generation.get();
    is_it.then(|| Origin { ingress, generation, ssrc: stream.ssrc.load(Ordering::Relaxed) })
}

/// The stream that the newest stretch carries, and the generation of its track.
pub(crate) fn source_of(durable: &EgressDurable) -> Option<(IngressId, u32)> {
    let word = read(&durable.source);
    let ingress = u32::try_from(word & u64::from(u32::MAX)).ok()?.checked_sub(1)?;
    Some((IngressId(ingress), u32::try_from(word >> 32).ok()?))
}

/// The inverse of [`source_of`].
pub(crate) fn source_word(origin: Origin) -> u64 {
    (u64::from(origin.generation.get()) << 32) | u64::from(origin.ingress.0).saturating_add(1)
}
