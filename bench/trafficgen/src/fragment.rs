// SPDX-License-Identifier: Apache-2.0
//! What stands in front of a payload's own bytes: room for the longest descriptor, and a packet's place in its frame.

/// Bytes of the longest one: VP9's with a scalability structure of three sizes and four pictures.
pub(crate) const LONGEST: usize = 27;

/// A packet's place in its frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Fragment {
    /// From 0.
    pub(crate) nth: u64,
    /// Packets of the frame.
    pub(crate) packets: u64,
    /// The frame can be decoded without others.
    pub(crate) is_keyframe: bool,
}

impl Fragment {
    pub(crate) const fn is_last(self) -> bool {
        self.nth + 1 == self.packets
    }
}

/// A head that is being written.
pub(crate) struct Bytes<'b> {
    out: &'b mut [u8; LONGEST],
    len: usize,
}

impl<'b> Bytes<'b> {
    pub(crate) const fn new(out: &'b mut [u8; LONGEST]) -> Self {
        Self { out, len: 0 }
    }

    pub(crate) fn push(&mut self, byte: u8) {
        if let Some(place) = self.out.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.push(*byte));
    }

    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}
