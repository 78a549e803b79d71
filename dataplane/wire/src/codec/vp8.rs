// SPDX-License-Identifier: Apache-2.0
//! VP8 payload descriptor (RFC 7741 §4.2).
//!
//! Must never patch a field the descriptor does not have: lengths never change here.

use crate::bytes::{Reader, array};
use crate::codec::{CodecError, Field, FrameInfo, PictureId, Resolution};

const START_CODE: [u8; 3] = [0x9D, 0x01, 0x2A];

/// Parses descriptor and, at a keyframe, the size in the frame header. Rule V1; a descriptor with X = 0 is legal.
///
/// # Errors
/// [`CodecError::Truncated`] when the descriptor is cut or nothing follows it.
#[inline]
pub fn parse(payload: &[u8]) -> Result<FrameInfo, CodecError> {
    parse_descriptor(payload).ok_or(CodecError::Truncated)
}

fn parse_descriptor(payload: &[u8]) -> Option<FrameInfo> {
    let mut reader = Reader::begin(payload);
    let first = reader.u8()?;
    let extensions = if first & 0x80 != 0 { reader.u8()? } else { 0 };
    let mut info = FrameInfo { discardable: first & 0x20 != 0, ..FrameInfo::default() };
    if extensions & 0x80 != 0 {
        info.picture_id = Some(picture_id(&mut reader)?);
    }
    if extensions & 0x40 != 0 {
        let offset = u16::try_from(reader.position()).ok()?;
        info.tl0_pic_idx = Some(Field { value: reader.u8()?, offset });
    }
    if extensions & 0x30 != 0 {
        let offset = u16::try_from(reader.position()).ok()?;
        let byte = reader.u8()?;
        if extensions & 0x20 != 0 {
            info.temporal_id = byte >> 6;
            info.layer_sync = byte & 0x20 != 0;
            info.has_layer_ids = true;
        }
        if extensions & 0x10 != 0 {
            info.keyidx = Some(Field { value: byte & 0x1F, offset });
        }
    }
    info.descriptor_len = u16::try_from(reader.position()).ok()?;
    let frame = reader.rest();
    // S = 1 and PID = 0: the first byte of the first partition, the frame tag.
    info.frame_start = first & 0x17 == 0x10;
    info.keyframe_start = info.frame_start && frame.first()? & 1 == 0;
    if info.keyframe_start {
        info.resolution = resolution(frame);
    }
    frame.first().map(|_| info)
}

/// Reads a 7- or 15-bit picture id; VP8 and VP9 share the form.
pub(crate) fn picture_id(reader: &mut Reader<'_>) -> Option<PictureId> {
    let offset = u16::try_from(reader.position()).ok()?;
    let first = reader.u8()?;
    let is_15_bit = first & 0x80 != 0;
    let mut value = u16::from(first & 0x7F);
    if is_15_bit {
        value = (value << 8) | u16::from(reader.u8()?);
    }
    Some(PictureId { value, is_15_bit, offset })
}

/// Size in a keyframe header (RFC 6386 §9.1); the two scaling bits are cut.
fn resolution(frame: &[u8]) -> Option<Resolution> {
    let [_, _, _, s0, s1, s2, w0, w1, h0, h1] = array(frame, 0)?;
    ([s0, s1, s2] == START_CODE).then(|| Resolution {
        width: u16::from_le_bytes([w0, w1]) & 0x3FFF,
        height: u16::from_le_bytes([h0, h1]) & 0x3FFF,
    })
}

/// Overwrites picture id, TL0PICIDX and KEYIDX in place, each only if `info` says that the descriptor has it. The form of
/// the picture id stays; upper bits that do not fit are cut. `prefix` is the payload or its beginning.
///
/// # Errors
/// [`CodecError::OutOfBounds`] when a field lies beyond `prefix`; nothing is changed then.
#[inline]
pub fn patch(
    prefix: &mut [u8],
    info: &FrameInfo,
    picture_id: u16,
    tl0_pic_idx: u8,
    keyidx: u8,
) -> Result<(), CodecError> {
    let last = [
        info.picture_id.map(|id| id.offset.saturating_add(u16::from(id.is_15_bit))),
        info.tl0_pic_idx.map(|field| field.offset),
        info.keyidx.map(|field| field.offset),
    ];
    if last.iter().flatten().any(|offset| usize::from(*offset) >= prefix.len()) {
        return Err(CodecError::OutOfBounds);
    }
    if let Some(id) = info.picture_id {
        let [high, low] = picture_id.to_be_bytes();
        if id.is_15_bit {
            set(prefix, id.offset, 0x80 | high);
            set(prefix, id.offset.saturating_add(1), low);
        } else {
            set(prefix, id.offset, low & 0x7F);
        }
    }
    if let Some(field) = info.tl0_pic_idx {
        set(prefix, field.offset, tl0_pic_idx);
    }
    if let Some(field) = info.keyidx
        && let Some(byte) = prefix.get_mut(usize::from(field.offset))
    {
        *byte = (*byte & 0xE0) | (keyidx & 0x1F);
    }
    Ok(())
}

#[inline]
fn set(prefix: &mut [u8], offset: u16, value: u8) {
    if let Some(byte) = prefix.get_mut(usize::from(offset)) {
        *byte = value;
    }
}
