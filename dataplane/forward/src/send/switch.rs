// SPDX-License-Identifier: Apache-2.0
//! Entering a cohort: the constants that make its numbers go on from what the receiver saw last (MEDIA_RULES G4, G5, V3, V4).

use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::durable::{EgressDurable, IngressDurable};
use dataplane_abi::limits::SEGMENTS;
use dataplane_abi::store::StoredHead;
use dataplane_shm::publish;
use dataplane_shm::store::{Stored, StoredInfo};
use dataplane_wire::seq;

use crate::counting::read;
use crate::objects::egress::{Constants, Egress, Feed};
use crate::worker::{Now, Worker};

/// Frames per second assumed where a timestamp has to be made up.
const NOMINAL_FPS: u32 = 30;

impl Worker {
    /// Everyone who waits for an entry point enters at this packet, which has this number of the cohort.
    pub(crate) fn admit_waiting(&mut self, cohort_slot: u32, number: u64, stored: &Stored<'_>, now: Now) {
        // Held until everyone is a member, so that the publisher's worker hears of no pause.
        self.attach(cohort_slot, now);
        while let Some(egress) = self.cohorts.get(cohort_slot).and_then(|cohort| cohort.waiting.get(&self.pages, 0)) {
            self.stop_waiting(egress);
            if self.egresses.get(egress).is_some_and(|egress| egress.feed == Feed::Member) {
                self.remove_member(egress);
            }
            self.begin_stretch(egress, cohort_slot, number, stored);
            if !self.add_member(egress, cohort_slot, now) {
                break;
            }
        }
        self.detach(cohort_slot);
    }

    /// Computes the constants for an egress stream that enters a cohort at a packet, and stores the stretch.
    pub(crate) fn begin_stretch(&mut self, egress_slot: u32, cohort_slot: u32, number: u64, stored: &Stored<'_>) {
        let segment = Arc::clone(&self.segment);
        let Some(cohort) = self.cohorts.get(cohort_slot) else { return };
        let (ingress, generation) = (cohort.ingress, cohort.generation);
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return };
        let Some(durable) = segment.egress(egress.subscription.slot) else { return };
        let Some(stream) = segment.ingress(ingress) else { return };
        let source = (ingress, stream.ssrc.load(Ordering::Relaxed));
        let first = first_index(egress, durable);
        let (info, head) = (stored.info(), stored.head());
        let mut constants = Constants { seq: first.wrapping_sub(number), ..egress.constants };
        if egress.source != Some(source) {
            // Two SSRCs of one stream have clocks and reports that are not related.
            let previous = egress.source.filter(|(previous, _)| *previous != ingress);
            let clocks = previous.and_then(|(previous, _)| segment.ingress(previous)).map(|old| (old, stream));
            constants.rtp_ts = rtp_offset(egress, &info, clocks);
            picture_offsets(egress, &head, &mut constants);
        }
        egress.constants = constants;
        egress.first_number = number;
        egress.generation = generation;
        egress.source = Some(source);
        publish::store_u64(&durable.source, u64::from(ingress.0).saturating_add(1));
        store_stretch(durable, first, (u64::from(generation) << 32) | u64::from(ingress.0), constants);
    }
}

/// The first index of a stretch: one is left out where the last frame was incomplete, so that the decoder sees that (G4).
fn first_index(egress: &Egress, durable: &EgressDurable) -> u64 {
    let next = read(&durable.next_index);
    let is_incomplete = egress.kind == MediaKind::Video && egress.last.is_any && !egress.last.is_frame_end;
    next.saturating_add(u64::from(is_incomplete))
}

/// What is added to the source's RTP time so that the receiver's clock goes on (G5).
fn rtp_offset(egress: &Egress, info: &StoredInfo, clocks: Option<(&IngressDurable, &IngressDurable)>) -> u32 {
    if !egress.last.is_any {
        return egress.constants.rtp_ts;
    }
    let passed = u128::from(info.arrival_ns.saturating_sub(egress.last.arrival_ns));
    let ticks = passed.saturating_mul(u128::from(egress.clock_rate)) / 1_000_000_000;
    let by_arrival = egress.last.rtp_ts.wrapping_add(u32::try_from(ticks & 0x7fff_ffff).unwrap_or(0));
    let by_reports = clocks.and_then(|(old, new)| map_by_reports(egress, info.rtp_ts, old, new));
    // Reports that are far from the wall clock are wrong: somebody's clock was set, or they were never right.
    let is_believable = |ts: &u32| seq::diff32(*ts, by_arrival).unsigned_abs() < egress.clock_rate;
    let expected = by_reports.filter(is_believable).unwrap_or(by_arrival);
    let floor = egress.last.rtp_ts.wrapping_add(egress.clock_rate / NOMINAL_FPS);
    let wanted = if seq::newer32(expected, egress.last.rtp_ts) { expected } else { floor };
    wanted.wrapping_sub(info.rtp_ts)
}

/// The receiver's RTP time of the new source's `rtp_ts`, through both sources' sender reports.
fn map_by_reports(egress: &Egress, rtp_ts: u32, old: &IngressDurable, new: &IngressDurable) -> Option<u32> {
    let (old_ntp, new_ntp) = (read(&old.sr_ntp), read(&new.sr_ntp));
    if old_ntp == 0 || new_ntp == 0 {
        return None;
    }
    let rate = i128::from(egress.clock_rate);
    let low = |word: u64| u32::try_from(word & u64::from(u32::MAX)).unwrap_or(0);
    let since_new = i128::from(seq::diff32(rtp_ts, low(read(&new.sr_rtp))));
    // Ticks between the two reports' instants on the old stream's clock.
    let between = i128::from(new_ntp.wrapping_sub(old_ntp).cast_signed()).checked_mul(rate)? >> 32;
    let ticks = u32::try_from((between + since_new).rem_euclid(1 << 32)).ok()?;
    Some(low(read(&old.sr_rtp)).wrapping_add(ticks).wrapping_add(egress.constants.rtp_ts))
}

/// VP8 and VP9 numbers go on at last + 1 (V3, V4, N7).
fn picture_offsets(egress: &Egress, head: &StoredHead, constants: &mut Constants) {
    if !egress.last.is_any {
        return;
    }
    constants.picture_id = egress.last.picture_id.wrapping_add(1).wrapping_sub(head.picture_id);
    constants.tl0 = egress.last.tl0.wrapping_add(1).wrapping_sub(head.tl0);
    constants.keyidx = egress.last.keyidx.wrapping_add(1).wrapping_sub(head.keyidx);
}

/// Appends a stretch to the receiver's list; its first index is stored last.
fn store_stretch(durable: &EgressDurable, first: u64, cohort: u64, constants: Constants) {
    let count = read(&durable.segment_count);
    let Some(place) = durable.segments.get(usize::try_from(count % SEGMENTS as u64).unwrap_or(0)) else { return };
    publish::store_u64(&place.first, 0);
    publish::store_u64(&place.cohort, cohort);
    publish::store_u64(&place.seq_offset, constants.seq);
    publish::store_u64(&place.constants, constants.to_word());
    publish::store_u64(&place.first, first);
    publish::store_u64(&durable.segment_count, count.wrapping_add(1));
}
