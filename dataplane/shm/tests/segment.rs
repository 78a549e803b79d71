// SPDX-License-Identifier: Apache-2.0
//! Creating and attaching: what is refused, with which numbers, and what is read-only.
#![cfg(not(loom))]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use std::io::Write as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::sync::atomic::Ordering;

use dataplane_abi::ABI_VERSION;
use dataplane_abi::ids::{IngressId, WorkerId};
use dataplane_abi::limits::Capacities;
use dataplane_abi::ring::{DATAGRAM_ENTRIES, Datagram};
use dataplane_abi::segment::{FINGERPRINT, MAGIC};
use dataplane_shm::{Access, AttachError, AttachFds, Segment, SegmentFds};

fn create() -> (SegmentFds, Segment) {
    Segment::create(&Capacities::SMALL).unwrap()
}

/// Overwrites bytes of a memfd's header.
fn patch(fd: &OwnedFd, at: u64, bytes: &[u8]) {
    let file = std::fs::File::from(fd.try_clone().unwrap());
    file.write_all_at(bytes, at).unwrap();
}

fn refusal(fds: &SegmentFds) -> AttachError {
    Segment::attach(fds.borrow_for(Access::DataPlane), Access::DataPlane).unwrap_err()
}

#[test]
fn every_access_attaches_and_sees_the_creators_capacities() {
    let (fds, created) = create();
    for access in [Access::DataPlane, Access::ControlPlane, Access::Reader] {
        let segment = Segment::attach(fds.borrow_for(access), access).unwrap();
        assert_eq!(*segment.capacities(), Capacities::SMALL);
        assert_eq!(segment.boot_id(), created.boot_id());
    }
    assert_ne!(created.boot_id(), create().1.boot_id(), "a boot id is random");
}

#[test]
fn what_one_attachment_stores_the_other_loads() {
    let (fds, _) = create();
    let data_plane = Segment::attach(fds.borrow_for(Access::DataPlane), Access::DataPlane).unwrap();
    let reader = Segment::attach(fds.borrow_for(Access::Reader), Access::Reader).unwrap();
    data_plane.transport(63).unwrap().rx_packets.store(7, Ordering::Release);
    data_plane.egress(255).unwrap().packets.store(8, Ordering::Release);
    data_plane.ingress(IngressId(255)).unwrap().packets.store(9, Ordering::Release);
    data_plane.counters(WorkerId(1)).unwrap().turns.store(10, Ordering::Release);
    data_plane.state().dataplane_starts.store(11, Ordering::Release);
    assert_eq!(reader.transport(63).unwrap().rx_packets.load(Ordering::Acquire), 7);
    assert_eq!(reader.egress(255).unwrap().packets.load(Ordering::Acquire), 8);
    assert_eq!(reader.ingress(IngressId(255)).unwrap().packets.load(Ordering::Acquire), 9);
    assert_eq!(reader.counters(WorkerId(1)).unwrap().turns.load(Ordering::Acquire), 10);
    assert_eq!(reader.state().dataplane_starts.load(Ordering::Acquire), 11);
}

#[test]
fn a_slot_outside_its_table_is_none() {
    let (_fds, segment) = create();
    assert!(segment.transport(64).is_none());
    assert!(segment.ingress(IngressId(256)).is_none());
    assert!(segment.egress(256).is_none());
    assert!(segment.counters(WorkerId(2)).is_none());
    assert!(segment.intent_transport(64).is_none());
    assert!(segment.intent_room(u32::MAX).is_none());
    assert!(segment.change_consumer(WorkerId(2)).is_none());
    assert!(segment.log_reader(257).is_none());
    assert!(segment.log_reader(u64::MAX).is_none());
}

#[test]
fn another_magic_is_refused_with_both_numbers() {
    let (fds, _) = create();
    patch(&fds.durable, 0, &[0x11; 8]);
    let text = refusal(&fds).to_string();
    assert!(text.contains("0x1111111111111111") && text.contains(&format!("{MAGIC:#018x}")), "{text}");
}

#[test]
fn another_abi_version_is_refused_with_both_numbers() {
    let (fds, _) = create();
    patch(&fds.intent, 8, &77_u32.to_ne_bytes());
    let text = refusal(&fds).to_string();
    assert!(text.contains("abi version is 77") && text.contains(&format!("ours is {ABI_VERSION}")), "{text}");
}

#[test]
fn another_fingerprint_is_refused_with_both_numbers() {
    let (fds, _) = create();
    patch(&fds.store, 16, &(FINGERPRINT ^ 1).to_ne_bytes());
    let text = refusal(&fds).to_string();
    assert!(text.contains(&format!("{:#018x}", FINGERPRINT ^ 1)), "{text}");
    assert!(text.contains(&format!("{FINGERPRINT:#018x}")), "{text}");
}

#[test]
fn capacities_that_do_not_match_the_size_are_refused_with_both_numbers() {
    let (fds, _) = create();
    patch(&fds.durable, 40, &65_u32.to_ne_bytes());
    let text = refusal(&fds).to_string();
    assert!(text.contains("bytes, its capacities need"), "{text}");
    patch(&fds.durable, 40, &u32::MAX.to_ne_bytes());
    let text = refusal(&fds).to_string();
    assert!(text.contains("transports is 4294967295, at most 1048576 fit"), "{text}");
}

