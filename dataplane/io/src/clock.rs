// SPDX-License-Identifier: Apache-2.0
//! Arrival stamps: the kernel stamps datagrams with the wall clock, the data plane counts monotonic ns.
//!
//! A stamp given out is never in the future and never before the one given out last: a step of the wall clock bends at
//! most the packets that waited in the socket during the step.

use rustix::time::{ClockId, clock_gettime};

/// A longer time between two reads of the monotonic clock means that the thread was interrupted between them.
const INTERRUPTED_NS: u64 = 5_000;
/// A difference of this size is a step of the wall clock, also where the reads were interrupted.
const STEP_NS: i64 = 1_000_000;

/// Converts wall-clock stamps to monotonic ones.
#[derive(Debug)]
pub(crate) struct ArrivalClock {
    /// Wall clock minus monotonic clock.
    offset_ns: i64,
    now_ns: u64,
    last_ns: u64,
}

fn read(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

impl ArrivalClock {
    pub(crate) fn new() -> Self {
        let mut clock = Self { offset_ns: 0, now_ns: 0, last_ns: 0 };
        // The first sample differs from zero by decades, so that it is taken whatever it is; the others refine it.
        for _ in 0..8 {
            clock.sample();
        }
        clock
    }

    /// Reads both clocks; once per batch that has packets (three vDSO calls).
    pub(crate) fn sample(&mut self) {
        let before = read(ClockId::Monotonic);
        let wall = read(ClockId::Realtime);
        self.now_ns = read(ClockId::Monotonic);
        let spread = self.now_ns.wrapping_sub(before);
        let middle = before.wrapping_add(spread / 2);
        let offset_ns = wall.wrapping_sub(middle).cast_signed();
        if spread <= INTERRUPTED_NS || offset_ns.wrapping_sub(self.offset_ns).unsigned_abs() > STEP_NS.unsigned_abs() {
            self.offset_ns = offset_ns;
        }
    }

    /// The monotonic time of a wall-clock stamp; without a stamp the time of the sample.
    pub(crate) fn arrival(&mut self, wall_ns: Option<u64>) -> u64 {
        let stamp = wall_ns.map_or(self.now_ns, |wall| wall.saturating_add_signed(self.offset_ns.wrapping_neg()));
        self.last_ns = stamp.min(self.now_ns).max(self.last_ns);
        self.last_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_are_ordered_and_never_in_the_future() {
        let mut clock = ArrivalClock { offset_ns: 1_000, now_ns: 500, last_ns: 0 };
        assert_eq!(clock.arrival(Some(1_100)), 100);
        assert_eq!(clock.arrival(Some(1_050)), 100, "an older stamp does not go back");
        assert_eq!(clock.arrival(Some(9_000)), 500, "a stamp after the sample is the sample's");
        assert_eq!(clock.arrival(None), 500);
    }

    #[test]
    fn the_offset_is_that_of_the_two_clocks() {
        let mut clock = ArrivalClock::new();
        let wall = read(ClockId::Realtime);
        clock.sample();
        let arrival = clock.arrival(Some(wall));
        assert!(clock.now_ns - arrival < 50_000_000, "{} {arrival}", clock.now_ns);
    }
}
