// SPDX-License-Identifier: Apache-2.0
//! Segment, programmer, workers, ports, clock and scheduler: one thread, one seed.

use dataplane_abi::flow::FlowKey;
use dataplane_abi::ids::WorkerId;
use dataplane_abi::limits::{BATCH, Capacities};
use dataplane_abi::ring::{Datagram, Event};
use dataplane_forward::{CohortLedger, Config, FlowChange, Now, ReceiveLedger, Worker, mesh};
use dataplane_io::port::Port;
use dataplane_io::simulated::{SimulatedNetwork, SimulatedPort};
use dataplane_shm::ring::{Consumer, Producer};
use dataplane_shm::{IntentWriter, Segment, SegmentFds};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use super::dice::Dice;

/// Tiles that one turn may send.
const TILES: usize = 16;

/// Where a worker is in its turn; the scheduler stops between any two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Apply,
    Handed,
    Receive,
    Tile(usize),
    Timers,
    Done,
}

/// The data plane and its programmer.
pub(crate) struct Bed {
    pub(crate) fds: SegmentFds,
    pub(crate) segment: Segment,
    pub(crate) intent: IntentWriter,
    pub(crate) network: SimulatedNetwork,
    pub(crate) workers: Vec<Worker>,
    pub(crate) ports: Vec<SimulatedPort>,
    pub(crate) now: Now,
    pub(crate) dice: Dice,
    pub(crate) events: Vec<Consumer<Event>>,
    pub(crate) punts: Vec<Consumer<Datagram>>,
    pub(crate) injects: Vec<Producer<Datagram>>,
    /// Handed minus taken when the workers of this life began.
    handed_before: u64,
    taken_before: u64,
    seed: u64,
    /// The classifier's flow map as a daemon keeps it; it outlives the workers.
    pub(crate) flow_map: BTreeMap<FlowKey, WorkerId>,
    /// Intent is overwritten behind the change ring's back: nobody can say which transports there are.
    pub(crate) is_intent_lying: bool,
    /// How often a worker had to be woken by another.
    pub(crate) wakes: u64,
    /// Remote addresses of checks that failed.
    pub(crate) failures: Vec<[u8; 16]>,
    /// Durable stores of the last turn that was to end at one.
    pub(crate) stores: u64,
    /// What the workers are looked at for in a turn in which they could be asleep.
    rests: Vec<Rest>,
}

/// A worker's turn so far.
#[derive(Clone, Copy, Default)]
struct Rest {
    steps: u64,
    /// Nothing has come to it, and it says that nothing is due.
    is_asleep: bool,
}

impl Bed {
    pub(crate) fn new(seed: u64, workers: u32) -> Self {
        Self::sized(seed, Capacities { workers, ..Capacities::SMALL })
    }

    pub(crate) fn sized(seed: u64, capacities: Capacities) -> Self {
        let (fds, segment) = Segment::create(&capacities).unwrap();
        let workers = u16::try_from(capacities.workers).unwrap();
        let network = SimulatedNetwork::new(seed, usize::from(workers));
        let intent = IntentWriter::attach(&segment).unwrap();
        let ids = || (0..workers).map(WorkerId);
        let mut bed = Self {
            events: ids().map(|id| segment.event_consumer(id).unwrap()).collect(),
            punts: ids().map(|id| segment.punt_consumer(id).unwrap()).collect(),
            injects: ids().map(|id| segment.inject_producer(id).unwrap()).collect(),
            fds,
            segment,
            intent,
            network,
            workers: Vec::new(),
            ports: Vec::new(),
            now: Now { mono_ns: 10_000_000_000, ntp: 0xE000_0000_0000_0000 },
            dice: Dice(seed),
            handed_before: 0,
            taken_before: 0,
            seed,
            flow_map: BTreeMap::new(),
            is_intent_lying: false,
            wakes: 0,
            failures: Vec::new(),
            stores: 0,
            rests: vec![Rest::default(); usize::from(workers)],
        };
        bed.start();
        bed
    }

