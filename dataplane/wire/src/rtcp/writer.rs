// SPDX-License-Identifier: Apache-2.0
//! Emits compound packets into a lent slice.
//!
//! Every method appends one packet or, on error, leaves the compound as it was.
//! Must never emit a count that differs from what follows it.

mod twcc;

pub use twcc::{TwccFeedback, TwccWritten};

use crate::emit::{EmitError, Emitter};
use crate::rtcp::{
    FMT_ALFB, FMT_FIR, FMT_NACK, FMT_PLI, FirEntry, PT_BYE, PT_PSFB, PT_RR, PT_RTPFB, PT_SDES, PT_SR, ReportBlock,
};

/// The five-bit count of a header.
const MAX_COUNT: usize = 31;
/// Bits of the mantissa of REMB.
const REMB_MANTISSA: u64 = 0x3_FFFF;

/// The sender's part of a sender report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderReport {
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
}

/// A compound packet in the making.
#[derive(Debug)]
pub struct CompoundWriter<'a> {
    emitter: Emitter<'a>,
}

impl<'a> CompoundWriter<'a> {
    /// Starts at the beginning of `out`.
    #[must_use]
    pub fn begin(out: &'a mut [u8]) -> Self {
        Self { emitter: Emitter::begin(out) }
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.emitter.position()
    }

