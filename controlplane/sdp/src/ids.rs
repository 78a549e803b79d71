// SPDX-License-Identifier: Apache-2.0
//! The names that SDP gives to m-lines, encodings, payload formats and streams. They must never be built from text
//! that the grammar does not allow, because they are written back into answers and into forwarding tables.

use serde::{Deserialize, Serialize};
use std::fmt;

use crate::limits::{MAX_MID_BYTES, MAX_RID_BYTES};

/// Payload type of an RTP packet, 0..=127 (RFC 3550 §5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Pt(pub u8);

/// Synchronisation source of an RTP stream (RFC 3550 §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ssrc(pub u32);

/// The identification of an m-line (RFC 5888 §4, RFC 9143 §15): a token of at most 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mid(String);

/// The identification of an encoding (RFC 8851 §4): letters, digits, `-` and `_`, at most 16 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rid(String);

impl Mid {
    /// `text` as a mid, if it is a token (RFC 8866 §9) of at most [`MAX_MID_BYTES`].
    pub fn parse(text: &str) -> Option<Self> {
        let is_valid = !text.is_empty() && text.len() <= MAX_MID_BYTES && text.bytes().all(is_token_byte);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The text of the mid, as the MID header extension carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Rid {
    /// `text` as a rid, if RFC 8851 §10 allows it.
    pub fn parse(text: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_valid = !text.is_empty() && text.len() <= MAX_RID_BYTES && text.bytes().all(allowed);
        is_valid.then(|| Self(text.to_owned()))
    }

    /// The text of the rid, as the RtpStreamId header extension carries it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Mid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a mid")
    }
}

impl From<Mid> for String {
    fn from(mid: Mid) -> Self {
        mid.0
    }
}

impl TryFrom<String> for Rid {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a rid")
    }
}

impl From<Rid> for String {
    fn from(rid: Rid) -> Self {
        rid.0
    }
}

impl fmt::Display for Pt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Ssrc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Mid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Rid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `token-char` of RFC 8866 §9.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x27 | 0x2A..=0x2B | 0x2D..=0x2E | 0x30..=0x39 | 0x41..=0x5A | 0x5E..=0x7E)
}
