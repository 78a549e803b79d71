// SPDX-License-Identifier: Apache-2.0
//! What a payload says about its frame: start, keyframe, layers, and where the numbers to be rewritten are.
//!
//! One packet at a time, without state: what needs the neighbours (the first packet of a timestamp, the marker bit, the
//! template structure of a dependency descriptor) stays with the caller.
//! Must never look beyond the descriptors and the first bytes of the frame header.

pub mod av1;
pub mod h264;
pub mod opus;
pub mod vp8;
pub mod vp9;

mod bits;

/// Why a payload is not understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CodecError {
    /// Empty, or shorter than its own descriptor.
    Truncated,
    /// A value the format forbids.
    Malformed,
    /// A field to be patched lies outside the lent bytes.
    OutOfBounds,
}

/// A payload format with a parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Codec {
    /// RFC 7587.
    Opus = 1,
    /// RFC 7741.
    Vp8 = 2,
    /// RFC 9628.
    Vp9 = 3,
    /// RFC 6184.
    H264 = 4,
    /// AOM RTP payload format 1.0.
    Av1 = 5,
}

impl Codec {
    /// The codec with this number.
    #[must_use]
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Opus,
            2 => Self::Vp8,
            3 => Self::Vp9,
            4 => Self::H264,
            5 => Self::Av1,
            _ => return None,
        })
    }

    /// The codec of an SDP encoding name, in any case.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        const NAMES: [(&str, Codec); 5] = [
            ("opus", Codec::Opus),
            ("VP8", Codec::Vp8),
            ("VP9", Codec::Vp9),
            ("H264", Codec::H264),
            ("AV1", Codec::Av1),
        ];
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, codec)| *codec)
    }
}

/// A picture id and where it stands in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PictureId {
    /// The number, 7 or 15 bits.
    pub value: u16,
    /// Whether the long form is used.
    pub is_15_bit: bool,
    /// Offset in the payload of its first byte.
    pub offset: u16,
}

/// A number in one byte and where that byte is in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    /// The number.
    pub value: u8,
    /// Offset of the byte in the payload.
    pub offset: u16,
}

/// Width and height in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolution {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// What one payload says. `default()` is a packet about which nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one flag per bit of the descriptors")]
pub struct FrameInfo {
    /// This packet begins something decodable without what came before. For H.264 several packets of one timestamp may
    /// say so; the first of them counts (H1).
    pub keyframe_start: bool,
    /// This packet begins a frame (VP9: a layer frame). Best effort for H.264, and for AV1 without a descriptor.
    pub frame_start: bool,
    /// The descriptor says that the frame ends here. To be joined with the marker bit.
    pub frame_end_hint: bool,
    /// Temporal layer, 0 when not signalled.
    pub temporal_id: u8,
    /// Spatial layer, 0 when not signalled.
    pub spatial_id: u8,
    /// Whether the layer ids were signalled at all (V7).
    pub has_layer_ids: bool,
    /// VP8 Y or VP9 U: from this picture on this temporal layer can be switched to.
    pub layer_sync: bool,
    /// No other frame refers to this one (VP8 N, H.264 `nal_ref_idc` 0).
    pub discardable: bool,
    /// VP9 P: refers to earlier pictures of this layer.
    pub inter_picture: bool,
    /// VP9 D: refers to the spatial layer below of the same picture.
    pub inter_layer: bool,
    /// VP9 Z: no upper spatial layer refers to this frame.
    pub not_upper_reference: bool,
    /// VP8 and VP9 picture id.
    pub picture_id: Option<PictureId>,
    /// TL0PICIDX.
    pub tl0_pic_idx: Option<Field>,
    /// VP8 KEYIDX, 5 bits; the other bits of its byte are TID and Y.
    pub keyidx: Option<Field>,
    /// Size, where the packet holds it: VP8 keyframe, VP9 scalability structure (largest layer), H.264 SPS, AV1 sequence
    /// header.
    pub resolution: Option<Resolution>,
    /// The mandatory fields of a dependency descriptor, if one was given.
    pub dependency: Option<av1::DependencyDescriptor>,
    /// Bytes of the payload descriptor: VP8, VP9 and the AV1 aggregation header; else 0.
    pub descriptor_len: u16,
}

// Copied once per packet: one cache line at most.
const _: () = assert!(size_of::<FrameInfo>() <= 64);

/// Parses a payload without RTP padding. `dependency_descriptor` is the bytes of that header extension, if the packet has
/// one: it decides for AV1 and H.264 and makes an unreadable (end-to-end encrypted) AV1 or H.264 payload acceptable.
///
/// # Errors
/// [`CodecError`]; the packet may still be forwarded with `FrameInfo::default()`.
#[inline]
pub fn parse(codec: Codec, payload: &[u8], dependency_descriptor: Option<&[u8]>) -> Result<FrameInfo, CodecError> {
    let dependency = dependency_descriptor.map(av1::DependencyDescriptor::parse).transpose()?;
    let parsed = match codec {
        Codec::Opus => opus::parse(payload),
        Codec::Vp8 => vp8::parse(payload),
        Codec::Vp9 => vp9::parse(payload),
        Codec::H264 => h264::parse(payload),
        Codec::Av1 => av1::parse(payload),
    };
    let Some(descriptor) = dependency else {
        return parsed;
    };
    let mut info = match codec {
        Codec::H264 | Codec::Av1 => parsed.unwrap_or_default(),
        Codec::Opus | Codec::Vp8 | Codec::Vp9 => parsed?,
    };
    info.dependency = Some(descriptor);
    if matches!(codec, Codec::H264 | Codec::Av1) {
        info.frame_start = descriptor.start_of_frame;
        info.frame_end_hint = descriptor.end_of_frame;
        info.keyframe_start = descriptor.start_of_frame && descriptor.has_structure;
    }
    Ok(info)
}
