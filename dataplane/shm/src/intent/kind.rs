// SPDX-License-Identifier: Apache-2.0
//! The four kinds of published records, and how one is read.

use dataplane_abi::ids::{RoomRef, SubscriptionRef, TrackRef, TransportRef};
use dataplane_abi::intent::{RoomIntent, SubscriptionIntent, TrackIntent, TransportIntent};
use dataplane_abi::layout::Layout;
use dataplane_abi::pod::Pod;
use dataplane_abi::ring::change_kind;
use dataplane_abi::segment::{IntentLayout, TableLayout};

use crate::intent::head;
use crate::mapping::Mapping;
use crate::words;

/// A record that is published through a head.
pub trait IntentKind: Pod + Layout {
    /// How it is referred to.
    type Reference: Copy;
    /// Its `change_kind`.
    const CHANGE: u32;
    /// Its table.
    fn table(layout: &IntentLayout) -> TableLayout;
    /// A reference to a slot.
    fn reference(slot: u32, generation: u32) -> Self::Reference;
    /// The object's generation.
    fn generation(&self) -> u32;
    /// Fills in version and size.
    fn stamp(&mut self);
}

macro_rules! kind {
    ($record:ident, $reference:ident, $change:ident, $table:ident) => {
        impl IntentKind for $record {
            type Reference = $reference;
            const CHANGE: u32 = change_kind::$change;
            fn table(layout: &IntentLayout) -> TableLayout {
                layout.$table
            }
            fn reference(slot: u32, generation: u32) -> $reference {
                $reference::at(slot, generation)
            }
            fn generation(&self) -> u32 {
                self.generation
            }
            fn stamp(&mut self) {
                self.version = Self::VERSION;
                self.size = u16::try_from(Self::SIZE).unwrap_or(0);
            }
        }
    };
}
kind!(TransportIntent, TransportRef, TRANSPORT, transports);
kind!(TrackIntent, TrackRef, TRACK, tracks);
kind!(SubscriptionIntent, SubscriptionRef, SUBSCRIPTION, subscriptions);
kind!(RoomIntent, RoomRef, ROOM, rooms);

/// The words of a record, if the slot lies in the pool.
pub(crate) fn record_words<'m, K: IntentKind>(
    intent: &'m Mapping,
    table: &TableLayout,
    record: u32,
) -> Option<&'m [core::sync::atomic::AtomicU64]> {
    let record = record as usize;
    if record >= table.record_count {
        return None;
    }
    intent.words(table.records + record * K::SIZE, words::words_of::<K>())
}

/// The heads of a table.
pub(crate) fn heads<'m>(intent: &'m Mapping, table: &TableLayout) -> Option<&'m [core::sync::atomic::AtomicU64]> {
    intent.words(table.heads, table.capacity)
}

/// A copy of what is published at `slot`.
pub(crate) fn published<K: IntentKind>(intent: &Mapping, table: &TableLayout, slot: u32) -> Option<K> {
    let head = heads(intent, table)?.get(slot as usize)?;
    head::read(head, |record| words::take(record_words::<K>(intent, table, record)?))
}
