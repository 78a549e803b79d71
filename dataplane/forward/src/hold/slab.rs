// SPDX-License-Identifier: Apache-2.0
//! Objects in slots, with a free list; the memory is reserved at construction and touched as used.

use dataplane_shm::prefetch::prefetch;

/// Objects of one type, named by their slot.
pub(crate) struct Slab<T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
    capacity: usize,
}

impl<T> Slab<T> {
    pub(crate) fn new(capacity: usize) -> Self {
        Self { items: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity }
    }

    /// Stores an object; gives it back where the slab is full.
    pub(crate) fn insert(&mut self, item: T) -> Result<u32, T> {
        if let Some(slot) = self.free.pop() {
            if let Some(place) = self.items.get_mut(slot as usize) {
                *place = Some(item);
                return Ok(slot);
            }
            return Err(item);
        }
        match u32::try_from(self.items.len()) {
            Ok(slot) if self.items.len() < self.capacity => {
                self.items.push(Some(item));
                Ok(slot)
            }
            _ => Err(item),
        }
    }

    pub(crate) fn remove(&mut self, slot: u32) -> Option<T> {
        let item = self.items.get_mut(slot as usize)?.take()?;
        self.free.push(slot);
        Some(item)
    }

    pub(crate) fn get(&self, slot: u32) -> Option<&T> {
        self.items.get(slot as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, slot: u32) -> Option<&mut T> {
        self.items.get_mut(slot as usize)?.as_mut()
    }

    /// Asks for the first cache lines of an object ahead of its use.
    #[inline]
    pub(crate) fn prefetch(&self, slot: u32, lines: usize) {
        if let Some(place) = self.items.get(slot as usize) {
            prefetch(place, lines);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.items.iter().flatten()
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len().saturating_sub(self.free.len())
    }
}
