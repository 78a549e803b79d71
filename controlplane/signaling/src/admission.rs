// SPDX-License-Identifier: Apache-2.0
//! What one address may have open and how often it may join, before anybody knows who it is.
//!
//! The table holds addresses with an open or a recent connection only, and is bounded itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses that are remembered at most.
const MAX_ADDRESSES: usize = 16_384;
/// Joins at once, in seconds' worth of them.
const BURST_S: u32 = 4;

/// The bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// WebSockets of one address that have not joined.
    pub unjoined: usize,
    /// Joins of one address per second, on average.
    pub joins_per_s: u32,
}

#[derive(Debug)]
struct Visitor {
    unjoined: usize,
    tokens: f64,
    at: Instant,
}

/// Counts per address.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    limits: AddressLimits,
    visitors: Arc<Mutex<BTreeMap<IpAddr, Visitor>>>,
}

/// A connection that counts against its address until it has joined or gone.
#[derive(Debug)]
pub(crate) struct Waiting {
    admission: Admission,
    address: IpAddr,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let mut visitors = self.admission.visitors.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(visitor) = visitors.get_mut(&self.address) {
            visitor.unjoined = visitor.unjoined.saturating_sub(1);
        }
    }
}

impl Admission {
    pub(crate) fn new(limits: AddressLimits) -> Self {
        Self { limits, visitors: Arc::default() }
    }

    /// Lets a connection in, if its address has not too many.
    pub(crate) fn enter(&self, now: Instant, peer: IpAddr) -> Option<Waiting> {
        let address = prefix_of(peer);
        let mut visitors = self.visitors.lock().unwrap_or_else(PoisonError::into_inner);
        if visitors.len() >= MAX_ADDRESSES && !visitors.contains_key(&address) {
            visitors.retain(|_, visitor| visitor.unjoined > 0 || !self.is_forgotten(now, visitor));
            if visitors.len() >= MAX_ADDRESSES {
                return None;
            }
        }
        let full = || Visitor { unjoined: 0, tokens: self.burst(), at: now };
        let visitor = visitors.entry(address).or_insert_with(full);
        if visitor.unjoined >= self.limits.unjoined {
            return None;
        }
        visitor.unjoined += 1;
        Some(Waiting { admission: self.clone(), address })
    }

    /// Whether one more join of this address may be looked at.
    pub(crate) fn may_join(&self, now: Instant, peer: IpAddr) -> bool {
        let mut visitors = self.visitors.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(visitor) = visitors.get_mut(&prefix_of(peer)) else { return false };
        let passed = now.saturating_duration_since(visitor.at).as_secs_f64();
        visitor.tokens = (visitor.tokens + passed * f64::from(self.limits.joins_per_s)).min(self.burst());
        visitor.at = now;
        if visitor.tokens < 1.0 {
            return false;
        }
        visitor.tokens -= 1.0;
        true
    }

    fn burst(&self) -> f64 {
        f64::from(self.limits.joins_per_s.saturating_mul(BURST_S)).max(1.0)
    }

    /// A bucket that has filled up again says no more than no bucket.
    fn is_forgotten(&self, now: Instant, visitor: &Visitor) -> bool {
        now.saturating_duration_since(visitor.at) > Duration::from_secs(BURST_S.into())
    }
}

/// What one holder of addresses cannot multiply: an IPv4 address, an IPv6 /64.
#[must_use]
pub fn prefix_of(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn an_address_has_so_many_unjoined_connections_and_gets_them_back() {
        let admission = Admission::new(AddressLimits { unjoined: 2, joins_per_s: 1 });
        let now = Instant::now();
        let first = admission.enter(now, ip(1)).expect("one");
        let _second = admission.enter(now, ip(1)).expect("two");
        assert!(admission.enter(now, ip(1)).is_none(), "three");
        assert!(admission.enter(now, ip(2)).is_some(), "another address");
        drop(first);
        assert!(admission.enter(now, ip(1)).is_some());
    }

    #[test]
    fn joins_are_counted_over_time() {
        let admission = Admission::new(AddressLimits { unjoined: 1, joins_per_s: 2 });
        let now = Instant::now();
        let _held = admission.enter(now, ip(1)).expect("enters");
        assert_eq!((0..100).filter(|_| admission.may_join(now, ip(1))).count(), 8);
        assert_eq!((0..100).filter(|_| admission.may_join(now + Duration::from_secs(1), ip(1))).count(), 2);
        assert!(!admission.may_join(now, ip(9)), "who has no connection");
    }

    #[test]
    fn the_table_forgets_who_has_gone_and_never_grows_beyond_its_bound() {
        let admission = Admission::new(AddressLimits { unjoined: 1, joins_per_s: 1 });
        let now = Instant::now();
        let address = |n: u32| IpAddr::V4((0x0A00_0000 + n).into());
        let held: Vec<_> = (0..20_000).filter_map(|n| admission.enter(now, address(n))).collect();
        assert_eq!(held.len(), MAX_ADDRESSES);
        drop(held);
        assert!(admission.enter(now, address(99_999)).is_none(), "still remembered");
        assert!(admission.enter(now + Duration::from_secs(60), address(99_999)).is_some());
        assert_eq!(admission.visitors.lock().expect("not poisoned").len(), 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_together() {
        let ip = |text: &str| prefix_of(text.parse().expect("valid"));
        assert_eq!(ip("2001:db8:0:1::1"), ip("2001:db8:0:1:ffff::2"));
        assert_ne!(ip("2001:db8:0:1::1"), ip("2001:db8:0:2::1"));
        assert_eq!(ip("::ffff:192.0.2.1"), ip("192.0.2.1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
    }
}
