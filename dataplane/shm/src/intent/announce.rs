// SPDX-License-Identifier: Apache-2.0
//! Telling the workers: one change ring each, and how far each has come.

use core::sync::atomic::Ordering;

use dataplane_abi::ids::WorkerId;
use dataplane_abi::ring::Change;

use crate::publish;
use crate::ring::Producer;
use crate::segment::Segment;

/// A position in each worker's change ring.
pub(crate) type Positions = Box<[u64]>;

/// The programmer's ends of all change rings.
pub(crate) struct Announcer {
    segment: Segment,
    rings: Vec<Producer<Change>>,
}

impl Announcer {
    pub(crate) fn new(segment: &Segment) -> Option<Self> {
        let workers = u16::try_from(segment.capacities().workers).ok()?;
        let rings = (0..workers).map(|worker| segment.change_producer(WorkerId(worker))).collect::<Option<_>>()?;
        Some(Self { segment: segment.clone(), rings })
    }

    /// Pushes to every worker; a ring that is full has counted it, and its worker rescans.
    pub(crate) fn announce(&mut self, change: &Change) {
        for ring in &mut self.rings {
            let _ = ring.push(change);
        }
    }

    /// Makes every worker rescan.
    pub(crate) fn demand_rescan(&mut self) {
        for ring in &mut self.rings {
            ring.declare_overflow();
        }
    }

    /// Adds one to the epoch.
    pub(crate) fn count_publication(&self) {
        let epoch = &self.segment.state().epoch;
        publish::store_u64(epoch, epoch.load(Ordering::Relaxed).wrapping_add(1));
    }

    /// How far each ring is written.
    pub(crate) fn positions(&self) -> Positions {
        self.rings.iter().map(Producer::produced).collect()
    }

    /// Whether every worker that runs has consumed its ring up to `positions`. A worker that does not run copies nothing:
    /// its successor starts by a rescan of the heads.
    pub(crate) fn have_passed(&self, positions: &[u64]) -> bool {
        (0_u16..).zip(&self.rings).zip(positions).all(|((worker, ring), position)| {
            !self.is_running(WorkerId(worker))
                || ring.acknowledged().is_some_and(|at| at.wrapping_sub(*position) < 1 << 63)
        })
    }

    fn is_running(&self, worker: WorkerId) -> bool {
        // Pairs with the Release with which a worker stores `running`; counters that are not mapped count as running.
        self.segment.counters(worker).is_none_or(|counters| counters.running.load(Ordering::Acquire) == 1)
    }
}
