// SPDX-License-Identifier: Apache-2.0
//! Small numbers with a meaning: kinds of media and transport, ciphers, flags. Codecs and header extensions have theirs in
//! `dataplane-wire` (`codec::Codec`, `ext::ExtKind`).

/// Declares named `u8` codes that lie in records; any other value reads as "not known".
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[$vmeta:meta])* $variant:ident = $value:literal => $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u8)]
        pub enum $name { $($(#[$vmeta])* $variant = $value),* }
        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];
            /// Reads a code from a record.
            #[must_use]
            pub const fn from_code(code: u8) -> Option<Self> { match code { $($value => Some(Self::$variant),)* _ => None } }
            /// The code for a record.
            #[must_use]
            pub const fn code(self) -> u8 { self as u8 }
            /// For people.
            #[must_use]
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text),* } }
        }
    };
}

codes!(
    /// What a track carries.
    MediaKind {
        /// A microphone.
        Audio = 1 => "audio",
        /// A camera or a screen.
        Video = 2 => "video",
    }
);
codes!(
    /// What a transport is.
    TransportKind {
        /// ICE and DTLS-SRTP with a browser or alike.
        Webrtc = 1 => "webrtc",
        /// Plain RTP or SDES.
        Rtp = 2 => "rtp",
        /// A media application on an app port.
        App = 3 => "app",
        /// Another node.
        Trunk = 4 => "trunk",
        /// A TURN allocation.
        Relay = 5 => "relay",
    }
);
codes!(
    /// SRTP protection profile of a transport.
    Cipher {
        /// RFC 7714.
        AeadAes128Gcm = 1 => "AEAD_AES_128_GCM",
        /// RFC 7714.
        AeadAes256Gcm = 2 => "AEAD_AES_256_GCM",
        /// RFC 3711.
        AesCm128HmacSha1_80 = 3 => "AES_CM_128_HMAC_SHA1_80",
        /// No protection: app ports only.
        None = 4 => "none",
    }
);
codes!(
    /// How an egress stream is written.
    EgressMode {
        /// Fixed SSRC, rewritten numbers.
        Rewrite = 1 => "rewrite",
        /// SSRC and timestamp frozen (RFC 8723).
        Perc = 2 => "perc",
        /// Byte-exact.
        Pass = 3 => "pass",
    }
);
/// Transport flags.
pub mod transport_flags {
    /// The peer wants transport-cc feedback for what it sends.
    pub const TRANSPORT_CC: u16 = 1;
    /// Reduced-size RTCP (RFC 5506) is agreed.
    pub const REDUCED_SIZE: u16 = 2;
}

/// Feedback flags of tracks and subscriptions.
pub mod feedback_flags {
    /// Generic NACK (RFC 4585).
    pub const NACK: u16 = 1;
    /// Picture loss indication (RFC 4585).
    pub const PLI: u16 = 2;
    /// Full intra request (RFC 5104).
    pub const FIR: u16 = 4;
}

/// "No payload type".
pub const NO_PT: u8 = 0xff;
