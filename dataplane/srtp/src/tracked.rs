// SPDX-License-Identifier: Apache-2.0
//! Receiving with a replay window: estimate, check, verify, accept, in the only order that is safe.

use crate::header::rtp_header;
use crate::{Publish, ReplayWindow, RtcpOpened, RxContext, SrtpError};

/// An RTP packet that verified and was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpReceived {
    /// Bytes of the packet's header with CSRCs and extension.
    pub header_len: usize,
    /// Bytes of payload written to the start of `out`, RTP padding included.
    pub payload_len: usize,
    /// ROC << 16 | sequence number.
    pub index: u64,
}

impl RxContext {
    /// Opens `packet` at the estimated index, or at an alternative when that fails (first packets lost
    /// at a wrap, more than 2^15 packets lost), and accepts it in `window`.
    ///
    /// A forged packet costs at most two tags and changes nothing; a replayed one costs one, because
    /// after 64,512 to 65,535 lost packets the estimate falls on indices that were accepted before.
    ///
    /// # Errors
    /// As [`RxContext::unprotect_rtp`], and [`SrtpError::Replayed`] or [`SrtpError::TooOld`]. No cell of
    /// the window has changed then.
    pub fn receive_rtp<S: Publish>(
        &self,
        packet: &[u8],
        window: ReplayWindow<'_>,
        publish: &S,
        out: &mut [u8],
    ) -> Result<RtpReceived, SrtpError> {
        let seq = rtp_header(packet)?.seq;
        let mut outcome = self.receive_at(packet, window.guess(seq), window, publish, out);
        for index in window.guess_alternatives(seq) {
            match outcome {
                Err(SrtpError::AuthFailed | SrtpError::TooOld | SrtpError::Replayed) => {}
                _ => return outcome,
            }
            // When the alternative fails too, the estimate's reason tells more.
            if let opened @ Ok(_) = self.receive_at(packet, index, window, publish, out) {
                outcome = opened;
            }
        }
        outcome
    }

    fn receive_at<S: Publish>(
        &self,
        packet: &[u8],
        index: u64,
        window: ReplayWindow<'_>,
        publish: &S,
        out: &mut [u8],
    ) -> Result<RtpReceived, SrtpError> {
        window.check(index)?;
        let opened = self.unprotect_rtp(packet, index, out)?;
        window.accept_with(index, publish)?;
        Ok(RtpReceived { header_len: opened.header_len, payload_len: opened.payload_len, index })
    }

    /// Opens an SRTCP packet and accepts its index in `window`.
    ///
    /// # Errors
    /// As [`RxContext::unprotect_rtcp`], and [`SrtpError::Replayed`] or [`SrtpError::TooOld`]. No cell of
    /// the window has changed then, but `out` may hold the replayed packet's plaintext.
    pub fn receive_rtcp<S: Publish>(
        &self,
        packet: &[u8],
        window: ReplayWindow<'_>,
        publish: &S,
        out: &mut [u8],
    ) -> Result<RtcpOpened, SrtpError> {
        let opened = self.unprotect_rtcp(packet, out)?;
        window.accept_with(u64::from(opened.index), publish)?;
        Ok(opened)
    }
}
