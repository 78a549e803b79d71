// SPDX-License-Identifier: Apache-2.0
//! Which addresses are signalled as candidates: the configured ones, or those of the interfaces as they are at the
//! moment.
//!
//! Interfaces come and go (VPN, DHCP), so they are read again every few seconds, from `/proc/net`, which belongs to
//! the process's own network namespace and needs no privilege.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use controlplane_ice::{Candidate, ExternalAddress, HostCandidates};

use crate::config::Config;

/// How long a reading of the interfaces is used.
const FRESH: Duration = Duration::from_secs(5);
/// `IFA_F_TENTATIVE | IFA_F_DADFAILED | IFA_F_DEPRECATED` of `linux/if_addr.h`: addresses that must not be used.
const UNUSABLE: u8 = 0x40 | 0x08 | 0x20;

/// Where candidates come from.
#[derive(Debug)]
pub(crate) struct CandidateSource {
    configured: Vec<IpAddr>,
    external: Vec<ExternalAddress>,
    port: u16,
    read: Option<(Instant, Vec<Candidate>)>,
}

impl CandidateSource {
    /// By configuration.
    pub(crate) fn new(config: &Config) -> Self {
        let external = config.external_address.iter();
        let external = external.map(|held| ExternalAddress { internal: held.internal, external: held.external });
        Self {
            configured: config.media_address.clone(),
            external: external.collect(),
            port: config.media_port,
            read: None,
        }
    }

    /// The candidates as they are now.
    pub(crate) fn current(&mut self, now: Instant) -> &[Candidate] {
        let is_fresh = |at: Instant| !self.configured.is_empty() || now.saturating_duration_since(at) < FRESH;
        let read = self.read.take().filter(|(at, _)| is_fresh(*at)).unwrap_or_else(|| (now, self.build()));
        &self.read.insert(read).1
    }

    fn build(&self) -> Vec<Candidate> {
        let addresses = if self.configured.is_empty() { interface_addresses() } else { self.configured.clone() };
        let hosts = HostCandidates::new(addresses, self.port);
        self.external.iter().fold(hosts, |hosts, mapping| hosts.external(*mapping)).build()
    }
}

/// All addresses of this network namespace.
pub(crate) fn interface_addresses() -> Vec<IpAddr> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let v4 = parse_fib_trie(&read("/proc/net/fib_trie")).into_iter().map(IpAddr::V4);
    let v6 = parse_if_inet6(&read("/proc/net/if_inet6")).into_iter().map(IpAddr::V6);
    v4.chain(v6).collect()
}

/// Local IPv4 addresses: a leaf line `|-- 192.0.2.2` followed by `/32 host LOCAL`.
fn parse_fib_trie(text: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    let mut leaf = None;
    for line in text.lines().map(str::trim) {
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse::<Ipv4Addr>().ok();
        } else if line == "/32 host LOCAL"
            && let Some(address) = leaf
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    found
}

/// Usable IPv6 addresses: lines of address, index, prefix, scope, flags, name, all hexadecimal.
fn parse_if_inet6(text: &str) -> Vec<Ipv6Addr> {
    let parse = |line: &str| {
        let mut fields = line.split_whitespace();
        let bits = u128::from_str_radix(fields.next()?, 16).ok()?;
        let flags = u8::from_str_radix(fields.nth(3)?, 16).ok()?;
        (flags & UNUSABLE == 0).then(|| Ipv6Addr::from_bits(bits))
    };
    text.lines().filter_map(parse).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIB_TRIE: &str = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     \
        +-- 192.0.2.0/24 2 0 2\n           |-- 192.0.2.0\n              /24 link UNICAST\n           |-- 192.0.2.2\n\
        \x20             /32 host LOCAL\n        |-- 192.0.2.255\n           /32 link BROADCAST\nLocal:\n\
        \x20    |-- 127.0.0.0\n              /8 host LOCAL\n           |-- 127.0.0.1\n              /32 host LOCAL\n\
        \x20          |-- 192.0.2.2\n              /32 host LOCAL\n";

    #[test]
    fn local_addresses_are_told_from_networks_and_broadcasts() {
        assert_eq!(parse_fib_trie(FIB_TRIE), [Ipv4Addr::new(192, 0, 2, 2), Ipv4Addr::LOCALHOST]);
    }

    #[test]
    fn tentative_and_deprecated_addresses_are_not_signalled() {
        let text = "00000000000000000000000000000001 01 80 10 80       lo\n\
            20010db8000000000000000000000002 04 40 00 80     eth0\n\
            20010db8000000000000000000000003 04 40 00 40     eth0\n\
            20010db8000000000000000000000004 04 40 00 20     eth0\nnonsense\n";
        let expected: [Ipv6Addr; 2] = [Ipv6Addr::LOCALHOST, "2001:db8::2".parse().expect("valid")];
        assert_eq!(parse_if_inet6(text), expected);
    }

    #[test]
    fn this_host_has_a_loopback_address() {
        assert!(interface_addresses().contains(&IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }
}
