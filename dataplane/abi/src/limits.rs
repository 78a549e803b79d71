// SPDX-License-Identifier: Apache-2.0
//! Every capacity, in one place, with what it costs.

/// Workers that the layout has room for.
pub const WORKERS: usize = 64;
/// Encodings (rids) of one track.
pub const ENCODINGS: usize = 4;
/// Validated 5-tuples of one transport; the least recently used goes.
pub const PATHS: usize = 4;
/// Senders of RTCP whose SRTCP replay window is kept, per transport.
pub const RTCP_SENDERS: usize = 8;
/// Segments of one egress stream's numbering.
pub const SEGMENTS: usize = 8;
/// Words of the circular map of an RTP replay window: 2048 bits, of which 1024 are the window.
pub const REPLAY_WORDS: usize = 32;
/// Words of the circular map of an SRTCP replay window: 128 bits, of which 64 are the window.
pub const RTCP_REPLAY_WORDS: usize = 2;
/// Header extension kinds that a map has room for.
pub const EXTENSIONS: usize = 24;

/// Longest UDP payload that is received.
pub const DATAGRAM_BYTES: usize = 1984;
/// Longest UDP payload that is sent; room for trunks, IPv6 and PPPoE (CONTRACTS 23 of the design).
pub const EGRESS_DATAGRAM_BYTES: usize = 1252;
/// A frame lent by a port.
pub const FRAME_BYTES: usize = 2048;

/// A chunk of the packet store.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// Slots of one stream's log directory: 2048 × 32 bytes = one chunk. At 500 packets/s that is 4 s.
pub const LOG_SLOTS: usize = 2048;

/// Packets of one rx batch.
pub const BATCH: usize = 64;
/// Frames of one tile: as many as a device is told of at once. A turn ends with the tile that its time ran out in, so that one
/// may take a quarter of the 500 µs.
pub const TILE: usize = 128;

/// Table capacities; they are written into the segment's header, so that every process uses the creator's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacities {
    /// Transports: intent 512 B + durable 1 KiB each.
    pub transports: u32,
    /// Tracks: intent 512 B + 4 ingress records of 1 KiB each.
    pub tracks: u32,
    /// Subscriptions: intent 128 B + durable 512 B each.
    pub subscriptions: u32,
    /// Rooms: 128 B each.
    pub rooms: u32,
    /// Chunks of 64 KiB of the packet store.
    pub chunks: u32,
    /// Workers in use.
    pub workers: u32,
}

impl Capacities {
    /// What a server starts with: 8192 × 1.5 KiB + 4096 × 4.5 KiB + 65,536 × 640 B = 71 MiB of address space, touched as used,
    /// and a packet store of at most 512 MiB.
    pub const DEFAULT: Self =
        Self { transports: 8192, tracks: 4096, subscriptions: 65_536, rooms: 1024, chunks: 8192, workers: 1 };
    /// What tests start with.
    pub const SMALL: Self = Self { transports: 64, tracks: 64, subscriptions: 256, rooms: 16, chunks: 256, workers: 2 };
}

const _: () = assert!(CHUNK_BYTES == LOG_SLOTS * 32);
const _: () = assert!(DATAGRAM_BYTES <= FRAME_BYTES);
