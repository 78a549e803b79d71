// SPDX-License-Identifier: Apache-2.0
//! SRTP sessions by `webrtc-srtp`, for what the server sends: other code than the server's, so that each checks the other.

use anyhow::{Context as _, Result};
use dataplane_table::{Cipher, Keys};
pub use webrtc_srtp::context::Context;
use webrtc_srtp::option::{srtcp_no_replay_protection, srtp_no_replay_protection};
use webrtc_srtp::protection_profile::ProtectionProfile;

/// Which end of a transport.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// What the server receives.
    ToServer,
    /// What the server sends.
    FromServer,
}

/// A session with the keys of one direction.
///
/// # Errors
/// When the keys do not fit the profile.
pub fn open(cipher: Cipher, keys: &Keys, end: End) -> Result<Context> {
    let profile = match cipher {
        Cipher::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Cipher::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Cipher::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
    };
    let (key, salt) = match end {
        End::ToServer => (&keys.rx_key, &keys.rx_salt),
        End::FromServer => (&keys.tx_key, &keys.tx_salt),
    };
    // What was sampled comes once and far apart: a window has nothing to remember.
    Context::new(key, salt, profile, Some(srtp_no_replay_protection()), Some(srtcp_no_replay_protection()))
        .context("SRTP keys")
}
