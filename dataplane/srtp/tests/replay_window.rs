// SPDX-License-Identifier: Apache-2.0
//! The replay window against a model, and against a death between any two stores.

#[cfg(test)]
#[path = "fixture/packets.rs"]
mod packets;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::BTreeSet;
    use std::sync::atomic::{AtomicU64, Ordering};

    use dataplane_srtp::{MAX_RTP_INDEX, Publish, Replay};
    use proptest::prelude::*;

    use crate::packets::{Cells, Rng};

    /// Executes `left` stores and loses the others: what a successor sees when the writer dies.
    struct DiesAfter {
        left: Cell<usize>,
    }

    impl Publish for DiesAfter {
        fn store(&self, cell: &AtomicU64, value: u64) {
            if let Some(left) = self.left.get().checked_sub(1) {
                self.left.set(left);
                cell.store(value, Ordering::SeqCst);
            }
        }
    }

    /// Counts stores.
    #[derive(Default)]
    struct Counts {
        stores: Cell<usize>,
    }

    impl Publish for Counts {
        fn store(&self, cell: &AtomicU64, value: u64) {
            self.stores.set(self.stores.get() + 1);
            cell.store(value, Ordering::SeqCst);
        }
    }

    /// Stores that `accept` of `index` makes in this state.
    fn stores_of(cells: &Cells, index: u64) -> usize {
        let counts = Counts::default();
        cells.copy().window().accept_with(index, &counts).unwrap();
        counts.stores.get()
    }

    /// What every successor must find: nothing used passes again, everything unused passes that the top
    /// leaves room for.
    fn successor_is_exact(cells: &Cells, used: &BTreeSet<u64>) {
        let Some(top) = cells.window().highest() else {
            assert!(used.is_empty(), "{used:?} were used and the window is empty");
            return;
        };
        for index in top.saturating_sub(2100)..top + 2100 {
            let verdict = cells.window().check(index);
            if used.contains(&index) {
                assert!(verdict.is_err(), "{index} passes twice, top {top}");
            } else if index + 1024 > top {
                assert_eq!(verdict, Ok(()), "{index} is fresh, top {top}");
            } else {
                assert_eq!(verdict, Err(Replay::TooOld));
            }
        }
        for index in used {
            assert!(cells.window().check(*index).is_err(), "{index} passes twice, top {top}");
        }
    }

    fn jump() -> impl Strategy<Value = i64> {
        prop_oneof![
            8 => -1100i64..0,
            8 => 0i64..70,
            4 => 60i64..1300,
            4 => 900i64..2300,
            2 => 2000i64..5000,
            1 => 5000i64..(1 << 34),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        // RFC 3711 §3.3.2
        #[test]
        fn the_window_accepts_what_a_set_of_seen_indices_would(
            start in 0u64..5000,
            jumps in prop::collection::vec(jump(), 1..300),
        ) {
            let cells = Cells::zero();
            let (mut seen, mut top) = (BTreeSet::new(), None::<u64>);
            let mut at = start;
            for jump in jumps {
                at = top.unwrap_or(at).saturating_add_signed(jump);
                let expected = match top {
                    Some(top) if at + 1024 <= top => Err(Replay::TooOld),
                    _ if seen.contains(&at) => Err(Replay::Seen),
                    _ => Ok(()),
                };
                let before = cells.snapshot();
                prop_assert_eq!(cells.window().check(at), expected);
                prop_assert_eq!(&before, &cells.snapshot());
                prop_assert_eq!(cells.window().accept(at), expected);
                if expected.is_err() {
                    prop_assert_eq!(before, cells.snapshot());
                } else {
                    seen.insert(at);
                    top = Some(top.unwrap_or(at).max(at));
                    prop_assert_eq!(cells.window().highest(), top);
                }
            }
        }

        // CONTRACTS 3: a death after the n-th store, for each n, again and again.
        #[test]
        fn a_death_after_any_store_opens_no_replay_and_loses_nothing(
            start in 0u64..5000,
            steps in prop::collection::vec((jump(), any::<bool>()), 1..60),
            last in jump(),
            choice in any::<u64>(),
        ) {
            let cells = Cells::zero();
            let mut used = BTreeSet::new();
            let mut rng = Rng(choice | 1);
            let next = |cells: &Cells, jump: i64| {
                cells.window().highest().map_or(start, |top| top.saturating_add_signed(jump))
            };
            for (jump, dies) in steps {
                let index = next(&cells, jump);
                if cells.window().check(index).is_err() {
                    continue;
                }
                let stores = stores_of(&cells, index);
                let left = if dies { usize::try_from(rng.below(stores as u64)).unwrap() } else { stores };
                cells.window().accept_with(index, &DiesAfter { left: Cell::new(left) }).unwrap();
                if left == stores {
                    used.insert(index);
                }
            }
            successor_is_exact(&cells, &used);
            let index = next(&cells, last);
            if cells.window().check(index).is_ok() {
                for left in 0..stores_of(&cells, index) {
                    let dead = cells.copy();
                    dead.window().accept_with(index, &DiesAfter { left: Cell::new(left) }).unwrap();
                    successor_is_exact(&dead, &used);
                }
            }
        }

        #[test]
        fn damaged_cells_never_panic(
            top in any::<u64>(),
            bits in prop::collection::vec(any::<u64>(), 32),
            index in any::<u64>(),
            seq in any::<u16>(),
        ) {
            let cells = Cells::zero();
            cells.top.store(top, Ordering::SeqCst);
            for (cell, value) in cells.bits.iter().zip(bits) {
                cell.store(value, Ordering::SeqCst);
            }
            let window = cells.window();
            for index in [index, index >> 16, top, top.wrapping_sub(1), top.wrapping_add(1), window.guess(seq)] {
                let _ = window.check(index);
                let _ = window.accept(index);
            }
            prop_assert!(window.guess_alternatives(seq).count() <= 2);
        }
    }

    #[test]
    fn every_jump_from_a_full_window_survives_a_death_after_every_store() {
        for offset in [0, 1, 31, 62, 63] {
            let cells = Cells::zero();
            let start = 100_000 + offset;
            let used: BTreeSet<u64> =
                (start - 1500..=start).filter(|index| index % 3 != 1 || *index == start).collect();
            for index in &used {
                cells.window().accept(*index).unwrap();
            }
            let jumps =
                (1..=70).chain((70..3200).step_by(37)).chain([960, 1023, 1024, 1025, 2047, 2048, 2049, 1 << 33]);
            for jump in jumps {
                let index = start + jump;
                let stores = stores_of(&cells, index);
                assert!(stores <= 51, "{stores} stores for a jump of {jump}");
                for left in 0..=stores {
                    let dead = cells.copy();
                    dead.window().accept_with(index, &DiesAfter { left: Cell::new(left) }).unwrap();
                    let mut used = used.clone();
                    if left == stores {
                        used.insert(index);
                    } else {
                        assert_eq!(dead.window().check(index), Ok(()), "jump {jump}, {left} stores");
                    }
                    successor_is_exact(&dead, &used);
                }
            }
        }
    }

    #[test]
    fn a_death_in_the_very_first_accept_leaves_an_empty_window() {
        let cells = Cells::zero();
        cells.window().accept_with(77, &DiesAfter { left: Cell::new(1) }).unwrap();
        assert_eq!(cells.window().highest(), None);
        // Another word than 77 is in, so that nothing but the clean-up forgets 77.
        cells.window().accept(400).unwrap();
        successor_is_exact(&cells, &BTreeSet::from([400]));
    }

    // RFC 3711 §3.3.1
    #[test]
    fn the_estimate_follows_the_rfc() {
        let roc = |n: u64| n << 16;
        for (highest, seq, index) in [
            (None, 0, 0),
            (None, 65_535, 65_535),
            (Some(65_535), 0, roc(1)),
            (Some(roc(1)), 65_535, 65_535),
            (Some(roc(3) | 100), 100, roc(3) | 100),
            (Some(roc(3) | 100), 32_868, roc(3) | 32_868),
            (Some(roc(3) | 100), 32_869, roc(2) | 32_869),
            (Some(roc(3) | 40_000), 7232, roc(3) | 7232),
            (Some(roc(3) | 40_000), 7231, roc(4) | 7231),
            // ROC − 1 does not exist at ROC 0.
            (Some(5), 60_000, 60_000),
        ] {
            let cells = Cells::zero();
            if let Some(highest) = highest {
                cells.window().accept(highest).unwrap();
            }
            assert_eq!(cells.window().guess(seq), index, "{highest:?} {seq}");
            assert_eq!(cells.window().guess_alternatives(seq).next(), Some(index + roc(1)));
        }
    }

    #[test]
    fn the_index_space_ends_without_a_wrap() {
        let cells = Cells::zero();
        cells.window().accept(MAX_RTP_INDEX - 1).unwrap();
        cells.window().accept(MAX_RTP_INDEX).unwrap();
        assert_eq!(cells.window().check(MAX_RTP_INDEX + 1), Err(Replay::Exhausted));
        assert_eq!(cells.window().accept(MAX_RTP_INDEX + 1), Err(Replay::Exhausted));
        assert_eq!(cells.window().accept(u64::MAX), Err(Replay::Exhausted));
        assert_eq!(cells.window().guess_alternatives(0).next(), None);
        assert_eq!(cells.window().check(cells.window().guess(1)), Err(Replay::Exhausted));
    }
}
