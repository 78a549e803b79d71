// SPDX-License-Identifier: Apache-2.0
//! The four memfds as one object: creating, attaching, and finding records by slot.
//!
//! A [`Segment`] is cheap to clone and may be shared by threads. Every index is checked; a slot outside its table is
//! `None`. Durable records have one writer each (their owner worker): nothing here enforces it, and a store into a part
//! that was mapped read-only ends the process, so readers must only load.

use core::mem::size_of;
use core::sync::atomic::AtomicU64;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use dataplane_abi::counters::WorkerCounters;
use dataplane_abi::durable::{EgressDurable, IngressDurable, TransportDurable};
use dataplane_abi::ids::{IngressId, KeyRef, WorkerId};
use dataplane_abi::intent::{KeyIntent, RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::interface::{InterfaceCounters, InterfaceRecord};
use dataplane_abi::limits::{Capacities, ENCODINGS};
use dataplane_abi::ring::{Change, Datagram, Event};
use dataplane_abi::segment::{
    CHANGE_RING_BYTES, DATAGRAM_RING_BYTES, DurableLayout, EVENT_RING_BYTES, IntentLayout, Part, STATE_OFFSET,
    SegmentHeader, SegmentState, durable_layout, intent_layout,
};
use dataplane_abi::{pod::Pod, pod::SharedRecord, ring};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::rand::{GetRandomFlags, getrandom};

use crate::attach::{Access, AttachError, AttachFds, AttachedPart, attach_part, bytes_of, check_capacities, header_of};
use crate::intent::keys;
use crate::intent::kind::{IntentKind, published};
use crate::mapping::Mapping;
use crate::ring::{Consumer, Producer};
use crate::store::{LogReader, StoreMap};
use crate::words;

const PARTS: [Part; 4] = [Part::Intent, Part::Keys, Part::Durable, Part::Store];

/// The memfds of a segment, to be kept and handed to the planes by the keeper.
#[derive(Debug)]
pub struct SegmentFds {
    /// Intent and rings.
    pub intent: OwnedFd,
    /// SRTP keys.
    pub keys: OwnedFd,
    /// Durable state and counters.
    pub durable: OwnedFd,
    /// The packet store.
    pub store: OwnedFd,
}

impl SegmentFds {
    /// All four, to attach to.
    #[must_use]
    pub fn borrow(&self) -> AttachFds<'_> {
        AttachFds {
            intent: Some(self.intent.as_fd()),
            keys: Some(self.keys.as_fd()),
            durable: Some(self.durable.as_fd()),
            store: Some(self.store.as_fd()),
        }
    }

    /// Those that `access` may have, to attach to.
    #[must_use]
    pub fn borrow_for(&self, access: Access) -> AttachFds<'_> {
        let all = self.borrow();
        let allowed = |part| access.writable(part).and_then(|_| all.of(part));
        AttachFds {
            intent: allowed(Part::Intent),
            keys: allowed(Part::Keys),
            durable: allowed(Part::Durable),
            store: allowed(Part::Store),
        }
    }
}

/// A mapped segment.
#[derive(Clone, Debug)]
pub struct Segment {
    intent: Option<Arc<Mapping>>,
    keys: Option<Arc<Mapping>>,
    durable: Option<Arc<Mapping>>,
    store: Option<StoreMap>,
    capacities: Capacities,
    boot_id: [u8; 16],
    intent_layout: IntentLayout,
    durable_layout: DurableLayout,
}

impl Segment {
    /// Makes the four memfds, sealed against shrinking and growing, writes their headers, and maps them all writable.
    ///
    /// # Errors
    /// Capacities beyond this build's limits, or what the kernel says.
    pub fn create(capacities: &Capacities) -> Result<(SegmentFds, Self), AttachError> {
        let mut boot_id = [0_u8; 16];
        let system = |source| AttachError::System { part: Part::Intent, source };
        getrandom(&mut boot_id, GetRandomFlags::empty()).map_err(system)?;
        let make = |part| create_part(part, capacities, boot_id);
        let fds = SegmentFds {
            intent: make(Part::Intent)?,
            keys: make(Part::Keys)?,
            durable: make(Part::Durable)?,
            store: make(Part::Store)?,
        };
        let segment = Self::map(fds.borrow(), |_| Ok(true))?;
        Ok((fds, segment))
    }

