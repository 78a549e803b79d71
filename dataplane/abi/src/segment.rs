// SPDX-License-Identifier: Apache-2.0
//! Where everything lies: the headers of the four memfds and the offsets, computed from the capacities in one place.

use core::mem::size_of;
use core::sync::atomic::AtomicU64;

use crate::counters::WorkerCounters;
use crate::durable::{EgressDurable, IngressDurable, PathDurable, RtcpSenderDurable, SegmentDurable, TransportDurable};
use crate::frames::{FrameRings, FrameShape, FrameTableHeader, frame_layout};
use crate::intent::{
    Credential, EncodingIntent, KeyIntent, RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent,
};
use crate::interface::{InterfaceCounters, InterfaceRecord};
use crate::layout::{FINGERPRINT_START, Record, fingerprint_number, fingerprint_record, record, shared_record};
use crate::limits::{CHUNK_BYTES, Capacities, ENCODINGS, WORKERS};
use crate::ring::{CHANGE_ENTRIES, Change, DATAGRAM_ENTRIES, Datagram, EVENT_ENTRIES, Event, RingHeader};
use crate::store::{LogSlot, StoredHead};

/// First eight bytes of each memfd: "MILLRACE".
pub const MAGIC: u64 = u64::from_be_bytes(*b"MILLRACE");
/// Bytes before the first section.
pub const HEADER_BYTES: usize = 4096;

/// Which of the four memfds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Part {
    /// Intent and rings.
    Intent = 1,
    /// Keys.
    Keys = 2,
    /// Durable state and counters.
    Durable = 3,
    /// The packet store.
    Store = 4,
}

record!(
    /// Header of a memfd: written once by its creator before anyone attaches.
    SegmentHeader, version 1, size 128 {
        /// [`MAGIC`].
        magic: u64,
        /// `ABI_VERSION`.
        abi_version: u32,
        /// A [`Part`].
        part: u32,
        /// [`FINGERPRINT`].
        fingerprint: u64,
        /// Random id of this segment's life, the same in all four parts.
        boot_id: [u8; 16],
        /// Capacity of the transport table.
        transports: u32,
        /// Capacity of the track table.
        tracks: u32,
        /// Capacity of the subscription table.
        subscriptions: u32,
        /// Capacity of the room table.
        rooms: u32,
        /// Chunks of the packet store.
        chunks: u32,
        /// Workers.
        workers: u32,
        /// Zero.
        reserve: [u64; 8],
    }
);

shared_record!(
    /// Words of the intent header that change: at byte 1024 of the intent memfd.
    SegmentState, version 1, size 256 {
        /// Counts publications.
        epoch: AtomicU64,
        /// Process id of the control plane that writes.
        programmer_pid: AtomicU64,
        /// Starts of the data plane; workers of a successor see that they must rescan.
        dataplane_starts: AtomicU64,
        /// Monotonic time of the programmer's last sign of life, ns.
        programmer_heartbeat_ns: AtomicU64,
        /// Zero.
        reserve: [AtomicU64; 28],
    }
);

/// Where [`SegmentState`] lies in the intent memfd.
pub const STATE_OFFSET: usize = 1024;

/// Records in a pool for `capacity` objects: a quarter more, so that changes find a free record.
#[must_use]
pub const fn pool_records(capacity: u32) -> usize {
    capacity as usize + capacity as usize / 4 + 64
}

const fn align(offset: usize) -> usize {
    (offset + 4095) & !4095
}

/// Heads and record pool of one kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableLayout {
    /// Offset of the heads (u64 each).
    pub heads: usize,
    /// Objects.
    pub capacity: usize,
    /// Offset of the records.
    pub records: usize,
    /// Records.
    pub record_count: usize,
}

