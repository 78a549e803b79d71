// SPDX-License-Identifier: Apache-2.0
//! Dense lists of receivers in pages from one pool: join and leave are O(1), iteration is over packed `u32`s.
//!
//! ```text
//!  near: 8 pages ─▶ entries 0 … 511            far: 16 pages of names ─▶ 64 pages each ─▶ entries 512 …
//! ```
//!
//! A page is 256 B: most lists have a few members. A list has at most 66,048.

const PAGE: usize = 64;
/// Pages that a list names itself.
const NEAR: usize = 8;
/// Pages of names.
const FAR: usize = 16;
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
        // A list that has pages of names has eight full pages before them.
        let names = entries / (NEAR * PAGE);
        let capacity = (entries / PAGE).saturating_add(names).saturating_add(lists).min(usize::from(NO_PAGE));
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

    fn get(&self, page: u16, at: usize) -> Option<u32> {
        self.pages.get(usize::from(page))?.get(at).copied()
    }

    fn set(&mut self, page: u16, at: usize, value: u32) {
        if let Some(place) = self.pages.get_mut(usize::from(page)).and_then(|page| page.get_mut(at)) {
            *place = value;
        }
    }
}

/// One dense list; its entries lie in the pool's pages.
pub(crate) struct PagedList {
    near: [u16; NEAR],
    far: [u16; FAR],
    len: u32,
}

/// Page and place in it of an entry.
const fn place_of(position: u32) -> (usize, usize) {
    (position as usize / PAGE, position as usize % PAGE)
}

impl PagedList {
    pub(crate) const fn new() -> Self {
        Self { near: [NO_PAGE; NEAR], far: [NO_PAGE; FAR], len: 0 }
    }

    pub(crate) const fn len(&self) -> u32 {
        self.len
    }

    /// The `nth` page.
    #[inline]
    fn page(&self, pool: &PagePool, nth: usize) -> Option<u16> {
        if let Some(page) = self.near.get(nth) {
            return Some(*page);
        }
        let (names, at) = Self::name_of(nth)?;
        u16::try_from(pool.get(*self.far.get(names)?, at)?).ok()
    }

    /// Which page of names has the name of the `nth` page, and where.
    fn name_of(nth: usize) -> Option<(usize, usize)> {
        let far = nth.checked_sub(NEAR)?;
        Some((far / PAGE, far % PAGE))
    }

    #[inline]
    pub(crate) fn get(&self, pool: &PagePool, position: u32) -> Option<u32> {
        if position >= self.len {
            return None;
        }
        let (nth, at) = place_of(position);
        pool.get(self.page(pool, nth)?, at)
    }

    fn set(&self, pool: &mut PagePool, position: u32, value: u32) {
        let (nth, at) = place_of(position);
        if let Some(page) = self.page(pool, nth) {
            pool.set(page, at, value);
        }
    }

    /// Takes the `nth` page, the first one behind those that are in use.
    fn add_page(&mut self, pool: &mut PagePool, nth: usize) -> Option<()> {
        let Some((names, at)) = Self::name_of(nth) else {
            *self.near.get_mut(nth)? = pool.take()?;
            return Some(());
        };
        let slot = self.far.get_mut(names)?;
        if at == 0 {
            *slot = pool.take()?;
        }
        let Some(page) = pool.take() else {
            if at == 0 {
                pool.free.push(core::mem::replace(slot, NO_PAGE));
            }
            return None;
        };
        pool.set(*slot, at, u32::from(page));
        Some(())
    }

    /// Gives the `nth` page back, the last one in use.
    fn drop_page(&mut self, pool: &mut PagePool, nth: usize) {
        pool.free.extend(self.page(pool, nth));
        match Self::name_of(nth) {
            None => {
                if let Some(page) = self.near.get_mut(nth) {
                    *page = NO_PAGE;
                }
            }
            Some((names, 0)) => {
                pool.free.extend(self.far.get_mut(names).map(|page| core::mem::replace(page, NO_PAGE)));
            }
            Some(_) => {}
        }
    }

    /// Appends; the position of the entry, or nothing where there is no room.
    pub(crate) fn push(&mut self, pool: &mut PagePool, value: u32) -> Option<u32> {
        let position = self.len;
        let (nth, at) = place_of(position);
        if at == 0 {
            self.add_page(pool, nth)?;
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
        if let (nth, 0) = place_of(last) {
            self.drop_page(pool, nth);
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
        let mut pool = PagePool::new(16_384, 2);
        let mut list = PagedList::new();
        let mut model: Vec<u32> = Vec::new();
        let mut state = 3_u64;
        for step in 0..100_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            // Up and down over pages of names.
            let most = if step % 20_000 < 10_000 { 6000 } else { 300 };
            if (state >> 62) != 0 && model.len() < most {
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

    #[test]
    fn a_pool_has_room_for_all_in_one_list_and_one_in_each() {
        let mut pool = PagePool::new(65_536, 3);
        let mut lists = [const { PagedList::new() }; 3];
        let [large, ..] = &mut lists;
        assert!((0..65_536).all(|value| large.push(&mut pool, value) == Some(value)));
        assert!((0..65_536).all(|at| large.get(&pool, at) == Some(at)));
        assert!(lists.iter_mut().skip(1).all(|list| list.push(&mut pool, 1).is_some()));
        while let Some(last) = lists[0].len().checked_sub(1) {
            lists[0].swap_remove(&mut pool, last);
        }
        assert_eq!(pool.free.len(), pool.pages.len() - 2);
    }

    #[test]
    fn a_full_pool_changes_nothing() {
        let mut pool = PagePool::new(512, 0);
        let mut list = PagedList::new();
        let room = (0..).take_while(|value| list.push(&mut pool, *value).is_some()).count();
        assert_eq!(room, 512);
        let free = pool.free.len();
        assert_eq!((list.push(&mut pool, 1), list.len(), pool.free.len()), (None, 512, free));
        assert_eq!(list.get(&pool, 511), Some(511));
    }
}
