// SPDX-License-Identifier: Apache-2.0
//! The packet store: what is committed is read, what is lapped is noticed, what is trimmed comes back.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dataplane_abi::ids::IngressId;
use dataplane_abi::limits::{CHUNK_BYTES, Capacities, LOG_SLOTS};
use dataplane_abi::store::{StoredHead, packet_flags};
use dataplane_shm::store::{ChunkPool, Keep, LogWriter, StoredInfo};
use dataplane_shm::{Access, Segment, SegmentFds};

const INGRESS: IngressId = IngressId(9);
const MS: u64 = 1_000_000;

fn create() -> (SegmentFds, Segment) {
    Segment::create(&Capacities::SMALL).unwrap()
}

/// Stores a packet of `len` bytes that all say `ext_seq`, behind a 12-byte header.
fn store(log: &mut LogWriter, pool: &mut ChunkPool, ext_seq: u64, len: usize, info: StoredInfo) -> bool {
    let Some(room) = log.reserve(pool, 12 + len) else { return false };
    room[..12].fill(0xee);
    room[12..].fill(ext_seq.to_le_bytes()[0]);
    let mut head = StoredHead::zeroed();
    head.picture_id = u16::from_le_bytes([ext_seq.to_le_bytes()[0]; 2]);
    head.extensions = [[ext_seq.to_le_bytes()[0]; 16]; 6];
    log.commit(ext_seq, &head, 12..12 + len, &info)
}

fn at(arrival_ns: u64) -> StoredInfo {
    StoredInfo { rtp_ts: 90, flags: packet_flags::MARKER, arrival_ns }
}

fn is_there(segment: &Segment, log: &LogWriter, ext_seq: u64) -> bool {
    let Some(stored) = segment.log_reader(log.directory()).unwrap().get(ext_seq) else { return false };
    let mut bytes = [0; 2048];
    let len = stored.payload().copy_to(&mut bytes);
    let head = stored.head();
    assert!(bytes[..len].iter().all(|byte| *byte == ext_seq.to_le_bytes()[0]), "torn");
    assert_eq!((usize::from(head.payload_len), head.extensions[5][15]), (len, ext_seq.to_le_bytes()[0]), "torn");
    assert!(stored.still_valid());
    true
}

#[test]
fn a_packet_is_readable_after_its_commit_and_only_by_its_number() {
    let (fds, owner) = create();
    let segment = Segment::attach(fds.borrow_for(Access::DataPlane), Access::DataPlane).unwrap();
    let mut pool = ChunkPool::new(&owner, 0, 8).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 4).unwrap();
    let word = segment.ingress(INGRESS).unwrap().log.load(Ordering::Acquire);
    assert_eq!(word, log.directory());
    let reader = segment.log_reader(word).unwrap();
    let ext_seq = (7 << 16) | 65_535;
    let room = log.reserve(&mut pool, 212).unwrap();
    room[..12].fill(0xee);
    for (byte, value) in room[12..].iter_mut().zip(0_u8..) {
        *byte = value;
    }
    assert!(reader.get(ext_seq).is_none(), "reserved is not visible");
    let mut head = StoredHead::zeroed();
    head.tl0 = 77;
    assert!(log.commit(ext_seq, &head, 12..212, &StoredInfo { rtp_ts: u32::MAX, flags: 5, arrival_ns: 6 }));
    let stored = reader.get(ext_seq).unwrap();
    assert_eq!(stored.info(), StoredInfo { rtp_ts: u32::MAX, flags: 5, arrival_ns: 6 });
    assert_eq!((stored.head().tl0, stored.head().payload_len), (77, 200));
    let payload = stored.payload();
    assert_eq!(payload.len(), 200);
    let whole: Vec<u8> = (0..200).collect();
    let mut copy = [0xff; 300];
    assert_eq!(payload.copy_to(&mut copy), 200);
    assert_eq!(copy[..200], whole);
    assert!(copy[200..].iter().all(|byte| *byte == 0xff));
    // Every offset and length, aligned or not.
    for from in 0..40 {
        for n in 0..40 {
            let mut copy = [0xff; 64];
            assert_eq!(payload.slice(from).copy_prefix(n, &mut copy[1..]), n);
            assert_eq!(copy[1..=n], whole[from..from + n]);
            assert_eq!((copy[0], copy[n + 1]), (0xff, 0xff));
        }
    }
    let mut short = [0; 3];
    assert_eq!(payload.copy_to(&mut short), 3);
    assert!(payload.slice(200).is_empty() && payload.slice(201).is_empty());
    assert!(stored.still_valid());
    for other in [ext_seq - 1, ext_seq + 1, ext_seq + LOG_SLOTS as u64, ext_seq - LOG_SLOTS as u64, u64::MAX, 0] {
        assert!(reader.get(other).is_none());
    }
    assert_eq!(log.top(), Some(ext_seq));
}

