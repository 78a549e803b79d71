// SPDX-License-Identifier: Apache-2.0
//! Sending and receiving contexts: bounds first, then the backend. A context holds keys and
//! nothing else; two threads may use one context at the same time.

use core::fmt;

use crate::backend::{self, Backend, RtcpCipher as _, RtcpSession, RtpOpener as _, RtpPlace, RtpSealer as _, Session};
use crate::header::{rtcp_ssrc, rtp_header};
use crate::{MAX_PACKET_LEN, MAX_RTCP_INDEX, MAX_RTP_INDEX, MasterKey, Plaintext, Profile, SrtpError};

/// Where the plaintext of an opened RTP packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpOpened {
    /// Bytes of the packet's header with CSRCs and extension; they are plaintext in the source.
    pub header_len: usize,
    /// Bytes of payload written to the start of `out`, RTP padding included.
    pub payload_len: usize,
}

/// Where the plaintext of an opened RTCP compound packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtcpOpened {
    /// Bytes of the compound packet written to the start of `out`, headers included.
    pub len: usize,
    /// Verified SRTCP index, for the caller's replay window.
    pub index: u32,
}

/// Session keys for sending. Those of RTP come first, so that they start a line and prefetching knows where they are.
#[repr(C)]
pub struct TxContext {
    session: Session,
    rtcp: RtcpSession,
}

/// Bytes of a context that sealing RTP reads: a tag, powers and round keys, and who runs them.
#[cfg(target_arch = "x86_64")]
const HOT_LEN: usize = 64 + size_of::<crate::kernels::GcmKey>() + 64;

/// Session keys for receiving.
pub struct RxContext {
    session: Session,
    rtcp: RtcpRxContext,
}

/// Session keys for receiving SRTCP alone: a tenth of an [`RxContext`], for peers that send no media.
pub struct RtcpRxContext {
    session: RtcpSession,
}

// A server holds one of these for each peer.
const _: () = assert!(size_of::<TxContext>() <= 1024 && size_of::<RtcpRxContext>() <= 64);

impl fmt::Debug for TxContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxContext").field("profile", &self.profile()).finish_non_exhaustive()
    }
}

impl fmt::Debug for RxContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxContext").field("profile", &self.profile()).finish_non_exhaustive()
    }
}

