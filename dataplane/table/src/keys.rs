// SPDX-License-Identifier: Apache-2.0
//! SRTP master keys of a table's transports: given in hex, or derived from the seed.

use core::fmt;
use core::str::FromStr;

use serde::{Deserialize, Serialize};

/// SRTP protection profile.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Cipher {
    /// RFC 7714.
    #[default]
    #[serde(rename = "AEAD_AES_128_GCM")]
    AeadAes128Gcm,
    /// RFC 7714.
    #[serde(rename = "AEAD_AES_256_GCM")]
    AeadAes256Gcm,
    /// RFC 3711.
    #[serde(rename = "AES_CM_128_HMAC_SHA1_80")]
    AesCm128HmacSha1_80,
}

impl Cipher {
    /// Bytes of a master key.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AesCm128HmacSha1_80 => 16,
            Self::AeadAes256Gcm => 32,
        }
    }

    /// Bytes of a master salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::AesCm128HmacSha1_80 => 14,
        }
    }

    /// Its name in the IANA registry of DTLS-SRTP protection profiles, without the prefix.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
        }
    }
}

/// There is no such cipher.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("there is no cipher {0:?}: aes128gcm, aes256gcm, sha1")]
pub struct UnknownCipher(String);

/// From the short name that command lines have.
impl FromStr for Cipher {
    type Err = UnknownCipher;

    fn from_str(name: &str) -> Result<Self, UnknownCipher> {
        Ok(match name {
            "aes128gcm" => Self::AeadAes128Gcm,
            "aes256gcm" => Self::AeadAes256Gcm,
            "sha1" => Self::AesCm128HmacSha1_80,
            other => return Err(UnknownCipher(other.to_owned())),
        })
    }
}

/// Master keys of one transport, as the server sees them: `rx` of what it receives, `tx` of what it sends. Does not print.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Master key of what the server receives.
    pub rx_key: Vec<u8>,
    /// Master salt of what the server receives.
    pub rx_salt: Vec<u8>,
    /// Master key of what the server sends.
    pub tx_key: Vec<u8>,
    /// Master salt of what the server sends.
    pub tx_salt: Vec<u8>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys(…)")
    }
}

impl Keys {
    /// The keys of transport `number` of a table without keys: SplitMix64 from `seed + number`, key and salt of what is
    /// received first, then key and salt of what is sent, each word little-endian and each part from a fresh word.
    #[must_use]
    pub fn derived(cipher: Cipher, seed: u64, number: u64) -> Self {
        let mut state = seed.wrapping_add(number.wrapping_mul(0x1000_0000_01b3));
        let mut part = |len: usize| {
            let mut bytes = Vec::with_capacity(len + 8);
            while bytes.len() < len {
                bytes.extend_from_slice(&split_mix(&mut state).to_le_bytes());
            }
            bytes.truncate(len);
            bytes
        };
        let (key, salt) = (cipher.key_len(), cipher.salt_len());
        Self { rx_key: part(key), rx_salt: part(salt), tx_key: part(key), tx_salt: part(salt) }
    }

    /// Keys given as hex of key followed by salt, as SDES writes them (RFC 4568 §6.1, there in base64).
    pub(crate) fn given(cipher: Cipher, rx: &str, tx: &str) -> Option<Self> {
        let (rx, tx) = (from_hex(rx)?, from_hex(tx)?);
        let whole = cipher.key_len() + cipher.salt_len();
        if rx.len() != whole || tx.len() != whole {
            return None;
        }
        let (rx_key, rx_salt) = rx.split_at(cipher.key_len());
        let (tx_key, tx_salt) = tx.split_at(cipher.key_len());
        Some(Self {
            rx_key: rx_key.to_vec(),
            rx_salt: rx_salt.to_vec(),
            tx_key: tx_key.to_vec(),
            tx_salt: tx_salt.to_vec(),
        })
    }
}

/// Steele, Lea, Flood: "Fast splittable pseudorandom number generators" (2014). Never for secrets.
fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len() / 2).map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_keys_are_the_same_for_everybody_and_differ_between_transports() {
        let of = |number| Keys::derived(Cipher::AeadAes128Gcm, 7, number);
        assert_eq!(of(3), of(3));
        assert_ne!(of(3).rx_key, of(4).rx_key);
        assert_ne!(of(3).rx_key, of(3).tx_key);
        assert_ne!(of(3), Keys::derived(Cipher::AeadAes128Gcm, 8, 3));
        let keys = Keys::derived(Cipher::AeadAes256Gcm, 7, 0);
        assert_eq!((keys.rx_key.len(), keys.rx_salt.len()), (32, 12));
        assert_eq!(format!("{keys:?}"), "Keys(…)");
    }

    #[test]
    fn a_cipher_has_a_short_name() {
        let names = ["aes128gcm", "aes256gcm", "sha1"].map(|name| name.parse().map(Cipher::name));
        assert_eq!(names, [Ok("AEAD_AES_128_GCM"), Ok("AEAD_AES_256_GCM"), Ok("AES_CM_128_HMAC_SHA1_80")]);
        let error = "rot13".parse::<Cipher>().expect_err("no cipher");
        assert_eq!(error.to_string(), "there is no cipher \"rot13\": aes128gcm, aes256gcm, sha1");
    }

    #[test]
    fn given_keys_are_key_and_salt_in_hex() {
        let text = format!("{}{}", "01".repeat(16), "02".repeat(12));
        let keys = Keys::given(Cipher::AeadAes128Gcm, &text, &text).expect("keys");
        assert_eq!((keys.rx_key, keys.tx_salt), (vec![1; 16], vec![2; 12]));
        assert!(Keys::given(Cipher::AesCm128HmacSha1_80, &text, &text).is_none(), "too short");
        assert!(from_hex("0g").is_none() && from_hex("012").is_none() && from_hex("é").is_none());
    }
}
