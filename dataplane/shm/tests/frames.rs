// SPDX-License-Identifier: Apache-2.0
//! The frame table under a model of a UMEM with a kernel and two workers, killed at its stores: after every takeover each
//! frame is in exactly one place, and what is the kernel's stays the kernel's.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::cell::Cell;
use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use dataplane_abi::frames::{FrameShape, FrameState, frame_code, frame_layout};
use dataplane_abi::ids::WorkerId;
use dataplane_shm::Mapping;
use dataplane_shm::frames::{FrameRefused, FrameTable, FrameTableError, Reclaimed, Ring, RingKind, RingPosition};
use dataplane_shm::publish::{self, CrashPoint};

const SHAPE: FrameShape = FrameShape { frames: 48, frame_bytes: 2048, queues: 2, workers: 2 };
const ENTRIES: u32 = 16;
/// Where the indices of the model's rings start: 40 before they wrap.
const START: u32 = u32::MAX - 40;

/// Splitmix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        u32::try_from((word ^ (word >> 31)) % u64::from(bound)).unwrap()
    }
}

/// One ring as the kernel shares it.
struct ModelRing {
    produced: AtomicU32,
    consumed: AtomicU32,
    slots: Vec<Cell<u32>>,
}

impl ModelRing {
    fn new() -> Self {
        let slots = (0..ENTRIES).map(|_| Cell::new(u32::MAX)).collect();
        Self { produced: AtomicU32::new(START), consumed: AtomicU32::new(START), slots }
    }

    fn slot(&self, position: u32) -> &Cell<u32> {
        &self.slots[(position % ENTRIES) as usize]
    }

    fn len(&self) -> u32 {
        self.produced.load(Ordering::Relaxed).wrapping_sub(self.consumed.load(Ordering::Relaxed))
    }

    fn room(&self) -> u32 {
        ENTRIES - self.len()
    }

    /// The frames in the ring, oldest first.
    fn frames(&self) -> Vec<u32> {
        let first = self.consumed.load(Ordering::Relaxed);
        (0..self.len()).map(|offset| self.slot(first.wrapping_add(offset)).get()).collect()
    }

    /// The kernel's side of fill and tx.
    fn kernel_takes(&self) -> Option<u32> {
        let frame = *self.frames().first()?;
        self.consumed.fetch_add(1, Ordering::Relaxed);
        Some(frame)
    }

    /// The kernel's side of rx and completion.
    fn kernel_gives(&self, frame: u32) {
        self.slot(self.produced.load(Ordering::Relaxed)).set(frame);
        self.produced.fetch_add(1, Ordering::Relaxed);
    }
}

/// A worker's queue: its four rings, and the frames that the kernel has and no ring shows.
struct Queue {
    fill: ModelRing,
    rx: ModelRing,
    tx: ModelRing,
    completion: ModelRing,
    receiving: VecDeque<u32>,
    sending: VecDeque<u32>,
}

impl Queue {
    fn ring(&self, kind: RingKind) -> &ModelRing {
        match kind {
            RingKind::Fill => &self.fill,
            RingKind::Rx => &self.rx,
            RingKind::Tx => &self.tx,
            RingKind::Completion => &self.completion,
        }
    }

    /// The index that the worker writes.
    fn index(&self, kind: RingKind) -> &AtomicU32 {
        match kind {
            RingKind::Fill | RingKind::Tx => &self.ring(kind).produced,
            RingKind::Rx | RingKind::Completion => &self.ring(kind).consumed,
        }
    }

    /// What the kernel has for receiving, and for sending.
    fn of_kernel(&self) -> [Vec<u32>; 2] {
        let receiving = [self.fill.frames(), self.receiving.iter().copied().collect(), self.rx.frames()].concat();
        let sending = [self.tx.frames(), self.sending.iter().copied().collect(), self.completion.frames()].concat();
        [receiving, sending]
    }