#[test]
fn parts_in_each_others_place_and_parts_of_two_segments_are_refused() {
    let (one, _) = create();
    let (two, _) = create();
    let swapped = AttachFds { intent: Some(one.keys.as_fd()), ..AttachFds::default() };
    let text = Segment::attach(swapped, Access::DataPlane).unwrap_err().to_string();
    assert!(text.contains("it says that it is part 2, expected part 1"), "{text}");
    let mixed =
        AttachFds { intent: Some(one.intent.as_fd()), durable: Some(two.durable.as_fd()), ..AttachFds::default() };
    let error = Segment::attach(mixed, Access::DataPlane).unwrap_err();
    assert!(matches!(error, AttachError::Mixed { .. }), "{error}");
}

#[test]
fn a_reader_gets_no_keys_and_nobody_attaches_to_nothing() {
    let (fds, _) = create();
    for access in [Access::Reader, Access::ControlPlane] {
        let error = Segment::attach(fds.borrow(), access).unwrap_err();
        assert!(matches!(error, AttachError::Forbidden { .. }), "{error}");
    }
    let error = Segment::attach(AttachFds::default(), Access::Reader).unwrap_err();
    assert!(matches!(error, AttachError::Empty), "{error}");
}

#[test]
fn a_memfd_that_could_shrink_is_refused() {
    let (fds, _) = create();
    let copy = rustix::fs::memfd_create("copy", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
    let file = std::fs::File::from(fds.intent.try_clone().unwrap());
    let mut bytes = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
    file.read_exact_at(&mut bytes, 0).unwrap();
    std::fs::File::from(copy.try_clone().unwrap()).write_all(&bytes).unwrap();
    let fds = AttachFds { intent: Some(copy.as_fd()), ..AttachFds::default() };
    let error = Segment::attach(fds, Access::Reader).unwrap_err();
    assert!(matches!(error, AttachError::Seals { .. }), "{error}");
}

#[test]
fn the_segments_memfds_cannot_be_resized() {
    let (fds, _) = create();
    for fd in [&fds.intent, &fds.keys, &fds.durable, &fds.store] {
        assert_eq!(rustix::fs::ftruncate(fd, 4096), Err(rustix::io::Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(fd, 1 << 33), Err(rustix::io::Errno::PERM));
    }
}

/// Protection of the mappings of a memfd, as `/proc/self/maps` says: found by inode.
fn protections(fd: BorrowedFd<'_>) -> Vec<String> {
    let inode = rustix::fs::fstat(fd).unwrap().st_ino.to_string();
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let fields = maps.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.filter(|f| f.get(4).is_some_and(|i| *i == inode)).map(|f| f.get(1).unwrap().to_string()).collect()
}

#[test]
fn each_access_maps_writable_exactly_what_it_may_write() {
    let cases = [
        (Access::DataPlane, ["rw-s", "r--s", "rw-s", "rw-s"]),
        (Access::ControlPlane, ["rw-s", "rw-s", "r--s", ""]),
        (Access::Reader, ["r--s", "", "r--s", ""]),
    ];
    for (access, expected) in cases {
        let (fds, created) = create();
        drop(created);
        let _segment = Segment::attach(fds.borrow_for(access), access).unwrap();
        for (fd, expected) in [&fds.intent, &fds.keys, &fds.durable, &fds.store].into_iter().zip(expected) {
            assert_eq!(protections(fd.as_fd()).concat(), expected, "{access:?}");
        }
    }
}

/// The test runs itself once more as the process that stores.
#[test]
fn a_store_into_a_read_only_part_ends_the_process() {
    const CHILD: &str = "SHM_TEST_STORES_INTO_READ_ONLY";
    if std::env::var_os(CHILD).is_some() {
        let (fds, _created) = create();
        let segment = Segment::attach(fds.borrow_for(Access::ControlPlane), Access::ControlPlane).unwrap();
        segment.transport(0).unwrap().rx_packets.store(1, Ordering::Relaxed);
        return;
    }
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "a_store_into_a_read_only_part_ends_the_process"]).env(CHILD, "1");
    let status = child.output().unwrap().status;
    assert_eq!(status.signal(), Some(11), "SIGSEGV");
}

/// Pages that this thread had to have filled in, so far (proc(5), `minflt`).
fn page_faults() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let (_, behind_the_name) = stat.rsplit_once(')').unwrap();
    behind_the_name.split_whitespace().nth(7).unwrap().parse().unwrap()
}

#[test]
fn a_ring_is_in_memory_at_both_ends_before_its_first_round() {
    let (fds, _) = create();
    let data_plane = Segment::attach(fds.borrow_for(Access::DataPlane), Access::DataPlane).unwrap();
    let control_plane = Segment::attach(fds.borrow_for(Access::ControlPlane), Access::ControlPlane).unwrap();
    let mut producer = data_plane.punt_producer(WorkerId(1)).unwrap();
    let mut consumer = control_plane.punt_consumer(WorkerId(1)).unwrap();
    let datagram = Box::new(Datagram::zeroed());
    let before = page_faults();
    for _ in 0..DATAGRAM_ENTRIES {
        producer.push(&datagram).unwrap();
        let _ = consumer.pop().unwrap();
    }
    // Two entries to a page, at each end: without it there were 256.
    let faults = page_faults() - before;
    assert!(faults < 16, "{faults} pages were filled in on the way");
}
