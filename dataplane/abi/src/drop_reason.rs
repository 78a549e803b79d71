// SPDX-License-Identifier: Apache-2.0
//! Why a packet goes no further: one reason for each fate. Closed: a packet that is dropped is counted under exactly one.

macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])* $variant:ident => $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[doc = $doc])* $variant),* }
        impl $name {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();
            /// The counter's index.
            #[must_use]
            pub const fn index(self) -> usize { self as usize }
            /// The counter's name.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text),* } }
            /// What it means, for people.
            #[must_use]
            pub const fn explanation(self) -> &'static str { match self { $(Self::$variant => concat!($($doc),*)),* } }
        }
    };
}
pub(crate) use reasons;

reasons!(
    /// Reasons on the receive side. `rx = stored + answered + consumed + punted + handed + Σ dropped`.
    DropReason {
        /// Empty datagram, or one longer than a frame.
        BadLength => "bad_length",
        /// First byte in no range of RFC 7983, or ZRTP and TURN channel data, which are not served here.
        UnknownProtocol => "unknown_protocol",
        /// Not STUN from a 5-tuple that no verified check has admitted.
        UnknownFlow => "unknown_flow",
        /// STUN that does not parse, or whose FINGERPRINT is wrong.
        StunMalformed => "stun_malformed",
        /// STUN that is not a Binding request: indications, responses, other methods.
        StunNotRequest => "stun_not_request",
        /// Binding request whose USERNAME names no transport of ours: answered with silence.
        StunUnknownUfrag => "stun_unknown_ufrag",
        /// Binding request with a wrong MESSAGE-INTEGRITY, or none: answered with silence.
        StunBadIntegrity => "stun_bad_integrity",
        /// A verified check that found no room in the reply queue or the flow table.
        StunNoRoom => "stun_no_room",
        /// DTLS longer than the punt slot or not a DTLS record.
        DtlsMalformed => "dtls_malformed",
        /// More than 50 DTLS datagrams per second on one transport.
        PuntLimited => "punt_limited",
        /// The punt ring is full: the control plane does not read.
        PuntFull => "punt_full",
        /// SRTP before the keys are there. Those for media are made with a transport's first track.
        NoKeys => "no_keys",
        /// RTP that does not parse.
        RtpMalformed => "rtp_malformed",
        /// RTCP that does not parse, in whole, after authentication.
        RtcpMalformed => "rtcp_malformed",
        /// The authentication tag is wrong.
        SrtpAuth => "srtp_auth",
        /// Received before.
        Replayed => "replayed",
        /// An index older than the replay window.
        ReplayTooOld => "replay_too_old",
        /// An authentic packet of an SSRC that belongs to no track and names none by MID or RID.
        UnknownSsrc => "unknown_ssrc",
        /// A payload type that was not agreed.
        UnknownPayloadType => "unknown_payload_type",
        /// A retransmission of something received already, or that names nothing.
        RtxUseless => "rtx_useless",
        /// An original that came after its place in the log was given up.
        TooLate => "too_late",
        /// The packet store has no room for the stream.
        StoreFull => "store_full",
        /// A packet whose owner worker's ring is full.
        HandFull => "hand_full",
        /// A stale (slot, generation): the transport is gone.
        StaleTransport => "stale_transport",
        /// Egress: a receiver has nobody listening; kept for peers that receive on a send-only transport.
        NotSending => "not_sending",
        /// A packet that lay between two workers when the data plane ended.
        HandLost => "hand_lost",
    }
);

reasons!(
    /// Why a stored packet was not sent to a member of its cohort. `offered = sent + Σ skipped + pending`.
    SkipReason {
        /// The receiver has no usable path: not validated yet, or consent expired.
        NoPath => "no_path",
        /// The receiver's keys are not there yet.
        NoKeys => "no_keys",
        /// The number is spent already (a successor or a merge).
        NumberSpent => "number_spent",
        /// The port had no room.
        TxFull => "tx_full",
        /// The packet left the store while it was read.
        StoreLapped => "store_lapped",
        /// The cursor was over its lag cap and moved to the newest decodable frame.
        LagCap => "lag_cap",
        /// The packet is longer than what may be sent.
        TooLong => "too_long",
        /// The cipher refused: index exhausted.
        CipherRefused => "cipher_refused",
        /// The member left while the packet was under way.
        MemberLeft => "member_left",
        /// The packet had left the log before the cursor came to it.
        NotInStore => "not_in_store",
    }
);
