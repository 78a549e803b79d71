// SPDX-License-Identifier: Apache-2.0
//! A worker: everything that one pinned thread remembers, and the calls of its turn.

use std::sync::Arc;

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::ids::{IngressId, TransportRef, WorkerId};
use dataplane_abi::limits::{Capacities, ENCODINGS, PATHS, TILE, WORKERS};
use dataplane_abi::ring::{Change, Datagram, Event, event_kind};
use dataplane_io::port::PathSlot;
use dataplane_shm::Segment;
use dataplane_shm::ring::{Consumer, Producer};
use dataplane_shm::store::ChunkPool;
use dataplane_srtp::RxContext;

use crate::doors::{Doors, Links};
use crate::hold::map::FixedMap;
use crate::hold::paged::PagePool;
use crate::hold::queue::Queue;
use crate::hold::slab::Slab;
use crate::hold::wheel::Wheel;
use crate::objects::cohort::{BURST, Cohort};
use crate::objects::egress::Egress;
use crate::objects::gate::Gate;
use crate::objects::ingress::Ingress;
use crate::objects::leg::Leg;
use crate::objects::numbers::Intervals;
use crate::peers::Peers;
use crate::receive::admission::Noted;
use crate::receive::missing::Missing;
use crate::receive::recorder::Recorder;
use crate::receive::stun::Reply;
use crate::rehearse::Rehearsal;
use crate::send::catchup::CatchUp;
use crate::send::head::Heads;
use crate::send::lanes::Lanes;
use crate::send::rtx::RtxRequest;

/// Replies (STUN) that wait for the send half.
const REPLIES: usize = 256;
/// Ended streams whose BYE waits.
const BYES: usize = 1024;
/// Retransmissions that wait.
const RTX_REQUESTS: usize = 4096;
/// Egress streams that read with a cursor of their own.
const CATCHING_UP: usize = 4096;
const _: () = assert!(CATCHING_UP < u16::MAX as usize);
/// Transports whose packets a worker records for transport-cc.
const RECORDERS: usize = 512;

/// What a worker is built with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Which worker.
    pub worker: WorkerId,
    /// How many there are.
    pub workers: u16,
    /// Secret seed of hash tables and first sequence numbers.
    pub seed: u64,
    /// Frames of a tile, at most 128: fewer where a frame costs the port much, so that the clock is looked at often enough.
    pub tile_frames: usize,
    /// Age up to which a cached keyframe is sent to a joiner, ns.
    pub keyframe_cache_ns: u64,
    /// DSCP of what is sent.
    pub dscp: u8,
}

impl Config {
    /// The defaults for one worker of `workers`.
    #[must_use]
    pub const fn of(worker: WorkerId, workers: u16, seed: u64) -> Self {
        Self { worker, workers, seed, tile_frames: TILE, keyframe_cache_ns: 2_000_000_000, dscp: 0 }
    }
}

/// The time of a batch or a tile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    /// Monotonic, ns.
    pub mono_ns: u64,
    /// The same instant as NTP time, 32.32 (RFC 5905 §6).
    pub ntp: u64,
}

/// What the daemon has to do outside, after the tiles.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// Workers whose rings were written, as a bit mask.
    pub wake_workers: u64,
    /// The control plane's rings were written.
    pub wake_control: bool,
}

/// Whom an SSRC belongs to on a leg.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Source {
    pub(crate) ingress: u32,
    pub(crate) is_rtx: bool,
}

/// One pinned thread's state. Built once; no call allocates afterwards.
pub struct Worker {
    pub(crate) config: Config,
    pub(crate) segment: Arc<Segment>,
    pub(crate) effects: Effects,
    /// Admissions and failures that the daemon has not taken yet.
    pub(crate) noted: Noted,
    pub(crate) random: u64,

    pub(crate) doors: Doors,
    pub(crate) tracks_of: Links,
    pub(crate) subscriptions_of: Links,
    pub(crate) flows: FixedMap<dataplane_abi::flow::FlowKey, TransportRef>,
    pub(crate) legs: Slab<Leg>,
    pub(crate) leg_at: Vec<u32>,
    /// Of legs that send media.
    pub(crate) media_keys: Slab<RxContext>,
    pub(crate) ingresses: Slab<Ingress>,
    pub(crate) ingress_at: Vec<u32>,
    pub(crate) missing: Slab<Missing>,
    pub(crate) sources: FixedMap<(u32, u32), Source>,
    pub(crate) egresses: Slab<Egress>,
    pub(crate) egress_at: Vec<u32>,
    pub(crate) gates: Slab<Gate>,
    pub(crate) egress_by_ssrc: FixedMap<(u32, u32), u32>,
    pub(crate) cohorts: Slab<Cohort>,
    pub(crate) cohort_at: Vec<u32>,
    /// Of cohorts that have closed numbers.
    pub(crate) maps: Slab<Intervals>,
    pub(crate) cohort_generation: u32,
    pub(crate) recorders: Slab<Recorder>,
    pub(crate) pages: PagePool,
    pub(crate) chunks: ChunkPool,
    pub(crate) wheel: Wheel,

