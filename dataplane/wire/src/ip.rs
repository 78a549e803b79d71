// SPDX-License-Identifier: Apache-2.0
//! IPv4 (RFC 791) and IPv6 (RFC 8200) headers, normalised to 16-byte addresses.
//!
//! Must never reassemble: a fragment is flagged and left to the kernel. IPv6 extension headers other than the fragment
//! header are not ours.

use crate::udp::FrameError;
use crate::window::Window;

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

/// The header of an IP packet, with where its payload lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpHead {
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
    /// Bytes of header and payload; the window has as many.
    pub total_len: usize,
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
    with_payload(packet, &parse_v4_head(packet, 0)?)
}

/// Parses an IPv6 packet, looking through one fragment header.
///
/// # Errors
/// [`FrameError::Truncated`] or [`FrameError::BadIp`] when version or lengths do not agree with the bytes.
#[inline]
pub fn parse_v6(packet: &[u8]) -> Result<IpPacket<'_>, FrameError> {
    with_payload(packet, &parse_v6_head(packet, 0)?)
}

#[inline]
fn with_payload<'a>(packet: &'a [u8], head: &IpHead) -> Result<IpPacket<'a>, FrameError> {
    Ok(IpPacket {
        src_ip: head.src_ip,
        dst_ip: head.dst_ip,
        is_ipv4: head.is_ipv4,
        protocol: head.protocol,
        is_fragment: head.is_fragment,
        ecn: head.ecn,
        hop_limit: head.hop_limit,
        header_len: head.header_len,
        payload: packet.get(head.header_len..head.total_len).ok_or(FrameError::Truncated)?,
    })
}

/// Parses the IPv4 header at `at`.
///
/// # Errors
/// As [`parse_v4`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "the XDP program has no room for a call with a result of this size")]
pub fn parse_v4_head(window: impl Window, at: usize) -> Result<IpHead, FrameError> {
    let fixed: [u8; V4_HEADER_MIN] = window.array(at).ok_or(FrameError::Truncated)?;
    let [version_ihl, tos, len_hi, len_lo, _, _, frag_hi, frag_lo, ttl, protocol, _, _, s0, s1, s2, s3, d0, d1, d2, d3] =
        fixed;
    let header_len = usize::from(version_ihl & 0x0F).saturating_mul(4);
    let total_len = usize::from(u16::from_be_bytes([len_hi, len_lo]));
    if version_ihl >> 4 != 4 || header_len < V4_HEADER_MIN || total_len < header_len {
        return Err(FrameError::BadIp);
    }
    if !window.reaches(at.saturating_add(total_len)) {
        return Err(FrameError::Truncated);
    }
    Ok(IpHead {
        src_ip: map_v4([s0, s1, s2, s3]),
        dst_ip: map_v4([d0, d1, d2, d3]),
        is_ipv4: true,
        protocol,
        is_fragment: u16::from_be_bytes([frag_hi, frag_lo]) & V4_FRAGMENT_MASK != 0,
        ecn: tos & 3,
        hop_limit: ttl,
        header_len,
        total_len,
    })
}

/// Parses the IPv6 header at `at`.
///
/// # Errors
/// As [`parse_v6`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "the XDP program has no room for a call with a result of this size")]
pub fn parse_v6_head(window: impl Window, at: usize) -> Result<IpHead, FrameError> {
    let fixed: [u8; 8] = window.array(at).ok_or(FrameError::Truncated)?;
    let [version_class, class_flow, _, _, len_hi, len_lo, next, hop_limit] = fixed;
    let src_ip = window.array(at.saturating_add(8)).ok_or(FrameError::Truncated)?;
    let dst_ip = window.array(at.saturating_add(24)).ok_or(FrameError::Truncated)?;
    let payload_len = usize::from(u16::from_be_bytes([len_hi, len_lo]));
    let total_len = payload_len.saturating_add(V6_HEADER);
    if !window.reaches(at.saturating_add(total_len)) {
        return Err(FrameError::Truncated);
    }
    if version_class >> 4 != 6 {
        return Err(FrameError::BadIp);
    }
    let mut head = IpHead {
        src_ip,
        dst_ip,
        is_ipv4: false,
        protocol: next,
        is_fragment: false,
        ecn: (class_flow >> 4) & 3,
        hop_limit,
        header_len: V6_HEADER,
        total_len,
    };
    if next == PROTOCOL_IPV6_FRAGMENT {
        if payload_len < V6_FRAGMENT_HEADER {
            return Err(FrameError::Truncated);
        }
        let fragment: [u8; 4] = window.array(at.saturating_add(V6_HEADER)).ok_or(FrameError::Truncated)?;
        let [protocol, _, offset_hi, offset_lo] = fragment;
        head.protocol = protocol;
        head.is_fragment = u16::from_be_bytes([offset_hi, offset_lo]) & V6_FRAGMENT_MASK != 0;
        head.header_len = V6_HEADER + V6_FRAGMENT_HEADER;
    }
    Ok(head)
}