#[test]
fn the_pages_of_a_chunk_are_there_before_the_first_packet_and_not_filled_one_by_one() {
    const BLOCKS: u64 = CHUNK_BYTES as u64 / 512;
    let (fds, segment) = create();
    let blocks = || std::fs::File::from(fds.store.try_clone().unwrap()).metadata().unwrap().blocks();
    let mut pool = ChunkPool::new(&segment, 0, 200).unwrap();
    assert!(blocks() >= 64 * BLOCKS, "what is given out first");
    let mut log = LogWriter::open(&mut pool, INGRESS, 150).unwrap();
    let mut filled = Vec::new();
    for ext_seq in 0..4000 {
        let before = blocks();
        assert!(store(&mut log, &mut pool, ext_seq, 1800, at(ext_seq)));
        filled.extend(Some(blocks() - before).filter(|more| *more > 0));
    }
    // 36 packets a chunk, one chunk of the first 64 for the directory.
    assert_eq!(
        filled,
        vec![BLOCKS; log.chunks() - 63],
        "a packet in the middle of a chunk met a page that was not there"
    );
}

#[test]
fn a_packet_whose_tag_did_not_verify_leaves_no_trace() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 8).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    for _ in 0..10_000 {
        log.reserve(&mut pool, 1500).unwrap().fill(1);
        log.abandon();
    }
    assert!(!log.commit(1, &StoredHead::zeroed(), 0..10, &at(0)), "nothing is reserved");
    assert_eq!((log.chunks(), log.laps(), log.top()), (1, 0, None));
    assert!(store(&mut log, &mut pool, 1, 100, at(0)));
    assert!(is_there(&segment, &log, 1));
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let (fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 8).unwrap();
    assert!(LogWriter::open(&mut pool, IngressId(256), 2).is_none());
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    assert!(log.reserve(&mut pool, 2049).is_none());
    assert_eq!(log.reserve(&mut pool, 2048).unwrap().len(), 2048);
    assert!(!log.commit(1, &StoredHead::zeroed(), 0..2049, &at(0)), "outside the room");
    log.reserve(&mut pool, 100).unwrap();
    assert!(!log.commit((1 << 48) - 1, &StoredHead::zeroed(), 0..10, &at(0)), "no such number");
    assert!(store(&mut log, &mut pool, 5000, 100, at(0)));
    assert!(!store(&mut log, &mut pool, 5000, 100, at(0)), "there already");
    assert!(!store(&mut log, &mut pool, 5000 - 2048, 100, at(0)), "its slot is taken");
    assert!(!store(&mut log, &mut pool, 2900, 100, at(0)), "too old, though its slot is empty");
    assert!(store(&mut log, &mut pool, 5000 - 2047, 100, at(0)), "a late one, just inside");
    assert!(is_there(&segment, &log, 5000) && is_there(&segment, &log, 2953));
    let mut nothing = ChunkPool::new(&segment, 100, 0).unwrap();
    assert!(LogWriter::open(&mut nothing, IngressId(1), 2).is_none());
    let mut one = ChunkPool::new(&segment, 100, 1).unwrap();
    let mut log = LogWriter::open(&mut one, IngressId(1), 2).unwrap();
    assert!(log.reserve(&mut one, 10).is_none(), "the directory took the only chunk");
    let reader = |access| Segment::attach(fds.borrow_for(access), access).unwrap();
    assert!(ChunkPool::new(&reader(Access::Reader), 0, 1).is_none());
}

#[test]
fn when_the_share_is_used_up_the_oldest_chunk_goes_and_is_counted() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 8).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 3).unwrap();
    for ext_seq in (0..1000).filter(|ext_seq| ext_seq % 16 != 0) {
        assert!(store(&mut log, &mut pool, ext_seq, 1000, at(ext_seq)));
        // Every 16th comes eight packets late, at times in the next chunk.
        if ext_seq % 16 == 8 {
            assert!(store(&mut log, &mut pool, ext_seq - 8, 1000, at(ext_seq)));
        }
    }
    assert_eq!((log.chunks(), pool.free()), (3, 4));
    assert!(log.laps() > 10);
    let per_chunk = (CHUNK_BYTES / 1184) as u64;
    let present: Vec<u64> = (0..1000).filter(|ext_seq| is_there(&segment, &log, *ext_seq)).collect();
    assert!(present.len() as u64 > 2 * per_chunk - 20 && present.len() as u64 <= 3 * per_chunk, "{}", present.len());
    assert!(present.iter().all(|ext_seq| *ext_seq >= 1000 - 3 * per_chunk - 20), "{present:?}");
    assert_eq!(log.top(), Some(999));
}

