// SPDX-License-Identifier: Apache-2.0
//! Entries of the rings between the planes. Each ring has one producer and one consumer (SPSC).

use core::sync::atomic::AtomicU64;

use crate::flow::FlowKey;
use crate::ids::TransportRef;
use crate::layout::{record, shared_record};

/// Entries of a change ring (programmer → worker).
pub const CHANGE_ENTRIES: usize = 4096;
/// Entries of an event ring (worker → control plane).
pub const EVENT_ENTRIES: usize = 1024;
/// Slots of a punt ring (worker → control plane) and of an inject ring (control plane → worker).
pub const DATAGRAM_ENTRIES: usize = 256;
/// Bytes of datagram in a punt or inject slot.
pub const DATAGRAM_SLOT_BYTES: usize = 1984;

shared_record!(
    /// Positions of a ring. Both count up without end; the entry is position mod capacity. Producer and consumer lie on
    /// cache lines of their own.
    RingHeader, version 1, size 256 {
        /// Entries written; stored with Release after the entry.
        produced: AtomicU64,
        /// Rounds in which the producer found the ring full.
        overflows: AtomicU64,
        /// Zero.
        pad: [AtomicU64; 14],
        /// Entries read; stored with Release after the entry was used. For a change ring this is the acknowledgement.
        consumed: AtomicU64,
        /// Zero.
        pad2: [AtomicU64; 15],
    }
);

/// What a change is about.
pub mod change_kind {
    /// A transport.
    pub const TRANSPORT: u32 = 1;
    /// A track.
    pub const TRACK: u32 = 2;
    /// A subscription.
    pub const SUBSCRIPTION: u32 = 3;
    /// A room.
    pub const ROOM: u32 = 4;
}

record!(
    /// "This slot changed": the worker copies the published record, validates it, and uses the copy.
    Change, version 1, size 16 {
        /// See `change_kind`.
        kind: u32,
        /// Slot of the object.
        slot: u32,
        /// Generation of the object; a record of another generation (or none) means that the object ended.
        generation: u32,
        /// Zero.
        reserve: u32,
    }
);

/// What a worker tells the control plane.
pub mod event_kind {
    /// The first verified check; DTLS may start.
    pub const VALIDATED: u32 = 1;
    /// 30 s without a valid check: egress stopped (RFC 7675).
    pub const CONSENT_LOST: u32 = 2;
    /// A valid check after that.
    pub const CONSENT_BACK: u32 = 3;
    /// The first media packet of an ingress stream was stored; `arg` = ingress id.
    pub const FIRST_MEDIA: u32 = 4;
    /// The peer said BYE for an SSRC; `arg` = ingress id.
    pub const BYE: u32 = 5;
    /// A check under the current credentials arrived: the previous ones may go.
    pub const CREDENTIALS_USED: u32 = 6;
    /// The worker has started and rescanned; `arg` = worker.
    pub const STARTED: u32 = 7;
}

record!(
    /// One event.
    Event, version 1, size 64 {
        /// See `event_kind`.
        kind: u32,
        /// Worker that says it.
        worker: u32,
        /// Transport that it is about, if any.
        transport: TransportRef,
        /// Monotonic time, ns.
        at_ns: u64,
        /// Depends on the kind.
        arg: u64,
        /// Zero.
        reserve: [u64; 4],
    }
);

record!(
    /// One DTLS datagram on its way between the planes.
    Datagram, version 1, size 2048 {
        /// Whose.
        transport: TransportRef,
        /// When it arrived, monotonic ns; a datagram older than 1 s is dropped when a control plane attaches.
        at_ns: u64,
        /// Where it came from (punt), or zero for "the path in use" (inject).
        flow: FlowKey,
        /// Length in bytes.
        len: u32,
        /// Zero.
        reserve: u32,
        /// The bytes.
        bytes: [u8; DATAGRAM_SLOT_BYTES],
    }
);

/// What a doorbell between workers says.
pub mod doorbell_kind {
    /// The stream's log has packets up to `arg`.
    pub const STORED: u32 = 1;
    /// Packet `arg` arrived late: behind the newest.
    pub const LATE: u32 = 2;
    /// A receiver of worker `arg` needs a keyframe.
    pub const KEYFRAME: u32 = 3;
    /// Worker `arg` has receivers of the stream.
    pub const INTEREST: u32 = 4;
    /// Worker `arg` has none any more.
    pub const NO_INTEREST: u32 = 5;
}

record!(
    /// One word between two workers of the data plane (never in the segment).
    Doorbell, version 1, size 24 {
        /// See `doorbell_kind`.
        kind: u32,
        /// Ingress id.
        ingress: u32,
        /// Generation of the track.
        generation: u32,
        /// Zero.
        reserve: u32,
        /// Depends on the kind.
        arg: u64,
    }
);
