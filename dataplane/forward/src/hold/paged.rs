// SPDX-License-Identifier: Apache-2.0
//! Dense lists of receivers in pages from one pool: join and leave are O(1), iteration is over packed `u32`s.
//!
//! A list has at most 256 pages of 256 entries: 65,536 members. A page is 1 KiB.

const PAGE: usize = 256;
const PAGES: usize = 256;
const NO_PAGE: u16 = u16::MAX;

/// Pages that lists share.
pub(crate) struct PagePool {
    pages: Vec<[u32; PAGE]>,
    free: Vec<u16>,
    capacity: usize,
}

impl PagePool {
    /// Room for `entries` members in `lists` lists.
    pub(crate) fn new(entries: usize, lists: usize) -> Self {
        let capacity = (entries / PAGE).saturating_add(lists).min(usize::from(NO_PAGE));
        Self { pages: Vec::with_capacity(capacity), free: Vec::with_capacity(capacity), capacity }
    }

    fn take(&mut self) -> Option<u16> {
        if let Some(page) = self.free.pop() {
            return Some(page);
        }
        let page = u16::try_from(self.pages.len()).ok()?;
        if self.pages.len() >= self.capacity {
            return None;
        }
        self.pages.push([0; PAGE]);
        Some(page)
    }
}

/// One dense list; its entries lie in the pool's pages.
pub(crate) struct PagedList {
    pages: [u16; PAGES],
    len: u32,
}

impl PagedList {
    pub(crate) const fn new() -> Self {
        Self { pages: [NO_PAGE; PAGES], len: 0 }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    pub(crate) fn get(&self, pool: &PagePool, position: u32) -> Option<u32> {
        if position >= self.len {
            return None;
        }
        let page = *self.pages.get(position as usize / PAGE)?;
        pool.pages.get(usize::from(page))?.get(position as usize % PAGE).copied()
    }

    fn set(&self, pool: &mut PagePool, position: u32, value: u32) {
        let page = self.pages.get(position as usize / PAGE).copied().unwrap_or(NO_PAGE);
        if let Some(place) =
            pool.pages.get_mut(usize::from(page)).and_then(|page| page.get_mut(position as usize % PAGE))
        {
            *place = value;
        }
    }

    /// Appends; the position of the entry, or nothing where there is no room.
    pub(crate) fn push(&mut self, pool: &mut PagePool, value: u32) -> Option<u32> {
        let position = self.len;
        let slot = self.pages.get_mut(position as usize / PAGE)?;
        if *slot == NO_PAGE {
            *slot = pool.take()?;
        }
        self.len = self.len.saturating_add(1);
        self.set(pool, position, value);
        Some(position)
    }

    /// Takes the entry at `position` out by moving the last one there; the moved entry, if another one was moved.
    pub(crate) fn swap_remove(&mut self, pool: &mut PagePool, position: u32) -> Option<u32> {
        let last = self.len.checked_sub(1)?;
        if position > last {
            return None;
        }
        let moved = self.get(pool, last)?;
        self.set(pool, position, moved);
        self.len = last;
        if (last as usize).is_multiple_of(PAGE)
            && let Some(page) = self.pages.get_mut(last as usize / PAGE)
        {
            pool.free.push(*page);
            *page = NO_PAGE;
        }
        (position != last).then_some(moved)
    }

    /// Exchanges two entries.
    pub(crate) fn swap(&mut self, pool: &mut PagePool, a: u32, b: u32) {
        if let (Some(at_a), Some(at_b)) = (self.get(pool, a), self.get(pool, b)) {
            self.set(pool, a, at_b);
            self.set(pool, b, at_a);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_vector_and_gives_its_pages_back() {
        let mut pool = PagePool::new(4096, 2);
        let mut list = PagedList::new();
        let mut model: Vec<u32> = Vec::new();
        let mut state = 3_u64;
        for step in 0..100_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if (state >> 62) != 0 && model.len() < 2000 {
                assert_eq!(list.push(&mut pool, step), Some(u32::try_from(model.len()).unwrap()));
                model.push(step);
            } else if !model.is_empty() {
                let at = usize::try_from(state >> 33).unwrap() % model.len();
                model.swap_remove(at);
                list.swap_remove(&mut pool, u32::try_from(at).unwrap());
            }
        }
        let ours: Vec<u32> = (0..list.len()).filter_map(|at| list.get(&pool, at)).collect();
        assert_eq!(ours, model);
        while list.len() > 0 {
            list.swap_remove(&mut pool, 0);
        }
        assert_eq!(pool.free.len(), pool.pages.len());
    }
}
