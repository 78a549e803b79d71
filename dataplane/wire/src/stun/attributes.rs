// SPDX-License-Identifier: Apache-2.0
//! ERROR-CODE and the list of attributes a message asks us to understand.
//!
//! Must never grow: what does not fit the list is counted, not kept.

use crate::bytes::array;

/// ERROR-CODE (RFC 8489 §14.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorCode<'a> {
    /// 300..=699.
    pub code: u16,
    /// The phrase, undecoded UTF-8.
    pub reason: &'a [u8],
}

impl<'a> ErrorCode<'a> {
    pub(crate) fn parse(value: &'a [u8]) -> Option<Self> {
        let [_, _, class, number] = array(value, 0)?;
        let class = class & 0x07;
        if !(3..=6).contains(&class) || number > 99 {
            return None;
        }
        let code = u16::from(class).saturating_mul(100).saturating_add(u16::from(number));
        Some(Self { code, reason: value.get(4..)? })
    }
}

/// Comprehension-required attribute types that are not known, for UNKNOWN-ATTRIBUTES in a 420 response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnknownAttributes {
    kinds: [u16; Self::KEPT],
    count: usize,
}

impl UnknownAttributes {
    /// Types kept; further ones are counted only.
    pub const KEPT: usize = 8;

    pub(crate) fn push(&mut self, kind: u16) {
        if let Some(slot) = self.kinds.get_mut(self.count) {
            *slot = kind;
        }
        self.count = self.count.saturating_add(1);
    }

    /// Whether every comprehension-required attribute is known.
    #[inline]
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many there are, those not kept included.
    #[inline]
    #[must_use]
    pub const fn count(&self) -> usize {
        self.count
    }

    /// The types kept, in order.
    #[inline]
    #[must_use]
    pub fn kinds(&self) -> &[u16] {
        self.kinds.get(..self.count).unwrap_or(&self.kinds)
    }
}
