// SPDX-License-Identifier: Apache-2.0
//! Copying plain records to and from shared words.
//!
//! A record is copied word by word with relaxed atomics: a concurrent writer can make the copy a mixture, which the caller
//! detects (head, tag or position), but never undefined. Nothing here orders anything.
#![expect(unsafe_code, reason = "records are viewed as words")]

use core::mem::{MaybeUninit, size_of};

use dataplane_abi::pod::Pod;

use crate::publish;
use crate::sync::Word;

/// Words of a record.
#[must_use]
pub const fn words_of<T: Pod>() -> usize {
    const { assert!(size_of::<T>().is_multiple_of(8), "records are whole words") };
    size_of::<T>() / 8
}

/// Word `index` of a record.
#[inline]
fn word_of<T: Pod>(record: &T, index: usize) -> u64 {
    debug_assert!(index < words_of::<T>());
    let start = core::ptr::from_ref(record).cast::<u64>();
    // SAFETY: the address stays inside the record because callers count up to `words_of::<T>()`.
    let at = unsafe { start.add(index) };
    // SAFETY: eight bytes can be read because a `Pod` record has no padding; the read allows any alignment.
    unsafe { at.read_unaligned() }
}

/// Copies a record into shared words; false when they are too few. Each word counts as a crash point.
#[inline]
pub fn fill<W: Word, T: Pod>(words: &[W], record: &T) -> bool {
    let Some(words) = words.get(..words_of::<T>()) else { return false };
    for (index, word) in words.iter().enumerate() {
        publish::fill_word(word, word_of(record, index));
    }
    true
}

/// Copies a record into shared words but for its first one, which is returned: it is stored last by the caller.
#[inline]
pub fn fill_tail<W: Word, T: Pod>(words: &[W], record: &T) -> Option<u64> {
    let words = words.get(..words_of::<T>())?;
    for (index, word) in words.iter().enumerate().skip(1) {
        publish::fill_word(word, word_of(record, index));
    }
    Some(word_of(record, 0))
}

/// Copies a record into shared words without crash points (ring entries: only the position matters).
#[inline]
pub fn put<W: Word, T: Pod>(words: &[W], record: &T) -> bool {
    // SAFETY: `T` is a record without padding because it is `Pod`.
    unsafe { put_unchecked(words, record) }
}

/// Copies a record out of shared words; none when they are too few.
#[inline]
pub fn take<W: Word, T: Pod>(words: &[W]) -> Option<T> {
    // SAFETY: any words are a value because `T` is `Pod`.
    unsafe { take_unchecked(words) }
}

/// [`put`] for a type that is known to be `Pod` though not by a bound.
///
/// # Safety
/// `T` is `Pod`.
#[inline]
pub(crate) unsafe fn put_unchecked<W: Word, T: Copy>(words: &[W], record: &T) -> bool {
    let Some(words) = words.get(..size_of::<T>() / 8) else { return false };
    let start = core::ptr::from_ref(record).cast::<u64>();
    for (index, word) in words.iter().enumerate() {
        // SAFETY: the address stays inside the record because there are `size_of::<T>() / 8` words.
        let at = unsafe { start.add(index) };
        // SAFETY: eight initialised bytes lie there because a `Pod` record has no padding; any alignment is allowed.
        word.store_relaxed(unsafe { at.read_unaligned() });
    }
    true
}

/// [`take`] for a type that is known to be `Pod` though not by a bound.
///
/// # Safety
/// `T` is `Pod`.
#[inline]
pub(crate) unsafe fn take_unchecked<W: Word, T: Copy>(words: &[W]) -> Option<T> {
    let words = words.get(..size_of::<T>() / 8)?;
    let mut record = MaybeUninit::<T>::uninit();
    let start = record.as_mut_ptr().cast::<u64>();
    for (index, word) in words.iter().enumerate() {
        let value = word.load_relaxed();
        // SAFETY: the address stays inside the record because there are `size_of::<T>() / 8` words.
        let at = unsafe { start.add(index) };
        // SAFETY: eight bytes of the record can be written there; the write allows any alignment.
        unsafe { at.write_unaligned(value) };
    }
    // SAFETY: the record is initialised because each of its words was written and any bit pattern is a `Pod` value.
    Some(unsafe { record.assume_init() })
}
