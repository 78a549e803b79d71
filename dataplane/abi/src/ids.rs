// SPDX-License-Identifier: Apache-2.0
//! Identities: (slot, generation) references between records, and newtypes so that they cannot be mixed up.
//!
//! A generation of 0 means "none". A reference whose generation differs from the record's is stale: it is counted and
//! ignored, never followed.

macro_rules! reference {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
        #[repr(C)]
        pub struct $name {
            /// Index into the table.
            pub slot: u32,
            /// Guard against reuse of the slot; 0 = none.
            pub generation: u32,
        }
        impl $name {
            /// No object.
            pub const NONE: Self = Self { slot: 0, generation: 0 };
            /// A reference to a slot of a given generation.
            #[must_use]
            pub const fn at(slot: u32, generation: u32) -> Self { Self { slot, generation } }
            /// Whether this names no object.
            #[must_use]
            pub const fn is_none(self) -> bool { self.generation == 0 }
            /// generation in the high half, slot in the low half.
            #[must_use]
            pub const fn to_word(self) -> u64 { ((self.generation as u64) << 32) | self.slot as u64 }
            /// The inverse of [`Self::to_word`].
            #[must_use]
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
            pub const fn from_word(word: u64) -> Self { Self { slot: word as u32, generation: (word >> 32) as u32 } }
            /// The slot as an index.
            #[must_use]
            pub const fn index(self) -> usize { self.slot as usize }
        }
        crate::pod::impl_pod!($name { u32, u32 });
        impl crate::layout::Zero for $name { const ZERO: Self = Self::NONE; }
    };
}

reference!(
    /// One person's or peer's connection.
    TransportRef
);
reference!(
    /// A camera or microphone being sent.
    TrackRef
);
reference!(
    /// Somebody's wish to receive a track.
    SubscriptionRef
);
reference!(
    /// A room.
    RoomRef
);
reference!(
    /// A slot of the keys section.
    KeyRef
);

/// One pinned thread and its ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct WorkerId(pub u16);

impl WorkerId {
    /// As an index into per-worker arrays.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One received SSRC in the data plane: track slot × encodings + encoding.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct IngressId(pub u32);

impl IngressId {
    /// The ingress stream of one encoding of a track.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a handful of encodings")]
    pub const fn of(track_slot: u32, encoding: u8) -> Self {
        Self(track_slot.wrapping_mul(crate::limits::ENCODINGS as u32).wrapping_add(encoding as u32))
    }
    /// The track's slot.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a handful of encodings")]
    pub const fn track_slot(self) -> u32 {
        self.0 / crate::limits::ENCODINGS as u32
    }
    /// The encoding within the track.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "less than ENCODINGS")]
    pub const fn encoding(self) -> u8 {
        (self.0 % crate::limits::ENCODINGS as u32) as u8
    }
    /// As an index.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A synchronisation source on the wire (RFC 3550 §3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(transparent)]
pub struct Ssrc(pub u32);
