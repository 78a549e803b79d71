// SPDX-License-Identifier: Apache-2.0
//! AV1: the aggregation header and first OBU of a payload, and the mandatory fields of the dependency descriptor
//! (AOM RTP payload format 1.0 §4.4 and Appendix A).
//!
//! Must never decide layers from templates: that needs the structure of an earlier packet and belongs to the forwarder.

use crate::bytes::{Reader, array, u8_at};
use crate::codec::bits::BitReader;
use crate::codec::{CodecError, FrameInfo, Resolution};

const OBU_SEQUENCE_HEADER: u8 = 1;
const OBU_TEMPORAL_DELIMITER: u8 = 2;
const OBU_FRAME_HEADER: u8 = 3;
const OBU_METADATA: u8 = 5;
const OBU_FRAME: u8 = 6;

/// The mandatory fields of a dependency descriptor (§A.8.2) and the two flags that follow them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// First packet of the frame.
    pub start_of_frame: bool,
    /// Last packet of the frame.
    pub end_of_frame: bool,
    /// Template of the frame, 0..=63, relative to nothing: the offset is part of the structure.
    pub template_id: u8,
    /// Frame number, wraps at 2^16.
    pub frame_number: u16,
    /// A template structure follows: this is a keyframe.
    pub has_structure: bool,
    /// A bitmask of active decode targets follows.
    pub has_active_targets: bool,
}

impl DependencyDescriptor {
    /// Parses the first three bytes and, if there is a fourth, the flags of the extended part.
    ///
    /// # Errors
    /// [`CodecError::Truncated`] below three bytes.
    #[inline]
    pub fn parse(data: &[u8]) -> Result<Self, CodecError> {
        let [flags, high, low] = array(data, 0).ok_or(CodecError::Truncated)?;
        let extended = u8_at(data, 3).unwrap_or(0);
        Ok(Self {
            start_of_frame: flags & 0x80 != 0,
            end_of_frame: flags & 0x40 != 0,
            template_id: flags & 0x3F,
            frame_number: u16::from_be_bytes([high, low]),
            has_structure: extended & 0x80 != 0,
            has_active_targets: extended & 0x40 != 0,
        })
    }
}

/// Parses a payload without a descriptor: the N bit together with a sequence header in front is a keyframe start.
///
/// # Errors
/// [`CodecError::Truncated`] when the first OBU element is cut or missing.
#[inline]
pub fn parse(payload: &[u8]) -> Result<FrameInfo, CodecError> {
    parse_aggregate(payload).ok_or(CodecError::Truncated)
}

fn parse_aggregate(payload: &[u8]) -> Option<FrameInfo> {
    let mut reader = Reader::begin(payload);
    let aggregation = reader.u8()?;
    let is_continued = aggregation & 0x80 != 0;
    let element_count = (aggregation >> 4) & 3;
    let mut info = FrameInfo { descriptor_len: 1, ..FrameInfo::default() };
    let len = if element_count == 1 { reader.rest().len() } else { leb128(&mut reader)? };
    let element = reader.take(len)?;
    if is_continued {
        return Some(info);
    }
    let mut obu = Reader::begin(element);
    let header = obu.u8()?;
    let kind = (header >> 3) & 0x0F;
    if header & 0x04 != 0 {
        let extension = obu.u8()?;
        info.temporal_id = extension >> 5;
        info.spatial_id = (extension >> 3) & 3;
        info.has_layer_ids = true;
    }
    if header & 0x02 != 0 {
        leb128(&mut obu)?;
    }
    info.frame_start =
        matches!(kind, OBU_SEQUENCE_HEADER | OBU_TEMPORAL_DELIMITER | OBU_FRAME_HEADER | OBU_METADATA | OBU_FRAME);
    if kind == OBU_SEQUENCE_HEADER {
        info.keyframe_start = aggregation & 0x08 != 0;
        info.resolution = sequence_resolution(obu.rest());
    }
    Some(info)
}

/// A little-endian base-128 number of at most 8 bytes (AV1 §4.10.5), cut to what fits a length.
fn leb128(reader: &mut Reader<'_>) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..56_u32).step_by(7) {
        let byte = reader.u8()?;
        value |= u64::from(byte & 0x7F).wrapping_shl(shift);
        if byte & 0x80 == 0 {
            return usize::try_from(value).ok();
        }
    }
    None
}

/// Largest size of a sequence header (AV1 §5.5.1).
fn sequence_resolution(header: &[u8]) -> Option<Resolution> {
    let mut bits = BitReader::begin(header, false);
    bits.skip(4)?;
    if bits.flag()? {
        bits.skip(5)?;
    } else {
        skip_operating_points(&mut bits)?;
    }
    let width_bits = bits.bits(4)?.saturating_add(1);
    let height_bits = bits.bits(4)?.saturating_add(1);
    Some(Resolution {
        width: u16::try_from(bits.bits(width_bits)?.saturating_add(1)).ok()?,
        height: u16::try_from(bits.bits(height_bits)?.saturating_add(1)).ok()?,
    })
}

fn skip_operating_points(bits: &mut BitReader<'_>) -> Option<()> {
    let mut delay_bits = None;
    if bits.flag()? {
        bits.skip(64)?;
        if bits.flag()? {
            bits.ue()?;
        }
        if bits.flag()? {
            delay_bits = Some(bits.bits(5)?.saturating_add(1));
            bits.skip(32 + 10)?;
        }
    }
    let has_display_delay = bits.flag()?;
    for _ in 0..=bits.bits(5)? {
        bits.skip(12)?;
        if bits.bits(5)? > 7 {
            bits.skip(1)?;
        }
        if let Some(delay_bits) = delay_bits
            && bits.flag()?
        {
            bits.skip(delay_bits.saturating_mul(2).saturating_add(1))?;
        }
        if has_display_delay && bits.flag()? {
            bits.skip(4)?;
        }
    }
    Some(())
}
