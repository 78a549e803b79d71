// SPDX-License-Identifier: Apache-2.0
//! A network in memory: N worker ports, one thread, one seed.
//!
//! ```text
//!  test ── deliver ──▶ weather ──▶ rx queue of a worker ──▶ SimulatedPort ──▶ forward
//!  test ◀─ take_sent ─ weather ◀── flush                 ◀── SimulatedPort ◀── forward
//! ```
//!
//! It serves the tests of `forward`, the crash points and the benches without a network, so it is compiled always and
//! allocates freely. Dropping a [`SimulatedPort`] is the crash of its worker: what was committed and not flushed is never
//! sent, what was received and not released comes again to the next port of that worker, what was flushed and not reaped
//! stays the kernel's until it completes. It must never use a clock or randomness other than the seed.

use core::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits;

use crate::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};

/// A datagram that a worker sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// 5-tuple of the path: `local` is the source.
    pub flow: FlowKey,
    /// UDP payload.
    pub bytes: Vec<u8>,
    /// The worker that sent it.
    pub worker: usize,
    /// Code point of the path.
    pub dscp: u8,
    /// ECN bits of the path.
    pub ecn: Ecn,
}

/// What happens to packets on one way, in packets per thousand.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// Lost.
    pub loss: u16,
    /// Delivered twice.
    pub duplication: u16,
    /// Delivered up to four places too early.
    pub reorder: u16,
}

/// Frames of one worker since the network began; lent = returned + what is outside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameLedger {
    /// Received frames that batches lent (a frame lent again after a crash counts again).
    pub rx_lent: u64,
    /// Received frames that were released or taken back from a dropped port.
    pub rx_returned: u64,
    /// Frames that `reserve` took from the pool.
    pub tx_lent: u64,
    /// Frames that came back: reaped, or taken back from a dropped port.
    pub tx_returned: u64,
    /// Frames flushed and not completed.
    pub tx_in_flight: u64,
    /// Frames completed and not reaped.
    pub tx_completed: u64,
}

impl FrameLedger {
    /// Whether every frame that was lent has come back.
    #[must_use]
    pub const fn is_balanced(&self) -> bool {
        self.rx_lent == self.rx_returned && self.tx_lent == self.tx_returned
    }
}

#[derive(Debug)]
struct Packet {
    meta: RxMeta,
    bytes: Vec<u8>,
}

/// What outlives a port of the worker, as kernel rings outlive a process.
#[derive(Debug, Default)]
struct Worker {
    queue: VecDeque<Rc<Packet>>,
    /// Packets at the queue's head that are in a batch.
    lent: usize,
    overflow: u64,
    ledger: FrameLedger,
}

/// Splitmix64: the whole randomness of the network.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    const fn hits(&mut self, per_thousand: u16) -> bool {
        per_thousand != 0 && self.next() % 1000 < per_thousand as u64
    }
}

const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[derive(Debug)]
struct State {
    dice: Dice,
    seed: u64,
    workers: BTreeMap<usize, Worker>,
    worker_count: usize,
    sent: VecDeque<Sent>,
    inbound: Weather,
    outbound: Weather,
    rx_frames: usize,
    tx_frames: usize,
    holds_completions: bool,
    /// Remote port of the paths that have no room.
    stuck: Option<u16>,
    /// One of so many frames is refused; 0 = none.
    refused: u64,
    asked: u64,
}

impl State {
    fn worker(&mut self, worker: usize) -> &mut Worker {
        self.workers.entry(worker).or_default()
    }

    /// Inserts at the queue's end, or up to four places before it, but never among the packets that are lent.
    fn insert<T>(queue: &mut VecDeque<T>, floor: usize, early: usize, item: T) {
        let at = queue.len().saturating_sub(early).max(floor).min(queue.len());
        queue.insert(at, item);
    }

    fn early(&mut self, weather: Weather) -> usize {
        if self.dice.hits(weather.reorder) { 1 + (self.dice.next() % 4) as usize } else { 0 }
    }