    fn kernel_step(&mut self, dice: &mut Dice) {
        match dice.below(4) {
            0 => self.receiving.extend(self.fill.kernel_takes()),
            1 if self.rx.room() > 0 && !self.receiving.is_empty() => {
                // A NIC gives frames back in any order.
                let which = dice.below(u32::try_from(self.receiving.len()).unwrap()) as usize;
                self.rx.kernel_gives(self.receiving.remove(which).unwrap());
            }
            2 => self.sending.extend(self.tx.kernel_takes()),
            3 if self.completion.room() > 0 => {
                if let Some(frame) = self.sending.pop_front() {
                    self.completion.kernel_gives(frame);
                }
            }
            _ => {}
        }
    }
}

fn ring(kind: RingKind, worker: u16) -> Ring {
    // Each worker has a queue of its own.
    Ring { kind, queue: worker, worker: WorkerId(worker) }
}

/// A UMEM, its table, its kernel and its workers' private free lists.
struct Model {
    table: FrameTable,
    queues: [Queue; 2],
    lists: [Vec<u32>; 2],
}

impl Model {
    fn new() -> Self {
        let (_fd, table) = FrameTable::create(&SHAPE).unwrap();
        for worker in 0..2 {
            for kind in RingKind::ALL {
                assert_eq!(table.reserve(ring(kind, worker), START), Ok(START));
            }
        }
        let queue = || Queue {
            fill: ModelRing::new(),
            rx: ModelRing::new(),
            tx: ModelRing::new(),
            completion: ModelRing::new(),
            receiving: VecDeque::new(),
            sending: VecDeque::new(),
        };
        Self { table, queues: [queue(), queue()], lists: [Vec::new(), Vec::new()] }
    }

    /// Passes up to `most` frames through a ring, as a port does.
    fn pass(&mut self, kind: RingKind, worker: u16, most: u32) -> usize {
        let queue = &self.queues[usize::from(worker)];
        let (shared, list) = (queue.ring(kind), &mut self.lists[usize::from(worker)]);
        let frames = if matches!(kind, RingKind::Fill | RingKind::Tx) {
            let count = (most.min(shared.room()) as usize).min(list.len());
            let frames = list.split_off(list.len() - count);
            for (position, &frame) in (0..).zip(&frames) {
                shared.slot(shared.produced.load(Ordering::Relaxed).wrapping_add(position)).set(frame);
            }
            frames
        } else {
            let mut frames = shared.frames();
            frames.truncate(most as usize);
            frames
        };
        self.table.pass(ring(kind, worker), &frames, queue.index(kind)).unwrap();
        if matches!(kind, RingKind::Rx | RingKind::Completion) {
            list.extend(&frames);
        }
        frames.len()
    }

    /// Claims up to `most` free frames.
    fn claim(&mut self, worker: u16, most: usize) {
        let free: Vec<_> = self.table.frames_in(FrameState::Free).take(most).collect();
        for frame in free {
            if self.table.claim(frame, WorkerId(worker)) {
                self.lists[usize::from(worker)].push(frame);
            }
        }
    }

    fn worker_step(&mut self, worker: u16, dice: &mut Dice) {
        match dice.below(9) {
            0 => self.claim(worker, dice.below(6) as usize),
            // A worker that has too many lets others have some.
            1 if self.lists[usize::from(worker)].len() > 12 => {
                let frame = self.lists[usize::from(worker)].pop().unwrap();
                self.table.mark(frame, FrameState::Free).unwrap();
            }
            kind => {
                let most = dice.below(8);
                self.pass(RingKind::ALL[kind as usize % 4], worker, most);
            }
        }
    }

    fn kernel_steps(&mut self, dice: &mut Dice, count: u32) {
        for _ in 0..count {
            let queue = dice.below(2) as usize;
            self.queues[queue].kernel_step(dice);
        }
    }

    fn reclaim(&self, worker: u16) -> Reclaimed {
        let queue = &self.queues[usize::from(worker)];
        let position = |kind| {
            let index = queue.index(kind).load(Ordering::Relaxed);
            RingPosition { ring: ring(kind, worker), index, entries: ENTRIES }
        };
        let frame_at = |ring: Ring, position| Some(queue.ring(ring.kind).slot(position).get());
        self.table.reclaim(WorkerId(worker), &RingKind::ALL.map(position), frame_at).unwrap()
    }

