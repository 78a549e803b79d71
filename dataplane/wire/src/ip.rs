// SPDX-License-Identifier: Apache-2.0
//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, normalised to 16-byte addresses.
//!
//! Must never reassemble: a fragment is flagged and left to the kernel. IPv6 extension headers other than the fragment
//! header are not ours.

use crate::bytes::{array, be16, slice, u8_at};
use crate::udp::FrameError;

/// Protocol number of UDP.
pub const PROTOCOL_UDP: u8 = 17;
/// Next-header number of the IPv6 fragment header.
pub const PROTOCOL_IPV6_FRAGMENT: u8 = 44;

const V4_HEADER_MIN: usize = 20;
const V6_HEADER: usize = 40;
const V6_FRAGMENT_HEADER: usize = 8;
/// More-fragments flag and fragment offset.
const V4_FRAGMENT_MASK: u16 = 0x3FFF;
/// More-fragments flag and offset of the IPv6 fragment header; the atomic fragment (RFC 6946) has neither.
const V6_FRAGMENT_MASK: u16 = 0xFFF9;

/// One IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpPacket<'a> {
    /// Source address; IPv4 as `::ffff:a.b.c.d`.
    pub src_ip: [u8; 16],
    /// Destination address; IPv4 as `::ffff:a.b.c.d`.
    pub dst_ip: [u8; 16],
    /// Whether the packet is IPv4.
    pub is_ipv4: bool,
    /// Protocol of the payload; for an IPv6 fragment the one named in the fragment header.
    pub protocol: u8,
    /// Whether the payload is a part of a larger packet.
    pub is_fragment: bool,
    /// The two ECN bits (RFC 3168).
    pub ecn: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// Bytes in front of the payload.
    pub header_len: usize,
    /// The payload, cut at the length the header gives.
    pub payload: &'a [u8],
}

/// `::ffff:a.b.c.d` of an IPv4 address.
#[inline]
#[must_use]
pub const fn map_v4(v4: [u8; 4]) -> [u8; 16] {
    let [a, b, c, d] = v4;
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d]
}

/// The IPv4 address of a v4-mapped address.
#[inline]
#[must_use]
pub const fn unmap_v4(ip: &[u8; 16]) -> Option<[u8; 4]> {
    match *ip {
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, a, b, c, d] => Some([a, b, c, d]),
        _ => None,
    }
}

/// Parses an IPv4 packet; options are skipped. The header checksum is left to the NIC.
///
/// # Errors
/// [`FrameError::Truncated`] or [`FrameError::BadIp`] when version or lengths do not agree with the bytes.
#[inline]
pub fn parse_v4(packet: &[u8]) -> Result<IpPacket<'_>, FrameError> {
    let fixed: [u8; V4_HEADER_MIN] = array(packet, 0).ok_or(FrameError::Truncated)?;
    let [version_ihl, tos, len_hi, len_lo, _, _, frag_hi, frag_lo, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        fixed;
    let header_len = usize::from(version_ihl & 0x0F).saturating_mul(4);
    let total_len = usize::from(u16::from_be_bytes([len_hi, len_lo]));
    if version_ihl >> 4 != 4 || header_len < V4_HEADER_MIN || total_len < header_len {
        return Err(FrameError::BadIp);
    }
    Ok(IpPacket {
        src_ip: map_v4([s0, s1, s2, s3]),
        dst_ip: map_v4([d0, d1, d2, d3]),
        is_ipv4: true,
        protocol,
        is_fragment: u16::from_be_bytes([frag_hi, frag_lo]) & V4_FRAGMENT_MASK != 0,
        ecn: tos & 3,
        hop_limit: ttl,
        header_len,
        payload: packet.get(header_len..total_len).ok_or(FrameError::Truncated)?,
    })
}

/// Parses an IPv6 packet, looking through one fragment header.
///
/// # Errors
/// [`FrameError::Truncated`] or [`FrameError::BadIp`] when version or lengths do not agree with the bytes.
#[inline]
pub fn parse_v6(packet: &[u8]) -> Result<IpPacket<'_>, FrameError> {
    let first = be16(packet, 0).ok_or(FrameError::Truncated)?;
    let payload_len = usize::from(be16(packet, 4).ok_or(FrameError::Truncated)?);
    let mut protocol = u8_at(packet, 6).ok_or(FrameError::Truncated)?;
    let hop_limit = u8_at(packet, 7).ok_or(FrameError::Truncated)?;
    let src_ip = array(packet, 8).ok_or(FrameError::Truncated)?;
    let dst_ip = array(packet, 24).ok_or(FrameError::Truncated)?;
    let mut payload = slice(packet, V6_HEADER, payload_len).ok_or(FrameError::Truncated)?;
    if first >> 12 != 6 {
        return Err(FrameError::BadIp);
    }
    let [_, traffic_class] = (first >> 4).to_be_bytes();
    let mut header_len = V6_HEADER;
    let mut is_fragment = false;
    if protocol == PROTOCOL_IPV6_FRAGMENT {
        protocol = u8_at(payload, 0).ok_or(FrameError::Truncated)?;
        is_fragment = be16(payload, 2).ok_or(FrameError::Truncated)? & V6_FRAGMENT_MASK != 0;
        payload = payload.get(V6_FRAGMENT_HEADER..).ok_or(FrameError::Truncated)?;
        header_len = V6_HEADER + V6_FRAGMENT_HEADER;
    }
    Ok(IpPacket {
        src_ip,
        dst_ip,
        is_ipv4: false,
        protocol,
        is_fragment,
        ecn: traffic_class & 3,
        hop_limit,
        header_len,
        payload,
    })
}
