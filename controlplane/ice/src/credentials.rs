// SPDX-License-Identifier: Apache-2.0
//! Username fragments and passwords (RFC 8839 §5.4). A password must never be printed.

use std::fmt;

use aws_lc_rs::rand;
use thiserror::Error;
use zeroize::Zeroizing;

/// ice-char of RFC 8839 §5.1: 64 characters, so six random bits choose one without bias.
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of our ufrag: 48 random bits, enough to look one transport up among all of a node.
const UFRAG_LEN: usize = 8;
/// Characters of our password: 144 random bits (RFC 8445 §5.3 asks for 128).
const PWD_LEN: usize = 24;
/// Tries of [`Credentials::generate_unique`]; with 2^48 values a second one is already improbable.
const UNIQUE_TRIES: usize = 16;

/// Why credentials are refused or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CredentialError {
    /// The operating system gave no randomness.
    #[error("ICE credentials: the operating system gave no random bytes")]
    Random,
    /// Every generated ufrag was taken; the table of the caller is broken.
    #[error("ICE credentials: no free ufrag found")]
    NoFreeUfrag,
    /// The field is shorter or longer than RFC 8839 §5.4 allows.
    #[error("{field}: {len} characters, {min} to {max} are allowed")]
    Length {
        /// SDP attribute, `ice-ufrag` or `ice-pwd`.
        field: &'static str,
        /// Characters found.
        len: usize,
        /// Fewest allowed.
        min: usize,
        /// Most allowed.
        max: usize,
    },
    /// The field holds something other than letters, digits, `+` and `/`.
    #[error("{field}: character {position} is not a letter, a digit, '+' or '/'")]
    Charset {
        /// SDP attribute, `ice-ufrag` or `ice-pwd`.
        field: &'static str,
        /// Zero-based position of the first offending byte.
        position: usize,
    },
}

/// Our credentials for one ICE session.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    ufrag: String,
    pwd: Zeroizing<String>,
}

impl Credentials {
    /// Makes credentials from the operating system's randomness.
    ///
    /// # Errors
    /// [`CredentialError::Random`].
    pub fn generate() -> Result<Self, CredentialError> {
        Ok(Self { ufrag: random_ice_chars(UFRAG_LEN)?, pwd: Zeroizing::new(random_ice_chars(PWD_LEN)?) })
    }

    /// Makes credentials whose ufrag is not taken, so that it can be the key of a transport.
    ///
    /// # Errors
    /// [`CredentialError::Random`], or [`CredentialError::NoFreeUfrag`] when `is_taken` refuses everything.
    pub fn generate_unique(mut is_taken: impl FnMut(&str) -> bool) -> Result<Self, CredentialError> {
        for _ in 0..UNIQUE_TRIES {
            let credentials = Self::generate()?;
            if !is_taken(&credentials.ufrag) {
                return Ok(credentials);
            }
        }
        Err(CredentialError::NoFreeUfrag)
    }

    /// Username fragment, 8 ice-chars.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Password, 24 ice-chars: the HMAC-SHA1 key of MESSAGE-INTEGRITY (RFC 8489 §9.1).
    #[must_use]
    pub fn pwd(&self) -> &str {
        &self.pwd
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// The peer's credentials as its SDP states them, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteCredentials {
    ufrag: String,
    pwd: Zeroizing<String>,
}

impl RemoteCredentials {
    /// Checks lengths and characters (RFC 8839 §5.4: ufrag 4 to 256, pwd 22 to 256 ice-chars).
    ///
    /// # Errors
    /// [`CredentialError::Length`] or [`CredentialError::Charset`], naming the SDP attribute.
    pub fn parse(ufrag: &str, pwd: &str) -> Result<Self, CredentialError> {
        check("ice-ufrag", ufrag, 4)?;
        check("ice-pwd", pwd, 22)?;
        Ok(Self { ufrag: ufrag.to_owned(), pwd: Zeroizing::new(pwd.to_owned()) })
    }

