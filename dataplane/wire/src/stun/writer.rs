// SPDX-License-Identifier: Apache-2.0
//! Emits Binding messages: success, error and (for clients under test) request.
//!
//! The HMAC is the caller's: a closure gets the parts to cover and returns the 20 bytes, so that no key enters here.
//! Must never emit MESSAGE-INTEGRITY without the length field adjusted to it.

use crate::emit::{EmitError, Emitter};
use crate::stun::{
    Address, FINGERPRINT_XOR, HEADER_LEN, INTEGRITY_ATTRIBUTE_LEN, MAGIC_COOKIE, Role, attribute, crc32,
};

const TYPE_REQUEST: u16 = 0x0001;
const TYPE_SUCCESS: u16 = 0x0101;
const TYPE_ERROR: u16 = 0x0111;
/// Longest USERNAME and reason phrase that is emitted (RFC 8489 §14.3: fewer than 509 bytes).
const MAX_TEXT: usize = 508;

type Mac<'m> = &'m mut dyn FnMut(&[&[u8]]) -> [u8; 20];

/// A Binding success response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingSuccess {
    /// Transaction id of the request.
    pub transaction_id: [u8; 12],
    /// Where the request came from.
    pub mapped: Address,
}

impl BindingSuccess {
    /// Emits XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY and FINGERPRINT; returns the length.
    ///
    /// `mac` computes HMAC-SHA1 with the local ICE password over the concatenated parts.
    ///
    /// # Errors
    /// [`EmitError::NoSpace`]; 96 bytes are always enough.
    #[inline]
    pub fn emit(&self, out: &mut [u8], mut mac: impl FnMut(&[&[u8]]) -> [u8; 20]) -> Result<usize, EmitError> {
        let mut emitter = begin(out, TYPE_SUCCESS, &self.transaction_id)?;
        self.mapped.emit_xor(&mut emitter, &self.transaction_id)?;
        finish(emitter, Some(&mut mac))
    }
}

/// A Binding error response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingError<'a> {
    /// Transaction id of the request.
    pub transaction_id: [u8; 12],
    /// 400, 401, 420, 487, or another code of 300..=699.
    pub code: u16,
    /// Reason phrase.
    pub reason: &'a str,
    /// Types for UNKNOWN-ATTRIBUTES; the attribute is left out when empty.
    pub unknown: &'a [u16],
}

impl BindingError<'_> {
    /// Emits ERROR-CODE, UNKNOWN-ATTRIBUTES, MESSAGE-INTEGRITY and FINGERPRINT; returns the length.
    ///
    /// # Errors
    /// [`EmitError::InvalidValue`] for a code or phrase out of range, [`EmitError::NoSpace`].
    #[inline]
    pub fn emit(&self, out: &mut [u8], mut mac: impl FnMut(&[&[u8]]) -> [u8; 20]) -> Result<usize, EmitError> {
        self.emit_with(out, Some(&mut mac))
    }

    /// Emits without MESSAGE-INTEGRITY, as 400 and 401 must be (RFC 8489 §9.1.3).
    ///
    /// # Errors
    /// As [`Self::emit`].
    #[inline]
    pub fn emit_unauthenticated(&self, out: &mut [u8]) -> Result<usize, EmitError> {
        self.emit_with(out, None)
    }

    fn emit_with(&self, out: &mut [u8], mac: Option<Mac<'_>>) -> Result<usize, EmitError> {
        if !(300..=699).contains(&self.code) || self.reason.len() > MAX_TEXT {
            return Err(EmitError::InvalidValue);
        }
        let [_, class] = (self.code / 100).to_be_bytes();
        let [_, number] = (self.code % 100).to_be_bytes();
        let mut emitter = begin(out, TYPE_ERROR, &self.transaction_id)?;
        let reason_len = u16::try_from(self.reason.len()).map_err(|_| EmitError::InvalidValue)?;
        emitter.be16(attribute::ERROR_CODE)?;
        emitter.be16(reason_len.saturating_add(4))?;
        emitter.put(&[0, 0, class, number])?;
        emitter.put(self.reason.as_bytes())?;
        emitter.pad4(0)?;
        if !self.unknown.is_empty() {
            let len = u16::try_from(self.unknown.len().saturating_mul(2));
            emitter.be16(attribute::UNKNOWN_ATTRIBUTES)?;
            emitter.be16(len.map_err(|_| EmitError::TooMany)?)?;
            for kind in self.unknown {
                emitter.be16(*kind)?;
            }
            emitter.pad4(0)?;
        }
        finish(emitter, mac)
    }
}

