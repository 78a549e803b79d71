// SPDX-License-Identifier: Apache-2.0
//! No packet costs an allocation: a steady call, counted. The simulated port allocates for itself; that is not counted.
#![expect(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::tests_outside_test_module,
    reason = "a counting allocator, and tests fail by panicking"
)]

#[path = "forward/support.rs"]
mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use dataplane_abi::flow::FlowKey;
use dataplane_abi::limits::BATCH;
use dataplane_io::port::{Ecn, Flushed, PathError, PathSlot, Port, PortKind, RxMeta};
use dataplane_io::simulated::SimulatedPort;
use dataplane_srtp::Profile;

use crate::support::call::{Call, MS, SECOND};

thread_local! {
    static COUNTING: Cell<bool> = const { Cell::new(false) };
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: because every call is passed on unchanged to the system's allocator, its contract is this one's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTING.get() {
            ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        }
        // SAFETY: because the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: because the caller keeps the contract of `dealloc`, and all memory is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn paused<R>(work: impl FnOnce() -> R) -> R {
    let was = COUNTING.replace(false);
    let result = work();
    COUNTING.set(was);
    result
}

/// A port whose own allocations are not counted.
struct Quiet<'a>(&'a mut SimulatedPort);

impl Port for Quiet<'_> {
    fn kind(&self) -> PortKind {
        self.0.kind()
    }
    fn receive(&mut self, max: usize) -> usize {
        paused(|| self.0.receive(max))
    }
    fn packet(&self, index: usize) -> Option<(&[u8], RxMeta)> {
        self.0.packet(index)
    }
    fn release(&mut self) {
        paused(|| self.0.release());
    }
    fn open_path(&mut self, flow: &FlowKey, dscp: u8, ecn: Ecn) -> Result<PathSlot, PathError> {
        paused(|| self.0.open_path(flow, dscp, ecn))
    }
    fn close_path(&mut self, path: PathSlot) {
        paused(|| self.0.close_path(path));
    }
    fn tx_room(&self) -> usize {
        self.0.tx_room()
    }
    fn room_for(&mut self, path: PathSlot, len: usize) -> usize {
        self.0.room_for(path, len)
    }
    fn reserve(&mut self, path: PathSlot, len: usize) -> Option<&mut [u8]> {
        paused(|| self.0.reserve(path, len))
    }
    fn commit(&mut self, len: usize) {
        paused(|| self.0.commit(len));
    }
    fn flush(&mut self) -> Flushed {
        paused(|| self.0.flush())
    }
    fn reap(&mut self) {
        paused(|| self.0.reap());
    }
}

/// A turn of every worker, counted.
fn counted_turn(call: &mut Call) {
    let now = call.bed.now;
    for (worker, port) in call.bed.workers.iter_mut().zip(&mut call.bed.ports) {
        let mut port = Quiet(port);
        COUNTING.set(true);
        worker.apply_changes(now);
        worker.take_handed(now);
        port.reap();
        let count = port.receive(BATCH);
        worker.receive(&port, count, now);
        port.release();
        for _ in 0..16 {
            if !worker.transmit(&mut port, now).is_more {
                break;
            }
        }
        worker.timers(&mut port, now);
        worker.rehearse(&mut port, now);
        COUNTING.set(false);
    }
}

fn counted_run(call: &mut Call, ns: u64) -> u64 {
    ALLOCATIONS.set(0);
    let end = call.bed.now.mono_ns + ns;
    while call.bed.now.mono_ns < end {
        call.bed.advance(MS);
        call.send_clients();
        counted_turn(call);
        call.take_sent();
    }
    ALLOCATIONS.get()
}

#[test]
fn a_steady_call_with_losses_allocates_nothing() {
    assert_steady(Profile::AeadAes128Gcm);
    // Packets are held and sealed together.
    assert_steady(Profile::AesCm128HmacSha1_80);
    // The counter counts.
    ALLOCATIONS.set(0);
    COUNTING.set(true);
    let kept = std::hint::black_box(vec![1_u8; 10]);
    COUNTING.set(false);
    assert!(ALLOCATIONS.get() == 1 && kept.len() == 10);
}

fn assert_steady(profile: Profile) {
    let mut call = Call::new(1, 2);
    call.profile = profile;
    let publisher = call.join(0);
    let tracks = [call.publish(publisher, false), call.publish(publisher, true)];
    for at in 0..4 {
        let who = call.join(at % 2);
        for track in &tracks {
            call.subscribe(who, track);
        }
    }
    call.run(2 * SECOND);
    call.clients[publisher].loss = 20;
    assert_eq!(counted_run(&mut call, 5 * SECOND), 0);
    for who in 1..5 {
        assert!(call.incoming(who, 0).got.len() > 200);
    }
}

#[test]
fn joining_and_leaving_receivers_allocate_nothing() {
    let mut call = Call::new(2, 2);
    let publisher = call.join(0);
    let tracks = [call.publish(publisher, false), call.publish(publisher, true)];
    call.run(2 * SECOND);
    let mut allocations = 0;
    for at in 0..20 {
        let who = call.join(at % 2);
        let subscriptions: Vec<_> = tracks.iter().map(|track| call.subscribe(who, track)).collect();
        allocations += counted_run(&mut call, 300 * MS);
        assert!(call.incoming(who, 1).got.len() > 5);
        call.leave(who, &subscriptions);
        allocations += counted_run(&mut call, 20 * MS);
    }
    assert_eq!(allocations, 0);
}

#[test]
fn changing_who_is_shown_allocates_nothing() {
    let mut call = Call::new(3, 2);
    let publishers = [call.join(0), call.join(1)];
    let tracks = publishers.map(|who| call.publish(who, true));
    let slots: Vec<_> = (0..4)
        .map(|at| {
            let who = call.join(at % 2);
            call.add_slot(who, true)
        })
        .collect();
    call.run(2 * SECOND);
    let mut allocations = 0;
    for at in 0..60_usize {
        call.show(slots[at % 4], tracks.get(at % 3));
        allocations += counted_run(&mut call, 30 * MS);
    }
    assert_eq!(allocations, 0);
    assert!((2..6).all(|who| call.incoming(who, 0).got.len() > 5));
}
