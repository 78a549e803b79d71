// SPDX-License-Identifier: Apache-2.0
//! How long a worker sleeps whose device had no room for all that was sent.
//!
//! In copy mode nobody says when it has room again, so that it is asked: soon where it takes frames, for a device's ring is
//! empty again after a few hundred µs and what it could have sent meanwhile is lost; ever more seldom where it takes none, as one
//! does that is down.

use std::time::Duration;

/// The first of them: half of a ring of 256 frames lasts so long at 2.5 million frames per second.
const SHORTEST: Duration = Duration::from_micros(50);
/// The last ones, each of which is double the one before.
const LONGEST: Duration = Duration::from_millis(5);

/// The sleeps of one port.
#[derive(Debug)]
pub(super) struct Nap {
    next: Duration,
    /// What the device had taken before the last one.
    taken: Option<u32>,
}

impl Nap {
    pub(super) const fn new() -> Self {
        Self { next: SHORTEST, taken: None }
    }

    /// The length of the next one, for a device that has `taken` so many frames (modulo 2^32) and did not take all.
    pub(super) fn next(&mut self, taken: u32) -> Duration {
        let before = self.taken.replace(taken);
        self.next = if before == Some(taken) { (self.next * 2).min(LONGEST) } else { SHORTEST };
        self.next
    }

    /// It took all that there was.
    pub(super) const fn end(&mut self) {
        self.taken = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_takes_frames_is_asked_soon_and_one_that_takes_none_ever_more_seldom() {
        let mut nap = Nap::new();
        assert!((0..100_u32).all(|round| nap.next((u32::MAX - 1).wrapping_add(round * 64)) == SHORTEST));
        let lengths: Vec<_> = (0..9).map(|_| nap.next(7)).collect();
        assert_eq!(lengths[..3], [SHORTEST, SHORTEST * 2, SHORTEST * 4]);
        assert_eq!(lengths[7..], [LONGEST, LONGEST]);
        assert_eq!(nap.next(8), SHORTEST, "it takes frames again");
    }

    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut nap = Nap::new();
        assert!((0..9).all(|_| nap.next(7) <= LONGEST));
        nap.end();
        assert_eq!(nap.next(7), SHORTEST);
    }
}