/// A Binding request as an ICE agent sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindingRequest<'a> {
    /// Fresh transaction id.
    pub transaction_id: [u8; 12],
    /// `receiver-ufrag:sender-ufrag`.
    pub username: &'a [u8],
    /// Priority of a peer-reflexive candidate.
    pub priority: u32,
    /// Nominates the pair.
    pub use_candidate: bool,
    /// The sender's role.
    pub role: Role,
}

impl BindingRequest<'_> {
    /// Emits USERNAME, PRIORITY, USE-CANDIDATE, the role, MESSAGE-INTEGRITY and FINGERPRINT; returns the length.
    ///
    /// # Errors
    /// [`EmitError::InvalidValue`] for an over-long username, [`EmitError::NoSpace`].
    #[inline]
    pub fn emit(&self, out: &mut [u8], mut mac: impl FnMut(&[&[u8]]) -> [u8; 20]) -> Result<usize, EmitError> {
        if self.username.len() > MAX_TEXT {
            return Err(EmitError::InvalidValue);
        }
        let mut emitter = begin(out, TYPE_REQUEST, &self.transaction_id)?;
        emitter.be16(attribute::USERNAME)?;
        emitter.be16(u16::try_from(self.username.len()).map_err(|_| EmitError::InvalidValue)?)?;
        emitter.put(self.username)?;
        emitter.pad4(0)?;
        emitter.be16(attribute::PRIORITY)?;
        emitter.be16(4)?;
        emitter.be32(self.priority)?;
        if self.use_candidate {
            emitter.be16(attribute::USE_CANDIDATE)?;
            emitter.be16(0)?;
        }
        let (kind, tie_breaker) = match self.role {
            Role::Controlled(value) => (attribute::ICE_CONTROLLED, value),
            Role::Controlling(value) => (attribute::ICE_CONTROLLING, value),
        };
        emitter.be16(kind)?;
        emitter.be16(8)?;
        emitter.put(&tie_breaker.to_be_bytes())?;
        finish(emitter, Some(&mut mac))
    }
}

fn begin<'o>(out: &'o mut [u8], kind: u16, transaction_id: &[u8; 12]) -> Result<Emitter<'o>, EmitError> {
    let mut emitter = Emitter::begin(out);
    emitter.be16(kind)?;
    emitter.be16(0)?;
    emitter.be32(MAGIC_COOKIE)?;
    emitter.put(transaction_id)?;
    Ok(emitter)
}

fn finish(mut emitter: Emitter<'_>, mac: Option<Mac<'_>>) -> Result<usize, EmitError> {
    if let Some(mac) = mac {
        set_len(&mut emitter, INTEGRITY_ATTRIBUTE_LEN)?;
        let value = mac(&[emitter.written()]);
        emitter.be16(attribute::MESSAGE_INTEGRITY)?;
        emitter.be16(20)?;
        emitter.put(&value)?;
    }
    set_len(&mut emitter, 8)?;
    let fingerprint = crc32(&[emitter.written()]) ^ FINGERPRINT_XOR;
    emitter.be16(attribute::FINGERPRINT)?;
    emitter.be16(4)?;
    emitter.be32(fingerprint)?;
    Ok(emitter.position())
}

/// Sets the length field to what is written plus `upcoming` bytes.
fn set_len(emitter: &mut Emitter<'_>, upcoming: usize) -> Result<(), EmitError> {
    let len = emitter.position().saturating_add(upcoming).saturating_sub(HEADER_LEN);
    let len = u16::try_from(len).map_err(|_| EmitError::NoSpace)?;
    emitter.patch(2, &len.to_be_bytes())
}
