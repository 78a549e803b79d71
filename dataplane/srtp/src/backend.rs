// SPDX-License-Identifier: Apache-2.0
//! Implementations of the packet transforms, and the one place where one of them is chosen.
//!
//! Bounds are proven before a backend is called ([`crate::TxContext`], [`crate::RxContext`]): it gets
//! slices of exactly the sizes named below. A backend must never keep a number between calls, write
//! to a source, allocate, or panic when a size is wrong all the same.

mod cm;
mod gcm;
#[cfg(target_arch = "x86_64")]
mod vector_gcm;

#[cfg(target_arch = "x86_64")]
use crate::kernels::{CmKey, Isa};
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
}

/// Opening side of a backend.
pub trait RtpOpener {
    /// Verifies `packet` and writes its payload to `payload`, which has exactly the payload's size.
    ///
    /// # Errors
    /// [`SrtpError::AuthFailed`], [`SrtpError::NoKey`], [`SrtpError::TooShort`] when sizes are wrong.
    fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError>;
}

/// Both sides of a backend for RTCP.
pub trait RtcpCipher {
    /// Seals in `packet`, which starts with the plaintext compound packet and has exactly the
    /// profile's RTCP overhead behind it. `index` is below 2^31.
    ///
    /// # Errors
    /// [`SrtpError::NoKey`], or [`SrtpError::NoRoom`] when sizes are wrong.
    fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError>;

    /// Verifies `packet` and writes the plaintext compound packet to `plain`, which has exactly its
    /// size; returns the index.
    ///
    /// # Errors
    /// [`SrtpError::Unencrypted`], [`SrtpError::AuthFailed`], [`SrtpError::NoKey`],
    /// [`SrtpError::TooShort`] when sizes are wrong.
    fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError>;
}

/// First bytes of an RTCP packet, which stay plaintext.
const RTCP_HEAD_LEN: usize = 8;
/// The bit before the SRTCP index that says the packet is encrypted.
const E_FLAG: u32 = 1 << 31;

/// AAD of SRTCP: the first eight bytes and the E‖index word (RFC 7714 §9.2).
fn rtcp_aad(head: [u8; RTCP_HEAD_LEN], word: u32) -> [u8; 12] {
    let [h0, h1, h2, h3, h4, h5, h6, h7] = head;
    let [w0, w1, w2, w3] = word.to_be_bytes();
    [h0, h1, h2, h3, h4, h5, h6, h7, w0, w1, w2, w3]
}

/// The implementations that exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// `aws-lc-rs` for GCM, `RustCrypto` for AES-CM and HMAC-SHA1.
    Portable,
    /// The kernels with vectors of 256 bits (AVX2, VAES, VPCLMULQDQ); AES-CM and HMAC-SHA1 as in `Portable`.
    Avx2,
    /// The kernels with vectors of 512 bits.
    Avx512,
}

impl Backend {
    /// All of them, best first.
    pub const ALL: [Self; 3] = [Self::Avx512, Self::Avx2, Self::Portable];

    /// Name for the operator.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Whether this machine runs it.
    #[must_use]
    pub fn is_available(self) -> bool {
        self == Self::Portable || isa_of(self).is_some()
    }
}

/// The implementation that contexts are made with on this machine: the best that runs.
#[must_use]
pub fn chosen() -> Backend {
    Backend::ALL.into_iter().find(|backend| backend.is_available()).unwrap_or(Backend::Portable)
}

