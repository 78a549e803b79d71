// SPDX-License-Identifier: Apache-2.0
//! Certificate fingerprints as SDP signals them (RFC 8122). Weak digests must never be accepted.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use subtle::ConstantTimeEq as _;
use thiserror::Error;

/// Digest of a fingerprint. RFC 8122 §5 still lists sha-1 and md5; they are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FingerprintAlgorithm {
    /// `sha-256`, 32 bytes.
    Sha256,
    /// `sha-384`, 48 bytes.
    Sha384,
    /// `sha-512`, 64 bytes.
    Sha512,
}

impl FingerprintAlgorithm {
    fn from_name(name: &str) -> Option<Self> {
        [Self::Sha256, Self::Sha384, Self::Sha512].into_iter().find(|a| a.name().eq_ignore_ascii_case(name))
    }

    /// The hash-func token of RFC 8122 §5.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// Length of the digest in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    fn digest(self, der: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, der)
    }
}

/// Why a fingerprint attribute is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FingerprintError {
    /// No space between hash name and value.
    #[error("fingerprint: expected \"<hash> <XX:XX:…>\"")]
    Shape,
    /// The hash is unknown or too weak (sha-1, md5).
    #[error("fingerprint: hash is not one of sha-256, sha-384, sha-512")]
    Algorithm,
    /// A byte is not two hexadecimal digits.
    #[error("fingerprint: byte {0} is not two hexadecimal digits")]
    Hex(usize),
    /// The number of bytes does not fit the hash.
    #[error("fingerprint: {algorithm} needs {expected} bytes, found {found}")]
    Length {
        /// Name of the hash.
        algorithm: &'static str,
        /// Bytes the hash has.
        expected: usize,
        /// Bytes found.
        found: usize,
    },
}

/// One `a=fingerprint` value: the digest of the certificate the peer will present.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    algorithm: FingerprintAlgorithm,
    bytes: Vec<u8>,
}

impl Fingerprint {
    /// Parses `"sha-256 AA:BB:…"`, the value of `a=fingerprint:` (RFC 8122 §5); either case of digits is taken.
    ///
    /// # Errors
    /// [`FingerprintError`] names the part that does not fit.
    pub fn parse(value: &str) -> Result<Self, FingerprintError> {
        let (name, digits) = value.trim().split_once(' ').ok_or(FingerprintError::Shape)?;
        let algorithm = FingerprintAlgorithm::from_name(name).ok_or(FingerprintError::Algorithm)?;
        let mut bytes = Vec::with_capacity(algorithm.digest_len());
        for (index, pair) in digits.trim().split(':').enumerate() {
            let is_hex = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            let byte = u8::from_str_radix(pair, 16).ok().filter(|_| is_hex).ok_or(FingerprintError::Hex(index))?;
            if index >= algorithm.digest_len() {
                let found = digits.split(':').count();
                return Err(FingerprintError::Length {
                    algorithm: algorithm.name(),
                    expected: algorithm.digest_len(),
                    found,
                });
            }
            bytes.push(byte);
        }
        Self::new(algorithm, bytes)
    }

    /// Builds a fingerprint from a digest.
    ///
    /// # Errors
    /// [`FingerprintError::Length`] if the digest does not fit the algorithm.
    pub fn new(algorithm: FingerprintAlgorithm, bytes: Vec<u8>) -> Result<Self, FingerprintError> {
        if bytes.len() != algorithm.digest_len() {
            let (expected, found) = (algorithm.digest_len(), bytes.len());
            return Err(FingerprintError::Length { algorithm: algorithm.name(), expected, found });
        }
        Ok(Self { algorithm, bytes })
    }

    /// The fingerprint of a certificate in DER form.
    #[must_use]
    pub fn of_certificate(algorithm: FingerprintAlgorithm, der: &[u8]) -> Self {
        Self { algorithm, bytes: algorithm.digest(der).as_ref().to_vec() }
    }

    /// The digest that was signalled.
    #[must_use]
    pub const fn algorithm(&self) -> FingerprintAlgorithm {
        self.algorithm
    }

    /// The bytes of the digest.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the certificate has this fingerprint; compared in constant time.
    #[must_use]
    pub fn matches(&self, der: &[u8]) -> bool {
        self.algorithm.digest(der).as_ref().ct_eq(&self.bytes).into()
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        Self::parse(value)
    }
}

impl fmt::Display for Fingerprint {
    /// The SDP form: `sha-256 AA:BB:…`, upper case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm.name())?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { ' ' } else { ':' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fingerprint, FingerprintAlgorithm, FingerprintError};

    #[test]
    fn a_fingerprint_survives_parse_and_display() {
        for algorithm in [FingerprintAlgorithm::Sha256, FingerprintAlgorithm::Sha384, FingerprintAlgorithm::Sha512] {
            let print = Fingerprint::of_certificate(algorithm, b"certificate");
            assert_eq!(Fingerprint::parse(&print.to_string()), Ok(print.clone()));
            assert_eq!(Fingerprint::parse(&print.to_string().to_lowercase()), Ok(print.clone()));
            assert!(print.matches(b"certificate"));
            assert!(!print.matches(b"Certificate"));
        }
    }

    // RFC 8122 §5: weak hashes are refused
    #[test]
    fn malformed_and_weak_fingerprints_are_refused_by_name() {
        let parse = |text: &str| Fingerprint::parse(text).expect_err("refused");
        assert_eq!(parse("sha-256"), FingerprintError::Shape);
        assert_eq!(parse("sha-1 AA:BB"), FingerprintError::Algorithm);
        assert_eq!(parse("sha-256 AA:+B"), FingerprintError::Hex(1));
        assert_eq!(parse("sha-256 AA:B"), FingerprintError::Hex(1));
        let length = |found| FingerprintError::Length { algorithm: "sha-256", expected: 32, found };
        assert_eq!(parse("sha-256 AA:BB"), length(2));
        assert_eq!(parse(&format!("sha-256 {}", ["AA"; 33].join(":"))), length(33));
    }
}
