// SPDX-License-Identifier: Apache-2.0
//! Rings: order, wrapping, fullness, takeover, and peers that lie about their position.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use dataplane_abi::ids::{TransportRef, WorkerId};
use dataplane_abi::limits::Capacities;
use dataplane_abi::ring::{CHANGE_ENTRIES, Change, DATAGRAM_ENTRIES, Datagram, RingHeader};
use dataplane_abi::segment::intent_layout;
use dataplane_shm::ring::{self, Full};
use dataplane_shm::{Mapping, Segment, SegmentFds};

const WORKER: WorkerId = WorkerId(1);

fn change(slot: u32) -> Change {
    Change { kind: 1, slot, generation: slot ^ 0x5555, reserve: 0 }
}

/// The shared words of worker 1's change ring, as a hostile peer has them.
fn hostile(fds: &SegmentFds) -> (Mapping, usize) {
    let layout = intent_layout(&Capacities::SMALL);
    let mapping = Mapping::of_memfd(fds.intent.as_fd(), layout.bytes, true).unwrap();
    (mapping, layout.change_rings + dataplane_abi::segment::CHANGE_RING_BYTES)
}

#[test]
fn entries_arrive_once_in_order_over_many_wraps() {
    let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let mut producer = segment.change_producer(WORKER).unwrap();
    let mut consumer = segment.change_consumer(WORKER).unwrap();
    let (mut written, mut read) = (0_u32, 0_u32);
    for round in 0..200 {
        for _ in 0..(round * 37) % 1000 {
            producer.push(&change(written)).unwrap();
            written += 1;
        }
        assert_eq!(consumer.len(), (written - read) as usize);
        while let Some(got) = consumer.pop() {
            assert_eq!((got.slot, got.generation), (read, read ^ 0x5555));
            read += 1;
        }
    }
    assert_eq!(written, read);
    assert!(written as usize > 20 * CHANGE_ENTRIES);
    assert!(!consumer.overflowed());
}

#[test]
fn two_rings_of_two_workers_do_not_touch() {
    let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let mut first = segment.punt_producer(WorkerId(0)).unwrap();
    let mut datagram = Datagram::zeroed();
    for i in 0..DATAGRAM_ENTRIES {
        datagram.len = u32::try_from(i).unwrap();
        datagram.transport = TransportRef::at(3, 4);
        datagram.bytes.fill(0xab);
        first.push(&datagram).unwrap();
    }
    assert_eq!(first.push(&datagram), Err(Full));
    for other in [segment.punt_consumer(WORKER), segment.inject_consumer(WorkerId(0)), segment.inject_consumer(WORKER)]
    {
        assert!(other.unwrap().pop().is_none());
    }
    assert!(segment.event_consumer(WorkerId(0)).unwrap().is_empty());
    let mut consumer = segment.punt_consumer(WorkerId(0)).unwrap();
    for i in 0..DATAGRAM_ENTRIES {
        let got = consumer.pop().unwrap();
        assert_eq!((got.len as usize, got.transport.slot), (i, 3));
        assert!(got.bytes.iter().all(|byte| *byte == 0xab));
    }
    assert!(consumer.pop().is_none());
}

#[test]
fn a_full_ring_is_counted_and_its_consumer_learns_of_it_once() {
    let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let mut producer = segment.change_producer(WORKER).unwrap();
    let mut consumer = segment.change_consumer(WORKER).unwrap();
    for slot in 0..u32::try_from(CHANGE_ENTRIES).unwrap() {
        producer.push(&change(slot)).unwrap();
    }
    assert!(!consumer.overflowed());
    assert_eq!(producer.push(&change(0)), Err(Full));
    assert!(consumer.overflowed());
    assert!(!consumer.overflowed());
    consumer.pop().unwrap();
    producer.push(&change(1)).unwrap();
}

#[test]
fn a_successor_of_either_side_goes_on_where_the_dead_one_stopped() {
    let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    for slot in 0..10 {
        // A producer per entry.
        segment.change_producer(WORKER).unwrap().push(&change(slot)).unwrap();
    }
    for slot in 0..9 {
        assert_eq!(segment.change_consumer(WORKER).unwrap().pop().unwrap().slot, slot);
    }
    let mut successor = segment.change_consumer(WORKER).unwrap();
    successor.catch_up();
    assert!(successor.pop().is_none());
    assert_eq!(segment.change_producer(WORKER).unwrap().acknowledged(), Some(10));
}