/// Offsets within the intent memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntentLayout {
    /// Transports.
    pub transports: TableLayout,
    /// Tracks.
    pub tracks: TableLayout,
    /// Subscriptions.
    pub subscriptions: TableLayout,
    /// Rooms.
    pub rooms: TableLayout,
    /// First worker's change ring; the others follow each [`change_ring_bytes`].
    pub change_rings: usize,
    /// First worker's event ring.
    pub event_rings: usize,
    /// First worker's punt ring.
    pub punt_rings: usize,
    /// First worker's inject ring.
    pub inject_rings: usize,
    /// Size of the memfd.
    pub bytes: usize,
}

/// Bytes of a ring of `entries` × `entry_bytes`.
#[must_use]
pub const fn ring_bytes(entries: usize, entry_bytes: usize) -> usize {
    align(size_of::<RingHeader>() + entries * entry_bytes)
}

/// Bytes of a change ring.
pub const CHANGE_RING_BYTES: usize = ring_bytes(CHANGE_ENTRIES, size_of::<Change>());
/// Bytes of an event ring.
pub const EVENT_RING_BYTES: usize = ring_bytes(EVENT_ENTRIES, size_of::<Event>());
/// Bytes of a punt or inject ring.
pub const DATAGRAM_RING_BYTES: usize = ring_bytes(DATAGRAM_ENTRIES, size_of::<Datagram>());

const fn table(at: usize, capacity: u32, record_bytes: usize) -> (TableLayout, usize) {
    let heads = align(at);
    let records = align(heads + capacity as usize * size_of::<u64>());
    let record_count = pool_records(capacity);
    (TableLayout { heads, capacity: capacity as usize, records, record_count }, records + record_count * record_bytes)
}

/// The intent memfd's layout.
#[must_use]
pub const fn intent_layout(capacities: &Capacities) -> IntentLayout {
    let (transports, end) = table(HEADER_BYTES, capacities.transports, size_of::<TransportIntent>());
    let (tracks, end) = table(end, capacities.tracks, size_of::<TrackIntent>());
    let (subscriptions, end) = table(end, capacities.subscriptions, size_of::<SubscriptionIntent>());
    let (rooms, end) = table(end, capacities.rooms, size_of::<RoomIntent>());
    let workers = capacities.workers as usize;
    let change_rings = align(end);
    let event_rings = change_rings + workers * CHANGE_RING_BYTES;
    let punt_rings = event_rings + workers * EVENT_RING_BYTES;
    let inject_rings = punt_rings + workers * DATAGRAM_RING_BYTES;
    let bytes = inject_rings + workers * DATAGRAM_RING_BYTES;
    IntentLayout {
        transports,
        tracks,
        subscriptions,
        rooms,
        change_rings,
        event_rings,
        punt_rings,
        inject_rings,
        bytes,
    }
}

/// Key records: two per transport, so that a rekey finds a free one.
#[must_use]
pub const fn key_records(capacities: &Capacities) -> usize {
    capacities.transports as usize * 2
}

/// Size of the keys memfd; records start at [`HEADER_BYTES`].
#[must_use]
pub const fn keys_bytes(capacities: &Capacities) -> usize {
    align(HEADER_BYTES + key_records(capacities) * size_of::<KeyIntent>())
}

/// Offsets within the durable memfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DurableLayout {
    /// Worker counters, one per worker that the layout has room for.
    pub counters: usize,
    /// What the keeper knows of the interface.
    pub interface: usize,
    /// What the data plane knows of it.
    pub interface_counters: usize,
    /// Transport records.
    pub transports: usize,
    /// Ingress records, `ENCODINGS` per track.
    pub ingress: usize,
    /// Egress records, one per subscription.
    pub egress: usize,
    /// Size of the memfd.
    pub bytes: usize,
}

/// The durable memfd's layout.
#[must_use]
pub const fn durable_layout(capacities: &Capacities) -> DurableLayout {
    let counters = HEADER_BYTES;
    let interface = align(counters + WORKERS * size_of::<WorkerCounters>());
    let interface_counters = interface + size_of::<InterfaceRecord>();
    let transports = align(interface_counters + size_of::<InterfaceCounters>());
    let ingress = align(transports + capacities.transports as usize * size_of::<TransportDurable>());
    let egress = align(ingress + capacities.tracks as usize * ENCODINGS * size_of::<IngressDurable>());
    let bytes = align(egress + capacities.subscriptions as usize * size_of::<EgressDurable>());
    DurableLayout { counters, interface, interface_counters, transports, ingress, egress, bytes }
}