#[cfg(target_arch = "x86_64")]
fn isa_of(backend: Backend) -> Option<Isa> {
    match backend {
        Backend::Portable => None,
        Backend::Avx2 => Isa::avx2(),
        Backend::Avx512 => Isa::avx512(),
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn isa_of(_: Backend) -> Option<core::convert::Infallible> {
    None
}

/// RTP session keys of one direction in the form that the chosen backend works with.
///
/// All variants lie in place: a context never touches the Rust heap.
#[expect(clippy::large_enum_variant, reason = "a box would be a heap allocation per context")]
pub(crate) enum Session {
    PortableGcm(gcm::GcmSession),
    PortableCm(cm::CmSession),
    #[cfg(target_arch = "x86_64")]
    VectorGcm(vector_gcm::GcmSession),
    /// One by one, or sixteen at once in lanes.
    #[cfg(target_arch = "x86_64")]
    LanesCm(cm::CmLanes),
}

/// RTCP session keys of one direction. The kernels' schedules are made for each packet: many transports hold these keys, and
/// each has few packets.
pub(crate) enum RtcpSession {
    PortableGcm(gcm::GcmRtcp),
    Cm(cm::CmRtcp),
    #[cfg(target_arch = "x86_64")]
    VectorGcm(vector_gcm::GcmRtcp),
}

/// `$call` on whichever session it is.
macro_rules! each {
    ($session:expr, $name:ident => $call:expr) => {
        match $session {
            Session::PortableGcm($name) => $call,
            Session::PortableCm($name) => $call,
            #[cfg(target_arch = "x86_64")]
            Session::VectorGcm($name) => $call,
            #[cfg(target_arch = "x86_64")]
            Session::LanesCm($name) => $call,
        }
    };
}

/// As `each`, for RTCP.
macro_rules! each_rtcp {
    ($session:expr, $name:ident => $call:expr) => {
        match $session {
            RtcpSession::PortableGcm($name) => $call,
            RtcpSession::Cm($name) => $call,
            #[cfg(target_arch = "x86_64")]
            RtcpSession::VectorGcm($name) => $call,
        }
    };
}

impl Session {
    /// On `backend`, or on the portable one where that has no kernel for the profile or does not run here.
    pub(crate) fn new(backend: Backend, master: &MasterKey) -> Self {
        match (isa_of(backend), master.profile()) {
            #[cfg(target_arch = "x86_64")]
            (Some(isa), Profile::AeadAes128Gcm | Profile::AeadAes256Gcm) => {
                Self::VectorGcm(vector_gcm::GcmSession::new(isa, master))
            }
            (_, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm) => Self::PortableGcm(gcm::GcmSession::new(master)),
            #[cfg(target_arch = "x86_64")]
            (Some(isa), Profile::AesCm128HmacSha1_80) if backend == Backend::Avx512 => {
                Self::LanesCm(cm::CmLanes::new(isa, master))
            }
            (_, Profile::AesCm128HmacSha1_80) => Self::PortableCm(cm::CmSession::new(master)),
        }
    }

    /// The profile that the keys are for.
    #[inline]
    pub(crate) fn profile(&self) -> Profile {
        match self {
            Self::PortableGcm(session) => session.profile(),
            Self::PortableCm(_) => Profile::AesCm128HmacSha1_80,
            #[cfg(target_arch = "x86_64")]
            Self::VectorGcm(session) => session.profile(),
            #[cfg(target_arch = "x86_64")]
            Self::LanesCm(_) => Profile::AesCm128HmacSha1_80,
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[inline]
    pub(crate) fn lane_key(&self) -> Option<&CmKey> {
        if let Self::LanesCm(lanes) = self { Some(lanes.key()) } else { None }
    }
}

impl RtpSealer for Session {
    fn backend_name(&self) -> &'static str {
        match self {
            Self::PortableGcm(_) | Self::PortableCm(_) => Backend::Portable.name(),
            #[cfg(target_arch = "x86_64")]
            Self::VectorGcm(session) => session.backend().name(),
            #[cfg(target_arch = "x86_64")]
            Self::LanesCm(_) => Backend::Avx512.name(),
        }
    }

    #[inline]
    fn seal_rtp<P: Plaintext>(
        &self,
        place: RtpPlace,
        packet: &mut [u8],
        prefix_len: usize,
        rest: P,
    ) -> Result<(), SrtpError> {
        each!(self, session => session.seal_rtp(place, packet, prefix_len, rest))
    }
}

impl RtpOpener for Session {
    fn open_rtp(&self, place: RtpPlace, packet: &[u8], payload: &mut [u8]) -> Result<(), SrtpError> {
        each!(self, session => session.open_rtp(place, packet, payload))
    }
}

impl RtcpSession {
    /// As [`Session::new`].
    pub(crate) fn new(backend: Backend, master: &MasterKey) -> Self {
        match (isa_of(backend), master.profile()) {
            #[cfg(target_arch = "x86_64")]
            (Some(isa), Profile::AeadAes128Gcm | Profile::AeadAes256Gcm) => {
                Self::VectorGcm(vector_gcm::GcmRtcp::new(isa, master))
            }
            (_, Profile::AeadAes128Gcm | Profile::AeadAes256Gcm) => Self::PortableGcm(gcm::GcmRtcp::new(master)),
            (_, Profile::AesCm128HmacSha1_80) => Self::Cm(cm::CmRtcp::new(master)),
        }
    }

    /// Bytes that protection adds to a packet.
    pub(crate) const fn overhead(&self) -> usize {
        match self {
            Self::PortableGcm(_) => Profile::AeadAes128Gcm.rtcp_overhead(),
            Self::Cm(_) => Profile::AesCm128HmacSha1_80.rtcp_overhead(),
            #[cfg(target_arch = "x86_64")]
            Self::VectorGcm(_) => Profile::AeadAes128Gcm.rtcp_overhead(),
        }
    }
}

impl RtcpCipher for RtcpSession {
    fn seal_rtcp(&self, ssrc: u32, index: u32, packet: &mut [u8]) -> Result<(), SrtpError> {
        each_rtcp!(self, session => session.seal_rtcp(ssrc, index, packet))
    }

    fn open_rtcp(&self, ssrc: u32, packet: &[u8], plain: &mut [u8]) -> Result<u32, SrtpError> {
        each_rtcp!(self, session => session.open_rtcp(ssrc, packet, plain))
    }
}
