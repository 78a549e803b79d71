// SPDX-License-Identifier: Apache-2.0
//! Slots: media sections in which a participant receives, and what it wishes to see in them.
//!
//! A slot's SSRCs stay for its transport's life; what is shown in it changes without SDP.

use serde::{Deserialize, Serialize};

use crate::{CodecMap, Extensions, MediaKind, RoomError, TrackId};

/// A media section that the participant offered `recvonly`, as it was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// The section's identification in the participant's SDP (RFC 9143).
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// The SSRC that we send with; random, unique on this transport and never used on it again (CONTRACTS 3).
    pub ssrc: u32,
    /// The SSRC of retransmissions; `None` when no RTX was negotiated.
    pub rtx_ssrc: Option<u32>,
    /// The codecs that were answered, as payload types on this transport.
    pub codecs: Vec<CodecMap>,
    /// The section's header extension ids.
    pub extensions: Extensions,
    /// Whether the participant sends generic NACK.
    pub nack: bool,
    /// Whether the participant sends PLI.
    pub pli: bool,
}

/// What a participant wishes to see in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotWish {
    /// The slot.
    pub mid: String,
    /// The track; `None` empties the slot.
    pub track: Option<TrackId>,
    /// Height of the picture on screen, in pixels; `None`: the best.
    pub max_height: Option<u32>,
}

/// What became of a [`SlotWish`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotAnswer {
    /// The slot.
    pub mid: String,
    /// What the slot shows, or why it shows what it showed before: [`RoomError::UnknownMid`], [`RoomError::UnknownTrack`] or
    /// [`RoomError::NotCompatible`].
    pub shown: Result<Option<TrackId>, RoomError>,
}

/// A slot and what it shows, for an answer or for whoever comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// The slot.
    pub mid: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// What it shows.
    pub track: Option<TrackId>,
}