#[test]
fn a_late_packet_in_a_younger_chunk_stays_when_the_chunk_of_its_neighbours_goes() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 8).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 4).unwrap();
    for ext_seq in (0..80).filter(|ext_seq| *ext_seq != 5) {
        assert!(store(&mut log, &mut pool, ext_seq, 1000, at(0)));
    }
    assert_eq!(log.chunks(), 2);
    assert!(store(&mut log, &mut pool, 5, 1000, at(0)));
    assert!(log.release_oldest(&mut pool));
    assert!(is_there(&segment, &log, 5) && is_there(&segment, &log, 79));
    assert!(!is_there(&segment, &log, 4) && !is_there(&segment, &log, 6));
}

#[test]
fn an_empty_pool_makes_a_log_reuse_its_own_chunks() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 4).unwrap();
    let mut first = LogWriter::open(&mut pool, INGRESS, 100).unwrap();
    let mut second = LogWriter::open(&mut pool, IngressId(10), 100).unwrap();
    for ext_seq in 0..300 {
        assert!(store(&mut first, &mut pool, ext_seq, 1200, at(0)));
    }
    assert_eq!((first.chunks(), pool.free()), (2, 0));
    assert!(!store(&mut second, &mut pool, 1, 10, at(0)), "not even one chunk");
    // The oldest of the largest goes.
    assert!(first.release_oldest(&mut pool));
    assert!(store(&mut second, &mut pool, 1, 10, at(0)));
    assert!(!first.release_oldest(&mut pool), "the one that is written stays");
    assert!(is_there(&segment, &second, 1) && is_there(&segment, &first, 299));
}

#[test]
fn audio_keeps_a_second_and_video_back_to_its_keyframe_but_at_most_four() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 200).unwrap();
    // 100 packets per second of 1000 bytes: a chunk is half a second.
    let fill = |pool: &mut ChunkPool, ingress: u32, keyframe: u64| {
        let mut log = LogWriter::open(pool, IngressId(ingress), 100).unwrap();
        for ext_seq in 0..1000 {
            let flags = if ext_seq == keyframe { packet_flags::KEYFRAME } else { 0 };
            store(&mut log, pool, ext_seq, 1000, StoredInfo { rtp_ts: 0, flags, arrival_ns: ext_seq * 10 * MS });
        }
        log
    };
    let oldest = |log: &LogWriter| (0..1000).find(|ext_seq| is_there(&segment, log, *ext_seq)).unwrap();
    let cases = [
        // (keyframe, policy, oldest packet that must be there, oldest that may be)
        (2000, Keep::Audio, 900, 830),
        (2000, Keep::Video, 800, 730),
        (950, Keep::Video, 800, 730),
        (700, Keep::Video, 700, 630),
        (100, Keep::Video, 600, 530),
    ];
    for (ingress, (keyframe, keep, kept, at_most)) in (0..).zip(cases) {
        let free = pool.free();
        let mut log = fill(&mut pool, ingress, keyframe);
        let released = log.trim(&mut pool, 10_000 * MS, keep);
        assert!(released > 5);
        let oldest = oldest(&log);
        assert!(oldest <= kept && oldest >= at_most, "keyframe {keyframe}, {keep:?}: from {oldest} on");
        assert_eq!(log.trim(&mut pool, 10_000 * MS, keep), 0);
        let gone = log.trim_before(&mut pool, 900);
        assert_eq!((gone > 0, is_there(&segment, &log, 900)), (kept < 900, true));
        // Long silence: everything but the chunk that is written goes.
        log.trim(&mut pool, 100_000 * MS, keep);
        assert_eq!(log.chunks(), 1);
        log.close(&mut pool);
        assert!(pool.free() >= free - 1, "all but the directory come back");
    }
    assert_eq!(pool.free(), 199, "one directory served all of them");
}

#[test]
fn a_closed_log_is_unreadable_and_its_successor_in_the_same_chunks_is_another() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 3).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    assert!(store(&mut log, &mut pool, 1, 100, at(0)));
    let word = log.directory();
    let stale = segment.log_reader(word).unwrap();
    let stored = stale.get(1).unwrap();
    log.close(&mut pool);
    assert_eq!(segment.ingress(INGRESS).unwrap().log.load(Ordering::Acquire), 0);
    assert!(!stored.still_valid() && stale.get(1).is_none());
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    assert!(store(&mut log, &mut pool, 1, 100, at(0)));
    assert_ne!(log.directory(), word);
    assert!(!stored.still_valid() && stale.get(1).is_none(), "the same chunk, number and place, another log");
    assert!(is_there(&segment, &log, 1));
}