    /// The private list of a dead worker dies with it.
    fn bury(&mut self, worker: u16) {
        self.lists[usize::from(worker)].clear();
    }

    /// Every frame in exactly one place, and its byte says which.
    fn check(&self, at: &str) {
        let mut places = vec![Vec::new(); SHAPE.frames as usize];
        for (number, (queue, list)) in (0..).zip(self.queues.iter().zip(&self.lists)) {
            let [receiving, sending] = queue.of_kernel();
            let worker = FrameState::Worker(WorkerId(number));
            for (state, frames) in [(FrameState::Fill, &receiving), (FrameState::Tx, &sending), (worker, list)] {
                for frame in frames {
                    places[*frame as usize].push(state);
                }
            }
        }
        for frame in self.table.frames_in(FrameState::Free) {
            places[frame as usize].push(FrameState::Free);
        }
        for (frame, places) in (0..).zip(&places) {
            let state = self.table.state(frame).unwrap();
            assert_eq!(places.as_slice(), [state], "{at}: frame {frame} is marked {state:?}");
        }
    }
}

/// Runs `act` until its n-th store; true when it died there.
fn dies_at(n: u64, after: bool, act: impl FnOnce()) -> bool {
    if after {
        publish::arm_after(n);
    } else {
        publish::arm(n);
    }
    let died = match catch_unwind(AssertUnwindSafe(act)) {
        Ok(()) => false,
        Err(payload) => {
            assert!(payload.is::<CrashPoint>(), "another panic");
            true
        }
    };
    publish::disarm();
    died
}

/// A model in the middle of its life: frames in every place.
fn busy(seed: u64) -> (Model, Dice) {
    let (mut model, mut dice) = (Model::new(), Dice(seed));
    for _ in 0..300 {
        let worker = u16::try_from(dice.below(2)).unwrap();
        model.worker_step(worker, &mut dice);
        model.kernel_steps(&mut dice, 3);
    }
    model.check("busy");
    (model, dice)
}

// CONTRACTS 5, 15
#[test]
fn death_at_any_store_of_a_round_loses_no_frame_and_frees_none_of_the_kernels() {
    let mut seen = Reclaimed::default();
    for after in [false, true] {
        for n in 1.. {
            let (mut model, mut dice) = busy(7);
            // Something in every ring, so that the round has something to take.
            model.claim(0, 48);
            model.pass(RingKind::Fill, 0, 6);
            model.pass(RingKind::Tx, 0, 6);
            model.kernel_steps(&mut dice, 200);
            let died = dies_at(n, after, || {
                for kind in [RingKind::Rx, RingKind::Fill, RingKind::Completion, RingKind::Tx] {
                    assert!(model.pass(kind, 0, 4) > 1, "{kind:?} passes frames");
                }
            });
            if !died {
                assert!(n > 16, "four rings of at least two frames, a reservation and an index each");
                break;
            }
            model.bury(0);
            model.kernel_steps(&mut dice, 20);
            let reclaimed = model.reclaim(0);
            assert_eq!(reclaimed.refused, 0, "store {n}");
            model.check(&format!("store {n}, after {after}"));
            seen.freed += reclaimed.freed;
            seen.taken_back += reclaimed.taken_back;
            seen.left_to_kernel += reclaimed.left_to_kernel;
        }
    }
    assert!(seen.freed > 0 && seen.taken_back > 0 && seen.left_to_kernel > 0, "{seen:?}");
}

