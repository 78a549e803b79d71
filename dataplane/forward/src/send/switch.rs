// SPDX-License-Identifier: Apache-2.0
//! Entering a cohort: the constants that make its numbers go on from what the receiver saw last (MEDIA_RULES G4, G5, V3, V4).

use core::num::NonZeroU32;
use core::sync::atomic::Ordering;
use std::sync::Arc;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::durable::{EgressDurable, IngressDurable};
use dataplane_abi::limits::SEGMENTS;
use dataplane_abi::store::StoredHead;
use dataplane_shm::store::{Stored, StoredInfo};
use dataplane_shm::{Segment, publish};
use dataplane_wire::seq;

use crate::changes::records::source_word;
use crate::counting::read;
use crate::objects::egress::{Constants, Egress, Feed, Origin};
use crate::reported::Reported;
use crate::send::rewrite::NO_FIELD;
use crate::worker::{Now, Worker};

/// Frames per second assumed where a timestamp has to be made up.
const NOMINAL_FPS: u32 = 30;
/// An entry may be older than what was sent last by this time (G5).
const BEHIND_MS: i64 = 75;
/// A source that has sent nothing newer for so long has another clock.
const CLOCK_RESET_NS: u64 = 500_000_000;

impl Worker {
    /// Who waits for an entry point enters at this packet, which has this number of the cohort.
    pub(crate) fn admit_waiting(&mut self, cohort_slot: u32, number: u64, stored: &Stored<'_>, now: Now) {
        let segment = Arc::clone(&self.segment);
        let Some(source) = self.origin_of(cohort_slot) else { return };
        // Held until everyone is a member, so that the publisher's worker hears of no pause.
        self.attach(cohort_slot, now);
        let mut at = 0;
        while let Some(egress) = self.cohorts.get(cohort_slot).and_then(|cohort| cohort.waiting.get(&self.pages, at)) {
            if !self.egresses.get(egress).is_some_and(|egress| may_enter(egress, source, &stored.info(), &segment)) {
                at = at.saturating_add(1);
                continue;
            }
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

    /// Whose packets a cohort carries.
    pub(crate) fn origin_of(&self, cohort_slot: u32) -> Option<Origin> {
        let cohort = self.cohorts.get(cohort_slot)?;
        let ssrc = self.segment.ingress(cohort.ingress)?.ssrc.load(Ordering::Relaxed);
        let generation = NonZeroU32::new(cohort.track.generation)?;
        Some(Origin { ingress: cohort.ingress, generation, ssrc })
    }

    /// Computes the constants for an egress stream that enters a cohort at a packet, and stores the stretch.
    pub(crate) fn begin_stretch(&mut self, egress_slot: u32, cohort_slot: u32, number: u64, stored: &Stored<'_>) {
        let segment = Arc::clone(&self.segment);
        let Some(generation) = self.cohorts.get(cohort_slot).map(|cohort| cohort.generation) else { return };
        let Some(source) = self.origin_of(cohort_slot) else { return };
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return };
        let Some(durable) = segment.egress(egress.subscription.slot) else { return };
        let leaves_gap = is_incomplete(egress);
        let first = read(&durable.next_index).saturating_add(u64::from(leaves_gap));
        let (info, head) = (stored.info(), stored.head());
        let mut constants = Constants { seq: first.wrapping_sub(number), ..egress.constants };
        let goes_on = egress.source == Some(source) && (!egress.last.is_any || is_newer(egress, &info));
        if !goes_on {
            let clocks = clocks_of(egress, source, &segment);
            (constants.rtp_ts, egress.ahead) = rtp_offset(egress, &info, clocks);
            picture_offsets(egress, &head, &mut constants);
        }
        egress.constants = constants;
        egress.first_number = number;
        egress.generation = generation;
        egress.source = Some(source);
        // Without a source while the stretch is stored: a successor must not take one's constants for another's.
        publish::store_u64(&durable.source, 0);
        let at = store_stretch(durable, first, (u64::from(generation) << 32) | u64::from(source.ingress.0), constants);
        publish::store_u64(&durable.source, source_word(source));
        egress.begin_stretch(at, leaves_gap);
    }
}

/// The stream that was sent before and the one that comes, where sender reports say something about both. Two SSRCs of one
/// stream have clocks that are not related, and a track that took another one's place has nothing of it.
fn clocks_of<'s>(
    egress: &Egress,
    source: Origin,
    segment: &'s Segment,
) -> Option<(&'s IngressDurable, &'s IngressDurable)> {
    let previous = egress.source.filter(|previous| previous.ingress != source.ingress)?;
    let old = segment.ingress(previous.ingress)?;
    let is_kept = old.generation.load(Ordering::Acquire) == previous.generation.get();
    is_kept.then_some(old).zip(segment.ingress(source.ingress))
}

/// The last frame was not sent in whole: one number is left out, so that the decoder sees that (G4).
fn is_incomplete(egress: &Egress) -> bool {
    egress.kind == Some(MediaKind::Video) && egress.last.is_any && !egress.last.is_frame_end
}

