// SPDX-License-Identifier: Apache-2.0
//! A worker tells the classifier what it has admitted: durable record, flow map, answer (CONTRACTS 12). Between the receive half
//! and the first tile, by map descriptors, without capabilities. It must never decide whom a packet belongs to.

use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::ids::WorkerId;
use dataplane_abi::xdp::FAILURE_WINDOW_NS;
use dataplane_forward::{FlowChange, Worker};
use dataplane_io::xdp::{Geometry, XdpPort};
use dataplane_shm::Segment;
use ebpf_loader::{FailureMap, FlowMap, MapError, StrangerMap, XskMap};

/// A queue that workers share, and who of them answers strangers there.
struct Shared {
    queue: u16,
    workers: Vec<WorkerId>,
    told: Option<WorkerId>,
}

/// The classifier's maps as one worker uses them.
pub(crate) struct Gate {
    worker: WorkerId,
    flows: FlowMap,
    failures: FailureMap,
    strangers: StrangerMap,
    xsks: XskMap,
    /// The queues of this worker that others share.
    shared: Vec<Shared>,
    owned: Option<u64>,
    errors: u64,
}

impl Gate {
    /// Opens the maps for one worker; `fd` gives a descriptor by the name under which it was handed over.
    pub(crate) fn open<E: From<MapError>>(
        worker: WorkerId,
        geometry: &Geometry,
        mut fd: impl FnMut(&str) -> Result<OwnedFd, E>,
    ) -> Result<Self, E> {
        let shared = geometry.pairs().filter(|pair| pair.worker == worker.0).map(|pair| {
            let others = geometry.pairs().filter(|other| other.queue == pair.queue);
            Shared { queue: pair.queue, workers: others.map(|other| WorkerId(other.worker)).collect(), told: None }
        });
        Ok(Self {
            worker,
            flows: FlowMap::from_fd(fd("map_flows")?)?,
            failures: FailureMap::from_fd(fd("map_failures")?)?,
            strangers: StrangerMap::from_fd(fd("map_strangers")?)?,
            xsks: XskMap::from_fd(fd("map_xsks")?)?,
            shared: shared.filter(|shared| shared.workers.len() > 1).collect(),
            owned: None,
            errors: 0,
        })
    }

    /// Lets the classifier redirect to this worker's sockets: packets come from here on.
    pub(crate) fn admit_sockets(&mut self, port: &XdpPort) -> Result<(), MapError> {
        for (pair, socket) in port.sockets() {
            self.xsks.insert(u32::from(pair.queue), u32::from(pair.worker), socket)?;
        }
        Ok(())
    }

    /// Executes what the worker has noted.
    pub(crate) fn follow(&mut self, worker: &mut Worker, segment: &Segment, counters: &WorkerCounters, now_ns: u64) {
        let admissions = worker.take_admissions();
        let mut errors = admissions.failures_lost;
        for change in admissions.changes {
            let done = match change {
                FlowChange::Admit { flow, worker } => self.flows.insert(flow, u32::from(worker.0)),
                FlowChange::Forget { flow } => self.flows.remove(flow).map(|_| ()),
            };
            errors += u64::from(done.is_err());
        }
        for remote in admissions.failures {
            errors += u64::from(self.failures.record(*remote, now_ns, FAILURE_WINDOW_NS).is_err());
        }
        if admissions.is_incomplete {
            errors += self.bring_in_line(worker);
        }
        let owned = counters.transports_owned.load(Ordering::Relaxed);
        if self.owned != Some(owned) {
            self.owned = Some(owned);
            errors += self.share_strangers(segment);
        }
        if errors != 0 {
            self.errors += errors;
            counters.classifier_errors.store(self.errors, Ordering::Relaxed);
        }
    }

    /// The map holds exactly the flows of this worker that it has admitted; after a start, and where changes were lost.
    fn bring_in_line(&mut self, worker: &Worker) -> u64 {
        let Ok(known) = self.flows.flows() else { return 1 };
        let mut errors = 0;
        for flow in known {
            let is_ours = self.flows.get(&flow).is_ok_and(|owner| owner == Some(u32::from(self.worker.0)));
            if is_ours && !worker.is_admitted(&flow) {
                errors += u64::from(self.flows.remove(&flow).is_err());
            }
        }
        for flow in worker.admitted_flows() {
            errors += u64::from(self.flows.insert(&flow, u32::from(self.worker.0)).is_err());
        }
        errors
    }

    /// Strangers go to the worker with the fewest transports of those that share a queue.
    fn share_strangers(&mut self, segment: &Segment) -> u64 {
        let load = |worker: &WorkerId| {
            segment.counters(*worker).map_or(u64::MAX, |counters| counters.transports_owned.load(Ordering::Relaxed))
        };
        let mut errors = 0;
        for shared in &mut self.shared {
            let Some(least) = shared.workers.iter().copied().min_by_key(load) else { continue };
            if shared.told != Some(least) {
                shared.told = Some(least);
                errors += u64::from(self.strangers.set(u32::from(shared.queue), u32::from(least.0)).is_err());
            }
        }
        errors
    }
}
