// SPDX-License-Identifier: Apache-2.0
//! Why a packet is not protected or unprotected. Values only: nothing here formats packet bytes.

use crate::Replay;

/// Reason for refusing one packet. The caller counts it; no state has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SrtpError {
    /// Shorter than the fixed header plus the profile's overhead.
    #[error("packet too short")]
    TooShort,
    /// Longer than [`MAX_PACKET_LEN`](crate::MAX_PACKET_LEN), header included.
    #[error("packet too long")]
    TooLong,
    /// Version is not 2, or CSRC list or header extension reach beyond the packet, or the given
    /// header length is not the header's.
    #[error("bad header")]
    BadHeader,
    /// The header's sequence number is not the low 16 bits of the index.
    #[error("index does not match the header")]
    IndexMismatch,
    /// The tag does not verify: forged, damaged, wrong key or wrong index.
    #[error("authentication failed")]
    AuthFailed,
    /// The index was accepted before.
    #[error("replayed")]
    Replayed,
    /// The index is older than the replay window.
    #[error("older than the replay window")]
    TooOld,
    /// The index is above 2^48 − 1 (RTP) or 2^31 − 1 (RTCP): the key must be replaced.
    #[error("index space exhausted")]
    Exhausted,
    /// The lent buffer is too small.
    #[error("no room in the output buffer")]
    NoRoom,
    /// SRTCP with the E bit clear.
    #[error("unencrypted SRTCP")]
    Unencrypted,
    /// The crypto library could not make this context's key schedule.
    #[error("no key schedule")]
    NoKey,
}

impl From<Replay> for SrtpError {
    fn from(replay: Replay) -> Self {
        match replay {
            Replay::Seen => Self::Replayed,
            Replay::TooOld => Self::TooOld,
            Replay::Exhausted => Self::Exhausted,
        }
    }
}
