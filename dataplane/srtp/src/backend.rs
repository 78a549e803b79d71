// SPDX-License-Identifier: Apache-2.0
//! Implementations of the packet transforms, and the one place where one of them is chosen.
//!
//! Bounds are proven before a backend is called ([`crate::TxContext`], [`crate::RxContext`]): it gets
//! slices of exactly the sizes named below. A backend must never keep a number between calls, write
//! to a source, allocate, or panic when a size is wrong all the same.

mod cm;
mod gcm;

use crate::{MasterKey, Plaintext, Profile, SrtpError};

/// Where an RTP packet stands in its stream and how it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPlace {
    /// SSRC of the header.
    pub ssrc: u32,
    /// ROC << 16 | sequence number, at most 2^48 − 1.
    pub index: u64,
    /// Bytes of header with CSRCs and extension.
    pub head_len: usize,
}

/// Sealing side of a backend.
pub trait RtpSealer {
    /// Name for the operator.
    fn backend_name(&self) -> &'static str;

    /// Seals in `packet`, which is exactly header, prefix, `rest` and tag long; header and
    /// `prefix_len` payload bytes are there as plaintext.
    ///
    /// # Errors
    /// [`SrtpError::NoKey`], or [`SrtpError::NoRoom`] when sizes are wrong.
    fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError>;

    /// Seals in `packet`, which starts with the plaintext compound packet and has exactly the
    /// profile's RTCP overhead behind it. `index` is below 2^31.
    ///
    /// # Errors
    /// [`SrtpError::NoKey`], or [`SrtpError::NoRoom`] when sizes are wrong.
    fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError>;
}

/// Opening side of a backend.
pub trait RtpOpener {
    /// Verifies `packet` and writes its payload to `payload`, which has exactly the payload's size.
    ///
    /// # Errors
    /// [`SrtpError::AuthFailed`], [`SrtpError::NoKey`], [`SrtpError::TooShort`] when sizes are wrong.
    fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError>;

    /// Verifies `packet` and writes the plaintext compound packet to `plain`, which has exactly its
    /// size; returns the index.
    ///
    /// # Errors
    /// [`SrtpError::Unencrypted`], [`SrtpError::AuthFailed`], [`SrtpError::NoKey`],
    /// [`SrtpError::TooShort`] when sizes are wrong.
    fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError>;
}

/// The implementations that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `aws-lc-rs` for GCM, `RustCrypto` for AES-CM and HMAC-SHA1.
    Portable,
}

impl Backend {
    /// Name for the operator.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
        }
    }
}

/// The implementation that contexts are made with on this machine.
#[must_use]
pub fn chosen() -> Backend {
    Backend::Portable
}

/// Session keys of one direction in the form that the chosen backend works with.
///
/// Both variants lie in place: a context never touches the Rust heap.
#[expect(clippy::large_enum_variant, reason = "a box would be a heap allocation per context")]
pub(crate) enum Session {
    PortableGcm(gcm::GcmSession),
    PortableCm(cm::CmSession),
}

impl Session {
    pub(crate) fn new(backend: Backend, master: &MasterKey) -> Self {
        match (backend, master.profile()) {
            (Backend::Portable, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm) => {
                Self::PortableGcm(gcm::GcmSession::new(master))
            }
            (Backend::Portable, Profile::AesCm128HmacSha1_80) => Self::PortableCm(cm::CmSession::new(master)),
        }
    }
}

impl RtpSealer for Session {
    fn backend_name(&self) -> &'static str {
        match self {
            Self::PortableGcm(_) | Self::PortableCm(_) => Backend::Portable.name(),
        }
    }

    fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError> {
        match self {
            Self::PortableGcm(session) => session.seal_rtp(place, packet, prefix_len, rest),
            Self::PortableCm(session) => session.seal_rtp(place, packet, prefix_len, rest),
        }
    }

    fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        match self {
            Self::PortableGcm(session) => session.seal_rtcp(ssrc, index, packet),
            Self::PortableCm(session) => session.seal_rtcp(ssrc, index, packet),
        }
    }
}

impl RtpOpener for Session {
    fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        match self {
            Self::PortableGcm(session) => session.open_rtp(place, packet, payload),
            Self::PortableCm(session) => session.open_rtp(place, packet, payload),
        }
    }

    fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError> {
        match self {
            Self::PortableGcm(session) => session.open_rtcp(ssrc, packet, plain),
            Self::PortableCm(session) => session.open_rtcp(ssrc, packet, plain),
        }
    }
}
