// SPDX-License-Identifier: Apache-2.0
//! Ethernet II with zero, one or two VLAN tags (802.1Q, 802.1ad).
//!
//! Must never look inside the payload.

use crate::bytes::array;
use crate::udp::FrameError;
use crate::window::Window;

/// `EtherType` of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86DD;
/// Bytes of a header without tags.
pub const HEADER_LEN: usize = 14;
/// Tags that are understood; more make the frame not ours.
pub const MAX_VLAN_TAGS: u8 = 2;

const TPID_CUSTOMER: u16 = 0x8100;
const TPID_SERVICE: u16 = 0x88A8;
const VID_MASK: u16 = 0x0FFF;

/// One Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetFrame<'a> {
    /// Destination address.
    pub dst_mac: [u8; 6],
    /// Source address.
    pub src_mac: [u8; 6],
    /// Type of the payload, after any tags.
    pub ethertype: u16,
    /// VLAN ids, outer first; `None` where there is no tag.
    pub vlan_ids: [Option<u16>; 2],
    /// Offset of the payload in the frame: 14, 18 or 22.
    pub payload_offset: usize,
    /// Everything after the header; may end with padding.
    pub payload: &'a [u8],
}

/// What lies behind the addresses of an Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EthernetHead {
    /// Type of the payload, after any tags.
    pub ethertype: u16,
    /// VLAN ids, outer first; `None` where there is no tag.
    pub vlan_ids: [Option<u16>; 2],
    /// Offset of the payload in the frame: 14, 18 or 22.
    pub payload_offset: usize,
}

/// Parses the Ethernet header.
///
/// # Errors
/// [`FrameError::Truncated`] when the header is cut, [`FrameError::TooManyTags`] when a third tag follows.
#[inline]
pub fn parse(frame: &[u8]) -> Result<EthernetFrame<'_>, FrameError> {
    let EthernetHead { ethertype, vlan_ids, payload_offset } = parse_head(frame)?;
    Ok(EthernetFrame {
        dst_mac: array(frame, 0).ok_or(FrameError::Truncated)?,
        src_mac: array(frame, 6).ok_or(FrameError::Truncated)?,
        ethertype,
        vlan_ids,
        payload_offset,
        payload: frame.get(payload_offset..).ok_or(FrameError::Truncated)?,
    })
}

/// Parses type and tags.
///
/// # Errors
/// As [`parse`].
#[inline(always)]
#[expect(clippy::inline_always, reason = "the XDP program has no room for a call with a result of this size")]
pub fn parse_head(frame: impl Window) -> Result<EthernetHead, FrameError> {
    let mut payload_offset = HEADER_LEN;
    let mut ethertype = frame.be16(12).ok_or(FrameError::Truncated)?;
    let mut vlan_ids = [None; 2];
    for vlan in &mut vlan_ids {
        if !is_tag(ethertype) {
            break;
        }
        let control = frame.be16(payload_offset).ok_or(FrameError::Truncated)?;
        ethertype = frame.be16(payload_offset.saturating_add(2)).ok_or(FrameError::Truncated)?;
        *vlan = Some(control & VID_MASK);
        payload_offset = payload_offset.saturating_add(4);
    }
    if is_tag(ethertype) {
        return Err(FrameError::TooManyTags);
    }
    Ok(EthernetHead { ethertype, vlan_ids, payload_offset })
}

const fn is_tag(ethertype: u16) -> bool {
    matches!(ethertype, TPID_CUSTOMER | TPID_SERVICE)
}
