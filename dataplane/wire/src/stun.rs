// SPDX-License-Identifier: Apache-2.0
//! STUN messages (RFC 8489) with the attributes of ICE (RFC 8445).
//!
//! `parse` walks at most [`MAX_ATTRIBUTES`] attributes once and keeps what ICE needs as borrowed slices. Keys stay with
//! the caller: [`Message::integrity_input`] hands out what an HMAC has to cover.
//! Must never treat an attribute behind MESSAGE-INTEGRITY as authenticated: those are not kept, FINGERPRINT excepted.

mod address;
mod attributes;
mod crc32;
mod writer;

pub use address::Address;
pub use attributes::{ErrorCode, UnknownAttributes};
pub use crc32::crc32;
pub use writer::{BindingError, BindingRequest, BindingSuccess};

use crate::bytes::{array, be16, be32, padded_len, slice};

/// Second word of every message.
pub const MAGIC_COOKIE: u32 = 0x2112_A442;
/// Bytes of the message header.
pub const HEADER_LEN: usize = 20;
/// Attributes looked at; a message with more is refused.
pub const MAX_ATTRIBUTES: usize = 32;
/// Method number of Binding.
pub const METHOD_BINDING: u16 = 0x001;

/// Attribute type numbers (IANA "STUN Attributes").
pub mod attribute {
    #![expect(missing_docs, reason = "the names are those of the IANA registry")]
    pub const MAPPED_ADDRESS: u16 = 0x0001;
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
    pub const REALM: u16 = 0x0014;
    pub const NONCE: u16 = 0x0015;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001C;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const SOFTWARE: u16 = 0x8022;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802A;
}

/// XOR value of FINGERPRINT (RFC 8489 §14.7).
pub(crate) const FINGERPRINT_XOR: u32 = 0x5354_554E;
const ATTRIBUTE_HEADER: usize = 4;
const INTEGRITY_LEN: usize = 20;
/// MESSAGE-INTEGRITY with its attribute header.
pub(crate) const INTEGRITY_ATTRIBUTE_LEN: usize = 24;

/// Why bytes are not a STUN message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StunError {
    /// Shorter than a header, or the length field does not match the datagram.
    Length,
    /// The two leading bits are set or the magic cookie is missing.
    NotStun,
    /// An attribute reaches beyond the message or has the wrong length.
    Attribute,
    /// More than [`MAX_ATTRIBUTES`].
    TooManyAttributes,
}

/// The class of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Asks for a response.
    Request,
    /// Asks for nothing.
    Indication,
    /// Success response.
    Success,
    /// Error response.
    Error,
}

/// The ICE role a sender claims, with its tie-breaker (RFC 8445 §7.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// ICE-CONTROLLED.
    Controlled(u64),
    /// ICE-CONTROLLING.
    Controlling(u64),
}

/// MESSAGE-INTEGRITY as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integrity {
    /// The HMAC-SHA1 the sender claims. Compare in constant time.
    pub value: [u8; INTEGRITY_LEN],
    /// Offset of the attribute header in the message.
    pub offset: usize,
}

/// One STUN message, borrowed.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Class of the message.
    pub class: Class,
    /// Method, 12 bits.
    pub method: u16,
    /// Transaction id.
    pub transaction_id: [u8; 12],
    /// USERNAME, undecoded.
    pub username: Option<&'a [u8]>,
    /// PRIORITY.
    pub priority: Option<u32>,
    /// Whether USE-CANDIDATE is there.
    pub use_candidate: bool,
    /// ICE-CONTROLLED or ICE-CONTROLLING, the first one found.
    pub role: Option<Role>,
    /// MAPPED-ADDRESS.
    pub mapped_address: Option<Address>,
    /// XOR-MAPPED-ADDRESS, decoded.
    pub xor_mapped_address: Option<Address>,
    /// ERROR-CODE.
    pub error_code: Option<ErrorCode<'a>>,
    /// MESSAGE-INTEGRITY.
    pub integrity: Option<Integrity>,
    /// FINGERPRINT as (value, offset of the attribute header).
    pub fingerprint: Option<(u32, usize)>,
    /// Comprehension-required attributes that this parser does not know.
    pub unknown: UnknownAttributes,
}

