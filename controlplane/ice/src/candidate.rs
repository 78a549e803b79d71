// SPDX-License-Identifier: Apache-2.0
//! Host candidates of a server (RFC 8445 §5.1): one UDP port, component 1 (rtcp-mux). An address that nobody can reach
//! must never be signalled.

use std::fmt;
use std::net::IpAddr;

/// Most candidates that one description carries.
pub const MAX_CANDIDATES: usize = 16;

/// Type preference of host candidates (RFC 8445 §5.1.2.2).
const HOST_TYPE_PREFERENCE: u32 = 126;
/// RTP and RTCP share component 1.
const COMPONENT: u32 = 1;

/// One host candidate over UDP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// Address the peer sends to.
    pub ip: IpAddr,
    /// UDP port the peer sends to.
    pub port: u16,
    /// RFC 8445 §5.1.2.1.
    pub priority: u32,
    /// Equal only for candidates of one base address (RFC 8445 §5.1.1.3); every candidate here has its own.
    pub foundation: u32,
}

impl fmt::Display for Candidate {
    /// The value of `a=candidate:` (RFC 8839 §5.1).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {COMPONENT} udp {} {} {} typ host", self.foundation, self.priority, self.ip, self.port)
    }
}

/// A static 1:1 NAT mapping: the port stays, the address is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExternalAddress {
    /// The local address that is mapped; `None` maps every non-loopback address of the external one's family.
    pub internal: Option<IpAddr>,
    /// What the peers see.
    pub external: IpAddr,
}

/// From local addresses to the candidates that are signalled.
#[derive(Debug, Clone)]
pub struct HostCandidates {
    addresses: Vec<IpAddr>,
    port: u16,
    external: Vec<ExternalAddress>,
    with_loopback: bool,
}

impl HostCandidates {
    /// Starts from configured or enumerated addresses, most preferred first, and the UDP port bound on all of them.
    #[must_use]
    pub fn new(addresses: impl IntoIterator<Item = IpAddr>, port: u16) -> Self {
        Self { addresses: addresses.into_iter().collect(), port, external: Vec::new(), with_loopback: false }
    }

    /// Adds a NAT 1:1 mapping; an exact `internal` wins over `None`.
    #[must_use]
    pub fn external(mut self, mapping: ExternalAddress) -> Self {
        self.external.push(mapping);
        self
    }

    /// Signals loopback addresses too; otherwise only when nothing else is left.
    #[must_use]
    pub const fn with_loopback(mut self, with_loopback: bool) -> Self {
        self.with_loopback = with_loopback;
        self
    }

    /// The candidates, highest priority first, at most [`MAX_CANDIDATES`].
    ///
    /// IPv6 and IPv4 alternate, IPv6 first (RFC 8421 §4), so that the limit never removes a whole family.
    #[must_use]
    pub fn build(&self) -> Vec<Candidate> {
        let usable: Vec<IpAddr> = self.addresses.iter().map(IpAddr::to_canonical).filter(is_signallable).collect();
        let only_loopback = usable.iter().all(IpAddr::is_loopback);
        let mut v6 = Vec::new();
        let mut v4 = Vec::new();
        for ip in usable {
            if ip.is_loopback() && !only_loopback && !self.with_loopback {
                continue;
            }
            let seen = self.map(ip);
            let family = if seen.is_ipv6() { &mut v6 } else { &mut v4 };
            if is_signallable(&seen) && !family.contains(&seen) {
                family.push(seen);
            }
        }
        interleave(&v6, &v4).zip(0..).take(MAX_CANDIDATES).map(|(ip, index)| self.candidate(ip, index)).collect()
    }

    fn candidate(&self, ip: IpAddr, index: u16) -> Candidate {
        let priority = priority(u16::MAX - index);
        Candidate { ip, port: self.port, priority, foundation: u32::from(index) + 1 }
    }

    fn map(&self, ip: IpAddr) -> IpAddr {
        let exact = self.external.iter().find(|m| m.internal.is_some_and(|internal| internal.to_canonical() == ip));
        let any = || {
            let family = |m: &&ExternalAddress| m.internal.is_none() && m.external.is_ipv6() == ip.is_ipv6();
            self.external.iter().find(family).filter(|_| !ip.is_loopback())
        };
        exact.or_else(any).map_or(ip, |m| m.external.to_canonical())
    }
}

/// RFC 8445 §5.1.2.1: type preference, local preference, 256 − component.
const fn priority(local_preference: u16) -> u32 {
    (HOST_TYPE_PREFERENCE << 24) | ((local_preference as u32) << 8) | (256 - COMPONENT)
}

