// SPDX-License-Identifier: Apache-2.0
//! SR, RR, SDES, BYE and APP (RFC 3550 §6.4 to §6.7).
//!
//! Must never trust the count in the header: a report list shorter than its count is malformed.

use crate::bytes::{Reader, array, be32, be64, slice};
use crate::rtcp::RtcpError;

const REPORT_BLOCK: usize = 24;
const SENDER_INFO: usize = 20;
const SDES_CNAME: u8 = 1;

/// One report block (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportBlock {
    /// The stream reported on.
    pub ssrc: u32,
    /// Loss since the last report in 1/256.
    pub fraction_lost: u8,
    /// Packets lost since the beginning, 24 bits, may be negative.
    pub cumulative_lost: i32,
    /// Cycles and highest sequence number.
    pub highest_seq: u32,
    /// Interarrival jitter in units of the media clock.
    pub jitter: u32,
    /// Middle 32 bits of the NTP time of the last SR; 0 when none came.
    pub last_sr: u32,
    /// Delay since that SR in 1/65536 s.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(block: &[u8; REPORT_BLOCK]) -> Option<Self> {
        let lost = be32(block, 4)?;
        let [fraction_lost, ..] = lost.to_be_bytes();
        Some(Self {
            ssrc: be32(block, 0)?,
            fraction_lost,
            // Shifting up and down again extends the sign of the 24-bit number.
            cumulative_lost: (lost << 8).cast_signed() >> 8,
            highest_seq: be32(block, 8)?,
            jitter: be32(block, 12)?,
            last_sr: be32(block, 16)?,
            delay_since_last_sr: be32(block, 20)?,
        })
    }
}

fn report_blocks(blocks: &[u8]) -> impl Iterator<Item = ReportBlock> + '_ {
    blocks.as_chunks::<REPORT_BLOCK>().0.iter().filter_map(ReportBlock::parse)
}

fn report_list(body: &[u8], at: usize, count: u8) -> Result<&[u8], RtcpError> {
    slice(body, at, usize::from(count).saturating_mul(REPORT_BLOCK)).ok_or(RtcpError::Truncated)
}

/// Sender report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sr<'a> {
    /// The sender.
    pub ssrc: u32,
    /// NTP time, 32.32 seconds.
    pub ntp: u64,
    /// The same instant on the media clock.
    pub rtp_ts: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload bytes sent.
    pub octets: u32,
    blocks: &'a [u8],
}

impl<'a> Sr<'a> {
    pub(crate) fn parse(body: &'a [u8], count: u8) -> Result<Self, RtcpError> {
        let field = |at| be32(body, at).ok_or(RtcpError::Truncated);
        Ok(Self {
            ssrc: field(0)?,
            ntp: be64(body, 4).ok_or(RtcpError::Truncated)?,
            rtp_ts: field(12)?,
            packets: field(16)?,
            octets: field(20)?,
            blocks: report_list(body, SENDER_INFO + 4, count)?,
        })
    }

    /// The report blocks.
    pub fn reports(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        report_blocks(self.blocks)
    }
}

/// Receiver report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rr<'a> {
    /// The reporter.
    pub ssrc: u32,
    blocks: &'a [u8],
}

impl<'a> Rr<'a> {
    pub(crate) fn parse(body: &'a [u8], count: u8) -> Result<Self, RtcpError> {
        Ok(Self { ssrc: be32(body, 0).ok_or(RtcpError::Truncated)?, blocks: report_list(body, 4, count)? })
    }

    /// The report blocks.
    pub fn reports(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        report_blocks(self.blocks)
    }
}

/// Source description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sdes<'a> {
    body: &'a [u8],
    count: u8,
}

/// One item of a source description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SdesItem<'a> {
    /// The source.
    pub ssrc: u32,
    /// Item type, 1 is CNAME.
    pub kind: u8,
    /// The text, undecoded.
    pub text: &'a [u8],
}

impl<'a> Sdes<'a> {
    pub(crate) const fn parse(body: &'a [u8], count: u8) -> Self {
        Self { body, count }
    }

    /// All items of all chunks; ends at the first that is cut.
    #[must_use]
    pub const fn items(&self) -> SdesItems<'a> {
        SdesItems { reader: Reader::begin(self.body), chunks_left: self.count, ssrc: None }
    }

    /// The canonical names as (SSRC, text).
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> + use<'a> {
        self.items().filter(|item| item.kind == SDES_CNAME).map(|item| (item.ssrc, item.text))
    }
}

/// Iterator over [`SdesItem`]s.
#[derive(Clone, Copy, Debug)]
pub struct SdesItems<'a> {
    reader: Reader<'a>,
    chunks_left: u8,
    ssrc: Option<u32>,
}

impl<'a> Iterator for SdesItems<'a> {
    type Item = SdesItem<'a>;

    fn next(&mut self) -> Option<SdesItem<'a>> {
        loop {
            let Some(ssrc) = self.ssrc else {
                self.chunks_left = self.chunks_left.checked_sub(1)?;
                self.ssrc = Some(be32(self.reader.take(4)?, 0)?);
                continue;
            };
            let kind = self.reader.u8()?;
            if kind == 0 {
                // A chunk ends with one to four zero bytes on a 32-bit boundary.
                let past = self.reader.position() % 4;
                self.reader.take(if past == 0 { 0 } else { 4_usize.saturating_sub(past) })?;
                self.ssrc = None;
                continue;
            }
            let len = usize::from(self.reader.u8()?);
            return Some(SdesItem { ssrc, kind, text: self.reader.take(len)? });
        }
    }
}

/// Goodbye.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bye<'a> {
    ssrcs: &'a [u8],
    /// Reason for leaving, undecoded; empty when not given.
    pub reason: &'a [u8],
}

impl<'a> Bye<'a> {
    pub(crate) fn parse(body: &'a [u8], count: u8) -> Result<Self, RtcpError> {
        let len = usize::from(count).saturating_mul(4);
        let ssrcs = slice(body, 0, len).ok_or(RtcpError::Truncated)?;
        let reason = match body.get(len) {
            Some(text) => slice(body, len.saturating_add(1), usize::from(*text)).ok_or(RtcpError::Truncated)?,
            None => &[],
        };
        Ok(Self { ssrcs, reason })
    }

    /// The sources that leave.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.ssrcs.as_chunks::<4>().0.iter().map(|ssrc| u32::from_be_bytes(*ssrc))
    }
}

/// Application-defined packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct App<'a> {
    /// Subtype, 0..=31.
    pub subtype: u8,
    /// The sender.
    pub ssrc: u32,
    /// Four ASCII bytes.
    pub name: [u8; 4],
    /// The data.
    pub data: &'a [u8],
}

impl<'a> App<'a> {
    pub(crate) fn parse(body: &'a [u8], subtype: u8) -> Result<Self, RtcpError> {
        Ok(Self {
            subtype,
            ssrc: be32(body, 0).ok_or(RtcpError::Truncated)?,
            name: array(body, 4).ok_or(RtcpError::Truncated)?,
            data: body.get(8..).ok_or(RtcpError::Truncated)?,
        })
    }
}
