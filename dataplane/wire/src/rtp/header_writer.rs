// SPDX-License-Identifier: Apache-2.0
//! Emits an RTP header with its extension block.
//!
//! Must never write an id of zero, nor mix the two element forms in one block.

use crate::emit::{EmitError, Emitter};
use crate::rtp::{FIXED_LEN, PROFILE_ONE_BYTE, PROFILE_TWO_BYTE};

/// Elements one header can carry.
pub const MAX_ELEMENTS: usize = 16;

/// The fields of a fixed RTP header to be emitted; there are no contributing sources.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderWriter {
    /// The marker bit.
    pub marker: bool,
    /// The P bit; the padding itself is the caller's.
    pub has_padding: bool,
    /// The payload type, 0..=127.
    pub pt: u8,
    /// The sequence number.
    pub seq: u16,
    /// The media clock.
    pub timestamp: u32,
    /// The synchronisation source.
    pub ssrc: u32,
}

/// Where the parts of an emitted header are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EmittedHeader {
    /// Bytes written; the payload starts here. Always a multiple of four.
    pub header_len: usize,
    /// Number of elements written.
    pub element_count: usize,
    /// Offset of the data of each element in the packet, in the order given; zero beyond the count.
    pub element_offsets: [u16; MAX_ELEMENTS],
}

impl HeaderWriter {
    /// Emits the header and the elements `(id, data)`; without elements there is no extension block.
    ///
    /// The one-byte form is used when every id is 1..=14 and every length 1..=16, else the two-byte form (RFC 8285).
    ///
    /// # Errors
    /// [`EmitError::InvalidValue`] for a payload type above 127, id 0 or data longer than 255 bytes,
    /// [`EmitError::TooMany`] above [`MAX_ELEMENTS`], [`EmitError::NoSpace`].
    #[inline]
    pub fn emit<'e, I>(&self, out: &mut [u8], elements: I) -> Result<EmittedHeader, EmitError>
    where
        I: IntoIterator<Item = (u8, &'e [u8])>,
        I::IntoIter: Clone,
    {
        let elements = elements.into_iter();
        let has_elements = elements.clone().next().is_some();
        let mut emitter = Emitter::begin(out);
        self.emit_fixed(&mut emitter, has_elements)?;
        let mut emitted = EmittedHeader { header_len: FIXED_LEN, ..EmittedHeader::default() };
        if has_elements {
            emit_block(&mut emitter, elements, &mut emitted)?;
        }
        Ok(emitted)
    }

    fn emit_fixed(&self, emitter: &mut Emitter<'_>, has_elements: bool) -> Result<(), EmitError> {
        if self.pt > 127 {
            return Err(EmitError::InvalidValue);
        }
        let first = 0x80 | (u8::from(self.has_padding) << 5) | (u8::from(has_elements) << 4);
        emitter.put(&[first, (u8::from(self.marker) << 7) | self.pt])?;
        emitter.be16(self.seq)?;
        emitter.be32(self.timestamp)?;
        emitter.be32(self.ssrc)
    }
}

fn emit_block<'e>(
    emitter: &mut Emitter<'_>,
    elements: impl Iterator<Item = (u8, &'e [u8])> + Clone,
    emitted: &mut EmittedHeader,
) -> Result<(), EmitError> {
    let is_one_byte = elements.clone().all(|(id, data)| (1..=14).contains(&id) && (1..=16).contains(&data.len()));
    emitter.be16(if is_one_byte { PROFILE_ONE_BYTE } else { PROFILE_TWO_BYTE })?;
    emitter.be16(0)?;
    let start = emitter.position();
    for (id, data) in elements {
        let len = u8::try_from(data.len()).map_err(|_| EmitError::InvalidValue)?;
        if id == 0 {
            return Err(EmitError::InvalidValue);
        }
        if is_one_byte {
            emitter.u8((id << 4) | (len.saturating_sub(1) & 0x0F))?;
        } else {
            emitter.put(&[id, len])?;
        }
        let slot = emitted.element_offsets.get_mut(emitted.element_count).ok_or(EmitError::TooMany)?;
        *slot = u16::try_from(emitter.position()).map_err(|_| EmitError::NoSpace)?;
        emitted.element_count = emitted.element_count.saturating_add(1);
        emitter.put(data)?;
    }
    emitter.pad4(start)?;
    let words = emitter.position().saturating_sub(start) / 4;
    let words = u16::try_from(words).map_err(|_| EmitError::TooMany)?;
    emitter.patch(start.saturating_sub(2), &words.to_be_bytes())?;
    emitted.header_len = emitter.position();
    Ok(())
}