// CONTRACTS 5, 15
#[test]
fn five_hundred_random_deaths_of_workers_and_their_successors_keep_every_frame_in_one_place() {
    let (mut kills, mut kills_of_successors, mut seen) = (0, 0, Reclaimed::default());
    for seed in 0..20 {
        let (mut model, mut dice) = busy(seed);
        for life in 0..40 {
            let victim = u16::try_from(dice.below(2)).unwrap();
            // Half of the deaths are the whole data plane's, the others one worker's.
            let both = dice.below(2) == 0;
            let (n, after) = (1 + u64::from(dice.below(60)), dice.below(2) == 0);
            let died = dies_at(n, after, || {
                for _ in 0..200 {
                    let worker = if both && dice.below(2) == 0 { 1 - victim } else { victim };
                    model.worker_step(worker, &mut dice);
                    model.kernel_steps(&mut dice, 2);
                }
            });
            if !died {
                continue;
            }
            kills += 1;
            let dead = if both { vec![victim, 1 - victim] } else { vec![victim] };
            for &worker in &dead {
                model.bury(worker);
            }
            for &worker in &dead {
                // The first successors die as well, at any store of the takeover, while kernel and living workers go on.
                let mut reclaimed = None;
                while reclaimed.is_none() {
                    model.kernel_steps(&mut dice, 10);
                    if !both {
                        for _ in 0..4 {
                            model.worker_step(1 - victim, &mut dice);
                            model.kernel_steps(&mut dice, 6);
                        }
                    }
                    let (n, after) = (1 + u64::from(dice.below(24)), dice.below(2) == 0);
                    let died = dies_at(n, after, || reclaimed = Some(model.reclaim(worker)));
                    kills_of_successors += u32::from(died);
                }
                let Reclaimed { freed, taken_back, left_to_kernel, refused } = reclaimed.unwrap();
                assert_eq!(refused, 0, "seed {seed}, life {life}");
                assert!(model.table.frames_in(FrameState::Worker(WorkerId(worker))).next().is_none());
                seen.freed += freed;
                seen.taken_back += taken_back;
                seen.left_to_kernel += left_to_kernel;
            }
            model.check(&format!("seed {seed}, life {life}"));
        }
    }
    assert!(kills >= 500 && kills_of_successors >= 200, "{kills} kills, {kills_of_successors} of successors");
    assert!(seen.freed > 500 && seen.taken_back > 200 && seen.left_to_kernel > 100, "{seen:?}");
}

#[test]
fn a_frame_that_is_in_no_ring_stays_the_kernels_until_it_comes_back() {
    let mut model = Model::new();
    model.claim(0, 4);
    assert_eq!(model.pass(RingKind::Fill, 0, 4), 4);
    let queue = &mut model.queues[0];
    queue.receiving.extend(std::iter::from_fn(|| queue.fill.kernel_takes()));
    assert_eq!(model.reclaim(0), Reclaimed::default());
    assert_eq!(model.table.frames_in(FrameState::Fill).count(), 4);
    let queue = &mut model.queues[0];
    while let Some(frame) = queue.receiving.pop_front() {
        queue.rx.kernel_gives(frame);
    }
    assert_eq!(model.pass(RingKind::Rx, 0, 8), 4);
    model.check("came back");
    model.bury(0);
    assert_eq!(model.reclaim(0).freed, 4);
    model.check("freed");
}

#[test]
fn a_slot_that_an_older_lap_filled_is_not_read_for_a_frame_that_was_given() {
    let mut model = Model::new();
    model.claim(0, 24);
    for _ in 0..4 {
        model.pass(RingKind::Fill, 0, 5);
        let queue = &mut model.queues[0];
        queue.receiving.extend(std::iter::from_fn(|| queue.fill.kernel_takes()));
    }
    // Slots are written and nothing is reserved: death here leaves the frames with the worker.
    let died = dies_at(1, false, || {
        model.pass(RingKind::Fill, 0, 4);
    });
    assert!(died);
    model.bury(0);
    assert_eq!(model.reclaim(0), Reclaimed { freed: 4, ..Reclaimed::default() });
    model.check("older lap");
}

