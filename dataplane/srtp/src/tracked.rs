// SPDX-License-Identifier: Apache-2.0
//! Receiving with a replay window: estimate, check, verify, accept, in the only order that is safe.

use core::sync::atomic::AtomicU64;

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
        let _ = (packet, window, publish, out, AtomicU64::new(0));
        Err(SrtpError::NoKey)
    }

    /// Opens an SRTCP packet and accepts its index in `window`.
    ///
    /// # Errors
    /// As [`RxContext::unprotect_rtcp`], and [`SrtpError::Replayed`] or [`SrtpError::TooOld`]. No cell of
    /// the window has changed then.
    pub fn receive_rtcp<S: Publish>(
        &self,
        packet: &[u8],
        window: ReplayWindow<'_>,
        publish: &S,
        out: &mut [u8],
    ) -> Result<RtcpOpened, SrtpError> {
        let _ = (packet, window, publish, out);
        Err(SrtpError::NoKey)
    }
}
