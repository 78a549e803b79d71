// SPDX-License-Identifier: Apache-2.0
//! Extended reports (RFC 3611): receiver reference time and delay since last; other blocks are passed over.
//!
//! Must never read past a block's own length.

use crate::bytes::{array, be16, be32, be64, slice, u8_at};
use crate::rtcp::RtcpError;

const BLOCK_HEADER: usize = 4;
const BLOCK_RRTR: u8 = 4;
const BLOCK_DLRR: u8 = 5;

/// One extended report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Xr<'a> {
    /// The reporter.
    pub ssrc: u32,
    blocks: &'a [u8],
}

impl<'a> Xr<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let ssrc = be32(body, 0).ok_or(RtcpError::Truncated)?;
        Ok(Self { ssrc, blocks: body.get(4..).unwrap_or_default() })
    }

    /// The blocks; ends at the first that is cut.
    pub fn blocks(&self) -> impl Iterator<Item = XrBlock<'a>> + use<'a> {
        let mut rest = self.blocks;
        core::iter::from_fn(move || {
            let (block, following) = XrBlock::parse(rest)?;
            rest = following;
            Some(block)
        })
    }
}

/// One block of an extended report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XrBlock<'a> {
    /// Receiver reference time: NTP, 32.32 seconds (RFC 3611 §4.4).
    ReferenceTime(u64),
    /// Delay since the last reference time of the receivers (RFC 3611 §4.5).
    DelaySince(DlrrEntries<'a>),
    /// Any other block.
    Other {
        /// Block type.
        kind: u8,
        /// The block without its header.
        body: &'a [u8],
    },
}

/// The entries of a DLRR block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DlrrEntries<'a>(&'a [u8]);

/// What a sender says to one receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DlrrEntry {
    /// The receiver.
    pub ssrc: u32,
    /// Middle 32 bits of its last reference time.
    pub last_rr: u32,
    /// Delay since then in 1/65536 s.
    pub delay: u32,
}

impl DlrrEntries<'_> {
    /// The entries in order.
    pub fn iter(&self) -> impl Iterator<Item = DlrrEntry> + '_ {
        self.0.as_chunks::<12>().0.iter().filter_map(|entry| {
            Some(DlrrEntry { ssrc: be32(entry, 0)?, last_rr: be32(entry, 4)?, delay: be32(entry, 8)? })
        })
    }
}

impl<'a> XrBlock<'a> {
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let kind = u8_at(bytes, 0)?;
        let len = usize::from(be16(bytes, 2)?).saturating_mul(4);
        let body = slice(bytes, BLOCK_HEADER, len)?;
        let rest = bytes.get(BLOCK_HEADER.saturating_add(len)..)?;
        let block = match (kind, array::<8>(body, 0)) {
            (BLOCK_RRTR, Some(_)) => Self::ReferenceTime(be64(body, 0)?),
            (BLOCK_DLRR, _) => Self::DelaySince(DlrrEntries(body)),
            _ => Self::Other { kind, body },
        };
        Some((block, rest))
    }
}
