// SPDX-License-Identifier: Apache-2.0
//! Telling the workers that have receivers of a stream what happened to it. A lost doorbell costs nothing but time: the next
//! one makes the cursor find everything.

use dataplane_abi::ids::{IngressId, WorkerId};
use dataplane_abi::limits::WORKERS;
use dataplane_abi::ring::{Doorbell, doorbell_kind};

use crate::counting::bump;
use crate::worker::Worker;

impl Worker {
    /// Rings for every stream that got packets since the last call.
    pub(crate) fn announce_stored(&mut self) {
        while let Some(slot) = self.announced.pop() {
            self.step();
            let Some(ingress) = self.ingresses.get_mut(slot) else { continue };
            ingress.is_announced = false;
            let (id, mask) = (ingress.id, ingress.worker_mask);
            self.cohort_rung(id, None);
            self.ring_all(id, mask, doorbell_kind::STORED, 0);
        }
    }

    /// Rings for one packet that arrived behind newer ones.
    pub(crate) fn ring_late(&mut self, ingress_slot: u32, ext_seq: u64) {
        let Some(ingress) = self.ingresses.get(ingress_slot) else { return };
        let (id, mask) = (ingress.id, ingress.worker_mask);
        self.cohort_rung(id, Some(ext_seq));
        self.ring_all(id, mask, doorbell_kind::LATE, ext_seq);
    }

    fn ring_all(&mut self, id: IngressId, mask: u64, kind: u32, arg: u64) {
        for worker in (0..u16::try_from(WORKERS).unwrap_or(64)).filter(|worker| mask & (1 << worker) != 0) {
            self.ring(WorkerId(worker), id, kind, arg);
        }
    }

    /// One doorbell to one worker; false where it was lost.
    pub(crate) fn ring(&mut self, worker: WorkerId, id: IngressId, kind: u32, arg: u64) -> bool {
        let Some(peer) = self.peers.get_mut(worker) else { return false };
        let bell = Doorbell { kind, ingress: id.0, generation: 0, reserve: 0, arg };
        let is_lost = peer.doorbells_out.push(&bell).is_err();
        self.effects.wake_workers |= 1 << worker.0;
        if is_lost {
            self.count(|counters| bump(&counters.doorbells_lost));
        }
        !is_lost
    }

    /// Another worker rang for one of its streams: the cohort here gets a turn. Where nobody receives it any more, the word that
    /// said so was lost, and is said again.
    pub(crate) fn rung_from(&mut self, from: WorkerId, id: IngressId, late: Option<u64>) {
        let is_wanted =
            self.cohort_of(id).and_then(|slot| self.cohorts.get(slot)).is_some_and(|cohort| cohort.attached > 0);
        if is_wanted {
            self.cohort_rung(id, late);
        } else {
            self.ring(from, id, doorbell_kind::NO_INTEREST, u64::from(self.config.worker.0));
        }
    }

    /// Another worker has receivers of our stream, or none any more.
    pub(crate) fn set_interest(&mut self, id: IngressId, worker: u64, is_interested: bool) {
        let Some(ingress) = self.ingress_of(id).and_then(|slot| self.ingresses.get_mut(slot)) else { return };
        if worker >= WORKERS as u64 {
            return;
        }
        if is_interested {
            ingress.worker_mask |= 1 << worker;
        } else {
            ingress.worker_mask &= !(1 << worker);
        }
    }

    /// The worker that owns the publisher of a stream, if it is another one.
    pub(crate) fn other_owner(&self, id: IngressId) -> Option<WorkerId> {
        let track = self.segment.intent_track(id.track_slot())?;
        self.owner_of(track.transport).filter(|worker| *worker != self.config.worker)
    }

    /// A stream has packets, or a late one: its cohort here gets a turn.
    pub(crate) fn cohort_rung(&mut self, id: IngressId, late: Option<u64>) {
        let Some(slot) = self.cohort_of(id) else { return };
        let Some(cohort) = self.cohorts.get_mut(slot) else { return };
        if let Some(ext_seq) = late {
            cohort.push_late(ext_seq);
        }
        if cohort.is_queued {
            return;
        }
        let queue = match cohort.kind {
            dataplane_abi::codec::MediaKind::Audio => &mut self.audio,
            dataplane_abi::codec::MediaKind::Video => &mut self.video,
        };
        cohort.is_queued = queue.push(slot);
    }
}
