// SPDX-License-Identifier: Apache-2.0
//! The bytes in front of a UDP payload: Ethernet, a VLAN tag, IPv4 or IPv6, UDP.
//!
//! ```text
//!  0        24 or 44                64      72
//!  … Ethernet | IPv4 or IPv6 header | UDP    | payload       a template per path, copied as a whole, then its lengths set
//! ```
//!
//! Sums are of 16-bit words as they lie in memory, whatever the machine's byte order (RFC 1071 §2): a checksum is stored
//! as it is summed. It must never send an IPv6 datagram without a checksum (RFC 8200 §8.1).

use dataplane_abi::flow::{FlowKey, as_v4};
use dataplane_wire::eth::{ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use dataplane_wire::ip::PROTOCOL_UDP;
use dataplane_wire::udp;

use crate::nexthop::NextHop;

/// Bytes of a template: the longest head (18 + 40 + 8) rounded up.
pub const HEAD_BYTES: usize = 72;
const UDP_AT: usize = HEAD_BYTES - udp::HEADER_LEN;
const V4_BYTES: usize = 20;
const V6_BYTES: usize = 40;
const HOP_LIMIT: u8 = 64;
/// 802.1Q.
const TPID: u16 = 0x8100;

/// The head of a path.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    bytes: [u8; HEAD_BYTES],
    /// First byte of the Ethernet header.
    start: usize,
    is_v6: bool,
    /// Sum of the IPv4 header without length and checksum.
    ip_sum: u64,
    /// Sum of the pseudo header and the ports, without the two lengths.
    udp_sum: u64,
}

impl Head {
    /// The head of a flow, still without its link; none where the two addresses are no pair that a packet can have.
    #[must_use]
    pub fn new(flow: &FlowKey, tos: u8) -> Option<Self> {
        let is_known = flow.local != [0; 16] && flow.remote != [0; 16] && flow.remote_port != 0 && flow.local_port != 0;
        let is_v6 = match (as_v4(flow.local), as_v4(flow.remote)) {
            (Some(_), Some(_)) => false,
            (None, None) => true,
            _ => return None,
        };
        let mut head = Self { bytes: [0; HEAD_BYTES], start: 0, is_v6, ip_sum: 0, udp_sum: 0 };
        let ([a, b], [c, d]) = (flow.local_port.to_be_bytes(), flow.remote_port.to_be_bytes());
        let ports = [a, b, c, d];
        head.put(UDP_AT, &ports)?;
        if is_v6 {
            let at = UDP_AT - V6_BYTES;
            head.put(at, &((6_u32 << 28) | (u32::from(tos) << 20)).to_be_bytes())?;
            head.put(at + 6, &[PROTOCOL_UDP, HOP_LIMIT])?;
            head.put(at + 8, &flow.local)?;
            head.put(at + 24, &flow.remote)?;
            head.udp_sum = sum(&flow.local) + sum(&flow.remote);
        } else {
            let (local, remote) = (as_v4(flow.local)?, as_v4(flow.remote)?);
            let at = UDP_AT - V4_BYTES;
            // DF, and no identification: such a datagram is never a fragment (RFC 6864 §4.1).
            head.put(at, &[0x45, tos, 0, 0, 0, 0, 0x40, 0, HOP_LIMIT, PROTOCOL_UDP])?;
            head.put(at + 12, &local)?;
            head.put(at + 16, &remote)?;
            head.ip_sum = sum(head.bytes.get(at..UDP_AT)?);
            head.udp_sum = sum(&local) + sum(&remote);
        }
        head.udp_sum += sum(&ports) + sum(&u16::from(PROTOCOL_UDP).to_be_bytes());
        is_known.then_some(head)
    }

    fn put(&mut self, at: usize, from: &[u8]) -> Option<()> {
        self.bytes.get_mut(at..at + from.len())?.copy_from_slice(from);
        Some(())
    }

    /// Bytes of IP and UDP header.
    #[must_use]
    pub const fn ip_bytes(&self) -> usize {
        udp::HEADER_LEN + if self.is_v6 { V6_BYTES } else { V4_BYTES }
    }

