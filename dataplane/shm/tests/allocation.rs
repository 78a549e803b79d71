// SPDX-License-Identifier: Apache-2.0
//! Nothing on the packet path allocates; what threads share may be shared.
#![cfg(not(loom))]
#![expect(clippy::tests_outside_test_module, reason = "tests")]

use std::alloc::System;

use dataplane_abi::ids::{IngressId, WorkerId};
use dataplane_abi::limits::Capacities;
use dataplane_abi::ring::{Change, Datagram};
use dataplane_abi::store::StoredHead;
use dataplane_shm::allocation::{Counting, allocations};
use dataplane_shm::ring::{self, Consumer, Producer};
use dataplane_shm::store::{ChunkPool, Keep, LogReader, LogWriter, StoreBytes, Stored, StoredInfo};
use dataplane_shm::{IntentWriter, Segment};

#[global_allocator]
static COUNTING: Counting<System> = Counting(System);

#[test]
fn push_pop_reserve_commit_get_and_trim_do_not_allocate() {
    let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
    let mut pool = ChunkPool::new(&segment, 0, 20).unwrap();
    let mut log = LogWriter::open(&mut pool, IngressId(0), 8).unwrap();
    let mut punt = (segment.punt_producer(WorkerId(0)).unwrap(), segment.punt_consumer(WorkerId(0)).unwrap());
    let mut hand = ring::private::<Datagram>(16).unwrap();
    let (head, datagram) = (StoredHead::zeroed(), Datagram::zeroed());
    let mut bytes = [0_u8; 2048];
    let before = allocations();
    for ext_seq in 0..20_000_u64 {
        let info = StoredInfo { rtp_ts: 0, flags: 0, arrival_ns: ext_seq * 1_000_000 };
        log.reserve(&mut pool, 1200).unwrap().fill(1);
        assert!(log.commit(ext_seq, &head, 12..1200, &info));
        let stored = segment.log_reader(log.directory()).unwrap().get(ext_seq).unwrap();
        assert_eq!(stored.payload().copy_to(&mut bytes), 1188);
        assert!(stored.still_valid());
        punt.0.push(&datagram).unwrap();
        hand.0.push(&datagram).unwrap();
        assert!(punt.1.pop().is_some() && hand.1.pop().is_some());
        assert!(segment.intent_transport(0).is_none());
        if ext_seq % 500 == 0 {
            log.trim(&mut pool, info.arrival_ns, Keep::Audio);
        }
    }
    assert!(log.laps() + u64::try_from(log.chunks()).unwrap() > 1);
    log.close(&mut pool);
    assert_eq!(allocations(), before);
    drop(vec![0_u8; 100]);
    assert!(allocations() > before, "the count counts");
}

#[test]
fn what_workers_hold_may_move_to_their_threads() {
    fn moves<T: Send>() {}
    fn is_shared<T: Send + Sync>() {}
    is_shared::<Segment>();
    is_shared::<LogReader<'_>>();
    is_shared::<Stored<'_>>();
    is_shared::<StoreBytes<'_>>();
    moves::<Producer<Change>>();
    moves::<Consumer<Change>>();
    moves::<ChunkPool>();
    moves::<LogWriter>();
    moves::<IntentWriter>();
}
