// SPDX-License-Identifier: Apache-2.0
//! The cipher's island: vector kernels for AES-GCM and for AES-CM with HMAC-SHA1, and all `unsafe` of this crate.
//!
//! The kernels write ciphertext straight from shared plaintext to the lent frame. They must never keep a number, compare
//! a tag (callers do, in constant time), or touch a byte outside of what [`Work`] was made from.
//!
//! **Nonces.** A kernel gets a nonce and uses it; it has no state that could make or repeat one. Uniqueness of
//! (key, SSRC, index) is the caller's: the index is spent in the durable record before the call (see
//! [`crate::TxContext::protect_rtp`]), and RTP and RTCP have keys of their own by RFC 3711 §4.3. The counter's 32 bits
//! (16 with AES-CM) cannot wrap into another block's because a packet has at most 4096 blocks.
//!
//! **Side channels.** No branch and no address depends on key, plaintext, ciphertext or tag: S-box and field product are
//! instructions of constant time (AES-NI, PCLMULQDQ and their vector forms), masks and addresses depend on lengths only,
//! which are public. Round keys and powers are wiped when a key is dropped; copies in registers are not.
//!
//! **Shared plaintext.** It may be written by another process while a kernel reads it. It is read as bytes through raw
//! pointers, with plain vector loads: what comes out is then garbage, in the frame only, and the frame is discarded
//! because the store's tag no longer holds. No length, address or branch is ever read from it.

mod aes;
#[allow(clippy::indexing_slicing, reason = "constant indices into arrays of constant length, unrolled")]
mod avx2;
#[allow(clippy::indexing_slicing, reason = "constant indices into arrays of constant length, unrolled")]
mod avx512;
mod cm;
mod gcm;
#[cfg(test)]
mod model;
#[allow(clippy::indexing_slicing, reason = "constant indices into arrays of constant length, unrolled")]
mod sha1;

use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
use core::marker::PhantomData;

use crate::SharedBytes;
use crate::backend::Backend;

pub(crate) use aes::GcmKey;
use aes::{AesKey, Nonce};
pub(crate) use cm::{CmKey, CmLane, lane_blocks, seal_lanes};

/// Hash the result: sealing.
const HASH_SEALED: u8 = 0;
/// Hash the source: opening.
const HASH_SOURCE: u8 = 1;
/// AES-CTR alone, counted from 0.
const HASH_NOTHING: u8 = 2;

/// Longest patched prefix that is taken where it is: the first vector of the narrowest kernel.
const PREFIX_MAX: usize = 32;

/// Instructions that this processor has. There is no other way to one than the functions that
/// look, so whoever holds one may
/// call the kernels that are named after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa(Width);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Width {
    Avx2,
    Avx512,
}

impl Isa {
    /// Who runs it.
    pub(crate) const fn backend(self) -> Backend {
        match self.0 {
            Width::Avx2 => Backend::Avx2,
            Width::Avx512 => Backend::Avx512,
        }
    }

    /// AVX2 with VAES and VPCLMULQDQ.
    pub(crate) fn avx2() -> Option<Self> {
        let has_ciphers = is_x86_feature_detected!("vaes") && is_x86_feature_detected!("vpclmulqdq");
        let has_base = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
        (is_x86_feature_detected!("avx2") && has_ciphers && has_base).then_some(Self(Width::Avx2))
    }

    /// AVX-512 (F, BW, VL) with VAES and VPCLMULQDQ.
    pub(crate) fn avx512() -> Option<Self> {
        let has_vectors = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl");
        let has_ciphers = is_x86_feature_detected!("vaes") && is_x86_feature_detected!("vpclmulqdq");
        let has_base = is_x86_feature_detected!("aes")
            && is_x86_feature_detected!("pclmulqdq")
            && is_x86_feature_detected!("bmi2");
        (has_vectors && has_ciphers && has_base).then_some(Self(Width::Avx512))
    }
}