#[test]
fn a_successor_of_the_worker_makes_the_logs_of_the_dead_one_unreadable() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 4, 4).unwrap();
    let mut other = ChunkPool::new(&segment, 8, 4).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    let mut bystander = LogWriter::open(&mut other, IngressId(3), 2).unwrap();
    assert!(store(&mut log, &mut pool, 1, 100, at(0)) && store(&mut bystander, &mut other, 1, 100, at(0)));
    let reader = segment.log_reader(log.directory()).unwrap();
    let stored = reader.get(1).unwrap();
    // The worker dies here; nothing is closed.
    let successor = ChunkPool::new(&segment, 4, 4).unwrap();
    assert!(!stored.still_valid() && reader.get(1).is_none());
    assert_eq!(segment.ingress(INGRESS).unwrap().log.load(Ordering::Acquire), 0);
    assert_eq!(successor.free(), 3, "a directory stays a directory");
    assert!(is_there(&segment, &bystander, 1), "other workers' logs are left alone");
}

#[test]
fn a_hostile_directory_names_nothing_outside_the_store() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 8).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    // A payload that poses as slots: a chunk full of them, read as a directory.
    let places = [u64::MAX, 0, 1 << 63, (CHUNK_BYTES * 256) as u64 | (4096 << 40), CHUNK_BYTES as u64 | (159 << 40)];
    let mut slots = Vec::new();
    for word in [1_u64, 2, 3, 4] {
        slots.extend_from_slice(&word.to_le_bytes());
    }
    for place in places {
        for (slot, bytes) in slots.chunks_exact_mut(8).enumerate() {
            bytes.copy_from_slice(&if slot % 4 == 1 { place } else { 1 }.to_le_bytes());
        }
        let room = log.reserve(&mut pool, 2048).unwrap();
        for chunk in room.chunks_exact_mut(slots.len()) {
            chunk.copy_from_slice(&slots);
        }
        assert!(log.commit(log.top().map_or(0, |top| top + 1), &StoredHead::zeroed(), 0..2048, &at(0)));
    }
    for directory in 0..=u64::from(Capacities::SMALL.chunks) + 1 {
        let Some(reader) = segment.log_reader(directory) else { continue };
        for ext_seq in 0..LOG_SLOTS as u64 {
            if let Some(stored) = reader.get(ext_seq) {
                let mut bytes = [0; 4096];
                stored.payload().copy_to(&mut bytes);
            }
        }
    }
}

// CONTRACTS 10
#[test]
fn a_reader_that_is_lapped_notices_and_never_takes_torn_bytes_for_a_packet() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 3).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 2).unwrap();
    let word = log.directory();
    let (stop, top) = (AtomicBool::new(false), AtomicU64::new(0));
    let packets = 3_000_000_u64;
    let (mut whole, mut lapped) = (0_u64, 0_u64);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for ext_seq in 1..packets {
                let len = 600 + usize::try_from(ext_seq % 600).unwrap();
                assert!(store(&mut log, &mut pool, ext_seq, len, at(ext_seq)));
                top.store(ext_seq, Ordering::Relaxed);
            }
            stop.store(true, Ordering::Release);
        });
        let reader = segment.log_reader(word).unwrap();
        let mut bytes = [0; 2048];
        let mut behind = 0;
        while !stop.load(Ordering::Acquire) {
            behind = (behind + 7) % 120;
            let ext_seq = top.load(Ordering::Relaxed).saturating_sub(behind);
            let Some(stored) = reader.get(ext_seq) else { continue };
            let len = stored.payload().copy_to(&mut bytes);
            let head = stored.head();
            if !stored.still_valid() {
                lapped += 1;
                continue;
            }
            whole += 1;
            let mark = ext_seq.to_le_bytes()[0];
            assert_eq!(len as u64, 600 + ext_seq % 600);
            assert_eq!(stored.info().arrival_ns, ext_seq);
            assert!(bytes[..len].iter().all(|byte| *byte == mark), "torn payload under a valid tag");
            assert_eq!((usize::from(head.payload_len), head.extensions[5][15]), (len, mark), "torn head");
        }
    });
    assert!(whole > 1000 && lapped > 0, "{whole} whole, {lapped} lapped");
}

#[test]
fn a_slot_that_is_used_again_is_noticed_by_who_holds_the_old_packet() {
    let (_fds, segment) = create();
    let mut pool = ChunkPool::new(&segment, 0, 200).unwrap();
    let mut log = LogWriter::open(&mut pool, INGRESS, 100).unwrap();
    assert!(store(&mut log, &mut pool, 1, 100, at(0)));
    let old = segment.log_reader(log.directory()).unwrap().get(1).unwrap();
    assert!(store(&mut log, &mut pool, 1 + LOG_SLOTS as u64, 100, at(0)));
    assert!(!old.still_valid());
}
