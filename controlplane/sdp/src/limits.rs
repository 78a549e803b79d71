// SPDX-License-Identifier: Apache-2.0
//! What an offer may hold at most. Beyond it the offer is refused with the limit in the error, never truncated.

/// Bytes of an offer's text.
pub const MAX_TEXT_BYTES: usize = 512 * 1024;
/// Lines of an offer: twice what a Chromium offer with 98 slots has on average.
pub const MAX_LINES: usize = 16 * 1024;
/// m-lines of an offer: all slots, eight tracks, and some that are gone.
pub const MAX_MEDIA: usize = 128;
/// Slots of one kind in one PeerConnection.
pub const MAX_SLOTS_PER_KIND: usize = 49;
/// Payload types of one m-line (RFC 3551: seven bits).
pub const MAX_CODECS: usize = 128;
/// Bytes of one `a=fmtp` value.
pub const MAX_FMTP_BYTES: usize = 1024;
/// `a=extmap` lines of one m-line.
pub const MAX_EXTENSIONS: usize = 64;
/// `a=rtcp-fb` lines of one m-line.
pub const MAX_FEEDBACK_LINES: usize = 1024;
/// Different SSRCs of one m-line.
pub const MAX_SSRCS: usize = 64;
/// `a=rid` lines of one m-line.
pub const MAX_RIDS: usize = 16;
/// `a=candidate` lines of one m-line.
pub const MAX_CANDIDATES: usize = 64;
/// `a=fingerprint` lines of one m-line or of the session.
pub const MAX_FINGERPRINTS: usize = 8;
/// Bytes of a mid: what the one-byte form of the MID header extension carries (RFC 8285 §4.2, RFC 9143 §15.1).
pub const MAX_MID_BYTES: usize = 16;
/// Bytes of a rid (RFC 8852 §3.2 with the one-byte form of the header extension).
pub const MAX_RID_BYTES: usize = 16;
/// Bytes of a cname, stream id or track id.
pub const MAX_NAME_BYTES: usize = 256;
/// Shortest ICE password (RFC 8839 §5.4).
pub const MIN_ICE_PWD_BYTES: usize = 22;
/// Longest ICE password or username fragment (RFC 8839 §5.4).
pub const MAX_ICE_BYTES: usize = 256;
/// Shortest ICE username fragment (RFC 8839 §5.4).
pub const MIN_ICE_UFRAG_BYTES: usize = 4;
