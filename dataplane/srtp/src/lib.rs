// SPDX-License-Identifier: Apache-2.0
//! SRTP and SRTCP (RFC 3711, RFC 7714) from a source that stays unchanged into a lent buffer.
//!
//! ```text
//!  MasterKey ──KDF──▶ TxContext / RxContext      keys only: no sequence number lives here
//!                          │
//!  durable record ─index──▶│                     ROC‖seq, SRTCP index, ReplayWindow: the caller's
//!                          ▼
//!  Plaintext (shared) ─▶ lent `out`              sealed packet, one per receiver
//! ```
//!
//! The crate must never: keep a number that decides a nonce, write to a source, allocate after a
//! context is made, panic on any input, log, or print a key. All packet calls take `&self`.
//!
//! Which implementation runs is decided in one place, [`backend::chosen`].
#![deny(unsafe_code)]
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing,
        reason = "tests fail by panicking"
    )
)]

pub mod backend;
mod batch;
mod context;
mod derive;
mod error;
mod header;
#[cfg(test)]
mod hex;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "the island: vector instructions and raw memory")]
mod kernels;
mod plaintext;
mod profile;
mod replay;
mod tracked;

pub use batch::{BATCH, BATCH_LEAST, Sealing, protect_rtp_batch};
pub use context::{RtcpOpened, RtcpRxContext, RtpOpened, RxContext, TxContext};
pub use error::SrtpError;
pub use plaintext::{Plaintext, SharedBytes};
pub use profile::{KeyError, MasterKey, Profile, split_exporter};
pub use replay::{Direct, Publish, Replay, ReplayWindow};
pub use tracked::RtpReceived;

/// Highest RTP packet index, 2^48 − 1 (RFC 3711 §3.3.1: 32-bit ROC, 16-bit sequence number).
pub const MAX_RTP_INDEX: u64 = (1 << 48) - 1;

/// Highest SRTCP index, 2^31 − 1 (RFC 3711 §3.4).
pub const MAX_RTCP_INDEX: u32 = (1 << 31) - 1;

/// Longest packet, in bytes, that is protected or unprotected (a UDP payload).
pub const MAX_PACKET_LEN: usize = 65_535;