    fn enter(&mut self, worker: usize, packet: &Rc<Packet>) {
        let weather = self.inbound;
        if self.dice.hits(weather.loss) {
            return;
        }
        let copies = if self.dice.hits(weather.duplication) { 2 } else { 1 };
        for _ in 0..copies {
            let early = self.early(weather);
            let rx_frames = self.rx_frames;
            let worker = self.worker(worker);
            if worker.queue.len() >= rx_frames {
                worker.overflow += 1;
                continue;
            }
            Self::insert(&mut worker.queue, worker.lent, early, Rc::clone(packet));
        }
    }

    fn leave(&mut self, sent: Sent) {
        let weather = self.outbound;
        if self.dice.hits(weather.loss) {
            return;
        }
        if self.dice.hits(weather.duplication) {
            let early = self.early(weather);
            Self::insert(&mut self.sent, 0, early, sent.clone());
        }
        let early = self.early(weather);
        Self::insert(&mut self.sent, 0, early, sent);
    }

    /// Whether the frame that is asked for is refused.
    const fn refuses(&mut self) -> bool {
        self.asked += 1;
        self.refused != 0 && self.asked.is_multiple_of(self.refused)
    }

    /// Frames of the pool that nobody has, given those that the port holds.
    fn tx_room(&mut self, worker: usize, held: usize) -> usize {
        let tx_frames = self.tx_frames;
        let ledger = &self.worker(worker).ledger;
        let outside = usize::try_from(ledger.tx_in_flight + ledger.tx_completed).unwrap_or(usize::MAX);
        tx_frames.saturating_sub(outside).saturating_sub(held)
    }
}

/// The network: the tests' side of all ports. Cloning gives another handle to the same network.
#[derive(Clone, Debug)]
pub struct SimulatedNetwork {
    state: Rc<RefCell<State>>,
}

impl SimulatedNetwork {
    /// A network of `workers` ports without loss. The same seed and the same calls give the same packets.
    #[must_use]
    pub fn new(seed: u64, workers: usize) -> Self {
        Self {
            state: Rc::new(RefCell::new(State {
                dice: Dice(seed),
                seed,
                workers: BTreeMap::new(),
                worker_count: workers.max(1),
                sent: VecDeque::new(),
                inbound: Weather::default(),
                outbound: Weather::default(),
                rx_frames: 65_536,
                tx_frames: 1024,
                holds_completions: false,
                stuck: None,
                refused: 0,
                asked: 0,
            })),
        }
    }

    /// The port of a worker; the one before must have been dropped (a worker has one port).
    #[must_use]
    pub fn port(&self, worker: usize) -> SimulatedPort {
        SimulatedPort {
            network: self.clone(),
            worker,
            batch: Vec::with_capacity(limits::BATCH),
            paths: Vec::new(),
            reserved: None,
            committed: VecDeque::new(),
        }
    }

    /// The worker whose port receives a flow: a hash of it under the seed.
    #[must_use]
    pub fn steer(&self, flow: &FlowKey) -> usize {
        let state = self.state.borrow();
        let hash = flow.to_words().iter().fold(state.seed, |hash, word| mix(hash ^ word));
        usize::try_from(hash % state.worker_count as u64).unwrap_or(0)
    }

    /// A datagram arrives at the worker that the flow's hash names.
    pub fn deliver(&self, flow: FlowKey, bytes: &[u8], arrival_ns: u64) {
        self.deliver_to(self.steer(&flow), flow, bytes, arrival_ns);
    }

    /// A datagram arrives at a worker.
    pub fn deliver_to(&self, worker: usize, flow: FlowKey, bytes: &[u8], arrival_ns: u64) {
        self.deliver_meta(worker, RxMeta { flow, arrival_ns, ecn: Ecn::default() }, bytes);
    }