    /// Maps the memfds that are given, after checking magic, version, fingerprint, capacities, size and seals.
    ///
    /// # Errors
    /// [`AttachError`] with both sides' numbers.
    pub fn attach(fds: AttachFds<'_>, access: Access) -> Result<Self, AttachError> {
        Self::map(fds, |part| access.writable(part).ok_or(AttachError::Forbidden { part, access }))
    }

    fn map(fds: AttachFds<'_>, writable: impl Fn(Part) -> Result<bool, AttachError>) -> Result<Self, AttachError> {
        let mut common: Option<(Capacities, [u8; 16])> = None;
        let mut mappings: [Option<Arc<Mapping>>; 4] = [None, None, None, None];
        for (part, place) in PARTS.into_iter().zip(mappings.iter_mut()) {
            let Some(fd) = fds.of(part) else { continue };
            let AttachedPart { mapping, capacities, boot_id } = attach_part(part, fd, writable(part)?)?;
            let (expected_capacities, expected) = *common.get_or_insert((capacities, boot_id));
            if (expected_capacities, expected) != (capacities, boot_id) {
                let found_capacities = capacities;
                let found = boot_id;
                return Err(AttachError::Mixed { part, found, found_capacities, expected, expected_capacities });
            }
            *place = Some(Arc::new(mapping));
        }
        let (capacities, boot_id) = common.ok_or(AttachError::Empty)?;
        let [intent, keys, durable, store] = mappings;
        Ok(Self {
            intent,
            keys,
            durable,
            store: store.map(StoreMap::new),
            capacities,
            boot_id,
            intent_layout: intent_layout(&capacities),
            durable_layout: durable_layout(&capacities),
        })
    }

    /// Capacities, the creator's.
    #[must_use]
    pub const fn capacities(&self) -> &Capacities {
        &self.capacities
    }

    /// Random id of this segment's life.
    #[must_use]
    pub const fn boot_id(&self) -> [u8; 16] {
        self.boot_id
    }

    /// Words of the intent header that change; words of nobody when the intent memfd is not mapped.
    #[must_use]
    pub fn state(&self) -> &SegmentState {
        static NOBODYS: SegmentState = SegmentState {
            epoch: AtomicU64::new(0),
            programmer_pid: AtomicU64::new(0),
            dataplane_starts: AtomicU64::new(0),
            programmer_heartbeat_ns: AtomicU64::new(0),
            reserve: [const { AtomicU64::new(0) }; 28],
        };
        self.intent.as_deref().and_then(|intent| intent.record(STATE_OFFSET)).unwrap_or(&NOBODYS)
    }

    /// The durable record of a transport slot.
    #[inline]
    #[must_use]
    pub fn transport(&self, slot: u32) -> Option<&TransportDurable> {
        self.durable_record(self.durable_layout.transports, slot, self.capacities.transports as usize)
    }

    /// The durable record of an ingress stream.
    #[inline]
    #[must_use]
    pub fn ingress(&self, ingress: IngressId) -> Option<&IngressDurable> {
        let count = self.capacities.tracks as usize * ENCODINGS;
        self.durable_record(self.durable_layout.ingress, ingress.0, count)
    }

    /// The durable record of an egress stream, by subscription slot.
    #[inline]
    #[must_use]
    pub fn egress(&self, slot: u32) -> Option<&EgressDurable> {
        self.durable_record(self.durable_layout.egress, slot, self.capacities.subscriptions as usize)
    }

