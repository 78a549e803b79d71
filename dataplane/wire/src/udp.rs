// SPDX-License-Identifier: Apache-2.0
//! UDP (RFC 768) and the way from an Ethernet frame to a UDP payload.
//!
//! Must never accept a length that the layer below does not cover, and never hand out a fragment's payload.

use crate::bytes::slice;
use crate::eth::{self, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::ip::{self, PROTOCOL_UDP};
use crate::window::Window;

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

/// The headers of one UDP datagram whose length is not looked at yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpHead {
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
    /// Offset of the payload in the frame.
    pub payload_offset: usize,
    /// What the UDP header says about its own length.
    udp_len: usize,
    /// Bytes of UDP header and payload that the IP packet has room for.
    room: usize,
}

impl UdpHead {
    /// Bytes of the payload, which the frame has.
    ///
    /// # Errors
    /// [`FrameError::BadUdp`] for a length below the header's, [`FrameError::Truncated`] for one beyond the IP packet.
    #[inline]
    pub const fn payload_len(&self) -> Result<usize, FrameError> {
        if self.udp_len < HEADER_LEN {
            return Err(FrameError::BadUdp);
        }
        if self.udp_len > self.room {
            return Err(FrameError::Truncated);
        }
        Ok(self.udp_len.saturating_sub(HEADER_LEN))
    }
}

/// Parses an Ethernet frame down to its UDP payload. The UDP checksum is left to the NIC.
///
/// # Errors
/// A [`FrameError`] naming the first layer that is not ours.
#[inline]
pub fn parse_frame(frame: &[u8]) -> Result<UdpFrame<'_>, FrameError> {
    let head = parse_head(frame)?;
    let payload_len = head.payload_len()?;
    Ok(UdpFrame {
        src_ip: head.src_ip,
        dst_ip: head.dst_ip,
        src_port: head.src_port,
        dst_port: head.dst_port,
        is_ipv4: head.is_ipv4,
        ecn: head.ecn,
        payload_offset: head.payload_offset,
        payload: slice(frame, head.payload_offset, payload_len).ok_or(FrameError::Truncated)?,
    })
}

/// Parses an Ethernet frame down to its UDP header, whose own length is left to [`UdpHead::payload_len`].
///
/// # Errors
/// A [`FrameError`] naming the first layer that is not ours.
#[inline(always)]
#[expect(clippy::inline_always, reason = "the XDP program has no room for a call with a result of this size")]
pub fn parse_head(frame: impl Window) -> Result<UdpHead, FrameError> {
    let ethernet = eth::parse_head(frame)?;
    let ip_at = ethernet.payload_offset;
    let ip = match ethernet.ethertype {
        ETHERTYPE_IPV4 => ip::parse_v4_head(frame, ip_at)?,
        ETHERTYPE_IPV6 => ip::parse_v6_head(frame, ip_at)?,
        _ => return Err(FrameError::NotIp),
    };
    if ip.is_fragment {
        return Err(FrameError::Fragment);
    }
    if ip.protocol != PROTOCOL_UDP {
        return Err(FrameError::NotUdp);
    }
    let room = ip.total_len.saturating_sub(ip.header_len);
    if room < HEADER_LEN {
        return Err(FrameError::Truncated);
    }
    let udp_at = ip_at.saturating_add(ip.header_len);
    let fixed: [u8; HEADER_LEN] = frame.array(udp_at).ok_or(FrameError::Truncated)?;
    let [src_hi, src_lo, dst_hi, dst_lo, len_hi, len_lo, _, _] = fixed;
    Ok(UdpHead {
        src_ip: ip.src_ip,
        dst_ip: ip.dst_ip,
        src_port: u16::from_be_bytes([src_hi, src_lo]),
        dst_port: u16::from_be_bytes([dst_hi, dst_lo]),
        is_ipv4: ip.is_ipv4,
        ecn: ip.ecn,
        payload_offset: udp_at.saturating_add(HEADER_LEN),
        udp_len: usize::from(u16::from_be_bytes([len_hi, len_lo])),
        room,
    })
}