/// Whether a stream may go on with this packet. One that is older than what was sent last would let the receiver's clock run
/// ahead by its age (G5); one of the same source that is not newer was sent already.
pub(crate) fn may_enter(egress: &Egress, source: Origin, info: &StoredInfo, segment: &Segment) -> bool {
    let last = &egress.last;
    if !last.is_any {
        return true;
    }
    if egress.source == Some(source) {
        // A publisher whose clock began anew is heard again after a while.
        return is_newer(egress, info) || info.arrival_ns >= last.arrival_ns.saturating_add(CLOCK_RESET_NS);
    }
    let expected = expected_time(egress, info, clocks_of(egress, source, segment));
    let behind = i64::from(seq::diff32(last.rtp_ts, expected)).saturating_mul(1000);
    behind <= i64::from(egress.clock_rate).saturating_mul(BEHIND_MS)
}

/// Whether a packet of the source in use lies behind what was sent last.
fn is_newer(egress: &Egress, info: &StoredInfo) -> bool {
    seq::newer32(info.rtp_ts.wrapping_add(egress.constants.rtp_ts), egress.last.rtp_ts)
}

/// The receiver's RTP time of a packet of another source, where its clock went on with the wall's (G5).
fn expected_time(egress: &Egress, info: &StoredInfo, clocks: Option<(&IngressDurable, &IngressDurable)>) -> u32 {
    let passed = i128::from(info.arrival_ns).saturating_sub(i128::from(egress.last.arrival_ns));
    let ticks = passed.saturating_mul(i128::from(egress.clock_rate)) / 1_000_000_000;
    let ticks = u32::try_from(ticks.rem_euclid(1 << 32)).unwrap_or(0);
    let by_arrival = egress.last.rtp_ts.wrapping_add(ticks);
    let by_reports = clocks.and_then(|(old, new)| map_by_reports(egress, info.rtp_ts, old, new));
    // Reports that are far from the wall clock are wrong: somebody's clock was set, or they were never right.
    let is_believable = |ts: &u32| seq::diff32(*ts, by_arrival).unsigned_abs() < egress.clock_rate;
    by_reports.filter(is_believable).unwrap_or(by_arrival).wrapping_sub(egress.ahead)
}

/// What is added to the source's RTP time so that the receiver's clock goes on, and by how much it is ahead of the wall's
/// then: time never goes back, so it is taken back at a later switch.
fn rtp_offset(egress: &Egress, info: &StoredInfo, clocks: Option<(&IngressDurable, &IngressDurable)>) -> (u32, u32) {
    if !egress.last.is_any {
        return (egress.constants.rtp_ts, 0);
    }
    let expected = expected_time(egress, info, clocks);
    let floor = egress.last.rtp_ts.wrapping_add(egress.clock_rate / NOMINAL_FPS);
    let is_forward = seq::newer32(expected, egress.last.rtp_ts);
    let (wanted, ahead) = if is_forward { (expected, 0) } else { (floor, floor.wrapping_sub(expected)) };
    (wanted.wrapping_sub(info.rtp_ts), ahead)
}

/// The receiver's RTP time of the new source's `rtp_ts`, through both sources' sender reports.
fn map_by_reports(egress: &Egress, rtp_ts: u32, old: &IngressDurable, new: &IngressDurable) -> Option<u32> {
    let (old, new) = (Reported::load(old)?, Reported::load(new)?);
    let rate = i128::from(egress.clock_rate);
    let since_new = i128::from(seq::diff32(rtp_ts, new.rtp_ts));
    // Ticks between the two reports' instants on the old stream's clock.
    let between = i128::from(new.ntp.wrapping_sub(old.ntp).cast_signed()).checked_mul(rate)? >> 32;
    let ticks = u32::try_from((between + since_new).rem_euclid(1 << 32)).ok()?;
    Some(old.rtp_ts.wrapping_add(ticks).wrapping_add(egress.constants.rtp_ts))
}

/// VP8 and VP9 numbers go on at last + 1 (V3, V4, N7); a codec without them in between changes nothing.
fn picture_offsets(egress: &Egress, head: &StoredHead, constants: &mut Constants) {
    if !egress.last.is_any || head.picture_id_offset == NO_FIELD {
        return;
    }
    constants.picture_id = egress.last.picture_id.wrapping_add(1).wrapping_sub(head.picture_id);
    constants.tl0 = egress.last.tl0.wrapping_add(1).wrapping_sub(head.tl0);
    constants.keyidx = egress.last.keyidx.wrapping_add(1).wrapping_sub(head.keyidx);
}

/// Appends a stretch to the receiver's list; its first index is stored last. Returns its place.
fn store_stretch(durable: &EgressDurable, first: u64, cohort: u64, constants: Constants) -> usize {
    let count = read(&durable.segment_count);
    let at = usize::try_from(count % SEGMENTS as u64).unwrap_or(0);
    let Some(place) = durable.segments.get(at) else { return at };
    publish::store_u64(&place.first, 0);
    publish::store_u64(&place.cohort, cohort);
    publish::store_u64(&place.seq_offset, constants.seq);
    publish::store_u64(&place.constants, constants.to_word());
    publish::store_u64(&place.first, first);
    publish::store_u64(&durable.segment_count, count.wrapping_add(1));
    at
}