impl TxContext {
    /// Derives the session keys (RFC 3711 §4.3, key derivation rate 0).
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self::on(backend::chosen(), master)
    }

    /// As [`new`](Self::new) on a given implementation, for tests and measurements; where it does not run, the context
    /// is portable.
    #[must_use]
    pub fn on(backend: Backend, master: &MasterKey) -> Self {
        Self { session: Session::new(backend, master), rtcp: RtcpSession::new(backend, master) }
    }

    /// The profile in use.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.session.profile()
    }

    /// Which implementation this context runs on.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        self.session.backend_name()
    }

    /// Asks the processor to bring the keys into its cache. A loop over receivers calls it one or two
    /// receivers ahead; it changes nothing and may do nothing.
    #[inline]
    pub fn prefetch(&self) {
        #[cfg(target_arch = "x86_64")]
        crate::kernels::prefetch(self, HOT_LEN);
    }

    /// Seals one RTP packet in `out` and returns its length.
    ///
    /// `out[..head_len]` holds the RTP header with CSRCs and extension, `out[head_len..][..prefix_len]`
    /// the patched plaintext bytes of the payload's start; `rest` is the remaining payload, shared and
    /// left unchanged. `index` is ROC << 16 | sequence number and must be unique for this key and
    /// SSRC: the caller spends it before this call, whatever the call returns.
    ///
    /// # Errors
    /// [`SrtpError::Exhausted`] above 2^48 − 1, [`SrtpError::NoRoom`], [`SrtpError::TooShort`] when
    /// `head_len` is below 12, [`SrtpError::BadHeader`] when `head_len` is not the header's length,
    /// [`SrtpError::IndexMismatch`], [`SrtpError::TooLong`], [`SrtpError::NoKey`]. `out` is then unusable
    /// and nothing of it may be sent.
    pub fn protect_rtp<P: Plaintext>(
        &self,
        index: u64,
        out: &mut [u8],
        head_len: usize,
        prefix_len: usize,
        rest: P,
    ) -> Result<usize, SrtpError> {
        let (place, packet) = self.rtp_layout(index, out, head_len, prefix_len, rest.len())?;
        let total = packet.len();
        self.session.seal_rtp(place, packet, prefix_len, rest)?;
        Ok(total)
    }

    /// The bounds of [`protect_rtp`](Self::protect_rtp): where the packet stands, and exactly its bytes.
    #[inline]
    pub(crate) fn rtp_layout<'o>(
        &self,
        index: u64,
        out: &'o mut [u8],
        head_len: usize,
        prefix_len: usize,
        rest_len: usize,
    ) -> Result<(RtpPlace, &'o mut [u8]), SrtpError> {
        if index > MAX_RTP_INDEX {
            return Err(SrtpError::Exhausted);
        }
        let clear_len = head_len
            .checked_add(prefix_len)
            .and_then(|len| len.checked_add(rest_len))
            .filter(|len| *len <= MAX_PACKET_LEN)
            .ok_or(SrtpError::TooLong)?;
        let total = clear_len + self.session.profile().rtp_overhead();
        if total > MAX_PACKET_LEN {
            return Err(SrtpError::TooLong);
        }
        let packet = out.get_mut(..total).ok_or(SrtpError::NoRoom)?;
        let header = rtp_header(packet.get(..head_len).ok_or(SrtpError::NoRoom)?)?;
        if header.len != head_len {
            return Err(SrtpError::BadHeader);
        }
        if u64::from(header.seq) != index & 0xffff {
            return Err(SrtpError::IndexMismatch);
        }
        Ok((RtpPlace { ssrc: header.ssrc, index, head_len }, packet))
    }

    /// Whether packets of this context are worth gathering for [`protect_rtp_batch`](crate::protect_rtp_batch).
    #[inline]
    #[must_use]
    pub fn has_lanes(&self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.lane_key().is_some();
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// Keys for the lanes of a batch, where this context has such.
    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn lane_key(&self) -> Option<&crate::kernels::CmKey> {
        self.session.lane_key()
    }

    /// Seals one RTCP compound packet from `plain` into `out` and returns its length.
    ///
    /// `index` has 31 bits and must be unique for this key; the caller spends it before this call.
    /// The packet is always encrypted (E = 1).
    ///
    /// # Errors
    /// [`SrtpError::Exhausted`] above 2^31 − 1 (it never wraps), [`SrtpError::TooShort`] below 8 bytes,
    /// [`SrtpError::BadHeader`], [`SrtpError::TooLong`], [`SrtpError::NoRoom`], [`SrtpError::NoKey`].
    pub fn protect_rtcp(&self, index: u32, plain: &[u8], out: &mut [u8]) -> Result<usize, SrtpError> {
        if index > MAX_RTCP_INDEX {
            return Err(SrtpError::Exhausted);
        }
        let ssrc = rtcp_ssrc(plain)?;
        let total = plain
            .len()
            .checked_add(self.rtcp.overhead())
            .filter(|len| *len <= MAX_PACKET_LEN)
            .ok_or(SrtpError::TooLong)?;
        let packet = out.get_mut(..total).ok_or(SrtpError::NoRoom)?;
        packet.get_mut(..plain.len()).ok_or(SrtpError::NoRoom)?.copy_from_slice(plain);
        self.rtcp.seal_rtcp(ssrc, index, packet)?;
        Ok(total)
    }
}

