// SPDX-License-Identifier: Apache-2.0
//! RTP headers (RFC 3550 §5.1) and their extension elements (RFC 8285).
//!
//! All lengths are proven once by `parse`; the accessors cannot fail. Padding belongs to the plain text: only
//! [`RtpPacket`] looks at it, [`RtpHeader`] is for packets that are still encrypted.
//! Must never believe an element length beyond the extension block.

mod header_writer;

pub use header_writer::{EmittedHeader, HeaderWriter, MAX_ELEMENTS};

use crate::bytes::{array, be16, slice};

/// Bytes of the fixed header.
pub const FIXED_LEN: usize = 12;
/// Profile of the one-byte element form (RFC 8285 §4.2).
pub const PROFILE_ONE_BYTE: u16 = 0xBEDE;
/// Profile of the two-byte element form, low four bits "appbits" (RFC 8285 §4.3).
pub const PROFILE_TWO_BYTE: u16 = 0x1000;
const PROFILE_TWO_BYTE_MASK: u16 = 0xFFF0;

/// Why bytes are not an RTP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RtpError {
    /// Shorter than its own header.
    Truncated,
    /// The version is not 2.
    Version,
    /// The padding count is zero or larger than the payload.
    Padding,
}

/// The header of an RTP packet, encrypted payload or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpHeader<'a> {
    first: u8,
    second: u8,
    seq: u16,
    timestamp: u32,
    ssrc: u32,
    csrcs: &'a [u8],
    ext_profile: Option<u16>,
    ext_bytes: &'a [u8],
    ext_offset: usize,
    header_len: usize,
}

impl<'a> RtpHeader<'a> {
    /// Parses the header up to the payload, without a look at the payload or its padding.
    ///
    /// # Errors
    /// [`RtpError::Version`] or [`RtpError::Truncated`].
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let fixed: [u8; FIXED_LEN] = array(packet, 0).ok_or(RtpError::Truncated)?;
        let [first, second, q0, q1, t0, t1, t2, t3, s0, s1, s2, s3] = fixed;
        if first >> 6 != 2 {
            return Err(RtpError::Version);
        }
        let csrc_len = usize::from(first & 0x0F).saturating_mul(4);
        let csrcs = slice(packet, FIXED_LEN, csrc_len).ok_or(RtpError::Truncated)?;
        let mut header = Self {
            first,
            second,
            seq: u16::from_be_bytes([q0, q1]),
            timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
            ssrc: u32::from_be_bytes([s0, s1, s2, s3]),
            csrcs,
            ext_profile: None,
            ext_bytes: &[],
            ext_offset: 0,
            header_len: FIXED_LEN.saturating_add(csrc_len),
        };
        if first & 0x10 != 0 {
            let at = header.header_len;
            let words = be16(packet, at.saturating_add(2)).ok_or(RtpError::Truncated)?;
            let ext_len = usize::from(words).saturating_mul(4);
            header.ext_profile = be16(packet, at);
            header.ext_offset = at.saturating_add(4);
            header.ext_bytes = slice(packet, header.ext_offset, ext_len).ok_or(RtpError::Truncated)?;
            header.header_len = header.ext_offset.saturating_add(ext_len);
        }
        Ok(header)
    }

    /// The payload type, 0..=127.
    #[inline]
    #[must_use]
    pub const fn pt(&self) -> u8 {
        self.second & 0x7F
    }

    /// The marker bit.
    #[inline]
    #[must_use]
    pub const fn marker(&self) -> bool {
        self.second & 0x80 != 0
    }

    /// The sequence number on the wire.
    #[inline]
    #[must_use]
    pub const fn seq(&self) -> u16 {
        self.seq
    }

    /// The media clock on the wire.
    #[inline]
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// The synchronisation source.
    #[inline]
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// The P bit; the count byte is part of the plain text.
    #[inline]
    #[must_use]
    pub const fn has_padding(&self) -> bool {
        self.first & 0x20 != 0
    }

    /// Contributing sources in order.
    #[inline]
    pub fn csrcs(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.csrcs.as_chunks::<4>().0.iter().map(|c| u32::from_be_bytes(*c))
    }

    /// Bytes in front of the payload: fixed header, sources and extension block.
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header_len
    }

    /// The profile field of the extension block, if there is one.
    #[inline]
    #[must_use]
    pub const fn ext_profile(&self) -> Option<u16> {
        self.ext_profile
    }

    /// The bytes of the extension block after its four header bytes; empty without a block.
    #[inline]
    #[must_use]
    pub const fn ext_bytes(&self) -> &'a [u8] {
        self.ext_bytes
    }

    /// Offset of [`Self::ext_bytes`] in the packet; zero without a block.
    #[inline]
    #[must_use]
    pub const fn ext_offset(&self) -> usize {
        self.ext_offset
    }

    /// The extension elements; none when the block has neither of the RFC 8285 forms.
    #[inline]
    #[must_use]
    pub const fn extensions(&self) -> Extensions<'a> {
        let form = match self.ext_profile {
            Some(PROFILE_ONE_BYTE) => Form::OneByte,
            Some(profile) if profile & PROFILE_TWO_BYTE_MASK == PROFILE_TWO_BYTE => Form::TwoByte,
            _ => Form::Done,
        };
        Extensions { bytes: self.ext_bytes, at: 0, offset: self.ext_offset, form }
    }

    /// The first element with this id.
    #[inline]
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<Extension<'a>> {
        self.extensions().find(|element| element.id == id)
    }
}

