// SPDX-License-Identifier: Apache-2.0
//! Admissions as effects (CONTRACTS 12 and 27 of the design): which flows belong to which worker, and who failed a check. The
//! receive half notes them in fixed arrays, the daemon takes them before the first tile and tells the classifier: durable
//! record, flow map, answer. Must never be what decides whether a packet is served: that is the worker's own flow table.

use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::{TransportRef, WorkerId};
use dataplane_abi::limits::BATCH;

use crate::objects::leg::{flows_of, path_of};
use crate::worker::{Now, Worker};

/// Changes that wait to be taken: more than any turn makes but the rescan at a start.
const CHANGES: usize = 512;
/// Failures that wait to be taken: checks that fail come with the port's batch, and seldom from another worker.
const FAILURES: usize = BATCH * 2;

/// A change of the flow map. Changes of one worker are executed in their order; each may be executed twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlowChange {
    /// Packets of the flow belong to the worker. Said again with a check that comes a second later or more, so that an entry
    /// which was lost comes back.
    Admit {
        /// The 5-tuple of a verified check.
        flow: FlowKey,
        /// The owner of its transport, whichever worker the check came to.
        worker: WorkerId,
    },
    /// The flow belongs to nobody any more.
    Forget {
        /// The 5-tuple.
        flow: FlowKey,
    },
}

/// What the receive half has noted since the last time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Admissions<'w> {
    /// Changes of the flow map, in order. Executed before the next tile: answers leave there.
    pub changes: &'w [FlowChange],
    /// Changes were lost, or the worker has just read its transports for the first time: what the map holds for this worker
    /// is to be brought in line with [`Worker::admitted_flows`], entries that are not there removed.
    pub is_incomplete: bool,
    /// Remote addresses of checks with an unknown user fragment or a wrong integrity, one entry per check.
    pub failures: &'w [[u8; 16]],
    /// Failures beyond those that had room.
    pub failures_lost: u64,
}

/// What is noted; the arrays live as long as the worker.
pub(crate) struct Noted {
    changes: Box<[FlowChange; CHANGES]>,
    change_count: usize,
    is_incomplete: bool,
    failures: [[u8; 16]; FAILURES],
    failure_count: usize,
    failures_lost: u64,
}

impl Noted {
    /// Nothing is known of what a predecessor had put into the map: incomplete from the beginning.
    pub(crate) fn new() -> Self {
        Self {
            changes: Box::new([FlowChange::Forget { flow: EMPTY }; CHANGES]),
            change_count: 0,
            is_incomplete: true,
            failures: [[0; 16]; FAILURES],
            failure_count: 0,
            failures_lost: 0,
        }
    }

    pub(crate) fn change(&mut self, change: FlowChange) {
        let Some(place) = self.changes.get_mut(self.change_count) else {
            self.is_incomplete = true;
            return;
        };
        *place = change;
        self.change_count = self.change_count.saturating_add(1);
    }

    pub(crate) fn failure(&mut self, remote: [u8; 16]) {
        let Some(place) = self.failures.get_mut(self.failure_count) else {
            self.failures_lost = self.failures_lost.saturating_add(1);
            return;
        };
        *place = remote;
        self.failure_count = self.failure_count.saturating_add(1);
    }
}

const EMPTY: FlowKey = FlowKey { local: [0; 16], remote: [0; 16], local_port: 0, remote_port: 0, reserve: 0 };

impl Worker {
    /// Takes what was noted since the last call. To be called after `apply_changes`, `take_handed` and `receive`, and executed
    /// before `transmit`.
    pub fn take_admissions(&mut self) -> Admissions<'_> {
        let is_known = self.rescan_at.is_none();
        let noted = &mut self.noted;
        let changes = std::mem::take(&mut noted.change_count);
        let failures = std::mem::take(&mut noted.failure_count);
        // A worker that has not read all transports yet cannot say which flows it has.
        let is_incomplete = is_known && std::mem::take(&mut noted.is_incomplete);
        Admissions {
            changes: noted.changes.get(..changes).unwrap_or(&[]),
            is_incomplete,
            failures: noted.failures.get(..failures).unwrap_or(&[]),
            failures_lost: std::mem::take(&mut noted.failures_lost),
        }
    }

    /// Every flow whose packets belong to this worker.
    pub fn admitted_flows(&self) -> impl Iterator<Item = FlowKey> + '_ {
        self.legs.iter().flat_map(move |leg| {
            let flows = self.segment.transport(leg.transport.slot).into_iter().flat_map(flows_of);
            flows.filter(move |flow| self.flows.get(flow) == Some(leg.transport))
        })
    }

    /// Whether packets of a flow belong to this worker.
    #[must_use]
    pub fn is_admitted(&self, flow: &FlowKey) -> bool {
        let transport = self.flows.get(flow).filter(|transport| self.leg_of(*transport).is_some());
        let durable = transport.and_then(|transport| self.segment.transport(transport.slot));
        durable.is_some_and(|durable| path_of(durable, flow).is_some())
    }

    /// Remembers that a flow belongs to a transport, and with the door, so that it goes when the transport goes. `replaced` is
    /// the flow that went from the owner's paths for it. The owner alone speaks for the flow map.
    pub(crate) fn admit(
        &mut self,
        flow: FlowKey,
        replaced: Option<FlowKey>,
        transport: TransportRef,
        now: Now,
    ) -> bool {
        let is_owner = self.leg_of(transport).is_some();
        if self.doors.get(transport.slot).is_none_or(|door| door.transport != transport) {
            return false;
        }
        let evicted = self.doors.use_flow(transport.slot, flow, replaced, now.mono_ns);
        let is_due = is_owner && self.doors.is_telling_due(transport.slot, &flow, now.mono_ns);
        if let Some(old) = evicted {
            self.forget_flow(old, transport, is_owner);
        }
        let is_admitted = self.flows.get(&flow) == Some(transport) || self.flows.insert(flow, transport);
        if is_admitted && is_due {
            self.noted.change(FlowChange::Admit { flow, worker: self.config.worker });
        }
        let flows = self.flows.len() as u64;
        self.count(|counters| crate::counting::set(&counters.flows, flows));
        is_admitted
    }

    /// A flow goes, unless it means another transport by now.
    pub(crate) fn forget_flow(&mut self, flow: FlowKey, transport: TransportRef, is_owner: bool) {
        if self.flows.get(&flow) != Some(transport) {
            return;
        }
        self.flows.remove(&flow);
        if is_owner {
            self.noted.change(FlowChange::Forget { flow });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_said_to_be_missing() {
        let mut noted = Noted::new();
        noted.is_incomplete = false;
        for _ in 0..CHANGES {
            noted.change(FlowChange::Forget { flow: EMPTY });
        }
        assert!(!noted.is_incomplete && noted.change_count == CHANGES);
        noted.change(FlowChange::Forget { flow: EMPTY });
        assert!(noted.is_incomplete && noted.change_count == CHANGES);
        for _ in 0..FAILURES + 3 {
            noted.failure([7; 16]);
        }
        assert_eq!((noted.failure_count, noted.failures_lost), (FAILURES, 3));
    }
}