#[test]
fn a_frame_that_is_not_the_workers_is_not_passed() {
    let mut model = Model::new();
    model.claim(0, 2);
    let list = model.lists[0].clone();
    let index = AtomicU32::new(START);
    let fill = ring(RingKind::Fill, 0);
    let (worker, other) = (FrameState::Worker(WorkerId(0)), 40);
    let refused = model.table.pass(fill, &[list[0], other], &index).unwrap_err();
    let expected = FrameRefused::NotThere { frame: other, found: Some(FrameState::Free), expected: worker };
    assert_eq!(refused, expected);
    assert_eq!((model.table.reserved(fill), index.load(Ordering::Relaxed)), (Some(START), START), "nothing was stored");
    let refused = model.table.pass(ring(RingKind::Rx, 0), &list, &index).unwrap_err();
    assert_eq!(refused, FrameRefused::NotThere { frame: list[0], found: Some(worker), expected: FrameState::Fill });
    let refused = model.table.pass(fill, &[SHAPE.frames], &index).unwrap_err();
    assert_eq!(refused, FrameRefused::NotThere { frame: SHAPE.frames, found: None, expected: worker });
    let foreign = Ring { kind: RingKind::Fill, queue: 2, worker: WorkerId(0) };
    assert_eq!(model.table.reserve(foreign, 1), Err(FrameRefused::NoRing(foreign)));
    let nobody = FrameState::Worker(WorkerId(64));
    assert_eq!(model.table.mark(0, nobody), Err(FrameRefused::NoFrame { frame: 0, state: nobody }));
    assert!(!model.table.claim(list[0], WorkerId(1)), "it is worker 0's");
}

#[test]
fn positions_that_cannot_be_are_refused_with_their_numbers_and_nothing_is_freed() {
    let (_fd, table) = FrameTable::create(&SHAPE).unwrap();
    let (tx, worker) = (ring(RingKind::Tx, 1), WorkerId(1));
    assert!(table.claim(3, worker));
    assert_eq!(table.reserve(tx, 5), Ok(5));
    let reclaim = |ring, index| table.reclaim(worker, &[RingPosition { ring, index, entries: 4 }], |_, _| Some(3));
    let refused = reclaim(tx, 0).unwrap_err();
    assert_eq!(refused, FrameRefused::Position { ring: tx, index: 0, reserved: 5, entries: 4 });
    assert!(refused.to_string().ends_with("index 0, reserved 5, entries 4"), "{refused}");
    assert!(reclaim(tx, 6).is_err(), "an index beyond what was reserved");
    assert_eq!(table.reclaim(worker, &[], |_, _| None), Err(FrameRefused::Missing(tx)));
    let other = ring(RingKind::Tx, 0);
    assert_eq!(reclaim(other, 0), Err(FrameRefused::NoRing(other)), "a ring of another worker");
    assert_eq!(table.state(3), Some(FrameState::Worker(worker)));
    // Slots that name no frame, or one in a state that no order of stores leaves, are counted and left.
    table.mark(7, FrameState::Fill).unwrap();
    let slots = [3, 7, SHAPE.frames, u32::MAX];
    let at = [RingPosition { ring: tx, index: 1, entries: 4 }];
    let reclaimed = table.reclaim(worker, &at, |_, position| slots.get(position as usize - 1).copied()).unwrap();
    assert_eq!(reclaimed, Reclaimed { freed: 1, taken_back: 1, left_to_kernel: 0, refused: 3 });
    assert_eq!((table.state(3), table.state(7)), (Some(FrameState::Free), Some(FrameState::Fill)));
}

