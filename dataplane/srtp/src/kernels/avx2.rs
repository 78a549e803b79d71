// SPDX-License-Identifier: Apache-2.0
//! Vectors of two blocks: AVX2 with VAES and VPCLMULQDQ. There are no masks, so parts of a vector go through the stack.

use core::arch::x86_64::{
    __m128i, __m256i, _mm_loadu_si128, _mm_set_epi64x, _mm_xor_si128, _mm256_add_epi32, _mm256_aesenc_epi128,
    _mm256_aesenclast_epi128, _mm256_blend_epi32, _mm256_broadcastsi128_si256, _mm256_castsi256_si128,
    _mm256_clmulepi64_epi128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_set_epi32, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_shuffle_epi32, _mm256_storeu_si256, _mm256_xor_si256, _mm256_zextsi128_si256,
};

pub(super) type Vector = __m256i;
const LANES: usize = 2;
const BYTES: usize = 16 * LANES;

macro_rules! primitive {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx2,vaes,vpclmulqdq,aes,pclmulqdq")]
        fn $name($($arg: $type),*) -> $result $body
    };
    ($(#[$doc:meta])* unsafe fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$doc])*
        #[inline]
        #[target_feature(enable = "avx2,vaes,vpclmulqdq,aes,pclmulqdq")]
        unsafe fn $name($($arg: $type),*) -> $result $body
    };
}

primitive! { fn zero() -> Vector { _mm256_setzero_si256() } }
primitive! { fn xor(a: Vector, b: Vector) -> Vector { _mm256_xor_si256(a, b) } }
primitive! { fn splat(block: __m128i) -> Vector { _mm256_broadcastsi128_si256(block) } }
primitive! { fn encrypt(a: Vector, key: Vector) -> Vector { _mm256_aesenc_epi128(a, key) } }
primitive! { fn encrypt_last(a: Vector, key: Vector) -> Vector { _mm256_aesenclast_epi128(a, key) } }
primitive! {
    /// `a`, here and in this order: without it the compiler runs one block's rounds after the other's, and each waits
    /// for its own latency.
    fn pinned(a: Vector) -> Vector {
        let mut pinned = a;
        // SAFETY: no instruction is emitted because the text is a comment; the register is the operand's own.
        unsafe { core::arch::asm!("/* {0} */", inout(ymm_reg) pinned, options(nomem, nostack, preserves_flags)) };
        pinned
    }
}
primitive! { fn halves_swapped(a: Vector) -> Vector { _mm256_shuffle_epi32::<0x4e>(a) } }
primitive! {
    /// Each block with its bytes reversed.
    fn swap(a: Vector) -> Vector { _mm256_shuffle_epi8(a, splat(gcm::reversed())) }
}
primitive! { fn in_first_lane(block: __m128i) -> Vector { _mm256_zextsi128_si256(block) } }
primitive! { fn last_lane(a: Vector) -> __m128i { _mm256_extracti128_si256::<1>(a) } }
primitive! {
    /// Sum of the lanes.
    fn fold(a: Vector) -> __m128i { _mm_xor_si128(_mm256_castsi256_si128(a), _mm256_extracti128_si256::<1>(a)) }
}
primitive! {
    /// `a` with the lanes from `lane` on from `b`.
    fn with_lanes_from(a: Vector, lane: usize, b: Vector) -> Vector {
        if lane == 0 { b } else { _mm256_blend_epi32::<0xf0>(a, b) }
    }
}
primitive! {
    fn with_lane(a: Vector, lane: usize, block: __m128i) -> Vector {
        if lane == 0 {
            _mm256_blend_epi32::<0x0f>(a, splat(block))
        } else {
            _mm256_blend_epi32::<0xf0>(a, splat(block))
        }
    }
}
primitive! {
    /// `a` with zeros behind its first `end` bytes.
    fn first_bytes(a: Vector, end: usize) -> Vector {
        if end == BYTES {
            return a;
        }
        let mut bytes = [0; BYTES];
        // SAFETY: the array has the size of the vector.
        unsafe { store(bytes.as_mut_ptr(), a) };
        for byte in bytes.iter_mut().skip(end) {
            *byte = 0;
        }
        // SAFETY: the array has the size of the vector.
        unsafe { load(bytes.as_ptr()) }
    }
}
primitive! {
    /// Counter blocks without a nonce, big-endian in the last four bytes.
    fn counters_from(first: usize) -> Vector {
        let first = u32::try_from(first).unwrap_or(0).cast_signed();
        let lanes = _mm256_set_epi32(1, 0, 0, 0, 0, 0, 0, 0);
        let counters = _mm256_add_epi32(_mm256_set_epi32(first, 0, 0, 0, first, 0, 0, 0), lanes);
        let swapped = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm256_shuffle_epi8(counters, splat(swapped))
    }
}
primitive! {
    /// # Safety
    /// A block can be read at `from`.
    unsafe fn splat_at(from: *const u8) -> Vector {
        // SAFETY: a block can be read by the function's own contract.
        splat(unsafe { _mm_loadu_si128(from.cast()) })
    }
}
primitive! {
    /// # Safety
    /// A vector can be read at `from`.
    unsafe fn load(from: *const u8) -> Vector {
        // SAFETY: a vector can be read by the function's own contract.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
}
primitive! {
    /// # Safety
    /// A vector can be written at `to`.
    unsafe fn store(to: *mut u8, a: Vector) -> () {
        // SAFETY: a vector can be written by the function's own contract.
        unsafe { _mm256_storeu_si256(to.cast(), a) }
    }
}
primitive! {
    /// Bytes `start` to `end`, zeros elsewhere.
    ///
    /// # Safety
    /// These bytes can be read at their distance from `from`.
    unsafe fn load_part(from: *const u8, start: usize, end: usize) -> Vector {
        let mut bytes = [0u8; BYTES];
        let (from, to) = (from.wrapping_add(start), bytes.as_mut_ptr().wrapping_add(start));
        let len = end.min(BYTES).saturating_sub(start);
        // SAFETY: the bytes can be read by the contract, and lie in the array because `len` is cut to its end.
        unsafe { core::ptr::copy_nonoverlapping(from, to, len) };
        // SAFETY: the array has the size of the vector.
        unsafe { load(bytes.as_ptr()) }
    }
}
primitive! {
    /// Writes the first `end` bytes.
    ///
    /// # Safety
    /// These bytes can be written at `to`.
    unsafe fn store_part(to: *mut u8, end: usize, a: Vector) -> () {
        let mut bytes = [0u8; BYTES];
        // SAFETY: the array has the size of the vector.
        unsafe { store(bytes.as_mut_ptr(), a) };
        // SAFETY: the bytes can be written by the contract, and lie in the array because `end` is cut to it.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), to, end.min(BYTES)) };
    }
}

#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn clmul<const PART: i32>(a: Vector, b: Vector) -> Vector {
    _mm256_clmulepi64_epi128::<PART>(a, b)
}

super::gcm::gcm!("avx2,vaes,vpclmulqdq,aes,pclmulqdq");
