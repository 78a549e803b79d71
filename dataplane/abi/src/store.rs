// SPDX-License-Identifier: Apache-2.0
//! Records of the packet store: per ingress stream a directory of slots and a byte log of chunks.
//!
//! ```text
//!  directory chunk: 2048 slots × 32 B, slot = ext_seq mod 2048          data chunks: [StoredHead | plaintext payload] …
//! ```
//!
//! A slot's `tag` is ext_seq + 1 (48 bits) under the log's generation (16 bits) once the packet may be read, and 0 while
//! its bytes may be overwritten. A reader reads the tag before and after it used the bytes; a difference means that the
//! owner lapped it.

use core::sync::atomic::AtomicU64;

use crate::layout::{record, shared_record};

shared_record!(
    /// One packet of a log.
    LogSlot, version 1, size 32 {
        /// Generation of the log (bits 48..64), ext_seq + 1 (bits 0..48), stored last with Release; 0 = empty.
        tag: AtomicU64,
        /// Byte offset into the store memfd (low 40 bits), length of head and payload (high 24 bits).
        place: AtomicU64,
        /// RTP timestamp (low half), flags of `packet_flags` (high half).
        info: AtomicU64,
        /// Arrival, monotonic ns.
        arrival_ns: AtomicU64,
    }
);

/// Facts about a stored packet that every receiver shares.
pub mod packet_flags {
    /// First packet of a keyframe.
    pub const KEYFRAME: u32 = 1;
    /// First packet of a frame.
    pub const FRAME_START: u32 = 2;
    /// Last packet of a frame.
    pub const FRAME_END: u32 = 4;
    /// The RTP marker.
    pub const MARKER: u32 = 8;
    /// Came as a retransmission.
    pub const REPAIRED: u32 = 16;
    /// Padding only: nothing is sent, its number is closed (MEDIA_RULES G2).
    pub const PADDING: u32 = 32;
}

/// Extension elements kept per packet.
pub const STORED_EXTENSIONS: usize = 6;

record!(
    /// What precedes the payload in the log.
    StoredHead, version 1, size 160 {
        /// Payload length in bytes.
        payload_len: u16,
        /// Temporal id.
        temporal_id: u8,
        /// Spatial id.
        spatial_id: u8,
        /// VP8/VP9 picture id, valid when `picture_id_offset` ≠ 0xff.
        picture_id: u16,
        /// Offset of the picture id in the payload; 0xff = none.
        picture_id_offset: u8,
        /// 1 when the picture id has 15 bits.
        picture_id_long: u8,
        /// TL0PICIDX.
        tl0: u8,
        /// Its offset; 0xff = none.
        tl0_offset: u8,
        /// KEYIDX (5 bits).
        keyidx: u8,
        /// Its offset; 0xff = none.
        keyidx_offset: u8,
        /// Extension elements in `extensions`.
        extension_count: u8,
        /// Zero.
        pad: [u8; 3],
        /// Codes of `ExtKind` of `dataplane-wire`.
        extension_codes: [u8; STORED_EXTENSIONS],
        /// Their lengths, ≤ 16 each.
        extension_lens: [u8; STORED_EXTENSIONS],
        /// Their bytes.
        extensions: [[u8; 16]; STORED_EXTENSIONS],
        /// Zero.
        reserve: [u8; 36],
    }
);