    /// Username fragment of the peer.
    #[must_use]
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// Password of the peer; an ICE-lite agent sends no checks and does not need it.
    #[must_use]
    pub fn pwd(&self) -> &str {
        &self.pwd
    }
}

impl fmt::Debug for RemoteCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

fn check(field: &'static str, value: &str, min: usize) -> Result<(), CredentialError> {
    const MAX: usize = 256;
    if let Some(position) = value.bytes().position(|b| !ICE_CHARS.contains(&b)) {
        return Err(CredentialError::Charset { field, position });
    }
    let len = value.len();
    if (min..=MAX).contains(&len) { Ok(()) } else { Err(CredentialError::Length { field, len, min, max: MAX }) }
}

fn random_ice_chars(len: usize) -> Result<String, CredentialError> {
    let mut bytes = Zeroizing::new(vec![0; len]);
    rand::fill(&mut bytes).map_err(|_| CredentialError::Random)?;
    Ok(bytes.iter().map(|b| char::from(ICE_CHARS[usize::from(b % 64)])).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{CredentialError, Credentials, ICE_CHARS, RemoteCredentials};

    #[test]
    fn generated_credentials_are_valid_and_differ() {
        let mut seen = BTreeSet::new();
        for _ in 0..1000 {
            let made = Credentials::generate().expect("randomness");
            assert_eq!((made.ufrag().len(), made.pwd().len()), (8, 24));
            RemoteCredentials::parse(made.ufrag(), made.pwd()).expect("valid by our own rules");
            assert!(seen.insert(made.ufrag().to_owned()) && seen.insert(made.pwd().to_owned()), "repeated");
        }
        let used: BTreeSet<u8> = seen.iter().flat_map(|s| s.bytes()).collect();
        assert_eq!(used.len(), ICE_CHARS.len(), "every ice-char occurs in 32,000 random ones");
    }

    #[test]
    fn a_taken_ufrag_is_not_given_out() {
        let mut asked = Vec::new();
        let made = Credentials::generate_unique(|ufrag| {
            asked.push(ufrag.to_owned());
            asked.len() < 4
        });
        assert_eq!(made.expect("fourth is free").ufrag(), asked[3]);
        assert_eq!(Credentials::generate_unique(|_| true), Err(CredentialError::NoFreeUfrag));
    }

    // RFC 8839 §5.4
    #[test]
    fn remote_credentials_are_refused_by_the_name_of_the_field() {
        let pwd = "p".repeat(22);
        assert!(RemoteCredentials::parse("abcd", &pwd).is_ok());
        assert!(RemoteCredentials::parse(&"u".repeat(256), &"p".repeat(256)).is_ok());
        let refused = |ufrag: &str, pwd: &str| RemoteCredentials::parse(ufrag, pwd).expect_err("refused").to_string();
        assert_eq!(refused("abc", &pwd), "ice-ufrag: 3 characters, 4 to 256 are allowed");
        assert_eq!(refused(&"u".repeat(257), &pwd), "ice-ufrag: 257 characters, 4 to 256 are allowed");
        assert_eq!(refused("abcd", &pwd[1..]), "ice-pwd: 21 characters, 22 to 256 are allowed");
        assert_eq!(refused("ab:d", &pwd), "ice-ufrag: character 2 is not a letter, a digit, '+' or '/'");
        assert_eq!(refused("abcd", &"p\u{e9}".repeat(22)), "ice-pwd: character 1 is not a letter, a digit, '+' or '/'");
    }

    #[test]
    fn debug_output_hides_the_password() {
        let made = Credentials::generate().expect("randomness");
        let remote = RemoteCredentials::parse(made.ufrag(), made.pwd()).expect("valid");
        for text in [format!("{made:?}"), format!("{remote:#?}")] {
            assert!(text.contains(made.ufrag()) && !text.contains(made.pwd()), "{text}");
        }
    }
}