    /// A datagram arrives at a worker, with all that a port can know of it.
    pub fn deliver_meta(&self, worker: usize, meta: RxMeta, bytes: &[u8]) {
        let packet = Rc::new(Packet { meta, bytes: bytes.to_vec() });
        self.state.borrow_mut().enter(worker, &packet);
    }

    /// All that was sent since the last call, in order.
    #[must_use]
    pub fn take_sent(&self) -> Vec<Sent> {
        self.state.borrow_mut().sent.drain(..).collect()
    }

    /// Loss, duplication and reordering on the way in.
    pub fn set_inbound_weather(&self, weather: Weather) {
        self.state.borrow_mut().inbound = weather;
    }

    /// Loss, duplication and reordering on the way out.
    pub fn set_outbound_weather(&self, weather: Weather) {
        self.state.borrow_mut().outbound = weather;
    }

    /// Frames of each worker's tx pool (1024 at first). A smaller pool provokes back-pressure.
    pub fn set_tx_frames(&self, frames: usize) {
        self.state.borrow_mut().tx_frames = frames;
    }

    /// Packets that a worker's rx queue holds (65,536 at first); what exceeds it is counted as rx overflow.
    pub fn set_rx_frames(&self, frames: usize) {
        self.state.borrow_mut().rx_frames = frames;
    }

    /// From here on flushed frames stay in flight until [`Self::complete`]; otherwise they complete at the flush.
    pub fn hold_completions(&self, hold: bool) {
        self.state.borrow_mut().holds_completions = hold;
    }

    /// From here on the paths to this remote port have no room, as if another port that is full sent for them.
    pub fn stick(&self, remote_port: Option<u16>) {
        self.state.borrow_mut().stuck = remote_port;
    }

    /// From here on one of `nth` frames that are asked for is refused although there is room; 0 = none.
    pub fn refuse_every(&self, nth: u64) {
        self.state.borrow_mut().refused = nth;
    }

    /// The kernel is done with up to `frames` frames of a worker: the next `reap` takes them back.
    pub fn complete(&self, worker: usize, frames: u64) {
        let mut state = self.state.borrow_mut();
        let ledger = &mut state.worker(worker).ledger;
        let done = frames.min(ledger.tx_in_flight);
        ledger.tx_in_flight -= done;
        ledger.tx_completed += done;
    }

    /// Packets that wait for a worker (those of an unreleased batch included).
    #[must_use]
    pub fn waiting(&self, worker: usize) -> usize {
        self.state.borrow_mut().worker(worker).queue.len()
    }

    /// The frames of a worker.
    #[must_use]
    pub fn frames(&self, worker: usize) -> FrameLedger {
        self.state.borrow_mut().worker(worker).ledger
    }
}

#[derive(Clone, Copy, Debug)]
struct SimulatedPath {
    flow: FlowKey,
    dscp: u8,
    ecn: Ecn,
}

#[derive(Debug)]
struct Reserved {
    path: SimulatedPath,
    bytes: Vec<u8>,
}

/// The port of one worker of a [`SimulatedNetwork`].
#[derive(Debug)]
pub struct SimulatedPort {
    network: SimulatedNetwork,
    worker: usize,
    batch: Vec<Rc<Packet>>,
    paths: Vec<Option<SimulatedPath>>,
    reserved: Option<Reserved>,
    committed: VecDeque<Sent>,
}

impl SimulatedPort {
    /// Which worker this is.
    #[must_use]
    pub const fn worker(&self) -> usize {
        self.worker
    }

    fn is_stuck(&self, path: PathSlot) -> bool {
        let remote_port = self.paths.get(path.0 as usize).and_then(|path| Some(path.as_ref()?.flow.remote_port));
        remote_port.is_some() && remote_port == self.network.state.borrow().stuck
    }
}

impl Port for SimulatedPort {
    fn kind(&self) -> PortKind {
        PortKind::Simulated
    }