impl RxContext {
    /// Derives the session keys (RFC 3711 §4.3, key derivation rate 0).
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self::on(backend::chosen(), master)
    }

    /// As [`new`](Self::new) on a given implementation, for tests and measurements; where it does not run, the context
    /// is portable.
    #[must_use]
    pub fn on(backend: Backend, master: &MasterKey) -> Self {
        Self { session: Session::new(backend, master), rtcp: RtcpRxContext::on(backend, master) }
    }

    /// The profile in use.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.session.profile()
    }

    /// Which implementation this context runs on.
    #[must_use]
    pub fn backend_name(&self) -> &'static str {
        self.session.backend_name()
    }

    /// Verifies `packet` at `index` (ROC << 16 | sequence number) and writes its plaintext payload to
    /// the start of `out`; the source stays unchanged, RTP padding is not removed.
    ///
    /// No state is read or written. After an error the payload's range of `out` is untouched or
    /// unspecified, never plaintext to be used.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`], [`SrtpError::TooLong`], [`SrtpError::BadHeader`], [`SrtpError::NoRoom`],
    /// [`SrtpError::IndexMismatch`], [`SrtpError::Exhausted`], [`SrtpError::AuthFailed`], [`SrtpError::NoKey`].
    pub fn unprotect_rtp(&self, packet: &[u8], index: u64, out: &mut [u8]) -> Result<RtpOpened, SrtpError> {
        if index > MAX_RTP_INDEX {
            return Err(SrtpError::Exhausted);
        }
        if packet.len() > MAX_PACKET_LEN {
            return Err(SrtpError::TooLong);
        }
        let clear_len = packet.len().checked_sub(self.session.profile().rtp_overhead()).ok_or(SrtpError::TooShort)?;
        let header = rtp_header(packet.get(..clear_len).ok_or(SrtpError::TooShort)?)?;
        if u64::from(header.seq) != index & 0xffff {
            return Err(SrtpError::IndexMismatch);
        }
        let payload_len = clear_len.checked_sub(header.len).ok_or(SrtpError::BadHeader)?;
        let payload = out.get_mut(..payload_len).ok_or(SrtpError::NoRoom)?;
        let place = RtpPlace { ssrc: header.ssrc, index, head_len: header.len };
        self.session.open_rtp(place, packet, payload)?;
        Ok(RtpOpened { header_len: header.len, payload_len })
    }

    /// As [`RtcpRxContext::unprotect_rtcp`].
    ///
    /// # Errors
    /// As there.
    pub fn unprotect_rtcp(&self, packet: &[u8], out: &mut [u8]) -> Result<RtcpOpened, SrtpError> {
        self.rtcp.unprotect_rtcp(packet, out)
    }
}

impl fmt::Debug for RtcpRxContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RtcpRxContext").finish_non_exhaustive()
    }
}

impl RtcpRxContext {
    /// Derives the session keys (RFC 3711 §4.3, key derivation rate 0).
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        Self::on(backend::chosen(), master)
    }

    /// As [`TxContext::on`].
    #[must_use]
    pub fn on(backend: Backend, master: &MasterKey) -> Self {
        Self { session: RtcpSession::new(backend, master) }
    }

    /// Verifies an SRTCP packet and writes the whole plaintext compound packet to the start of `out`.
    ///
    /// The caller checks the returned index against its replay window before it uses the packet.
    /// SRTCP with E = 0 is refused for every profile: no browser sends it, WebRTC demands encryption
    /// (RFC 8827 §6.5), and a second parse of the same bytes is the path on which others were broken.
    ///
    /// # Errors
    /// [`SrtpError::TooShort`] below 8 bytes plus overhead, [`SrtpError::TooLong`],
    /// [`SrtpError::BadHeader`], [`SrtpError::Unencrypted`], [`SrtpError::NoRoom`],
    /// [`SrtpError::AuthFailed`], [`SrtpError::NoKey`].
    pub fn unprotect_rtcp(&self, packet: &[u8], out: &mut [u8]) -> Result<RtcpOpened, SrtpError> {
        if packet.len() > MAX_PACKET_LEN {
            return Err(SrtpError::TooLong);
        }
        let len = packet.len().checked_sub(self.session.overhead()).ok_or(SrtpError::TooShort)?;
        let ssrc = rtcp_ssrc(packet.get(..len).ok_or(SrtpError::TooShort)?)?;
        let plain = out.get_mut(..len).ok_or(SrtpError::NoRoom)?;
        let index = self.session.open_rtcp(ssrc, packet, plain)?;
        Ok(RtcpOpened { len, index })
    }
}
