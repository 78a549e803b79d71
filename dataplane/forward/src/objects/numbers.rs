// SPDX-License-Identifier: Apache-2.0
//! A cohort's numbering: ingress numbers with the closed ones taken out (MEDIA_RULES G2). An interval map, newest last, of
//! which a cohort has none before a number was closed.

use crate::hold::on_demand::OnDemand;
use crate::hold::slab::Slab;

const INTERVALS: usize = 64;

/// From `from` on, `closed` numbers have been taken out.
#[derive(Clone, Copy, Default)]
struct Interval {
    from: u64,
    closed: u64,
}

/// A cohort's numbers: its map, once it has one.
pub(crate) struct Numbers(OnDemand<Intervals>);

impl Numbers {
    pub(crate) const fn new() -> Self {
        Self(OnDemand::none())
    }

    /// As [`Intervals::number`].
    #[inline]
    pub(crate) fn number(&self, maps: &Slab<Intervals>, ext_seq: u64) -> Option<u64> {
        self.0.get(maps).map_or(Some(ext_seq), |map| map.number(ext_seq))
    }

    /// As [`Intervals::ext_seq`].
    pub(crate) fn ext_seq(&self, maps: &Slab<Intervals>, number: u64) -> Option<u64> {
        self.0.get(maps).map_or(Some(number), |map| map.ext_seq(number))
    }

    /// As [`Intervals::close`]. There are as many maps as cohorts.
    pub(crate) fn close(&mut self, maps: &mut Slab<Intervals>, next: u64, count: u64) {
        if count == 0 {
            return;
        }
        if let Some(map) = self.0.get_or_make(maps, Intervals::new) {
            map.close(next, count);
        }
    }

    /// No number is closed from here on.
    pub(crate) fn forget(&mut self, maps: &mut Slab<Intervals>) {
        self.0.forget(maps);
    }
}

/// The map of one cohort: 64 × 16 B.
pub(crate) struct Intervals {
    intervals: [Interval; INTERVALS],
    count: usize,
}

impl Intervals {
    const fn new() -> Self {
        Self { intervals: [Interval { from: 0, closed: 0 }; INTERVALS], count: 1 }
    }

    fn newest_first(&self) -> impl Iterator<Item = Interval> + '_ {
        let kept = self.count.min(INTERVALS);
        (0..kept).filter_map(move |back| {
            let index = self.count.checked_sub(1)?.checked_sub(back)? % INTERVALS;
            self.intervals.get(index).copied()
        })
    }

    /// The cohort's number of an ingress number; nothing where it was closed or is no longer known.
    fn number(&self, ext_seq: u64) -> Option<u64> {
        let mut later_from = u64::MAX;
        let mut later_closed = 0;
        for interval in self.newest_first() {
            if ext_seq >= interval.from {
                // The numbers right before the next interval are the ones that it closed.
                let closed_there = if later_from == u64::MAX { 0 } else { later_closed - interval.closed };
                if later_from != u64::MAX && ext_seq >= later_from.saturating_sub(closed_there) {
                    return None;
                }
                return ext_seq.checked_sub(interval.closed);
            }
            later_from = interval.from;
            later_closed = interval.closed;
        }
        None
    }

    /// The ingress number behind a cohort's number.
    fn ext_seq(&self, number: u64) -> Option<u64> {
        let mut later = u64::MAX;
        for interval in self.newest_first() {
            let ext_seq = number.checked_add(interval.closed)?;
            if ext_seq >= interval.from && ext_seq < later {
                return (self.number(ext_seq) == Some(number)).then_some(ext_seq);
            }
            later = interval.from;
        }
        None
    }

    /// Takes `count` numbers that end before `next` out of the sequence.
    fn close(&mut self, next: u64, count: u64) {
        let Some(newest) = self.newest_first().next() else { return };
        if count == 0 || next <= newest.from {
            return;
        }
        let closed = newest.closed.saturating_add(count);
        if self.count > 1 && next.saturating_sub(count) == newest.from {
            // It goes on where the newest interval ended its closed numbers: the same interval, longer.
            if let Some(place) = self.count.checked_sub(1).and_then(|at| self.intervals.get_mut(at % INTERVALS)) {
                *place = Interval { from: next, closed };
            }
            return;
        }
        if let Some(place) = self.intervals.get_mut(self.count % INTERVALS) {
            *place = Interval { from: next, closed };
            self.count = self.count.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // G2
    #[test]
    fn dropping_one_number_closes_exactly_that_one() {
        let mut numbers = Intervals::new();
        numbers.close(101, 1); // 100 was padding
        numbers.close(111, 3); // 108, 109, 110 were skipped
        let given: Vec<Option<u64>> = (98..114).map(|ext_seq| numbers.number(ext_seq)).collect();
        let wanted = [
            Some(98),
            Some(99),
            None,
            Some(100),
            Some(101),
            Some(102),
            Some(103),
            Some(104),
            Some(105),
            Some(106),
            None,
            None,
            None,
            Some(107),
            Some(108),
            Some(109),
        ];
        assert_eq!(given, wanted);
        for (ext_seq, number) in (98_u64..).zip(given) {
            if let Some(number) = number {
                assert_eq!(numbers.ext_seq(number), Some(ext_seq));
            }
        }
    }

    #[test]
    fn a_cohort_has_a_map_while_numbers_are_closed() {
        let (mut maps, mut numbers) = (Slab::new(1), Numbers::new());
        numbers.close(&mut maps, 7, 0);
        assert_eq!((maps.len(), numbers.number(&maps, 5), numbers.ext_seq(&maps, 5)), (0, Some(5), Some(5)));
        numbers.close(&mut maps, 7, 1);
        assert_eq!((maps.len(), numbers.number(&maps, 7), numbers.ext_seq(&maps, 6)), (1, Some(6), Some(7)));
        numbers.forget(&mut maps);
        assert_eq!((maps.len(), numbers.number(&maps, 7)), (0, Some(7)));
    }

    // G2
    #[test]
    fn a_run_of_closed_numbers_is_one_interval() {
        let mut numbers = Intervals::new();
        for number in 100..600_u64 {
            numbers.close(number + 1, 1);
        }
        assert_eq!(numbers.number(99), Some(99));
        assert_eq!((100..600).find_map(|number| numbers.number(number)), None);
        assert_eq!(numbers.number(600), Some(100));
        assert_eq!((numbers.ext_seq(99), numbers.ext_seq(100)), (Some(99), Some(600)));
    }

    #[test]
    fn what_the_map_has_forgotten_is_not_guessed() {
        let mut numbers = Intervals::new();
        for round in 1..200_u64 {
            numbers.close(round * 10, 1);
        }
        assert_eq!(numbers.number(5), None);
        assert_eq!(numbers.number(1991), Some(1991 - 199));
        assert_eq!(numbers.number(1989), None);
    }
}