/// Unspecified, multicast and broadcast addresses name no host; an IPv6 link-local one is useless without its zone.
fn is_signallable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast() || v6.is_unicast_link_local()),
    }
}

fn interleave<'a>(first: &'a [IpAddr], second: &'a [IpAddr]) -> impl Iterator<Item = IpAddr> + 'a {
    (0..first.len().max(second.len())).flat_map(|i| first.get(i).into_iter().chain(second.get(i))).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::{IpAddr, Ipv4Addr};

    use super::{ExternalAddress, HostCandidates, MAX_CANDIDATES, priority};

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    fn built(addresses: &[&str]) -> Vec<String> {
        let made = HostCandidates::new(addresses.iter().map(|a| ip(a)), 40000).build();
        made.iter().map(|c| c.ip.to_string()).collect()
    }

    // RFC 8445 §5.1.2.1
    #[test]
    fn priorities_follow_the_formula_and_fall() {
        assert_eq!(priority(u16::MAX), 2_130_706_431, "the value browsers use for their first host candidate");
        let made = HostCandidates::new(["10.0.0.1", "2001:db8::1", "10.0.0.2"].map(ip), 40000).build();
        let order: Vec<_> = made.iter().map(|c| (c.ip.to_string(), c.priority)).collect();
        assert_eq!(order[0], ("2001:db8::1".into(), 2_130_706_431));
        assert_eq!(order[1], ("10.0.0.1".into(), 2_130_706_431 - 256));
        assert_eq!(order[2], ("10.0.0.2".into(), 2_130_706_431 - 512));
        assert_eq!(made[1].to_string(), "2 1 udp 2130706175 10.0.0.1 40000 typ host");
        let foundations: BTreeSet<_> = made.iter().map(|c| c.foundation).collect();
        assert_eq!(foundations.len(), 3);
    }

    #[test]
    fn unreachable_and_repeated_addresses_are_left_out() {
        let noise = ["0.0.0.0", "::", "fe80::1", "ff02::1", "224.0.0.1", "255.255.255.255", "127.0.0.1", "::1"];
        let good = ["192.0.2.1", "192.0.2.1", "::ffff:192.0.2.1"];
        assert_eq!(built(&[&noise[..], &good[..]].concat()), ["192.0.2.1"]);
        assert!(built(&noise[..6]).is_empty());
    }

    #[test]
    fn loopback_is_signalled_when_alone_or_asked_for() {
        assert_eq!(built(&["127.0.0.1"]), ["127.0.0.1"]);
        assert_eq!(built(&["127.0.0.1", "fe80::1", "::1"]), ["::1", "127.0.0.1"]);
        let both = HostCandidates::new(["127.0.0.1", "192.0.2.1"].map(ip), 1).with_loopback(true).build();
        assert_eq!(both.len(), 2);
    }

    #[test]
    fn nat_replaces_the_host_address() {
        let any = |external: &str| ExternalAddress { internal: None, external: ip(external) };
        let exact = |i: &str, e: &str| ExternalAddress { internal: Some(ip(i)), external: ip(e) };
        let base = HostCandidates::new(["10.0.0.1", "10.0.0.2", "2001:db8::1", "127.0.0.1"].map(ip), 40000);
        let seen = |h: &HostCandidates| h.build().iter().map(|c| c.ip.to_string()).collect::<Vec<_>>();
        assert_eq!(seen(&base.clone().external(any("203.0.113.9"))), ["2001:db8::1", "203.0.113.9"]);
        let mapped = base.clone().external(any("203.0.113.9")).external(exact("10.0.0.2", "203.0.113.10"));
        assert_eq!(seen(&mapped), ["2001:db8::1", "203.0.113.9", "203.0.113.10"]);
        let looped = base.with_loopback(true).external(any("203.0.113.9"));
        assert_eq!(seen(&looped), ["2001:db8::1", "203.0.113.9", "127.0.0.1"]);
    }

    #[test]
    fn the_limit_keeps_both_families() {
        let v4 = (0..40).map(|i| IpAddr::V4(Ipv4Addr::new(192, 0, 2, i + 1)));
        let made = HostCandidates::new(v4.chain([ip("2001:db8::1")]), 40000).build();
        assert_eq!(made.len(), MAX_CANDIDATES);
        assert!(made[0].ip.is_ipv6() && made[1..].iter().all(|c| c.ip.is_ipv4()));
    }
}
