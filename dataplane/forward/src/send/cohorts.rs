// SPDX-License-Identifier: Apache-2.0
//! Who belongs to which cohort: join, wait, leave. All O(1), effective between packets.

use dataplane_abi::codec::MediaKind;
use dataplane_abi::drop_reason::SkipReason;
use dataplane_abi::ids::{IngressId, TrackRef};
use dataplane_abi::ring::doorbell_kind;

use crate::objects::NONE;
use crate::objects::cohort::Cohort;
use crate::objects::egress::Feed;
use crate::worker::{Now, Worker};

/// A worker with receivers says so again after this time.
const INTEREST_NS: u64 = 500_000_000;

impl Worker {
    /// The cohort of a stream at this worker, made where there is none.
    pub(crate) fn cohort_for(&mut self, id: IngressId, track: TrackRef, kind: MediaKind) -> Option<u32> {
        if let Some(slot) = self.cohort_of(id) {
            if self.cohorts.get(slot)?.track == track {
                return Some(slot);
            }
            self.remove_cohort(id);
        }
        self.cohort_generation = self.cohort_generation.wrapping_add(1).max(1);
        let slot = self.cohorts.insert(Cohort::new(id, track, kind, self.cohort_generation)).ok()?;
        *self.cohort_at.get_mut(id.index())? = slot.saturating_add(1);
        Some(slot)
    }

    /// Counts an egress stream in, and tells the publisher's worker at the first one.
    pub(crate) fn attach(&mut self, cohort_slot: u32, now: Now) {
        if let Some(cohort) = self.cohorts.get_mut(cohort_slot) {
            cohort.attached = cohort.attached.saturating_add(1);
        }
        self.show_interest(cohort_slot, now);
    }

    /// Tells the owner of the publisher that there are receivers here, where that is another worker. Told again now and
    /// then: the owner may not have known the stream yet, or a full ring may have lost the word.
    pub(crate) fn show_interest(&mut self, cohort_slot: u32, now: Now) {
        let Some(cohort) = self.cohorts.get(cohort_slot) else { return };
        let (id, told_ns) = (cohort.ingress, cohort.interest_ns);
        if told_ns != 0 && now.mono_ns.saturating_sub(told_ns) < INTEREST_NS {
            return;
        }
        let Some(owner) = self.other_owner(id) else { return };
        // A word that found no room is said with the next timer.
        let is_told = self.ring(owner, id, doorbell_kind::INTEREST, u64::from(self.config.worker.0));
        if is_told && let Some(cohort) = self.cohorts.get_mut(cohort_slot) {
            cohort.interest_ns = now.mono_ns.max(1);
        }
    }

    pub(crate) fn detach(&mut self, cohort_slot: u32) {
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return };
        cohort.attached = cohort.attached.saturating_sub(1);
        if cohort.attached > 0 {
            return;
        }
        cohort.is_running = false;
        let (id, told_ns) = (cohort.ingress, std::mem::replace(&mut cohort.interest_ns, 0));
        if told_ns != 0
            && let Some(owner) = self.other_owner(id)
        {
            self.ring(owner, id, doorbell_kind::NO_INTEREST, u64::from(self.config.worker.0));
        }
    }

    /// Puts an egress stream among those that wait for a cohort's next entry point.
    pub(crate) fn wait_for(&mut self, egress_slot: u32, cohort_slot: u32, now: Now) {
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return };
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return };
        if egress.waiting != NONE {
            return;
        }
        let Some(position) = cohort.waiting.push(&mut self.pages, egress_slot) else { return };
        egress.waiting = cohort_slot;
        egress.waiting_position = position;
        if egress.feed == Feed::Idle {
            egress.feed = Feed::Waiting;
        }
        self.attach(cohort_slot, now);
    }

    /// Takes an egress stream out of the list of those that wait.
    pub(crate) fn stop_waiting(&mut self, egress_slot: u32) {
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return };
        let cohort_slot = std::mem::replace(&mut egress.waiting, NONE);
        let position = std::mem::replace(&mut egress.waiting_position, NONE);
        if egress.feed == Feed::Waiting {
            egress.feed = Feed::Idle;
        }
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return };
        if let Some(moved) = cohort.waiting.swap_remove(&mut self.pages, position)
            && let Some(moved) = self.egresses.get_mut(moved)
        {
            moved.waiting_position = position;
        }
        self.detach(cohort_slot);
    }

    /// Makes an egress stream a member. Only between packets.
    pub(crate) fn add_member(&mut self, egress_slot: u32, cohort_slot: u32, now: Now) -> bool {
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return false };
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return false };
        let Some(position) = cohort.members.push(&mut self.pages, egress_slot) else { return false };
        egress.cohort = cohort_slot;
        egress.position = position;
        egress.feed = Feed::Member;
        self.attach(cohort_slot, now);
        true
    }

    /// Takes a member out, also in the middle of a packet: those that the packet has reached stay in front of those that it has not.
    pub(crate) fn remove_member(&mut self, egress_slot: u32) {
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return };
        let (cohort_slot, mut position) = (egress.cohort, egress.position);
        egress.position = NONE;
        egress.feed = Feed::Idle;
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return };
        let (is_mid_packet, packets) = (cohort.is_mid_packet(), cohort.burst().len());
        if is_mid_packet && position < cohort.position {
            // Move the hole to the border between reached and not reached.
            let border = cohort.position.saturating_sub(1);
            cohort.members.swap(&mut self.pages, position, border);
            let shifted = cohort.members.get(&self.pages, position);
            cohort.position = border;
            if let Some(shifted) =
                shifted.filter(|shifted| *shifted != egress_slot).and_then(|slot| self.egresses.get_mut(slot))
            {
                shifted.position = position;
            }
            position = border;
        } else if is_mid_packet {
            self.settle_skipped(packets as u64, SkipReason::MemberLeft);
        }
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return };
        if let Some(moved) = cohort.members.swap_remove(&mut self.pages, position)
            && let Some(moved) = self.egresses.get_mut(moved)
        {
            moved.position = position;
        }
        self.detach(cohort_slot);
    }

    /// Takes an egress stream out of everything.
    pub(crate) fn leave_cohorts(&mut self, egress_slot: u32) {
        let Some(egress) = self.egresses.get(egress_slot) else { return };
        if egress.waiting != NONE {
            self.stop_waiting(egress_slot);
        }
        let Some(egress) = self.egresses.get_mut(egress_slot) else { return };
        match egress.feed {
            Feed::Member => self.remove_member(egress_slot),
            Feed::CatchUp => self.stop_catching_up(egress_slot),
            Feed::Idle | Feed::Waiting => {}
        }
    }

    /// Sends everyone away: the stream has ended. Those that are catching up notice by the cohort's generation.
    pub(crate) fn empty_cohort(&mut self, cohort_slot: u32) {
        let Some(cohort) = self.cohorts.get_mut(cohort_slot) else { return };
        let pending = cohort.pending();
        cohort.end_burst();
        self.settle_skipped(pending, SkipReason::MemberLeft);
        while let Some(egress) = self.cohorts.get(cohort_slot).and_then(|cohort| cohort.members.get(&self.pages, 0)) {
            self.remove_member(egress);
            if let Some(egress) = self.egresses.get_mut(egress) {
                egress.cohort = NONE;
            }
        }
        while let Some(egress) = self.cohorts.get(cohort_slot).and_then(|cohort| cohort.waiting.get(&self.pages, 0)) {
            self.stop_waiting(egress);
        }
    }
}
