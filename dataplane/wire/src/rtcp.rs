// SPDX-License-Identifier: Apache-2.0
//! RTCP compound packets (RFC 3550 §6, reduced size per RFC 5506) and feedback (RFC 4585, 5104, 8888, 3611).
//!
//! [`Compound::parse`] proves the chain of lengths; each packet is then judged on its own, so that one malformed packet
//! does not hide its neighbours. Counts found in a packet are upper bounds only: every iterator ends with its bytes.
//! Must never be given SRTCP that is still encrypted, except for [`sender_ssrc`].

mod ccfb;
mod feedback;
mod report;
mod twcc;
mod writer;
mod xr;

pub use ccfb::{Ccfb, CcfbBlock, CcfbReport};
pub use feedback::{Fir, FirEntry, Nack, Pli, Remb};
pub use report::{App, Bye, ReportBlock, Rr, Sdes, SdesItem, SdesItems, Sr};
pub use twcc::{Arrival, Twcc, TwccStatus, TwccStatuses};
pub use writer::{CompoundWriter, SenderReport, TwccFeedback, TwccWritten};
pub use xr::{DlrrEntries, DlrrEntry, Xr, XrBlock};

use crate::bytes::{array, be32, slice};

/// Sender report.
pub const PT_SR: u8 = 200;
/// Receiver report.
pub const PT_RR: u8 = 201;
/// Source description.
pub const PT_SDES: u8 = 202;
/// Goodbye.
pub const PT_BYE: u8 = 203;
/// Application-defined.
pub const PT_APP: u8 = 204;
/// Transport-layer feedback (RFC 4585).
pub const PT_RTPFB: u8 = 205;
/// Payload-specific feedback (RFC 4585).
pub const PT_PSFB: u8 = 206;
/// Extended report (RFC 3611).
pub const PT_XR: u8 = 207;

const FMT_NACK: u8 = 1;
const FMT_CCFB: u8 = 11;
const FMT_TWCC: u8 = 15;
const FMT_PLI: u8 = 1;
const FMT_FIR: u8 = 4;
const FMT_ALFB: u8 = 15;

const HEADER_LEN: usize = 4;

/// Why bytes are not RTCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RtcpError {
    /// A length reaches beyond the datagram, or a fixed part is missing.
    Truncated,
    /// The version is not 2.
    Version,
    /// The padding count is zero or larger than the packet.
    Padding,
    /// Fields of a packet contradict each other.
    Malformed,
}

/// The SSRC of the first packet's sender; in the clear in SRTCP too (RFC 3711 §3.4).
#[inline]
#[must_use]
pub fn sender_ssrc(datagram: &[u8]) -> Option<u32> {
    be32(datagram, HEADER_LEN)
}

/// A datagram of one or more RTCP packets whose lengths are proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Proves version, length and padding of every packet. Reduced-size compounds are accepted.
    ///
    /// # Errors
    /// [`RtcpError`] for the first packet that breaks the chain; an empty datagram is [`RtcpError::Truncated`].
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, RtcpError> {
        let mut rest = datagram;
        while {
            (_, rest) = split_packet(rest)?;
            !rest.is_empty()
        } {}
        Ok(Self { bytes: datagram })
    }

    /// The packets in order. A packet with a malformed body is an error; the following ones are still given.
    #[inline]
    #[must_use]
    pub const fn packets(&self) -> Packets<'a> {
        Packets { rest: self.bytes }
    }
}

/// Iterator over the packets of a [`Compound`].
#[derive(Clone, Copy, Debug)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let (raw, rest) = split_packet(self.rest).ok()?;
        self.rest = rest;
        Some(Packet::parse(&raw))
    }
}

/// One packet: header fields and the body without header and padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawPacket<'a> {
    /// Packet type.
    pub pt: u8,
    /// The five bits called count, subtype or FMT.
    pub count: u8,
    /// Everything after the four header bytes, without padding.
    pub body: &'a [u8],
}

fn split_packet(bytes: &[u8]) -> Result<(RawPacket<'_>, &[u8]), RtcpError> {
    let [first, pt, words_high, words_low] = array(bytes, 0).ok_or(RtcpError::Truncated)?;
    if first >> 6 != 2 {
        return Err(RtcpError::Version);
    }
    let body_len = usize::from(u16::from_be_bytes([words_high, words_low])).saturating_mul(4);
    let mut body = slice(bytes, HEADER_LEN, body_len).ok_or(RtcpError::Truncated)?;
    let rest = bytes.get(HEADER_LEN.saturating_add(body_len)..).ok_or(RtcpError::Truncated)?;
    if first & 0x20 != 0 {
        let padding = usize::from(*body.last().ok_or(RtcpError::Padding)?);
        let kept = body.len().checked_sub(padding).filter(|_| padding != 0);
        body = kept.and_then(|kept| body.get(..kept)).ok_or(RtcpError::Padding)?;
    }
    Ok((RawPacket { pt, count: first & 0x1F, body }, rest))
}

/// One RTCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Sender report.
    Sr(Sr<'a>),
    /// Receiver report.
    Rr(Rr<'a>),
    /// Source description.
    Sdes(Sdes<'a>),
    /// Goodbye.
    Bye(Bye<'a>),
    /// Application-defined.
    App(App<'a>),
    /// Generic NACK.
    Nack(Nack<'a>),
    /// Picture loss indication.
    Pli(Pli),
    /// Full intra request.
    Fir(Fir<'a>),
    /// Transport-wide congestion control feedback.
    Twcc(Twcc<'a>),
    /// Receiver estimated maximum bitrate.
    Remb(Remb<'a>),
    /// Congestion control feedback (RFC 8888).
    Ccfb(Ccfb<'a>),
    /// Extended report.
    Xr(Xr<'a>),
    /// A type or format that is not known.
    Unknown(RawPacket<'a>),
}

impl<'a> Packet<'a> {
    /// Parses the body by type and format.
    ///
    /// # Errors
    /// [`RtcpError::Truncated`] or [`RtcpError::Malformed`].
    #[inline]
    pub fn parse(raw: &RawPacket<'a>) -> Result<Self, RtcpError> {
        Ok(match (raw.pt, raw.count) {
            (PT_SR, count) => Self::Sr(Sr::parse(raw.body, count)?),
            (PT_RR, count) => Self::Rr(Rr::parse(raw.body, count)?),
            (PT_SDES, count) => Self::Sdes(Sdes::parse(raw.body, count)),
            (PT_BYE, count) => Self::Bye(Bye::parse(raw.body, count)?),
            (PT_APP, count) => Self::App(App::parse(raw.body, count)?),
            (PT_RTPFB, FMT_NACK) => Self::Nack(Nack::parse(raw.body)?),
            (PT_RTPFB, FMT_TWCC) => Self::Twcc(Twcc::parse(raw.body)?),
            (PT_RTPFB, FMT_CCFB) => Self::Ccfb(Ccfb::parse(raw.body)?),
            (PT_PSFB, FMT_PLI) => Self::Pli(Pli::parse(raw.body)?),
            (PT_PSFB, FMT_FIR) => Self::Fir(Fir::parse(raw.body)?),
            (PT_PSFB, FMT_ALFB) => match Remb::parse(raw.body)? {
                Some(remb) => Self::Remb(remb),
                None => Self::Unknown(*raw),
            },
            (PT_XR, _) => Self::Xr(Xr::parse(raw.body)?),
            _ => Self::Unknown(*raw),
        })
    }
}
