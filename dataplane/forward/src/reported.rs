// SPDX-License-Identifier: Apache-2.0
//! A publisher's clock, as its last sender report says (RFC 3550 §6.4.1): NTP time, RTP time and arrival, of one report or none.
//!
//! Other workers read them while one writes, and a process may die between two stores. The RTP time of one report with the NTP
//! time of another is a clock that is wrong by what lies between them, a second or five: a receiver whose source changes would
//! wait for so long, because every keyframe looked too old.

use core::sync::atomic::{AtomicU64, Ordering};

use dataplane_abi::durable::IngressDurable;
use dataplane_shm::publish;

/// A sender report that a stream's clock is known by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Reported {
    /// NTP time on our clock, never 0.
    pub(crate) ntp: u64,
    /// RTP time of the same instant.
    pub(crate) rtp_ts: u32,
    /// Monotonic ns.
    pub(crate) arrival_ns: u64,
}

impl Reported {
    /// Keeps it in place of the one before. There is none while it is written.
    pub(crate) fn store(self, durable: &IngressDurable) {
        publish::store_u64(&durable.sr_ntp, 0);
        publish::store_u64(&durable.sr_rtp, u64::from(self.rtp_ts));
        publish::store_u64(&durable.sr_arrival_ns, self.arrival_ns);
        publish::store_u64(&durable.sr_ntp, self.ntp);
    }

    /// The last one; `None` where there was none yet, or its writer is at it, or died while it was.
    pub(crate) fn load(durable: &IngressDurable) -> Option<Self> {
        // Acquire keeps the loads in this order: what lies between two equal NTP times belongs to them.
        let read = |cell: &AtomicU64| cell.load(Ordering::Acquire);
        let ntp = read(&durable.sr_ntp);
        let (rtp, arrival_ns) = (read(&durable.sr_rtp), read(&durable.sr_arrival_ns));
        let is_whole = ntp != 0 && read(&durable.sr_ntp) == ntp;
        is_whole.then(|| Self { ntp, rtp_ts: u32::try_from(rtp & u64::from(u32::MAX)).unwrap_or(0), arrival_ns })
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use dataplane_abi::ids::IngressId;
    use dataplane_abi::limits::Capacities;
    use dataplane_shm::Segment;

    use super::*;

    const OLD: Reported = Reported { ntp: 10, rtp_ts: 20, arrival_ns: 30 };
    const NEW: Reported = Reported { ntp: 11, rtp_ts: 21, arrival_ns: 31 };

    #[test]
    fn whoever_dies_between_two_stores_leaves_one_report_or_none() {
        let (_fds, segment) = Segment::create(&Capacities::SMALL).unwrap();
        let durable = segment.ingress(IngressId(0)).unwrap();
        assert_eq!(Reported::load(durable), None);
        let mut found = Vec::new();
        for stop in 1..=5 {
            publish::disarm();
            OLD.store(durable);
            publish::arm(stop);
            let is_dead = catch_unwind(|| NEW.store(durable)).is_err();
            publish::disarm();
            assert_eq!(is_dead, stop < 5);
            found.push(Reported::load(durable));
        }
        assert_eq!(found, [Some(OLD), None, None, None, Some(NEW)]);
    }
}