/// Size of the store memfd; chunk *i* lies at [`HEADER_BYTES`]-aligned-to-chunk + i × [`CHUNK_BYTES`].
#[must_use]
pub const fn store_bytes(capacities: &Capacities) -> usize {
    CHUNK_BYTES + capacities.chunks as usize * CHUNK_BYTES
}

/// Every record, in the order of the snapshot: those in the segment, those inside them, and those of the frame table.
pub const RECORDS: &[Record] = &[
    Record::of::<SegmentHeader>(),
    Record::of::<SegmentState>(),
    Record::of::<Credential>(),
    Record::of::<TransportIntent>(),
    Record::of::<EncodingIntent>(),
    Record::of::<TrackIntent>(),
    Record::of::<SubscriptionIntent>(),
    Record::of::<RoomIntent>(),
    Record::of::<KeyIntent>(),
    Record::of::<PathDurable>(),
    Record::of::<RtcpSenderDurable>(),
    Record::of::<TransportDurable>(),
    Record::of::<IngressDurable>(),
    Record::of::<SegmentDurable>(),
    Record::of::<EgressDurable>(),
    Record::of::<WorkerCounters>(),
    Record::of::<InterfaceRecord>(),
    Record::of::<InterfaceCounters>(),
    Record::of::<RingHeader>(),
    Record::of::<Change>(),
    Record::of::<Event>(),
    Record::of::<Datagram>(),
    Record::of::<LogSlot>(),
    Record::of::<StoredHead>(),
    Record::of::<FrameTableHeader>(),
    Record::of::<FrameRings>(),
];

/// Hash of every record's name, version, size and field offsets, and of where the sections lie: two processes with
/// different ones must not attach in place.
pub const FINGERPRINT: u64 = {
    let mut hash = FINGERPRINT_START;
    let mut r = 0;
    while r < RECORDS.len() {
        hash = fingerprint_record(hash, &RECORDS[r]);
        r += 1;
    }
    let sections = sections(&Capacities::SMALL);
    let mut s = 0;
    while s < sections.len() {
        hash = fingerprint_number(hash, sections[s].1);
        s += 1;
    }
    hash
};

/// Where the sections of the four memfds lie for some capacities, and those of a small frame table, by name; for the
/// fingerprint and the snapshot.
#[must_use]
pub const fn sections(capacities: &Capacities) -> [(&'static str, usize); 27] {
    let intent = intent_layout(capacities);
    let durable = durable_layout(capacities);
    let frames = frame_layout(&FrameShape::SMALL);
    [
        ("intent state", STATE_OFFSET),
        ("intent transport heads", intent.transports.heads),
        ("intent transport records", intent.transports.records),
        ("intent track heads", intent.tracks.heads),
        ("intent track records", intent.tracks.records),
        ("intent subscription heads", intent.subscriptions.heads),
        ("intent subscription records", intent.subscriptions.records),
        ("intent room heads", intent.rooms.heads),
        ("intent room records", intent.rooms.records),
        ("intent change rings", intent.change_rings),
        ("intent event rings", intent.event_rings),
        ("intent punt rings", intent.punt_rings),
        ("intent inject rings", intent.inject_rings),
        ("intent end", intent.bytes),
        ("keys records", HEADER_BYTES),
        ("keys end", keys_bytes(capacities)),
        ("durable counters", durable.counters),
        ("durable interface", durable.interface),
        ("durable interface counters", durable.interface_counters),
        ("durable transports", durable.transports),
        ("durable ingress", durable.ingress),
        ("durable egress", durable.egress),
        ("durable end", durable.bytes),
        ("store end", store_bytes(capacities)),
        ("frame table rings", frames.rings),
        ("frame table states", frames.states),
        ("frame table end", frames.bytes),
    ]
}
