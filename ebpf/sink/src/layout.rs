// SPDX-License-Identifier: Apache-2.0
//! What the sink and its reader share: names of the maps and places in their values. The reader compiles this same file.
//! Values are arrays of plain words, so that neither side needs the other's types.

/// The program's name.
pub const PROGRAM: &str = "millrace_sink";

/// Array of one [`CONFIG_WORDS`]-word value.
pub const CONFIG: &str = "CONFIG";
/// Words of the configuration.
pub const CONFIG_WORDS: usize = 8;
/// IPv4 address of the first receiver, host order; the others follow.
pub const BASE: usize = 0;
/// Receivers. Everything that is sent to other addresses passes.
pub const COUNT: usize = 1;
/// 1 = RTCP, STUN and DTLS to a receiver pass, 0 = they are counted and dropped.
pub const PASS_CONTROL: usize = 2;
/// Of each stream of a sampled receiver, one in so many packets passes as well as being counted; 0 = none.
pub const SAMPLE_EVERY: usize = 3;
/// One in so many receivers is sampled.
pub const SAMPLE_STRIDE: usize = 4;
/// RTP ticks between two frames of video, and of audio. See [`PROBE_IDS`].
pub const STEPS: [usize; 2] = [5, 6];

/// A frame whose RTP timestamp is `step + id` after the frame before it is probe `id`, 1 ≤ id ≤ this: a difference survives
/// every rewriting of SSRC, number and timestamp, and encryption.
pub const PROBE_IDS: u32 = 600;

/// Hash from (receiver << 32 | SSRC) to [`STREAM_WORDS`] words.
pub const STREAMS: &str = "STREAMS";
/// Words of a stream.
pub const STREAM_WORDS: usize = 8;
/// Packets.
pub const PACKETS: usize = 0;
/// Bytes of their UDP payloads.
pub const BYTES: usize = 1;
/// Number of the first packet, and the highest one, both counted on from the first (RFC 3550 A.1, without the probation).
pub const FIRST: usize = 2;
/// See [`FIRST`].
pub const TOP: usize = 3;
/// Packets that came behind a later one, or twice.
pub const BACKWARD: usize = 4;
/// RTP timestamp of the newest frame.
pub const TIMESTAMP: usize = 5;
/// When the newest packet came, monotonic ns; kept for probes and samples only.
pub const ARRIVAL: usize = 6;
/// Packets with the marker bit.
pub const MARKERS: usize = 7;

/// Array of probes, two words each: arrival in monotonic ns, and receiver << 32 | kind << 16 | id, where kind is 0 for video.
pub const PROBES: &str = "PROBES";
/// Entries of [`PROBES`]: 16 MiB.
pub const PROBE_ENTRIES: u32 = 1 << 20;

/// Array of counters, one word each.
pub const TOTALS: &str = "TOTALS";
/// RTP packets counted.
pub const RTP: u32 = 0;
/// RTCP, STUN, DTLS.
pub const CONTROL: u32 = 1;
/// Samples passed.
pub const SAMPLES: u32 = 2;
/// Frames for other addresses, passed.
pub const OTHERS: u32 = 3;
/// Frames to a receiver that are none of these.
pub const UNKNOWN: u32 = 4;
/// Packets of streams that found no room.
pub const NO_ROOM: u32 = 5;
/// Probes recorded, those without room included.
pub const PROBES_SEEN: u32 = 6;
/// Counters.
pub const TOTAL_ENTRIES: u32 = 8;