    pub(crate) announced: Queue<u32>,
    pub(crate) keyframes: Queue<u32>,
    pub(crate) replies: Queue<Reply>,
    pub(crate) rtx: Queue<RtxRequest>,
    pub(crate) audio: Queue<u32>,
    pub(crate) video: Queue<u32>,
    pub(crate) catching_up: Queue<u32>,
    /// Those of them that had all they may get, in the last tile.
    pub(crate) paced: usize,
    pub(crate) catch_ups: Slab<CatchUp>,
    /// By slot of an egress stream that is in `catching_up`, whoever has the slot.
    pub(crate) catch_up_at: Vec<u16>,
    pub(crate) scratch: Box<[u8; 2048]>,
    pub(crate) rehearsal: Rehearsal,
    pub(crate) rtcp_in: Vec<u8>,
    /// Streams that ended and whose receivers are still there: BYE is due.
    pub(crate) byes: Queue<(TransportRef, u32)>,
    pub(crate) closed_paths: Queue<PathSlot>,
    /// Members that packets under way have not reached, over all cohorts.
    pub(crate) pending: u64,
    /// Counts what was taken up; see [`Worker::steps`].
    pub(crate) steps: u64,
    /// Headers of the packets under way, in this tile.
    pub(crate) heads: Box<[Heads; BURST]>,
    /// Packets that are sealed together, in this tile.
    pub(crate) lanes: Box<Lanes>,
    /// Arrival times of the frames of the last tile, for the latency histogram.
    pub(crate) arrivals: [u64; TILE],
    pub(crate) arrival_count: usize,

    pub(crate) peers: Peers,
    pub(crate) changes: Consumer<Change>,
    pub(crate) events: Producer<Event>,
    pub(crate) punts: Producer<Datagram>,
    pub(crate) injects: Consumer<Datagram>,
    /// Where a rescan goes on; none = all records are known.
    pub(crate) rescan_at: Option<u32>,
}

/// Why a worker cannot be built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WorkerError {
    /// The segment has no room for that many workers, or a part of it is not mapped.
    Segment,
}

impl Worker {
    /// Builds a worker over a segment; everything it will ever hold is reserved here.
    ///
    /// # Errors
    /// [`WorkerError::Segment`].
    pub fn new(config: Config, segment: Segment, peers: Peers, now: Now) -> Result<Self, WorkerError> {
        let capacities = segment.capacities();
        let id = config.worker;
        if id.index() >= WORKERS || segment.counters(id).is_none() {
            return Err(WorkerError::Segment);
        }
        let transports = capacities.transports as usize;
        let ingresses = capacities.tracks as usize * ENCODINGS;
        let subscriptions = capacities.subscriptions as usize;
        let (first_chunk, chunk_count) = chunk_share(capacities, config);
        let worker = Self {
            config,
            effects: Effects::default(),
            noted: Noted::new(),
            random: config.seed,
            doors: Doors::new(transports, config.seed),
            tracks_of: Links::new(transports, capacities.tracks as usize),
            subscriptions_of: Links::new(transports, subscriptions),
            flows: FixedMap::new(transports * 4, config.seed ^ 1),
            legs: Slab::new(transports),
            leg_at: vec![0; transports],
            media_keys: Slab::new(transports),
            ingresses: Slab::new(ingresses),
            ingress_at: vec![0; ingresses],
            missing: Slab::new(ingresses),
            sources: FixedMap::new(ingresses * 2, config.seed ^ 2),
            egresses: Slab::new(subscriptions),
            egress_at: vec![0; subscriptions],
            gates: Slab::new(subscriptions),
            egress_by_ssrc: FixedMap::new(subscriptions * 2, config.seed ^ 3),
            cohorts: Slab::new(ingresses),
            cohort_at: vec![0; ingresses],
            maps: Slab::new(ingresses),
            cohort_generation: first_cohort_generation(now),
            recorders: Slab::new(RECORDERS),
            // Members and those that wait: two lists per cohort.
            pages: PagePool::new(subscriptions * 2, ingresses * 2),
            chunks: ChunkPool::new(&segment, first_chunk, chunk_count).ok_or(WorkerError::Segment)?,
            wheel: Wheel::new(transports, now.mono_ns),
            announced: Queue::new(ingresses),
            keyframes: Queue::new(ingresses),
            replies: Queue::new(REPLIES),
            rtx: Queue::new(RTX_REQUESTS),
            audio: Queue::new(ingresses),
            video: Queue::new(ingresses),
            catching_up: Queue::new(CATCHING_UP),
            paced: 0,
            catch_ups: Slab::new(CATCHING_UP),
            catch_up_at: vec![0; subscriptions],
            scratch: Box::new([0; 2048]),
            rehearsal: Rehearsal::new(),
            rtcp_in: vec![0; 2048],
            byes: Queue::new(BYES),
            closed_paths: Queue::new(transports * PATHS),
            pending: 0,
            steps: 0,
            heads: Box::new([const { Heads::new() }; BURST]),
            lanes: Box::new(Lanes::new()),
            arrivals: [0; TILE],
            arrival_count: 0,
            peers,
            changes: segment.change_consumer(id).ok_or(WorkerError::Segment)?,
            events: segment.event_producer(id).ok_or(WorkerError::Segment)?,
            punts: segment.punt_producer(id).ok_or(WorkerError::Segment)?,
            injects: segment.inject_consumer(id).ok_or(WorkerError::Segment)?,
            rescan_at: Some(0),
            segment: Arc::new(segment),
        };
        worker.settle_predecessor();
        Ok(worker)
    }