    /// A worker's counters.
    #[inline]
    #[must_use]
    pub fn counters(&self, worker: WorkerId) -> Option<&WorkerCounters> {
        self.durable_record(self.durable_layout.counters, u32::from(worker.0), self.capacities.workers as usize)
    }

    /// What the keeper says of the interface.
    #[must_use]
    pub fn interface(&self) -> Option<&InterfaceRecord> {
        self.durable_record(self.durable_layout.interface, 0, 1)
    }

    /// What the data plane says of it.
    #[must_use]
    pub fn interface_counters(&self) -> Option<&InterfaceCounters> {
        self.durable_record(self.durable_layout.interface_counters, 0, 1)
    }

    #[inline]
    fn durable_record<T: SharedRecord>(&self, section: usize, slot: u32, count: usize) -> Option<&T> {
        let slot = slot as usize;
        if slot >= count {
            return None;
        }
        self.durable.as_deref()?.record(section + slot * size_of::<T>())
    }

    /// A copy of the published transport record; none when nothing is published or the copy stays torn.
    #[must_use]
    pub fn intent_transport(&self, slot: u32) -> Option<TransportIntent> {
        self.published(slot)
    }

    /// A copy of the published track record.
    #[must_use]
    pub fn intent_track(&self, slot: u32) -> Option<TrackIntent> {
        self.published(slot)
    }

    /// A copy of the published subscription record.
    #[must_use]
    pub fn intent_subscription(&self, slot: u32) -> Option<SubscriptionIntent> {
        self.published(slot)
    }

    /// A copy of the published room record.
    #[must_use]
    pub fn intent_room(&self, slot: u32) -> Option<RoomIntent> {
        self.published(slot)
    }

    fn published<K: IntentKind>(&self, slot: u32) -> Option<K> {
        published(self.intent.as_deref()?, &K::table(&self.intent_layout), slot)
    }

    /// A copy of a key record; none when the reference is stale, the key is zeroised, or the keys are not mapped.
    /// The copy is the caller's to wipe.
    #[must_use]
    pub fn key(&self, key: KeyRef) -> Option<KeyIntent> {
        keys::read(self.keys.as_deref()?, &self.capacities, key)
    }

    /// The worker's end of its change ring.
    #[must_use]
    pub fn change_consumer(&self, worker: WorkerId) -> Option<Consumer<Change>> {
        self.consumer(self.intent_layout.change_rings, CHANGE_RING_BYTES, ring::CHANGE_ENTRIES, worker)
    }

    /// The programmer's end of a worker's change ring.
    #[must_use]
    pub fn change_producer(&self, worker: WorkerId) -> Option<Producer<Change>> {
        self.producer(self.intent_layout.change_rings, CHANGE_RING_BYTES, ring::CHANGE_ENTRIES, worker)
    }

    /// The control plane's end of a worker's event ring.
    #[must_use]
    pub fn event_consumer(&self, worker: WorkerId) -> Option<Consumer<Event>> {
        self.consumer(self.intent_layout.event_rings, EVENT_RING_BYTES, ring::EVENT_ENTRIES, worker)
    }

    /// The worker's end of its event ring.
    #[must_use]
    pub fn event_producer(&self, worker: WorkerId) -> Option<Producer<Event>> {
        self.producer(self.intent_layout.event_rings, EVENT_RING_BYTES, ring::EVENT_ENTRIES, worker)
    }

    /// The control plane's end of a worker's punt ring.
    #[must_use]
    pub fn punt_consumer(&self, worker: WorkerId) -> Option<Consumer<Datagram>> {
        self.consumer(self.intent_layout.punt_rings, DATAGRAM_RING_BYTES, ring::DATAGRAM_ENTRIES, worker)
    }

    /// The worker's end of its punt ring.
    #[must_use]
    pub fn punt_producer(&self, worker: WorkerId) -> Option<Producer<Datagram>> {
        self.producer(self.intent_layout.punt_rings, DATAGRAM_RING_BYTES, ring::DATAGRAM_ENTRIES, worker)
    }

