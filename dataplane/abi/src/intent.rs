// SPDX-License-Identifier: Apache-2.0
//! Intent: what should be. Written by the programmer only, immutable once published.
//!
//! Each kind of object has a table of *heads* and a pool of *records*. A head is one aligned u64:
//! (publication count << 32) | (record slot + 1); the low half is 0 where nothing is published, and the count stays. A change fills a free record and swings
//! the head with Release, so that death at any instruction leaves the old record or the fresh one. A record slot is free
//! again when every live worker has acknowledged the change-ring position after it (CONTRACTS 4 of the design).

use crate::flow::FlowKey;
use crate::ids::{KeyRef, RoomRef, TrackRef, TransportRef};
use crate::layout::record;
use crate::limits::{ENCODINGS, EXTENSIONS};

/// Slot half of a head word.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "the low half of the head")]
pub const fn head_slot(head: u64) -> Option<u32> {
    (head as u32).checked_sub(1)
}

/// A head word for a publication count and a record slot.
#[must_use]
pub const fn head_word(publication: u32, record_slot: u32) -> u64 {
    ((publication as u64) << 32) | (record_slot as u64 + 1)
}

record!(
    /// ICE credentials: ours, and the peer's user fragment (RFC 8445 §7.2.2, USERNAME = ours:theirs).
    Credential, version 1, size 96 {
        /// Our user fragment.
        local_ufrag: [u8; 16],
        /// The key of MESSAGE-INTEGRITY of the checks that we receive.
        local_pwd: [u8; 32],
        /// The peer's user fragment; a longer one is not compared (the key proves the peer).
        remote_ufrag: [u8; 32],
        /// Length of `local_ufrag`; 0 = this slot is empty.
        local_ufrag_len: u8,
        /// Length of `local_pwd`.
        local_pwd_len: u8,
        /// Length of `remote_ufrag`; 0 = any.
        remote_ufrag_len: u8,
        /// Zero.
        reserve: [u8; 13],
    }
);

record!(
    /// A transport as it should be.
    TransportIntent, version 1, size 512 {
        /// Record version.
        version: u16,
        /// Record size.
        size: u16,
        /// The object's generation: references must match it.
        generation: u32,
        /// A `codec::TransportKind`.
        kind: u8,
        /// A `codec::Cipher`, once keys are there.
        cipher: u8,
        /// `codec::transport_flags`.
        flags: u16,
        /// SSRC that we use in RTCP about no stream of ours.
        rtcp_ssrc: u32,
        /// Its room.
        room: RoomRef,
        /// Where its SRTP keys lie; none until DTLS is done.
        key: KeyRef,
        /// Name of the participant, UTF-8, zero padded.
        participant: [u8; 64],
        /// Current credentials, then the previous ones after an ICE restart.
        credentials: [Credential; 2],
        /// Extension ids agreed on this transport, indexed by `ExtKind` of `dataplane-wire`; 0 = not agreed.
        extension_ids: [u8; EXTENSIONS],
        /// Remote address of kinds without ICE.
        remote: FlowKey,
        /// Zero.
        reserve: [u8; 160],
    }
);

record!(
    /// One simulcast encoding of a track.
    EncodingIntent, version 1, size 32 {
        /// RID, zero padded; empty where the track has one encoding without a rid.
        rid: [u8; 16],
        /// SSRC if signalled, else 0 (learned from RID and MID).
        ssrc: u32,
        /// SSRC of its retransmissions if signalled, else 0.
        rtx_ssrc: u32,
        /// Length of `rid`.
        rid_len: u8,
        /// Zero.
        reserve: [u8; 7],
    }
);

