// SPDX-License-Identifier: Apache-2.0
//! How long a worker without work spins before it sleeps: as long as that has paid lately, and for a small share of its time.
//!
//! A wake-up from sleep costs the packet tens of microseconds; spinning costs the core. With a packet every 5 ms, spinning
//! 50 µs after each was most of what a forwarded packet cost. With a packet every 16 µs it always paid, so that the worker never
//! slept, and a worker of the FIFO class that never sleeps keeps from its core what brings it the packets: the kernel's threads
//! had to take it back, 50 ms of each second.

/// Nobody spins longer.
const MOST_NS: u64 = 50_000;
/// What a stretch that was short enough to be spun through adds.
const GAIN_NS: u64 = 5_000;
/// One part of so many of a worker's time may be spun.
const SHARE: u64 = 8;
/// What may be saved of it, for packets that come close together after a quiet time.
const MOST_SAVED_NS: u64 = 1_000_000;

/// The spinning time of one worker.
pub(crate) struct Patience {
    spin_ns: u64,
    saved_ns: u64,
    learned_ns: u64,
}

impl Patience {
    /// One that knows nothing, at `now_ns`.
    pub(crate) const fn new(now_ns: u64) -> Self {
        Self { spin_ns: 0, saved_ns: MOST_SAVED_NS, learned_ns: now_ns }
    }

    /// Whether to spin on after so long without work.
    pub(crate) fn lasts(&self, idle_ns: u64) -> bool {
        idle_ns < self.spin_ns.min(self.saved_ns)
    }

    /// Work has come at `now_ns`, after so long without.
    pub(crate) fn learn(&mut self, idle_ns: u64, now_ns: u64) {
        let spun_ns = idle_ns.min(self.spin_ns.min(self.saved_ns));
        let earned_ns = now_ns.saturating_sub(self.learned_ns) / SHARE;
        self.saved_ns = (self.saved_ns - spun_ns).saturating_add(earned_ns).min(MOST_SAVED_NS);
        self.learned_ns = now_ns;
        self.spin_ns =
            if idle_ns < MOST_NS { self.spin_ns.saturating_add(GAIN_NS).min(MOST_NS) } else { self.spin_ns / 2 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The idle time between packets that come every `gap_ns`, and how much of it was spun.
    fn spun(patience: &mut Patience, start_ns: u64, gap_ns: u64, packets: u64) -> u64 {
        let mut spun = 0;
        for packet in 1..=packets {
            // The longest time that it would spin on for, to the microsecond.
            spun += (0..gap_ns).step_by(1_000).take_while(|idle| patience.lasts(*idle)).count() as u64 * 1_000;
            patience.learn(gap_ns, start_ns + packet * gap_ns);
        }
        spun
    }

    #[test]
    fn a_worker_spins_where_packets_come_close_together_and_sleeps_where_they_do_not() {
        let mut patience = Patience::new(0);
        assert!(!patience.lasts(0), "nothing is known: it sleeps");
        assert!(spun(&mut patience, 0, 20_000, 20) > 200_000);
        assert!(patience.lasts(MOST_NS - 1) && !patience.lasts(MOST_NS));
        spun(&mut patience, 400_000, 5_000_000, 6);
        assert!(!patience.lasts(1_000));
    }

    #[test]
    fn one_long_pause_among_many_short_ones_changes_little() {
        let mut patience = Patience::new(0);
        let mut now = 0;
        for turn in 0..200 {
            let idle = if turn % 20 == 0 { 3_000_000 } else { 10_000 };
            now += idle;
            patience.learn(idle, now);
        }
        assert!(patience.lasts(40_000));
    }

    #[test]
    fn a_worker_whose_packets_never_cease_spins_for_its_share_only() {
        let mut patience = Patience::new(0);
        let packets = 100_000;
        let spun = spun(&mut patience, 0, 16_000, packets);
        let share = packets * 16_000 / SHARE;
        assert!((share..share + 2 * MOST_SAVED_NS).contains(&spun), "{spun} ns, {share} are its share");
    }
}