/// A whole RTP packet in plain text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    header: RtpHeader<'a>,
    payload: &'a [u8],
    padding_len: usize,
}

impl<'a> RtpPacket<'a> {
    /// Parses header, payload and padding.
    ///
    /// # Errors
    /// [`RtpError`]; the padding count must be at least one and leave no negative payload (RFC 3550 §5.1).
    #[inline]
    pub fn parse(packet: &'a [u8]) -> Result<Self, RtpError> {
        let header = RtpHeader::parse(packet)?;
        let body = packet.get(header.header_len..).ok_or(RtpError::Truncated)?;
        if !header.has_padding() {
            return Ok(Self { header, payload: body, padding_len: 0 });
        }
        let padding_len = usize::from(*body.last().ok_or(RtpError::Padding)?);
        let payload_len = body.len().checked_sub(padding_len).ok_or(RtpError::Padding)?;
        if padding_len == 0 {
            return Err(RtpError::Padding);
        }
        let payload = body.get(..payload_len).ok_or(RtpError::Padding)?;
        Ok(Self { header, payload, padding_len })
    }

    /// The header.
    #[inline]
    #[must_use]
    pub const fn header(&self) -> &RtpHeader<'a> {
        &self.header
    }

    /// The payload without padding; empty for a padding-only packet.
    #[inline]
    #[must_use]
    pub const fn payload(&self) -> &'a [u8] {
        self.payload
    }

    /// Bytes of padding, the count byte included; zero when the P bit is clear.
    #[inline]
    #[must_use]
    pub const fn padding_len(&self) -> usize {
        self.padding_len
    }

    /// See [`RtpHeader::pt`].
    #[inline]
    #[must_use]
    pub const fn pt(&self) -> u8 {
        self.header.pt()
    }

    /// See [`RtpHeader::marker`].
    #[inline]
    #[must_use]
    pub const fn marker(&self) -> bool {
        self.header.marker()
    }

    /// See [`RtpHeader::seq`].
    #[inline]
    #[must_use]
    pub const fn seq(&self) -> u16 {
        self.header.seq
    }

    /// See [`RtpHeader::timestamp`].
    #[inline]
    #[must_use]
    pub const fn timestamp(&self) -> u32 {
        self.header.timestamp
    }

    /// See [`RtpHeader::ssrc`].
    #[inline]
    #[must_use]
    pub const fn ssrc(&self) -> u32 {
        self.header.ssrc
    }

    /// See [`RtpHeader::header_len`].
    #[inline]
    #[must_use]
    pub const fn header_len(&self) -> usize {
        self.header.header_len
    }

    /// See [`RtpHeader::extensions`].
    #[inline]
    #[must_use]
    pub const fn extensions(&self) -> Extensions<'a> {
        self.header.extensions()
    }

    /// See [`RtpHeader::extension`].
    #[inline]
    #[must_use]
    pub fn extension(&self, id: u8) -> Option<Extension<'a>> {
        self.header.extension(id)
    }
}

/// One extension element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The negotiated id: 1..=14 in the one-byte form, 1..=255 in the two-byte form.
    pub id: u8,
    /// The element's bytes.
    pub data: &'a [u8],
    /// Offset of `data` in the packet.
    pub offset: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
    Done,
}

/// Iterator over the elements of an extension block.
///
/// It ends at the first element that reaches beyond the block, and in the one-byte form at id 15 and at id 0 with a
/// length (RFC 8285 §4.2). A zero byte where an id is due is padding.
#[derive(Clone, Copy, Debug)]
pub struct Extensions<'a> {
    bytes: &'a [u8],
    at: usize,
    offset: usize,
    form: Form,
}

impl<'a> Extensions<'a> {
    #[inline]
    fn step(&mut self) -> Option<Extension<'a>> {
        loop {
            let first = *self.bytes.get(self.at)?;
            self.at = self.at.saturating_add(1);
            if first == 0 {
                continue;
            }
            let (id, len) = match self.form {
                Form::OneByte => (first >> 4, usize::from(first & 0x0F).saturating_add(1)),
                Form::TwoByte => {
                    let len = *self.bytes.get(self.at)?;
                    self.at = self.at.saturating_add(1);
                    (first, usize::from(len))
                }
                Form::Done => return None,
            };
            if self.form == Form::OneByte && (id == 0 || id == 15) {
                return None;
            }
            let data = slice(self.bytes, self.at, len)?;
            let offset = self.offset.saturating_add(self.at);
            self.at = self.at.saturating_add(len);
            return Some(Extension { id, data, offset });
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = Extension<'a>;

    #[inline]
    fn next(&mut self) -> Option<Extension<'a>> {
        if self.form == Form::Done {
            return None;
        }
        let element = self.step();
        if element.is_none() {
            self.form = Form::Done;
        }
        element
    }
}
