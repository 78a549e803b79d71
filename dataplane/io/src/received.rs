// SPDX-License-Identifier: Apache-2.0
//! From what the kernel says of a datagram to what a port says of it; the same for both socket ports.

use dataplane_abi::flow::FlowKey;

use crate::ancillary;
use crate::clock::ArrivalClock;
use crate::port::{Ecn, RxMeta};

/// What a receiving socket remembers between datagrams.
#[derive(Debug)]
pub(crate) struct Receiver {
    local_port: u16,
    clock: ArrivalClock,
    /// The socket's loss counter as it was seen last, modulo 2^32.
    overflow_seen: u32,
    overflow: u64,
}

impl Receiver {
    pub(crate) fn new(local_port: u16) -> Self {
        Self { local_port, clock: ArrivalClock::new(), overflow_seen: 0, overflow: 0 }
    }

    /// A batch that has packets begins.
    pub(crate) fn begin_batch(&mut self) {
        self.clock.sample();
    }

    /// What is known of a datagram, or nothing where the kernel did not say who sent it.
    pub(crate) fn meta(&mut self, name: &[u8], control: &[u8]) -> Option<RxMeta> {
        let (remote, remote_port) = ancillary::parse_name(name)?;
        let received = ancillary::parse(control);
        if let Some(overflow) = received.overflow {
            self.overflow += u64::from(overflow.wrapping_sub(self.overflow_seen));
            self.overflow_seen = overflow;
        }
        let arrival_ns = self.clock.arrival(received.wall_ns);
        let local = received.local?;
        let flow = FlowKey { local, remote, local_port: self.local_port, remote_port, reserve: 0 };
        Some(RxMeta { flow, arrival_ns, ecn: Ecn(received.tos & 3) })
    }

    /// Datagrams that the socket has lost since it was made.
    pub(crate) const fn overflow(&self) -> u64 {
        self.overflow
    }
}
