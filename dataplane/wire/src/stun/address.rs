// SPDX-License-Identifier: Apache-2.0
//! MAPPED-ADDRESS and XOR-MAPPED-ADDRESS (RFC 8489 §14.1, §14.2).
//!
//! Must never emit family 2 for a v4-mapped address: browsers compare the family with their socket's.

use crate::bytes::{array, be16, u8_at};
use crate::emit::{EmitError, Emitter};
use crate::ip::{map_v4, unmap_v4};
use crate::stun::{MAGIC_COOKIE, attribute};

const FAMILY_IPV4: u8 = 1;
const FAMILY_IPV6: u8 = 2;

/// A transport address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// IPv6, or IPv4 as `::ffff:a.b.c.d`.
    pub ip: [u8; 16],
    /// UDP port.
    pub port: u16,
}

impl Address {
    /// Parses an attribute value as it stands, without XOR.
    #[inline]
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let port = be16(value, 2)?;
        let ip = match (u8_at(value, 1)?, value.len()) {
            (FAMILY_IPV4, 8) => map_v4(array(value, 4)?),
            (FAMILY_IPV6, 20) => array(value, 4)?,
            _ => return None,
        };
        Some(Self { ip, port })
    }

    /// Parses the value of XOR-MAPPED-ADDRESS.
    #[inline]
    pub(crate) fn parse_xor(value: &[u8], transaction_id: &[u8; 12]) -> Option<Self> {
        let is_ipv4 = u8_at(value, 1)? == FAMILY_IPV4;
        Some(Self::parse(value)?.xor(transaction_id, is_ipv4))
    }

    /// Applies the XOR of XOR-MAPPED-ADDRESS, which is its own inverse. The family is an argument because a masked IPv6
    /// address may look v4-mapped.
    fn xor(self, transaction_id: &[u8; 12], is_ipv4: bool) -> Self {
        let cookie = MAGIC_COOKIE.to_be_bytes();
        let [c0, c1, ..] = cookie;
        let port = self.port ^ u16::from_be_bytes([c0, c1]);
        if is_ipv4 {
            let [.., a, b, c, d] = self.ip;
            let masked = u32::from_be_bytes([a, b, c, d]) ^ MAGIC_COOKIE;
            return Self { ip: map_v4(masked.to_be_bytes()), port };
        }
        let mut ip = self.ip;
        for (byte, key) in ip.iter_mut().zip(cookie.iter().chain(transaction_id)) {
            *byte ^= key;
        }
        Self { ip, port }
    }

    /// Emits XOR-MAPPED-ADDRESS.
    pub(crate) fn emit_xor(self, emitter: &mut Emitter<'_>, transaction_id: &[u8; 12]) -> Result<(), EmitError> {
        let is_ipv4 = unmap_v4(&self.ip).is_some();
        let masked = self.xor(transaction_id, is_ipv4);
        emitter.be16(attribute::XOR_MAPPED_ADDRESS)?;
        if is_ipv4 {
            let [.., a, b, c, d] = masked.ip;
            emitter.be16(8)?;
            emitter.put(&[0, FAMILY_IPV4])?;
            emitter.be16(masked.port)?;
            emitter.put(&[a, b, c, d])
        } else {
            emitter.be16(20)?;
            emitter.put(&[0, FAMILY_IPV6])?;
            emitter.be16(masked.port)?;
            emitter.put(&masked.ip)
        }
    }
}
