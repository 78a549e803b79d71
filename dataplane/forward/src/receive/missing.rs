// SPDX-License-Identifier: Apache-2.0
//! What has not arrived and is still worth asking for: the numbers to NACK upstream (RFC 4585 §6.2.1). A stream that has
//! lost nothing lately has no such list.

use core::ops::Range;

use crate::hold::on_demand::OnDemand;
use crate::hold::slab::Slab;

/// Numbers remembered per stream: a burst of 256 losses; more is a case for a keyframe.
const CAPACITY: usize = 256;
/// Reordering is given this long before the first NACK.
const PATIENCE_NS: u64 = 5_000_000;
const RETRY_NS: u64 = 50_000_000;
const TRIES: u64 = 10;
const TRIES_BITS: u32 = 8;

#[derive(Clone, Copy)]
struct Gap {
    /// The number, 48 bits of it, and how often it was asked for in the low byte.
    number_and_tries: u64,
    due_ns: u64,
}

impl Gap {
    const fn new(ext_seq: u64, due_ns: u64) -> Self {
        Self { number_and_tries: ext_seq << TRIES_BITS, due_ns }
    }

    const fn ext_seq(self) -> u64 {
        self.number_and_tries >> TRIES_BITS
    }

    const fn tries(self) -> u64 {
        self.number_and_tries & ((1 << TRIES_BITS) - 1)
    }

    const fn asked(self, again_ns: u64) -> Self {
        Self { number_and_tries: self.number_and_tries.saturating_add(1), due_ns: again_ns }
    }
}

/// Missing numbers of one stream, ascending: 256 × 16 B.
pub(crate) struct Missing {
    gaps: [Gap; CAPACITY],
    len: usize,
}

impl Missing {
    pub(crate) const fn new() -> Self {
        Self { gaps: [Gap::new(0, 0); CAPACITY], len: 0 }
    }

    /// The numbers from `from` to `to` (exclusive) were passed over. True where there are too many to ask for.
    pub(crate) fn open(&mut self, from: u64, to: u64, now_ns: u64) -> bool {
        let count = usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX);
        if count > CAPACITY.saturating_sub(self.len) {
            return true;
        }
        for ext_seq in from..to {
            if let Some(gap) = self.gaps.get_mut(self.len) {
                *gap = Gap::new(ext_seq, now_ns.saturating_add(PATIENCE_NS));
                self.len = self.len.saturating_add(1);
            }
        }
        false
    }

    /// A missing number arrived after all.
    pub(crate) fn close(&mut self, ext_seq: u64) -> bool {
        let gaps = self.gaps.get_mut(..self.len).unwrap_or(&mut []);
        let Ok(at) = gaps.binary_search_by_key(&ext_seq, |gap| gap.ext_seq()) else { return false };
        gaps.copy_within(at.saturating_add(1).., at);
        self.len = self.len.saturating_sub(1);
        true
    }

    /// Fills `due` with the numbers to be asked for now, ascending; returns how many, and how many were given up.
    pub(crate) fn collect(&mut self, now_ns: u64, rtt_ns: u64, due: &mut [u16]) -> (usize, usize) {
        let mut asked = 0;
        let mut kept = 0;
        let retry = RETRY_NS.max(rtt_ns.saturating_mul(3) / 2);
        for at in 0..self.len {
            let Some(mut gap) = self.gaps.get(at).copied() else { break };
            if gap.due_ns <= now_ns && gap.tries() >= TRIES {
                continue;
            }
            if gap.due_ns <= now_ns
                && let Some(place) = due.get_mut(asked)
            {
                *place = dataplane_wire::seq::low16(gap.ext_seq());
                asked = asked.saturating_add(1);
                gap = gap.asked(now_ns.saturating_add(retry));
            }
            if let Some(place) = self.gaps.get_mut(kept) {
                *place = gap;
                kept = kept.saturating_add(1);
            }
        }
        let given_up = self.len.saturating_sub(kept);
        self.len = kept;
        (asked, given_up)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Remembers that `numbers` of a stream were passed over; `list` is its list, which is made where it needs one. True
/// where there are too many to ask for: then the stream has no list.
pub(crate) fn open(lists: &mut Slab<Missing>, list: &mut OnDemand<Missing>, numbers: Range<u64>, now_ns: u64) -> bool {
    if numbers.is_empty() {
        return false;
    }
    let missing = list.get_or_make(lists, Missing::new);
    let is_too_many = missing.is_none_or(|missing| missing.open(numbers.start, numbers.end, now_ns));
    if is_too_many {
        list.forget(lists);
    }
    is_too_many
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_a_list_while_it_misses_something() {
        let (mut lists, mut list) = (Slab::new(1), OnDemand::none());
        assert!(!open(&mut lists, &mut list, 7..7, 0) && list.get(&lists).is_none());
        assert!(!open(&mut lists, &mut list, 7..9, 0) && list.get(&lists).is_some());
        let mut other = OnDemand::none();
        assert!(open(&mut lists, &mut other, 1..2, 0) && other.get(&lists).is_none(), "there are no more lists");
        assert!(open(&mut lists, &mut list, 9..10_000, 0) && list.get(&lists).is_none() && lists.len() == 0);
    }

    #[test]
    fn each_number_is_asked_for_until_it_comes_or_is_given_up() {
        let mut missing = Missing::new();
        assert!(!missing.open(10, 13, 0));
        let mut due = [0; 8];
        assert_eq!(missing.collect(1_000_000, 0, &mut due), (0, 0), "reordering is given time");
        assert_eq!(missing.collect(6_000_000, 0, &mut due), (3, 0));
        assert_eq!(due.get(..3), Some(&[10, 11, 12][..]));
        assert!(missing.close(11) && !missing.close(11) && !missing.close(9));
        let mut asked = 0;
        let mut given_up = 0;
        for step in 1..100_u64 {
            let (now_asked, now_given_up) = missing.collect(6_000_000 + step * 60_000_000, 0, &mut due);
            asked += now_asked;
            given_up += now_given_up;
        }
        assert_eq!((asked, given_up), (2 * 9, 2));
        assert!(missing.is_empty());
    }

    #[test]
    fn a_burst_that_is_too_long_is_not_asked_for() {
        let mut missing = Missing::new();
        assert!(missing.open(0, 10_000, 0));
        assert!(missing.is_empty());
    }
}
