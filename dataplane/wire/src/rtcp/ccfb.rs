// SPDX-License-Identifier: Apache-2.0
//! Congestion control feedback (RFC 8888 §3.1).
//!
//! Must never read a metric block beyond the packet: a block that is cut makes the whole packet malformed.

use crate::bytes::{Reader, be32, padded_len, slice};
use crate::rtcp::RtcpError;

/// RFC 8888 §3.1: more reports than half the number circle are forbidden.
const MAX_REPORTS: usize = 16_384;

/// One feedback packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ccfb<'a> {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// When the report was made: middle 32 bits of an NTP time.
    pub report_timestamp: u32,
    blocks: &'a [u8],
}

impl<'a> Ccfb<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let sender_ssrc = be32(body, 0).ok_or(RtcpError::Truncated)?;
        let blocks_len = body.len().checked_sub(8).ok_or(RtcpError::Truncated)?;
        let blocks = slice(body, 4, blocks_len).ok_or(RtcpError::Truncated)?;
        let report_timestamp = be32(body, blocks_len.saturating_add(4)).ok_or(RtcpError::Truncated)?;
        let mut reader = Reader::begin(blocks);
        while !reader.rest().is_empty() {
            let block = CcfbBlock::parse(&mut reader).ok_or(RtcpError::Truncated)?;
            if block.metrics.len() > MAX_REPORTS.saturating_mul(2) {
                return Err(RtcpError::Malformed);
            }
        }
        Ok(Self { sender_ssrc, report_timestamp, blocks })
    }

    /// The streams reported on.
    pub fn blocks(&self) -> impl Iterator<Item = CcfbBlock<'a>> + use<'a> {
        let mut reader = Reader::begin(self.blocks);
        core::iter::from_fn(move || CcfbBlock::parse(&mut reader))
    }
}

/// The reports on one stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CcfbBlock<'a> {
    /// The stream.
    pub ssrc: u32,
    /// Number of the first report.
    pub begin_seq: u16,
    metrics: &'a [u8],
}

/// What is said about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CcfbReport {
    /// RTP sequence number.
    pub seq: u16,
    /// Whether it arrived.
    pub received: bool,
    /// ECN bits as received; 0 when not received.
    pub ecn: u8,
    /// Time from arrival to the report timestamp in 1/1024 s; 0x1FFE is "earlier", 0x1FFF "not available".
    pub arrival_offset: u16,
}

impl<'a> CcfbBlock<'a> {
    fn parse(reader: &mut Reader<'a>) -> Option<Self> {
        let ssrc = be32(reader.take(4)?, 0)?;
        let begin_seq = reader.be16()?;
        let metrics_len = usize::from(reader.be16()?).saturating_mul(2);
        let metrics = reader.take(padded_len(metrics_len))?.get(..metrics_len)?;
        Some(Self { ssrc, begin_seq, metrics })
    }

    /// The reports in the order of their numbers.
    pub fn reports(&self) -> impl Iterator<Item = CcfbReport> + use<'a> {
        let mut seq = self.begin_seq;
        self.metrics.as_chunks::<2>().0.iter().map(move |metric| {
            let metric = u16::from_be_bytes(*metric);
            let report = CcfbReport {
                seq,
                received: metric & 0x8000 != 0,
                ecn: u8::try_from((metric >> 13) & 3).unwrap_or_default(),
                arrival_offset: metric & 0x1FFF,
            };
            seq = seq.wrapping_add(1);
            report
        })
    }
}
