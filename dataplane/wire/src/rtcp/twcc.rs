// SPDX-License-Identifier: Apache-2.0
//! Transport-wide congestion control feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 §3.1).
//!
//! `parse` walks the chunks once and proves that every status has its delta; the iterator cannot run dry.
//! Must never multiply: one packet gives at most 65 535 statuses, whatever its chunks say.

use crate::bytes::{Reader, be16, be24, be32};
use crate::rtcp::RtcpError;

const FIXED: usize = 16;
const RUN_MASK: u16 = 0x1FFF;
const SYMBOL_SMALL: u8 = 1;
const SYMBOL_LARGE: u8 = 2;

/// What a feedback says about one packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not received.
    Lost,
    /// Received this many 250 µs ticks after the previous received packet; the first one after the reference time.
    Delta(i16),
    /// Received without a time: the symbol the draft reserves.
    NoTime,
}

/// One packet's status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TwccStatus {
    /// Transport-wide sequence number.
    pub seq: u16,
    /// Whether and when it arrived.
    pub arrival: Arrival,
}

impl TwccStatus {
    /// The delta in microseconds, if the packet has one.
    #[inline]
    #[must_use]
    pub fn delta_us(&self) -> Option<i32> {
        match self.arrival {
            Arrival::Delta(ticks) => Some(i32::from(ticks).saturating_mul(250)),
            Arrival::Lost | Arrival::NoTime => None,
        }
    }
}

/// One feedback packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Twcc<'a> {
    /// The sender of the feedback.
    pub sender_ssrc: u32,
    /// A stream of the transport, not significant.
    pub media_ssrc: u32,
    /// Transport-wide number of the first status.
    pub base_seq: u16,
    /// Number of statuses.
    pub status_count: u16,
    /// Reference time in units of 64 ms, signed 24 bits.
    pub reference_time: i32,
    /// Number of this feedback packet, modulo 256.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Twcc<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, RtcpError> {
        let fixed = be32(body, 0).zip(be32(body, 4)).zip(be16(body, 8).zip(be16(body, 10)));
        let ((sender_ssrc, media_ssrc), (base_seq, status_count)) = fixed.ok_or(RtcpError::Truncated)?;
        let reference = be24(body, 12).ok_or(RtcpError::Truncated)?;
        let feedback_count = *body.get(15).ok_or(RtcpError::Truncated)?;
        let tail = body.get(FIXED..).ok_or(RtcpError::Truncated)?;
        let mut reader = Reader::begin(tail);
        let mut left = usize::from(status_count);
        let mut delta_bytes = 0_usize;
        while left > 0 {
            let chunk = Chunk::parse(reader.be16().ok_or(RtcpError::Truncated)?);
            let covered = chunk.len().min(left);
            delta_bytes = delta_bytes.saturating_add(chunk.delta_bytes(covered));
            left = left.saturating_sub(covered);
        }
        let chunks = tail.get(..reader.position()).ok_or(RtcpError::Truncated)?;
        let deltas = reader.take(delta_bytes).ok_or(RtcpError::Truncated)?;
        Ok(Self {
            sender_ssrc,
            media_ssrc,
            base_seq,
            status_count,
            // Shifting up and down again extends the sign of the 24-bit number.
            reference_time: (reference << 8).cast_signed() >> 8,
            feedback_count,
            chunks,
            deltas,
        })
    }

    /// The statuses, [`Self::status_count`] of them, in the order of their numbers.
    #[inline]
    #[must_use]
    pub const fn statuses(&self) -> TwccStatuses<'a> {
        TwccStatuses {
            chunks: Reader::begin(self.chunks),
            deltas: Reader::begin(self.deltas),
            chunk: Chunk::Run { symbol: 0, len: 0 },
            in_chunk: 0,
            seq: self.base_seq,
            left: self.status_count,
        }
    }
}

/// Iterator over [`TwccStatus`]es.
#[derive(Clone, Copy, Debug)]
pub struct TwccStatuses<'a> {
    chunks: Reader<'a>,
    deltas: Reader<'a>,
    chunk: Chunk,
    in_chunk: usize,
    seq: u16,
    left: u16,
}

impl Iterator for TwccStatuses<'_> {
    type Item = TwccStatus;

    #[inline]
    fn next(&mut self) -> Option<TwccStatus> {
        self.left = self.left.checked_sub(1)?;
        // Every chunk of two bytes covers something but a run of zero, so this ends with the chunks.
        while self.in_chunk >= self.chunk.len() {
            self.chunk = Chunk::parse(self.chunks.be16()?);
            self.in_chunk = 0;
        }
        let arrival = match self.chunk.symbol(self.in_chunk) {
            0 => Arrival::Lost,
            SYMBOL_SMALL => Arrival::Delta(i16::from(self.deltas.u8()?)),
            SYMBOL_LARGE => Arrival::Delta(self.deltas.be16()?.cast_signed()),
            _ => Arrival::NoTime,
        };
        let seq = self.seq;
        self.in_chunk = self.in_chunk.saturating_add(1);
        self.seq = seq.wrapping_add(1);
        Some(TwccStatus { seq, arrival })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(usize::from(self.left)))
    }
}

/// One packet status chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    /// The same symbol `len` times.
    Run { symbol: u8, len: u16 },
    /// Fourteen one-bit symbols, first in bit 13.
    OneBit(u16),
    /// Seven two-bit symbols, first in bits 13 and 12.
    TwoBit(u16),
}

impl Chunk {
    const fn parse(chunk: u16) -> Self {
        if chunk & 0x8000 == 0 {
            let [high, _] = chunk.to_be_bytes();
            Self::Run { symbol: (high >> 5) & 3, len: chunk & RUN_MASK }
        } else if chunk & 0x4000 == 0 {
            Self::OneBit(chunk)
        } else {
            Self::TwoBit(chunk)
        }
    }

    const fn len(self) -> usize {
        match self {
            Self::Run { len, .. } => len as usize,
            Self::OneBit(_) => 14,
            Self::TwoBit(_) => 7,
        }
    }

    /// The symbol at a place below [`Self::len`].
    fn symbol(self, at: usize) -> u8 {
        let (bits, width, mask) = match self {
            Self::Run { symbol, .. } => return symbol,
            Self::OneBit(bits) => (bits, 1, 1),
            Self::TwoBit(bits) => (bits, 2, 3),
        };
        let shift = 14_usize.saturating_sub(at.saturating_add(1).saturating_mul(width));
        let shift = u32::try_from(shift).unwrap_or_default();
        let [_, low] = (bits.wrapping_shr(shift) & mask).to_be_bytes();
        low
    }

    /// Bytes of the deltas of the first `covered` symbols.
    fn delta_bytes(self, covered: usize) -> usize {
        let size = |symbol| match symbol {
            SYMBOL_SMALL => 1_usize,
            SYMBOL_LARGE => 2,
            _ => 0,
        };
        match self {
            Self::Run { symbol, .. } => size(symbol).saturating_mul(covered),
            Self::OneBit(_) | Self::TwoBit(_) => {
                (0..covered).fold(0, |bytes: usize, at| bytes.saturating_add(size(self.symbol(at))))
            }
        }
    }
}