#[test]
fn a_hostile_producer_position_empties_the_ring_and_is_counted() {
    let (fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let (mapping, offset) = hostile(&fds);
    let header: &RingHeader = mapping.record(offset).unwrap();
    let mut consumer = segment.change_consumer(WORKER).unwrap();
    let lies = [u64::MAX, 1 << 63, CHANGE_ENTRIES as u64 + 1, 5, 4, 1 << 40, 0];
    let mut refused = 0;
    let mut position = 0_u64;
    for lie in lies {
        header.produced.store(lie, Ordering::Release);
        let believable = lie.wrapping_sub(position) <= CHANGE_ENTRIES as u64;
        let mut popped = 0_u64;
        while consumer.pop().is_some() {
            popped += 1;
            assert!(popped <= CHANGE_ENTRIES as u64, "more entries than the ring has");
        }
        refused += u64::from(!believable);
        assert_eq!(consumer.refused(), refused, "after {lie:#x}");
        assert_eq!(consumer.overflowed(), !believable, "the worker rescans");
        position = lie;
    }
    assert!(refused >= 5);
    // An honest producer that attaches afterwards is understood.
    segment.change_producer(WORKER).unwrap().push(&change(9)).unwrap();
    assert_eq!(consumer.pop().unwrap().slot, 9);
}

#[test]
fn a_hostile_consumer_position_only_makes_the_ring_full() {
    let (fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let (mapping, offset) = hostile(&fds);
    let header: &RingHeader = mapping.record(offset).unwrap();
    let mut producer = segment.change_producer(WORKER).unwrap();
    for slot in 0..u32::try_from(CHANGE_ENTRIES).unwrap() {
        producer.push(&change(slot)).unwrap();
    }
    for lie in [u64::MAX, CHANGE_ENTRIES as u64 + 1, 1 << 63] {
        header.consumed.store(lie, Ordering::Release);
        assert_eq!(producer.push(&change(1)), Err(Full));
        assert_eq!(producer.acknowledged(), None, "a lie acknowledges nothing");
    }
    assert_eq!(producer.refused(), 3);
    header.consumed.store(1, Ordering::Release);
    producer.push(&change(1)).unwrap();
}

#[test]
fn a_private_ring_carries_any_copy_type_between_threads() {
    #[derive(Clone, Copy, PartialEq, Debug)]
    struct Padded {
        small: u8,
        large: u64,
        name: Option<char>,
    }
    let (mut producer, mut consumer) = ring::private::<Padded>(100).unwrap();
    assert_eq!(producer.capacity(), 128);
    let count = 200_000_u64;
    let writer = std::thread::spawn(move || {
        for i in 0..count {
            let entry = Padded { small: i.to_le_bytes()[0], large: i, name: char::from_u32(65) };
            while producer.push(&entry).is_err() {
                std::thread::yield_now();
            }
        }
    });
    for i in 0..count {
        let got = loop {
            if let Some(got) = consumer.pop() {
                break got;
            }
            std::thread::yield_now();
        };
        assert_eq!(got, Padded { small: i.to_le_bytes()[0], large: i, name: Some('A') });
    }
    writer.join().unwrap();
    assert!(consumer.pop().is_none());
}

#[test]
fn a_segment_ring_carries_whole_entries_between_threads() {
    let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let mut producer = segment.inject_producer(WORKER).unwrap();
    let mut consumer = segment.inject_consumer(WORKER).unwrap();
    static SENT: AtomicU64 = AtomicU64::new(0);
    let writer = std::thread::spawn(move || {
        let mut datagram = Datagram::zeroed();
        for i in 0..20_000_u64 {
            datagram.at_ns = i;
            datagram.bytes.fill(i.to_le_bytes()[0]);
            while producer.push(&datagram).is_err() {
                std::thread::yield_now();
            }
            SENT.store(i, Ordering::Relaxed);
        }
    });
    for i in 0..20_000_u64 {
        let got = loop {
            if let Some(got) = consumer.pop() {
                break got;
            }
            std::thread::yield_now();
        };
        assert_eq!(got.at_ns, i);
        assert!(got.bytes.iter().all(|byte| *byte == i.to_le_bytes()[0]));
    }
    writer.join().unwrap();
}