    /// Starts the workers (again): a process of the data plane.
    pub(crate) fn start(&mut self) {
        let count = u16::try_from(self.segment.capacities().workers).unwrap();
        let peers = mesh(usize::from(count)).unwrap();
        for (id, peers) in (0..count).map(WorkerId).zip(peers) {
            let config = Config::of(id, count, self.seed);
            let mut worker = Worker::new(config, self.segment.clone(), peers, self.now).unwrap();
            worker.announce(self.now);
            self.segment.counters(id).unwrap().running.store(1, Ordering::Release);
            self.workers.push(worker);
            self.ports.push(self.network.port(id.index()));
        }
        let ledgers = self.receive_ledgers();
        self.handed_before = ledgers.iter().map(|ledger| ledger.handed).sum();
        self.taken_before = ledgers.iter().map(|ledger| ledger.taken).sum();
    }

    /// The process is gone: workers and ports are dropped as they are.
    pub(crate) fn kill(&mut self) {
        self.workers.clear();
        self.ports.clear();
    }

    pub(crate) fn advance(&mut self, ns: u64) {
        self.now.mono_ns += ns;
        self.now.ntp = self.now.ntp.wrapping_add(u64::try_from((u128::from(ns) << 32) / 1_000_000_000).unwrap());
    }

    /// One turn of every worker, interleaved at random between phases and tiles.
    pub(crate) fn turn(&mut self) {
        let mut phases = vec![Phase::Apply; self.workers.len()];
        while phases.iter().any(|phase| *phase != Phase::Done) {
            let at = self.dice.below(phases.len());
            phases[at] = self.phase(at, phases[at]);
        }
        self.assert_ledgers();
        if !self.is_intent_lying {
            self.assert_flow_map();
        }
    }

    /// Does with admissions what a daemon does, between the receive half and the tiles.
    pub(crate) fn take_admissions(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let taken = worker.take_admissions();
        for change in taken.changes {
            match *change {
                FlowChange::Admit { flow, worker } => drop(self.flow_map.insert(flow, worker)),
                FlowChange::Forget { flow } => drop(self.flow_map.remove(&flow)),
            }
        }
        self.failures.extend_from_slice(taken.failures);
        if taken.is_incomplete {
            let id = worker.id();
            self.flow_map.retain(|flow, owner| *owner != id || worker.is_admitted(flow));
            self.flow_map.extend(worker.admitted_flows().map(|flow| (flow, id)));
        }
    }

    /// CONTRACTS 12: the map holds the validated paths, each under its owner, and nothing else.
    fn assert_flow_map(&self) {
        let mut wanted = BTreeMap::new();
        for slot in 0..self.segment.capacities().transports {
            let durable = self.segment.transport(slot).unwrap();
            let (owner, generation) =
                (durable.owner.load(Ordering::Relaxed), durable.generation.load(Ordering::Relaxed));
            // A record outlives its transport where that ended while nobody served it.
            let is_alive = self.segment.intent_transport(slot).is_some_and(|intent| intent.generation == generation);
            if !is_alive || owner & 0xFFFF_FFFF == 0 {
                continue;
            }
            let owner = WorkerId(u16::try_from((owner & 0xFFFF_FFFF) - 1).unwrap());
            for path in &durable.paths {
                let words = [0, 1, 2, 3, 4].map(|word: usize| path.flow[word].load(Ordering::Relaxed));
                if words[4] != 0 {
                    wanted.insert(FlowKey::from_words(words), owner);
                }
            }
        }
        assert_eq!(self.flow_map, wanted);
    }

