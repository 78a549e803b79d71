// SPDX-License-Identifier: Apache-2.0
//! A hash map of fixed capacity: open addressing, linear probing, deletion by shifting back.
//!
//! Entries are made after authentication only, and the hash is seeded, so that nobody outside chooses the collisions.

/// What a map may have as key: its words are hashed, its value compared.
pub(crate) trait Key: Copy + Eq {
    /// Feeds the key into the hash.
    fn mix(&self, hash: u64) -> u64;
}

/// One step of the hash: multiply and fold.
pub(crate) fn fold(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    let bytes = product.to_le_bytes();
    let (low, high) = bytes.split_at(8);
    let low = low.try_into().map_or(0, u64::from_le_bytes);
    let high = high.try_into().map_or(0, u64::from_le_bytes);
    low ^ high.rotate_left(23) ^ word
}

impl Key for dataplane_abi::flow::FlowKey {
    fn mix(&self, hash: u64) -> u64 {
        self.to_words().iter().fold(hash, |hash, word| fold(hash, *word))
    }
}

impl Key for (u32, u32) {
    fn mix(&self, hash: u64) -> u64 {
        fold(hash, (u64::from(self.0) << 32) | u64::from(self.1))
    }
}

impl Key for [u8; 16] {
    fn mix(&self, hash: u64) -> u64 {
        let (low, high) = self.split_at(8);
        let hash = fold(hash, low.try_into().map_or(0, u64::from_le_bytes));
        fold(hash, high.try_into().map_or(0, u64::from_le_bytes))
    }
}

/// Keys to plain values.
pub(crate) struct FixedMap<K, V> {
    places: Vec<Option<(K, V)>>,
    mask: usize,
    limit: usize,
    len: usize,
    seed: u64,
}

impl<K: Key, V: Copy> FixedMap<K, V> {
    /// Room for `capacity` entries at a load of at most one half.
    pub(crate) fn new(capacity: usize, seed: u64) -> Self {
        let size = capacity.max(4).saturating_mul(2).next_power_of_two();
        let mut places = Vec::with_capacity(size);
        places.resize_with(size, || None);
        Self { places, mask: size.wrapping_sub(1), limit: capacity, len: 0, seed }
    }

    fn home(&self, key: &K) -> usize {
        let hash = key.mix(self.seed);
        usize::try_from(hash ^ (hash >> 32)).unwrap_or(0) & self.mask
    }

    fn find(&self, key: &K) -> Option<usize> {
        let mut at = self.home(key);
        loop {
            match self.places.get(at)? {
                Some((known, _)) if known == key => return Some(at),
                Some(_) => at = at.wrapping_add(1) & self.mask,
                None => return None,
            }
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<V> {
        self.places.get(self.find(key)?)?.as_ref().map(|(_, value)| *value)
    }

    /// Inserts or replaces; false where there is no room.
    pub(crate) fn insert(&mut self, key: K, value: V) -> bool {
        if let Some(place) = self.find(&key).and_then(|at| self.places.get_mut(at)) {
            *place = Some((key, value));
            return true;
        }
        if self.len >= self.limit {
            return false;
        }
        let mut at = self.home(&key);
        while self.places.get(at).is_some_and(Option::is_some) {
            at = at.wrapping_add(1) & self.mask;
        }
        if let Some(place) = self.places.get_mut(at) {
            *place = Some((key, value));
            self.len = self.len.saturating_add(1);
        }
        true
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let mut hole = self.find(key)?;
        let (_, value) = self.places.get_mut(hole)?.take()?;
        self.len = self.len.saturating_sub(1);
        let mut at = hole.wrapping_add(1) & self.mask;
        while let Some(Some((moved, _))) = self.places.get(at) {
            let home = self.home(moved);
            // The entry may fill the hole unless its home lies behind the hole on the way to it.
            let from_home = at.wrapping_sub(home) & self.mask;
            let from_hole = at.wrapping_sub(hole) & self.mask;
            if from_home >= from_hole {
                let entry = self.places.get_mut(at).and_then(Option::take);
                if let Some(place) = self.places.get_mut(hole) {
                    *place = entry;
                }
                hole = at;
            }
            at = at.wrapping_add(1) & self.mask;
        }
        Some(value)
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    #[test]
    fn behaves_like_a_hash_map_under_random_use() {
        let mut ours: FixedMap<(u32, u32), u32> = FixedMap::new(64, 7);
        let mut theirs = HashMap::new();
        let mut state = 1_u64;
        for step in 0..200_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (u32::try_from((state >> 33) % 97).unwrap(), 5);
            if (state >> 60) < 9 {
                if ours.insert(key, step) {
                    theirs.insert(key, step);
                } else {
                    assert_eq!(theirs.len(), 64, "refused though there was room");
                }
            } else {
                assert_eq!(ours.remove(&key), theirs.remove(&key));
            }
            assert_eq!(ours.get(&key), theirs.get(&key).copied());
            assert_eq!(ours.len(), theirs.len());
        }
        assert!(theirs.iter().all(|(key, value)| ours.get(key) == Some(*value)));
    }
}
