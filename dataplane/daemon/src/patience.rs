// SPDX-License-Identifier: Apache-2.0
//! How long a worker without work spins before it sleeps: as long as that has paid lately.
//!
//! A wake-up from sleep costs the packet tens of microseconds; spinning costs the core. With a packet every 5 ms, spinning
//! 50 µs after each was most of what a forwarded packet cost.

/// Nobody spins longer.
const MOST_NS: u64 = 50_000;
/// What a stretch that was short enough to be spun through adds.
const GAIN_NS: u64 = 5_000;

/// The spinning time of one worker.
pub(crate) struct Patience {
    spin_ns: u64,
}

impl Patience {
    pub(crate) const fn new() -> Self {
        Self { spin_ns: 0 }
    }

    /// Whether to spin on after so long without work.
    pub(crate) const fn lasts(&self, idle_ns: u64) -> bool {
        idle_ns < self.spin_ns
    }

    /// Work has come after so long without.
    pub(crate) fn learn(&mut self, idle_ns: u64) {
        self.spin_ns =
            if idle_ns < MOST_NS { self.spin_ns.saturating_add(GAIN_NS).min(MOST_NS) } else { self.spin_ns / 2 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_spins_where_packets_come_close_together_and_sleeps_where_they_do_not() {
        let mut patience = Patience::new();
        assert!(!patience.lasts(0), "nothing is known: it sleeps");
        for _ in 0..20 {
            patience.learn(20_000);
        }
        assert!(patience.lasts(MOST_NS - 1) && !patience.lasts(MOST_NS));
        for _ in 0..6 {
            patience.learn(5_000_000);
        }
        assert!(!patience.lasts(1_000));
    }

    #[test]
    fn one_long_pause_among_many_short_ones_changes_little() {
        let mut patience = Patience::new();
        for turn in 0..200 {
            patience.learn(if turn % 20 == 0 { 1_000_000 } else { 10_000 });
        }
        assert!(patience.lasts(40_000));
    }
}