record!(
    /// A track as it should be.
    TrackIntent, version 1, size 512 {
        /// Record version.
        version: u16,
        /// Record size.
        size: u16,
        /// The object's generation.
        generation: u32,
        /// Who sends it.
        transport: TransportRef,
        /// Its room.
        room: RoomRef,
        /// 128-bit id, the same on every node.
        global_id: [u8; 16],
        /// A `codec::MediaKind`.
        kind: u8,
        /// A `Codec` of `dataplane-wire`.
        codec: u8,
        /// Payload type on the publisher's leg.
        pt: u8,
        /// Payload type of its retransmissions, or `codec::NO_PT`.
        rtx_pt: u8,
        /// RTP clock, Hz.
        clock_rate: u32,
        /// `codec::feedback_flags` that the publisher understands.
        feedback: u16,
        /// Encodings in use.
        encoding_count: u8,
        /// Length of `mid`.
        mid_len: u8,
        /// MID on the publisher's leg (RFC 9143).
        mid: [u8; 16],
        /// Length of `cname`.
        cname_len: u8,
        /// Zero.
        pad: [u8; 3],
        /// Encodings, lowest quality first.
        encodings: [EncodingIntent; ENCODINGS],
        /// CNAME towards receivers (RFC 3550 §6.5.1), zero padded.
        cname: [u8; 32],
        /// Zero.
        reserve: [u8; 280],
    }
);

record!(
    /// A subscription as it should be: receiver, candidate set, policy. Never a worker, an encoding or a cohort. SSRCs and MID stay
    /// as long as its slot and generation; what it shows may change, and with it the payload types.
    SubscriptionIntent, version 1, size 128 {
        /// Record version.
        version: u16,
        /// Record size.
        size: u16,
        /// The object's generation.
        generation: u32,
        /// Who receives.
        transport: TransportRef,
        /// What is shown; none = nothing, and nothing is sent.
        track: TrackRef,
        /// SSRC towards the receiver; never given to another slot of the same transport while its key lives.
        ssrc: u32,
        /// SSRC of retransmissions, 0 = none agreed.
        rtx_ssrc: u32,
        /// Payload type of the track's codec on the receiver's leg; of no meaning where nothing is shown.
        pt: u8,
        /// Payload type of its retransmissions, or `codec::NO_PT`.
        rtx_pt: u8,
        /// A `codec::EgressMode`.
        mode: u8,
        /// Highest encoding that policy allows, counted from 0.
        max_encoding: u8,
        /// `codec::feedback_flags` that the receiver may use.
        feedback: u16,
        /// Length of `mid`.
        mid_len: u8,
        /// 0 = paced, 1 = reliable (bounded by the log, gaps reported).
        delivery: u8,
        /// MID on the receiver's leg.
        mid: [u8; 16],
        /// Extension ids on the receiver's leg for this m-line, indexed by `ExtKind` of `dataplane-wire`; 0 = do not send.
        extension_ids: [u8; EXTENSIONS],
        /// Zero.
        reserve: [u8; 48],
    }
);

record!(
    /// A room as it should be.
    RoomIntent, version 1, size 128 {
        /// Record version.
        version: u16,
        /// Record size.
        size: u16,
        /// The object's generation.
        generation: u32,
        /// Name, UTF-8, zero padded.
        name: [u8; 64],
        /// 1 = end-to-end encrypted: nothing behind the header extensions is read.
        e2ee: u8,
        /// Zero.
        reserve: [u8; 55],
    }
);

record!(
    /// SRTP keys of a transport (keys section). Written before the transport record that refers to it is published, and
    /// zeroised before the slot is used again.
    KeyIntent, version 1, size 256 {
        /// Record version.
        version: u16,
        /// Record size.
        size: u16,
        /// The slot's generation.
        generation: u32,
        /// A `codec::Cipher`.
        cipher: u8,
        /// Length of the keys.
        key_len: u8,
        /// Length of the salts.
        salt_len: u8,
        /// Zero.
        pad: u8,
        /// Zero.
        pad2: u32,
        /// Master key of what we receive.
        rx_key: [u8; 32],
        /// Master salt of what we receive.
        rx_salt: [u8; 16],
        /// Master key of what we send.
        tx_key: [u8; 32],
        /// Master salt of what we send.
        tx_salt: [u8; 16],
        /// SHA-256 fingerprint of the peer's certificate.
        remote_fingerprint: [u8; 32],
        /// Zero.
        reserve: [u8; 112],
    }
);