#[test]
fn a_table_is_found_again_by_its_memfd_and_in_a_region_of_another() {
    let (fd, table) = FrameTable::create(&FrameShape { workers: 64, ..SHAPE }).unwrap();
    assert!(table.claim(47, WorkerId(63)));
    table.reserve(Ring { kind: RingKind::Completion, queue: 1, worker: WorkerId(63) }, 9).unwrap();
    let successor = FrameTable::attach(fd.as_fd()).unwrap();
    assert_eq!(successor.shape().workers, 64);
    assert_eq!(successor.state(47), Some(FrameState::Worker(WorkerId(63))));
    assert_eq!(successor.frames_in(FrameState::Free).count(), 47);
    assert_eq!(successor.reserved(Ring { kind: RingKind::Completion, queue: 1, worker: WorkerId(63) }), Some(9));
    assert_eq!(successor.reserved(Ring { kind: RingKind::Rx, queue: 1, worker: WorkerId(63) }), None);
    let bytes = frame_layout(&SHAPE).bytes;
    let mapping = Arc::new(Mapping::anonymous(2 * bytes).unwrap());
    let table = FrameTable::create_in(Arc::clone(&mapping), bytes, &SHAPE).unwrap();
    assert!(table.claim(0, WorkerId(1)));
    let successor = FrameTable::attach_in(Arc::clone(&mapping), bytes).unwrap();
    assert_eq!(successor.state(0), Some(FrameState::Worker(WorkerId(1))));
    for start in [bytes + 64, bytes + 8, usize::MAX - 63] {
        let refused = FrameTable::create_in(Arc::clone(&mapping), start, &SHAPE).unwrap_err();
        assert!(matches!(refused, FrameTableError::Size { .. }), "{refused}");
    }
    assert!(FrameTable::attach_in(Arc::clone(&mapping), 2 * bytes).is_err());
    let refused = FrameTable::attach_in(mapping, 0).unwrap_err();
    assert_eq!(refused, FrameTableError::Version { found_version: 0, found_size: 0 });
}

// CONTRACTS 6
#[test]
fn another_version_of_the_table_is_refused_with_both_numbers() {
    let (fd, _table) = FrameTable::create(&SHAPE).unwrap();
    let mapping = Arc::new(Mapping::of_memfd(fd.as_fd(), frame_layout(&SHAPE).bytes, true).unwrap());
    let words = mapping.words(0, 3).unwrap();
    let good = [0, 1, 2].map(|word: usize| words[word].load(Ordering::Acquire));
    words[0].store(good[0] + 1, Ordering::Release);
    let refused = FrameTable::attach(fd.as_fd()).unwrap_err();
    assert_eq!(refused, FrameTableError::Version { found_version: 2, found_size: 64 });
    let text = refused.to_string();
    assert!(text.contains("version is 2 of 64 bytes") && text.contains("ours is 1 of 64 bytes"), "{text}");
    words[0].store(good[0] + (64 << 16), Ordering::Release);
    let text = FrameTable::attach(fd.as_fd()).unwrap_err().to_string();
    assert!(text.contains("version is 1 of 128 bytes"), "{text}");
    words[0].store(good[0], Ordering::Release);
    words[2].store(good[2] + 1, Ordering::Release);
    let refused = FrameTable::attach(fd.as_fd()).unwrap_err();
    assert_eq!(refused, FrameTableError::Rings { found: 17, expected: 16 });
    words[2].store(good[2], Ordering::Release);
    // More frames than the memory has bytes for, more than any table has, and frames of an odd size.
    for (word, value) in [(1, good[1] + 100_000), (1, good[1] | 0xff00_0000), (0, good[0] + (1 << 32))] {
        words[word].store(value, Ordering::Release);
        let refused = FrameTable::attach(fd.as_fd()).unwrap_err();
        assert!(matches!(refused, FrameTableError::Size { .. } | FrameTableError::Shape { .. }), "{refused}");
        words[word].store(good[word], Ordering::Release);
    }
    FrameTable::attach(fd.as_fd()).unwrap();
    let read_only = Arc::new(Mapping::of_memfd(fd.as_fd(), mapping.bytes(), false).unwrap());
    assert_eq!(FrameTable::attach_in(read_only, 0).unwrap_err(), FrameTableError::ReadOnly);
}

#[test]
fn every_byte_says_one_thing_or_nothing() {
    let mut known = 0;
    for code in 0..=u8::MAX {
        let Some(state) = FrameState::of_code(code) else { continue };
        assert_eq!(state.code(), Some(code));
        known += 1;
    }
    assert_eq!(known, 3 + 64);
    assert_eq!(FrameState::of_code(frame_code::WORKER + 63), Some(FrameState::Worker(WorkerId(63))));
    assert_eq!(FrameState::Worker(WorkerId(64)).code(), None);
}
