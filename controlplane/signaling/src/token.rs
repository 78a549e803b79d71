// SPDX-License-Identifier: Apache-2.0
//! Bearer tokens: JWT (RFC 7519), HS256 and nothing else.
//!
//! A token never reaches a log or an error text; a key never prints.

use std::fmt;

use controlplane_room::{DisplayName, RoomName};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// Fewest bytes of a key (RFC 7518 §3.2: as long as the hash).
const MIN_KEY_LEN: usize = 32;
/// Longest token that is looked at, in bytes.
pub(crate) const MAX_TOKEN_LEN: usize = 4096;
/// How far the clocks of issuer and server may be apart, in seconds.
const LEEWAY_S: u64 = 10;

/// Something that a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grant {
    /// To publish in the room.
    Publish,
    /// To watch the room.
    Subscribe,
}

impl Grant {
    /// The word in the `grants` claim.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
        }
    }
}

/// What a token says. Claims that are not named here are ignored (RFC 7519 §4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The only room that it opens.
    pub room: String,
    /// The only name that it publishes under, if it says one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it allows; words that are not known allow nothing.
    #[serde(default, deserialize_with = "known_grants")]
    pub grants: Vec<Grant>,
    /// When it ends, seconds since the epoch.
    pub exp: u64,
}

/// Reads a list of grants, passing over the words that another version may know.
fn known_grants<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Grant>, D::Error> {
    let words = Vec::<String>::deserialize(deserializer)?;
    Ok([Grant::Publish, Grant::Subscribe]
        .into_iter()
        .filter(|grant| words.iter().any(|w| w == grant.as_str()))
        .collect())
}

/// What a verified token allows, with its claims validated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Permit {
    pub(crate) room: RoomName,
    pub(crate) name: Option<DisplayName>,
    pub(crate) grants: Vec<Grant>,
}

/// Why a token or a key was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The key is too short to guard anything.
    #[error("a token key has at least {MIN_KEY_LEN} bytes")]
    ShortKey,
    /// Not a JWT, or not signed by us with HS256.
    #[error("the token is not valid here")]
    Invalid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// A claim is missing or is not what it must be.
    #[error("the token's claims room, name, grants and exp are not as they must be")]
    Claims,
    /// The token could not be made.
    #[error("the token could not be signed")]
    Signing,
}

/// The HS256 key. It does not print and is wiped when it goes.
#[derive(Clone)]
pub struct TokenKey(Zeroizing<Vec<u8>>);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// A key of these bytes.
    ///
    /// # Errors
    /// [`TokenError::ShortKey`] under 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, TokenError> {
        if bytes.len() < MIN_KEY_LEN {
            return Err(TokenError::ShortKey);
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// Signs `claims`.
    ///
    /// # Errors
    /// [`TokenError::Signing`] if the library cannot.
    pub fn sign(&self, claims: &Claims) -> Result<String, TokenError> {
        encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(&self.0))
            .map_err(|_| TokenError::Signing)
    }

    /// Verifies a token: signature (in constant time, by the library), algorithm, expiry, then each claim.
    pub(crate) fn verify(&self, token: &str) -> Result<Permit, TokenError> {
        if token.len() > MAX_TOKEN_LEN {
            return Err(TokenError::Invalid);
        }
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        let decoded = decode::<Claims>(token, &DecodingKey::from_secret(&self.0), &validation);
        let claims = decoded.map_err(|refused| explain(refused.kind()))?.claims;
        let room = claims.room.parse().map_err(|_| TokenError::Claims)?;
        let name = claims.name.map(|name| name.parse()).transpose().map_err(|_| TokenError::Claims)?;
        Ok(Permit { room, name, grants: claims.grants })
    }
}

/// Tells an expired token from a forged one, and says no more.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the library's list of errors is open, and all others mean: not valid"
)]
fn explain(kind: &ErrorKind) -> TokenError {
    match kind {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) | ErrorKind::Json(_) => {
            TokenError::Claims
        }
        _ => TokenError::Invalid,
    }
}
