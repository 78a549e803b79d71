// SPDX-License-Identifier: Apache-2.0
//! Publication: generations, reuse of records after acknowledgement, keys, and death at every store.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;

use dataplane_abi::ids::{KeyRef, TransportRef, WorkerId};
use dataplane_abi::intent::{KeyIntent, RoomIntent, SubscriptionIntent, TransportIntent};
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::Capacities;
use dataplane_abi::ring::{CHANGE_ENTRIES, change_kind};
use dataplane_abi::segment::{keys_bytes, pool_records};
use dataplane_shm::intent::{IntentError, head};
use dataplane_shm::publish::{self, CrashPoint};
use dataplane_shm::{Access, IntentWriter, Mapping, Segment, SegmentFds};

const SMALL: Capacities = Capacities { transports: 4, tracks: 4, subscriptions: 4, rooms: 4, chunks: 4, workers: 2 };

fn create() -> (SegmentFds, Segment) {
    Segment::create(&SMALL).unwrap()
}

fn running(segment: &Segment, worker: u16, is_running: bool) {
    segment.counters(WorkerId(worker)).unwrap().running.store(u64::from(is_running), Ordering::Release);
}

/// A transport whose every field says `mark`.
fn transport(reference: TransportRef, mark: u8) -> TransportIntent {
    let mut record = TransportIntent::zeroed();
    record.generation = reference.generation;
    record.participant = [mark; 64];
    record.rtcp_ssrc = u32::from(mark) * 0x0101_0101;
    record.credentials[0].local_pwd = [mark; 32];
    record.extension_ids = [mark; 24];
    record
}

fn mark_of(record: &TransportIntent) -> u8 {
    let mark = record.participant[0];
    assert_eq!(record.participant, [mark; 64], "torn");
    assert_eq!(record.rtcp_ssrc, u32::from(mark) * 0x0101_0101, "torn");
    assert_eq!(record.credentials[0].local_pwd, [mark; 32], "torn");
    assert_eq!(record.extension_ids, [mark; 24], "torn");
    mark
}

fn key(mark: u8) -> KeyIntent {
    let mut record = KeyIntent::zeroed();
    record.rx_key = [mark; 32];
    record.tx_salt = [mark; 16];
    record
}