/// One packet's memory, proven against slices.
///
/// Bytes 0 to `prefix` of the payload are in the target, the others at their distance from `source`; source and target
/// either do not overlap or are the same. `prefix` is at most [`PREFIX_MAX`].
pub(crate) struct Work<'a> {
    nonce: Nonce,
    head: *const u8,
    head_len: usize,
    source: *const u8,
    target: *mut u8,
    prefix: usize,
    len: usize,
    lent: PhantomData<&'a mut [u8]>,
}

impl<'a> Work<'a> {
    /// `payload` starts with `prefix` bytes of plaintext; `rest` are the others, which are in it already when absent.
    /// Nothing when the lengths do not fit together.
    #[inline]
    pub(crate) fn seal(
        nonce: Nonce,
        head: &'a [u8],
        payload: &'a mut [u8],
        prefix: usize,
        rest: Option<SharedBytes<'a>>,
    ) -> Option<Self> {
        let (target, len) = (payload.as_mut_ptr(), payload.len());
        let (source, prefix) = match rest {
            None => (target.cast_const(), 0),
            Some(rest) if rest.len().checked_add(prefix) != Some(len) => return None,
            Some(rest) if prefix <= PREFIX_MAX => (rest.as_ptr().wrapping_sub(prefix), prefix),
            Some(rest) => {
                // SAFETY: both ranges are valid because `rest` is lent with its length and because prefix and rest are
                // as long as the payload; they do not overlap because the payload is borrowed exclusively.
                unsafe { core::ptr::copy_nonoverlapping(rest.as_ptr(), target.wrapping_add(prefix), rest.len()) };
                (target.cast_const(), 0)
            }
        };
        let (head, head_len) = (head.as_ptr(), head.len());
        Some(Self { nonce, head, head_len, source, target, prefix, len, lent: PhantomData })
    }

    /// From one place to another of the same length, else nothing.
    #[inline]
    pub(crate) fn open(nonce: Nonce, head: &'a [u8], sealed: &'a [u8], payload: &'a mut [u8]) -> Option<Self> {
        let (source, len) = (sealed.as_ptr(), sealed.len());
        let (head, head_len) = (head.as_ptr(), head.len());
        let target = payload.as_mut_ptr();
        (payload.len() == len).then_some(Self {
            nonce,
            head,
            head_len,
            source,
            target,
            prefix: 0,
            len,
            lent: PhantomData,
        })
    }
}

/// Asks for the first `len` bytes of `of`, rounded up to lines.
///
/// It reads nothing: a look at a variant's tag would be the very miss that the call is there to hide, and the processor
/// would wait for it.
#[inline]
pub(crate) fn prefetch<T>(of: &T, len: usize) {
    let start = core::ptr::from_ref(of).cast::<i8>();
    for at in (0..len).step_by(64) {
        // SAFETY: a prefetch has no effect that could be unsound, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) };
    }
}

impl GcmKey {
    /// The schedule of the block cipher.
    #[inline]
    pub(crate) fn aes(&self) -> &AesKey {
        &self.aes
    }

    /// Encrypts and returns the tag.
    #[inline]
    pub(crate) fn seal(&self, isa: Isa, work: &Work<'_>) -> [u8; 16] {
        match isa.0 {
            // SAFETY: the instructions exist because `Isa::avx2` found them.
            Width::Avx2 => unsafe { avx2::gcm::<HASH_SEALED>(self, work) },
            // SAFETY: the instructions exist because `Isa::avx512` found them.
            Width::Avx512 => unsafe { avx512::gcm::<HASH_SEALED>(self, work) },
        }
    }

    /// Decrypts and returns the tag that the packet must have. The plaintext is the caller's to wipe when it has not.
    #[inline]
    pub(crate) fn open(&self, isa: Isa, work: &Work<'_>) -> [u8; 16] {
        match isa.0 {
            // SAFETY: the instructions exist because `Isa::avx2` found them.
            Width::Avx2 => unsafe { avx2::gcm::<HASH_SOURCE>(self, work) },
            // SAFETY: the instructions exist because `Isa::avx512` found them.
            Width::Avx512 => unsafe { avx512::gcm::<HASH_SOURCE>(self, work) },
        }
    }
}
