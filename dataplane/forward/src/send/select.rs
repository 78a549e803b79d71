// SPDX-License-Identifier: Apache-2.0
//! Which encoding a receiver gets: the best one that is alive and that policy allows. Bandwidth does not decide yet.

use core::sync::atomic::Ordering;

use dataplane_abi::codec::MediaKind;
use dataplane_abi::ids::IngressId;
use dataplane_abi::limits::ENCODINGS;

use crate::counting::read;
use crate::objects::NONE;
use crate::objects::egress::Feed;
use crate::worker::{Now, Worker};

/// An encoding without packets for this long is not alive.
const ALIVE_NS: u64 = 1_500_000_000;

impl Worker {
    /// The encoding that an egress stream should get.
    fn choose_encoding(&self, egress_slot: u32, now: Now) -> Option<IngressId> {
        let egress = self.egresses.get(egress_slot)?;
        let highest = usize::from(egress.max_encoding).min(ENCODINGS - 1);
        let encodings = (0..=u8::try_from(highest).ok()?).rev();
        let track =
            self.segment.intent_track(egress.track.slot).filter(|track| track.generation == egress.track.generation)?;
        if track.encoding_count == 1 {
            return Some(IngressId::of(egress.track.slot, 0));
        }
        encodings
            .filter(|encoding| *encoding < track.encoding_count)
            .map(|encoding| IngressId::of(egress.track.slot, encoding))
            .find(|id| {
                self.segment.ingress(*id).is_some_and(|durable| {
                    durable.generation.load(Ordering::Acquire) == egress.track.generation
                        && read(&durable.stored_top) != 0
                        && now.mono_ns.saturating_sub(read(&durable.last_arrival_ns)) < ALIVE_NS
                })
            })
    }

    fn source_of(&self, cohort: u32) -> Option<IngressId> {
        self.cohorts.get(cohort).map(|cohort| cohort.ingress)
    }

    /// Finds a source for an egress stream, or a better one than it has. Cheap enough for each of its leg's timers.
    pub(crate) fn find_source(&mut self, egress_slot: u32, now: Now) {
        let Some(egress) = self.egresses.get(egress_slot) else { return };
        if egress.feed == Feed::CatchUp || egress.track.is_none() {
            return;
        }
        // Its track may not have been there yet.
        if egress.kind.is_none() && !self.describe_egress(egress_slot) {
            return;
        }
        let Some(egress) = self.egresses.get(egress_slot) else { return };
        let (feed, waiting, cohort, track) = (egress.feed, egress.waiting, egress.cohort, egress.track);
        let Some(kind) = egress.kind else { return };
        let Some(wanted) = self.choose_encoding(egress_slot, now) else { return };
        if waiting != NONE {
            if self.source_of(waiting) == Some(wanted) {
                // The owner of the publisher may not have been known when it began to wait.
                self.show_interest(waiting, now);
                if kind == MediaKind::Video {
                    self.ask_keyframe(wanted, now);
                }
                return;
            }
            self.stop_waiting(egress_slot);
        }
        if feed == Feed::Member && self.source_of(cohort) == Some(wanted) {
            self.show_interest(cohort, now);
            return;
        }
        let Some(slot) = self.cohort_for(wanted, track, kind) else { return };
        if feed != Feed::Member && kind == MediaKind::Video && self.catch_up_from_cache(egress_slot, slot, now) {
            return;
        }
        self.wait_for(egress_slot, slot, now);
        if kind == MediaKind::Video {
            self.ask_keyframe(wanted, now);
        }
        self.cohort_rung(wanted, None);
    }
}
