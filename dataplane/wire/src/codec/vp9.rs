// SPDX-License-Identifier: Apache-2.0
//! VP9 payload descriptor (RFC 9628 §4.2).
//!
//! Must never follow more than three reference indices.

use crate::bytes::Reader;
use crate::codec::vp8::picture_id;
use crate::codec::{CodecError, Field, FrameInfo, Resolution};

const I: u8 = 0x80;
const P: u8 = 0x40;
const L: u8 = 0x20;
const F: u8 = 0x10;
const B: u8 = 0x08;
const E: u8 = 0x04;
const V: u8 = 0x02;
const Z: u8 = 0x01;

/// Reference indices of one frame (RFC 9628 §4.2: P_DIFF up to three times).
const MAX_REFERENCES: usize = 3;

/// Parses the descriptor. Rule N1.
///
/// # Errors
/// [`CodecError::Truncated`] when the descriptor is cut or nothing follows it, [`CodecError::Malformed`] for a fourth
/// reference or flexible mode without a picture id.
#[inline]
pub fn parse(payload: &[u8]) -> Result<FrameInfo, CodecError> {
    let mut reader = Reader::begin(payload);
    let flags = reader.u8().ok_or(CodecError::Truncated)?;
    // RFC 9628 §4.2: with F set, I must be set.
    if flags & (F | I) == F {
        return Err(CodecError::Malformed);
    }
    let mut info = FrameInfo {
        frame_start: flags & B != 0,
        frame_end_hint: flags & E != 0,
        inter_picture: flags & P != 0,
        not_upper_reference: flags & Z != 0,
        ..FrameInfo::default()
    };
    parse_ids(&mut reader, flags, &mut info).ok_or(CodecError::Truncated)?;
    if flags & (F | P) == F | P {
        skip_references(&mut reader)?;
    }
    if flags & V != 0 {
        info.resolution = parse_structure(&mut reader).ok_or(CodecError::Truncated)?;
    }
    info.descriptor_len = u16::try_from(reader.position()).map_err(|_| CodecError::Malformed)?;
    if reader.rest().is_empty() {
        return Err(CodecError::Truncated);
    }
    info.keyframe_start = info.frame_start && !info.inter_picture && info.spatial_id == 0;
    Ok(info)
}

fn parse_ids(reader: &mut Reader<'_>, flags: u8, info: &mut FrameInfo) -> Option<()> {
    if flags & I != 0 {
        info.picture_id = Some(picture_id(reader)?);
    }
    if flags & L != 0 {
        let byte = reader.u8()?;
        info.temporal_id = byte >> 5;
        info.layer_sync = byte & 0x10 != 0;
        info.spatial_id = (byte >> 1) & 0x07;
        info.inter_layer = byte & 1 != 0;
        info.has_layer_ids = true;
        if flags & F == 0 {
            let offset = u16::try_from(reader.position()).ok()?;
            info.tl0_pic_idx = Some(Field { value: reader.u8()?, offset });
        }
    }
    Some(())
}

fn skip_references(reader: &mut Reader<'_>) -> Result<(), CodecError> {
    for _ in 0..MAX_REFERENCES {
        if reader.u8().ok_or(CodecError::Truncated)? & 1 == 0 {
            return Ok(());
        }
    }
    Err(CodecError::Malformed)
}

/// Walks the scalability structure; gives the size of the topmost layer, if sizes are there.
#[expect(clippy::option_option, reason = "outer: truncated, inner: no sizes")]
fn parse_structure(reader: &mut Reader<'_>) -> Option<Option<Resolution>> {
    let head = reader.u8()?;
    let mut resolution = None;
    if head & 0x10 != 0 {
        for _ in 0..=(head >> 5) {
            let (width, height) = (reader.be16()?, reader.be16()?);
            resolution = Some(Resolution { width, height });
        }
    }
    if head & 0x08 != 0 {
        for _ in 0..reader.u8()? {
            let picture = reader.u8()?;
            reader.take(usize::from((picture >> 2) & 0x03))?;
        }
    }
    Some(resolution)
}
