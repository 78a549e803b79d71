// SPDX-License-Identifier: Apache-2.0
//! Model of the ring's positions, with entries of the model's own: every interleaving of one producer and one consumer.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release -p dataplane-shm --test loom_ring`
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]
#![expect(unsafe_code, reason = "the model's entries; loom itself checks the accesses")]

use dataplane_shm::ring::protocol::{ConsumerCursor, ProducerCursor};
use dataplane_shm::sync::{AtomicU64, Word};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

const CAPACITY: u64 = 2;

/// A ring whose entries loom watches: an access while the other side may access too fails the model.
struct Ring {
    produced: AtomicU64,
    consumed: AtomicU64,
    entries: [UnsafeCell<u64>; 2],
}

// SAFETY: the entries are shared under the protocol that the model checks; loom panics where it does not hold.
unsafe impl Sync for Ring {}
// SAFETY: nothing in the ring is bound to a thread.
unsafe impl Send for Ring {}

impl Ring {
    fn new(start: u64) -> Arc<Self> {
        Arc::new(Self {
            produced: AtomicU64::new(start),
            consumed: AtomicU64::new(start),
            entries: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn entry(&self, position: u64) -> &UnsafeCell<u64> {
        self.entries.get(usize::try_from(position % CAPACITY).unwrap()).unwrap()
    }
}

fn push(ring: &Ring, cursor: &mut ProducerCursor, value: u64) -> bool {
    let Some(position) = cursor.claim(&ring.consumed, CAPACITY) else { return false };
    // SAFETY: the claimed entry is the producer's alone; loom fails the model otherwise.
    ring.entry(position).with_mut(|entry| unsafe { *entry = value });
    cursor.publish(&ring.produced);
    true
}

fn pop(ring: &Ring, cursor: &mut ConsumerCursor) -> Option<u64> {
    let position = cursor.next(&ring.produced, &ring.consumed, CAPACITY)?;
    // SAFETY: the published entry is the consumer's alone; loom fails the model otherwise.
    let value = ring.entry(position).with(|entry| unsafe { *entry });
    cursor.release(&ring.consumed);
    Some(value)
}

fn run(start: u64) {
    loom::model(move || {
        let ring = Ring::new(start);
        let mut producer = ProducerCursor::attach(&ring.produced, &ring.consumed);
        let mut consumer = ConsumerCursor::attach(&ring.consumed);
        let writing = {
            let ring = Arc::clone(&ring);
            thread::spawn(move || {
                let mut written = 0;
                for _ in 0..4 {
                    written += u64::from(push(&ring, &mut producer, written + 1));
                }
                assert_eq!(producer.refused(), 0);
                written
            })
        };
        let mut read = 0;
        for _ in 0..4 {
            if let Some(value) = pop(&ring, &mut consumer) {
                read += 1;
                assert_eq!(value, read, "in order, none twice, none lost");
            }
        }
        let written = writing.join().unwrap();
        while let Some(value) = pop(&ring, &mut consumer) {
            read += 1;
            assert_eq!(value, read);
        }
        assert_eq!(read, written);
        assert!(written >= CAPACITY);
        assert_eq!(consumer.refused(), 0);
    });
}

#[test]
fn every_entry_arrives_once_in_order_in_every_interleaving() {
    run(0);
}

#[test]
fn positions_may_wrap_around_the_word() {
    run(u64::MAX - 1);
}

/// A change that found the ring full is not lost: who sees the overflow sees what it did not announce.
#[test]
fn an_overflow_shows_the_head_that_was_not_announced() {
    loom::model(|| {
        let ring = Ring::new(0);
        let head = Arc::new(AtomicU64::new(0));
        let overflows = Arc::new(AtomicU64::new(0));
        let writing = {
            let (ring, head, overflows) = (Arc::clone(&ring), Arc::clone(&head), Arc::clone(&overflows));
            thread::spawn(move || {
                let mut producer = ProducerCursor::attach(&ring.produced, &ring.consumed);
                for value in 1..=3 {
                    head.store_release(value);
                    if !push(&ring, &mut producer, value) {
                        dataplane_shm::publish::store_word(&*overflows, value);
                    }
                }
            })
        };
        let mut consumer = ConsumerCursor::attach(&ring.consumed);
        let _ = pop(&ring, &mut consumer);
        let missed = overflows.load_acquire();
        assert!(head.load_relaxed() >= missed);
        while let Some(value) = pop(&ring, &mut consumer) {
            assert!(head.load_relaxed() >= value);
        }
        writing.join().unwrap();
    });
}