    /// Sets the Ethernet header.
    pub fn set_link(&mut self, own: [u8; 6], hop: &NextHop) {
        let ethertype = if self.is_v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
        let at = HEAD_BYTES - self.ip_bytes() - 2;
        // Every field lies in the template: the longest head is shorter.
        let _ = self.put(at, &ethertype.to_be_bytes());
        let at = if let Some(vlan) = hop.vlan {
            let ([a, b], [c, d]) = (TPID.to_be_bytes(), vlan.to_be_bytes());
            let _ = self.put(at - 4, &[a, b, c, d]);
            at - 4 - 12
        } else {
            at - 12
        };
        let _ = self.put(at, &hop.mac);
        let _ = self.put(at + 6, &own);
        self.start = at;
    }

    /// Writes the head of a payload into the bytes in front of it; says how many of them belong to the frame.
    #[inline]
    pub fn write(&self, room: &mut [u8; HEAD_BYTES], payload: &[u8], has_checksum: bool) -> usize {
        let mut bytes = self.bytes;
        let udp_len = u16::try_from(udp::HEADER_LEN + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
        let udp_len_sum = u64::from(u16::from_ne_bytes(udp_len));
        if self.is_v6 {
            set(&mut bytes, UDP_AT - V6_BYTES + 4, udp_len);
        } else {
            let ip_len = u16::try_from(V4_BYTES + udp::HEADER_LEN + payload.len()).unwrap_or(u16::MAX).to_be_bytes();
            set(&mut bytes, UDP_AT - V4_BYTES + 2, ip_len);
            let checksum = !fold(self.ip_sum + u64::from(u16::from_ne_bytes(ip_len)));
            set(&mut bytes, UDP_AT - V4_BYTES + 10, checksum.to_ne_bytes());
        }
        set(&mut bytes, UDP_AT + 4, udp_len);
        if has_checksum || self.is_v6 {
            // Zero means "no checksum"; the other form of zero is sent instead (RFC 768).
            let checksum = match !fold(self.udp_sum + 2 * udp_len_sum + sum(payload)) {
                0 => u16::MAX,
                checksum => checksum,
            };
            set(&mut bytes, UDP_AT + 6, checksum.to_ne_bytes());
        }
        *room = bytes;
        HEAD_BYTES - self.start
    }
}

/// Two bytes at an offset that lies inside, which the compiler sees.
#[inline]
fn set(bytes: &mut [u8; HEAD_BYTES], at: usize, [first, second]: [u8; 2]) {
    if let Some(field) = bytes.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) {
        *field = [first, second];
    }
}

/// Sum of 16-bit words in memory order, not folded; a last odd byte is the first of its word. The bytes begin at an even
/// offset of the datagram.
#[inline]
fn sum(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() >= 64 {
        return wide::sum(bytes);
    }
    sum_of_words(bytes)
}

/// [`sum`] in the widest registers that the processor has. No sum of theirs overflows: a datagram has fewer than 2^14 words of
/// 32 bits. A payload was written just before, so that it lies in the cache.
#[cfg(target_arch = "x86_64")]
#[expect(unsafe_code, reason = "calls of functions that the processor may lack, and their loads")]
mod wide {
    use core::arch::x86_64::{
        _mm256_add_epi64, _mm256_and_si256, _mm256_loadu_si256, _mm256_set1_epi64x, _mm256_setzero_si256,
        _mm256_srli_epi64, _mm256_storeu_si256, _mm512_add_epi64, _mm512_and_si512, _mm512_loadu_si512,
        _mm512_reduce_add_epi64, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_srli_epi64,
    };

    use super::sum_of_words;

