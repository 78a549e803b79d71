// SPDX-License-Identifier: Apache-2.0
//! NACK and PLI (RFC 4585), FIR (RFC 5104) and REMB (draft-alvestrand-rmcat-remb-03).
//!
//! Must never turn a bitrate that does not fit 64 bits into a number.

use crate::bytes::{array, be16, be32};
use crate::rtcp::RtcpError;

const REMB_NAME: [u8; 4] = *b"REMB";

fn ssrcs(body: &[u8]) -> Result<(u32, u32), RtcpError> {
    be32(body, 0).zip(be32(body, 4)).ok_or(RtcpError::Truncated)
}

/// Generic NACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack<'a> {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// The stream with the losses.
    pub media_ssrc: u32,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let (sender_ssrc, media_ssrc) = ssrcs(body)?;
        let pairs = body.get(8..).unwrap_or_default();
        Ok(Self { sender_ssrc, media_ssrc, pairs })
    }

    /// The lost numbers in the order of the packet, up to 17 for every four bytes.
    pub fn lost(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.pairs.as_chunks::<4>().0.iter().flat_map(|&[p0, p1, b0, b1]| {
            let pid = u16::from_be_bytes([p0, p1]);
            let blp = u16::from_be_bytes([b0, b1]);
            let following = (0..16_u16).filter(move |bit| blp.wrapping_shr(u32::from(*bit)) & 1 == 1);
            core::iter::once(pid).chain(following.map(move |bit| pid.wrapping_add(bit).wrapping_add(1)))
        })
    }
}

/// Picture loss indication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pli {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// The stream that needs a keyframe.
    pub media_ssrc: u32,
}

impl Pli {
    pub(crate) fn parse(body: &[u8]) -> Result<Self, RtcpError> {
        let (sender_ssrc, media_ssrc) = ssrcs(body)?;
        Ok(Self { sender_ssrc, media_ssrc })
    }
}

/// Full intra request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fir<'a> {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// Unused by FIR, zero.
    pub media_ssrc: u32,
    entries: &'a [u8],
}

/// One entry of a full intra request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirEntry {
    /// The stream that needs a keyframe.
    pub ssrc: u32,
    /// Command number: a repeat has the same one.
    pub command_seq: u8,
}

impl<'a> Fir<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let (sender_ssrc, media_ssrc) = ssrcs(body)?;
        let entries = body.get(8..).unwrap_or_default();
        Ok(Self { sender_ssrc, media_ssrc, entries })
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = FirEntry> + use<'a> {
        self.entries
            .as_chunks::<8>()
            .0
            .iter()
            .map(|&[a, b, c, d, command_seq, ..]| FirEntry { ssrc: u32::from_be_bytes([a, b, c, d]), command_seq })
    }
}

/// Receiver estimated maximum bitrate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remb<'a> {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// The estimate in bit/s.
    pub bitrate_bps: u64,
    ssrcs: &'a [u8],
}

impl<'a> Remb<'a> {
    /// `None` when the application-layer feedback is something else.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Option<Self>, RtcpError> {
        let (sender_ssrc, _) = ssrcs(body)?;
        if array(body, 8) != Some(REMB_NAME) {
            return Ok(None);
        }
        let [count, exponent_high, ..] = array::<4>(body, 12).ok_or(RtcpError::Truncated)?;
        let mantissa_low = be16(body, 14).ok_or(RtcpError::Truncated)?;
        let mantissa = (u64::from(exponent_high & 3) << 16) | u64::from(mantissa_low);
        let shift = u32::from(exponent_high >> 2);
        let bitrate_bps = mantissa.wrapping_shl(shift);
        if bitrate_bps.wrapping_shr(shift) != mantissa {
            return Err(RtcpError::Malformed);
        }
        let ssrcs = crate::bytes::slice(body, 16, usize::from(count).saturating_mul(4));
        Ok(Some(Self { sender_ssrc, bitrate_bps, ssrcs: ssrcs.ok_or(RtcpError::Truncated)? }))
    }

    /// The streams the estimate is for.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.ssrcs.as_chunks::<4>().0.iter().map(|ssrc| u32::from_be_bytes(*ssrc))
    }
}