    fn phase(&mut self, at: usize, phase: Phase) -> Phase {
        let (worker, port, now) = (&mut self.workers[at], &mut self.ports[at], self.now);
        match phase {
            Phase::Apply => {
                self.rests[at].steps = worker.steps();
                worker.apply_changes(now);
                self.take_admissions(at);
                Phase::Handed
            }
            Phase::Handed => {
                worker.take_handed(now);
                self.take_admissions(at);
                Phase::Receive
            }
            Phase::Receive => {
                port.reap();
                let count = port.receive(BATCH);
                worker.receive(&*port, count, now);
                port.release();
                let has_come = count > 0 || worker.steps() != self.rests[at].steps;
                self.rests[at].is_asleep = !has_come && worker.rest_ns(now, u64::MAX) > 0;
                self.take_admissions(at);
                Phase::Tile(0)
            }
            Phase::Tile(done) => {
                let tile = worker.transmit(port, now);
                if tile.is_more && !tile.is_full && done < TILES { Phase::Tile(done + 1) } else { Phase::Timers }
            }
            Phase::Timers => {
                worker.timers(port, now);
                let rest = self.rests[at];
                assert!(!rest.is_asleep || worker.steps() == rest.steps, "worker {at} would have slept through work");
                self.wakes += u64::from(worker.take_effects().wake_workers.count_ones());
                Phase::Done
            }
            Phase::Done => Phase::Done,
        }
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = WorkerId> + use<> {
        (0..u16::try_from(self.segment.capacities().workers).unwrap()).map(WorkerId)
    }

    pub(crate) fn receive_ledgers(&self) -> Vec<ReceiveLedger> {
        self.ids().map(|id| ReceiveLedger::of(self.segment.counters(id).unwrap())).collect()
    }

    pub(crate) fn cohort_ledgers(&self) -> Vec<CohortLedger> {
        self.ids().map(|id| CohortLedger::of(self.segment.counters(id).unwrap())).collect()
    }

    /// CONTRACTS 15: exact after each turn.
    fn assert_ledgers(&self) {
        for ledger in self.receive_ledgers() {
            assert!(ledger.is_exact(), "{ledger:?}");
        }
        for ledger in self.cohort_ledgers() {
            assert!(ledger.is_exact(), "{ledger:?}");
        }
    }

    /// Packets handed over and not taken yet, in this life of the workers.
    pub(crate) fn under_way(&self) -> u64 {
        let ledgers = self.receive_ledgers();
        let handed: u64 = ledgers.iter().map(|ledger| ledger.handed).sum();
        let taken: u64 = ledgers.iter().map(|ledger| ledger.taken).sum();
        (handed - self.handed_before) - (taken - self.taken_before)
    }

    /// Every frame that was lent has come back.
    pub(crate) fn assert_frames(&mut self) {
        for (at, port) in self.ports.iter_mut().enumerate() {
            port.reap();
            let ledger = self.network.frames(at);
            assert!(ledger.rx_lent == ledger.rx_returned, "worker {at}: {ledger:?}");
            // A frame reserved and not committed stays with the port until it is reserved again.
            assert!(ledger.tx_lent - ledger.tx_returned <= 1, "worker {at}: {ledger:?}");
        }
    }

    /// Everything that the workers told the control plane.
    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        self.events.iter_mut().flat_map(|ring| std::iter::from_fn(|| ring.pop()).collect::<Vec<_>>()).collect()
    }

    pub(crate) fn take_punts(&mut self) -> Vec<Datagram> {
        self.punts.iter_mut().flat_map(|ring| std::iter::from_fn(|| ring.pop()).collect::<Vec<_>>()).collect()
    }

    /// A sum over all workers' counters.
    pub(crate) fn total(&self, read: impl Fn(&dataplane_abi::counters::WorkerCounters) -> u64) -> u64 {
        self.ids().map(|id| read(self.segment.counters(id).unwrap())).sum()
    }

    pub(crate) fn dropped(&self, reason: dataplane_abi::drop_reason::DropReason) -> u64 {
        self.total(|counters| counters.dropped[reason.index()].load(Ordering::Relaxed))
    }

    pub(crate) fn skipped(&self, reason: dataplane_abi::drop_reason::SkipReason) -> u64 {
        self.total(|counters| counters.skipped[reason.index()].load(Ordering::Relaxed))
    }
}
