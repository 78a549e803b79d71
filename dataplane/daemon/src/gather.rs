// SPDX-License-Identifier: Apache-2.0
//! Whether a worker lets packets gather before it takes them up.
//!
//! A turn costs some microseconds whatever it finds: sleep and wake-up, clock reads, the send call, and the interrupt by which that
//! wakes the receivers' side. Where packets come from hundreds of people, one by one and close together, a worker that takes up each
//! as it comes pays for a turn per packet. Then it naps for a time that no call notices, whatever comes meanwhile.

use rustix::thread::Timespec;

/// Packets come densely where one comes each 25 µs, over a window.
const DENSE_NS: u64 = 25_000;
const WINDOW_NS: u64 = 1_000_000;
/// The nap; a packet waits for half of it on average.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000 };

/// What one worker has received lately.
pub(crate) struct Gathering {
    since_ns: u64,
    packets: u64,
    is_dense: bool,
}

impl Gathering {
    /// One that knows nothing, at `now_ns`.
    pub(crate) const fn new(now_ns: u64) -> Self {
        Self { since_ns: now_ns, packets: 0, is_dense: false }
    }

    /// A turn that began at `now_ns` has received so many packets.
    pub(crate) fn count(&mut self, received: usize, now_ns: u64) {
        self.packets += received as u64;
        let past_ns = now_ns.saturating_sub(self.since_ns);
        if past_ns >= WINDOW_NS {
            self.is_dense = self.packets.saturating_mul(DENSE_NS) >= past_ns;
            (self.since_ns, self.packets) = (now_ns, 0);
        }
    }

    /// How long to nap where nothing is left to do.
    pub(crate) fn nap(&self) -> Option<Timespec> {
        self.is_dense.then_some(NAP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether it naps after `windows` in which so many packets came each.
    fn naps(gathering: &mut Gathering, start_ns: u64, windows: u64, packets: usize) -> bool {
        for window in 1..=windows {
            gathering.count(packets, start_ns + window * WINDOW_NS);
        }
        gathering.nap().is_some()
    }

    #[test]
    fn packets_gather_where_they_come_densely_and_only_while_they_do() {
        let mut gathering = Gathering::new(0);
        assert!(gathering.nap().is_none(), "nothing is known");
        assert!(!naps(&mut gathering, 0, 5, 39), "one each 25.6 us");
        assert!(naps(&mut gathering, 5 * WINDOW_NS, 1, 40));
        assert!(!naps(&mut gathering, 6 * WINDOW_NS, 1, 0), "after a quiet window each packet is taken up at once");
    }

    #[test]
    fn a_burst_after_a_quiet_time_is_no_density() {
        let mut gathering = Gathering::new(0);
        gathering.count(30, 20 * WINDOW_NS);
        assert!(gathering.nap().is_none());
    }
}