    /// This worker's id.
    #[must_use]
    pub fn id(&self) -> WorkerId {
        self.config.worker
    }

    /// Takes the effects that have gathered.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Counts entries of rings and queues, records and timers that were taken up. Between two clock reads in which it stands
    /// still and no packet was received, the worker has done nothing: the time was somebody else's.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    pub(crate) fn step(&mut self) {
        self.steps = self.steps.wrapping_add(1);
    }

    /// Arrival times (monotonic ns) of the frames that the last tile committed.
    #[must_use]
    pub fn tile_arrivals(&self) -> &[u64] {
        self.arrivals.get(..self.arrival_count).unwrap_or(&[])
    }

    /// Runs `update` on this worker's counters.
    pub(crate) fn count<R>(&self, update: impl FnOnce(&WorkerCounters) -> R) -> Option<R> {
        self.segment.counters(self.config.worker).map(update)
    }

    /// A random word for first numbers; not a secret that protects anything.
    pub(crate) fn next_random(&mut self) -> u64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Tells the control plane something.
    pub(crate) fn tell(&mut self, kind: u32, transport: TransportRef, now: Now, arg: u64) {
        let event = Event {
            kind,
            worker: u32::from(self.config.worker.0),
            transport,
            at_ns: now.mono_ns,
            arg,
            reserve: [0; 4],
        };
        // A full ring loses the event; the control plane reads the durable records when it finds gaps.
        if self.events.push(&event).is_ok() {
            self.effects.wake_control = true;
        }
    }

    /// Says that this worker has started; called once before its first turn.
    pub fn announce(&mut self, now: Now) {
        let worker = u64::from(self.config.worker.0);
        self.tell(event_kind::STARTED, TransportRef::NONE, now, worker);
    }

    pub(crate) fn leg_of(&self, transport: TransportRef) -> Option<u32> {
        let slot = self.leg_at.get(transport.index())?.checked_sub(1)?;
        (self.legs.get(slot)?.transport == transport).then_some(slot)
    }

    pub(crate) fn ingress_of(&self, id: IngressId) -> Option<u32> {
        self.ingress_at.get(id.index())?.checked_sub(1)
    }

    pub(crate) fn cohort_of(&self, id: IngressId) -> Option<u32> {
        self.cohort_at.get(id.index())?.checked_sub(1)
    }
}

/// The part of the store's chunks that belongs to a worker.
fn chunk_share(capacities: &Capacities, config: Config) -> (u32, u32) {
    let each = capacities.chunks / u32::from(config.workers.max(1));
    (each * u32::from(config.worker.0), each)
}

/// Generations of cohorts are written into durable stretches: a successor's begin elsewhere, so that none is taken for one of
/// its predecessor's. In steps of 65 µs, more than a worker makes cohorts.
fn first_cohort_generation(now: Now) -> u32 {
    u32::try_from((now.mono_ns >> 16) & u64::from(u32::MAX)).unwrap_or(1).max(1)
}