    /// The worker's end of its inject ring.
    #[must_use]
    pub fn inject_consumer(&self, worker: WorkerId) -> Option<Consumer<Datagram>> {
        self.consumer(self.intent_layout.inject_rings, DATAGRAM_RING_BYTES, ring::DATAGRAM_ENTRIES, worker)
    }

    /// The control plane's end of a worker's inject ring.
    #[must_use]
    pub fn inject_producer(&self, worker: WorkerId) -> Option<Producer<Datagram>> {
        self.producer(self.intent_layout.inject_rings, DATAGRAM_RING_BYTES, ring::DATAGRAM_ENTRIES, worker)
    }

    fn ring_of(&self, first: usize, bytes: usize, worker: WorkerId) -> Option<(Arc<Mapping>, usize)> {
        if worker.index() >= self.capacities.workers as usize {
            return None;
        }
        let intent = self.intent.as_ref().filter(|intent| intent.is_writable())?;
        let offset = first + worker.index() * bytes;
        // Now, and not in the turn that first comes round it: a ring is as large in memory before an attack as after it.
        intent.populate(offset, bytes);
        Some((Arc::clone(intent), offset))
    }

    fn consumer<T: Pod>(&self, first: usize, bytes: usize, entries: usize, worker: WorkerId) -> Option<Consumer<T>> {
        let (mapping, offset) = self.ring_of(first, bytes, worker)?;
        Consumer::shared(mapping, offset, entries)
    }

    fn producer<T: Pod>(&self, first: usize, bytes: usize, entries: usize, worker: WorkerId) -> Option<Producer<T>> {
        let (mapping, offset) = self.ring_of(first, bytes, worker)?;
        Producer::shared(mapping, offset, entries)
    }

    /// A reader of the log that `IngressDurable::log` names; none for 0, or when the store is not mapped.
    #[inline]
    #[must_use]
    pub fn log_reader(&self, log: u64) -> Option<LogReader<'_>> {
        LogReader::of(self.store.as_ref()?, log)
    }

    /// The packet store, if it is mapped.
    pub(crate) const fn store(&self) -> Option<&StoreMap> {
        self.store.as_ref()
    }

    /// The intent memfd, if it is mapped writable.
    pub(crate) fn writable_intent(&self) -> Option<&Arc<Mapping>> {
        self.intent.as_ref().filter(|mapping| mapping.is_writable())
    }

    /// The keys memfd, if it is mapped writable.
    pub(crate) fn writable_keys(&self) -> Option<&Arc<Mapping>> {
        self.keys.as_ref().filter(|mapping| mapping.is_writable())
    }

    /// The durable memfd is mapped writable: this is the data plane.
    pub(crate) fn owns_durable(&self) -> bool {
        self.durable.as_ref().is_some_and(|mapping| mapping.is_writable())
    }

    pub(crate) const fn intent_layout(&self) -> &IntentLayout {
        &self.intent_layout
    }
}

fn create_part(part: Part, capacities: &Capacities, boot_id: [u8; 16]) -> Result<OwnedFd, AttachError> {
    check_capacities(part, capacities)?;
    let system = |source| AttachError::System { part, source };
    let name = match part {
        Part::Intent => "millrace-intent",
        Part::Keys => "millrace-keys",
        Part::Durable => "millrace-durable",
        Part::Store => "millrace-store",
    };
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).map_err(system)?;
    let bytes = bytes_of(part, capacities);
    ftruncate(&fd, bytes as u64).map_err(system)?;
    fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).map_err(system)?;
    let mapping = Mapping::of_memfd(fd.as_fd(), bytes, true).map_err(system)?;
    let header = header_of(part, capacities, boot_id);
    if let Some(words) = mapping.words(0, words::words_of::<SegmentHeader>()) {
        words::put(words, &header);
    }
    Ok(fd)
}
