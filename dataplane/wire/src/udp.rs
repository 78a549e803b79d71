// SPDX-License-Identifier: Apache-2.0
//! UDP (RFC 768) and the way from an Ethernet frame to a UDP payload.
//!
//! Must never accept a length that the layer below does not cover, and never hand out a fragment's payload.

use crate::bytes::be16;
use crate::eth::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::ip::{self, IpPacket, PROTOCOL_UDP};

/// Bytes of the UDP header.
pub const HEADER_LEN: usize = 8;

/// Why a frame is not one of our datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameError {
    /// A header or a length reaches beyond the bytes.
    Truncated,
    /// Three or more VLAN tags.
    TooManyTags,
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// IP version or lengths contradict each other.
    BadIp,
    /// A fragment; the kernel reassembles those.
    Fragment,
    /// Not UDP, or behind an IPv6 extension header we do not look through.
    NotUdp,
    /// The UDP length is below eight.
    BadUdp,
}

/// One UDP datagram with its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFrame<'a> {
    /// Source address; IPv4 as `::ffff:a.b.c.d`.
    pub src_ip: [u8; 16],
    /// Destination address; IPv4 as `::ffff:a.b.c.d`.
    pub dst_ip: [u8; 16],
    /// Source port.
    pub src_port: u16,
    /// Destination port.
    pub dst_port: u16,
    /// Whether the IP header is IPv4.
    pub is_ipv4: bool,
    /// The two ECN bits (RFC 3168).
    pub ecn: u8,
    /// Offset of the payload in the bytes given to the parser.
    pub payload_offset: usize,
    /// The datagram, cut at the UDP length.
    pub payload: &'a [u8],
}

/// Parses an Ethernet frame down to its UDP payload. The UDP checksum is left to the NIC.
///
/// # Errors
/// A [`FrameError`] naming the first layer that is not ours.
#[inline]
pub fn parse_frame(frame: &[u8]) -> Result<UdpFrame<'_>, FrameError> {
    let ethernet = eth::parse(frame)?;
    let packet = match ethernet.ethertype {
        ETHERTYPE_IPV4 => ip::parse_v4(ethernet.payload)?,
        ETHERTYPE_IPV6 => ip::parse_v6(ethernet.payload)?,
        _ => return Err(FrameError::NotIp),
    };
    let mut datagram = parse(&packet)?;
    datagram.payload_offset = datagram.payload_offset.saturating_add(ethernet.payload_offset);
    Ok(datagram)
}

/// Parses the UDP header of an IP packet.
///
/// # Errors
/// [`FrameError::Fragment`], [`FrameError::NotUdp`], [`FrameError::Truncated`] or [`FrameError::BadUdp`].
#[inline]
pub fn parse<'a>(packet: &IpPacket<'a>) -> Result<UdpFrame<'a>, FrameError> {
    if packet.is_fragment {
        return Err(FrameError::Fragment);
    }
    if packet.protocol != PROTOCOL_UDP {
        return Err(FrameError::NotUdp);
    }
    let src_port = be16(packet.payload, 0).ok_or(FrameError::Truncated)?;
    let dst_port = be16(packet.payload, 2).ok_or(FrameError::Truncated)?;
    let udp_len = usize::from(be16(packet.payload, 4).ok_or(FrameError::Truncated)?);
    if udp_len < HEADER_LEN {
        return Err(FrameError::BadUdp);
    }
    Ok(UdpFrame {
        src_ip: packet.src_ip,
        dst_ip: packet.dst_ip,
        src_port,
        dst_port,
        is_ipv4: packet.is_ipv4,
        ecn: packet.ecn,
        payload_offset: packet.header_len.saturating_add(HEADER_LEN),
        payload: packet.payload.get(HEADER_LEN..udp_len).ok_or(FrameError::Truncated)?,
    })
}
