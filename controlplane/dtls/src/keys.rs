// SPDX-License-Identifier: Apache-2.0
//! SRTP master keys and salts as the handshake yields them. They are wiped on drop and must never be printed.

use std::fmt;

use zeroize::Zeroizing;

/// An SRTP protection profile by its IANA number ("DTLS-SRTP Protection Profiles").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SrtpProfileId(pub u16);

impl SrtpProfileId {
    /// `SRTP_AES128_CM_HMAC_SHA1_80` (RFC 5764 §4.1.2).
    pub const AES_CM_128_HMAC_SHA1_80: Self = Self(0x0001);
    /// `SRTP_AEAD_AES_128_GCM` (RFC 7714 §14.2).
    pub const AEAD_AES_128_GCM: Self = Self(0x0007);
    /// `SRTP_AEAD_AES_256_GCM` (RFC 7714 §14.2).
    pub const AEAD_AES_256_GCM: Self = Self(0x0008);

    /// Lengths of (master key, master salt) in bytes; `None` for a profile this crate does not negotiate.
    #[must_use]
    pub const fn key_and_salt_len(self) -> Option<(usize, usize)> {
        match self {
            Self::AES_CM_128_HMAC_SHA1_80 => Some((16, 14)),
            Self::AEAD_AES_128_GCM => Some((16, 12)),
            Self::AEAD_AES_256_GCM => Some((32, 12)),
            Self(_) => None,
        }
    }
}

/// Master key and salt of one direction. Wiped on drop; `Debug` shows lengths only.
#[derive(Clone)]
pub struct KeyHalf {
    /// SRTP master key; its length follows from the profile.
    pub key: Zeroizing<Vec<u8>>,
    /// SRTP master salt; 14 bytes for AES-CM, 12 for AEAD GCM.
    pub salt: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for KeyHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyHalf").field("key_len", &self.key.len()).field("salt_len", &self.salt.len()).finish()
    }
}

/// Splits the RFC 5764 §4.2 exporter output into (client's half, server's half).
///
/// The order on the wire is client key, server key, client salt, server salt. `None` if the profile is unknown or the
/// length does not fit it.
pub(crate) fn split(profile: SrtpProfileId, material: &[u8]) -> Option<(KeyHalf, KeyHalf)> {
    let (key_len, salt_len) = profile.key_and_salt_len()?;
    if material.len() != 2 * (key_len + salt_len) {
        return None;
    }
    let (keys, salts) = material.split_at(2 * key_len);
    let (client_key, server_key) = keys.split_at(key_len);
    let (client_salt, server_salt) = salts.split_at(salt_len);
    let half =
        |key: &[u8], salt: &[u8]| KeyHalf { key: Zeroizing::new(key.to_vec()), salt: Zeroizing::new(salt.to_vec()) };
    Some((half(client_key, client_salt), half(server_key, server_salt)))
}

#[cfg(test)]
mod tests {
    use super::{SrtpProfileId, split};

    // RFC 5764 §4.2
    #[test]
    fn material_is_split_as_keys_then_salts() {
        let material: Vec<u8> = (0..60).collect();
        let (client, server) = split(SrtpProfileId::AES_CM_128_HMAC_SHA1_80, &material).expect("fits");
        assert_eq!(client.key[..], material[..16]);
        assert_eq!(server.key[..], material[16..32]);
        assert_eq!(client.salt[..], material[32..46]);
        assert_eq!(server.salt[..], material[46..]);
        assert!(split(SrtpProfileId::AEAD_AES_128_GCM, &material).is_none(), "56 bytes expected");
        assert!(split(SrtpProfileId(0x0002), &material).is_none(), "profile is not ours");
    }

    #[test]
    fn debug_output_holds_no_key_bytes() {
        let (client, _) = split(SrtpProfileId::AEAD_AES_128_GCM, &[0xAB; 56]).expect("fits");
        let text = format!("{client:?}");
        assert_eq!(text, "KeyHalf { key_len: 16, salt_len: 12 }");
    }
}
