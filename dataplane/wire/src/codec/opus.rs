// SPDX-License-Identifier: Apache-2.0
//! Opus (RFC 7587): every packet is a frame of its own.
//!
//! Must never decode audio.

use crate::codec::{CodecError, FrameInfo};

/// Longest payload that a sender in DTX emits (RFC 6716 §3.1: only the TOC byte, or with one more byte).
const DTX_MAX_LEN: usize = 2;

/// Parses one payload. Every packet starts and ends a frame; DTX packets are discardable (O1).
///
/// # Errors
/// [`CodecError::Truncated`] for an empty payload.
#[inline]
pub fn parse(payload: &[u8]) -> Result<FrameInfo, CodecError> {
    if payload.is_empty() {
        return Err(CodecError::Truncated);
    }
    Ok(FrameInfo {
        keyframe_start: true,
        frame_start: true,
        frame_end_hint: true,
        discardable: payload.len() <= DTX_MAX_LEN,
        ..FrameInfo::default()
    })
}
