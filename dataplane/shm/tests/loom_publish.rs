// SPDX-License-Identifier: Apache-2.0
//! Model of publication: a reader copies a record whose slot may be filled again meanwhile, in every interleaving.
//!
//! `RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR=target/loom cargo test --release -p dataplane-shm --test loom_publish`
#![cfg(loom)]
#![expect(clippy::unwrap_used, clippy::tests_outside_test_module, reason = "tests")]

use dataplane_shm::intent::head;
use dataplane_shm::sync::AtomicU64;
use dataplane_shm::words;
use loom::sync::Arc;
use loom::thread;

/// Two records of two words, and a head.
struct Table {
    head: AtomicU64,
    records: [[AtomicU64; 2]; 2],
}

impl Table {
    fn new() -> Arc<Self> {
        let word = || AtomicU64::new(0);
        Arc::new(Self { head: word(), records: [[word(), word()], [word(), word()]] })
    }

    fn record(&self, slot: u32) -> &[AtomicU64; 2] {
        self.records.get(slot as usize).unwrap()
    }

    fn read(&self) -> Option<[u64; 2]> {
        head::read(&self.head, |slot| words::take(self.record(slot)))
    }

    fn publish(&self, slot: u32, mark: u64) {
        head::begin_fill();
        words::fill(self.record(slot), &[mark, mark]);
        head::swing(&self.head, slot);
    }
}

#[test]
fn a_copy_is_never_torn_though_slots_are_filled_again_at_once() {
    loom::model(|| {
        let table = Table::new();
        table.publish(0, 1);
        let writing = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                // Record 0 is filled again without any acknowledgement: the head alone has to tell.
                table.publish(1, 2);
                table.publish(0, 3);
            })
        };
        if let Some([first, second]) = table.read() {
            assert_eq!(first, second, "torn");
            assert!((1..=3).contains(&first));
        }
        writing.join().unwrap();
        assert_eq!(table.read(), Some([3, 3]));
    });
}

#[test]
fn the_same_slot_published_again_is_another_head() {
    loom::model(|| {
        let table = Table::new();
        table.publish(0, 1);
        let writing = {
            let table = Arc::clone(&table);
            thread::spawn(move || {
                head::clear(&table.head);
                table.publish(0, 2);
            })
        };
        if let Some([first, second]) = table.read() {
            assert_eq!(first, second, "torn");
        }
        writing.join().unwrap();
        assert_eq!(table.read(), Some([2, 2]));
    });
}

/// The packet store's slot: tag zeroed, fence, bytes, tag; the reader checks the tag around its copy.
#[test]
fn a_reader_of_the_log_that_was_lapped_notices() {
    use dataplane_shm::sync::{Ordering, fence};
    loom::model(|| {
        let tag = Arc::new(AtomicU64::new(1));
        let bytes = Arc::new([AtomicU64::new(1), AtomicU64::new(1)]);
        let writing = {
            let (tag, bytes) = (Arc::clone(&tag), Arc::clone(&bytes));
            thread::spawn(move || {
                tag.store(0, Ordering::Relaxed);
                fence(Ordering::Release);
                words::put(&*bytes, &[2_u64, 2]);
                tag.store(2, Ordering::Release);
            })
        };
        let before = tag.load(Ordering::Acquire);
        let [first, second] = words::take::<_, [u64; 2]>(&*bytes).unwrap();
        fence(Ordering::Acquire);
        if before != 0 && tag.load(Ordering::Relaxed) == before {
            assert_eq!((first, second), (before, before), "torn under a valid tag");
        }
        writing.join().unwrap();
    });
}
