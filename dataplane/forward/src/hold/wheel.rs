// SPDX-License-Identifier: Apache-2.0
//! The worker's timer wheel: 1-ms slots, one timer per leg, intrusive lists (CONTRACTS 13 of the design).

const SLOTS: usize = 1024;
/// Nanoseconds of a slot.
const SLOT_NS: u64 = 1_000_000;

/// Timers of legs, named by the leg's slot.
pub(crate) struct Wheel {
    heads: [u32; SLOTS],
    /// (next + 1, due tick) by leg; next 0 = end of list, due 0 = not armed.
    links: Vec<(u32, u64)>,
    tick: u64,
}

impl Wheel {
    pub(crate) fn new(legs: usize, now_ns: u64) -> Self {
        Self { heads: [0; SLOTS], links: vec![(0, 0); legs], tick: now_ns / SLOT_NS }
    }

    /// Arms the leg's timer at `due_ns`, at the latest one turn of the wheel ahead. A leg that is armed already keeps its timer.
    pub(crate) fn arm(&mut self, leg: u32, due_ns: u64) {
        let latest = self.tick.saturating_add(SLOTS as u64 - 1);
        let due = (due_ns / SLOT_NS).clamp(self.tick.saturating_add(1), latest);
        let Some(head) = self.heads.get_mut(slot_of(due)) else { return };
        if let Some(link) = self.links.get_mut(leg as usize)
            && link.1 == 0
        {
            *link = (*head, due);
            *head = leg.saturating_add(1);
        }
    }

    /// Takes a leg whose time has come, or nothing. A removed leg may come out too: the caller looks whether it is alive.
    pub(crate) fn expire(&mut self, now_ns: u64) -> Option<u32> {
        let now = now_ns / SLOT_NS;
        // Every timer lies within one turn of the wheel: after a standstill one turn finds them all.
        self.tick = self.tick.max(now.saturating_sub(SLOTS as u64));
        loop {
            let head = self.heads.get_mut(slot_of(self.tick))?;
            if let Some(leg) = head.checked_sub(1) {
                let link = self.links.get_mut(leg as usize)?;
                *head = link.0;
                *link = (0, 0);
                return Some(leg);
            }
            if self.tick >= now {
                return None;
            }
            self.tick = self.tick.saturating_add(1);
        }
    }

    /// Time until the first timer, at most `most_ns`. A leg that was removed may still be waited for.
    pub(crate) fn left_ns(&self, now_ns: u64, most_ns: u64) -> u64 {
        let last = (now_ns.saturating_add(most_ns) / SLOT_NS).min(self.tick.saturating_add(SLOTS as u64 - 1));
        let is_armed = |tick: &u64| self.heads.get(slot_of(*tick)).is_some_and(|head| *head != 0);
        let first = (self.tick..=last).find(is_armed);
        first.map_or(most_ns, |tick| tick.saturating_mul(SLOT_NS).saturating_sub(now_ns)).min(most_ns)
    }
}

fn slot_of(tick: u64) -> usize {
    usize::try_from(tick % SLOTS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_timer_fires_once_and_not_before_its_time() {
        let mut wheel = Wheel::new(8, 5_000_000_000);
        wheel.arm(3, 5_010_000_000);
        wheel.arm(4, 5_010_500_000);
        wheel.arm(3, 5_900_000_000);
        assert_eq!(wheel.expire(5_009_000_000), None);
        let mut fired: Vec<u32> = std::iter::from_fn(|| wheel.expire(5_011_000_000)).collect();
        fired.sort_unstable();
        assert_eq!(fired, vec![3, 4]);
        assert_eq!(wheel.expire(5_950_000_000), None);
    }

    #[test]
    fn it_tells_how_long_nothing_is_due() {
        let mut wheel = Wheel::new(4, 1_000_000_000);
        assert_eq!(wheel.left_ns(1_000_000_000, 50_000_000), 50_000_000, "nothing is armed");
        wheel.arm(1, 1_020_000_000);
        assert_eq!(wheel.left_ns(1_000_500_000, 50_000_000), 19_500_000);
        assert_eq!(wheel.left_ns(1_000_500_000, 7_000_000), 7_000_000);
        assert_eq!(wheel.left_ns(1_030_000_000, 50_000_000), 0, "late");
        assert_eq!(wheel.expire(1_030_000_000), Some(1));
        assert_eq!(wheel.left_ns(1_030_000_000, 50_000_000), 50_000_000);
    }

    #[test]
    fn a_timer_in_the_past_fires_at_the_next_tick() {
        let mut wheel = Wheel::new(2, 1_000_000_000);
        wheel.arm(1, 0);
        assert_eq!(wheel.expire(1_000_000_000), None);
        assert_eq!(wheel.expire(1_001_000_000), Some(1));
    }
}