impl<'a> Message<'a> {
    /// Parses a datagram that is one STUN message.
    ///
    /// The first attribute of a type counts (RFC 8489 §14). Behind MESSAGE-INTEGRITY only FINGERPRINT is kept, behind
    /// FINGERPRINT nothing.
    ///
    /// # Errors
    /// [`StunError`]; lengths must match exactly.
    #[inline]
    pub fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        let kind = be16(datagram, 0).ok_or(StunError::Length)?;
        let len = usize::from(be16(datagram, 2).ok_or(StunError::Length)?);
        let cookie = be32(datagram, 4).ok_or(StunError::Length)?;
        let transaction_id = array(datagram, 8).ok_or(StunError::Length)?;
        check_head(kind, len, cookie, datagram.len())?;
        let (class, method) = split_type(kind);
        let mut message = Self {
            bytes: datagram,
            class,
            method,
            transaction_id,
            username: None,
            priority: None,
            use_candidate: false,
            role: None,
            mapped_address: None,
            xor_mapped_address: None,
            error_code: None,
            integrity: None,
            fingerprint: None,
            unknown: UnknownAttributes::default(),
        };
        message.walk()?;
        Ok(message)
    }

    fn walk(&mut self) -> Result<(), StunError> {
        let mut at = HEADER_LEN;
        for _ in 0..MAX_ATTRIBUTES {
            if at >= self.bytes.len() {
                return Ok(());
            }
            let kind = be16(self.bytes, at).ok_or(StunError::Attribute)?;
            let len = usize::from(be16(self.bytes, at.saturating_add(2)).ok_or(StunError::Attribute)?);
            let value_at = at.saturating_add(ATTRIBUTE_HEADER);
            let padded = padded_len(len);
            let value =
                slice(self.bytes, value_at, padded).and_then(|padded| padded.get(..len)).ok_or(StunError::Attribute)?;
            self.keep(kind, value, at)?;
            at = value_at.saturating_add(padded);
        }
        if at >= self.bytes.len() { Ok(()) } else { Err(StunError::TooManyAttributes) }
    }

    fn keep(&mut self, kind: u16, value: &'a [u8], offset: usize) -> Result<(), StunError> {
        if self.fingerprint.is_some() {
            return Ok(());
        }
        if kind == attribute::FINGERPRINT {
            self.fingerprint = Some((u32::from_be_bytes(exact(value)?), offset));
            return Ok(());
        }
        if self.integrity.is_some() {
            return Ok(());
        }
        match kind {
            attribute::MESSAGE_INTEGRITY => {
                self.integrity = Some(Integrity { value: exact(value)?, offset });
            }
            attribute::USERNAME => {
                self.username.get_or_insert(value);
            }
            attribute::PRIORITY => {
                let priority = u32::from_be_bytes(exact(value)?);
                self.priority.get_or_insert(priority);
            }
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => {
                let role = Role::Controlled(u64::from_be_bytes(exact(value)?));
                self.role.get_or_insert(role);
            }
            attribute::ICE_CONTROLLING => {
                let role = Role::Controlling(u64::from_be_bytes(exact(value)?));
                self.role.get_or_insert(role);
            }
            attribute::MAPPED_ADDRESS => {
                let address = Address::parse(value).ok_or(StunError::Attribute)?;
                self.mapped_address.get_or_insert(address);
            }
            attribute::XOR_MAPPED_ADDRESS => {
                let address = Address::parse_xor(value, &self.transaction_id).ok_or(StunError::Attribute)?;
                self.xor_mapped_address.get_or_insert(address);
            }
            attribute::ERROR_CODE => {
                let code = ErrorCode::parse(value).ok_or(StunError::Attribute)?;
                self.error_code.get_or_insert(code);
            }
            attribute::UNKNOWN_ATTRIBUTES
            | attribute::REALM
            | attribute::NONCE
            | attribute::MESSAGE_INTEGRITY_SHA256 => {}
            0..=0x7FFF => self.unknown.push(kind),
            0x8000..=0xFFFF => {}
        }
        Ok(())
    }

    /// The bytes of the message.
    #[inline]
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// USERNAME split at its first colon: (ufrag of the receiver of the request, ufrag of its sender)
    /// (RFC 8445 §7.2.2).
    #[inline]
    #[must_use]
    pub fn ufrags(&self) -> Option<(&'a [u8], &'a [u8])> {
        let username = self.username?;
        let colon = username.iter().position(|byte| *byte == b':')?;
        Some((username.get(..colon)?, username.get(colon.checked_add(1)?..)?))
    }

    /// What the HMAC of MESSAGE-INTEGRITY covers: the header with the length adjusted to end behind the attribute, and
    /// the attributes in front of it (RFC 8489 §14.5). `None` without the attribute.
    #[inline]
    #[must_use]
    pub fn integrity_input(&self) -> Option<([u8; HEADER_LEN], &'a [u8])> {
        let end = self.integrity?.offset;
        let header = self.header_with_len(end.checked_add(INTEGRITY_ATTRIBUTE_LEN)?)?;
        Some((header, self.bytes.get(HEADER_LEN..end)?))
    }

    /// Whether FINGERPRINT matches; `None` without the attribute.
    #[inline]
    #[must_use]
    pub fn fingerprint_matches(&self) -> Option<bool> {
        let (value, end) = self.fingerprint?;
        let header = self.header_with_len(end.checked_add(8)?)?;
        let body = self.bytes.get(HEADER_LEN..end)?;
        Some(crc32(&[&header, body]) ^ FINGERPRINT_XOR == value)
    }

    /// The header as it is when the message ends at `end`.
    fn header_with_len(&self, end: usize) -> Option<[u8; HEADER_LEN]> {
        let mut header: [u8; HEADER_LEN] = array(self.bytes, 0)?;
        let len = u16::try_from(end.checked_sub(HEADER_LEN)?).ok()?;
        header.get_mut(2..4)?.copy_from_slice(&len.to_be_bytes());
        Some(header)
    }
}