#[test]
fn what_is_published_is_what_every_reader_copies() {
    let (fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let reader = Segment::attach(fds.borrow_for(Access::Reader), Access::Reader).unwrap();
    let reference = writer.allocate_transport().unwrap();
    assert!(!reference.is_none());
    assert!(reader.intent_transport(reference.slot).is_none(), "allocated is not published");
    writer.publish_transport(reference.slot, &transport(reference, 7)).unwrap();
    let copy = reader.intent_transport(reference.slot).unwrap();
    assert_eq!(mark_of(&copy), 7);
    assert_eq!((copy.version, copy.size), (TransportIntent::VERSION, 512));
    assert_eq!(copy.generation, reference.generation);
    writer.publish_transport(reference.slot, &transport(reference, 8)).unwrap();
    assert_eq!(mark_of(&reader.intent_transport(reference.slot).unwrap()), 8);
    writer.retract_transport(reference.slot).unwrap();
    assert!(reader.intent_transport(reference.slot).is_none());
    assert_eq!(segment.state().epoch.load(Ordering::Acquire), 3);
}

#[test]
fn every_kind_has_its_own_table_and_change_kind() {
    let (_fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let mut worker = segment.change_consumer(WorkerId(0)).unwrap();
    let room = writer.allocate_room().unwrap();
    let subscription = writer.allocate_subscription().unwrap();
    let track = writer.allocate_track().unwrap();
    let mut record = RoomIntent::zeroed();
    record.generation = room.generation;
    record.name = [b'r'; 64];
    writer.publish_room(room.slot, &record).unwrap();
    let mut record = SubscriptionIntent::zeroed();
    record.generation = subscription.generation;
    record.ssrc = 5;
    writer.publish_subscription(subscription.slot, &record).unwrap();
    let mut record = dataplane_abi::intent::TrackIntent::zeroed();
    record.generation = track.generation;
    record.clock_rate = 90_000;
    writer.publish_track(track.slot, &record).unwrap();
    assert_eq!(segment.intent_room(room.slot).unwrap().name, [b'r'; 64]);
    assert_eq!(segment.intent_subscription(subscription.slot).unwrap().ssrc, 5);
    assert_eq!(segment.intent_track(track.slot).unwrap().clock_rate, 90_000);
    let kinds: Vec<_> = std::iter::from_fn(|| worker.pop()).map(|change| change.kind).collect();
    assert_eq!(kinds, [change_kind::ROOM, change_kind::SUBSCRIPTION, change_kind::TRACK]);
}

#[test]
fn a_slot_never_has_a_generation_twice_not_even_across_writers() {
    let (_fds, segment) = create();
    let mut last = [0_u32; 4];
    for round in 0..40_u8 {
        // Every fourth round another writer, which knows only what is published.
        let mut writer = IntentWriter::attach(&segment).unwrap();
        for _ in 0..4 {
            let reference = writer.allocate_transport().unwrap();
            assert!(reference.generation > last[reference.index()], "{reference:?} after {}", last[reference.index()]);
            last[reference.index()] = reference.generation;
            writer.publish_transport(reference.slot, &transport(reference, round)).unwrap();
            writer.retract_transport(reference.slot).unwrap();
        }
    }
}

#[test]
fn a_stale_or_foreign_slot_is_refused() {
    let (fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let reference = writer.allocate_transport().unwrap();
    let stale = transport(TransportRef::at(reference.slot, reference.generation + 1), 1);
    let refused = writer.publish_transport(reference.slot, &stale).unwrap_err();
    assert!(matches!(refused, IntentError::Stale { .. }), "{refused}");
    let refused = writer.publish_transport(4, &transport(reference, 1)).unwrap_err();
    assert_eq!(refused, IntentError::OutOfRange { slot: 4, capacity: 4 });
    writer.retract_transport(reference.slot).unwrap();
    assert!(writer.retract_transport(reference.slot).is_err());
    assert!(writer.publish_transport(reference.slot, &transport(reference, 1)).is_err());
    for _ in 0..4 {
        writer.allocate_transport().unwrap();
    }
    assert!(writer.allocate_transport().is_none(), "the table is full");
    let reader = Segment::attach(fds.borrow_for(Access::Reader), Access::Reader).unwrap();
    assert_eq!(IntentWriter::attach(&reader).unwrap_err(), IntentError::ReadOnly);
}

#[test]
fn a_record_is_used_again_only_after_every_running_worker_acknowledged() {
    let (_fds, segment) = create();
    running(&segment, 0, true);
    running(&segment, 1, true);
    let mut workers = [0, 1].map(|worker| segment.change_consumer(WorkerId(worker)).unwrap());
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let reference = writer.allocate_transport().unwrap();
    let records = pool_records(SMALL.transports);
    for _ in 0..records {
        writer.publish_transport(reference.slot, &transport(reference, 1)).unwrap();
    }
    let full = IntentError::NoRecord { waiting: records - 1 };
    assert_eq!(writer.publish_transport(reference.slot, &transport(reference, 2)).unwrap_err(), full);
    // One worker alone frees nothing.
    while workers[0].pop().is_some() {}
    assert_eq!(writer.publish_transport(reference.slot, &transport(reference, 2)).unwrap_err(), full);
    // The first publication replaced nothing; the second replaced the first record.
    workers[1].pop().unwrap();
    assert_eq!(writer.collect(), records - 1);
    workers[1].pop().unwrap();
    assert_eq!(writer.collect(), records - 2);
    writer.publish_transport(reference.slot, &transport(reference, 3)).unwrap();
    assert!(writer.publish_transport(reference.slot, &transport(reference, 4)).is_err());
    // A worker that does not run need not acknowledge.
    running(&segment, 1, false);
    while workers[0].pop().is_some() {}
    assert_eq!(writer.collect(), 0);
    assert_eq!(mark_of(&segment.intent_transport(reference.slot).unwrap()), 3);
}

#[test]
fn a_worker_that_lies_about_its_position_frees_nothing() {
    let (fds, segment) = create();
    running(&segment, 0, true);
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let reference = writer.allocate_transport().unwrap();
    for _ in 0..3 {
        writer.publish_transport(reference.slot, &transport(reference, 1)).unwrap();
    }
    let layout = dataplane_abi::segment::intent_layout(&SMALL);
    let mapping = Mapping::of_memfd(fds.intent.as_fd(), layout.bytes, true).unwrap();
    let header: &dataplane_abi::ring::RingHeader = mapping.record(layout.change_rings).unwrap();
    for lie in [u64::MAX, 1 << 40, 4] {
        header.consumed.store(lie, Ordering::Release);
        assert_eq!(writer.collect(), 2, "{lie}");
    }
    header.consumed.store(2, Ordering::Release);
    assert_eq!(writer.collect(), 1);
}

#[test]
fn a_change_ring_that_overflows_makes_its_worker_rescan() {
    let (_fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let mut worker = segment.change_consumer(WorkerId(1)).unwrap();
    let reference = writer.allocate_transport().unwrap();
    for _ in 0..CHANGE_ENTRIES {
        writer.publish_transport(reference.slot, &transport(reference, 1)).unwrap();
    }
    assert!(!worker.overflowed());
    writer.publish_transport(reference.slot, &transport(reference, 2)).unwrap();
    assert!(worker.overflowed());
    worker.catch_up();
    assert_eq!(mark_of(&segment.intent_transport(reference.slot).unwrap()), 2);
    // A writer that attaches makes everyone rescan, because its predecessor may have died before it told.
    let _writer = IntentWriter::attach(&segment).unwrap();
    assert!(worker.overflowed());
}

#[test]
fn heads_that_name_no_usable_record_are_cleared_at_attach() {
    let (fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let reference = writer.allocate_transport().unwrap();
    writer.publish_transport(reference.slot, &transport(reference, 1)).unwrap();
    let layout = dataplane_abi::segment::intent_layout(&SMALL);
    let mapping = Mapping::of_memfd(fds.intent.as_fd(), layout.bytes, true).unwrap();
    let heads = mapping.words(layout.transports.heads, 4).unwrap();
    let good = heads[reference.index()].load(Ordering::Acquire);
    // A record outside the pool, the record of another head, and a record that was never filled.
    for (slot, lie) in [(1, 0xffff_ffff), (2, good), (3, 5)] {
        heads[slot].store(lie, Ordering::Release);
    }
    assert!(segment.intent_transport(1).is_none());
    let writer = IntentWriter::attach(&segment).unwrap();
    assert_eq!(heads[reference.index()].load(Ordering::Acquire), good);
    assert!((1..4).all(|slot| segment.intent_transport(slot).is_none()));
    assert_eq!(writer.free_records()[0], pool_records(SMALL.transports) - 1);
}

#[test]
fn a_key_is_read_by_its_reference_only_and_leaves_nothing_behind() {
    let (fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let data_plane = Segment::attach(fds.borrow_for(Access::DataPlane), Access::DataPlane).unwrap();
    let reference = writer.allocate_key().unwrap();
    assert!(data_plane.key(reference).is_none(), "allocated is not written");
    writer.write_key(reference, &key(0x5a)).unwrap();
    let copy = data_plane.key(reference).unwrap();
    assert_eq!((copy.rx_key, copy.tx_salt), ([0x5a; 32], [0x5a; 16]));
    assert_eq!((copy.version, copy.size, copy.generation), (1, 256, reference.generation));
    assert!(data_plane.key(KeyRef::at(reference.slot, reference.generation + 1)).is_none());
    assert!(data_plane.key(KeyRef::NONE).is_none());
    assert!(data_plane.key(KeyRef::at(8, 1)).is_none());
    assert_eq!(writer.write_key(reference, &key(1)), Err(IntentError::KeyWritten { slot: reference.slot }));
    writer.zeroise_key(reference).unwrap();
    assert!(data_plane.key(reference).is_none());
    assert!(writer.zeroise_key(reference).is_err() && writer.write_key(reference, &key(1)).is_err());
    let keys = Mapping::of_memfd(fds.keys.as_fd(), keys_bytes(&SMALL), false).unwrap();
    let words = keys.words(4096, keys.bytes() / 8 - 512).unwrap();
    assert!(words.iter().all(|word| word.load(Ordering::Acquire).to_ne_bytes().iter().all(|byte| *byte != 0x5a)));
    // Every other slot comes first; when this one comes again, its generation is another.
    let again = (0..8).filter_map(|_| writer.allocate_key()).find(|again| again.slot == reference.slot).unwrap();
    assert!(again.generation > reference.generation);
}

#[test]
fn a_key_that_no_published_transport_names_is_wiped_at_attach() {
    let (_fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let (named, orphan) = (writer.allocate_key().unwrap(), writer.allocate_key().unwrap());
    writer.write_key(named, &key(1)).unwrap();
    writer.write_key(orphan, &key(2)).unwrap();
    let reference = writer.allocate_transport().unwrap();
    let mut record = transport(reference, 1);
    record.key = named;
    writer.publish_transport(reference.slot, &record).unwrap();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    assert_eq!(segment.key(named).unwrap().rx_key, [1; 32]);
    assert!(segment.key(orphan).is_none());
    assert_eq!(std::iter::from_fn(|| writer.allocate_key()).count(), 7, "one of eight is in use");
}

/// Runs `act` until its n-th store; true when it died there.
fn dies_at(n: u64, after: bool, act: impl FnOnce()) -> bool {
    if after {
        publish::arm_after(n)
    } else {
        publish::arm(n)
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

// CONTRACTS 4, 15
#[test]
fn death_at_any_store_of_a_publication_leaves_the_old_record_or_the_fresh_one() {
    let (_fds, segment) = create();
    let mut seen = [0_u32; 3];
    for after in [false, true] {
        for n in 1.. {
            let mut writer = IntentWriter::attach(&segment).unwrap();
            let reference = writer.allocate_transport().unwrap();
            writer.publish_transport(reference.slot, &transport(reference, 1)).unwrap();
            let died = dies_at(n, after, || {
                writer.publish_transport(reference.slot, &transport(reference, 2)).unwrap();
            });
            let mark = mark_of(&segment.intent_transport(reference.slot).unwrap());
            assert!(mark == 1 || mark == 2, "store {n}");
            seen[usize::from(mark)] += 1;
            let mut successor = IntentWriter::attach(&segment).unwrap();
            assert_eq!(successor.free_records()[0], pool_records(4) - 1, "store {n}: one record is published");
            successor.retract_transport(reference.slot).unwrap();
            if !died {
                assert!(n > 64, "64 words, head, epoch and two rings are stores");
                break;
            }
        }
    }
    assert!(seen[1] >= 128 && seen[2] >= 4, "{seen:?}");
}

// CONTRACTS 4, 15
#[test]
fn death_at_any_store_of_a_key_leaves_it_whole_or_absent() {
    let (_fds, segment) = create();
    for n in 1.. {
        let mut writer = IntentWriter::attach(&segment).unwrap();
        let reference = writer.allocate_key().unwrap();
        let died = dies_at(n, false, || writer.write_key(reference, &key(0x5a)).unwrap());
        let copy = segment.key(reference);
        assert_eq!(copy.is_none(), died, "store {n}");
        assert!(copy.is_none_or(|copy| (copy.rx_key, copy.tx_salt) == ([0x5a; 32], [0x5a; 16])), "store {n}: torn");
        if !died {
            assert_eq!(n, 33, "31 words, then the first one");
            break;
        }
    }
}

#[test]
fn a_copy_during_which_the_head_moved_is_made_again_and_given_up_after_eight() {
    let (_fds, segment) = create();
    let head = &segment.transport(0).unwrap().twcc_next;
    head::swing(head, 3);
    let copies = std::cell::Cell::new(0);
    let copy_while_moving = |moves: u32| {
        copies.set(0);
        head::read(head, |slot| {
            copies.set(copies.get() + 1);
            if copies.get() <= moves {
                // The same record slot, published again: only the count tells.
                head::swing(head, 3);
            }
            Some(slot)
        })
    };
    assert_eq!((copy_while_moving(0), copies.get()), (Some(3), 1));
    assert_eq!((copy_while_moving(1), copies.get()), (Some(3), 2));
    assert_eq!((copy_while_moving(7), copies.get()), (Some(3), 8));
    assert_eq!((copy_while_moving(8), copies.get()), (None, 8));
}

// CONTRACTS 4, 15
#[test]
fn a_thousand_random_deaths_leak_neither_records_nor_slots_nor_keys() {
    let (_fds, segment) = create();
    running(&segment, 0, true);
    let mut worker = segment.change_consumer(WorkerId(0)).unwrap();
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut deaths = 0;
    for _ in 0..1000 {
        let mut writer = IntentWriter::attach(&segment).unwrap();
        let live: Vec<_> = (0..4).filter_map(|slot| segment.intent_transport(slot).map(|t| (slot, t))).collect();
        let choice = draw(3);
        let victim = draw(4);
        let mark = u8::try_from(draw(256)).unwrap();
        deaths += u32::from(dies_at(1 + draw(140), draw(2) == 1, || {
            let found = live.iter().find(|(slot, _)| u64::from(*slot) == victim);
            match (choice, found) {
                (0, Some((slot, record))) => {
                    writer.retract_transport(*slot).unwrap();
                    writer.zeroise_key(record.key).unwrap();
                }
                (1, Some((slot, record))) => {
                    let fresh = writer.allocate_key().unwrap();
                    writer.write_key(fresh, &key(mark)).unwrap();
                    let mut changed = transport(TransportRef::at(*slot, record.generation), mark);
                    changed.key = fresh;
                    writer.publish_transport(*slot, &changed).unwrap();
                    writer.zeroise_key(record.key).unwrap();
                }
                _ => {
                    let (Some(reference), Some(fresh)) = (writer.allocate_transport(), writer.allocate_key()) else {
                        return;
                    };
                    writer.write_key(fresh, &key(mark)).unwrap();
                    let mut record = transport(reference, mark);
                    record.key = fresh;
                    writer.publish_transport(reference.slot, &record).unwrap();
                }
            }
        }));
        if draw(3) == 0 {
            while worker.pop().is_some() {}
        }
        for record in (0..4).filter_map(|slot| segment.intent_transport(slot)) {
            let mark = mark_of(&record);
            let key = segment.key(record.key).map(|key| key.rx_key);
            assert_eq!(key, Some([mark; 32]), "a published transport has its whole key");
        }
    }
    assert!(deaths > 300, "{deaths}");
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let live = (0..4).filter(|slot| segment.intent_transport(*slot).is_some()).count();
    assert_eq!(writer.free_records()[0], pool_records(4) - live);
    assert_eq!(std::iter::from_fn(|| writer.allocate_transport()).count(), 4 - live);
    assert_eq!(std::iter::from_fn(|| writer.allocate_key()).count(), 8 - live);
}

#[test]
fn the_dead_store_nothing_until_they_are_replaced() {
    let (_fds, segment) = create();
    let cell = &segment.transport(0).unwrap().twcc_next;
    publish::arm(2);
    publish::store_u64(cell, 1);
    assert!(catch_unwind(|| publish::store_u64(cell, 2)).is_err());
    publish::store_u64(cell, 3);
    assert!(!publish::claim_u64(cell, 1, 4));
    assert_eq!(cell.load(Ordering::Acquire), 1);
    publish::disarm();
    assert!(publish::claim_u64(cell, 1, 4));
    publish::store_u64(cell, 5);
    assert_eq!(cell.load(Ordering::Acquire), 5);
    assert_eq!(publish::count(), 2);
    publish::disarm();
}

#[test]
fn a_reader_never_sees_a_torn_record_while_the_writer_publishes() {
    let (_fds, segment) = create();
    let mut writer = IntentWriter::attach(&segment).unwrap();
    let reference = writer.allocate_transport().unwrap();
    writer.publish_transport(reference.slot, &transport(reference, 0)).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // No worker runs, so records are used again at once: the check of the head alone must hold.
            for mark in (0..=255_u8).cycle().take(300_000) {
                writer.publish_transport(reference.slot, &transport(reference, mark)).unwrap();
            }
            stop.store(true, Ordering::Release);
        });
        let mut copies = 0;
        while !stop.load(Ordering::Acquire) {
            if let Some(record) = segment.intent_transport(reference.slot) {
                mark_of(&record);
                copies += 1;
            }
        }
        assert!(copies > 100, "{copies}");
    });
}