    fn receive(&mut self, max: usize) -> usize {
        if !self.batch.is_empty() {
            return 0;
        }
        let mut state = self.network.state.borrow_mut();
        let worker = state.worker(self.worker);
        self.batch.extend(worker.queue.iter().take(max.min(limits::BATCH)).map(Rc::clone));
        worker.lent = self.batch.len();
        worker.ledger.rx_lent += self.batch.len() as u64;
        self.batch.len()
    }

    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        self.batch.get(index).map(|packet| (packet.bytes.as_slice(), packet.meta))
    }

    fn release(&mut self) {
        let mut state = self.network.state.borrow_mut();
        let worker = state.worker(self.worker);
        worker.queue.drain(..worker.lent.min(worker.queue.len()));
        worker.ledger.rx_returned += worker.lent as u64;
        worker.lent = 0;
        self.batch.clear();
    }

    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        // A slot number is never given twice, so that a closed one stays closed.
        let slot = u32::try_from(self.paths.len()).map_err(|_| PathError::Full)?;
        self.paths.push(Some(SimulatedPath { flow: *flow, dscp, ecn }));
        Ok(PathSlot(slot))
    }

    fn close_path(&mut self, path: PathSlot) {
        if let Some(entry) = self.paths.get_mut(path.0 as usize) {
            *entry = None;
        }
    }

    fn tx_room(&self) -> usize {
        self.network.state.borrow_mut().tx_room(self.worker, self.committed.len())
    }

    fn room_for(&mut self, path: PathSlot, _: usize) -> usize {
        if self.is_stuck(path) { 0 } else { self.tx_room() }
    }

    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        if self.is_stuck(path) || self.network.state.borrow_mut().refuses() {
            return None;
        }
        let path = self.paths.get(path.0 as usize).copied().flatten()?;
        if len > limits::FRAME_BYTES {
            return None;
        }
        let bytes = if let Some(reserved) = self.reserved.take() {
            reserved.bytes
        } else {
            let mut state = self.network.state.borrow_mut();
            if state.tx_room(self.worker, self.committed.len()) == 0 {
                return None;
            }
            state.worker(self.worker).ledger.tx_lent += 1;
            Vec::new()
        };
        let reserved = self.reserved.insert(Reserved { path, bytes });
        reserved.bytes.resize(len, 0);
        Some(&mut reserved.bytes)
    }

    fn commit(&mut self, len: usize) {
        if let Some(Reserved { path, mut bytes }) = self.reserved.take() {
            bytes.truncate(len);
            let SimulatedPath { flow, dscp, ecn } = path;
            self.committed.push_back(Sent { flow, bytes, worker: self.worker, dscp, ecn });
        }
    }

    fn flush(&mut self) -> Flushed {
        let mut state = self.network.state.borrow_mut();
        let mut frames = 0;
        for sent in self.committed.drain(..) {
            state.leave(sent);
            frames += 1;
        }
        let held = state.holds_completions;
        let ledger = &mut state.worker(self.worker).ledger;
        if held {
            ledger.tx_in_flight += u64::from(frames);
        } else {
            ledger.tx_completed += u64::from(frames);
        }
        Flushed { frames, errors: 0 }
    }

    fn reap(&mut self) {
        let mut state = self.network.state.borrow_mut();
        let ledger = &mut state.worker(self.worker).ledger;
        ledger.tx_returned += ledger.tx_completed;
        ledger.tx_completed = 0;
    }

    fn rx_overflow(&self) -> u64 {
        self.network.state.borrow_mut().worker(self.worker).overflow
    }
}

impl Drop for SimulatedPort {
    fn drop(&mut self) {
        let mut state = self.network.state.borrow_mut();
        let worker = state.worker(self.worker);
        worker.ledger.rx_returned += worker.lent as u64;
        worker.lent = 0;
        let held = self.committed.len() + usize::from(self.reserved.is_some());
        worker.ledger.tx_returned += held as u64;
    }
}
