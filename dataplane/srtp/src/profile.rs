// SPDX-License-Identifier: Apache-2.0
//! Protection profiles and master keys. A master key is wiped on drop and never printed.

use core::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Longest master key in bytes (AES-256).
pub(crate) const MAX_KEY_LEN: usize = 32;
/// Longest master salt in bytes (AES-CM, RFC 3711 §8.2).
pub(crate) const MAX_SALT_LEN: usize = 14;

/// An SRTP protection profile of the DTLS-SRTP registry (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    /// `SRTP_AEAD_AES_128_GCM`, 0x0007.
    AeadAes128Gcm,
    /// `SRTP_AEAD_AES_256_GCM`, 0x0008.
    AeadAes256Gcm,
    /// `SRTP_AES128_CM_HMAC_SHA1_80`, 0x0001.
    AesCm128HmacSha1_80,
}

impl Profile {
    /// All profiles, best first.
    pub const ALL: [Self; 3] = [Self::AeadAes128Gcm, Self::AeadAes256Gcm, Self::AesCm128HmacSha1_80];

    /// Profile of an IANA DTLS-SRTP code point, if it is one of ours.
    #[must_use]
    pub const fn from_iana(code: u16) -> Option<Self> {
        match code {
            0x0007 => Some(Self::AeadAes128Gcm),
            0x0008 => Some(Self::AeadAes256Gcm),
            0x0001 => Some(Self::AesCm128HmacSha1_80),
            _ => None,
        }
    }

    /// IANA DTLS-SRTP code point.
    #[must_use]
    pub const fn iana(self) -> u16 {
        match self {
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
            Self::AesCm128HmacSha1_80 => 0x0001,
        }
    }

    /// The registry's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            Self::AesCm128HmacSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        }
    }

    /// Master (and session) key length in bytes.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Master (and session) salt length in bytes.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// Bytes that protection adds to an RTP packet (the tag).
    #[must_use]
    pub const fn rtp_overhead(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::AesCm128HmacSha1_80 => 10,
        }
    }

    /// Bytes that protection adds to an RTCP packet (the tag and the E‖index word).
    #[must_use]
    pub const fn rtcp_overhead(self) -> usize {
        self.rtp_overhead() + 4
    }

    /// Length in bytes of the RFC 5764 §4.2 exporter output: two keys and two salts.
    #[must_use]
    pub const fn exporter_len(self) -> usize {
        2 * (self.key_len() + self.salt_len())
    }
}

/// Why key material is refused. It names lengths, never bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The key has the wrong length.
    #[error("master key has {got} bytes, {want} wanted")]
    KeyLength {
        /// Bytes given.
        got: usize,
        /// Bytes that the profile wants.
        want: usize,
    },
    /// The salt has the wrong length.
    #[error("master salt has {got} bytes, {want} wanted")]
    SaltLength {
        /// Bytes given.
        got: usize,
        /// Bytes that the profile wants.
        want: usize,
    },
    /// The exporter output is too short.
    #[error("exporter output has {got} bytes, {want} wanted")]
    ExporterLength {
        /// Bytes given.
        got: usize,
        /// Bytes that the profile wants.
        want: usize,
    },
}

/// Master key and salt of one direction. Wiped on drop; [`Debug`] prints the profile only.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey {
    #[zeroize(skip)]
    profile: Profile,
    key: [u8; MAX_KEY_LEN],
    salt: [u8; MAX_SALT_LEN],
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

impl MasterKey {
    /// Copies a master key and salt.
    ///
    /// # Errors
    /// When a length is not the profile's.
    pub fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Result<Self, KeyError> {
        let mut master = Self { profile, key: [0; MAX_KEY_LEN], salt: [0; MAX_SALT_LEN] };
        match master.key.get_mut(..profile.key_len()) {
            Some(to) if to.len() == key.len() => to.copy_from_slice(key),
            _ => return Err(KeyError::KeyLength { got: key.len(), want: profile.key_len() }),
        }
        match master.salt.get_mut(..profile.salt_len()) {
            Some(to) if to.len() == salt.len() => to.copy_from_slice(salt),
            _ => return Err(KeyError::SaltLength { got: salt.len(), want: profile.salt_len() }),
        }
        Ok(master)
    }

    /// The profile this key is for.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Key bytes, for the records of the keys section.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        self.key.get(..self.profile.key_len()).unwrap_or(&[])
    }

    /// Salt bytes, for the records of the keys section.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        self.salt.get(..self.profile.salt_len()).unwrap_or(&[])
    }

    /// Key padded with zeros on the right to 256 bits.
    pub(crate) fn padded_key(&self) -> &[u8; MAX_KEY_LEN] {
        &self.key
    }

    /// Salt padded with zeros on the right to 112 bits, as the KDF wants it.
    pub(crate) fn padded_salt(&self) -> &[u8; MAX_SALT_LEN] {
        &self.salt
    }
}

/// Splits RFC 5764 §4.2 exporter output (client key, server key, client salt, server salt) into
/// the (client, server) master keys: the DTLS client protects with the first, the server with the
/// second. Longer output than needed is accepted, the rest ignored.
///
/// # Errors
/// When `material` is shorter than [`Profile::exporter_len`].
pub fn split_exporter(profile: Profile, material: &[u8]) -> Result<(MasterKey, MasterKey), KeyError> {
    let short = KeyError::ExporterLength { got: material.len(), want: profile.exporter_len() };
    let (client_key, rest) = material.split_at_checked(profile.key_len()).ok_or(short)?;
    let (server_key, rest) = rest.split_at_checked(profile.key_len()).ok_or(short)?;
    let (client_salt, rest) = rest.split_at_checked(profile.salt_len()).ok_or(short)?;
    let server_salt = rest.get(..profile.salt_len()).ok_or(short)?;
    Ok((MasterKey::new(profile, client_key, client_salt)?, MasterKey::new(profile, server_key, server_salt)?))
}
