// SPDX-License-Identifier: Apache-2.0
//! Why an offer is not answered. Each error names the line and the field, so that whoever wrote the offer can mend it;
//! it must never carry a password, and what it quotes of the offer is short and escaped.

use std::fmt;

use crate::ids::Mid;

/// Bytes of the offer that an error quotes at most.
const MAX_QUOTE_CHARS: usize = 64;

/// Where in the offer the fault is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// The session part, before the first m-line.
    Session,
    /// A line of the text, counted from 1.
    Line(usize),
    /// An m-line, counted from 1, and its mid if it has one.
    Media {
        /// Position of the m-line in the offer, the first is 1.
        index: usize,
        /// Its `a=mid`.
        mid: Option<Mid>,
    },
}

/// What is wrong with the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SdpErrorKind {
    /// More than a bound of [`crate::limits`].
    TooLarge,
    /// The text of the line or field does not follow its grammar.
    Malformed,
    /// A field that WebRTC cannot do without is absent.
    Missing,
    /// Well-formed, and something that this server does not do.
    Unsupported,
    /// Two fields contradict each other.
    Conflict,
    /// No m-line can be accepted, the detail lists the reason of each.
    NothingAccepted,
}

/// An offer that is refused, with the field that is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdpError {
    /// What is wrong.
    pub kind: SdpErrorKind,
    /// The field as a person finds it in the text, such as `a=fingerprint`.
    pub field: &'static str,
    /// Where it is, or is missing.
    pub place: Place,
    /// More about it, may be empty.
    pub detail: String,
}

impl SdpError {
    pub(crate) fn new(kind: SdpErrorKind, field: &'static str, place: Place) -> Self {
        Self { kind, field, place, detail: String::new() }
    }

    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }
}

/// A short, escaped piece of foreign text.
pub(crate) fn quote(text: &str) -> String {
    let short: String = text.chars().take(MAX_QUOTE_CHARS).collect();
    format!("\"{}\"", short.escape_debug())
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Session => f.write_str("the session part"),
            Self::Line(number) => write!(f, "line {number}"),
            Self::Media { index, mid: Some(mid) } => write!(f, "m-line {index} (mid {mid})"),
            Self::Media { index, mid: None } => write!(f, "m-line {index}"),
        }
    }
}

impl fmt::Display for SdpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (field, place) = (self.field, &self.place);
        match self.kind {
            SdpErrorKind::TooLarge => write!(f, "{field} too large in {place}")?,
            SdpErrorKind::Malformed => write!(f, "{field} malformed in {place}")?,
            SdpErrorKind::Missing => write!(f, "{field} missing in {place}")?,
            SdpErrorKind::Unsupported => write!(f, "{field} not supported in {place}")?,
            SdpErrorKind::Conflict => write!(f, "{field} contradicts itself in {place}")?,
            SdpErrorKind::NothingAccepted => write!(f, "no m-line of the offer can be accepted")?,
        }
        if self.detail.is_empty() { Ok(()) } else { write!(f, ": {}", self.detail) }
    }
}

impl std::error::Error for SdpError {}