fn exact<const N: usize>(value: &[u8]) -> Result<[u8; N], StunError> {
    value.try_into().map_err(|_| StunError::Attribute)
}

/// Whether a datagram of `datagram_len` bytes that begins with these may be a STUN message: leading bits, cookie and length.
#[inline]
#[must_use]
pub const fn may_be_message(head: [u8; 8], datagram_len: usize) -> bool {
    let [t0, t1, l0, l1, c0, c1, c2, c3] = head;
    let len = u16::from_be_bytes([l0, l1]) as usize;
    check_head(u16::from_be_bytes([t0, t1]), len, u32::from_be_bytes([c0, c1, c2, c3]), datagram_len).is_ok()
}

const fn check_head(kind: u16, len: usize, cookie: u32, datagram_len: usize) -> Result<(), StunError> {
    if kind & 0xC000 != 0 || cookie != MAGIC_COOKIE {
        return Err(StunError::NotStun);
    }
    if !len.is_multiple_of(4) || datagram_len != len.saturating_add(HEADER_LEN) {
        return Err(StunError::Length);
    }
    Ok(())
}

/// Splits the interleaved type field (RFC 8489 §5, figure 3).
const fn split_type(kind: u16) -> (Class, u16) {
    let class = match kind & 0x0110 {
        0x0000 => Class::Request,
        0x0010 => Class::Indication,
        0x0100 => Class::Success,
        _ => Class::Error,
    };
    (class, (kind & 0x000F) | ((kind & 0x00E0) >> 1) | ((kind & 0x3E00) >> 2))
}