    pub(super) fn sum(bytes: &[u8]) -> u64 {
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: because the processor was just seen to have the feature.
            // JUSTIFICATION: `cargo xtask bench forward`, heads, 1200 bytes.
            return unsafe { sum_avx512(bytes) };
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: because the processor was just seen to have the feature.
            return unsafe { sum_avx2(bytes) };
        }
        sum_of_words(bytes)
    }

    #[target_feature(enable = "avx512f")]
    fn sum_avx512(bytes: &[u8]) -> u64 {
        let (blocks, rest) = bytes.as_chunks::<64>();
        let half = _mm512_set1_epi64(0xffff_ffff);
        let (mut low, mut high) = (_mm512_setzero_si512(), _mm512_setzero_si512());
        for block in blocks {
            // SAFETY: because the block has the 64 bytes that are read, at any alignment.
            let words = unsafe { _mm512_loadu_si512(block.as_ptr().cast()) };
            low = _mm512_add_epi64(low, _mm512_and_si512(words, half));
            high = _mm512_add_epi64(high, _mm512_srli_epi64::<32>(words));
        }
        let sum = _mm512_reduce_add_epi64(_mm512_add_epi64(low, high));
        sum.cast_unsigned().wrapping_add(sum_of_words(rest))
    }

    #[target_feature(enable = "avx2")]
    fn sum_avx2(bytes: &[u8]) -> u64 {
        let (blocks, rest) = bytes.as_chunks::<32>();
        let half = _mm256_set1_epi64x(0xffff_ffff);
        let (mut low, mut high) = (_mm256_setzero_si256(), _mm256_setzero_si256());
        for block in blocks {
            // SAFETY: because the block has the 32 bytes that are read, at any alignment.
            let words = unsafe { _mm256_loadu_si256(block.as_ptr().cast()) };
            low = _mm256_add_epi64(low, _mm256_and_si256(words, half));
            high = _mm256_add_epi64(high, _mm256_srli_epi64::<32>(words));
        }
        let (mut lanes, sums) = ([0_u64; 4], _mm256_add_epi64(low, high));
        // SAFETY: because the array has the 32 bytes that are written.
        unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), sums) };
        lanes.iter().fold(sum_of_words(rest), |sum, lane| sum.wrapping_add(*lane))
    }

    #[cfg(test)]
    pub(super) fn variants(bytes: &[u8]) -> Vec<(&'static str, u64)> {
        let mut sums = vec![("words", sum_of_words(bytes))];
        if is_x86_feature_detected!("avx512f") {
            // SAFETY: because the processor was just seen to have the feature.
            sums.push(("avx512", unsafe { sum_avx512(bytes) }));
        }
        if is_x86_feature_detected!("avx2") {
            // SAFETY: because the processor was just seen to have the feature.
            sums.push(("avx2", unsafe { sum_avx2(bytes) }));
        }
        sums
    }
}

/// [`sum`] word by word.
#[inline]
fn sum_of_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(0_u64, |sum, word| sum.wrapping_add(u64::from(u32::from_ne_bytes(*word))));
    let mut last = [0; 4];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    sum.wrapping_add(u64::from(u32::from_ne_bytes(last)))
}

