// SPDX-License-Identifier: Apache-2.0
//! Key records: written in place, one word stored last, wiped when their transport is gone.
//!
//! The first word of a key record holds version, size and generation. Version 0 means "no key here"; the generation stays,
//! so that the slot's next key gets a greater one. Must never leave key bytes behind in a free slot.

use core::mem::size_of;
use core::sync::atomic::AtomicU64;

use dataplane_abi::ids::KeyRef;
use dataplane_abi::intent::KeyIntent;
use dataplane_abi::layout::Layout;
use dataplane_abi::limits::Capacities;
use dataplane_abi::segment::{HEADER_BYTES, key_records};

use crate::mapping::Mapping;
use crate::publish;
use crate::sync::{Ordering, Word, fence};
use crate::words;

/// The words of a key slot.
pub(crate) fn slot_words<'m>(keys: &'m Mapping, capacities: &Capacities, slot: u32) -> Option<&'m [AtomicU64]> {
    let slot = slot as usize;
    if slot >= key_records(capacities) {
        return None;
    }
    keys.words(HEADER_BYTES + slot * size_of::<KeyIntent>(), words::words_of::<KeyIntent>())
}

/// A copy of the key that `key` names.
pub(crate) fn read(keys: &Mapping, capacities: &Capacities, key: KeyRef) -> Option<KeyIntent> {
    let words = slot_words(keys, capacities, key.slot)?;
    let first = words.first()?;
    // Pairs with the Release in `write`; without it the key may be read before it is there.
    let before = first.load_acquire();
    if key.is_none() || generation_of(before) != key.generation || !is_present(before) {
        return None;
    }
    let record: KeyIntent = words::take(words)?;
    // Pairs with the fence in `wipe`; without it the check may pass although the copy has words of another key.
    fence(Ordering::Acquire);
    (first.load_relaxed() == before).then_some(record)
}

/// Writes a key into a wiped slot.
pub(crate) fn write(words: &[AtomicU64], key: &KeyIntent, generation: u32) {
    let (Some(first), size) = (words.first(), u16::try_from(KeyIntent::SIZE).unwrap_or(0)) else { return };
    let _ = words::fill_tail(words, key);
    let word = u64::from(KeyIntent::VERSION) | (u64::from(size) << 16) | (u64::from(generation) << 32);
    publish::store_word(first, word);
}

/// Takes the key away: the reference first, then the bytes.
pub(crate) fn wipe(words: &[AtomicU64]) {
    let Some(first) = words.first() else { return };
    publish::store_word(first, u64::from(generation_of(first.load_relaxed())) << 32);
    // Pairs with the fence in `read`: whoever sees a wiped word sees the first word change.
    fence(Ordering::Release);
    for word in words.iter().skip(1) {
        publish::fill_word(word, 0);
    }
}

/// Stores the generation that a free slot is given, so that it is never given again.
pub(crate) fn reserve(words: &[AtomicU64], generation: u32) {
    if let Some(first) = words.first() {
        publish::store_word(first, u64::from(generation) << 32);
    }
}

/// Whether anything but a generation is left in the slot.
pub(crate) fn has_remains(words: &[AtomicU64]) -> bool {
    let first = words.first().map_or(0, Word::load_relaxed);
    first & 0xffff_ffff != 0 || words.iter().skip(1).any(|word| word.load_relaxed() != 0)
}

/// Generation in the first word of a key record.
pub(crate) const fn generation_of(first: u64) -> u32 {
    (first >> 32) as u32
}

/// Whether the first word says that a key is there.
pub(crate) const fn is_present(first: u64) -> bool {
    first & 0xffff != 0
}
