// SPDX-License-Identifier: Apache-2.0
//! Private bookkeeping of one kind of published record: free records, free slots, generations, limbo.
//!
//! Everything here is rebuilt from the heads; nothing of it is needed after a crash. Must never take a record that a head
//! reaches or that a running worker may still be told to read.

use core::marker::PhantomData;
use std::collections::VecDeque;

use dataplane_abi::intent::head_slot;
use dataplane_abi::ring::Change;
use dataplane_abi::segment::{IntentLayout, TableLayout};

use crate::intent::IntentError;
use crate::intent::announce::{Announcer, Positions};
use crate::intent::head;
use crate::intent::kind::{IntentKind, heads, record_words};
use crate::mapping::Mapping;
use crate::sync::Word;
use crate::words;

/// A record that was replaced, and how far each worker must have come before it is free.
struct Waiting {
    record: u32,
    after: Positions,
}

/// One kind's table.
pub(crate) struct Table<K> {
    layout: TableLayout,
    /// Oldest first, so that a slot rests as long as possible.
    free_slots: VecDeque<u32>,
    /// Last generation that each slot had.
    last: Vec<u32>,
    /// Generation that each slot has, 0 = free.
    live: Vec<u32>,
    free_records: Vec<u32>,
    limbo: VecDeque<Waiting>,
    kind: PhantomData<fn(K) -> K>,
}

impl<K: IntentKind> Table<K> {
    /// Reads back what is published. A head that names no usable record is cleared.
    pub(crate) fn rebuild(intent: &Mapping, layout: &IntentLayout) -> Option<Self> {
        let layout = K::table(layout);
        let mut table = Self {
            layout,
            free_slots: VecDeque::new(),
            last: Vec::with_capacity(layout.capacity),
            live: Vec::with_capacity(layout.capacity),
            free_records: Vec::new(),
            limbo: VecDeque::new(),
            kind: PhantomData,
        };
        let mut is_used = vec![false; layout.record_count];
        for (slot, head) in (0_u32..).zip(heads(intent, &layout)?) {
            let word = head.load_acquire();
            let live = head_slot(word).and_then(|record| claim_record::<K>(intent, &layout, record, &mut is_used));
            if live.is_none() && head_slot(word).is_some() {
                head::clear(head);
            }
            let generation = live.unwrap_or(0);
            if generation == 0 {
                table.free_slots.push_back(slot);
            }
            table.live.push(generation);
            table.last.push(generation.max(head::publications(word)));
        }
        let free = (0_u32..).zip(&is_used).filter(|(_, used)| !**used).map(|(record, _)| record);
        table.free_records.extend(free);
        Some(table)
    }

    /// A free slot and a generation that it never had.
    pub(crate) fn allocate(&mut self, intent: &Mapping) -> Option<K::Reference> {
        let slot = self.free_slots.pop_front()?;
        let head = heads(intent, &self.layout)?.get(slot as usize)?;
        let last = self.last.get_mut(slot as usize)?;
        // Each publication adds one to the head's count, so a generation that starts above it stays above every generation
        // that was published here, even if this process forgets them.
        *last = (*last).max(head::publications(head.load_relaxed())).wrapping_add(1).max(1);
        *self.live.get_mut(slot as usize)? = *last;
        Some(K::reference(slot, *last))
    }

    /// Fills a free record, swings the head, tells the workers.
    pub(crate) fn publish(
        &mut self,
        intent: &Mapping,
        workers: &mut Announcer,
        slot: u32,
        record: &K,
    ) -> Result<(), IntentError> {
        let generation = record.generation();
        let allocated = self.live_generation(slot)?;
        if allocated == 0 || allocated != generation {
            return Err(IntentError::Stale { slot, allocated, given: generation });
        }
        if self.free_records.is_empty() {
            self.collect(workers);
        }
        let waiting = self.limbo.len();
        let free = self.free_records.pop().ok_or(IntentError::NoRecord { waiting })?;
        let out_of_range = IntentError::OutOfRange { slot, capacity: self.capacity() };
        let head = heads(intent, &self.layout).and_then(|heads| heads.get(slot as usize)).ok_or(out_of_range)?;
        let words = record_words::<K>(intent, &self.layout, free).ok_or(out_of_range)?;
        let mut stamped = *record;
        stamped.stamp();
        head::begin_fill();
        words::fill(words, &stamped);
        let freed = head::swing(head, free);
        self.tell(workers, slot, generation, freed);
        Ok(())
    }

    /// Clears the head, tells the workers, frees the slot.
    pub(crate) fn retract(&mut self, intent: &Mapping, workers: &mut Announcer, slot: u32) -> Result<(), IntentError> {
        let generation = self.live_generation(slot)?;
        if generation == 0 {
            return Err(IntentError::Stale { slot, allocated: 0, given: 0 });
        }
        if let Some(live) = self.live.get_mut(slot as usize) {
            *live = 0;
        }
        let head = heads(intent, &self.layout).and_then(|heads| heads.get(slot as usize));
        if let Some(freed) = head.and_then(head::clear) {
            self.tell(workers, slot, generation, Some(freed));
        }
        self.free_slots.push_back(slot);
        Ok(())
    }

    fn tell(&mut self, workers: &mut Announcer, slot: u32, generation: u32, freed: Option<u32>) {
        workers.count_publication();
        workers.announce(&Change { kind: K::CHANGE, slot, generation, reserve: 0 });
        if let Some(record) = freed {
            self.limbo.push_back(Waiting { record, after: workers.positions() });
        }
    }

    /// Frees what every running worker has acknowledged; returns how many records still wait.
    pub(crate) fn collect(&mut self, workers: &Announcer) -> usize {
        while let Some(waiting) = self.limbo.front() {
            if !workers.have_passed(&waiting.after) {
                break;
            }
            self.free_records.push(waiting.record);
            self.limbo.pop_front();
        }
        self.limbo.len()
    }

    /// Records that are free at once.
    pub(crate) fn free_records(&self) -> usize {
        self.free_records.len()
    }

    fn live_generation(&self, slot: u32) -> Result<u32, IntentError> {
        self.live.get(slot as usize).copied().ok_or_else(|| IntentError::OutOfRange { slot, capacity: self.capacity() })
    }

    fn capacity(&self) -> u32 {
        u32::try_from(self.layout.capacity).unwrap_or(u32::MAX)
    }
}

/// Marks a record as reached by a head; its generation, or none when it cannot be a published record.
fn claim_record<K: IntentKind>(
    intent: &Mapping,
    layout: &TableLayout,
    record: u32,
    is_used: &mut [bool],
) -> Option<u32> {
    let words = record_words::<K>(intent, layout, record)?;
    let generation = words::take::<_, K>(words)?.generation();
    let used = is_used.get_mut(record as usize)?;
    if *used || generation == 0 {
        return None;
    }
    *used = true;
    Some(generation)
}