/// Folds a sum to 16 bits, end around.
#[inline]
fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use dataplane_abi::flow::map_v4;
    use dataplane_wire::{eth, ip};
    use proptest::prelude::*;

    use super::*;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const PEER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn flow(is_v6: bool) -> FlowKey {
        let (local, remote) =
            if is_v6 { ([0x20; 16], [0x30; 16]) } else { (map_v4([10, 0, 0, 1]), map_v4([10, 0, 0, 2])) };
        FlowKey { local, remote, local_port: 7000, remote_port: 50_001, reserve: 0 }
    }

    fn frame(flow: &FlowKey, vlan: Option<u16>, tos: u8, payload: &[u8], has_checksum: bool) -> Vec<u8> {
        let mut head = Head::new(flow, tos).unwrap();
        head.set_link(OWN, &NextHop { mac: PEER, vlan, mtu: 1500 });
        let mut room = [0xee; HEAD_BYTES];
        let len = head.write(&mut room, payload, has_checksum);
        [&room[HEAD_BYTES - len..], payload].concat()
    }

    /// RFC 1071, word by word.
    fn slow_sum(bytes: &[u8]) -> u32 {
        let mut sum = 0;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum
    }

    fn pseudo(flow: &FlowKey, udp: &[u8]) -> Vec<u8> {
        let length = u32::try_from(udp.len()).unwrap().to_be_bytes();
        let addresses = match (as_v4(flow.local), as_v4(flow.remote)) {
            (Some(local), Some(remote)) => [local, remote].concat(),
            _ => [flow.local, flow.remote].concat(),
        };
        [&addresses[..], &length, &[0, 0, 0, 17], udp].concat()
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed_and_sums_to_all_ones(
            is_v6: bool, vlan in proptest::option::of(0_u16..4096), tos: u8,
            payload in proptest::collection::vec(any::<u8>(), 0..1500),
        ) {
            let flow = flow(is_v6);
            let frame = frame(&flow, vlan, tos, &payload, true);
            let ethernet = eth::parse(&frame).unwrap();
            prop_assert_eq!((ethernet.dst_mac, ethernet.src_mac), (PEER, OWN));
            prop_assert_eq!(ethernet.vlan_ids, [vlan, None]);
            let packet = if is_v6 { ip::parse_v6(ethernet.payload) } else { ip::parse_v4(ethernet.payload) }.unwrap();
            prop_assert_eq!((packet.ecn, packet.hop_limit), (tos & 3, 64));
            let datagram = udp::parse_frame(&frame).unwrap();
            prop_assert_eq!((datagram.src_ip, datagram.dst_ip), (flow.local, flow.remote));
            prop_assert_eq!((datagram.src_port, datagram.dst_port), (7000, 50_001));
            prop_assert_eq!(datagram.payload, &payload[..]);
            prop_assert_eq!(packet.header_len + packet.payload.len(), ethernet.payload.len());
            if !is_v6 {
                prop_assert_eq!(ethernet.payload[1], tos);
                prop_assert_eq!(slow_sum(&ethernet.payload[..20]), 0xffff);
            }
            prop_assert_eq!(slow_sum(&pseudo(&flow, packet.payload)), 0xffff);
        }

        #[test]
        fn the_sum_is_that_of_the_words(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let expected = u16::try_from(slow_sum(&bytes)).unwrap();
            let found = u16::from_be_bytes(fold(sum(&bytes)).to_ne_bytes());
            // Zero has two forms.
            prop_assert!(found == expected || [found, expected].iter().all(|sum| sum.is_multiple_of(0xffff)), "{} {}", found, expected);
            #[cfg(target_arch = "x86_64")]
            for (name, sum) in wide::variants(&bytes) {
                prop_assert_eq!(fold(sum), fold(sum_of_words(&bytes)), "{}", name);
            }
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones_and_none_only_over_ipv4() {
        let v4 = flow(false);
        // The payload that makes the sum all ones: its checksum would be zero.
        let rest = frame(&v4, None, 0, &[0, 0], true);
        let complement = [rest[40], rest[41]];
        let sent = frame(&v4, None, 0, &complement, true);
        assert_eq!(sent[40..42], [0xff, 0xff]);
        assert_eq!(frame(&v4, None, 0, b"x", false)[40..42], [0, 0]);
        assert_ne!(frame(&flow(true), None, 0, b"x", false)[60..62], [0, 0]);
    }

    #[test]
    fn a_flow_without_two_addresses_of_a_family_has_no_head() {
        let (v4, v6) = (flow(false), flow(true));
        for broken in [
            FlowKey { remote: v6.remote, ..v4 },
            FlowKey { local: [0; 16], ..v6 },
            FlowKey { remote: [0; 16], ..v6 },
            FlowKey { remote_port: 0, ..v4 },
            FlowKey { local_port: 0, ..v4 },
        ] {
            assert!(Head::new(&broken, 0).is_none(), "{broken:?}");
        }
    }

    #[test]
    fn the_largest_sum_is_folded_right() {
        assert_eq!(fold(u64::MAX), 0xffff);
        assert_eq!(fold(0x1_0000), 1);
        assert_eq!(fold(0xffff_0000_0000_ffff), 0xffff);
        assert_eq!(fold(0), 0);
    }
}
