// SPDX-License-Identifier: Apache-2.0
//! H.264 payloads (RFC 6184), packetization modes 0 and 1.
//!
//! Must never rewrite a payload (H2).

use crate::bytes::Reader;
use crate::codec::bits::BitReader;
use crate::codec::{CodecError, FrameInfo, Resolution};

const NAL_SLICE: u8 = 1;
const NAL_PARTITION_A: u8 = 2;
const NAL_IDR: u8 = 5;
const NAL_SEI: u8 = 6;
const NAL_SPS: u8 = 7;
const NAL_PPS: u8 = 8;
const NAL_AUD: u8 = 9;
const NAL_STAP_A: u8 = 24;
const NAL_FU_A: u8 = 28;
const NAL_HEADER: usize = 1;

/// Parses one payload. Rule H1: SPS, PPS or IDR, alone, in a STAP-A, or at the start of an FU-A, is a keyframe start.
///
/// Frame starts are a best effort: a slice of macroblock 0 or something that precedes slices.
///
/// # Errors
/// [`CodecError::Truncated`] for an empty or cut payload, [`CodecError::Malformed`] when the forbidden bit is set or the
/// NAL unit type is not of packetization modes 0 and 1.
#[inline]
pub fn parse(payload: &[u8]) -> Result<FrameInfo, CodecError> {
    let first = *payload.first().ok_or(CodecError::Truncated)?;
    if first & 0x80 != 0 {
        return Err(CodecError::Malformed);
    }
    let mut info = FrameInfo { discardable: first & 0x60 == 0, ..FrameInfo::default() };
    match first & 0x1F {
        1..=23 => add_nal(payload, &mut info),
        NAL_STAP_A => add_aggregate(payload, &mut info).ok_or(CodecError::Truncated)?,
        NAL_FU_A => add_fragment(payload, &mut info).ok_or(CodecError::Truncated)?,
        _ => return Err(CodecError::Malformed),
    }
    Ok(info)
}

/// Adds what a NAL unit (or its beginning) tells.
fn add_nal(nal: &[u8], info: &mut FrameInfo) {
    let kind = nal.first().map_or(0, |byte| byte & 0x1F);
    // first_mb_in_slice is the first field of a slice header: a set first bit codes zero.
    let is_first_slice = nal.get(NAL_HEADER).is_some_and(|byte| byte & 0x80 != 0);
    match kind {
        NAL_SLICE | NAL_PARTITION_A => info.frame_start |= is_first_slice,
        NAL_IDR => {
            info.frame_start |= is_first_slice;
            info.keyframe_start = true;
        }
        NAL_SPS => {
            info.frame_start = true;
            info.keyframe_start = true;
            info.resolution = info.resolution.or_else(|| sps_resolution(nal));
        }
        NAL_PPS => {
            info.frame_start = true;
            info.keyframe_start = true;
        }
        NAL_SEI | NAL_AUD => info.frame_start = true,
        _ => {}
    }
}

fn add_aggregate(payload: &[u8], info: &mut FrameInfo) -> Option<()> {
    let mut reader = Reader::begin(payload);
    reader.u8()?;
    info.discardable = true;
    while !reader.rest().is_empty() {
        let len = usize::from(reader.be16()?);
        let nal = reader.take(len)?;
        info.discardable &= nal.first()? & 0x60 == 0;
        add_nal(nal, info);
    }
    Some(())
}

fn add_fragment(payload: &[u8], info: &mut FrameInfo) -> Option<()> {
    let header = *payload.get(NAL_HEADER)?;
    let body = payload.get(NAL_HEADER.saturating_add(1)..)?;
    if header & 0x80 != 0 {
        let is_first_slice = *body.first()? & 0x80 != 0;
        let kind = header & 0x1F;
        info.keyframe_start = matches!(kind, NAL_IDR | NAL_SPS | NAL_PPS);
        info.frame_start = match kind {
            NAL_SLICE | NAL_PARTITION_A | NAL_IDR => is_first_slice,
            NAL_SEI..=NAL_AUD => true,
            _ => false,
        };
    }
    Some(())
}

/// Size from a sequence parameter set (H.264 §7.3.2.1.1), cropping applied.
fn sps_resolution(nal: &[u8]) -> Option<Resolution> {
    let mut bits = BitReader::begin(nal.get(NAL_HEADER..)?, true);
    let profile = bits.bits(8)?;
    bits.skip(16)?;
    bits.ue()?;
    let mut chroma_format = 1;
    if matches!(profile, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
        chroma_format = skip_chroma(&mut bits)?;
    }
    bits.ue()?;
    match bits.ue()? {
        0 => {
            bits.ue()?;
        }
        1 => {
            bits.skip(1)?;
            bits.se()?;
            bits.se()?;
            for _ in 0..bits.ue()?.min(255) {
                bits.se()?;
            }
        }
        _ => {}
    }
    bits.ue()?;
    bits.skip(1)?;
    let width = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let map_units = bits.ue()?.checked_add(1)?.checked_mul(16)?;
    let frame_mbs_only = bits.flag()?;
    let field_factor = if frame_mbs_only { 1 } else { 2 };
    let height = map_units.checked_mul(field_factor)?;
    if !frame_mbs_only {
        bits.skip(1)?;
    }
    bits.skip(1)?;
    let (mut crop_x, mut crop_y) = (0, 0);
    if bits.flag()? {
        let unit_x = if matches!(chroma_format, 1 | 2) { 2 } else { 1 };
        let unit_y = if chroma_format == 1 { 2 } else { 1 };
        crop_x = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_x)?;
        crop_y = bits.ue()?.checked_add(bits.ue()?)?.checked_mul(unit_y)?.checked_mul(field_factor)?;
    }
    Some(Resolution {
        width: u16::try_from(width.checked_sub(crop_x)?).ok()?,
        height: u16::try_from(height.checked_sub(crop_y)?).ok()?,
    })
}

/// Passes over the chroma and scaling part of the high profiles; gives `chroma_format_idc`.
fn skip_chroma(bits: &mut BitReader<'_>) -> Option<u32> {
    let chroma_format = bits.ue()?;
    if chroma_format == 3 {
        bits.skip(1)?;
    }
    bits.ue()?;
    bits.ue()?;
    bits.skip(1)?;
    if bits.flag()? {
        let lists = if chroma_format == 3 { 12 } else { 8 };
        for list in 0..lists {
            if bits.flag()? {
                skip_scaling_list(bits, if list < 6 { 16 } else { 64 })?;
            }
        }
    }
    Some(chroma_format)
}

/// H.264 §7.3.2.1.1.1.
fn skip_scaling_list(bits: &mut BitReader<'_>, size: u32) -> Option<()> {
    let (mut last, mut next) = (8_i32, 8_i32);
    for _ in 0..size {
        if next != 0 {
            next = last.wrapping_add(bits.se()?).rem_euclid(256);
        }
        last = if next == 0 { last } else { next };
    }
    Some(())
}