    /// Whether nothing was written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn room(&self) -> usize {
        self.emitter.room()
    }

    /// What was written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.emitter.written()
    }

    /// Appends a sender report.
    ///
    /// # Errors
    /// [`EmitError::TooMany`] above 31 blocks, [`EmitError::InvalidValue`] for a loss beyond 24 bits,
    /// [`EmitError::NoSpace`].
    pub fn sr(&mut self, sender: &SenderReport, reports: &[ReportBlock]) -> Result<(), EmitError> {
        self.packet(PT_SR, count(reports.len())?, |emitter| {
            emitter.be32(sender.ssrc)?;
            emitter.put(&sender.ntp.to_be_bytes())?;
            emitter.be32(sender.rtp_ts)?;
            emitter.be32(sender.packets)?;
            emitter.be32(sender.octets)?;
            emit_reports(emitter, reports)
        })
    }

    /// Appends a receiver report.
    ///
    /// # Errors
    /// As [`Self::sr`].
    pub fn rr(&mut self, ssrc: u32, reports: &[ReportBlock]) -> Result<(), EmitError> {
        self.packet(PT_RR, count(reports.len())?, |emitter| {
            emitter.be32(ssrc)?;
            emit_reports(emitter, reports)
        })
    }

    /// Appends a source description of one chunk with one CNAME.
    ///
    /// # Errors
    /// [`EmitError::InvalidValue`] above 255 bytes, [`EmitError::NoSpace`].
    pub fn sdes_cname(&mut self, ssrc: u32, cname: &[u8]) -> Result<(), EmitError> {
        let len = u8::try_from(cname.len()).map_err(|_| EmitError::InvalidValue)?;
        self.packet(PT_SDES, 1, |emitter| {
            let start = emitter.position();
            emitter.be32(ssrc)?;
            emitter.put(&[1, len])?;
            emitter.put(cname)?;
            emitter.u8(0)?;
            emitter.pad4(start)
        })
    }

    /// Appends a goodbye without a reason.
    ///
    /// # Errors
    /// [`EmitError::TooMany`] above 31 sources, [`EmitError::NoSpace`].
    pub fn bye(&mut self, ssrcs: &[u32]) -> Result<(), EmitError> {
        self.packet(PT_BYE, count(ssrcs.len())?, |emitter| ssrcs.iter().try_for_each(|ssrc| emitter.be32(*ssrc)))
    }

    /// Appends a generic NACK for numbers in ascending (wrapping) order. Gives how many of them were taken: fewer than
    /// offered when the slice is full. Without any number nothing is written.
    ///
    /// # Errors
    /// [`EmitError::NoSpace`] when not even the first fits.
    pub fn nack(
        &mut self,
        sender_ssrc: u32,
        media_ssrc: u32,
        lost: impl IntoIterator<Item = u16>,
    ) -> Result<usize, EmitError> {
        let mut lost = lost.into_iter().peekable();
        if lost.peek().is_none() {
            return Ok(0);
        }
        let mut taken = 0_usize;
        self.packet(PT_RTPFB, FMT_NACK, |emitter| {
            emitter.be32(sender_ssrc)?;
            emitter.be32(media_ssrc)?;
            if emitter.room() < 4 {
                return Err(EmitError::NoSpace);
            }
            while emitter.room() >= 4
                && let Some(pid) = lost.next()
            {
                taken = taken.saturating_add(1);
                let mut blp = 0_u16;
                while let Some(ahead @ 0..=16) = lost.peek().map(|next| next.wrapping_sub(pid)) {
                    // A repeat of the number itself is already covered.
                    if let Some(bit) = ahead.checked_sub(1) {
                        blp |= 1_u16.wrapping_shl(u32::from(bit));
                    }
                    lost.next();
                    taken = taken.saturating_add(1);
                }
                emitter.be16(pid)?;
                emitter.be16(blp)?;
            }
            Ok(())
        })?;
        Ok(taken)
    }

    /// Appends a picture loss indication.
    ///
    /// # Errors
    /// [`EmitError::NoSpace`].
    pub fn pli(&mut self, sender_ssrc: u32, media_ssrc: u32) -> Result<(), EmitError> {
        self.packet(PT_PSFB, FMT_PLI, |emitter| {
            emitter.be32(sender_ssrc)?;
            emitter.be32(media_ssrc)
        })
    }

    /// Appends a full intra request; its media SSRC field is zero (RFC 5104 §4.3.1.2).
    ///
    /// # Errors
    /// [`EmitError::NoSpace`].
    pub fn fir(&mut self, sender_ssrc: u32, entries: &[FirEntry]) -> Result<(), EmitError> {
        self.packet(PT_PSFB, FMT_FIR, |emitter| {
            emitter.be32(sender_ssrc)?;
            emitter.be32(0)?;
            for entry in entries {
                emitter.be32(entry.ssrc)?;
                emitter.put(&[entry.command_seq, 0, 0, 0])?;
            }
            Ok(())
        })
    }

    /// Appends a receiver estimated maximum bitrate, rounded down to 18 significant bits.
    ///
    /// # Errors
    /// [`EmitError::TooMany`] above 255 sources, [`EmitError::NoSpace`].
    pub fn remb(&mut self, sender_ssrc: u32, bitrate_bps: u64, ssrcs: &[u32]) -> Result<(), EmitError> {
        let ssrc_count = u8::try_from(ssrcs.len()).map_err(|_| EmitError::TooMany)?;
        let mut exponent = 0_u32;
        while bitrate_bps.wrapping_shr(exponent) > REMB_MANTISSA {
            exponent = exponent.saturating_add(1);
        }
        let mantissa = u32::try_from(bitrate_bps.wrapping_shr(exponent)).map_err(|_| EmitError::InvalidValue)?;
        self.packet(PT_PSFB, FMT_ALFB, |emitter| {
            emitter.be32(sender_ssrc)?;
            emitter.be32(0)?;
            emitter.put(b"REMB")?;
            emitter.be32((u32::from(ssrc_count) << 24) | (exponent << 18) | mantissa)?;
            ssrcs.iter().try_for_each(|ssrc| emitter.be32(*ssrc))
        })
    }

    /// Writes one packet around `body` and sets its length; takes everything back on an error.
    fn packet(
        &mut self,
        pt: u8,
        count: u8,
        body: impl FnOnce(&mut Emitter<'a>) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        let start = self.emitter.position();
        let written = self.packet_at(start, [0x80 | count, pt], body);
        if written.is_err() {
            self.emitter.rewind(start);
        }
        written
    }

    fn packet_at(
        &mut self,
        start: usize,
        header: [u8; 2],
        body: impl FnOnce(&mut Emitter<'a>) -> Result<(), EmitError>,
    ) -> Result<(), EmitError> {
        self.emitter.put(&header)?;
        self.emitter.be16(0)?;
        body(&mut self.emitter)?;
        self.emitter.pad4(start)?;
        let words = (self.emitter.position().saturating_sub(start) / 4).saturating_sub(1);
        let words = u16::try_from(words).map_err(|_| EmitError::TooMany)?;
        self.emitter.patch(start.saturating_add(2), &words.to_be_bytes())
    }
}

fn count(entries: usize) -> Result<u8, EmitError> {
    u8::try_from(entries).ok().filter(|_| entries <= MAX_COUNT).ok_or(EmitError::TooMany)
}

fn emit_reports(emitter: &mut Emitter<'_>, reports: &[ReportBlock]) -> Result<(), EmitError> {
    for report in reports {
        if !(-0x80_0000..=0x7F_FFFF).contains(&report.cumulative_lost) {
            return Err(EmitError::InvalidValue);
        }
        let lost = report.cumulative_lost.cast_unsigned() & 0x00FF_FFFF;
        emitter.be32(report.ssrc)?;
        emitter.be32((u32::from(report.fraction_lost) << 24) | lost)?;
        emitter.be32(report.highest_seq)?;
        emitter.be32(report.jitter)?;
        emitter.be32(report.last_sr)?;
        emitter.be32(report.delay_since_last_sr)?;
    }
    Ok(())
}
