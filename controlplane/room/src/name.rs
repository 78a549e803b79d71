// SPDX-License-Identifier: Apache-2.0
//! Names that come from the network: room names, display names and the participant ids made of them.
//!
//! A value of these types has been validated once; nothing downstream checks again. They are safe to print.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest room name and participant id, in bytes.
const MAX_ID_LEN: usize = 64;
/// Longest display name, in Unicode scalar values.
const MAX_NAME_CHARS: usize = 64;

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The room is not `[a-z0-9-]{1,64}`.
    #[error("a room name is 1 to 64 characters of a-z, 0-9 and '-'")]
    Room,
    /// The participant id is not `[a-z0-9-]{1,64}`.
    #[error("a participant id is 1 to 64 characters of a-z, 0-9 and '-'")]
    Participant,
    /// The display name is empty, too long, or holds control characters.
    #[error("a name is 1 to 64 characters without control characters")]
    Display,
}

/// Whether `text` is `[a-z0-9-]{1,64}`.
fn is_id(text: &str) -> bool {
    (1..=MAX_ID_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// A room's name, `[a-z0-9-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoomName(String);

impl RoomName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RoomName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(NameError::Room) }
    }
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a participant is called in URLs: `[a-z0-9-]{1,64}`, unique among a room's publishers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ParticipantId(String);

impl ParticipantId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ParticipantId {
    /// The `number`-th id of those that share this one's letters: `ada`, `ada-2`, `ada-3`.
    #[must_use]
    pub fn numbered(&self, number: usize) -> Self {
        if number < 2 {
            return self.clone();
        }
        let suffix = format!("-{number}");
        let mut text = self.0.clone();
        text.truncate(MAX_ID_LEN - suffix.len());
        Self(text + &suffix)
    }
}

impl FromStr for ParticipantId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(NameError::Participant) }
    }
}

impl fmt::Display for ParticipantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a participant is called on screen: 1 to 64 characters, no control characters, trimmed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DisplayName(String);

impl DisplayName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that stands for this name in URLs. ASCII letters and digits stay (lower-cased), every other run of
    /// characters becomes one `-`; a name without any of them gets an id made of its hash, so equal names always
    /// have equal ids and a second publisher of one name is seen.
    #[must_use]
    pub fn participant_id(&self) -> ParticipantId {
        let mut slug = String::with_capacity(self.0.len());
        for c in self.0.chars() {
            if c.is_ascii_alphanumeric() {
                slug.push(c.to_ascii_lowercase());
            } else if !slug.ends_with('-') {
                slug.push('-');
            }
        }
        slug.truncate(MAX_ID_LEN);
        let slug = slug.trim_matches('-');
        if slug.is_empty() {
            return ParticipantId(format!("p-{:016x}", fnv1a(self.0.as_bytes())));
        }
        ParticipantId(slug.to_owned())
    }
}

/// 64-bit FNV-1a: a stable name for text that has no letters of its own. It guards nothing.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl FromStr for DisplayName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let text = text.trim();
        let len = text.chars().count();
        if !(1..=MAX_NAME_CHARS).contains(&len) || text.chars().any(is_unprintable) {
            return Err(NameError::Display);
        }
        Ok(Self(text.to_owned()))
    }
}

/// Control characters, and the marks that reverse or hide text on somebody else's screen.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

impl fmt::Display for DisplayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for RoomName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<RoomName> for String {
    fn from(name: RoomName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ParticipantId {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ParticipantId> for String {
    fn from(name: ParticipantId) -> Self {
        name.0
    }
}

impl TryFrom<String> for DisplayName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<DisplayName> for String {
    fn from(name: DisplayName) -> Self {
        name.0
    }
}
